"""Mean ranks: Friedman's test errs as often as it says, Nemenyi's groups are the maximal ones, a patient counts once."""

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare, rankdata

from xbench import api
from xbench.cli import main
from xbench.errors import XbenchError
from xbench.friedman import Ranking, _ranking, alike, critical_difference, friedman, letters, quantile, ranks
from xbench.leaderboard import Measured, Row
from xbench.manifest import run_folder
from xbench.report.critical import bars_of, critical_figure, draw_critical, names_of
from xbench.stats import Bootstrap
from xbench.store import Store


def random_values(seed, k=5, n=12, tied=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (k, n)).astype(float) if tied else rng.normal(size=(k, n))


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_the_chi_square_is_scipys_and_ranks_are_of_better_values_first(tied):
    for seed in range(5):
        values = random_values(seed, tied=tied)
        found, theirs = friedman(values), friedmanchisquare(*values)
        assert found.chi_square == pytest.approx(theirs.statistic)
        assert found.p_chi_square == pytest.approx(theirs.pvalue)
        by_block = [rankdata([-value for value in block]) for block in values.T]
        assert found.mean_ranks == pytest.approx(np.mean(by_block, axis=0))
    assert friedman(np.array([[3.0, 9.0], [1.0, 2.0], [2.0, 2.0]])).mean_ranks.tolist() == [1.0, 2.75, 2.25]


def test_the_p_value_is_that_of_a_two_way_analysis_of_variance_of_the_ranks():
    values = random_values(3, tied=True)
    table = np.stack([rankdata(block) for block in -values.T], axis=1)
    k, n = table.shape
    fitted = table.mean(axis=1, keepdims=True) + table.mean(axis=0) - table.mean()
    between = n * ((table.mean(axis=1) - table.mean()) ** 2).sum() / (k - 1)
    within = ((table - fitted) ** 2).sum() / ((k - 1) * (n - 1))
    found = friedman(values)
    assert found.f == pytest.approx(between / within)
    assert found.p == pytest.approx(f.sf(between / within, k - 1, (k - 1) * (n - 1)))


def test_full_agreement_and_full_ties_are_the_ends():
    agreed = friedman(np.arange(4.0)[:, None] + np.zeros(6))
    assert (agreed.p, agreed.f, agreed.mean_ranks.tolist()) == (0.0, math.inf, [4, 3, 2, 1])
    tied = friedman(np.zeros((4, 6)))
    assert (tied.p, tied.chi_square, tied.groups) == (1.0, 0.0, ((0, 1, 2, 3),))


def test_quantiles_are_those_that_demsar_published():
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    assert [quantile(k) for k in range(2, 11)] == pytest.approx(published, abs=0.0011)  # his last digits are rounded
    # His example: four classifiers on 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_a_monotone_transform_of_a_block_changes_nothing_and_a_permutation_permutes():
    values = random_values(7)
    found = friedman(values)
    stretched = np.stack([np.exp(block * (i + 1)) - i for i, block in enumerate(values.T)], axis=1)
    again = friedman(stretched)
    assert (again.p, again.groups) == (found.p, found.groups)
    assert again.mean_ranks.tolist() == found.mean_ranks.tolist()
    order = np.array([3, 0, 4, 1, 2])
    moved = friedman(values[order])
    assert moved.mean_ranks.tolist() == found.mean_ranks[order].tolist()
    assert moved.p == found.p
    assert {frozenset(order[list(group)].tolist()) for group in moved.groups} == set(map(frozenset, found.groups))


def test_equals_are_told_apart_in_at_most_six_percent():
    rng = np.random.default_rng(1)
    for k, n in ((3, 20), (8, 5), (10, 40)):
        made = [friedman(rng.normal(size=n) + rng.normal(size=(k, n))) for _ in range(1000)]
        assert 0.03 <= np.mean([one.p <= 0.05 for one in made]) <= 0.06
        # Nor does Nemenyi's difference part any pair more often.
        parted = [np.ptp(one.mean_ranks) >= one.critical for one in made]
        assert np.mean(parted) <= 0.06


def test_groups_are_the_maximal_sets_of_which_no_two_are_apart():
    rng = np.random.default_rng(2)
    for k in (2, 5, 8):
        for critical in (0.3, 1.0, 2.5, 9.0):
            mean_ranks = np.round(rng.uniform(1, k, k), 1)
            near = [
                set(some)
                for size in range(2, k + 1)
                for some in itertools.combinations(range(k), size)
                if np.ptp(mean_ranks[list(some)]) < critical
            ]
            wanted = {frozenset(some) for some in near if not any(some < other for other in near)}
            found = alike(mean_ranks, critical)
            assert len(found) == len(wanted)
            assert {frozenset(group) for group in found} == wanted
            assert all(list(mean_ranks[list(group)]) == sorted(mean_ranks[list(group)]) for group in found)
    assert alike(np.array([1.0, 2.0]), 1.0) == ()


