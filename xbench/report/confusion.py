"""Confusion matrices of a run's classifiers, counted from its records."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.export import harmless
from xbench.report.results import Result
from xbench.store import write_atomic

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


def confusions(results: Iterable[Result]) -> Iterator[Confusion]:
    """Yield the matrix of every classifier that the run measured whole; single epochs of a series are left out."""
    for result in results:
        if result.explainer or result.series or not result.ok:
            continue
        counts = np.zeros((len(result.classes), len(result.classes)), dtype=int)
        known = (result.labels >= 0) & (
            result.arrays["predicted"] >= 0
        )  # -1: no label, or a sample that cannot be read
        np.add.at(counts, (result.labels[known], result.arrays["predicted"][known]), 1)
        if not known.any():
            continue
        yield Confusion(result.model, result.seed, result.classes, counts)


def write_confusions(found: Sequence[Confusion], path: Path) -> Path | None:
    """Write all matrices as one table, a line a pair of classes that was counted; return its path, or None without a matrix."""
    if not found:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "seed", "label", "predicted", "n"))
    for one in found:
        for label, row in zip(one.classes, one.counts, strict=True):
            counts = zip(one.classes, row, strict=True)
            writer.writerows(
                (harmless(one.model), one.seed, harmless(label), harmless(other), n) for other, n in counts if n
            )
    write_atomic(path, text.getvalue().encode())
    return path
