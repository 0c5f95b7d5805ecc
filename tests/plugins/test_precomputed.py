"""Stored maps score as the explainer that made them, whatever their folder is called; anything unsound in it is one line."""

import hashlib
import json
import os
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

import xbench
from xbench.components import expand, resolve
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.fit_tasks import open_dataset
from xbench.models import Model
from xbench.plan import make_plan, write_plan
from xbench.plugins import discover
from xbench.scoring import build_explainer
from xbench.store import Store
from xbench.stored_maps import read_stored
from xbench.tensors import Explanation, make_batch

pytestmark = pytest.mark.usefixtures("fakes")

METRICS = ["deletion", "insertion", "localisation_precision", "relevance_mass", "pointing_game"]
FACTS_OF_MAPS = {"model": "m", "seed": 0, "data_digest": "d", "target": "label"}
FACTS = ("mean", "low", "high", "chance", "n_scored", "n", "status", "family", "higher_is_better", "blank_rate")


def go(out, **settings):
    return xbench.run("blobs", out=out, executor="inline", device="cpu", **{"limit": 20, "metric": METRICS, **settings})


def maps_of(name, limit=20):
    """Return sample id -> map, or None, of an explainer of the fake linear model, batch by batch as a run makes them."""
    from xbench_fake.models import linear

    plan = make_plan(make_config(["suite=blobs", f"limit={limit}", "out=nowhere"], discover()))
    chosen = plan.cells[-1].selection
    samples = open_dataset(plan.config.data, None).load(chosen.ids)
    batch = make_batch(samples, chosen.ids, torch.tensor(chosen.labels), 0, 2)
    model = Model(linear(plan.test.shape, plan.test.classes))
    batch = batch.with_target(model.logits(batch.image).argmax(dim=1))
    found = build_explainer(resolve("explainer", name, discover(), []), model)(batch)
    if not isinstance(found, Explanation):
        found = Explanation(found)
    pairs = zip(chosen.ids, found.attribution.numpy(), found.answered.tolist(), strict=True)
    return {sample: one if answered else None for sample, one, answered in pairs}


def planned(out):
    """Return what `write_maps` asks of a run, of one that was only planned."""
    plan = make_plan(make_config(["suite=blobs", "limit=20", f"out={out}"], discover()))
    write_plan(plan, Store(out))
    return SimpleNamespace(folder=out, keys=tuple(cell.key for cell in plan.cells))


@pytest.fixture
def folder(tmp_path):
    """Return a folder of the maps of fake/weights on the first 20 samples."""
    run = planned(tmp_path / "first")
    return xbench.write_maps(tmp_path / "maps", run, maps_of("fake/weights"), name="stored weights")


@pytest.mark.parametrize(
    ("name", "polarity"), [("fake/weights", "signed"), ("fake/half", "signed"), ("fake/background", "non_contributing")]
)
def test_stored_maps_score_as_their_explainer_to_the_last_digit(tmp_path, name, polarity):
    first = go(tmp_path / "first", explainer=name)
    folder = xbench.write_maps(tmp_path / "maps", first, maps_of(name), name="mine", polarity=polarity)
    both = go(tmp_path / "both", explainer=[name, f"precomputed/maps[maps={folder}]"])
    assert both.failures == []
    rows = {who: [] for who in (name, "precomputed/maps[maps=mine]")}
    for row in both.rows:
        if row.explainer:
            rows[row.explainer].append((row.metric, *(getattr(row, fact) for fact in FACTS)))
    assert rows[name] == rows["precomputed/maps[maps=mine]"]
    assert len(rows[name]) == len(METRICS)
    told = both.compare(name, "precomputed/maps[maps=mine]", "deletion")
    assert told[0].difference.mean == 0
    scores = both.scores().pivot(index=["sample", "metric"], columns="explainer", values="value")
    np.testing.assert_array_equal(scores[name], scores["precomputed/maps[maps=mine]"])


def test_the_key_is_the_content_and_not_the_path(folder, tmp_path):
    moved = tmp_path / "elsewhere" / "maps of mine"
    shutil.copytree(folder, moved)
    first = go(tmp_path / "run", explainer=f"precomputed/maps[maps={folder}]")
    again = go(tmp_path / "run", explainer=f"precomputed/maps[maps={moved}]")
    assert first.outcome.computed > 0
    assert again.outcome.computed == 0
    assert again.keys == first.keys
    assert str(tmp_path) not in (tmp_path / "run/leaderboard/table.json").read_text()
    other = maps_of("fake/weights")
    other[next(iter(other))] *= 2
    changed = xbench.write_maps(tmp_path / "changed", first, other, name="stored weights")
    third = go(tmp_path / "run", explainer=f"precomputed/maps[maps={changed}]")
    assert third.keys != first.keys


