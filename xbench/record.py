"""What is known of one cell: the form in which records are read, wherever they are kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from xbench.errors import XbenchError
from xbench.forms import definition_fault
from xbench.keys import Json
from xbench.slices import Arrays


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


def for_tables(record: Record) -> Record:
    """Return a record, all that tables ask of its definition looked at. Raises XbenchError where something is missing."""
    checked_definition(record.key, record.definition)
    return record


def checked_definition(key: str, definition: Json) -> Json:
    """Return the definition of a cell, looked at likewise."""
    if fault := definition_fault(definition):
        raise XbenchError(f"the cell {key} is not one that a run of xbench made: {fault}; delete its folder")
    return definition


def is_column(name: str) -> bool:
    """Return whether an array of a record has a row for every sample; curves are sums, galleries are of a few samples."""
    return not name.startswith(("curve/", "gallery/"))


def join(parts: list[Arrays]) -> Arrays:
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


def total(costs: list[Json]) -> Json:
    """Add up what slices cost, as `Record.cost` says."""

    def number(cost: Json, name: str) -> float:
        value = cost.get(name, 0)
        return value if isinstance(value, (int, float)) else 0

    found: Json = {
        name: sum(number(cost, name) for cost in costs) for name in ("seconds", "images", "forwards", "backwards")
    }
    found["peak_bytes"] = max((number(cost, "peak_bytes") for cost in costs), default=0)
    if any("images_a_pass" in cost for cost in costs):
        found["images_a_pass"] = [cost.get("images_a_pass") for cost in costs]
    found["devices"] = sorted({str(cost.get("device")) for cost in costs if cost})
    return found
