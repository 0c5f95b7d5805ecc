"""What people look at beside the tables: pictures of a run's maps, and what its classifiers and translators did, counted."""

from pathlib import Path

from xbench.plan import Plan
from xbench.report.confusion import confusions, write_confusions
from xbench.report.translations import translation_lines, write_translations
from xbench.store import Store


def write_counts(store: Store, plan: Plan, folder: Path) -> tuple[list[Path], list[str]]:
    """Write confusion matrices and flip tables; return their paths, and their lines for a terminal, controls left out."""
    matrices = list(confusions(store, plan))
    flips = list(translation_lines(store, plan))
    told = [lines for cell, lines in flips if not getattr(cell.explainer and cell.explainer.spec, "control", False)]
    made = [
        write_confusions(matrices, folder / "confusion.csv"),
        write_translations([lines for _, lines in flips] if told else [], folder / "translations.txt"),
    ]
    lines = [line for part in [*(matrix.lines() for matrix in matrices), *told] for line in part]
    return [path for path in made if path], lines


def draw_pictures(store: Store, plan: Plan, folder: Path) -> list[Path]:
    """Draw every picture that a run has the maps for; return their paths. Those of an earlier run do not stay behind."""
    # Matplotlib takes most of a second to import: only who draws pays.
    from xbench.report.contact_sheet import draw_sheets
    from xbench.report.epochs import draw_epochs

    epochs = draw_epochs(store, plan, folder / "epochs.png")
    made = [*draw_sheets(store, plan, folder), *([epochs] if epochs else [])]
    for old in {*folder.glob("contact_sheet*.png"), *folder.glob("epochs.png")} - set(made):
        old.unlink()
    return made
