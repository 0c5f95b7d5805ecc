"""Maps made elsewhere get the numbers that a run gives them, and what is wrong with them is said in one line."""

import json

import numpy as np
import pytest
import torch

import xbench
from xbench.alone import alone
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.fit_tasks import open_dataset
from xbench.manifest import run_folder
from xbench.plan import make_plan
from xbench.plugins import discover
from xbench.scoring import evenly, mean_colour
from xbench.store import Store

METRICS = ["accuracy", "auroc", "deletion", "insertion", "localisation_precision", "relevance_mass", "srg", "blankness"]
NAMES = ["fake/weights", "fake/noise", "controls/oracle"]


def noise(n=12, seed=0):
    return np.random.default_rng(seed).random((n, 1, 8, 8), dtype=np.float32)


class Halves(torch.nn.Module):
    """The network of fake/linear: right half minus left half."""

    def __init__(self):
        super().__init__()
        weight = torch.ones(8, 8)
        weight[:, :4] = -1
        self.register_buffer("weight", weight * 4 / 8)

    def forward(self, image):
        score = (image.mean(dim=1) * self.weight).flatten(1).sum(dim=1)
        return torch.stack([-score, score], dim=1)


def net():
    return Halves()


@pytest.fixture
def blobs(fakes):
    """Return the samples of a run of the suite blobs, as one would hold them in arrays of one's own."""
    plan = make_plan(make_config(["suite=blobs", "limit=100", "out=nowhere"], discover()))
    dataset = open_dataset(plan.config.data, None)
    chosen = plan.cells[-1].selection
    samples, every = dataset.load(chosen.ids), dataset.index("test").ids
    colour = mean_colour(dataset.load([every[i] for i in evenly(len(every))]).image)
    return chosen, samples, colour


def test_the_numbers_are_those_of_a_run_of_the_same_maps(blobs, tmp_path):
    chosen, samples, colour = blobs
    run = xbench.run(
        "blobs", explainer=NAMES, metric=METRICS, limit=100, out=tmp_path / "run", executor="inline", device="cpu"
    )
    maps = {name: xbench.explain(net(), samples.image, name, ids=chosen.ids) for name in NAMES[:2]}
    maps[NAMES[2]] = samples.mask.astype(np.float32)
    found = xbench.evaluate(
        *(net(), samples.image, maps, METRICS, np.array(chosen.labels), samples.mask),
        groups=chosen.groups,
        ids=chosen.ids,
        classes=("left", "right"),
        colour=colour,
    )
    facts = ("mean", "low", "high", "rank", "chance", "n_scored", "n", "status", "higher_is_better", "family")
    told = [
        {(row.explainer, row.metric): [getattr(row, name) for name in facts] for row in each.rows}
        for each in (run, found)
    ]
    # The classifier itself is measured on all test samples by a run, on those given here.
    told = [{key: values for key, values in each.items() if key[0]} for each in told]
    assert told[0] == told[1]
    assert len(told[0]) > 20
    pairs = [
        each.scores().query("explainer.notna()").sort_values(["explainer", "metric", "sample"]) for each in (run, found)
    ]
    np.testing.assert_array_equal(pairs[0]["value"], pairs[1]["value"])
    for name in ("sample", "group", "label", "predicted", "target"):
        assert pairs[0][name].tolist() == pairs[1][name].tolist()
    curves = [each.curves().sort_values(["explainer", "metric", "share"]) for each in (run, found)]
    np.testing.assert_array_equal(curves[0]["mean"], curves[1]["mean"])


def test_the_result_has_all_that_a_run_has():
    images = noise(24)
    maps = {"one": noise(24, 1)[:, 0], "other": images[:, 0]}
    found = xbench.evaluate(net(), images, maps, labels=np.arange(24) % 2, metrics=["deletion", "accuracy"])
    table = found.table(intervals=True)
    assert set(table["explainer"]) == {"one", "other"}
    assert {"deletion", "deletion low", "deletion high", "deletion rank", "rank"} <= set(table.columns)
    assert len(found.compare("one", "other", "deletion")) == 1
    assert {one.explainer for one in found.explanations()} == {"one", "other"}
    assert [row.mean for row in found.rows if row.metric == "accuracy"] == [pytest.approx(0.5, abs=0.5)]
    assert all(row.seconds_per_image is None for row in found.rows)


