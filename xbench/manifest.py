"""What a finished run says of itself: its cells, its primary metric, its command and versions, from ``run.json``."""

import json
import re
from pathlib import Path

from xbench.errors import XbenchError
from xbench.store import Json, are_texts


def run_folder(folder: Path) -> tuple[list[str], str, Json]:
    """Return the cells of the last run in a folder, its primary metric and its manifest.

    Raises XbenchError where the folder holds no run.
    """
    path = folder / "run.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise XbenchError(f"{folder} holds no run: {path} cannot be read ({' '.join(str(error).split())})") from error
    cells = manifest.get("cells") if isinstance(manifest, dict) else None
    settings = manifest.get("settings") if isinstance(manifest, dict) else None
    if not are_texts(cells) or not all(re.fullmatch("[0-9a-f]{64}", key) for key in cells):
        raise XbenchError(f"{folder} holds no run: {path} does not name its cells")
    if "primary" not in manifest or not (settings is None or are_texts(settings)):
        raise XbenchError(f"{folder} holds no run: {path} is damaged (primary or settings)")
    return cells, str(manifest["primary"]), manifest
