"""The report is one file that asks for nothing, shows what the records hold and nothing else, and takes names for text."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from xbench import api
from xbench.cli import main
from xbench.errors import CannotWrite, XbenchError
from xbench.leaderboard import read_boards
from xbench.manifest import run_folder, write_manifest
from xbench.report import facts
from xbench.report.charts import _linear, curve_charts, paretos
from xbench.report.confusion import confusions
from xbench.report.epochs import read_every_series
from xbench.report.gallery import BUDGET, galleries
from xbench.report.html import _short_names, leaderboard_page, write_report
from xbench.report.pictures import Quality, diverging, outline
from xbench.report.ranking import Section, duration, sections, signed
from xbench.report.results import Result, read_results
from xbench.report.translations import CAVEAT, by_another, translated
from xbench.store import Record, Store, gallery_key
from xbench.trust import Trust

pytestmark = pytest.mark.usefixtures("fakes")

HISTORY = Path(__file__).parent / "records"
PLAIN = {"executor": "inline", "device": "cpu", "limit": 40}


class Page(HTMLParser):
    """Tags, their attributes and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag in ("script", "style"):
            self.inside.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.open.append("")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.inside[-1][2] += data
        else:
            self.words.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return "".join(self.words)

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def shown(folder, **options):
    return Page(write_report(folder, **options).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBENCH_CACHE", str(folder / "cache"))
        patch.syspath_prepend(str(Path(__file__).parent / "fakes"))
        api.run(
            "blobs",
            model="fake/linear,fake/learnt@*",
            explainer="fake/weights,fake/noise,fake/half,fake/raises,controls/random,controls/oracle,"
            "controls/oracle_difference",
            metric="accuracy,localisation_precision,deletion,insertion,pointing_game,relevance_mass,validity,"
            "translation_flip_rate",
            out=folder / "whole",
            **PLAIN,
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "xbench_fake"]:
        del sys.modules[name]
    return folder / "whole"


def test_every_section_is_there_where_there_are_data(whole):
    page = shown(whole)
    assert {"ranking", "curves", "cost", "gallery", "epochs", "classes", "failures", "run", "spent"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "fake/raises" in page.text
    links = {attrs["href"][1:] for attrs in page.of("a") if attrs["href"].startswith("#")}
    assert links <= set(page.ids)


def test_no_section_is_there_without_data(tmp_path):
    api.run("blobs", explainer="fake/weights", metric="localisation_precision", out=tmp_path / "few", **PLAIN)
    page = shown(tmp_path / "few", costs=False)
    assert {"ranking", "gallery", "run"} <= set(page.ids)
    assert not {"curves", "cost", "epochs", "classes", "trust", "failures", "spent"} & set(page.ids)
    api.run("blobs", metric="accuracy", out=tmp_path / "own", **PLAIN)
    assert "classes" in shown(tmp_path / "own").ids


def test_the_table_shows_every_row_with_a_number_and_says_what_it_is_sorted_by(whole):
    run = json.loads((whole / "run.json").read_text())
    boards = read_boards([Store(whole)], run["cells"])
    page = shown(whole)
    printed = [float(attrs["data-v"]) for attrs in page.of("td") if attrs.get("class") == "num" and "data-v" in attrs]
    for row in (row for board in boards for row in board.rows if row.explainer and row.mean is not None):
        assert any(np.isclose(row.mean, value, rtol=1e-6) for value in printed), row
    for section in sections(boards, run["primary"]):
        for table in section.tables:
            ranks = [line.rank for line in table.lines if line.rank]
            assert ranks == sorted(ranks)
            for line in table.lines:
                assert line.tied == (line.rank is not None and ranks.count(line.rank) > 1)
                for cell in line.cells:
                    if cell.whisker:
                        assert 0 <= cell.whisker.low <= cell.whisker.high <= 100
                        assert 0 <= cell.whisker.mean <= 100


def test_the_page_asks_for_nothing_and_its_policy_names_exactly_its_own_style_and_script(whole):
    text = write_report(whole).read_text(encoding="utf-8")
    page = Page(text)
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            if attrs.get(name):
                assert attrs[name].startswith(("#", "data:")), (tag, attrs)
    assert "@import" not in text
    assert "url(" not in text
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    running = [(tag, body) for tag, attrs, body in page.inside if attrs.get("type") != "application/json"]
    assert [tag for tag, _ in running] == ["style", "script"]
    for _, body in running:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy


def test_hostile_names_stay_text(whole, tmp_path):
    import hostile

    api.run(
        "blobs",
        explainer="fake/weights,fake/noise,fake/half,fake/background,controls/*",
        out=tmp_path / "kind",
        **PLAIN,
    )
    folder = hostile.spoil(tmp_path / "kind", tmp_path / "spoilt")
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert hostile.SCRIPT in page.text
    assert hostile.IMAGE in page.text
    assert "{{7*7}}" in page.text
    running = [body for tag, attrs, body in page.inside if tag == "script" and attrs.get("type") != "application/json"]
    assert len(running) == 1
    assert "alert" not in running[0]
    assert all(attrs["src"].startswith("data:") for attrs in page.of("img"))
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    boards = read_boards([Store(folder)], json.loads((folder / "run.json").read_text())["cells"])
    other = Page(leaderboard_page(boards, hostile.END, [hostile.IMAGE]))
    assert hostile.SCRIPT in other.text
    assert len(other.of("script")) == 1
    assert other.of("img") == []


def test_the_same_command_twice_gives_the_same_bytes_but_for_costs(tmp_path):
    for name in ("one", "two"):
        api.run("blobs", explainer="fake/weights,fake/noise,controls/random", out=tmp_path / name, **PLAIN)
    one, two = (write_report(tmp_path / name, costs=False).read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"s/image" not in one
    assert b"time/image" not in one
    whole = write_report(tmp_path / "one").read_bytes()
    assert whole != one
    assert whole == write_report(tmp_path / "one").read_bytes()


def test_explainers_called_as_other_cells_are_stand_once(whole):
    run = json.loads((whole / "run.json").read_text())
    (board, *_) = read_boards([Store(whole)], run["cells"])
    names = {"fake/weights": "chance", "fake/noise": "fake/half †"}
    rows = [replace(row, explainer=names.get(row.explainer, row.explainer), chance=0.5) for row in board.rows]
    for section in sections([replace(board, rows=tuple(rows))], run["primary"]):
        for table in section.tables:
            shown_ = [line.explainer for line in table.lines]
            assert len(shown_) == len(set(shown_))
            assert set(shown_) <= {row.explainer for row in rows}


def test_why_no_truth_is_compared_with_is_said_as_it_is(monkeypatch):
    def told(found, truth, primary):
        if not truth:
            raise XbenchError("'iou' was measured of fewer than 4 explainers; no order to compare")
        return [Trust("b", "m", truth, [], [])]

    monkeypatch.setattr("xbench.report.facts.trust_of", told)
    (one,) = facts.agreements([], "deletion")
    assert (one.truth, one.reason) == ("", "'iou' was measured of fewer than 4 explainers")
    both = [Trust("b", "m", "iou", [], []), Trust("b", "other", "deletion", [], [])]
    monkeypatch.setattr("xbench.report.facts.trust_of", lambda found, truth, primary: both[bool(truth) :][:1])
    assert [(each.model, each.truth, bool(each.reason)) for each in facts.agreements([], "deletion")] == [
        ("m", "iou", False),
        ("other", "", True),
    ]


def unlabelled(results):
    """Return results of a run whose first half of samples has no label."""
    for one in results:
        labels = one.samples["labels"]
        yield replace(one, samples={**one.samples, "labels": [-1] * (len(labels) // 2) + labels[len(labels) // 2 :]})


def test_a_sample_without_a_label_is_no_class(whole):
    store, run = Store(whole), json.loads((whole / "run.json").read_text())
    results = list(unlabelled(read_results(store, run["cells"])))
    for one in confusions(results):
        assert one.counts.sum() == sum(label >= 0 for label in results[0].samples["labels"])
    for series in read_every_series(store, results, run["primary"]):
        assert set(series.classes) <= set(results[0].classes)
        assert len(series.classes) <= 2
    for result, table in translated(results):
        known = np.asarray(result.samples["labels"]) >= 0
        assert table.counts.sum() == (known & result.arrays["defined"].astype(bool)).sum()


def test_the_page_counts_translations_with_the_caveat_that_the_text_has(whole):
    page = shown(whole)
    assert CAVEAT in page.text
    store, run = Store(whole), json.loads((whole / "run.json").read_text())
    results = read_results(store, run["cells"])
    for result in results:
        if result.translates:
            n = result.definition["n"]
            arrays = {**result.arrays, "score/oracle_validity": np.ones(n)}
            (one,) = facts.translations([replace(result, record=replace(result.record, arrays=arrays))])
            assert str(by_another(replace(result, record=replace(result.record, arrays=arrays)))) in one.notes[1]
            break
    else:
        pytest.fail("nothing translates")


def test_of_many_classes_the_first_are_shown_and_told(whole, monkeypatch):
    monkeypatch.setattr("xbench.report.epochs.ROWS", 1)
    store, run = Store(whole), json.loads((whole / "run.json").read_text())
    (series, *_) = read_every_series(store, read_results(store, run["cells"]), run["primary"])
    assert len(series.classes) == 1
    assert "the first 1 classes of 2" in series.told


def test_links_to_boards_of_one_suite_say_which():
    found = [
        Section(board, model, [], []) for board, model in (("a, x", "m"), ("b, x", "m"), ("b, x", "n"), ("b, y", "n"))
    ]
    assert _short_names(found) == ["a", "b, m", "b, x, n", "b, y, n"]


def test_a_zero_has_no_sign():
    assert [signed(text) for text in ("-0.000", "0.000", "-0.001", "-10")] == ["0.000", "0.000", "-0.001", "-10"]


def test_what_is_sorted_by_has_the_digits_that_files_hold(whole):
    for attrs in shown(whole).of("td"):
        if "data-v" in attrs:
            assert len(attrs["data-v"].partition("e")[0].lstrip("-0.").replace(".", "")) <= 8


def test_what_was_timed_is_left_out_without_costs(whole):
    store = Store(whole)
    run = json.loads((whole / "run.json").read_text())
    spent = [store.read(key).cost for key in run["cells"]]
    page = shown(whole, costs=False)
    assert not {"cost", "spent"} & set(page.ids)
    for cost in spent:
        for device in cost["devices"]:
            assert device not in page.text


@pytest.mark.parametrize("folder", sorted(path.name for path in HISTORY.iterdir() if path.is_dir()))
def test_a_folder_of_an_earlier_version_gives_a_report(folder, tmp_path):
    shutil.copytree(HISTORY / folder, tmp_path / folder)
    page = shown(tmp_path / folder)
    assert {"ranking", "curves", "run"} <= set(page.ids)
    assert "cam/gradcam" in page.text


def test_a_manifest_that_says_only_what_it_must_gives_a_report(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    manifest = run_folder(folder)[2]
    write_manifest(folder, {name: manifest[name] for name in ("cells", "primary", "suite", "protocol")})
    assert "<dd>not told</dd>" in write_report(folder).read_text()


def test_a_report_needs_neither_the_plan_nor_plugins_nor_torch(whole):
    code = (
        "import sys; from pathlib import Path; from xbench.report.html import write_report;"
        f"write_report(Path({str(whole)!r}));"
        "sys.exit([name for name in sys.modules if name.split('.')[0] in ('torch', 'matplotlib', 'xbench_fake')] or 0)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def test_a_report_that_cannot_be_written_costs_no_number(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise CannotWrite("cannot write report/index.html: no space")

    monkeypatch.setattr("xbench.report.html.write_report", refuse)
    settings = [f"{key}={value}" for key, value in PLAIN.items()]
    assert main(["run", "suite=blobs", f"out={tmp_path / 'run'}", *settings]) == 2
    told = capsys.readouterr()
    assert "no space" in told.err
    assert "localisation" in told.out
    assert (tmp_path / "run/leaderboard/table.json").exists()


def test_the_last_line_of_a_run_names_the_report(tmp_path, capsys):
    settings = [f"{key}={value}" for key, value in PLAIN.items()]
    assert main(["run", "suite=blobs", f"out={tmp_path / 'run'}", *settings]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(str(tmp_path / "run/report/index.html"))
    assert (tmp_path / "run/report/index.html").exists()


def noisy(store, explainers, images, side):
    """Return results of explainers whose maps are noise, the hardest to pack there is."""
    rng = np.random.default_rng(0)
    rows = np.arange(images)
    store.write_gallery(
        gallery_key("s", rows.tolist()),
        {
            "image": rng.integers(0, 256, (images, 3, side, side), dtype=np.uint8),
            "mask": np.pad(np.ones((images, side // 2, side // 2), np.uint8), ((0, 0), (0, side // 2), (0, side // 2))),
        },
    )
    samples = {"ids": [f"sample {i}" for i in rows], "labels": [0] * images, "groups": list(map(str, rows))}
    maps = rng.uniform(-1, 1, (images, side, side)).astype(np.float16)
    arrays = {
        "gallery/row": rows,
        "gallery/probability": np.full((images, 2), 0.5, np.float32),
        "gallery/attribution": maps,
        "gallery/attribution_scale": np.ones(images, np.float32),
        "predicted": np.zeros(images, int),
    }
    found = []
    for name in range(explainers):
        definition = {
            "explainer": {"text": f"a/{name}", "control": False},
            "model": {"text": "m"},
            "seed": 0,
            "samples": "s",
            "data": {"text": "d"},
            "classes": ["x", "y"],
            "metrics": [],
            "n": images,
        }
        found.append(Result(Record(str(name), definition, "ok", "", arrays, 1, None, {}), samples))
    return found


@pytest.mark.parametrize(("explainers", "side"), [(24, 224), (4, 28)])
def test_32_images_of_noise_stay_within_the_budget_and_small_ones_keep_their_pixels(explainers, side, tmp_path):
    (drawn,) = galleries(Store(tmp_path), noisy(Store(tmp_path), explainers, 32, side), [])
    assert len(drawn.gallery.samples) == 32
    assert len(drawn.gallery.columns) == explainers
    assert sum(len(uri) for row in drawn.pictures for uri in row) + sum(map(len, drawn.photos)) <= BUDGET
    assert all(uri.startswith("data:image/png;base64,") for row in drawn.pictures for uri in row)
    assert drawn.side == 28 if side == 28 else drawn.side <= 64


def test_a_map_is_red_where_it_speaks_for_the_class_and_blue_where_against(tmp_path):
    import io

    from PIL import Image

    values = np.array([[1.0, -1.0], [0.0, 0.5]], np.float32)
    for levels in (15, 63):
        uri = diverging(values, Quality(64, levels))
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
        for_it, against, nothing = picture[0, 0], picture[0, 1], picture[1, 0]
        assert for_it[0] > for_it[2]
        assert against[2] > against[0]
        assert nothing.min() > 240
        assert picture[1, 1][0] > picture[1, 1][2]


def test_an_outline_goes_round_the_mask_once():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    steps = re.findall(r"M(\d+) (\d+)([hv])(\d+)", outline(mask))
    assert sorted(steps) == sorted(
        [("2", "1", "h", "3"), ("2", "3", "h", "3"), ("2", "1", "v", "2"), ("5", "1", "v", "2")]
    )
    assert outline(np.zeros((3, 3), bool)) == ""
    length = sum(int(step[3]) for step in re.findall(r"M(\d+) (\d+)([hv])(\d+)", outline(np.ones((4, 7), bool))))
    assert length == 2 * (4 + 7)


def test_on_the_front_is_who_is_not_beaten_in_cost_and_quality(whole):
    run = json.loads((whole / "run.json").read_text())
    boards = read_boards([Store(whole)], run["cells"])
    rows = [row for board in boards for row in board.rows]
    charts = paretos(rows, sections(boards, run["primary"]))
    assert charts
    for chart in charts:
        own = {
            row.explainer: row
            for row in rows
            if row.model == chart.model and row.metric == chart.metric and row.explainer and row.mean is not None
        }
        methods = [row for row in own.values() if not row.control]
        sign = 1 if methods[0].higher_is_better else -1
        for dot in chart.dots:
            row = own[dot.name]
            beaten = any(
                other.seconds_per_image <= row.seconds_per_image
                and sign * other.mean >= sign * row.mean
                and (other.seconds_per_image < row.seconds_per_image or other.mean != row.mean)
                for other in methods
            )
            assert dot.front == (not row.control and not beaten)


def test_every_classifier_has_its_curves_and_a_series_pools_its_epochs(whole):
    store, run = Store(whole), json.loads((whole / "run.json").read_text())
    charts = curve_charts(store, run["cells"], sections(read_boards([store], run["cells"]), run["primary"]))
    assert {(chart.model, chart.metric) for chart in charts} == {
        (model, metric) for model in ("fake/linear", "fake/learnt@*") for metric in ("deletion", "insertion")
    }
    linear, learnt = (next(one for one in charts if one.model == name) for name in ("fake/linear", "fake/learnt@*"))
    assert linear.n == "20 to 40"  # one explainer has an answer for half of the images
    assert int(learnt.n.split()[-1]) > 40
    for chart in charts:
        assert len(chart.curves) == len({curve.name for curve in chart.curves})


def test_where_there_are_only_controls_their_curves_are_shown(tmp_path):
    api.run("blobs", explainer="controls/random,controls/sobel", metric="deletion", out=tmp_path / "run", **PLAIN)
    store, run = Store(tmp_path / "run"), json.loads((tmp_path / "run/run.json").read_text())
    (chart,) = curve_charts(store, run["cells"], sections(read_boards([store], run["cells"]), run["primary"]))
    assert [curve.shown for curve in chart.curves] == [True, True]
    assert all(curve.control for curve in chart.curves)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1.02, 0.93), (0.6012, 0.6014), (-250, 3)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = _linear(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.14e-05, "21 µs"),
        (3e-7, "0.3 µs"),
        (0.00035, "350 µs"),
        (0.0104, "10 ms"),
        (0.999, "1 s"),
        (1, "1 s"),
        (75, "75 s"),
    ],
)
def test_a_time_has_two_digits_and_its_unit(seconds, text):
    assert duration(seconds) == text
