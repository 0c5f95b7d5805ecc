"""What a finished run says of itself: its cells, its primary metric, its command and versions, from ``run.json``."""

import json
import os
from pathlib import Path

from xbench.errors import XbenchError
from xbench.forms import MANIFEST, misfit
from xbench.keys import Json, read_sealed, sealed, unsealed
from xbench.reading import parse_json, read_bytes
from xbench.store import write_atomic


def run_folder(folder: Path) -> tuple[list[str], str, Json]:
    """Return the cells of the last run in a folder, its primary metric and its manifest.

    Raises XbenchError where the folder holds no run.
    """
    path = folder / "run.json"
    try:
        manifest = parse_json(read_bytes(path))
    except (OSError, ValueError, XbenchError) as error:
        raise XbenchError(f"{folder} holds no run: {path} cannot be read ({' '.join(str(error).split())})") from error
    if isinstance(manifest, dict):
        manifest = unsealed(manifest)
        if manifest is None:
            raise XbenchError(
                f"{path} is damaged or was changed: it is not what its hash says; run the same command again"
            )
    if fault := misfit(manifest, MANIFEST):
        raise XbenchError(f"{folder} holds no run: {path} is damaged ({fault})")
    return manifest["cells"], manifest["primary"], manifest


def write_manifest(folder: Path, manifest: Json) -> Path | None:
    """Write what a run says of itself, with its hash; return the path where a damaged one was there.

    Raises CannotWrite where it cannot be written.
    """
    path = folder / "run.json"
    damaged = os.path.lexists(path) and read_sealed(path) is None
    write_atomic(path, json.dumps(sealed(manifest), indent=1).encode(), own=True)
    return path if damaged else None
