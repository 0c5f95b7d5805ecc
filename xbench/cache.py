"""What is kept between runs: where, and whether the weights there are what was recorded when they were made."""

import functools
import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from xbench.keys import Json, read_sealed


def cache_folder() -> Path:
    """Return ``$XBENCH_CACHE``, or the platform's cache folder for xbench."""
    if given := os.environ.get("XBENCH_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/xbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "xbench"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xbench"


def fit_folder(key: str) -> Path:
    """Return the cache folder of a fit key: ``weights.safetensors``, ``fit.json``, and checkpoints while it trains."""
    return cache_folder() / "fits" / key[:2] / key


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return where in a fit's folder the weights after an epoch are."""
    return folder / "epochs" / f"{epoch:04d}.safetensors"


def fit_info(folder: Path) -> Json | None:
    """Return what was noted when the fit in a folder was finished, or None where it is not, or where that is damaged."""
    return read_sealed(folder / "fit.json")


def has_fit(key: str, checkpoints: Iterable[int] = ()) -> bool:
    """Say whether a finished fit is in the cache, whole, and with it the weights after these epochs."""
    return is_finished(key) and not damaged_fit(key, checkpoints)


def is_finished(key: str) -> bool:
    """Say whether a fit was finished, whatever became of its weights."""
    return os.path.lexists(fit_folder(key) / "fit.json")


def damaged_fit(key: str, checkpoints: Iterable[int] | None = ()) -> list[Path]:
    """Return the files of a finished fit that are not what was recorded, or gone.

    ``checkpoints`` are the epochs whose weights are asked for; None asks for all that were kept.
    """
    folder = fit_folder(key)
    if not os.path.lexists(folder / "fit.json"):
        return []
    info = fit_info(folder)
    if info is None:
        return [folder / "fit.json"]
    # Of epochs that were not reached there is none, and earlier versions recorded none.
    kept: Json = info.get("kept") or {}
    wanted = {folder / "weights.safetensors": info.get("sha256")}
    for epoch in map(int, kept) if checkpoints is None else checkpoints:
        if told := kept.get(str(epoch)):
            wanted[epoch_file(folder, epoch)] = told
    return [path for path, told in wanted.items() if file_sha256(path) != told]


def file_sha256(path: Path) -> str | None:
    """Return the hash of a file, or None where it cannot be read; while it stays as it is, it is read once."""
    try:
        state = path.stat()
        return _sha256(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=2**16)
def _sha256(path: Path, inode: int, size: int, stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
