"""What a finished run says of itself: its cells, its primary metric, its command and versions, from ``run.json``."""

import json
import os
import re
from pathlib import Path

from xbench.errors import XbenchError
from xbench.keys import read_sealed, sealed, unsealed
from xbench.store import Json, are_texts, write_atomic


def run_folder(folder: Path) -> tuple[list[str], str, Json]:
    """Return the cells of the last run in a folder, its primary metric and its manifest.

    Raises XbenchError where the folder holds no run.
    """
    path = folder / "run.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise XbenchError(f"{folder} holds no run: {path} cannot be read ({' '.join(str(error).split())})") from error
    if isinstance(manifest, dict):
        manifest = unsealed(manifest)
        if manifest is None:
            raise XbenchError(
                f"{path} is damaged or was changed: it is not what its hash says; run the same command again"
            )
    cells = manifest.get("cells") if isinstance(manifest, dict) else None
    settings = manifest.get("settings") if isinstance(manifest, dict) else None
    if not are_texts(cells) or not all(re.fullmatch("[0-9a-f]{64}", key) for key in cells):
        raise XbenchError(f"{folder} holds no run: {path} does not name its cells")
    if "primary" not in manifest or not (settings is None or are_texts(settings)):
        raise XbenchError(f"{folder} holds no run: {path} is damaged (primary or settings)")
    return cells, str(manifest["primary"]), manifest


def write_manifest(folder: Path, manifest: Json) -> Path | None:
    """Write what a run says of itself, with its hash; return the path where a damaged one was there.

    Raises CannotWrite where it cannot be written.
    """
    path = folder / "run.json"
    damaged = os.path.lexists(path) and read_sealed(path) is None
    write_atomic(path, json.dumps(sealed(manifest), indent=1).encode(), own=True)
    return path if damaged else None
