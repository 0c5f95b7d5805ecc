"""Records of a folder: atomic commit, validated read, resume.

A folder holds ``records/<2 hex>/<key>/``: ``cell.json`` (what the key is the hash of), the slices (`xbench.slices`), and
``status.json`` where a cell failed. ``samples/`` holds the samples' ids, labels and groups and the first images, once for all
cells (`xbench.sample_files`). Several runs may write one folder at once.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from xbench.atomic import list_names, remove_own, sweep_folder, write_atomic
from xbench.cache import cache_folder, fit_folder, has_fit
from xbench.data import samples_digest
from xbench.errors import XbenchError
from xbench.forms import arrays_fault, cell_fault, definition_fault, misfit, samples_fault
from xbench.keys import (
    Json,
    canonical,
    content_key,
    encoded,
    gallery_key,
    is_key_of,
    parse_json,
    read_json,
    read_sealed,
    sealed,
    slice_size,
)
from xbench.record import Record, Records, is_column, join, total
from xbench.sample_files import (
    are_texts,
    damaged_galleries,
    read_gallery,
    read_table,
    table_file,
    write_gallery,
    write_table,
)
from xbench.slices import Arrays, Damage, Slice, arrays_file, is_untidy, read_slice, sweep_slices, write_slice

__all__ = [
    "Arrays",
    "Json",
    "Record",
    "Records",
    "Store",
    "are_texts",
    "cache_folder",
    "canonical",
    "content_key",
    "fit_folder",
    "gallery_key",
    "has_fit",
    "is_column",
    "slice_size",
    "write_atomic",
]


class Store:
    """The records of one output folder; ``damaged`` and ``without_cost`` are the damaged files met so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._damage = Damage()
        # Of each cell a bit a slice: there may be millions.
        self._whole: dict[str, int] = {}
        # Of pictures: the cell that makes them again, or None where they are whole.
        self._pictures: dict[str, str | None] = {}

    @property
    def damaged(self) -> list[Path]:
        """The files met so far that are not what their hashes say."""
        return self._damage.files

    @property
    def without_cost(self) -> list[Path]:
        """Those that only say what something cost."""
        return self._damage.costs

    def folder(self, key: str) -> Path:
        """Return where a cell's files are."""
        return self.root / "records" / key[:2] / key

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys of all cells in the folder, in order."""
        records = f"{self.root}/records"  # of a hundred thousand cells, paths as objects would take most of the time
        for shard in sorted(list_names(records)):
            for key in sorted(list_names(f"{records}/{shard}")):
                if os.path.exists(f"{records}/{shard}/{key}/cell.json"):
                    yield key

    def __contains__(self, key: str) -> bool:
        """Whether the folder holds a cell, damaged or not."""
        return (self.folder(key) / "cell.json").exists()

    def define(self, key: str, definition: Json | str) -> None:
        """Write down what a cell is, once; what is there and damaged is noted and written again.

        ``definition`` may be its canonical JSON. It is not put on the disk at once: a run can write it again, and its hash
        tells whether it is whole.
        """
        raw = encoded(definition) if isinstance(definition, str) else canonical(definition)
        path = self.folder(key) / "cell.json"
        there = os.path.lexists(path)
        if there and _is_definition(path, key):
            return
        write_atomic(path, raw, own=True, flush=False)
        if there:
            self.damaged.append(path)

    def definition(self, key: str) -> Json:
        """Return what a cell is. Raises XbenchError where the file is missing or not what the key says."""
        path = self.folder(key) / "cell.json"
        found = read_json(path)
        if found is None or not is_key_of(key, found):
            raise XbenchError(
                f"{path} is missing or damaged: its content does not hash to its name; run the command again to write it"
            )
        if fault := cell_fault(found):
            raise XbenchError(f"{path} is what its hash says, but no cell of a run ({fault}); delete its folder")
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
        """Commit one slice; one that is committed and whole, by whomever, stays as it is.

        ``weights``, ``trained`` and ``oracle`` are the SHA-256 of the weights of the model, the explainer and the independent
        classifier, where they were fitted; ``unmeasured`` says why a metric had no answer, by score.
        """
        told: Json = {"weights": weights, "explainer_weights": trained}
        if oracle:
            told["oracle_weights"] = oracle
        if unmeasured:
            told["unmeasured"] = dict(unmeasured)
        write_slice(self.folder(key), key, part, arrays, told, cost)

    def fail(self, key: str, status: str, reason: str, detail: str = "") -> None:
        """Record why a cell has no scores: a status, one line, and a traceback or log where there is one."""
        value = {"status": status, "reason": " ".join(reason.split()), "detail": detail}
        write_atomic(self.folder(key) / "status.json", json.dumps(sealed(value), indent=1).encode(), own=True)

    def forgive(self, key: str) -> None:
        """Forget a cell's failure, so that it is tried again."""
        path = self.folder(key) / "status.json"
        if os.path.lexists(path):
            self.failure(key)
            remove_own(path)

    def failure(self, key: str) -> tuple[str, str] | None:
        """Return (status, reason) of a failed cell, or None; a damaged one is noted and counts as none."""
        path = self.folder(key) / "status.json"
        if not os.path.lexists(path):
            return None
        # Once more: another run may have forgiven it, and recorded it again, between two looks.
        found = read_sealed(path) or read_sealed(path)
        if found is None:
            if os.path.lexists(path):
                self.damaged.append(path)
            return None
        return str(found.get("status")), str(found.get("reason"))

    def committed(self, key: str, part: int, samples: str = "") -> bool:
        """Say whether a slice is there and whole; a damaged one is noted in ``damaged`` and counts as missing.

        Each slice is read and hashed once in a Store's life. Where the digest of its samples is given, the pictures that go
        with it must be there too; of the cells that share them, the first one asked about counts as missing.
        """
        known = self._whole.get(key, 0)
        if not known >> part & 1 and self._has_head(key, part):
            found = read_slice(self.folder(key), key, part, self._damage)
            if found and found.cost is not None and (not samples or self._has_pictures(key, found, samples)):
                known = self._whole[key] = known | 1 << part
        return bool(known >> part & 1)

    def _has_pictures(self, key: str, found: Slice, samples: str) -> bool:
        if "gallery/row" not in found.arrays:
            return True
        pictures = gallery_key(samples, found.arrays["gallery/row"].tolist())
        if pictures not in self._pictures:
            self._pictures[pictures] = None if self.has_gallery(pictures) else key
        return self._pictures[pictures] != key

    def read(self, key: str) -> Record:
        """Return what is committed of a cell. Raises XbenchError where its definition is damaged."""
        definition = self.definition(key)
        n_slices = -(-definition["n"] // slice_size(definition["n"]))
        parts = [found for part in range(n_slices) if (found := self._fitting(key, part, definition))]
        if len({frozenset(_forms(part)) for part in parts}) > 1:
            raise XbenchError(f"{self.folder(key)}: its slices hold different columns; delete the folder and run again")
        status, reason = self.failure(key) or _done(len(parts), n_slices)
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
            join([part.arrays for part in parts]),
            len(parts),
            parts[0].weights[0] if parts else None,
            total([part.cost or {} for part in parts]),
            {score: why for part in parts for score, why in part.unmeasured.items()},
            *(parts[0].weights[1:] if parts else (None, None)),
        )

    def glance(self, key: str, n_slices: int) -> tuple[str, str]:
        """Return (status, reason) of a cell as the names of its files tell them; none of what is whole is read."""
        names = list_names(f"{self.root}/records/{key[:2]}/{key}")
        if "status.json" in names and (failure := self.failure(key)):
            return failure
        heads = {name[:5] for name in names if name[5:] == ".json" and name[:5].isdigit()}
        stored = {name[:5] for name in names if name.endswith(".safetensors")}
        return _done(sum(int(part) < n_slices for part in heads & stored), n_slices)

    def check(self) -> list[Path]:
        """Return every file that is not what its hash says or cannot be read.

        Arrays that no head names are none: a writer broke off, or another was faster.
        """
        found: list[Path] = []
        for key in self:
            try:
                definition = self.definition(key)
            except XbenchError:
                definition = {}
            if definition_fault(definition):
                found.append(self.folder(key) / "cell.json")
                continue
            table = read_table(self.root / "samples", definition["samples"]) or {}
            ids = table.get("ids")
            if not are_texts(ids) or samples_digest(definition["data"]["digest"], ids) != definition["samples"]:
                found.append(table_file(self.root / "samples", definition["samples"]))
            self.read(key)
        found += damaged_galleries(self.root / "samples")
        return list(dict.fromkeys([*found, *self.damaged, *self.without_cost]))

    def write_samples(self, digest: str, table: Json) -> None:
        """Write the samples' table (ids, labels, groups), once; what is there and damaged is noted and written again."""
        if damaged := write_table(self.root / "samples", digest, table):
            self.damaged.append(damaged)

    def write_gallery(self, digest: str, images: Arrays) -> None:
        """Write the first samples' images and truth."""
        write_gallery(self.root / "samples", digest, images)

    def samples(self, digest: str) -> Json:
        """Return the samples' table. Raises XbenchError where it is missing or damaged."""
        found = read_table(self.root / "samples", digest)
        if found is None:
            path = table_file(self.root / "samples", digest)
            raise XbenchError(f"{path} is missing or damaged; run the command again to write it")
        if fault := samples_fault(found):
            path = table_file(self.root / "samples", digest)
            raise XbenchError(f"{path} is no table of samples ({fault}); run the command again to write it")
        return found

    def has_gallery(self, digest: str) -> bool:
        """Say whether the first images of these samples are stored."""
        return bool(self.gallery(digest))

    def gallery(self, digest: str) -> Arrays:
        """Return the first images and their truth, or nothing; damaged ones are noted."""
        return read_gallery(self.root / "samples", digest, self.damaged)

    def sweep(self) -> None:
        """Remove what crashed and slower writers left behind an hour ago or more."""
        for folder in (self.root, self.root / "samples", self.root / "leaderboard"):
            sweep_folder(folder)
        for key in self:
            folder = self.folder(key)
            if is_untidy(list_names(folder)):
                sweep_folder(folder)
                sweep_slices(folder)

    def _has_head(self, key: str, part: int) -> bool:
        """Say whether a slice may be there, as fast as a file system tells."""
        return os.path.lexists(f"{self.root}/records/{key[:2]}/{key}/{part:05d}.json")

    def _fitting(self, key: str, part: int, definition: Json) -> Slice | None:
        """Return a slice whose columns have a value for every sample of it, of the kinds that are written, or None."""
        n = definition["n"]
        found, size = read_slice(self.folder(key), key, part, self._damage), slice_size(n)
        rows = min(size, n - part * size)
        if found and (
            any(column.shape[:1] != (rows,) for name, column in found.arrays.items() if is_column(name))
            or arrays_fault(found.arrays, len(definition.get("classes", ())) or None, rows)
            or misfit(found.unmeasured, {...: str})
            or misfit(list(found.weights), [(str, None)])
        ):
            self.damaged.append(arrays_file(self.folder(key), part))
            return None
        return found


def _done(slices: int, of: int) -> tuple[str, str]:
    if slices == of:
        return "ok", ""
    return "partial", f"{slices} of {of} slices done; run the command again to go on"


def _forms(found: Slice) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, column.shape[1:]) for name, column in found.arrays.items() if is_column(name)]


def _is_definition(path: Path, key: str) -> bool:
    try:
        raw = path.read_bytes()
    except OSError:
        return False
    # Canonical as it stands, but for what earlier versions wrote.
    return hashlib.sha256(raw).hexdigest() == key or is_key_of(key, parse_json(raw))
