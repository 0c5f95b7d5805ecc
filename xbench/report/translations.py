"""What each translating explainer of a run did to its classifier's predictions, in words, counted from the records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from xbench.flips import FlipTable, associate, flip_table
from xbench.report.results import Result
from xbench.store import write_atomic


def translated(results: Iterable[Result]) -> Iterator[tuple[Result, FlipTable]]:
    """Yield every cell whose explainer translates between two classes, with its counts."""
    for result in results:
        if result.explainer and result.ok and result.translates and len(result.classes) == 2:
            known = result.arrays["defined"].astype(bool)
            before, after = result.arrays["predicted"][known], result.arrays["translated"][known]
            yield result, flip_table(result.labels[known], before, after, result.classes)


def translation_lines(results: Iterable[Result]) -> Iterator[tuple[Result, list[str]]]:
    """Yield every cell whose explainer translates between two classes, with its lines."""
    for result, table in translated(results):
        known = result.arrays["defined"].astype(bool)
        lines = table.lines()
        if (oracle := result.arrays.get("score/oracle_validity")) is not None:
            valid, right = oracle[known], (result.arrays["predicted"] == result.labels)[known]
            told = ~np.isnan(valid)
            lines.append(f"  by the independently trained classifier: {associate(right[told], valid[told] > 0)}")
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
