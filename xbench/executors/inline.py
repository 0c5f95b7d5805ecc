"""Every task in the calling process: for debuggers."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from xbench.errors import Broken, XbenchError
from xbench.events import Event, JobDone, TaskDone, WorkOptions
from xbench.plan import Task, Unit

if TYPE_CHECKING:
    from xbench.work import Worker


class InlineExecutor:
    """Run every task in the calling process, one after the other."""

    workers = 1

    def __init__(self, options: WorkOptions) -> None:
        self.options = options
        self._events: list[Event] = []
        self._failed: set[str] = set()
        self._worker: Worker | None = None
        self._threads = 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Yield the events of each task when it has ended."""
        for task in tasks:
            if isinstance(task, Unit):
                task = replace(task, jobs=tuple(job for job in task.jobs if job.key not in self._failed))
            worker, start = self._the_worker(), time.monotonic()
            try:
                worker.run(task, self.options.threads if isinstance(task, Unit) else self._threads)
            except Broken as error:
                yield from self._events
                raise XbenchError(
                    f"{error}: what is committed is kept, run again; executor=local goes on by itself"
                ) from error
            self._failed |= {event.key for event in self._events if isinstance(event, JobDone) and event.status != "ok"}
            yield from self._events
            self._events.clear()
            yield TaskDone(time.monotonic() - start)

    def _the_worker(self) -> "Worker":
        if self._worker is None:
            import torch  # which a run with nothing to do does without

            from xbench.work import Worker

            self._threads = torch.get_num_threads()
            self._worker = Worker(self.options, self._events.append)
        return self._worker

    def close(self) -> None:
        """Leave the process with the threads it came with."""
        if self._worker is not None and self.options.threads:
            import torch

            torch.set_num_threads(self._threads)
