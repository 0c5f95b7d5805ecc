"""What a finished run says of itself: its cells, its primary metric, its command and versions, from ``run.json``."""

import json
from pathlib import Path

from xbench.errors import XbenchError
from xbench.store import Json


def run_folder(folder: Path) -> tuple[list[str], str, Json]:
    """Return the cells of the last run in a folder, its primary metric and its manifest.

    Raises XbenchError where the folder holds no run.
    """
    try:
        manifest = json.loads((folder / "run.json").read_text())
        return list(manifest["cells"]), str(manifest["primary"]), manifest
    except (OSError, ValueError, KeyError) as error:
        raise XbenchError(f"{folder} holds no run: {folder / 'run.json'} cannot be read ({error})") from error