def test_a_table_calls_stored_maps_by_their_name_and_gives_them_no_time(folder, tmp_path):
    run = go(
        tmp_path / "run", explainer=f"precomputed/maps[maps={folder}],controls/blur[of=precomputed/maps[maps={folder}]]"
    )
    names = {row.explainer for row in run.rows if row.explainer}
    assert names == {"precomputed/maps[maps=stored weights]", "controls/blur[of=precomputed/maps[maps=stored weights]]"}
    assert all(row.seconds_per_image is None for row in run.rows if row.explainer)
    assert {row.status for row in run.rows} == {"ok"}


def test_a_metric_that_asks_again_has_no_answer(folder, tmp_path):
    asking = [name for name, spec in discover().metrics.items() if spec.family in ("robustness", "randomisation")]
    run = go(tmp_path / "run", explainer=f"precomputed/maps[maps={folder}]", metric=["deletion", *asking])
    rows = [row for row in run.rows if row.explainer and row.metric != "deletion"]
    assert rows
    assert all(row.mean is None and row.status in ("unsupported", "undefined") for row in rows)
    assert any("only its maps" in row.reason for row in rows)


def test_npy_files_do_as_well(folder, tmp_path):
    want = go(tmp_path / "a", explainer=f"precomputed/maps[maps={folder}]")
    stack = load_file(folder / "maps.safetensors")["maps"]
    np.save(folder / "all.npy", stack[1:])
    np.save(folder / "first.npy", stack[0])

    def change(manifest):
        manifest["files"] = {name: sha256(folder / name) for name in ("all.npy", "first.npy")}
        for i, place in enumerate(manifest["samples"].values()):
            place |= {"file": "all.npy", "row": i - 1} if i else {"file": "first.npy", "row": None}

    edit(folder, change)
    found = go(tmp_path / "b", explainer=f"precomputed/maps[maps={folder}]")
    assert [row.mean for row in found.rows] == [row.mean for row in want.rows]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"limit": 30}, "lack 10 of 30 samples, the first 'test-"),
        ({"target": "label"}, "are of target predicted, not label"),
        ({"seed": 1}, "are of seed 0, not 1"),
        ({"model": "fake/learnt[epochs=1]"}, r"are of the classifier fake/linear, not fake/learnt\[epochs=1\]"),
        ({"data": "fake/blobs[seed=3]"}, "are of data of digest"),
    ],
)
def test_maps_of_something_else_are_refused_with_the_reason(folder, tmp_path, settings, match):
    with pytest.raises(XbenchError, match=f": the maps 'stored weights' {match}") as caught:
        go(tmp_path / "run", explainer=f"precomputed/maps[maps={folder}],fake/noise", **settings)
    assert len(caught.value.lines) == 1
    assert not (tmp_path / "run").exists()


