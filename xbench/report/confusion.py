"""Confusion matrices of a run's classifiers, counted from its records."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.plan import Plan
from xbench.store import Store, write_atomic

_PRINTED = 5


@dataclass(frozen=True)
class Confusion:
    """What one classifier takes the test samples for: ``counts`` [K,K], a row a true class, a column a predicted one."""

    model: str
    seed: int
    classes: tuple[str, ...]
    counts: np.ndarray

    def lines(self) -> list[str]:
        """Return the matrix in words, a line a true class; nothing where there are more than five classes."""
        if len(self.classes) > _PRINTED:
            return []
        found = []
        for name, row in zip(self.classes, self.counts, strict=True):
            parts = ", ".join(f"{n} as {other}" for n, other in zip(row, self.classes, strict=True))
            found.append(f"{self.model} (seed {self.seed}) takes {row.sum()} {name} samples for: {parts}")
        return found


def confusions(store: Store, plan: Plan) -> Iterator[Confusion]:
    """Yield the matrix of every classifier that the run measured whole; single epochs of a series are left out."""
    classes = plan.test.classes
    for cell in plan.cells:
        if cell.explainer or cell.unsupported or cell.model.series:
            continue
        record = store.read(cell.key)
        if record.status == "ok":
            counts = np.zeros((len(classes), len(classes)), dtype=int)
            np.add.at(counts, (np.asarray(cell.selection.labels), record.arrays["predicted"]), 1)
            yield Confusion(cell.model.text, cell.seed, classes, counts)


def write_confusions(found: Sequence[Confusion], path: Path) -> Path | None:
    """Write all matrices as one table, a line a pair of classes; return its path, or None where there is no matrix."""
    if not found:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "seed", "label", "predicted", "n"))
    for one in found:
        for label, row in zip(one.classes, one.counts, strict=True):
            writer.writerows((one.model, one.seed, label, other, n) for other, n in zip(one.classes, row, strict=True))
    write_atomic(path, text.getvalue().encode())
    return path
