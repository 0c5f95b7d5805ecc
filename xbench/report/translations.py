"""What each translating explainer of a run did to its classifier's predictions, in words, counted from the records."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from xbench.flips import associate, flip_table
from xbench.plan import Cell, Plan
from xbench.store import Store, write_atomic


def translation_lines(store: Store, plan: Plan) -> Iterator[tuple[Cell, list[str]]]:
    """Yield every cell whose explainer translates between two classes, with its lines."""
    classes = plan.test.classes
    for cell in plan.cells:
        if cell.explainer is None or cell.unsupported or len(classes) != 2:
            continue
        record = store.read(cell.key)
        if record.status != "ok" or "translated" not in record.arrays:
            continue
        known = record.arrays["defined"].astype(bool)
        labels = np.asarray(cell.selection.labels)[known]
        before, after = record.arrays["predicted"][known], record.arrays["translated"][known]
        lines = flip_table(labels, before, after, classes).lines()
        if (oracle := record.arrays.get("score/oracle_validity")) is not None:
            valid = oracle[known]
            told = ~np.isnan(valid)
            lines.append(
                f"  by the independently trained classifier: {associate((before == labels)[told], valid[told] > 0)}"
            )
        head = f"{cell.explainer.text} on {cell.model.text} (seed {cell.seed}), {plan.config.data.text}"
        several = len(set(cell.selection.groups)) < len(cell.selection.groups)
        # The tables' intervals draw groups; these counts cannot.
        yield cell, [head + ("; intervals and tests take images as independent" if several else ""), *lines]


def write_translations(found: Sequence[Sequence[str]], path: Path) -> Path | None:
    """Write all tables as text; return its path, or None where nothing translates."""
    if not found:
        path.unlink(missing_ok=True)
        return None
    write_atomic(path, ("\n\n".join("\n".join(lines) for lines in found) + "\n").encode())
    return path
