"""The command line: mistakes answered at once and without torch; every verb on a small run."""

import csv
import io
import json
import subprocess
import sys
import textwrap

import pytest

from xbench.cli import main
from xbench.plugins import discover

pytestmark = pytest.mark.usefixtures("fakes")

RUN = ("run", "suite=blobs", "executor=inline", "device=cpu", "limit=20", "explainer=fake/weights,controls/random")


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(RUN) == 0
    capsys.readouterr()
    return tmp_path / "runs" / "blobs"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("list", "explainers"),
        ("list", "plugins"),
        ("show", "cam/gradcam"),
        ("show", "gradcam"),
        ("run", "siute=chestxray", "explainer=cam/gradcm", "limit=abc"),
        ("run", "suite=mnist", "model=mnist/s3", "seed=x"),
    ],
)
def test_help_lists_and_mistakes_do_not_import_torch(arguments):
    code = f"""
        import sys
        from xbench.cli import main
        try:
            main({arguments!r})
        except SystemExit:
            pass
        heavy = [name for name in ("torch", "pandas", "sklearn", "scipy", "matplotlib", "numpy") if name in sys.modules]
        sys.exit(f"imported {{heavy}}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_status_leaderboard_and_the_planner_do_not_import_torch(folder):
    code = f"""
        import sys
        from xbench.cli import main
        assert main(["status", {str(folder)!r}]) == 0
        assert main(["leaderboard", {str(folder)!r}]) == 0
        assert main([*{RUN!r}, "out=" + {str(folder)!r}]) == 0
        sys.exit("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing new to compute" in done.stdout


def test_all_mistakes_are_reported_at_once_each_with_its_hint(capsys):
    assert main(["run", "siute=chestxray", "explainer=cam/gradcm", "limit=abc"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "did you mean 'suite'?" in lines[0]
    assert "'abc' is not a whole number" in lines[1]
    assert "did you mean 'cam/gradcam'?" in lines[2]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("limit=0", "1 or more"),
        ("limit=2.5", "not a whole number"),
        ("budget=-1", "more than 0"),
        ("workers=automatic", "not a whole number, for example workers=2 or workers=auto"),
        ("workers=100000", "1024 or fewer"),
        ("threads=0", "1 or more"),
        ("silence=1", "2 seconds or more"),
        ("budget=nan", "not a finite number"),
        ("device=gpu", "auto, cpu, cuda or cuda:0"),
        ("seed=0,one", "not a whole number"),
        ("protocol=qiuck", "did you mean 'quick'?"),
        ("suite=blubs", "did you mean 'blobs'?"),
        ("data=fake/blob", "did you mean 'fake/blobs'?"),
        ("data.siez=9", "did you mean 'size'?"),
        ("data.size=big", "not a whole number (its default is 8)"),
        ("model=fake/linera", "did you mean 'fake/linear'?"),
        ("model=fake/linear@3", "keeps no checkpoints"),
        ("explainer=fake/*x", "matches nothing"),
        ("explainer=cam/gradcam[scroe=prob]", "did you mean 'score'?"),
        ("explainer=cam/gradcam[score=probe]", "did you mean 'prob'?"),
        ("explainer=cam/gradcam[score", "not written like"),
        ("model=fake/again", "say what it wraps, for example fake/again[of=anole/slim]"),
        ("explainer=fake/halved", "say what it wraps"),
        ("explainer=fake/halved[of=fake/weight]", "did you mean 'fake/weights'?"),
        ("metric=delteion", "did you mean 'deletion'?"),
        ("metric=deletion[fill=blrr]", "did you mean 'blur'?"),
        ("executor=locale", "did you mean 'local'?"),
        ("verbose", "not written key=value"),
        ("colour=red", "the keys are suite"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(setting, expected, capsys):
    base = [] if setting.startswith("suite=") else ["suite=blobs"]
    assert main(["run", *base, setting]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_key_given_twice_is_refused(capsys):
    assert main(["run", "suite=blobs", "limit=3", "limit=4"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_without_a_suite_one_line_says_so(capsys):
    assert main(["run"]) == 2
    assert "no suite is given" in capsys.readouterr().err


def test_run_prints_a_ranked_table_and_where_it_lies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(RUN) == 0
    text = capsys.readouterr().out
    assert "fake/weights" in text
    assert "controls/random †" in text
    assert "runs/blobs/leaderboard" in text
    names = {path.name for path in (tmp_path / "runs/blobs/leaderboard").iterdir()}
    assert names == {"table.csv", "table.md", "table.json", "confusion.csv", "contact_sheet.png"}


def test_quiet_prints_where_the_tables_and_the_report_lie_and_no_more(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, "-q"]) == 0
    out = capsys.readouterr()
    tables, report = out.out.splitlines()
    assert "runs/blobs/leaderboard" in tables
    assert report == "report: runs/blobs/report/index.html"
    assert out.err == ""


def test_a_failing_cell_makes_the_exit_code_one_and_names_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "suite=blobs", "executor=inline", "device=cpu", "limit=20", "explainer=fake/raises"]) == 1
    assert "fake/raises on fake/linear (seed 0): error: ValueError: no idea" in capsys.readouterr().err


def test_status_counts_cells(folder, capsys):
    assert main(["status", str(folder)]) == 0
    assert "3 ok" in capsys.readouterr().out


def test_status_of_no_run_is_one_line(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_leaderboard_writes_the_run_s_own_tables_again(folder, tmp_path, capsys):
    assert main(["leaderboard", str(folder), "--write", str(tmp_path / "view")]) == 0
    for name in ("table.csv", "table.md", "table.json"):
        assert (tmp_path / "view" / name).read_bytes() == (folder / "leaderboard" / name).read_bytes()


def test_csv_and_json_tables_hold_the_same_rows(folder):
    rows = json.loads((folder / "leaderboard/table.json").read_text())
    lines = list(csv.DictReader(io.StringIO((folder / "leaderboard/table.csv").read_text())))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line


def test_export_averages_to_the_table(folder, tmp_path):
    assert main(["export", str(folder), "--to", str(tmp_path / "scores.csv")]) == 0
    lines = list(csv.DictReader((tmp_path / "scores.csv").open()))
    rows = json.loads((folder / "leaderboard/table.json").read_text())
    row = next(r for r in rows if (r["explainer"], r["metric"]) == ("fake/weights", "deletion"))
    values = [float(x["value"]) for x in lines if (x["explainer"], x["metric"]) == ("fake/weights", "deletion")]
    assert len(values) == row["n_scored"] == 20
    assert sum(values) / len(values) == pytest.approx(row["mean"])


@pytest.mark.parametrize("kind", ["explainers", "models", "datasets", "metrics", "suites", "executors", "plugins"])
def test_every_kind_can_be_listed(kind, capsys):
    assert main(["list", kind]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_metrics_are_listed_score_by_score_with_what_is_needed_to_read_them(capsys):
    assert main(["list", "metrics", "relevance_mass"]) == 0
    assert "relevance_mass  localisation  relevance_mass  more    0..1   by sample" in capsys.readouterr().out
    assert main(["list", "metrics"]) == 0
    specs = discover().of_kind("metric").values()
    text = capsys.readouterr().out
    assert all(score.name in text for spec in specs for score in spec.scores)
    assert "fill*=mean, steps=28" in text
    assert text.splitlines()[-1].startswith("* the order of explainers depends on it")
    assert main(["list", "metrics", "cout"]) == 0
    assert "*" not in capsys.readouterr().out
    assert len({spec.family for spec in specs} - {"fake"}) >= 9
    assert len([spec for spec in specs if spec.family != "fake"]) >= 40


def test_list_takes_a_pattern(capsys):
    assert main(["list", "explainers", "fake/w*"]) == 0
    text = capsys.readouterr().out
    assert "fake/weights" in text
    assert "fake/noise" not in text
    assert main(["list", "explainers", "nothing*"]) == 2


def test_list_alone_says_how_much_there_is_and_which_verb_tells_more(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for kind in ("explainers", "models", "datasets", "metrics", "suites", "executors", "plugins"):
        assert f"xbench list {kind}" in shown


def test_list_takes_the_singular_and_an_id_s_last_part(capsys):
    assert main(["list", "dataset", "folder"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{package}/folder" in shown for package in ("anole", "food", "photos"))
    assert main(["list", "explainers", "gradcm"]) == 2
    assert "did you mean 'cam/gradcam'" in capsys.readouterr().err
