"""What executors cost: their own time beside a unit's, and what a second worker gains."""

import importlib.util
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from timing import Row, cores

from xbench.api import prepare
from xbench.components import import_attr
from xbench.config import make_config
from xbench.events import Fatal, JobDone, TaskDone, WorkOptions
from xbench.plan import make_plan, units
from xbench.plugins import discover
from xbench.store import Store

CASE = "mnist/s2 on digits, perturbation/rise"
MASKS = 50
BOUNDS = {"inline": 0.02, "local": 0.02, "ray": 0.05}


def rows(device, seconds=10.0, rounds=3):
    """Yield the rows; a unit takes about so many ``seconds`` of one thread."""
    registry = discover()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        masks = round(MASKS * seconds / tried(registry, folder / "tried", device))
        if device.type == "cpu" and cores() >= 2:
            yield two_workers(registry, folder, device, masks, rounds)
        for name, bound in BOUNDS.items():
            if name in registry.executors and (name != "ray" or importlib.util.find_spec("ray")):
                yield overhead(name, registry, folder, device, masks, rounds, bound)


def prepared(registry, folder, device, masks):
    """Return units of 64 images each, without trainings: untrained weights cost what any others do."""
    settings = ["suite=mnist", "data=mnist/digits", "model=mnist/s2", f"explainer=perturbation/rise[n={masks}]"]
    settings += ["metric=deletion", "seed=0,1,2,3", "limit=320", f"device={device.type}", f"out={folder}"]
    plan = make_plan(make_config(settings, registry))
    store = Store(folder)
    prepare(plan, registry, store)
    return [replace(unit, model_fit=None) for unit in units(plan, store)]


class Running:
    """An executor that has started, in a folder of its own; a context manager."""

    def __init__(self, name, registry, folder, device, workers=1):
        options = WorkOptions(folder.absolute(), device=device.type, threads=1, workers=workers)
        self.executor = import_attr(registry.executors[name].factory)(options)
        self.folder, self.workers = folder, workers
        self.warm = prepared(registry, folder, device, 1)[:workers]

    def __enter__(self):
        self(self.warm)
        return self

    def __exit__(self, *error):
        self.executor.close()

    def __call__(self, tasks):
        """Carry out tasks; return the seconds that it took, and those that workers spent on them."""
        start, spent = time.perf_counter(), 0.0
        for event in self.executor.run(tasks):
            if isinstance(event, TaskDone):
                spent += event.seconds
            elif isinstance(event, Fatal) or (isinstance(event, JobDone) and (event.status != "ok" or event.found)):
                raise SystemExit(f"no measure of an executor: {event}")
        return time.perf_counter() - start, spent


def tried(registry, folder, device):
    """Return how long a unit of `MASKS` masks takes a worker of one thread."""
    with Running("local", registry, folder, device) as run:
        return run(prepared(registry, folder, device, MASKS)[:1])[1]


def two_workers(registry, folder, device, masks, rounds):
    """Return how many times the cells a minute of one worker two of them do, one thread each."""
    made = []
    with (
        Running("local", registry, folder / "one", device) as one,
        Running("local", registry, folder / "two", device, 2) as two,
    ):
        for number in range(rounds):
            seconds = []
            for run in (one, two):
                left = prepared(registry, run.folder, device, masks)[2 * number :]
                seconds.append(run(left[:2])[0])
            made.append(seconds[0] / seconds[1])
    note = f"cells a minute to those of one; {rounds} rounds of 2 units"
    middle = statistics.median(made)
    return Row("2 workers of one thread", CASE, middle, 1.7, min(made), max(made), note=note, at_least=True)


def overhead(name, registry, folder, device, masks, rounds, bound):
    """Return what an executor that has started adds to a unit: its time around what the worker spent, of that."""
    made, whole = [], []
    with Running(name, registry, folder / name, device) as run:
        for number in range(rounds):
            wall, spent = run(prepared(registry, run.folder, device, masks)[number : number + 1])
            made.append((wall - spent) / spent)
            whole.append(spent)
    note = f"of a unit of {statistics.median(whole):.1f} s, after start-up; load {os.getloadavg()[0]:.1f}"
    return Row(f"executor overhead, {name}", CASE, statistics.median(made), bound, min(made), max(made), note=note)
