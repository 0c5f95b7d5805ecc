"""One cell's slices on disk: arrays and costs named by content, and the head that commits them.

The head ``00000.json`` carries its own digest and the SHA-256 of the arrays, whose first 16 digits are in the names of
``00000.<16 digits>.safetensors`` and ``00000.<16 digits>.cost.json`` (times and memory, which are not compared). Writers of
other arrays thus write other files, and the first head wins: whatever is read belongs together at any moment. Heads of schema
1 name ``00000.safetensors`` and ``00000.cost.json``.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as to_bytes

from xbench.atomic import list_names, remove_stale, write_atomic, write_first
from xbench.errors import XbenchError
from xbench.keys import Json, canonical, content_key, parse_json, read_json, sealed, unsealed

SCHEMA = 2
Arrays = dict[str, NDArray[Any]]

_HASH = re.compile("[0-9a-f]{64}")
_NAMED = re.compile(r"(?P<stem>(?P<part>[0-9]{5})(?:\.[0-9a-f]{16})?)\.(?:safetensors|cost\.json)")


class Slice(NamedTuple):
    """A committed slice.

    ``weights`` are the model's, the explainer's and the independent classifier's; ``cost`` is None where it is damaged.
    """

    arrays: Arrays
    weights: tuple[str | None, str | None, str | None]
    cost: Json | None
    unmeasured: Mapping[str, str]


@dataclass
class Damage:
    """Files that were read and are not what their hashes say; ``costs`` are those that no score hangs on."""

    files: list[Path] = field(default_factory=list)
    costs: list[Path] = field(default_factory=list)


def write_slice(folder: Path, key: str, part: int, arrays: Arrays, told: Json, cost: Json) -> None:
    """Commit a slice to a cell's folder: arrays and cost, then the head. One that is there and whole stays as it is.

    ``told`` is what the head says beside the hashes.
    """
    damage = Damage()
    there = read_slice(folder, key, part, damage)
    if there and there.cost is not None:
        return
    raw = to_bytes({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})
    head: Json = {"schema": SCHEMA, "key": key, "slice": part, "arrays": hashlib.sha256(raw).hexdigest(), **told}
    stem = _stem(head)
    write_atomic(folder / f"{stem}.safetensors", raw, own=True)
    write_atomic(folder / f"{stem}.cost.json", canonical({**cost, "digest": _cost_digest(head, cost)}), own=True)
    path = folder / f"{part:05d}.json"
    if damage.files or damage.costs:
        write_atomic(path, canonical(sealed(head)), own=True)
    else:
        write_first(path, canonical(sealed(head)))


def read_slice(folder: Path, key: str, part: int, damage: Damage) -> Slice | None:
    """Return a slice, or None where it is not there or not whole; adds what is damaged.

    Raises XbenchError where a later version wrote it.
    """
    path = folder / f"{part:05d}.json"
    try:
        head = parse_json(path.read_bytes()) or {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        head = {}
    if not _is_head(head, part) or head.get("key") != key:
        damage.files.append(path)
        return None
    if head["schema"] > SCHEMA:
        raise XbenchError(
            f"{path} is of schema {head['schema']}; this xbench reads {SCHEMA} and earlier: install a later one"
        )
    stem = _stem(head)
    stored = folder / f"{stem}.safetensors"
    try:
        raw = stored.read_bytes()
        if hashlib.sha256(raw).hexdigest() != head["arrays"]:
            raise ValueError
        weights = head["weights"], head["explainer_weights"], head.get("oracle_weights")
        cost = _read_cost(folder / f"{stem}.cost.json", head, damage)
        return Slice(parse_arrays(raw), weights, cost, head.get("unmeasured", {}))
    except (OSError, ValueError, KeyError, SafetensorError):
        damage.files.append(stored)
        return None


def arrays_file(folder: Path, part: int) -> Path:
    """Return the file of arrays that the head of a slice names."""
    head = read_json(folder / f"{part:05d}.json") or {}
    return folder / f"{_stem(head) if _is_head(head, part) else f'{part:05d}'}.safetensors"


def is_untidy(names: Sequence[str]) -> bool:
    """Say whether a cell's folder may hold more than whole slices and what the cell is."""
    heads = sum(name[5:] == ".json" for name in names)
    return sum(name.endswith((".safetensors", ".cost.json")) for name in names) > 2 * heads or any(
        name.startswith(".") for name in names
    )


def sweep_slices(folder: Path) -> None:
    """Remove arrays and costs of an hour ago or more whose slice was committed with others.

    Those of a slice without a head stay: a writer may be about to commit the same.
    """
    stems: dict[str, dict[str, list[Path]]] = {}
    for name in list_names(folder):
        if found := _NAMED.fullmatch(name):
            stems.setdefault(found["part"], {}).setdefault(found["stem"], []).append(folder / name)
    for part, files in stems.items():
        if len(files) > 1 and (kept := arrays_file(folder, int(part)).name.removesuffix(".safetensors")) in files:
            for stem in files.keys() - {kept}:
                for path in files[stem]:
                    remove_stale(path)


def _is_head(head: Json, part: int) -> bool:
    arrays, schema = head.get("arrays"), head.get("schema")
    known = head.get("slice") == part and isinstance(schema, int) and isinstance(arrays, str)
    return known and bool(_HASH.fullmatch(str(arrays))) and "digest" in head and unsealed(head) is not None


def _stem(head: Json) -> str:
    part = f"{head['slice']:05d}"
    return part if head["schema"] == 1 else f"{part}.{head['arrays'][:16]}"


def _cost_digest(head: Json, cost: Json) -> str:
    return content_key([head["key"], head["slice"], cost])


def _read_cost(path: Path, head: Json, damage: Damage) -> Json | None:
    cost = read_json(path)
    if cost is not None:
        # Not in the head, which is the same however long it took; the first versions wrote no digest.
        told = cost.pop("digest", None)
        if (told is None and cost) or told == _cost_digest(head, cost):
            return cost
    damage.costs.append(path)
    return None
