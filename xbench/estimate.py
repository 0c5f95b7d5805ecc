"""How long a run would take here: a few training steps and a few samples of every cell, then multiplication."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from xbench.api import missing_fits
from xbench.devices import must_work
from xbench.events import Event, FitProgress, JobDone, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.metrics.cost import device_name
from xbench.plan import Job, Plan, Unit, units
from xbench.slices import Damage, read_slice
from xbench.store import Store, is_column
from xbench.work import Worker

_STEPS, _SECONDS = 40, 5.0
_SAMPLES, _CLASSIFIED = 8, 64


@dataclass(frozen=True)
class Estimate:
    """Seconds of one worker on one device, and bytes of the scores.

    Attributes
    ----------
    training, scoring
        Seconds of all fits that are not cached, and of explaining and scoring what is not committed.
    fits, cells
        How many of each.
    stored
        Bytes that the scores of what is not committed will take; pictures, heads and weights are not in it.
    unknown
        What could not be tried, each with its reason.
    device
        Where it was measured.
    """

    training: float
    scoring: float
    fits: int
    cells: int
    stored: float
    unknown: tuple[str, ...]
    device: str

    def line(self) -> str:
        """Return the estimate in one line."""
        text = (
            f"the full run would take about {duration(self.training + self.scoring)} on {self.device}: training "
            f"{duration(self.training)} ({self.fits} trainings), explaining and scoring {duration(self.scoring)} "
            f"({self.cells} cells, {size(self.stored)} of scores)"
        )
        return text + (f"; not in it: {'; '.join(self.unknown)}" if self.unknown else "")


class _Enough(Exception):
    """A training has been watched for long enough."""


def estimate(plan: Plan, store: Store) -> Estimate:
    """Return how long the rest of a run would take, from trying a little of everything; nothing is kept.

    Classifiers are tried with untrained weights, on which the same operations take the same time.

    Parameters
    ----------
    plan
        The run.
    store
        What is committed of it already.
    """
    config = plan.config
    missing = set(missing_fits(plan, store))
    tasks = [task for task in plan.fits if task.key in missing]
    training, unknown = 0.0, {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="xbench-estimate-") as folder:
        options = WorkOptions(out=Path(folder), device=config.device, batch=config.batch)
        for task in tasks:
            name = task.component.text
            if name not in seconds:
                try:
                    seconds[name] = _training_seconds(task, options, Path(folder) / task.key)
                except Exception as error:
                    unknown[name] = f"training {name} ({type(error).__name__}: {' '.join(str(error).split())})"
                    seconds[name] = 0.0
            training += seconds[name]
        scoring = stored = 0.0
        tries = _Tries(missing, options, unknown)
        cells: set[str] = set()
        for unit in units(plan, store):  # one by one: of a large run there are many, each with its samples
            for job in unit.jobs:
                spent, kept = tries.of(unit, job)
                scoring, stored = scoring + spent * len(unit.ids), stored + kept * len(unit.ids)
                cells.add(job.key)
        device = device_name(Worker(options, lambda event: None).device)
    return Estimate(training, scoring, len(tasks), len(cells), stored, tuple(unknown.values()), device)


def _training_seconds(task: FitTask, options: WorkOptions, folder: Path) -> float:
    """Return how long a training takes, told by its first steps."""
    seen: list[tuple[int, int, float]] = []

    def watch(event: Event) -> None:
        if isinstance(event, FitProgress) and event.done:
            must_work(worker.device)  # and has done all that it was given
            seen.append((event.done, event.total, time.perf_counter()))
            if len(seen) > 3 and (len(seen) > _STEPS or seen[-1][2] - seen[0][2] > _SECONDS):
                raise _Enough

    if task.model is not None:
        task = replace(task, model_fit=None, model=task.model.trained)
    folder.mkdir()
    start = time.perf_counter()
    try:
        worker = Worker(options, watch)
        worker._train(task, folder)
    except _Enough:
        (first, total, begin), (last, _, end) = seen[0], seen[-1]
        return begin - start + (total - first) * (end - begin) / max(1, last - first)
    return time.perf_counter() - start


class _Tries:
    """What a sample of a job takes, in seconds and in bytes; what was tried on the same kind of model is not tried again."""

    def __init__(self, missing: set[str], options: WorkOptions, unknown: dict[str, str]) -> None:
        self.missing, self.options, self.unknown = missing, options, unknown
        self._known: dict[str, tuple[float, float]] = {}
        # By the identity of components, which the plan keeps alive.
        self._names: dict[tuple[int, int], str] = {}

    def of(self, unit: Unit, job: Job) -> tuple[float, float]:
        """Return seconds and bytes a sample."""
        place = id(unit.model), id(job.explainer)
        if place not in self._names:
            who = job.explainer.text if job.explainer else "the classifier"
            self._names[place] = f"{who} on {unit.model.trained.text}"
        name = self._names[place]
        if name not in self._known:
            self._known[name] = self._try(unit, job, name)
        return self._known[name]

    def _try(self, unit: Unit, job: Job, name: str) -> tuple[float, float]:
        if job.explainer_fit in self.missing:
            self.unknown[name] = f"{name} (it is trained first)"
            return 0.0, 0.0
        count = min(len(unit.ids), _SAMPLES if job.explainer else _CLASSIFIED)
        part = replace(unit, ids=unit.ids[:count], labels=unit.labels[:count], jobs=(job,))
        if unit.model_fit in self.missing:
            part = replace(part, model=unit.model.trained, model_fit=None)
        if unit.oracle_fit in self.missing:
            part = replace(part, oracle_fit=None, jobs=(_without_oracle(job),))
        spent = _tried(part, self.options, name, self.unknown)
        found = read_slice(Store(self.options.out).folder(job.key), job.key, unit.part, Damage())
        kept = sum(each.nbytes for column, each in found.arrays.items() if is_column(column)) if found else 0
        return spent / count, kept / count


def _tried(part: Unit, options: WorkOptions, name: str, unknown: dict[str, str]) -> float:
    """Return how long a small unit takes the second time, when everything it needs is loaded."""
    faults: list[JobDone] = []

    def hear(event: Event) -> None:
        if isinstance(event, JobDone) and event.status != "ok":
            faults.append(event)

    worker = Worker(options, hear)
    worker.run(part)
    # Elsewhere: what is committed is not computed again.
    worker.store = Store(options.out / "again")
    start = time.perf_counter()
    if not faults:
        worker.run(part)
    if faults:
        unknown[name] = f"{name} ({faults[0].reason})"
        return 0.0
    return time.perf_counter() - start


def _without_oracle(job: Job) -> Job:
    """Return a job without the metrics that ask another classifier, which is not trained yet."""
    return replace(job, metrics=tuple(one for one in job.metrics if "oracle" not in getattr(one.spec, "uses", ())))


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Return a number of bytes as people say it: ``12 MB``, ``1.3 TB``."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count / 1000:.0f} kB"
