"""What people look at beside the tables: pictures of a run's maps, and what its classifiers and translators did, counted."""

from collections.abc import Sequence
from pathlib import Path

from xbench.report.confusion import confusions, write_confusions
from xbench.report.results import Result
from xbench.report.translations import translation_lines, write_translations
from xbench.store import Store


def write_counts(results: Sequence[Result], folder: Path) -> tuple[list[Path], list[str]]:
    """Write confusion matrices and flip tables; return their paths, and their lines for a terminal, controls left out."""
    matrices = list(confusions(results))
    flips = list(translation_lines(results))
    told = [lines for result, lines in flips if not result.control]
    made = [
        write_confusions(matrices, folder / "confusion.csv"),
        write_translations([lines for _, lines in flips] if told else [], folder / "translations.txt"),
    ]
    lines = [line for part in [*(matrix.lines() for matrix in matrices), *told] for line in part]
    return [path for path in made if path], lines


def draw_pictures(store: Store, results: Sequence[Result], folder: Path, primary: str = "") -> list[Path]:
    """Draw every picture that a run has the maps for; return their paths. Those of an earlier run do not stay behind."""
    from xbench.report.contact_sheet import draw_sheets
    from xbench.report.epochs import draw_epochs, read_series

    epochs = draw_epochs(read_series(store, results, primary), folder / "epochs.png")
    made = [*draw_sheets(store, results, folder), *([epochs] if epochs else [])]
    for old in {*folder.glob("contact_sheet*.png"), *folder.glob("epochs.png")} - set(made):
        old.unlink()
    return made
