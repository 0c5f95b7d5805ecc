"""Accepted records: one JSON file a cell with every sample's scores, which anyone can read, check and make the tables from."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.errors import XbenchError
from xbench.forms import COST, Form, arrays_fault, definition_fault, misfit, samples_fault
from xbench.reading import clip, parse_json, read_bytes
from xbench.store import Json, Record, Store, content_key, is_column

SCHEMA = 1
_FORM: Form = {
    **dict.fromkeys(("status", "reason", "doubt", "table"), str),
    **dict.fromkeys(("weights", "explainer_weights", "oracle_weights"), (str, None)),
    "unmeasured": {...: str},
    "slices": int,
    "cost": COST,
    "run": {"settings": [str]},
    "columns": {},
    "curves": {},
}
_DIGITS = 9
"""Significant digits of the numbers kept; the tables show three, and whoever runs it again agrees to four."""


def pack(store: Store, key: str, run: Json, doubt: str = "") -> dict[str, bytes]:
    """Return the files, by name, that make a committed cell a record to keep beside others of its suite.

    Parameters
    ----------
    store, key
        The run's folder and a whole cell in it.
    run
        What must be known of the run to make the numbers again: settings, versions, where the code came from.
    doubt
        Why the numbers are to be taken with care: ``reported: ...`` or ``unreliable: ...``, or an empty string.

    Returns
    -------
    The record, and the table of its samples, which records on the same samples share.
    """
    record = store.read(key)
    definition = record.definition
    table = store.samples(definition["samples"])
    content: Json = {
        "schema": SCHEMA,
        "key": key,
        "definition": definition,
        "status": record.status,
        "reason": record.reason,
        "doubt": doubt,
        "weights": record.weights,
        "explainer_weights": record.trained,
        "oracle_weights": record.oracle,
        "unmeasured": dict(record.unmeasured),
        "slices": record.n_slices,
        "cost": record.cost,
        "run": run,
        "table": content_key(table),
        "columns": {name: _written(values) for name, values in sorted(record.arrays.items()) if is_column(name)},
        "curves": {
            name.removeprefix("curve/"): _written(values)
            for name, values in sorted(record.arrays.items())
            if name.startswith("curve/")
        },
    }
    content["digest"] = content_key(content)
    who = definition["explainer"]["text"] if definition["explainer"] else "classifier"
    name = f"{_slug(who)}-{_slug(definition['model']['text'])}-{key[:12]}.json"
    return {name: _lines(content), f"samples-{definition['samples'][:12]}.json": _lines(table)}


class Changed(XbenchError):
    """Files of accepted records are not what their hashes say: ``paths``."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        super().__init__(*(f"{path} was changed after it was accepted: it is not what its hash says" for path in paths))


