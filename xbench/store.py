"""Records and arrays on disk: atomic commit, validated read, resume.

A folder holds ``records/<2 hex>/<key>/``: ``cell.json`` (what the key is the hash of), per slice ``00000.safetensors`` with
its head ``00000.json`` (the commit: it names the arrays' hash and carries its own digest) and ``00000.cost.json`` (times and
memory, outside whatever is compared), and ``status.json`` where a cell failed. ``samples/`` holds the samples' ids, labels
and groups and the first images, once for all cells.
"""

import contextlib
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as to_bytes

from xbench.data import samples_digest
from xbench.errors import CannotWrite, XbenchError

SCHEMA = 1
Arrays = dict[str, NDArray[Any]]
Json = dict[str, Any]


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


def has_fit(key: str) -> bool:
    """Say whether a finished fit is in the cache, whole."""
    folder = fit_folder(key)
    info = _read_json(folder / "fit.json")
    try:
        raw = (folder / "weights.safetensors").read_bytes()
    except OSError:
        return False
    return info is not None and info.get("sha256") == hashlib.sha256(raw).hexdigest()


def canonical(value: Any) -> bytes:
    """Return the one JSON form of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def content_key(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def gallery_key(samples: str, rows: Sequence[int]) -> str:
    """Return the name of the pictures of some samples: ``rows`` are positions in the sample set of that digest."""
    return content_key([samples, list(map(int, rows))])


def slice_size(n: int) -> int:
    """Return how many samples a slice holds: a fixed function of the number of samples, 64 to 1,024."""
    return max(64, min(1024, -(-n // 64)))


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Raises CannotWrite, naming the path, where the disk or the permissions forbid it.
    """
    # Not mkstemp, whose files only their owner may read: folders of results are shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CannotWrite(
            f"cannot write {path}: {error.strerror or error}; what was committed before is intact"
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            # Some network file systems refuse this; the rename itself has succeeded.
            with contextlib.suppress(OSError):
                os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Record:
    """All that is committed of one cell.

    Attributes
    ----------
    key, definition
        The cell's content key and what it is the hash of.
    status, reason
        ``ok``, ``partial`` (slices are missing) or why there are no scores.
    arrays
        Per-sample columns joined over slices [n], curves summed over samples, the gallery of slice 0.
    n_slices
        How many slices are committed.
    weights
        SHA-256 of the weights that were explained, or None for a model without a fit.
    cost
        Sums over slices: seconds, images, forwards, backwards; the largest peak_bytes; images_a_pass of each slice; the
        devices.
    unmeasured
        Why a metric had no answer, by score.
    trained, oracle
        SHA-256 of the weights of the explainer and of the independent classifier, or None where there is none.
    doubt
        Why its numbers are to be taken with care, ``reported: ...`` or ``unreliable: ...``, or an empty string.
    """

    key: str
    definition: Json
    status: str
    reason: str
    arrays: Arrays
    n_slices: int
    weights: str | None
    cost: Json
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    trained: str | None = None
    oracle: str | None = None
    doubt: str = ""


class Records(Protocol):
    """Where tables read from: a run's folder, or accepted records."""

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys of all cells, in order."""

    def __contains__(self, key: str) -> bool:
        """Whether a cell is there, damaged or not."""

    def read(self, key: str) -> Record:
        """Return all there is of a cell. Raises XbenchError where what it is cannot be told."""

    def samples(self, digest: str) -> Json:
        """Return the samples' table: ids, labels, groups. Raises XbenchError where it is missing."""


class _Slice(NamedTuple):
    """A committed slice; ``weights`` are the model's, the explainer's and the independent classifier's."""

    arrays: Arrays
    weights: tuple[str | None, str | None, str | None]
    cost: Json
    unmeasured: Mapping[str, str]