def test_of_several_models_the_others_have_rows_with_the_reason(folder, tmp_path):
    run = go(tmp_path / "run", explainer=f"precomputed/maps[maps={folder}]", model="fake/linear,fake/learnt[epochs=1]")
    told = {row.model: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}
    assert told["fake/linear"] == ("ok", "")
    assert told["fake/learnt[epochs=1]"][0] == "unsupported"
    assert "are of the classifier fake/linear" in told["fake/learnt[epochs=1]"][1]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def first(manifest):
    return next(iter(manifest["samples"].values()))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update(more=1), "'more' is unknown; its keys are schema"),
        (lambda m: m.pop("target"), "target is missing"),
        (lambda m: m.update(schema=2), "schema 2 is not 1"),
        (lambda m: m.update(schema=True), "schema is True; int is needed"),
        (lambda m: m.update(name="<script>"), "name '<script>' is not"),
        (lambda m: m.update(name="a" * 61), "is not 1 to 60"),
        (lambda m: m.update(polarity="up"), "polarity 'up' is not one of"),
        (lambda m: m.update(shape=[8]), r"shape \[8\] is not"),
        (lambda m: m.update(shape=[8, -8]), "is not"),
        (lambda m: m.update(samples=[]), "samples is .*; dict is needed"),
        (lambda m: m["files"].update({"../maps.safetensors": "0" * 64}), "leaves the folder"),
        (lambda m: m["files"].update({"/etc/maps.npy": "0" * 64}), "leaves the folder"),
        (lambda m: m["files"].update({"out.npy": "0" * 64}), "leaves the folder"),
        (lambda m: m["files"].update({"a.pkl": "0" * 64}), "neither .safetensors nor .npy"),
        (lambda m: m["files"].update({"a.npy": "0" * 64}), "'a.npy' is not there"),
        (lambda m: m["files"].update({"maps.safetensors": "0"}), "no SHA-256"),
        (lambda m: first(m).update(more=1), "is not {file, row}, or null"),
        (lambda m: first(m).update(file="b.npy"), "which files does not list"),
        (lambda m: first(m).update(file=[]), r"is in \[\], which files does not list"),
        (lambda m: first(m).update(row=-1), "row -1 of sample"),
        (lambda m: first(m).update(row=1.5), "row 1.5 of sample"),
    ],
)
def test_an_unsound_manifest_ends_the_run_before_it_begins(folder, tmp_path, change, match):
    (tmp_path / "out.npy").write_bytes(b"")
    (folder / "out.npy").symlink_to(tmp_path / "out.npy")
    edit(folder, change)
    with pytest.raises(XbenchError, match=match) as caught:
        go(tmp_path / "run", explainer=f"precomputed/maps[maps={folder}]")
    assert len(caught.value.lines) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "is no JSON, or damaged"),
        (b"[]", "a JSON object is needed"),
        (b"\xff", "is no JSON, or damaged"),
        (b"[" * 100_000, "is no JSON, or damaged"),
        (b'{"schema": 1, "schema": 2}', "a key stands there twice"),
        (b'{"name": "\\ud800"}', "surrogates"),
        (b'{"seed": NaN}', "is no JSON, or damaged"),
        (None, "cannot be read"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(folder, content, match):
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    mistakes = []
    assert not resolve("explainer", f"precomputed/maps[maps={folder}]", discover(), mistakes) or mistakes
    assert len(mistakes) == 1
    with pytest.raises(XbenchError, match=match):
        read_stored(folder)


def rewritten(folder, arrays, sign=True):
    (folder / "maps.safetensors").write_bytes(save(arrays))
    if sign:
        edit(folder, lambda m: m["files"].update({"maps.safetensors": sha256(folder / "maps.safetensors")}))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f, a: rewritten(f, {"maps": a + 1}, sign=False), "another SHA-256"),
        (lambda f, a: rewritten(f, {"maps": np.where(a == a.max(), np.nan, a)}), "holds NaN or infinite values"),
        (lambda f, a: rewritten(f, {"maps": a[:, :4]}), r"of shape \[20, 4, 8\]; floats \[n,H,W\] of \[8, 8\]"),
        (lambda f, a: rewritten(f, {"maps": a[:10]}), "has 10 rows, and sample"),
        (lambda f, a: rewritten(f, {"maps": a.astype(np.int32)}), "holds I32"),
        (lambda f, a: rewritten(f, {"maps": a, "more": a}), "the one tensor 'maps' is needed"),
        (lambda f, a: rewritten(f, {"maps": a[0]}), "the row of sample"),
    ],
)
def test_unsound_arrays_cost_their_own_cell_only(folder, tmp_path, change, match):
    change(folder, load_file(folder / "maps.safetensors")["maps"])
    run = go(tmp_path / "run", explainer=f"fake/weights,precomputed/maps[maps={folder}]")
    ((_, status, reason),) = run.failures
    assert status == "error"
    assert "\n" not in reason
    assert re.search(match, reason), reason
    assert {row.status for row in run.rows if row.explainer == "fake/weights"} == {"ok"}


