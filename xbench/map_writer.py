"""`xbench.write_maps`: a folder of maps made elsewhere, of the samples of a run, as ``precomputed/maps`` reads it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from xbench.errors import XbenchError
from xbench.specs import Polarity
from xbench.store import Json, Store, content_key, write_atomic
from xbench.stored_maps import SCHEMA, parse_manifest


class Finished(Protocol):
    """What `write_maps` asks of a run."""

    folder: Path
    keys: tuple[str, ...]


def write_maps(
    folder: str | Path,
    run_or_ids: Finished | Sequence[str],
    maps: Mapping[str, Any] | Any,
    *,
    name: str,
    citation: str = "",
    model: str | None = None,
    seed: int | None = None,
    polarity: Polarity = "signed",
    data: str = "",
    data_digest: str = "",
    target: str = "",
) -> Path:
    """Write maps into a folder that ``precomputed/maps[maps=FOLDER]`` reads.

    Parameters
    ----------
    folder
        Made here; it must not hold maps already.
    run_or_ids
        A run of the same suite with any explainer: its samples, data, classifier, seed and target are those of the maps. Or
        the sample ids; then ``model``, ``seed``, ``data_digest`` and ``target`` must be said.
    maps
        Sample id -> [H,W], None where the method has no answer; or [n,H,W] in the order of the run's samples. Raw: larger is
        more evidence for the target.
    name
        What tables call the method: up to 60 letters, digits, spaces, ``.``, ``_``, ``+``, ``-``.
    citation
        Its source.
    model, seed
        Which, of a run with several.
    polarity
        How the maps are to be read (`xbench.specs.ExplainerSpec`).

    Returns
    -------
    The folder.

    Raises
    ------
    XbenchError
        The maps are not one of each sample, all of one size, finite; the run has several classifiers or seeds and none is
        chosen; the folder holds maps, or cannot be written.
    """
    path = Path(folder)
    if (path / "manifest.json").exists():
        raise XbenchError(f"{path} holds maps already; choose another folder, or delete it")
    if isinstance(run_or_ids, (str, bytes)) or not (isinstance(run_or_ids, Sequence) or hasattr(run_or_ids, "folder")):
        raise XbenchError(f"run_or_ids is {run_or_ids!r:.60}; a run (xbench.open) or a list of sample ids is needed")
    if isinstance(run_or_ids, Sequence):
        ids = tuple(map(str, run_or_ids))
        facts: Json = {"data": data, "data_digest": data_digest, "model": model, "seed": seed, "target": target}
        if absent := [key for key, value in facts.items() if value in (None, "") and key != "data"]:
            raise XbenchError(f"{', '.join(absent)} must be said where no run says what the maps are of")
    else:
        ids, facts = _of_run(run_or_ids, model, seed)
    arrays = _by_sample(ids, maps)
    known = [sample for sample in ids if arrays[sample] is not None]
    if not known:
        raise XbenchError("there is not one map [H,W]")
    stack = np.stack([array for array in arrays.values() if array is not None])
    broken = ~np.isfinite(stack).all(axis=(1, 2))
    if broken.any():
        first = known[int(np.argmax(broken))]
        raise XbenchError(f"{int(broken.sum())} maps hold NaN or infinite values, the first that of sample {first!r}")
    raw = save({"maps": np.ascontiguousarray(stack)})
    row_of = {sample: row for row, sample in enumerate(known)}
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "citation": citation,
        **facts,
        "polarity": polarity,
        "shape": list(stack.shape[1:]),
        "files": {"maps.safetensors": hashlib.sha256(raw).hexdigest()},
        "samples": {
            sample: {"file": "maps.safetensors", "row": row_of[sample]} if sample in row_of else None for sample in ids
        },
    }
    parse_manifest(path, manifest, exists=False)
    write_atomic(path / "maps.safetensors", raw)
    write_atomic(path / "manifest.json", json.dumps(manifest, indent=1).encode())
    return path


def _of_run(run: Finished, model: str | None, seed: int | None) -> tuple[tuple[str, ...], Json]:
    """Return the samples of a run, and what maps of them are of."""
    store = Store(run.folder)
    cells = [cell for cell in map(store.definition, run.keys) if cell["explainer"]]
    found: dict[str, tuple[str, Json]] = {}
    for cell in cells:
        if model in (None, cell["model"]["text"]) and seed in (None, cell["seed"]):
            facts = {
                "data": cell["data"]["text"],
                "data_digest": cell["data"]["digest"],
                "model": cell["model"]["text"],
                "seed": cell["seed"],
                "target": cell["target"],
            }
            found[content_key([cell["samples"], facts])] = cell["samples"], facts
    if len(found) != 1:
        there = sorted({f"{cell['model']['text']} (seed {cell['seed']})" for cell in cells})
        raise XbenchError(f"say with model= and seed= of which the maps are; the run has {', '.join(there) or 'none'}")
    ((samples, facts),) = found.values()
    return tuple(store.samples(samples)["ids"]), facts


def _by_sample(ids: Sequence[str], maps: Any) -> dict[str, NDArray[np.float32] | None]:
    """Return every sample's map as float32, all of one shape."""
    if len(set(ids)) < len(ids):
        raise XbenchError(f"{len(ids) - len(set(ids))} sample ids stand there twice")
    if isinstance(maps, Mapping):
        known = set(ids)
        for what, names in (
            ("has no map", [sample for sample in ids if sample not in maps]),
            ("is no sample of the run", [sample for sample in maps if sample not in known]),
        ):
            if names:
                raise XbenchError(f"{names[0]!r} {what} ({len(names)} such)")
        given = [maps[sample] for sample in ids]
    else:
        try:
            given = list(maps)
        except TypeError:
            raise XbenchError(f"maps is {maps!r:.60}; sample id -> [H,W], or [n,H,W], is needed") from None
        if len(given) != len(ids):
            raise XbenchError(f"there are {len(given)} maps of {len(ids)} samples")
    found: dict[str, NDArray[np.float32] | None] = {}
    shape: tuple[int, ...] | None = None
    for sample, value in zip(ids, given, strict=True):
        if value is None:
            found[sample] = None
            continue
        try:
            array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise XbenchError(
                f"the map of sample {sample!r} is no array [H,W]: {' '.join(str(error).split())}"
            ) from error
        shape = shape or array.shape
        if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape != shape:
            raise XbenchError(
                f"the map of sample {sample!r} is {array.dtype} of shape {list(array.shape)}; numbers [H,W], of one size, "
                "are needed"
            )
        found[sample] = array.astype(np.float32)
    return found
