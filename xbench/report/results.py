"""What pictures and reports ask of a run's records, read once and without its plan or its plugins."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.record import for_tables
from xbench.store import Arrays, Json, Record, Store, gallery_key
from xbench.unread import line, unread_in


@dataclass(frozen=True, eq=False)
class Result:
    """A cell's record with the table of its samples; properties name what its definition says."""

    record: Record
    samples: Json

    @property
    def definition(self) -> Json:
        """What the cell's key is the hash of."""
        return self.record.definition

    @property
    def arrays(self) -> Arrays:
        """What was measured."""
        return self.record.arrays

    @property
    def ok(self) -> bool:
        """Whether every slice is there."""
        return self.record.status == "ok"

    @property
    def explainer(self) -> str | None:
        """The explainer as the table writes it, or None for the classifier alone."""
        found = self.definition["explainer"]
        return str(found["text"]) if found else None

    @property
    def control(self) -> bool:
        """Whether the explainer is a control."""
        return bool(self.definition["explainer"] and self.definition["explainer"]["control"])

    @property
    def model(self) -> str:
        """The classifier, with its checkpoint."""
        return str(self.definition["model"]["text"])

    @property
    def series(self) -> str:
        """The series of checkpoints that the classifier is one of, or an empty string."""
        return str(self.definition.get("series") or "")

    @property
    def checkpoint(self) -> int:
        """The epoch of the classifier's weights; 0 where they are the last ones."""
        return int(self.definition["model"].get("checkpoint") or 0)

    @property
    def seed(self) -> int:
        """The seed of trainings and draws."""
        return int(self.definition["seed"])

    @property
    def data(self) -> str:
        """The data set."""
        return str(self.definition["data"]["text"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(map(str, self.definition["classes"]))

    @property
    def labels(self) -> NDArray[np.int64]:
        """The samples' true classes [n]."""
        return np.asarray(self.samples["labels"], dtype=np.int64)

    @property
    def translates(self) -> bool:
        """Whether the explainer makes an image of the other class."""
        return "translated" in self.arrays

    @property
    def has_map(self) -> bool:
        """Whether maps were kept for pictures; one who only translates leaves maps of zeros."""
        if "gallery/attribution" not in self.arrays:
            return False
        return not self.translates or bool((self.arrays["gallery/attribution_scale"] > 0).any())


def read_results(store: Store, keys: Iterable[str]) -> list[Result]:
    """Return the cells of a run with their records, in the order of the plan. Raises XbenchError where one is damaged."""
    tables: dict[str, Json] = {}
    found = []
    for key in keys:
        record = for_tables(store.read(key))
        digest = record.definition["samples"]
        if digest not in tables:
            tables[digest] = store.samples(digest)
        found.append(Result(record, tables[digest]))
    return found


def unread_line(results: Iterable[Result]) -> str:
    """Return the line that a run says of samples that cannot be read, or an empty string."""
    found: dict[str, str] = {}
    tables: dict[str, Json] = {}
    for result in results:
        found |= unread_in(result.record.unmeasured)
        tables[result.definition["samples"]] = result.samples
    return line(found, len({name for table in tables.values() for name in table["ids"]})) if found else ""


def gallery_of(store: Store, result: Result) -> dict[str, dict[int, NDArray[Any]]]:
    """Return the images, masks and exact counterfactuals beside a cell's maps, each by the sample's row; or nothing."""
    if "gallery/row" not in result.arrays:
        return {}
    rows = result.arrays["gallery/row"].tolist()
    images = store.gallery(gallery_key(result.definition["samples"], rows))
    return {name: dict(zip(rows, values, strict=True)) for name, values in images.items()}
