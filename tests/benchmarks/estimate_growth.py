"""What a much larger run would take, from the costs of a finished one: ``python tests/benchmarks/estimate_growth.py RUN``."""

import argparse
import json
from pathlib import Path

from xbench.manifest import run_folder
from xbench.store import Store, canonical, slice_size


def measured(folder):
    """Return the unit costs of a run's explainers: seconds and bytes a map, bytes of a slice's head and of a definition."""
    keys, _, _ = run_folder(folder)
    store = Store(folder)
    cells = samples = slices = 0
    seconds = columns = heads = definitions = 0.0
    devices = set()
    for key in keys:
        definition, at = store.definition(key), store.folder(key)
        costs = [json.loads(path.read_bytes()) for path in at.glob("*.cost.json")]
        if not definition["explainer"] or not costs:
            continue
        cells, samples, slices = cells + 1, samples + definition["n"], slices + len(costs)
        seconds += sum(cost["seconds"] + cost.get("scoring_seconds", 0.0) for cost in costs)
        devices |= {cost["device"] for cost in costs}
        arrays = store.read(key).arrays
        columns += sum(value.nbytes for name, value in arrays.items() if not name.startswith(("gallery/", "curve/")))
        heads += sum(path.stat().st_size for path in at.glob("[0-9]*.json"))
        definitions += len(canonical(definition))
    return {
        "cells": cells, "devices": sorted(devices), "seconds": seconds / samples, "columns": columns / samples,
        "head": heads / slices, "definition": definitions / cells,
    }  # fmt: skip


def table(cost, explainers, models, samples, plan, bootstrap, scores):
    """Return the lines of the estimate."""
    cells, slices = explainers * models, -(-samples // slice_size(samples))
    hours, rows = cells * samples * cost["seconds"] / 3600, cells * scores
    return [
        f"measured on {', '.join(cost['devices'])}: {cost['cells']} cells of explainers; "
        f"{1000 * cost['seconds']:.3g} ms and {cost['columns']:.0f} bytes a map",
        f"{cells:,} cells of {samples:,} samples: {cells * samples:,} maps in {cells * slices:,} slices",
        f"devices: {hours:,.0f} hours; {hours / 24:,.0f} of them for a day",
        f"stored: {cells * samples * cost['columns'] / 1e12:.3g} TB of columns, {cells * slices * cost['head'] / 1e9:.3g} GB "
        f"of heads and costs, {cells * cost['definition'] / 1e9:.2g} GB of definitions; {cells * (1 + 3 * slices):,} files",
        f"planning: {cells * plan:.2g} s",
        f"tables: {rows:,} numbers, {rows * samples * bootstrap / 3600:,.0f} hours of one core for their intervals, "
        f"{cells * samples * cost['columns'] / 1e12:.3g} TB of memory",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--explainers", type=int, default=100)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--scores", type=int, default=25, help="numbers a cell")
    parser.add_argument("--plan", type=float, default=1e-5, help="seconds of planning a cell")
    parser.add_argument("--bootstrap", type=float, default=1.6e-5, help="seconds of an interval's core a sample")
    given = parser.parse_args()
    sizes = given.explainers, given.models, given.samples
    print("\n".join(table(measured(given.folder), *sizes, given.plan, given.bootstrap, given.scores)))
