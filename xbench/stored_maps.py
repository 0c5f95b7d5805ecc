"""Maps that were made elsewhere, in a folder: a strict manifest beside arrays, checked before any is believed.

``manifest.json`` says of which samples, classifier, seed and target the maps are, how they are to be read, the SHA-256 of every
file, and for every sample its file and row, or null where the method has no answer. A file holds one float array, [n,H,W] or
[H,W] (row null): a ``.safetensors`` with the one tensor ``maps``, or a ``.npy`` without pickles.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from xbench.errors import XbenchError
from xbench.keys import canonical_text, content_key
from xbench.reading import clip, read_bytes
from xbench.specs import Polarity

SCHEMA = 1
_OPEN, _WIDEST = 8, 2**16
_FIELDS = {
    "schema": int,
    "name": str,
    "citation": str,
    "data": str,
    "data_digest": str,
    "model": str,
    "seed": int,
    "target": str,
    "polarity": str,
    "shape": list,
    "files": dict,
    "samples": dict,
}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._+-]{0,58}[A-Za-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class StoredMaps:
    """A folder of maps, as its manifest says.

    Attributes
    ----------
    folder, digest
        Where it is, and the hash of all that its manifest says, every file's hash included.
    name, citation
        What tables call the method, and its source.
    data, data_digest, model, seed, target
        What is explained: the data set and its digest, the classifier, the seed of its training, the target rule.
    polarity
        How the maps are to be read.
    shape
        (H, W).
    files
        File name -> SHA-256.
    samples
        Sample id -> (file, row), row None where the file is that one map; None where there is no answer.
    """

    folder: Path
    digest: str
    name: str
    citation: str
    data: str
    data_digest: str
    model: str
    seed: int
    target: str
    polarity: Polarity
    shape: tuple[int, int]
    files: Mapping[str, str]
    samples: Mapping[str, tuple[str, int | None] | None]

    def unmet(
        self, data_digest: str, model: str, seed: int, target: str, size: Sequence[int], ids: Sequence[str]
    ) -> str:
        """Return why these maps are not of a cell's classifier, data, target and samples, or an empty string."""
        for what, mine, wanted in (
            ("data of digest", self.data_digest, data_digest),
            ("the classifier", self.model, model),
            ("seed", self.seed, seed),
            ("target", self.target, target),
            ("size", list(self.shape), list(size)),
        ):
            if mine != wanted:
                return f"the maps {self.name!r} are of {what} {mine}, not {wanted}"
        absent = [sample for sample in ids if sample not in self.samples]
        if absent:
            return f"the maps {self.name!r} lack {len(absent)} of {len(ids)} samples, the first {absent[0]!r}"
        return ""

    def open(self) -> "Reader":
        """Return what reads the maps. Raises XbenchError where a file is not what its hash says, or no array of maps."""
        return Reader(self)


class Reader:
    """Reads single maps from files whose hashes were checked; no map is kept in memory, and few files are kept open."""

    def __init__(self, stored: StoredMaps) -> None:
        self.stored = stored
        places: dict[str, list[tuple[str, int | None]]] = {name: [] for name in stored.files}
        for sample, place in stored.samples.items():
            if place:
                places[place[0]].append((sample, place[1]))
        stamps = {name: _checked(stored, name, held) for name, held in places.items()}
        # A folder may hold a file a map, and a process may open only so many.
        self._opened = functools.lru_cache(maxsize=_OPEN)(lambda name: _opened(stored.folder / name, stamps[name]))

    def read(self, sample: str) -> NDArray[np.float32] | None:
        """Return a sample's map [H,W], or None where the method has no answer.

        Raises XbenchError where the folder has none of this sample, or one that is not finite.
        """
        stored = self.stored
        if sample not in stored.samples:
            raise XbenchError(f"the maps {stored.name!r} hold none of sample {sample!r}")
        place = stored.samples[sample]
        if place is None:
            return None
        array = self._opened(place[0])
        # A copy: a view would keep its file open.
        found = np.array(array[:] if place[1] is None else array[place[1]], dtype=np.float32)
        if not np.isfinite(found).all():
            raise XbenchError(
                f"the map of sample {sample!r} in {stored.folder / place[0]} holds NaN or infinite values"
            )
        return found