def test_what_is_not_given_is_told_and_not_dropped():
    metrics = [
        "deletion",
        "accuracy",
        "localisation_precision",
        "difference_precision",
        "sensitivity_max",
        "completeness",
    ]
    names = [name for name in metrics if name in discover().metrics]
    randomised = [name for name in discover().metrics if "randomis" in name][:1]
    found = xbench.evaluate(net(), noise(), noise(seed=1)[:, 0], [*names, *randomised])
    told = {row.metric: (row.status, row.reason) for row in found.rows}
    assert told.pop("deletion")[0] == "ok"
    assert len(told) >= len(names) - 1
    assert all(status == "unsupported" and reason for status, reason in told.values())
    assert "labels" in told["accuracy"][1]
    assert "mask" in told["localisation_precision"][1]


def test_a_metric_that_asks_again_says_that_there_are_only_maps():
    asking = [name for name, spec in discover().metrics.items() if spec.family in ("robustness", "randomisation")]
    assert asking
    found = xbench.evaluate(net(), noise(), noise(seed=1)[:, 0], asking)
    rows = [row for row in found.rows if row.explainer]
    assert rows
    assert all(row.mean is None for row in rows)
    assert any("only its maps" in row.reason for row in rows)


def test_a_missing_label_is_no_label():
    found = xbench.evaluate(net(), noise(), noise(seed=1)[:, 0], "deletion")
    assert found.scores()["label"].isna().all()
    assert found.scores()["target"].notna().all()


def test_a_folder_keeps_the_records(tmp_path):
    made = xbench.evaluate(net(), noise(), noise(seed=1)[:, 0], "deletion", out=tmp_path / "kept")
    again = xbench.open(tmp_path / "kept")
    assert [row.mean for row in again.rows] == [row.mean for row in made.rows]


def test_the_folder_of_a_run_is_not_overwritten(tmp_path):
    given = (net(), noise(), noise(seed=1)[:, 0], "deletion")
    xbench.evaluate(*given, out=tmp_path)
    xbench.evaluate(*given, out=tmp_path)
    manifest = run_folder(tmp_path)[2]
    for kept, match in (
        (json.dumps(manifest | {"suite": "mnist"}), "holds a run of the suite 'mnist'; choose another"),
        (json.dumps(manifest | {"protocol": "quick"}), "holds a run of the suite 'evaluate'; choose another"),
        ("{", "cannot be read"),
    ):
        (tmp_path / "run.json").write_text(kept)
        with pytest.raises(XbenchError, match=match):
            xbench.evaluate(*given, out=tmp_path)
        assert (tmp_path / "run.json").read_text() == kept


def test_a_folder_that_a_run_is_writing_to_may_be_written_to(tmp_path):
    given = (net(), noise(), noise(seed=1)[:, 0], "deletion")
    with alone(tmp_path):
        assert xbench.evaluate(*given, out=tmp_path).failures == []


def test_the_traceback_of_a_failure_is_kept(tmp_path, monkeypatch):
    def raising(*given):
        raise ValueError("no idea")

    monkeypatch.setattr("xbench.own_records.score", raising)
    found = xbench.evaluate(net(), noise(), noise(seed=1)[:, 0], "deletion", out=tmp_path)
    assert [failure[1:] for failure in found.failures] == [("error", "ValueError: no idea")]
    told = json.loads((Store(tmp_path).folder(found.keys[0]) / "status.json").read_text())
    assert told["detail"].startswith("Traceback")
    assert "in raising" in told["detail"]


