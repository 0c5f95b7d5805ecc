"""Comparing two explainers or classifiers of a run: on common samples, by patients, in plain words."""

import dataclasses

import pytest

from xbench import api
from xbench.cli import main
from xbench.comparison import compare
from xbench.errors import XbenchError
from xbench.paired import holm
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared") / "run"


@pytest.fixture
def run(folder):
    """A run of three explainers on two classifiers, computed once."""
    return api.run(
        "blobs",
        out=folder,
        executor="inline",
        device="cpu",
        seed="0,1,2",
        limit=60,
        model="fake/learnt,fake/learnt[epochs=1]",
        explainer="controls/oracle,fake/noise,fake/half",
    )


def test_truth_is_better_than_noise_and_the_difference_is_that_of_the_tables(run, folder):
    found = compare([Store(folder)], "controls/oracle", "fake/noise")
    rows = {(row.model, row.explainer, row.metric): row for row in run.rows}
    assert {one.place for one in found} == {"fake/learnt", "fake/learnt[epochs=1]"}
    for one in found:
        mine, yours = (rows[one.place, name, one.metric] for name in ("controls/oracle", "fake/noise"))
        assert one.difference.mean == pytest.approx(mine.mean - yours.mean)
        assert (one.mean_a, one.mean_b) == (pytest.approx(mine.mean), pytest.approx(yours.mean))
        assert one.low <= one.difference.mean <= one.high
    best = next(one for one in found if one.metric == "localisation_precision")
    assert best.winner == "A"
    assert "controls/oracle is better than fake/noise: difference +" in best.sentence("controls/oracle", "fake/noise")
    assert [one.p_holm for one in found] == holm([one.difference.p for one in found])


def test_the_order_of_the_two_changes_nothing_but_signs(run, folder):
    one, other = (
        compare([Store(folder)], *names) for names in (("fake/half", "fake/noise"), ("fake/noise", "fake/half"))
    )
    for here, there in zip(one, other, strict=True):
        assert here.difference.mean == -there.difference.mean
        assert here.difference.p == there.difference.p
        assert (here.low, here.high) == pytest.approx((-there.high, -there.low))
        assert {here.winner, there.winner} in ({None}, {"A", "B"})


def test_classifiers_are_compared_by_themselves_and_by_each_explainer_with_a_test_over_seeds(run, folder):
    found = compare([Store(folder)], "fake/learnt", "fake/learnt[epochs=1]")
    assert {one.place for one in found} == {None, "controls/oracle", "fake/noise", "fake/half"}
    accuracy = next(one for one in found if one.place is None)
    assert accuracy.metric == "accuracy"
    assert all(one.difference.p_seeds is not None and one.difference.seeds == 3 for one in found)


def test_what_cannot_be_told_apart_says_how_many_images_it_would_take(run, folder):
    same = compare([Store(folder)], "fake/noise", "fake/noise", ["localisation_precision"])[0]
    assert same.winner is None
    assert "46 groups of images cannot separate a and b" in same.sentence("a", "b")
    assert "would" not in same.sentence("a", "b")
    near = dataclasses.replace(same, difference=dataclasses.replace(same.difference, mean=0.01, effect=0.1, seeds=1))
    assert near.sentence("a", "b").endswith("if the difference is what was seen, about 950 would")


def test_seeds_that_disagree_or_an_interval_over_nought_make_no_winner(run, folder):
    sure = compare([Store(folder)], "controls/oracle", "fake/noise", ["localisation_precision"])[0]
    assert sure.winner == "A"
    assert "and behind on 0%" in sure.sentence("a", "b")
    torn = dataclasses.replace(sure, difference=dataclasses.replace(sure.difference, p_seeds=0.52))
    wide = dataclasses.replace(sure, low=-0.3)
    for each in (torn, wide):
        assert each.winner is None
        assert "3 seeds cannot separate" in each.sentence("a", "b")


def test_scores_that_only_one_has_are_left_out_and_coverage_is_told(run, folder):
    half = compare([Store(folder)], "controls/oracle", "fake/half", ["localisation_precision"])[0]
    assert half.n_b < half.n == half.n_a
    assert half.difference.n < 60
    assert f"values: {half.n_a} and {half.n_b} of {half.n}, compared where both have one" in half.sentence("a", "b")


def test_a_name_that_is_not_there_is_one_line(run, folder):
    with pytest.raises(XbenchError, match=r"'fake/noice' is not in the records; did you mean 'fake/noise'\?"):
        compare([Store(folder)], "controls/oracle", "fake/noice")
    with pytest.raises(XbenchError, match="an explainer and a classifier"):
        compare([Store(folder)], "controls/oracle", "fake/learnt")
    with pytest.raises(XbenchError, match=r"'deletoin' was not measured; did you mean 'deletion'\?"):
        compare([Store(folder)], "controls/oracle", "fake/noise", ["deletoin"])


def test_the_command_prints_a_sentence_a_score(run, folder, capsys):
    assert main(["compare", str(folder), "controls/oracle", "fake/noise", "--metric", "localisation_precision"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("blobs v1")
    assert lines[1].startswith("  localisation_precision: 1.000 and 0.")
    assert "better than" in lines[2]
    assert main(["compare", str(folder / "nowhere"), "a", "b"]) == 2


def test_of_two_runs_each_holds_one(tmp_path, capsys):
    for name in ("controls/oracle", "fake/noise"):
        api.run("blobs", out=tmp_path / name, executor="inline", device="cpu", limit=20, explainer=name)
    folders = [str(tmp_path / name) for name in ("controls/oracle", "fake/noise")]
    assert main(["compare", *folders, "controls/oracle", "fake/noise", "--metric", "localisation_precision"]) == 0
    assert "controls/oracle is better" in capsys.readouterr().out
