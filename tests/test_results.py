"""A run as Python sees it says what its tables say, and nothing of it waits for torch."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import xbench
from xbench.curves import curve_frame, mean_curves
from xbench.errors import XbenchError
from xbench.stats import Bootstrap
from xbench.store import Store, content_key, is_column

pytestmark = pytest.mark.usefixtures("fakes")
HOSTILE = ["<script>alert(1)</script>", "[/bold]", "a_b%c&d", '"><img src=x>']


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seen") / "run"


@pytest.fixture
def run(folder):
    """A run of two classifiers, computed once."""
    return xbench.run(
        suite="blobs",
        out=folder,
        executor="inline",
        device="cpu",
        limit=60,
        model="fake/linear,fake/learnt[epochs=1]",
        explainer=["fake/weights", "fake/noise", "fake/half", "controls/oracle"],
    )


def test_the_table_is_the_printed_one_in_its_order(run, folder):
    text = (folder / "leaderboard/table.md").read_text()
    printed = re.findall(r"^\| (\d+|-) \| (\S+?)(?: [†‡]+)* \|", text.replace("\\", ""), re.MULTILINE)
    table = run.table()
    assert [(str(rank), name) for rank, name in zip(table["rank"], table["explainer"], strict=True)] == printed
    assert table.columns[:4].tolist() == ["rank", "explainer", "model", "control"]
    assert table["control"].tolist() == [name.startswith("controls/") for name in table["explainer"]]


def test_the_table_holds_the_means_intervals_and_ranks_of_the_rows(run):
    table = run.table(intervals=True).set_index(["model", "explainer"])
    rows = [row for row in run.rows if row.explainer and row.mean is not None]
    assert len(rows) > 20
    for row in rows:
        line = table.loc[(row.model, row.explainer)]
        found = [line[row.metric + part] for part in ("", " low", " high", " rank")]
        assert found == [row.mean, row.low, row.high, row.rank]


def test_an_opened_run_is_the_run(run, folder):
    opened = xbench.open(folder)
    assert opened.rows == run.rows
    assert opened.table().equals(run.table())
    assert opened.outcome.computed == 0
    with pytest.raises(XbenchError, match="holds no run"):
        xbench.open(folder / "records")


def test_scores_average_to_the_rows(run):
    scores = run.scores()
    assert scores.columns.tolist() == [
        *("suite", "protocol", "data", "model", "explainer", "seed"),
        *("sample", "group", "label", "predicted", "target", "metric", "value"),
    ]
    means = scores.groupby(["model", "explainer", "metric"], observed=True)["value"].agg(["mean", "count"])
    for row in run.rows:
        if row.explainer:
            found = means.loc[(row.model, row.explainer, row.metric)]
            assert found["mean"] == pytest.approx(row.mean)
            assert found["count"] == row.n_scored
    own = scores[scores["explainer"].isna()]
    assert set(own["metric"]) == {"accuracy", "auroc"}
    assert own["target"].isna().all()


def test_curves_enclose_the_areas_that_are_scored(run):
    curves = run.curves()
    cell = ["explainer", "model", "series", "epoch", "seed", "target", "samples", "metric"]
    assert curves.columns.tolist() == [*cell, "share", "mean", "low", "high", "n"]
    rows = {(row.explainer, row.model, row.metric): row for row in run.rows}
    places = curves.groupby(["explainer", "model", "metric"], observed=True)
    assert len(places) == 16
    for place, curve in places:
        assert area(curve["mean"].to_numpy(), curve["share"].to_numpy()) == pytest.approx(rows[place].mean)
        assert (curve["n"] == rows[place].n_scored).all()
        assert ((curve["low"] <= curve["mean"]) & (curve["mean"] <= curve["high"])).all()
    assert (curves["high"] > curves["low"]).any()


def area(y, x):
    return ((y[..., 1:] + y[..., :-1]) / 2 * np.diff(x)).sum(axis=-1)


def stored(tmp_path, groups, y, rows=4, **facts):
    """Write one record of curves y [n,S]; return its frame."""
    store, n = Store(tmp_path), len(y)
    cell = {
        "suite": "s",
        "suite_version": 1,
        "protocol": "p",
        "seed": 0,
        "n": n,
        "samples": content_key(groups),
        "classes": ["a"],
        "data": {"text": "d"},
        "model": {"text": "m"},
        "explainer": {"text": "e"},
        "rows": rows,
        **facts,
    }
    key = content_key(cell)
    store.define(key, cell)
    store.write_samples(cell["samples"], {"ids": list(map(str, range(n))), "labels": [0] * n, "groups": groups})
    x = np.linspace(0, 1, y.shape[1])
    sums = np.stack([x * n, y.sum(axis=0), np.full_like(x, n), (y**2).sum(axis=0)])[:rows]
    arrays = {"curve/deletion": sums, "score/deletion": area(y, x)}
    store.commit(key, 0, arrays, None, {"seconds": 0, "images": n})
    return curve_frame(store, [key])


def test_curve_intervals_are_those_of_a_mean_and_widen_with_groups(tmp_path):
    rng = np.random.default_rng(0)
    own = rng.random((60, 5))
    alone = stored(tmp_path / "a", [f"g{i}" for i in range(60)], own)
    half = 1.959964 * own.std(axis=0, ddof=1) / np.sqrt(60)
    np.testing.assert_allclose(alone["high"] - alone["mean"], half)
    np.testing.assert_allclose(alone["mean"] - alone["low"], half)
    # Three equal images of a patient are one image: the interval is that of a third as many.
    groups = [f"g{i // 3}" for i in range(60)]
    thrice = stored(tmp_path / "b", groups, np.repeat(own[:20], 3, axis=0))
    once = stored(tmp_path / "c", [f"g{i}" for i in range(20)], own[:20])
    np.testing.assert_allclose(thrice["high"] - thrice["mean"], once["high"] - once["mean"], rtol=0.06)
    before = stored(tmp_path / "d", groups, own, rows=3)
    np.testing.assert_allclose(before["mean"], own.mean(axis=0))
    assert before["low"].isna().all()
    assert before["high"].isna().all()


def half_of(curve, point=2):
    return curve.half[point]


def test_seeds_of_the_same_samples_narrow_a_band_as_little_as_the_tables_interval(tmp_path):
    rng = np.random.default_rng(0)
    own, groups = rng.random((60, 5)), [f"g{i}" for i in range(60)]
    one, store = stored(tmp_path, groups, own), Store(tmp_path)
    (alone,) = mean_curves((store, key) for key in store)
    for seed in (1, 2):
        stored(tmp_path, groups, own, seed=seed)
    (thrice,) = mean_curves((store, key) for key in store)
    # Three times the same numbers are no more than once.
    assert half_of(thrice) == pytest.approx(half_of(alone), rel=0.06)
    assert half_of(alone) == pytest.approx((one["high"] - one["mean"])[2])
    for seed in (3, 4):
        stored(tmp_path / "b", groups, rng.random((60, 5)), seed=seed)
    other = Store(tmp_path / "b")
    (twice,) = mean_curves((other, key) for key in other)
    columns = [other.read(key).arrays["score/deletion"] for key in other]
    drawn = np.std(Bootstrap(groups, seeds=2).estimate(columns).draws)
    single = np.sqrt(np.mean([column.var(ddof=1) / 60 for column in columns]))
    plain = np.mean([(f["high"] - f["mean"])[2] ** 2 for f in (curve_frame(other, [key]) for key in other)]) ** 0.5
    assert half_of(twice) == pytest.approx(plain * max(drawn / single, 0.5**0.5))


def test_one_group_has_no_band_and_no_warning(tmp_path, recwarn):
    found = stored(tmp_path, ["g"] * 10, np.random.default_rng(0).random((10, 5)))
    assert found["mean"].notna().all()
    assert found["high"].isna().all()
    assert not recwarn


def test_curves_of_epochs_are_one_those_of_other_samples_targets_and_steps_are_not(tmp_path):
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in range(20)]
    epochs = [rng.random((20, 5)) for _ in range(2)]
    for epoch, y in enumerate(epochs):
        stored(tmp_path, groups, y, model={"text": f"m@{epoch}", "checkpoint": epoch}, series="m@*", rows=3 + epoch)
    store = Store(tmp_path)
    (both,) = mean_curves((store, key) for key in store)
    assert both.model == "m@*"
    assert both.n == 40
    assert both.y == pytest.approx(np.concatenate(epochs).mean(axis=0))
    assert np.isnan(both.half).all()
    stored(tmp_path, groups, epochs[0][:, :4], target="predicted")
    stored(tmp_path, [f"h{i}" for i in range(20)], epochs[0])
    stored(tmp_path, groups, epochs[0], target="label")
    made = mean_curves((store, key) for key in store)
    assert len(made) == 4
    assert len({(one.place, one.model, one.kind) for one in made}) == 4
    frame = curve_frame(store, list(store))
    cell = ["explainer", "model", "series", "epoch", "seed", "target", "samples", "metric"]
    each = frame.groupby(cell, observed=True, dropna=False)
    assert all(part["share"].is_monotonic_increasing for _, part in each)
    assert len(each) == 5
    assert set(frame["epoch"]) == {0, 1}


def test_the_maps_that_are_kept_are_the_explainers_own(run):
    found = {(maps.explainer, maps.model): maps for maps in run.explanations()}
    assert len(found) == 8
    maps = found["fake/weights", "fake/linear"]
    assert maps.attribution.dtype == np.float32
    scores = run.scores().query("explainer == 'fake/weights' and model == 'fake/linear' and metric == 'deletion'")
    target = scores.set_index("sample")["target"]
    sign = np.array([1 if target[sample] == "right" else -1 for sample in maps.samples])
    weight = np.ones(maps.image.shape[2:])
    weight[:, : weight.shape[1] // 2] = -1
    want = (maps.image.mean(axis=1) - 0.2) * sign[:, None, None] * weight
    np.testing.assert_allclose(maps.attribution, want, atol=1 / 255)
    assert "fake/weights" in repr(maps)


def test_a_comparison_prints_sentences_and_holds_the_numbers(run):
    told = run.compare("fake/weights", "fake/noise", "deletion")
    assert len(told) == 2
    assert {one.metric for one in told} == {"deletion"}
    assert "fake/weights is better than fake/noise" in repr(told)
    assert "deletion (fake/linear): " in repr(told)
    table = told.table()
    assert table["difference"].tolist() == [one.difference.mean for one in told]
    assert table["winner"].tolist() == [one.winner for one in told]
    assert len(run.compare("fake/weights", "fake/noise")) > 2
    with pytest.raises(XbenchError, match="'fake/nois' is not in the records; did you mean 'fake/noise'"):
        run.compare("fake/weights", "fake/nois")


def test_names_cannot_become_markup():
    images = np.random.default_rng(0).random((25, 1, 8, 8), dtype=np.float32)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    maps = {name: np.roll(images[:, 0], i, axis=0) for i, name in enumerate(HOSTILE)}
    found = xbench.evaluate(module, images, maps, "deletion", classes=["<b>", "&", "=1"])
    text = found._repr_html_()
    assert re.findall(r"<(?!/?(?:table|caption|tr|td|th|ul|li)>)", text) == []
    assert text.count("&lt;script&gt;") >= 1
    assert set(found.table()["explainer"]) == set(HOSTILE)
    page = found.report().read_text()
    assert "<script>alert" not in page
    assert "<img src=x>" not in page


def test_a_short_form_says_what_it_is(run, folder):
    assert repr(run) == f"Run({str(folder)!r}: 4 explainers, 2 classifiers, 8 scores, 0 failed)"


def test_failures_are_remembered(tmp_path):
    run = xbench.run(
        "blobs", explainer="fake/raises,fake/weights", limit=10, out=tmp_path, executor="inline", device="cpu"
    )
    opened = xbench.open(tmp_path)
    assert opened.failures == run.failures == [("fake/raises on fake/linear (seed 0)", "error", "ValueError: no idea")]
    table = opened.table().set_index("explainer")
    assert np.isnan(table.loc["fake/raises", "deletion"])
    assert set(opened.scores()["explainer"].dropna()) == {"fake/weights"}


def test_what_is_unfinished_or_of_two_weights_is_a_failure_of_an_opened_run(tmp_path):
    images = np.random.default_rng(0).random((70, 1, 8, 8), dtype=np.float32)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    maps = {name: np.roll(images[:, 0], i, axis=0) for i, name in enumerate(("whole", "part", "mixed"))}
    made = xbench.evaluate(module, images, maps, "deletion", out=tmp_path)
    assert made.failures == []
    store = Store(tmp_path)
    keys = {store.definition(key)["explainer"]["text"]: key for key in made.keys}
    (store.folder(keys["part"]) / "00001.json").unlink()
    joined = store.read(keys["mixed"]).arrays
    arrays = {name: values[64:] if is_column(name) else values for name, values in joined.items() if name[0] != "g"}
    (store.folder(keys["mixed"]) / "00001.json").unlink()  # what is committed stays as it is
    store.commit(keys["mixed"], 1, arrays, "0" * 64, {"seconds": 0, "images": 6})
    found = {who.split()[0]: (status, reason) for who, status, reason in xbench.open(tmp_path).failures}
    assert {who: status for who, (status, _) in found.items()} == {"part": "partial", "mixed": "mixed_weights"}
    assert found["part"][1].startswith("1 of 2 slices done")


def test_importing_xbench_is_light_and_its_face_is_listed():
    code = (
        "import sys, xbench\n"
        "assert set(xbench.__all__) <= set(dir(xbench)) and {'run', 'open', 'explain', 'evaluate'} <= set(xbench.__all__)\n"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "xbench.open\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert all(callable(getattr(xbench, name)) for name in xbench.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = xbench.rum
