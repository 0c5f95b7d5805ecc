"""Mean ranks from the records: a patient counts once, with what all have; the diagram is readable and always the same."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

from xbench import api
from xbench.cli import main
from xbench.errors import XbenchError
from xbench.friedman import friedman
from xbench.manifest import run_folder
from xbench.mean_ranks import Ranking, _ranking, ranks
from xbench.report.critical import bars_of, critical_figure, draw_critical, names_of
from xbench.rows import Measured, Row
from xbench.stats import Bootstrap
from xbench.store import Store


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


def test_only_those_asked_for_are_ranked(run, folder, capsys):
    assert main(["ranks", str(folder), "--explainer", "controls/*,fake/noise"]) == 0
    out = capsys.readouterr().out
    assert "controls/oracle" in out
    assert "fake/noise" in out
    assert "fake/half" not in out
    assert main(["ranks", str(folder), "--explainer", "nobody/*"]) == 2
