"""All ratios in one run, as a table and bench.json: ``make bench``, or this file with --only and --device."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import executors
import explainers
import growth
import harness
import metrics
import torch
from rich.console import Console
from rich.table import Table
from timing import CASES, GPU_CASES, cores

from xbench.devices import keep_freed_memory
from xbench.metrics.cost import device_name


def main():
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3, help="of each ratio; its median counts")
    parser.add_argument(
        "--only", default="", help="metrics, explainers, harness, growth or executors, separated by commas"
    )
    parser.add_argument("--unit", type=float, default=10.0, metavar="SECONDS", help="of the executors' units")
    parser.add_argument(
        "--images", type=int, nargs=2, default=(1_000, 10_000), metavar=("FEW", "MANY"), help="of the harness"
    )
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    arguments.out.unlink(missing_ok=True)
    keep_freed_memory()  # as workers do; the bare passes gain by it too
    console = Console(width=max(Console().width, 150))
    table = Table(title=f"against bare passes; {device_name(device)}, {cores()} cores, torch {torch.__version__}")
    for name in ("name", "case", "ratio", "rounds", "bound", "ok", "own", "of"):
        table.add_column(name, justify="right" if name in ("ratio", "bound", "own") else "left")
    found = []
    try:
        for row in _rows(arguments, device):
            _tell(row, found, table, console, device)
            versions = {"device": device_name(device), "cores": cores(), "torch": torch.__version__}
            arguments.out.write_text(json.dumps({**versions, "rows": found}, indent=1) + "\n")
    finally:
        console.print(table)
        bound = [row["ok"] for row in found if row["ok"] is not None]
        console.print(f"{sum(bound)} of {len(bound)} within their bounds; own: to passes as the harness makes them")


def _tell(row, found, table, console, device):
    """Add a row to all."""
    found.append({**asdict(row), "ok": row.ok, "device": device_name(device)})
    bound = "" if row.bound is None else f"{'>=' if row.at_least else '<='} {row.bound:.3g}"
    good = {True: "yes", False: "NO", None: ""}[row.ok]
    own = "" if row.own is None else f"{row.own:.3f}"
    console.print(f"{row.name}, {row.case}: {row.ratio:.4g} {good}", markup=False, highlight=False)
    name, spread = row.name.replace("[", r"\["), f"{row.low:.3g} to {row.high:.3g}"
    table.add_row(name, row.case, f"{row.ratio:.4g}", spread, bound, good, own, row.note)


def _rows(arguments, device):
    wanted = [name for name in arguments.only.split(",") if name] or ["metrics", "explainers", "harness", "executors"]
    cases = CASES if device.type == "cpu" else CASES + GPU_CASES
    for name, module in (("metrics", metrics), ("explainers", explainers)):
        if name in wanted:
            for case in cases:
                yield from module.rows(case, device, arguments.rounds)
    if "harness" in wanted:
        try:
            yield from harness.rows(device, *arguments.images)
        except harness.NoRun as error:  # MNIST is not here, say: the other rows are measured all the same
            print(f"left out: {error}", file=sys.stderr)
    if "growth" in wanted:
        yield from growth.rows(device)
    if "executors" in wanted:
        yield from executors.rows(device, arguments.unit, arguments.rounds)


if __name__ == "__main__":
    main()
