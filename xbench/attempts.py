"""What the loss of a process costs: its job is tried once more, then recorded and set aside; the rest of its unit goes on."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from xbench.events import Event, FitDone, JobDone, JobStarted, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.plan import Task, Unit
from xbench.stopping import Stoppable
from xbench.store import Store

CRASHES_ALLOWED = 2
"""How often a job may end its process before it is set aside."""


@dataclass(kw_only=True)
class Flight:
    """What one process has in hand.

    Attributes
    ----------
    task
        What is left of it, or None.
    job
        The job of it that goes on at this moment, or None between jobs.
    deadline
        When that job's budget is spent, on the clock of `time.monotonic`.
    """

    task: Task | None = None
    job: JobStarted | None = None
    deadline: float = float("inf")


@dataclass
class Attempts:
    """The tasks of a run that are still to be given out, and what is known of those that failed.

    Parameters
    ----------
    options
        The folder, where failures are recorded, and a job's budget.
    """

    options: WorkOptions
    _again: deque[Task] = field(default_factory=deque)
    _crashes: dict[str, float] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _source: Iterator[Task] = field(default_factory=lambda: iter(()))
    _stopping: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        self._store = Store(self.options.out)

    def begin(self, tasks: Iterable[Task]) -> None:
        """Give out these tasks from now on, as they are asked for."""
        self._source = iter(tasks)
        self._again.clear()
        self._stopping = tasks.stopping if isinstance(tasks, Stoppable) else None

    def next(self) -> Task | None:
        """Return what to do next, without the jobs of cells that failed; None where nothing is left, or the run is to stop."""
        while True:
            if self._stopping and self._stopping():
                return None
            task = self._again.popleft() if self._again else next(self._source, None)
            if task is None or (left := self._left(task)) is not None:
                return left if task else None

    def heard(self, flight: Flight, event: Event) -> None:
        """Follow what a process does."""
        if isinstance(event, JobStarted):
            flight.job, flight.deadline = event, time.monotonic() + self.options.budget
        elif isinstance(event, JobDone):
            flight.job, flight.deadline = None, float("inf")
            if event.status != "ok":
                self._failed.add(event.key)
            if isinstance(flight.task, Unit):
                rest = tuple(job for job in flight.task.jobs if job.key != event.key)
                flight.task = replace(flight.task, jobs=rest) if rest else None
        elif isinstance(event, FitDone):
            flight.task = None

    def overdue(self, flight: Flight) -> Iterator[Event]:
        """Record that a job took longer than its budget; its process, which the caller ends, gives back the rest."""
        assert flight.job is not None
        budget = f"took longer than its budget of {self.options.budget:g} s for one slice; budget=SECONDS allows more"
        yield self._fail(flight, flight.job, "timeout", budget)
        self.give_back(flight)

    def crashed(self, flight: Flight, how: str, detail: str = "", weight: float = 1.0) -> Iterator[Event]:
        """Count that a process has ended by itself, and give back or set aside what it did.

        Parameters
        ----------
        flight
            What it had in hand.
        how, detail
            How it ended, in a few words, and what it wrote last.
        weight
            How much of a crash that is: less than 1 where the job is hardly to blame.
        """
        task, job = flight.task, flight.job
        if task is not None:
            what = job.key if job else _name(task)
            self._crashes[what] = self._crashes.get(what, 0.0) + weight
            if self._crashes[what] >= CRASHES_ALLOWED:
                times = "twice" if weight == 1.0 else "again and again"
                reason = f"ended its process {times} ({how})"
                if isinstance(task, FitTask):
                    flight.task = None
                    yield FitDone(task.key, problem=reason)
                else:
                    # Where none had begun, all of them need what it died of.
                    for lost in [job] if job else [JobStarted(each.key, task.part) for each in task.jobs]:
                        yield self._fail(flight, lost, "crashed", reason, detail)
        self.give_back(flight)

    def give_back(self, flight: Flight) -> None:
        """Take back what a process had not finished, to be given out again first."""
        if flight.task is not None:
            self._again.append(flight.task)
        flight.task, flight.job, flight.deadline = None, None, float("inf")

    def _left(self, task: Task) -> Task | None:
        if isinstance(task, FitTask):
            return task
        jobs = tuple(job for job in task.jobs if job.key not in self._failed)
        return replace(task, jobs=jobs) if jobs else None

    def _fail(self, flight: Flight, job: JobStarted, status: str, reason: str, detail: str = "") -> JobDone:
        self._failed.add(job.key)
        self._store.fail(job.key, status, reason, detail)
        return JobDone(job.key, job.part, len(flight.task.ids) if isinstance(flight.task, Unit) else 0, status, reason)


def _name(task: Task) -> str:
    return task.key if isinstance(task, FitTask) else f"{task.samples_digest} {task.part} {task.jobs[0].key}"