def test_a_pickle_is_never_opened(folder, tmp_path):
    np.save(folder / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    def change(manifest):
        manifest["files"] = {"bad.npy": sha256(folder / "bad.npy")}
        for place in manifest["samples"].values():
            place["file"] = "bad.npy"

    edit(folder, change)
    with pytest.raises(XbenchError, match=r"holds no maps: .*Python objects"):
        read_stored(folder).open()


def test_a_file_a_map_needs_few_open_files(tmp_path):
    resource = pytest.importorskip("resource")
    ids = [f"s{i}" for i in range(200)]
    folder = xbench.write_maps(tmp_path / "maps", ids, np.ones((200, 2, 2)), name="mine", **FACTS_OF_MAPS)
    for i, sample in enumerate(ids):
        np.save(folder / f"{sample}.npy", np.full((2, 2), i, np.float32))

    def change(manifest):
        manifest["files"] = {f"{sample}.npy": sha256(folder / f"{sample}.npy") for sample in ids}
        manifest["samples"] = {sample: {"file": f"{sample}.npy", "row": None} for sample in ids}

    edit(folder, change)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 40, limits[1]))
    try:
        reader = read_stored(folder).open()
        found = [reader.read(sample) for sample in [*ids, "s0"]]
        assert [one[0, 0] for one in found] == [*range(200), 0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_changed_after_it_was_checked_is_not_believed(folder):
    stored = read_stored(folder)
    reader, sample = stored.open(), next(iter(stored.samples))
    rewritten(folder, {"maps": np.zeros((30, 8, 8), np.float32)}, sign=False)
    with pytest.raises(XbenchError, match="was changed after its hash was checked"):
        reader.read(sample)


def test_no_folder_is_named_with_the_way_out():
    mistakes = []
    resolve("explainer", "precomputed/maps", discover(), mistakes)
    assert mistakes == ["say where the maps are: precomputed/maps[maps=DIR] (xbench.write_maps makes such a folder)"]
    assert "precomputed/maps" not in [one.spec.id for one in expand("explainer", ["*"], discover(), [])]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"maps": {}}, "has no map \\(20 such\\)"),
        ({"maps": np.zeros((3, 8, 8))}, "3 maps of 20 samples"),
        ({"maps": np.zeros((20, 8))}, r"shape \[8\]; numbers \[H,W\]"),
        ({"maps": np.full((20, 8, 8), np.nan)}, "20 maps hold NaN"),
        ({"maps": np.full((20, 8, 8), "a")}, "numbers"),
        ({"maps": [None] * 20}, "not one map"),
        ({"name": "<b>"}, "name '<b>' is not"),
        ({"polarity": "up"}, "polarity 'up'"),
        ({"model": "fake/other"}, r"the run has fake/linear \(seed 0\)"),
        ({"run_or_ids": "abc"}, "run_or_ids is 'abc'; a run .* or a list"),
        ({"run_or_ids": {"a": 1}}, "a list of sample ids is needed"),
        ({"run_or_ids": ["\ud800"], "maps": np.zeros((1, 8, 8)), **FACTS_OF_MAPS}, "surrogates not allowed"),
        ({"citation": "\ud800"}, "surrogates not allowed"),
        ({"maps": 5}, "maps is 5; sample id"),
        ({"maps": [[[1], [2, 3]]] * 20}, "is no array"),
        ({"run_or_ids": ["a"]}, "data_digest, model, seed, target must be said"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path, change, match):
    run = planned(tmp_path / "run")
    given = {"run_or_ids": run, "maps": np.zeros((20, 8, 8)), "name": "mine", **change}
    with pytest.raises(XbenchError, match=match) as caught:
        xbench.write_maps(tmp_path / "maps", **given)
    assert len(caught.value.lines) == 1
    assert not (tmp_path / "maps" / "manifest.json").exists()


def test_maps_are_not_written_over(folder, tmp_path):
    with pytest.raises(XbenchError, match="holds maps already"):
        xbench.write_maps(folder, ["a"], np.zeros((1, 8, 8)), name="mine")


def test_explain_sends_stored_maps_to_evaluate(folder):
    with pytest.raises(XbenchError, match=r"xbench\.evaluate scores arrays"):
        xbench.explain(torch.nn.Identity(), np.zeros((1, 8, 8), np.float32), "precomputed/maps", maps=str(folder))


def test_a_folder_can_be_written_without_a_run(tmp_path):
    folder = xbench.write_maps(
        *(tmp_path / "maps", ["a", "b"], {"a": np.ones((2, 3)), "b": None}),
        name="mine",
        model="m",
        seed=0,
        data_digest="d",
        target="label",
    )
    stored = read_stored(folder)
    assert (stored.shape, stored.unmet("d", "m", 0, "label", (2, 3), ["a", "b"])) == ((2, 3), "")
    assert stored.open().read("b") is None
    np.testing.assert_array_equal(stored.open().read("a"), np.ones((2, 3)))
    with pytest.raises(XbenchError, match="hold none of sample 'c'"):
        stored.open().read("c")
