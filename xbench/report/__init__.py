"""What people look at: pictures of a run's maps."""

from pathlib import Path

from xbench.plan import Plan
from xbench.store import Store


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
