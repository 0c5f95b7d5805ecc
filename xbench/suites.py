"""The suites that ship with xbench, through the same hook as a stranger's."""

from pathlib import Path

from xbench.hookspecs import hookimpl


@hookimpl
def xbench_suites() -> list[Path]:
    """Return the suite files: inside the wheel, or beside the package in a checkout."""
    here = Path(__file__).parent
    folder = here / "_suites"
    if not folder.is_dir():
        folder = here.parent / "suites"
    return sorted(folder.glob("*.yaml"))