def read_stored(folder: str | Path) -> StoredMaps:
    """Return what the manifest of a folder says.

    Raises XbenchError, one line, where there is none, or anything in it is missing, too much or not as it should be.
    """
    path = Path(folder).expanduser() / "manifest.json"
    try:
        state = path.stat()
        return _read(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise XbenchError(
            f"{folder} holds no maps: {path} cannot be read ({error.strerror or error}); xbench.write_maps makes such a folder"
        ) from error


@functools.lru_cache(maxsize=64)
def _read(path: Path, size: int, stamp: int) -> StoredMaps:
    try:
        content = json.loads(read_bytes(path), object_pairs_hook=_once)
        canonical_text(content).encode()  # half a surrogate pair has no place in a manifest
    except (ValueError, RecursionError, OSError) as error:
        raise XbenchError(f"{path} is no JSON, or damaged ({error})") from error
    return parse_manifest(path.parent, content)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def parse_manifest(folder: Path, content: Any, exists: bool = True) -> StoredMaps:
    """Return a manifest's content, every part of it checked; ``exists``: the files that it names must be there.

    Raises XbenchError, one line.
    """
    path = folder / "manifest.json"

    def need(holds: object, what: str) -> None:
        if not holds:
            raise XbenchError(f"{path}: {what}")

    need(isinstance(content, dict), "a JSON object is needed")
    extra, absent = (sorted(set(one) - set(other)) for one, other in ((content, _FIELDS), (_FIELDS, content)))
    need(not extra, f"{', '.join(map(clip, extra[:5]))} is unknown; its keys are {', '.join(_FIELDS)}")
    need(not absent, f"{', '.join(absent)} is missing")
    for key, kind in _FIELDS.items():
        good = isinstance(content[key], kind) and not isinstance(content[key], bool)
        need(good, f"{key} is {content[key]!r:.60}; {kind.__name__} is needed")
    need(content["schema"] == SCHEMA, f"schema {content['schema']} is not {SCHEMA}, the one this version reads")
    need(
        _NAME.fullmatch(content["name"]),
        f"name {content['name']!r:.80} is not 1 to 60 letters, digits, spaces and ._+-",
    )
    choices = get_args(Polarity)
    need(content["polarity"] in choices, f"polarity {content['polarity']!r} is not one of {', '.join(choices)}")
    shape = content["shape"]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in shape)
    need(len(shape) == 2 and whole and max(shape) <= _WIDEST, f"shape {clip(shape)} is not [H, W]")
    for name, sha256 in content["files"].items():
        need(_is_inside(folder, name), f"file {name!r} leaves the folder")
        need(name.endswith((".safetensors", ".npy")), f"file {name!r} is neither .safetensors nor .npy")
        need(isinstance(sha256, str) and _SHA256.fullmatch(sha256), f"file {name!r} has no SHA-256 of 64 hex digits")
        need(not exists or os.path.isfile(folder / name), f"file {name!r} is not there")
    samples: dict[str, tuple[str, int | None] | None] = {}
    for sample, place in content["samples"].items():
        if place is None:
            samples[sample] = None
            continue
        need(
            isinstance(place, dict) and set(place) == {"file", "row"},
            f"sample {clip(sample)} is not {{file, row}}, or null",
        )
        row = place["row"]
        listed = isinstance(place["file"], str) and place["file"] in content["files"]
        need(listed, f"sample {clip(sample)} is in {clip(place['file'])}, which files does not list")
        fine = row is None or (isinstance(row, int) and not isinstance(row, bool) and row >= 0)
        need(fine, f"row {clip(row)} of sample {clip(sample)} is no row")
        samples[sample] = place["file"], row
    rest = {
        key: content[key] for key in ("name", "citation", "data", "data_digest", "model", "seed", "target", "polarity")
    }
    try:
        canonical_text(content).encode()
        digest = content_key(content)
    except (ValueError, TypeError) as error:  # half a surrogate pair, say
        raise XbenchError(f"{path}: {' '.join(str(error).split())}; texts that UTF-8 can write are needed") from error
    return StoredMaps(folder, digest, shape=(shape[0], shape[1]), files=content["files"], samples=samples, **rest)


def _is_inside(folder: Path, name: str) -> bool:
    pure = Path(name)
    if not name.isprintable() or not name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        return False
    try:
        return (folder / pure).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a name too long, a link to itself
        return False


def _checked(stored: StoredMaps, name: str, places: Sequence[tuple[str, int | None]]) -> tuple[int, int]:
    """Check a file's hash, type and shape, and the (sample, row) that are in it; return its stamp."""
    path = stored.folder / name
    try:
        stamp = _stamp(path)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != stored.files[name]:
                raise XbenchError(f"{path} is not what its manifest says: another SHA-256; it was changed or damaged")
        _, shape, kind = _mapped(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if (
        tuple(shape[-2:]) != stored.shape
        or len(shape) not in (2, 3)
        or kind not in ("F16", "F32", "F64", "f2", "f4", "f8")
    ):
        raise XbenchError(
            f"{path} holds {kind} of shape {list(shape)}; floats [n,H,W] of {list(stored.shape)} are needed"
        )
    rows = shape[0] if len(shape) == 3 else None
    for sample, row in places:
        if (row is None) is not (rows is None):
            raise XbenchError(f"{path} is {list(shape)}, and the row of sample {sample!r} is {row}")
        if row is not None and row >= (rows or 0):
            raise XbenchError(f"{path} has {rows} rows, and sample {sample!r} is in row {row}, counted from 0")
    return stamp


def _opened(path: Path, stamp: tuple[int, int]) -> Any:
    """Return the array of a file that was checked, read when it is indexed."""
    try:
        if _stamp(path) != stamp:
            raise XbenchError(f"{path} was changed after its hash was checked; run the command again")
        return _mapped(path)[0]
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> XbenchError:
    return XbenchError(f"{path} holds no maps: {' '.join(str(error).split())}")


def _mapped(path: Path) -> tuple[Any, Sequence[int], str]:
    if path.suffix == ".npy":
        # Not np.load, which takes an archive of arrays or a pickle for what it finds, whatever the name says.
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError):
            raise
        except Exception as error:  # of a header that lies: from Python's own parser, tokeniser and arithmetic
            raise ValueError(f"its header cannot be read: {type(error).__name__}") from error
        return array, array.shape, array.dtype.str[1:]
    file: Any = safe_open(path, framework="np")
    if list(file.keys()) != ["maps"]:
        raise ValueError(f"it holds {', '.join(map(repr, file.keys())) or 'nothing'}; the one tensor 'maps' is needed")
    found = file.get_slice("maps")
    return found, found.get_shape(), found.get_dtype()