class Store:
    """The records of one output folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: list[Path] = []
        self.without_cost: list[Path] = []
        self._whole: set[tuple[str, int]] = set()

    def folder(self, key: str) -> Path:
        """Return where a cell's files are."""
        return self.root / "records" / key[:2] / key

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys of all cells in the folder, in order."""
        records = self.root / "records"
        if records.is_dir():
            for shard in sorted(path for path in records.iterdir() if path.is_dir()):
                yield from sorted(path.name for path in shard.iterdir() if (path / "cell.json").exists())

    def __contains__(self, key: str) -> bool:
        """Whether the folder holds a cell, damaged or not."""
        return (self.folder(key) / "cell.json").exists()

    def define(self, key: str, definition: Json) -> None:
        """Write down what a cell is, once."""
        path = self.folder(key) / "cell.json"
        if not path.exists():
            write_atomic(path, json.dumps(definition, indent=1, sort_keys=True).encode())

    def definition(self, key: str) -> Json:
        """Return what a cell is. Raises XbenchError where the file is missing or not what the key says."""
        path = self.folder(key) / "cell.json"
        found = _read_json(path)
        if found is None or content_key(found) != key:
            raise XbenchError(f"{path} is missing or damaged: its content does not hash to its name; delete its folder")
        return found

    def commit(
        self,
        key: str,
        part: int,
        arrays: Arrays,
        weights: str | None,
        cost: Json,
        trained: str | None = None,
        unmeasured: Mapping[str, str] | None = None,
        oracle: str | None = None,
    ) -> None:
        """Commit one slice: arrays first, the head last.

        ``weights``, ``trained`` and ``oracle`` are the SHA-256 of the weights of the model, the explainer and the independent
        classifier, where they were fitted; ``unmeasured`` says why a metric had no answer, by score.
        """
        folder, name = self.folder(key), f"{part:05d}"
        raw = to_bytes({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})
        head: Json = {
            "schema": SCHEMA,
            "key": key,
            "slice": part,
            "arrays": hashlib.sha256(raw).hexdigest(),
            "weights": weights,
            "explainer_weights": trained,
        }
        if oracle:
            head["oracle_weights"] = oracle
        if unmeasured:
            head["unmeasured"] = dict(unmeasured)
        head["digest"] = content_key(head)
        write_atomic(folder / f"{name}.safetensors", raw)
        write_atomic(folder / f"{name}.cost.json", canonical({**cost, "digest": content_key([key, part, cost])}))
        write_atomic(folder / f"{name}.json", canonical(head))

    def fail(self, key: str, status: str, reason: str, detail: str = "") -> None:
        """Record why a cell has no scores: a status, one line, and a traceback or log where there is one."""
        value = {"status": status, "reason": " ".join(reason.split()), "detail": detail}
        write_atomic(self.folder(key) / "status.json", json.dumps(value, indent=1).encode())

    def forgive(self, key: str) -> None:
        """Forget a cell's failure, so that it is tried again."""
        (self.folder(key) / "status.json").unlink(missing_ok=True)

    def failure(self, key: str) -> tuple[str, str] | None:
        """Return (status, reason) of a failed cell, or None."""
        found = _read_json(self.folder(key) / "status.json")
        return None if found is None else (str(found.get("status")), str(found.get("reason")))

    def committed(self, key: str, part: int) -> bool:
        """Say whether a slice is there and whole; a damaged one is noted in ``damaged`` and counts as missing.

        Each slice is read and hashed once in a Store's life.
        """
        if (key, part) not in self._whole and self._slice(key, part) is not None:
            self._whole.add((key, part))
        return (key, part) in self._whole

    def read(self, key: str) -> Record:
        """Return what is committed of a cell. Raises XbenchError where its definition is damaged."""
        definition = self.definition(key)
        n_slices = -(-definition["n"] // slice_size(definition["n"]))
        parts = [found for part in range(n_slices) if (found := self._fitting(key, part, definition["n"]))]
        status, reason = self.failure(key) or ("ok", "")
        if status == "ok" and len(parts) < n_slices:
            status, reason = "partial", f"{len(parts)} of {n_slices} slices done; run the command again to go on"
        if status == "ok" and len({part.weights for part in parts}) > 1:
            status, reason = (
                "mixed_weights",
                "its slices were scored on different weights; delete its folder and run again",
            )
        return Record(
            key,
            definition,
            status,
            reason,
            _join([part.arrays for part in parts]),
            len(parts),
            parts[0].weights[0] if parts else None,
            _total([part.cost for part in parts]),
            {score: why for part in parts for score, why in part.unmeasured.items()},
            *(parts[0].weights[1:] if parts else (None, None)),
        )

    def check(self) -> list[Path]:
        """Return every file in the folder that is not what its hash says, cannot be read, or belongs to nothing."""
        found: list[Path] = []
        for key in self:
            folder = self.folder(key)
            try:
                definition = self.definition(key)
            except XbenchError:
                found.append(folder / "cell.json")
                continue
            table = self.root / "samples" / f"{definition['samples']}.json"
            ids = (_read_json(table) or {}).get("ids")
            if not are_texts(ids) or samples_digest(definition["data"]["digest"], ids) != definition["samples"]:
                found.append(table)
            self.read(key)
            heads = {path.stem for path in folder.glob("[0-9]" * 5 + ".json")}
            found += [path for path in folder.glob("*.safetensors") if path.stem not in heads]
        return list(dict.fromkeys([*found, *self.damaged, *self.without_cost]))

    def write_samples(self, digest: str, table: Json) -> None:
        """Write the samples' table (ids, labels, groups), once."""
        path = self.root / "samples" / f"{digest}.json"
        raw = canonical(table)
        if not path.exists() or path.read_bytes() != raw:
            write_atomic(path, raw)

    def write_gallery(self, digest: str, images: Arrays) -> None:
        """Write the first samples' images and truth."""
        write_atomic(self.root / "samples" / f"{digest}.safetensors", to_bytes(dict(sorted(images.items()))))

    def samples(self, digest: str) -> Json:
        """Return the samples' table. Raises XbenchError where it is missing."""
        path = self.root / "samples" / f"{digest}.json"
        found = _read_json(path)
        if found is None:
            raise XbenchError(f"{path} is missing or damaged; run the command again to write it")
        return found

    def has_gallery(self, digest: str) -> bool:
        """Say whether the first images of these samples are stored."""
        return bool(self.gallery(digest))

    def gallery(self, digest: str) -> Arrays:
        """Return the first images and their truth, or nothing."""
        try:
            return parse_arrays((self.root / "samples" / f"{digest}.safetensors").read_bytes())
        except (OSError, SafetensorError):
            return {}

    def sweep(self) -> None:
        """Remove what crashed writers left behind an hour ago or more."""
        now = time.time()
        for stale in [
            *self.root.glob("records/*/*/.*.tmp"),
            *self.root.glob("samples/.*.tmp"),
            *self.root.glob(".*.tmp"),
        ]:
            with contextlib.suppress(OSError):
                if now - stale.stat().st_mtime > 3600:
                    stale.unlink()

    def _cost(self, key: str, part: int) -> Json:
        """Return what a slice cost, or nothing where that is damaged or was changed: no score hangs on it."""
        path = self.folder(key) / f"{part:05d}.cost.json"
        cost = _read_json(path) or {}
        # Not in the head, which is the same however long it took; earlier versions wrote no digest.
        told = cost.pop("digest", None)
        if not cost or (told is not None and told != content_key([key, part, cost])):
            self.without_cost.append(path)
            return {}
        return cost

    def _fitting(self, key: str, part: int, n: int) -> "_Slice | None":
        """Return a slice whose columns have a value for every sample of it, or None."""
        found, size = self._slice(key, part), slice_size(n)
        rows = min(size, n - part * size)
        if found and any(len(column) != rows for name, column in found.arrays.items() if is_column(name)):
            self.damaged.append(self.folder(key) / f"{part:05d}.safetensors")
            return None
        return found

    def _slice(self, key: str, part: int) -> "_Slice | None":
        stem = self.folder(key) / f"{part:05d}"
        path = stem.with_suffix(".json")
        if not path.exists():
            return None
        head = _read_json(path) or {}
        digest = head.pop("digest", None)
        if digest != content_key(head) or head.get("key") != key or head.get("slice") != part:
            self.damaged.append(path)
            return None
        arrays = stem.with_suffix(".safetensors")
        try:
            raw = arrays.read_bytes()
            if hashlib.sha256(raw).hexdigest() != head["arrays"]:
                raise ValueError
            weights = head["weights"], head["explainer_weights"], head.get("oracle_weights")
            cost = self._cost(key, part)
            return _Slice(parse_arrays(raw), weights, cost, head.get("unmeasured", {}))
        except (OSError, ValueError, KeyError, SafetensorError):
            self.damaged.append(arrays)
            return None


def is_column(name: str) -> bool:
    """Return whether an array of a record has a row for every sample; curves are sums, galleries are of a few samples."""
    return not name.startswith(("curve/", "gallery/"))


def are_texts(value: object) -> TypeGuard[list[str]]:
    """Return whether a value that was read is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _read_json(path: Path) -> Json | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _join(parts: list[Arrays]) -> Arrays:
    """Join slices: ``curve/...`` arrays are sums and are added, ``gallery/...`` is the first's, columns are appended."""
    joined: Arrays = {}
    for name in sorted({name for part in parts for name in part}):
        values = [part[name] for part in parts if name in part]
        if name.startswith("curve/"):
            # Slices committed before squares were summed have a row less.
            rows = min(len(value) for value in values)
            joined[name] = np.sum([value[:rows] for value in values], axis=0)
        elif name.startswith("gallery/"):
            joined[name] = values[0]
        else:
            joined[name] = np.concatenate(values)
    return joined


def _total(costs: list[Json]) -> Json:
    def number(cost: Json, name: str) -> float:
        value = cost.get(name, 0)
        return value if isinstance(value, (int, float)) else 0

    total: Json = {
        name: sum(number(cost, name) for cost in costs) for name in ("seconds", "images", "forwards", "backwards")
    }
    total["peak_bytes"] = max((number(cost, "peak_bytes") for cost in costs), default=0)
    if any("images_a_pass" in cost for cost in costs):
        total["images_a_pass"] = [cost.get("images_a_pass") for cost in costs]
    total["devices"] = sorted({str(cost.get("device")) for cost in costs if cost})
    return total