class Evidence:
    """The accepted records of one suite.

    Parameters
    ----------
    root
        ``leaderboard/records/SUITE``.
    only
        The one record to read, or None for all.

    Attributes
    ----------
    paths
        Each record's file, by key.

    Raises
    ------
    Changed
        Names every file that was changed.
    XbenchError
        A file is no record, or two hold the same cell.
    """

    def __init__(self, root: Path, only: Path | None = None) -> None:
        self.root = root
        self.paths: dict[str, Path] = {}
        self._records: dict[str, Json] = {}
        self._tables: dict[str, Json] = {}
        changed: list[Path] = []
        for path in sorted(root.glob("*.json")) if only is None else [only]:
            if path.name.startswith("samples-"):
                continue
            try:
                content = _read(path)
            except Changed:
                changed.append(path)
                continue
            key = str(content["key"])
            if key in self.paths:
                raise XbenchError(f"{path} and {self.paths[key]} hold one cell; remove one")
            self.paths[key], self._records[key] = path, content
        if changed:
            raise Changed(changed)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys of all records, in order."""
        return iter(sorted(self.paths))

    def __contains__(self, key: str) -> bool:
        """Whether there is a record of this cell."""
        return key in self.paths

    def content(self, key: str) -> Json:
        """Return a record as it is written."""
        return self._records[key]

    def read(self, key: str) -> Record:
        """Return a record as `xbench.store.Store.read` gives it."""
        content = self._records[key]
        return Record(
            key=key,
            definition=content["definition"],
            status=content["status"],
            reason=content["reason"],
            arrays=_arrays(content),
            n_slices=content["slices"],
            weights=content["weights"],
            cost=content["cost"],
            unmeasured=content["unmeasured"],
            trained=content["explainer_weights"],
            oracle=content["oracle_weights"],
            doubt=content["doubt"],
        )

    def samples(self, digest: str) -> Json:
        """Return the table of the samples of that digest. Raises XbenchError where it is missing, Changed where another."""
        if digest not in self._tables:
            path = self.root / f"samples-{digest[:12]}.json"
            told = {
                content["table"] for content in self._records.values() if content["definition"]["samples"] == digest
            }
            try:
                table = parse_json(read_bytes(path))
                key = content_key(table)
            except (OSError, ValueError) as error:
                raise XbenchError(f"{path} cannot be read: {error}") from error
            if told != {key}:
                raise Changed([path])
            n = {each["definition"]["n"] for each in self._records.values() if each["definition"]["samples"] == digest}
            if fault := samples_fault(table, min(n)):
                raise XbenchError(f"{path} is no table of samples: {fault}")
            self._tables[digest] = table
        return self._tables[digest]


def suites(folder: Path) -> list[Evidence]:
    """Return the accepted records of every suite in a leaderboard's folder.

    Raises XbenchError where the folder is none, or a file in it is not what its digest says.
    """
    found = [Evidence(path) for path in sorted((folder / "records").glob("*")) if path.is_dir()]
    if not any(evidence.paths for evidence in found):
        raise XbenchError(f"{folder} holds no accepted records: {folder / 'records'} has no SUITE/*.json")
    return found


def _read(path: Path) -> Json:
    try:
        content = parse_json(read_bytes(path))
        digest = content.pop("digest")
        if content["schema"] != SCHEMA:
            raise XbenchError(f"{path} is of schema {clip(content['schema'])}; this xbench reads schema {SCHEMA}")
        if digest != content_key(content):
            raise Changed([path])
        if content_key(content["definition"]) != content["key"]:
            raise XbenchError(f"{path} is no record: its definition does not hash to its key")
        if fault := misfit(content, _FORM) or definition_fault(content["definition"]):
            raise ValueError(fault)
        n, arrays = content["definition"]["n"], _arrays(content)
        if odd := [name for name, values in arrays.items() if is_column(name) and len(values) != n]:
            raise ValueError(f"{', '.join(odd)} do not hold a value for each of {n} samples")
        if fault := arrays_fault(arrays, len(content["definition"]["classes"])):
            raise ValueError(fault)
        return dict(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise XbenchError(f"{path} is no record: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _arrays(content: Json) -> dict[str, NDArray[Any]]:
    arrays = {name: _array(values) for name, values in content["columns"].items()}
    return arrays | {f"curve/{name}": _array(values) for name, values in content["curves"].items()}


def _written(values: NDArray[Any]) -> Any:
    """Return an array as nested lists; NaN is None."""
    if values.dtype.kind != "f":
        return values.tolist()
    flat = [None if np.isnan(value) else float(f"{value:.{_DIGITS}g}") for value in values.ravel().tolist()]
    if values.ndim == 1:
        return flat
    width = values.shape[1]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _array(values: Any) -> NDArray[Any]:
    if values and isinstance(values[0], list):
        return np.array([[np.nan if value is None else value for value in row] for row in values])
    return np.array([np.nan if value is None else value for value in values])


def _lines(content: Json) -> bytes:
    """Return JSON with a line a member, and within ``columns`` and ``curves`` a line an array: a change shows where it is."""

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)

    parts = []
    for name, value in content.items():
        if name in ("columns", "curves") and value:
            inner = ",\n".join(f"  {text(key)}: {text(each)}" for key, each in value.items())
            parts.append(f" {text(name)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {text(name)}: {text(value)}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=]+", "_", text).strip("_.")[:80] or "_"
