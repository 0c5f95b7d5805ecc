"""What a leaderboard's folder shows: tables and a page, made from its accepted records and nothing else."""

from collections import Counter
from pathlib import Path

from xbench.evidence import suites
from xbench.leaderboard import Board, read_boards
from xbench.report.html import leaderboard_page
from xbench.tables import table_files

_NOTES = (
    "Made from the records beside it: xbench leaderboard DIR --write. Rows of other data, samples, protocols or versions "
    "never meet. Any record can be computed again: xbench verify records/SUITE/FILE.json",
)


def accepted_boards(folder: Path) -> list[tuple[str, list[Board], str]]:
    """Return (suite, its boards, its primary metric) for every suite with accepted records.

    Raises XbenchError, naming the file, where a record was changed.
    """
    found = []
    for evidence in suites(folder):
        boards = read_boards([evidence])
        primaries = Counter(str(evidence.content(key)["run"].get("primary", "")) for key in evidence)
        primary = max(primaries, key=lambda name: (primaries[name], name))
        found.append((evidence.root.name, boards, primary))
    return found


def leaderboard_files(folder: Path) -> dict[Path, bytes]:
    """Return all that the records of a leaderboard make, by path: the same bytes from the same records."""
    made: dict[Path, bytes] = {}
    found = accepted_boards(folder)
    for suite, boards, primary in found:
        made |= {folder / suite / name: text.encode() for name, text in table_files(boards, primary).items()}
    everything = [board for _, boards, _ in found for board in boards]
    page = leaderboard_page(everything, "Leaderboard", _NOTES, {suite: primary for suite, _, primary in found})
    return {**made, folder / "index.html": page.encode()}


def differing(folder: Path) -> list[Path]:
    """Return the files that are not what the records make: changed by hand, older than a record, or of no record."""

    def content(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None

    made = leaderboard_files(folder)
    stray = [path for path in sorted(folder.glob("*/table.*")) if path not in made]
    return [path for path, wanted in made.items() if content(path) != wanted] + stray
