"""How long a run would take here: a few training steps and a few samples of every cell, then multiplication."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from xbench.api import missing_fits
from xbench.events import Event, FitProgress, JobDone, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.metrics.cost import device_name
from xbench.plan import Job, Plan, Unit, units
from xbench.store import Store
from xbench.work import Worker

_STEPS, _SECONDS = 40, 5.0
_SAMPLES, _CLASSIFIED = 8, 64


@dataclass(frozen=True)
class Estimate:
    """Seconds of one worker on one device.

    Attributes
    ----------
    training, scoring
        Seconds of all fits that are not cached, and of explaining and scoring what is not committed.
    fits, cells
        How many of each.
    unknown
        What could not be tried, each with its reason.
    device
        Where it was measured.
    """

    training: float
    scoring: float
    fits: int
    cells: int
    unknown: tuple[str, ...]
    device: str

    def line(self) -> str:
        """Return the estimate in one line."""
        text = (
            f"the full run would take about {duration(self.training + self.scoring)} on {self.device}: training "
            f"{duration(self.training)} ({self.fits} trainings), explaining and scoring {duration(self.scoring)} "
            f"({self.cells} cells)"
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
        scoring = 0.0
        left = list(units(plan, store))
        for unit in left:
            scoring += sum(_scoring_seconds(unit, missing, options, seconds, unknown))
        device = device_name(Worker(options, lambda event: None).device)
    cells = len({job.key for unit in left for job in unit.jobs})
    return Estimate(training, scoring, len(tasks), cells, tuple(unknown.values()), device)


def _training_seconds(task: FitTask, options: WorkOptions, folder: Path) -> float:
    """Return how long a training takes, told by its first steps."""
    seen: list[tuple[int, int, float]] = []

    def watch(event: Event) -> None:
        if isinstance(event, FitProgress) and event.done:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seen.append((event.done, event.total, time.perf_counter()))
            if len(seen) > 3 and (len(seen) > _STEPS or seen[-1][2] - seen[0][2] > _SECONDS):
                raise _Enough

    if task.model is not None:
        task = replace(task, model_fit=None, model=task.model.trained)
    folder.mkdir()
    start = time.perf_counter()
    try:
        Worker(options, watch)._train(task, folder)
    except _Enough:
        (first, total, begin), (last, _, end) = seen[0], seen[-1]
        return begin - start + (total - first) * (end - begin) / max(1, last - first)
    return time.perf_counter() - start


def _scoring_seconds(
    unit: Unit, missing: set[str], options: WorkOptions, known: dict[str, float], unknown: dict[str, str]
) -> list[float]:
    """Return the seconds of each job of a unit; what was tried before on the same kind of model is not tried again."""
    found = []
    model = unit.model.trained
    for job in unit.jobs:
        name = f"{job.explainer.text if job.explainer else 'the classifier'} on {model.text}"
        count = min(len(unit.ids), _SAMPLES if job.explainer else _CLASSIFIED)
        if name not in known:
            if job.explainer_fit in missing:
                unknown[name] = f"{name} (it is trained first)"
                known[name] = 0.0
            else:
                part = replace(unit, ids=unit.ids[:count], labels=unit.labels[:count], jobs=(job,))
                if unit.model_fit in missing:
                    part = replace(part, model=model, model_fit=None)
                if unit.oracle_fit in missing:
                    part = replace(part, oracle_fit=None, jobs=(_without_oracle(job),))
                known[name] = _tried(part, options, name, unknown) / count
        found.append(known[name] * len(unit.ids))
    return found


def _tried(part: Unit, options: WorkOptions, name: str, unknown: dict[str, str]) -> float:
    """Return how long a small unit takes the second time, when everything it needs is loaded."""
    faults: list[JobDone] = []

    def hear(event: Event) -> None:
        if isinstance(event, JobDone) and event.status != "ok":
            faults.append(event)

    worker = Worker(options, hear)
    worker.run(part)
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
