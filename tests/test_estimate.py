"""An estimate tries everything, keeps nothing, and is nothing where nothing is left to do."""

import importlib
import time

import pytest

from xbench import api
from xbench.config import make_config
from xbench.estimate import duration, estimate, size
from xbench.plan import make_plan
from xbench.plugins import discover
from xbench.store import Store, cache_folder, is_column

pytestmark = pytest.mark.usefixtures("fakes")


def plan(out, **settings):
    arguments = {"suite": "blobs", "executor": "inline", "device": "cpu", "out": out, **settings}
    return make_plan(make_config([f"{key}={value}" for key, value in arguments.items()], discover()))


def test_an_estimate_of_a_run_keeps_nothing_and_one_of_a_finished_run_is_zero(tmp_path):
    settings = {"model": "fake/learnt", "explainer": "controls/random,controls/sobel", "seed": "0,1"}
    mine = plan(tmp_path / "run", **settings)
    found = estimate(mine, Store(tmp_path / "run"))
    assert (found.fits, found.cells) == (2, len(mine.cells))
    assert found.training > 0
    assert found.scoring > 0
    assert found.unknown == ()
    assert not (tmp_path / "run").exists()
    assert not list(cache_folder().glob("fits/**/*.safetensors"))
    api.run("blobs", executor="inline", device="cpu", out=tmp_path / "run", **settings)
    after = estimate(mine, Store(tmp_path / "run"))
    assert (after.training, after.scoring, after.fits, after.cells) == (0, 0, 0, 0)


def test_what_cannot_be_tried_is_named_with_its_reason(tmp_path):
    found = estimate(plan(tmp_path / "run", explainer="fake/raises,controls/random"), Store(tmp_path / "run"))
    assert len(found.unknown) == 1
    assert "fake/raises" in found.unknown[0]
    assert found.unknown[0] in found.line()


def test_explainers_are_tried_though_the_independent_classifier_is_not_trained_yet(tmp_path):
    settings = {
        "model": "fake/learnt",
        "explainer": "controls/random,controls/oracle_difference",
        "metric": "oracle_flip_rate,localisation_precision",
    }
    mine = plan(tmp_path / "run", **settings)
    found = estimate(mine, Store(tmp_path / "run"))
    assert (found.fits, found.unknown) == (2, ())
    assert found.scoring > 0


def test_trainings_are_tried_apart_even_where_epochs_end_while_they_are_watched(tmp_path):
    settings = {"model": "fake/learnt[epochs=50],fake/learnt[epochs=3]", "explainer": "controls/random"}
    found = estimate(plan(tmp_path / "run", **settings), Store(tmp_path / "run"))
    assert (found.fits, found.unknown) == (2, ())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (5000, "83 min"), (12000, "3 h 20 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_bytes_of_scores_are_those_that_a_run_then_stores(tmp_path):
    settings = {"model": "fake/linear", "explainer": "controls/random,fake/weights"}
    found = estimate(plan(tmp_path / "run", **settings), Store(tmp_path / "run"))
    api.run("blobs", executor="inline", device="cpu", out=tmp_path / "run", **settings)
    store = Store(tmp_path / "run")
    held = [array for key in store for name, array in store.read(key).arrays.items() if is_column(name)]
    assert found.stored == sum(array.nbytes for array in held)
    assert f"{found.stored / 1000:.0f} kB of scores" in found.line()


@pytest.mark.parametrize(("count", "said"), [(0, "0 kB"), (2.5e6, "2.5 MB"), (1.32e12, "1.32 TB")])
def test_bytes_are_said_as_people_say_them(count, said):
    assert size(count) == said


def test_an_explainer_is_timed_while_it_explains(tmp_path, monkeypatch):
    def slow(model):
        def explain(batch):
            time.sleep(0.1)
            return batch.image[:, 0]

        return explain

    importlib.import_module("xbench_fake.explainers")
    monkeypatch.setattr("xbench_fake.explainers.noise", slow)
    mine = plan(tmp_path / "run", explainer="fake/noise", metric="localisation_precision", limit=80)
    assert estimate(mine, Store(tmp_path / "run")).scoring > 0.9
