"""What tables rely on is looked at once: each form takes what it names, refuses the rest, and says where."""

import copy
from pathlib import Path

import numpy as np
import pytest

from xbench import api
from xbench.errors import XbenchError
from xbench.forms import HASH, arrays_fault, cell_fault, definition_fault, misfit, samples_fault
from xbench.leaderboard import read_boards
from xbench.manifest import run_folder
from xbench.store import Store, content_key


@pytest.mark.parametrize(
    ("value", "form", "fault"),
    [
        ("a", str, ""),
        (1, str, "it is not a text"),
        (True, int, "it is not a whole number"),
        (True, bool, ""),
        (1, float, ""),
        (float("nan"), float, "it is not a number"),
        (10**400, float, "it is not a number"),
        (None, (str, None), ""),
        (3, (str, None), "it is not a text"),
        (["a", 1], [str], "it is not a list of texts"),
        ([1, "a"], [int], "[1] is not a whole number"),
        ("\ud800", str, "it is not a text"),
        (["a", "\ud800"], [str], "it is not a list of texts"),
        ({"a": {"b": 1}}, {"a": {"b": str}}, "a.b is not a text"),
        ({}, {"a": str}, "a is missing"),
        ({}, {"a?": str}, ""),
        ({"a": 1}, {"a?": str}, "a is not a text"),
        ({"x": "y", "z": 1}, {...: str}, ".* is not a text"),
        ("0" * 64, HASH, ""),
        ("../../x", HASH, "it is not a text like [0-9a-f]{64}"),
        ([], {}, "it is not a group of members"),
    ],
)
def test_a_misfit_says_where_and_what_is_needed(value, form, fault):
    assert misfit(value, form) == fault


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "fakes"))
        patch.setenv("XBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("out") / "run"
        api.run("blobs", out=folder, executor="inline", device="cpu", limit=12, explainer="fake/weights")
    return folder


def test_what_a_run_writes_fits(whole):
    store = Store(whole)
    keys, _, _ = run_folder(whole)
    for key in keys:
        record = store.read(key)
        assert definition_fault(record.definition) == ""
        assert samples_fault(store.samples(record.definition["samples"]), record.definition["n"]) == ""
        assert arrays_fault(record.arrays, len(record.definition["classes"]), record.definition["n"]) == ""


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda cell: cell.pop("suite_version"), "suite_version is missing"),
        (lambda cell: cell.update(samples="../../../etc/passwd"), "samples is not"),
        (lambda cell: cell.update(n=10**12), "n is not a number of samples"),
        (lambda cell: cell.update(n=0), "n is not a number of samples"),
        (lambda cell: cell.update(seed=10**30), "too large"),
        (lambda cell: cell["metrics"][0].update(scores=[{}]), "metrics[0].scores[0].name is missing"),
        (lambda cell: cell["metrics"][0].update(params="ab"), "metrics[0].params is not a group of members"),
        (lambda cell: cell["data"].update(digest={}), "data.digest is not a text"),
        (lambda cell: cell.update(data=[]), "data is not a group of members"),
        (lambda cell: cell.update(classes="ab"), "classes is not a list"),
    ],
)
def test_a_record_of_which_every_hash_is_right_is_refused_where_tables_could_not_use_it(whole, tmp_path, change, where):
    source = Store(whole)
    record = source.read(run_folder(whole)[0][0])
    cell = copy.deepcopy(record.definition)
    change(cell)
    store, key = Store(tmp_path / "run"), content_key(cell)
    store.define(key, cell)
    with pytest.raises(XbenchError) as caught:
        read_boards([store], [key])
    assert where in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert store.check()[0] == store.folder(key) / "cell.json"


def test_a_cell_says_where_its_samples_are_and_no_other_place():
    assert cell_fault({"n": 3}) == ""
    assert cell_fault({"n": 3, "samples": "0" * 64}) == ""
    assert "samples is not" in cell_fault({"n": 3, "samples": "/etc/passwd"})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("score/deletion", np.arange(3)),
        ("score/deletion", np.zeros((3, 2, 2))),
        ("predicted", np.array([0, 2, 1])),
        ("target", np.array([-2, 0, 1])),
        ("predicted", np.zeros(3)),
        ("curve/deletion", np.zeros(5)),
        ("gallery/row", np.array(["a"])),
        ("gallery/row", np.array([9])),
        ("gallery/attribution", np.zeros((2, 3))),
        ("gallery/probability", np.zeros((2, 3))),
    ],
)
def test_arrays_of_other_kinds_than_are_written_are_told(name, values):
    assert name in arrays_fault({name: values}, 2)


@pytest.mark.parametrize(
    "table",
    [
        None,
        {"ids": ["a"], "labels": [0]},
        {"ids": ["a"], "labels": [0, 1], "groups": ["a"]},
        {"ids": ["a"], "labels": [10**30], "groups": ["a"]},
        {"ids": [1], "labels": [0], "groups": ["a"]},
    ],
)
def test_tables_of_samples_have_one_of_each_for_a_sample(table):
    assert samples_fault(table)
    assert samples_fault({"ids": ["a"], "labels": [0], "groups": ["a"]}, 2)
