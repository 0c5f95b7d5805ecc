"""Every file that a run keeps is held by a hash: a damaged one is named and made again, and the table stays as it was."""

import json
import shutil

import pytest

from xbench.cli import main
from xbench.slices import arrays_file
from xbench.store import Store

pytestmark = [pytest.mark.usefixtures("fakes"), pytest.mark.slow]

MODELS = ("fake/learnt", "fake/learnt[epochs=2]", "fake/learnt[epochs=4]@2")
SETTINGS = (
    "suite=blobs",
    "limit=70",
    f"model={','.join(MODELS)}",
    "explainer=fake/weights,fake/trained,fake/noise,fake/refuses",
    "metric=accuracy,deletion,localisation_precision",
    "executor=inline",
    "device=cpu",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folders of a finished run and of its cache; made by the first test that asks."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """Return a folder with a finished run and its cache, to be damaged."""
    monkeypatch.setenv("XBENCH_CACHE", str(finished / "cache"))
    if not (finished / "run").exists():
        assert go(finished) == 1  # fake/refuses is unsupported
    for name in ("run", "cache"):
        shutil.copytree(finished / name, tmp_path / "copy" / name)
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "copy" / "cache"))
    return tmp_path / "copy"


def go(place):
    return main(["run", *SETTINGS, f"out={place / 'run'}"])


def tables(place):
    rows = json.loads((place / "run" / "leaderboard" / "table.json").read_text())
    return [{name: value for name, value in row.items() if name != "seconds_per_image"} for row in rows]


def cell(store, model, explainer):
    """Return the key of a cell."""
    for key in store:
        found = store.definition(key)
        if found["model"]["text"] == model and (found["explainer"] or {}).get("text") == explainer:
            return key
    raise AssertionError((model, explainer))


def files_of_every_kind(place):
    """Return one file of every kind; in the run's folder of cells of every model, so that every fit is asked for."""
    store, cache = Store(place / "run"), place / "cache"
    first, second, third = MODELS
    weights, noise = "fake/weights", "fake/noise"
    fits = {model: store.definition(cell(store, model, weights))["model_fit"] for model in MODELS}
    explainer_fit = store.definition(cell(store, first, "fake/trained"))["explainer_fit"]
    arrays = arrays_file(store.folder(cell(store, second, weights)), 1)
    cost = arrays_file(store.folder(cell(store, third, weights)), 0).name.replace(".safetensors", ".cost.json")
    folders = {name: cache / "fits" / key[:2] / key for name, key in (*fits.items(), ("explainer", explainer_fit))}
    return {
        "definition": store.folder(cell(store, second, noise)) / "cell.json",
        "head": store.folder(cell(store, first, "fake/trained")) / "00000.json",
        "arrays": arrays,
        "cost of a slice": store.folder(cell(store, third, weights)) / cost,
        "failure": store.folder(cell(store, first, "fake/refuses")) / "status.json",
        "table of samples": place
        / "run"
        / "samples"
        / f"{store.definition(cell(store, first, weights))['samples']}.json",
        "pictures": next((place / "run" / "samples").glob("*.safetensors")),
        "manifest": place / "run" / "run.json",
        "cost of the run": place / "run" / "cost.json",
        "weights": folders[first] / "weights.safetensors",
        "notes of a fit": folders[second] / "fit.json",
        "weights of an epoch": folders[third] / "epochs" / "0002.safetensors",
        "an explainer's weights": folders["explainer"] / "weights.safetensors",
        "mean colour": next((cache / "colours").iterdir()),
    }


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    raw = path.read_bytes()
    place = raw.rindex(b'"', 0, len(raw) // 2) - 1 if path.suffix == ".json" else len(raw) - 2
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"not ours to delete")


@pytest.mark.parametrize("damage", [cut, flip, empty, folder])
def test_damaged_files_of_every_kind_are_named_and_made_again(place, damage, capsys):
    before, files = tables(place), files_of_every_kind(place)
    contents = {path: path.read_bytes() for path in files.values()}
    for path in files.values():
        damage(path)
    capsys.readouterr()
    assert go(place) == 1
    told = capsys.readouterr().err
    assert [kind for kind, path in files.items() if f"{path} " not in told] == []
    assert "Traceback" not in told
    assert tables(place) == before
    assert Store(place / "run").check() == []
    # What says how long something took is another each time.
    timed = {"cost of a slice", "cost of the run", "manifest", "notes of a fit"}
    assert [kind for kind, path in files.items() if kind not in timed and path.read_bytes() != contents[path]] == []
    assert len(list(place.rglob("inside"))) == (len(files) if damage is folder else 0)
    assert go(place) == 1
    assert "damaged" not in capsys.readouterr().err


def test_a_run_that_nothing_happened_to_names_no_damage(place, capsys):
    capsys.readouterr()
    assert go(place) == 1
    told = capsys.readouterr()
    assert "damaged" not in told.err
    assert "\n0 slices computed" in told.out
