"""Worker processes with a time budget: what hangs or dies is killed, recorded and replaced."""

import os
import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xbench import gpus
from xbench.attempts import CRASHES_ALLOWED, Attempts
from xbench.cores import cores
from xbench.events import Event, Fatal, Note, Ready, TaskDone, WorkOptions
from xbench.executors.process import Inbox, WorkerProcess, start
from xbench.fit_tasks import FitTask
from xbench.plan import Task

_LOOK_SECONDS = 5.0
_ALONE_SECONDS = 10.0
_OFTEN_SECONDS = 0.5
_SHORTEST_SECONDS = 0.1
_WORDS_SECONDS = 1.0
"""How long the last words of a worker may take through its pipe."""
_START_SECONDS = 60.0
"""What a worker may take to give its first signs of life, however little ``silence`` is: loading torch lets no Python run."""


@dataclass
class LocalExecutor:
    """Keep ``workers`` processes busy; kill and replace one that overruns its budget, freezes or dies.

    Trainings run one at a time on the CPU, with all cores: the number of threads decides how sums are rounded, and so the
    weights must not depend on the number of workers.
    """

    options: WorkOptions
    _processes: list[WorkerProcess] = field(default_factory=list)
    _inbox: Inbox = field(default_factory=queue.Queue)
    _false_starts: int = 0
    _begun: float = float("inf")

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.options)
        self._on_gpu = gpus.on_gpu(self.options.device, os.environ)

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        self._attempts.begin(tasks)
        for event in self._events():
            if isinstance(event, Fatal):
                self.close()
                yield event
                return
            yield event

    def close(self) -> None:
        """Kill all workers."""
        while self._processes:
            self._processes.pop().kill()

    def _events(self) -> Iterator[Event]:
        looked = time.monotonic()
        while True:
            while self._has_room() and (task := self._attempts.next()) is not None:
                self._give(task)
            busy = [process for process in self._processes if process.busy]
            if not busy:
                return
            wait = min(_LOOK_SECONDS, *(process.deadline - time.monotonic() for process in busy))
            for process, event in self._mail(max(_SHORTEST_SECONDS, wait)):
                if process not in self._processes:
                    continue  # the last words of a process that was killed
                if event is None:
                    yield from self._lost(process, process.end())
                else:
                    yield from self._heard(process, event)
            now = time.monotonic()
            if now - looked > 2 * _LOOK_SECONDS:  # not they, this process was stopped, or whoever follows it was slow
                for process in self._processes:
                    process.deadline += now - looked
                    process.heard = now
            if now - looked > _OFTEN_SECONDS:
                yield from self._look(now)
                looked = time.monotonic()

    def _mail(self, wait: float) -> Iterator[tuple[WorkerProcess, Event | None]]:
        """Return what has come, or comes in time; no more than that, however talkative one of them is."""
        try:
            yield self._inbox.get(timeout=wait)
            for _ in range(self._inbox.qsize()):
                yield self._inbox.get_nowait()
        except queue.Empty:
            return

    def _has_room(self) -> bool:
        fitting = any(isinstance(process.task, FitTask) for process in self._processes)
        if fitting and not self._on_gpu:
            return False
        busy = sum(process.busy for process in self._processes)
        if self.options.own_choice and not self._on_gpu and 0 < busy == len(self._processes):
            # Another process takes seconds of the cores to start: a run that is nearly done is done sooner without.
            return busy < self.options.workers and time.monotonic() - self._begun > _ALONE_SECONDS
        return busy < self.options.workers

    def _give(self, task: Task) -> None:
        process = next((process for process in self._processes if not process.busy), None)
        if process is None:
            # The lowest free number: it decides the GPU and the log.
            number = min(set(range(self.options.workers)) - {process.number for process in self._processes})
            process = start(number, self.options, self._inbox)
            self._begun = min(self._begun, time.monotonic())
            self._processes.append(process)
        share = self.options.threads or max(1, cores() // self.options.workers)
        process.task, process.busy = task, True
        process.send((task, cores() if isinstance(task, FitTask) else share))

    def _heard(self, process: WorkerProcess, event: Event) -> Iterator[Event]:
        self._attempts.heard(process, event)
        if isinstance(event, TaskDone):
            process.task, process.busy = None, False
        elif isinstance(event, Ready):
            process.ready, self._false_starts = True, 0
        yield event

    def _look(self, now: float) -> Iterator[Event]:
        """End what has overrun its budget, is frozen, or is dead while a child of it holds its pipe open."""
        for process in list(self._processes):
            if process.deadline <= now:
                yield from self._attempts.overdue(process)
                self._remove(process)
            elif now - process.heard > (allowed := self._silence(process)):
                how = f"killed after {allowed:g} s without a sign of life; silence=SECONDS waits longer"
                yield from self._lost(process, how)
            elif now - process.heard > _WORDS_SECONDS and process.process.poll() is not None:
                yield from self._lost(process, process.end())

    def _silence(self, process: WorkerProcess) -> float:
        return self.options.silence if process.ready else max(self.options.silence, _START_SECONDS)

    def _lost(self, process: WorkerProcess, how: str) -> Iterator[Event]:
        """Count the loss of a process by its own fault, or its job's, and have what it had in hand tried again."""
        self._remove(process)
        if process.busy:
            yield Note(f"worker {process.number} is replaced: {how} ({process.log})")
        if process.ready:
            how += f"; see {process.log}" if isinstance(process.task, FitTask) else ""
            yield from self._attempts.crashed(process, how, process.last_words())
            return
        self._attempts.give_back(process)
        self._false_starts += 1
        if self._false_starts >= CRASHES_ALLOWED:
            last = process.last_words().strip().rpartition("\n")[2]
            yield Fatal(
                f"a worker ended twice before its first task ({how}); see {process.log}{f': {last}' if last else ''}"
            )

    def _remove(self, process: WorkerProcess) -> None:
        process.kill()
        self._processes.remove(process)
