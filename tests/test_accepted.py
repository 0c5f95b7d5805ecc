"""The project's own leaderboard: tables and page are what the records make, byte for byte, and the records keep its rules."""

from pathlib import Path

import pytest

from xbench.evidence import suites
from xbench.plugins import discover
from xbench.report.accepted import differing, leaderboard_files

BOARD = Path(__file__).parent.parent / "leaderboard"


def test_tables_and_page_are_what_the_records_make():
    assert differing(BOARD) == []


def test_every_suite_with_embedded_data_has_its_records():
    assert {evidence.root.name for evidence in suites(BOARD)} == set(discover().suites) - {"photos"}


@pytest.mark.parametrize("evidence", suites(BOARD), ids=lambda evidence: evidence.root.name)
def test_every_record_is_of_clean_code_was_verified_and_names_no_folder(evidence):
    for key in evidence:
        content = evidence.content(key)
        assert content["run"]["verified"]["records"] > 0
        for origin in content["run"]["origins"].values():
            assert not origin["editable"]
            assert origin["commit"]
            assert not origin["dirty"]
        assert not any(text.startswith("data.root") for text in content["run"]["settings"])
        assert str(Path.home()) not in evidence.paths[key].read_text()


def test_nothing_else_lies_there():
    own = {path.relative_to(BOARD) for path in BOARD.rglob("*") if path.is_file() and "records" not in path.parts}
    assert own == {path.relative_to(BOARD) for path in leaderboard_files(BOARD)} | {Path("README.md")}
