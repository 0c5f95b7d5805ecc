"""Records of earlier schemas still load: the numbers of that day, in the tables and reports of today."""

import json
import re
import shutil
from pathlib import Path

import pytest

from xbench.cli import main
from xbench.leaderboard import read_boards
from xbench.manifest import run_folder
from xbench.results import Run
from xbench.store import Store

OLD = sorted(path for path in (Path(__file__).parent / "records").iterdir() if path.is_dir())


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request, tmp_path):
    shutil.copytree(request.param, tmp_path / "old")
    return tmp_path / "old"


def test_there_is_a_run_of_every_schema_before_this_one():
    from xbench.fit_tasks import CONTENT_SCHEMA

    schemas = [json.loads(next(path.rglob("cell.json")).read_text())["schema"] for path in OLD]
    assert schemas == list(range(1, CONTENT_SCHEMA))


def test_every_file_is_what_its_hash_says(old):
    store = Store(old)
    assert store.check() == []
    assert len(list(store)) == 3


def test_the_numbers_are_those_of_the_day(old):
    keys, primary, _ = run_folder(old)
    (board,) = read_boards([Store(old)], keys)
    table = (old / "leaderboard" / "table.md").read_text()
    shown = [row for row in board.rows if row.explainer and row.metric == primary]
    assert len(shown) == 2
    for row in shown:
        (line,) = re.findall(rf"^\| (\d+) \| {row.explainer}.*$", table, re.MULTILINE)[:1]
        assert int(line) == row.rank
        assert f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" in table


@pytest.mark.parametrize("verb", ["status", "leaderboard", "report", "export"])
def test_every_verb_reads_them(old, verb):
    assert main([verb, str(old)]) == 0


@pytest.mark.parametrize("form", ["latex", "markdown", "csv"])
def test_paper_output_of_them(old, form):
    assert main(["report", str(old), f"format={form}"]) == 0


def test_compare_and_verify_say_what_they_can(old, capsys):
    assert main(["compare", str(old), "cam/gradcam", "controls/random"]) == 0
    assert main(["verify", str(old)]) == 2
    assert "run it again" in capsys.readouterr().err


def test_python_opens_them(old):
    run = Run.load(old)
    assert len(run.scores()) == 2 * 24 * 2 + 546
    # The first schema did not write down which samples its pictures were of.
    schema = json.loads(next(old.rglob("cell.json")).read_text())["schema"]
    known = set() if schema == 1 else {"cam/gradcam", "controls/random"}
    assert {maps.explainer for maps in run.explanations()} == known