def test_what_the_test_does_not_tell_apart_is_one_group():
    # Two of twenty are a little apart: further than the critical difference, while the test sees nothing.
    gain = np.array([0.9, *[0.0] * 18, -0.9])
    found = friedman(gain[:, None] + np.random.default_rng(1).normal(size=(20, 8)))
    assert found.p > 0.05
    assert np.ptp(found.mean_ranks) > found.critical
    assert [sorted(group) for group in found.groups] == [list(range(20))]
    assert letters(found) == ["a"] * 20


def test_letters_are_shared_by_those_alike():
    found = friedman(np.arange(5.0)[:, None] + np.random.default_rng(0).normal(0, 1.0, (5, 30)))
    written = letters(found)
    for i, j in itertools.combinations(range(5), 2):
        apart = abs(found.mean_ranks[i] - found.mean_ranks[j]) >= found.critical
        assert bool(set(written[i]) & set(written[j])) is not apart


def test_a_missing_value_or_a_single_block_is_refused():
    with pytest.raises(ValueError, match="a value is missing"):
        friedman(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="3 explainers and 1 blocks"):
        friedman(np.zeros((3, 1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranked") / "run"


@pytest.fixture
def run(fakes, folder):
    """A run over two seeds, computed once; `fake/half` has no answer for some samples."""
    explainers = "fake/weights,fake/noise,fake/half,controls/oracle,controls/random"
    return api.run("blobs", out=folder, executor="inline", device="cpu", seed="0,1", limit=60, explainer=explainers)


def scores(folder, name):
    """A score's values [seeds, n] of each explainer, and the samples' groups, as the records hold them."""
    store, values = Store(folder), {}
    for key in run_folder(folder)[0]:
        record = store.read(key)
        if record.definition["explainer"]:
            values.setdefault(record.definition["explainer"]["text"], []).append(record.arrays[f"score/{name}"])
            groups = np.asarray(store.samples(record.definition["samples"])["groups"])
    return {explainer: np.stack(rows) for explainer, rows in values.items()}, groups


@pytest.mark.parametrize(("metric", "sign"), [("localisation_precision", 1), ("deletion", -1)])
def test_a_group_enters_once_with_the_mean_of_what_all_have(run, folder, metric, sign):
    (found,), _ = ranks([Store(folder)], metric)
    values, groups = scores(folder, metric)
    table = np.stack([values[name] for name in found.names])
    whole = ~np.isnan(table).any(axis=0)
    blocks, left_out = [], 0
    for group in np.unique(groups):
        chosen = whole & (groups == group)
        if chosen.any():
            blocks.append(sign * table[:, chosen].mean(axis=1))
        else:
            left_out += 1
    wanted = friedman(np.stack(blocks, axis=1))
    assert found.test.mean_ranks.tolist() == wanted.mean_ranks.tolist() == sorted(wanted.mean_ranks)
    assert found.test.n == len(blocks)
    assert found.n_blocks - found.test.n == left_out > 0
    assert found.lacking.keys() == {"fake/half"}
    assert (found.n_values, found.n_samples) == (whole.sum(), 120)
    assert dict(zip(found.names, found.controls, strict=True)) == {
        name: name.startswith("controls/") for name in values
    }
    assert any(f"left out: {left_out} of {found.n_blocks} groups of images" in line for line in found.sentences())


def test_the_primary_score_ranks_and_a_wrong_name_is_one_line(run, folder):
    assert [one.metric for one in ranks([Store(folder)], primary="deletion")[0]] == ["deletion"]
    with pytest.raises(XbenchError, match=r"'deletoin' orders no explainers here; did you mean 'deletion'\?"):
        ranks([Store(folder)], "deletoin")
    with pytest.raises(XbenchError, match="'accuracy' orders no explainers here"):
        ranks([Store(folder)], "accuracy")
    cells = {key: Store(folder).read(key).definition["explainer"] for key in run_folder(folder)[0]}
    two = [key for key, explainer in cells.items() if explainer and "controls/" in explainer["text"]]
    with pytest.raises(
        XbenchError, match=r"no ranks for blobs.+2 explainers have values of 'deletion' .+; a ranking needs 3"
    ):
        ranks([Store(folder)], "deletion", two)


def test_the_command_prints_the_order_the_groups_and_the_critical_difference(run, folder, tmp_path, capsys):
    assert main(["ranks", str(folder), "--to", str(tmp_path / "ranks.svg")]) == 0
    printed = capsys.readouterr().out
    (found,), _ = ranks([Store(folder)], "localisation_precision")
    places = [printed.index(f"{rank:.2f}") for rank in found.test.mean_ranks]
    assert places == sorted(places)
    assert all(f"{name} †" in printed for name, control in zip(found.names, found.controls, strict=True) if control)
    assert f"mean ranks nearer than {found.test.critical:.2g} cannot be told apart" in printed
    assert (tmp_path / "ranks.svg").read_text().count("<svg") == 1
    api.run("blobs", out=tmp_path / "few", executor="inline", device="cpu", limit=30, explainer="fake/noise")
    capsys.readouterr()
    assert main(["ranks", str(folder), str(tmp_path / "few")]) == 0
    both = capsys.readouterr().out
    assert "explainers over 31 groups of images" in both
    assert "no ranks for blobs v1, fake/blobs, quick, 30 samples" in both
    assert main(["ranks", str(folder), "--to", str(tmp_path / "ranks.gif")]) == 2
    assert ".svg, .pdf, .png" in capsys.readouterr().err


def drawn(k, n=60, spread=0.4, name="package/explainer_{}"):
    """A ranking of simulated explainers, each a little better than the next."""
    values = -spread * np.arange(k)[:, None] + np.random.default_rng(k).normal(size=(k, n))
    test = friedman(values[np.argsort(friedman(values).mean_ranks)])
    names = tuple(name.format(i) for i in range(k))
    controls = tuple(i % 4 == 3 for i in range(k))
    return Ranking("suite v1", "model", "score", True, names, controls, test, "images", n, 0, {}, n, n, ())


@pytest.mark.parametrize("k", [3, 4, 12, 25])
def test_in_the_diagram_no_two_texts_overlap_and_none_is_cut_off(k):
    figure = critical_figure([drawn(k), drawn(k, spread=0.0, name="long" * 12 + "[of={}]")])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    texts = [text for axes in figure.axes for text in axes.texts]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert sum("explainer_" in text.get_text() for text in texts) == k
    for box in boxes:
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for (i, one), (j, other) in itertools.combinations(enumerate(boxes), 2):
        assert not one.overlaps(other), (texts[i].get_text(), texts[j].get_text())


@pytest.mark.parametrize("k", [3, 4, 12, 25])
def test_leader_lines_of_one_side_never_cross_and_bars_on_one_line_never_touch(k):
    ranking = drawn(k)
    names = names_of(ranking)
    for one, other in itertools.permutations(names, 2):
        if one.left is other.left and one.rank != other.rank:
            # The line of one runs outwards below the axis at its level; the other falls through it only if it goes deeper.
            outward = other.rank < one.rank if one.left else other.rank > one.rank
            assert not (outward and other.line >= one.line)
    assert max(name.rank for name in names if name.left) <= min(name.rank for name in names if not name.left)
    bars = bars_of(ranking)
    assert len(bars) == len(ranking.test.groups)
    for (start, stop, line), (after, until, other) in itertools.combinations(bars, 2):
        assert line != other or stop < after or until < start


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_ranking_gives_the_same_bytes_whatever_matplotlibrc_says(tmp_path, kind):
    import matplotlib

    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    draw_critical([drawn(6)], paths[0])
    with matplotlib.rc_context({"font.size": 20, "lines.linestyle": ":", "savefig.bbox": "tight", "svg.hashsalt": "x"}):
        draw_critical([drawn(6)], paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_names_are_drawn_as_they_are_written(tmp_path):
    hostile = "p/$x_{{{}}}^$[a=50%,b=<i>&amp;\\frac]"
    ranking = drawn(5, name=hostile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("svg", "pdf", "png"):
            draw_critical([ranking], tmp_path / f"ranks.{kind}")
    figure = critical_figure([ranking])
    assert {text.get_text().removesuffix(" †") for text in figure.axes[0].texts} >= set(ranking.names)
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)


def test_a_ranking_that_tells_nobody_apart_says_so():
    ranking = drawn(5, n=8, spread=0.0)
    assert ranking.test.p > 0.05
    assert "8 images cannot tell these explainers apart" in ranking.sentences()
    torn = dataclasses.replace(ranking, test=dataclasses.replace(ranking.test, p=0.04))
    assert any("no two are as far apart" in line for line in torn.sentences())


def column(name, values):
    """A column of a table, every sample a patient."""
    facts = dict.fromkeys(("suite", "data", "protocol", "model", "family", "status"), "")
    numbers = {"mean": 0.0, "low": 0.0, "high": 0.0, "chance": None, "rank": None, "seconds_per_image": None}
    n = len(values)
    row = Row(**facts, **numbers, explainer=name, metric="m", n_scored=n, n=n, higher_is_better=True)
    groups = tuple(map(str, range(n)))
    return Measured(row, Bootstrap(groups, resamples=10).estimate([values]), "one contest")


def test_blocks_on_which_all_tie_tell_nothing():
    values = np.zeros((3, 100))
    for informative in (4, 5):
        values[0, :informative] = 1
        found = _ranking("board", [column(f"e/{place}", row) for place, row in enumerate(values)])
        if informative < 5:
            assert found == "4 of 100 patients, specimens or images have explainers that differ; a test needs 5"
        else:
            assert found.names[0] == "e/0"


def test_means_that_differ_by_rounding_are_equal():
    values = np.array([[0.1 + 0.2 + 0.3, 1, 2], [0.3 + 0.2 + 0.1, 1, 2], [0.5, 0, 0]])
    assert values[0, 0] != values[1, 0]
    assert friedman(values).mean_ranks.tolist() == [1.5, 1.5, 3.0]


def test_only_those_asked_for_are_ranked(run, folder, capsys):
    assert main(["ranks", str(folder), "--explainer", "controls/*,fake/noise"]) == 0
    out = capsys.readouterr().out
    assert "controls/oracle" in out
    assert "fake/noise" in out
    assert "fake/half" not in out
    assert main(["ranks", str(folder), "--explainer", "nobody/*"]) == 2
