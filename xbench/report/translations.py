"""What each translating explainer of a run did to its classifier's predictions, in words, counted from the records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xbench.flips import Association, FlipTable, associate, flip_table
from xbench.report.results import Result
from xbench.store import write_atomic

CAVEAT = (
    "Translations that change nothing are valid on just the images that were classified wrongly: fewer valid ones there say "
    "that translations fail on them, more say nothing."
)


def translated(results: Iterable[Result]) -> Iterator[tuple[Result, FlipTable]]:
    """Yield every cell whose explainer translates between two classes, with its counts."""
    for result in results:
        if result.explainer and result.ok and result.translates and len(result.classes) == 2:
            known = _counted(result)
            before, after = result.arrays["predicted"][known], result.arrays["translated"][known]
            yield result, flip_table(result.labels[known], before, after, result.classes)


def _counted(result: Result) -> NDArray[np.bool_]:
    """Return [n]: whether a sample has a true class and a translation."""
    return (result.labels >= 0) & result.arrays["defined"].astype(bool)


def by_another(result: Result) -> Association | None:
    """Return hits of the explained classifier against validity for an independently trained one, where that was measured."""
    if (oracle := result.arrays.get("score/oracle_validity")) is None:
        return None
    known = _counted(result) & ~np.isnan(oracle)
    return associate((result.arrays["predicted"] == result.labels)[known], oracle[known] > 0)


def translation_lines(results: Iterable[Result]) -> Iterator[tuple[Result, list[str]]]:
    """Yield every cell whose explainer translates between two classes, with its lines."""
    for result, table in translated(results):
        lines = table.lines()
        if (independent := by_another(result)) is not None:
            lines.append(f"  by the independently trained classifier: {independent}")
        yield result, [heading(result), *lines]


def heading(result: Result) -> str:
    """Return what was translated, and what its counts take for granted."""
    head = f"{result.explainer} on {result.model} (seed {result.seed}), {result.data}"
    several = len(set(result.samples["groups"])) < len(result.samples["groups"])
    # The tables' intervals draw groups; these counts cannot.
    return head + ("; intervals and tests take images as independent" if several else "")


def write_translations(found: Sequence[Sequence[str]], path: Path) -> Path | None:
    """Write all tables as text; return its path, or None where nothing translates."""
    if not found:
        path.unlink(missing_ok=True)
        return None
    write_atomic(path, ("\n\n".join("\n".join(lines) for lines in found) + "\n").encode())
    return path