def test_the_network_is_given_back_as_it_was():
    module = net()
    module.train()
    module.weight.requires_grad_(False)
    before, state = module.weight.clone(), torch.get_rng_state()
    xbench.evaluate(module, noise(), noise(seed=1)[:, 0], "deletion", mean=0.5, std=0.25)
    assert module.training
    assert torch.equal(module.weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_images_masks_or_maps_are_other_cells(tmp_path):
    keys = {
        xbench.evaluate(net(), images, maps, "deletion", masks=masks, targets=targets).keys
        for images in (noise(), noise(seed=5))
        for maps in (noise(seed=1)[:, 0], noise(seed=2)[:, 0])
        for masks in (None, noise()[:, 0] > 0.5)
        for targets in (None, 0)
    }
    assert len(keys) == 16


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"images": noise() * 2}, "values from .* to"),
        ({"images": (noise() * 255).astype(np.uint8)}, "uint8"),
        ({"images": noise()[0, 0]}, r"shape \[8, 8\]"),
        ({"images": noise() * np.nan}, "NaN"),
        ({"explanations": {"mine": noise()}}, r"'mine' have shape \[12, 1, 8, 8\]; \[12, 8, 8\]"),
        ({"explanations": {}}, "no explanation"),
        ({"explanations": np.where(noise()[:, 0] > 0.99, np.nan, 1)}, "of the 12 maps of 'maps' hold NaN"),
        ({"explanations": {"mine": noise()[:, 0].astype(str)}}, "numbers are needed"),
        ({"explanations": {3: noise()[:, 0]}}, "3 is no name"),
        ({"metrics": ["deletio"]}, "did you mean 'deletion'"),
        ({"metrics": []}, "no metric"),
        ({"labels": [0, 1]}, "labels are int64 of shape"),
        ({"labels": [7] * 12}, "labels hold 7 to 7"),
        ({"masks": noise()}, "masks have shape"),
        ({"masks": noise()[:, 0]}, "other than 0 and 1"),
        ({"targets": 2}, "classes are 0 to 1"),
        ({"targets": [0.5] * 12}, "a class number"),
        ({"groups": ["a"]}, "1 groups; 12 are needed"),
        ({"ids": ["a"] * 12}, "1 of them different"),
        ({"classes": ["a", "a"]}, "2 different names"),
        ({"colour": [0.1, 0.2]}, "each of 1 channels"),
        ({"mean": [0.1, 0.2]}, "each of 1 channels"),
        ({"std": 0.0}, "above 0"),
        ({"polarity": "upwards"}, "'upwards' of 'maps' is not one of"),
        ({"polarity": None}, "None of 'maps' is not one of"),
        ({"polarity": {"Maps": "positive"}}, "names maps 'Maps', and there are none; did you mean 'maps'"),
        ({"polarity": {"maps": ["signed"]}}, r"\['signed'\] of 'maps' is not one of"),
        ({"colour": "red"}, "colour='red': numbers"),
        ({"mean": "grey"}, "mean='grey': numbers"),
        ({"images": [[[[0.1]]], [[[0.1], [0.2]]]]}, "the images cannot be read"),
        ({"explanations": {"mine": [[1], [1, 2]]}}, "the maps of 'mine' cannot be read"),
        ({"explanations": {"\ud800": noise()[:, 0]}}, "texts that UTF-8 can write"),
        ({"labels": [[0], [0, 1]]}, "labels cannot be read"),
        ({"targets": [[0], [0, 1]]}, "target cannot be read"),
        ({"metrics": 5}, "metrics=5: a list of names"),
        ({"groups": 5}, "groups=5: a list of names"),
        ({"ids": "abcdefghijkl"}, "ids='abcdefghijkl': a list of names"),
        ({"ids": ["\ud800", *"abcdefghijk"]}, "texts that UTF-8 can write"),
        ({"classes": ["a", "\udfff"]}, "texts that UTF-8 can write"),
        ({"seed": "a"}, "seed='a': a whole number"),
        ({"batch": 0}, "batch=0: 1 or more"),
        ({"link": "logit"}, "link 'logit' is not one of"),
        ({"model": "resnet"}, "is a str"),
    ],
)
def test_what_is_wrong_is_one_clear_line(change, match):
    given = {"model": net(), "images": noise(), "explanations": noise(seed=1)[:, 0], "metrics": "deletion", **change}
    with pytest.raises(XbenchError, match=match) as caught:
        xbench.evaluate(**given)
    assert len(caught.value.lines) == 1
