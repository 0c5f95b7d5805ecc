"""The samples of a run on disk, once for all cells: tables of ids, labels and groups, and the first images.

A table ``samples/<digest>.json`` carries its own hash beside what names it, a hash of the ids. The pictures
``samples/<gallery key>.<16 digits>.safetensors`` have the beginning of their SHA-256 in their name; earlier versions wrote
neither.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as to_bytes

from xbench.atomic import list_names, remove_own, write_atomic
from xbench.keys import Json, canonical, read_sealed, sealed
from xbench.slices import Arrays

_SUFFIX = ".safetensors"


def table_file(folder: Path, digest: str) -> Path:
    """Return where the table of the samples of that digest is."""
    return folder / f"{digest}.json"


def read_table(folder: Path, digest: str) -> Json | None:
    """Return a table of samples, or None where it is not there or damaged."""
    return read_sealed(table_file(folder, digest))


def write_table(folder: Path, digest: str, table: Json) -> Path | None:
    """Write a table of samples, once; return its path where a damaged one was there."""
    path, raw = table_file(folder, digest), canonical(sealed(table))
    try:
        there = path.read_bytes()
    except FileNotFoundError:
        there = None
    except OSError:
        there = b""
    if there == raw:
        return None
    write_atomic(path, raw, own=True)
    return None if there in (None, canonical(table)) else path


def write_gallery(folder: Path, key: str, images: Arrays) -> None:
    """Write the first samples' images and truth, in place of damaged ones."""
    raw = to_bytes(dict(sorted(images.items())))
    write_atomic(folder / f"{key}.{hashlib.sha256(raw).hexdigest()[:16]}{_SUFFIX}", raw, own=True)
    damaged: list[Path] = []
    for path in galleries(folder, key):
        _parsed(path, damaged)
    for path in damaged:
        remove_own(path)


def read_gallery(folder: Path, key: str, damaged: list[Path]) -> Arrays:
    """Return the first images and their truth, or nothing; adds what is damaged."""
    return next((found for path in galleries(folder, key) if (found := _parsed(path, damaged)) is not None), {})


def galleries(folder: Path, key: str = "") -> Iterator[Path]:
    """Iterate over the files of pictures, of one key or of all."""
    if key:
        names = [name for name in list_names(folder) if name.startswith(f"{key}.") and name.endswith(_SUFFIX)]
    else:
        names = [name for name in list_names(folder) if name.endswith(_SUFFIX) and not name.startswith(".")]
    yield from (folder / name for name in sorted(names))


def damaged_galleries(folder: Path) -> list[Path]:
    """Return the files of pictures that are not what their names say."""
    damaged: list[Path] = []
    for path in galleries(folder):
        _parsed(path, damaged)
    return damaged


def are_texts(value: object) -> TypeGuard[list[str]]:
    """Return whether a value that was read is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _parsed(path: Path, damaged: list[Path]) -> Arrays | None:
    _, _, told = path.name.removesuffix(_SUFFIX).partition(".")
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest().startswith(told):
            return parse_arrays(raw)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError):
        pass
    damaged.append(path)
    return None
