"""Worker processes with a time budget: what hangs or dies is killed, recorded and replaced."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from xbench import wire
from xbench.events import Event, Fatal, FitDone, JobDone, JobStarted, Ready, TaskDone, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.plan import Task, Unit
from xbench.store import Store

_CRASHES_ALLOWED = 2
_LOOK_SECONDS = 5.0


@dataclass
class _Process:
    """One worker process and what it is doing."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    task: Task | None = None
    job: JobStarted | None = None
    deadline: float = float("inf")
    ready: bool = False


@dataclass
class LocalExecutor:
    """Keep ``workers`` processes busy; kill and replace one that overruns its budget or dies.

    Trainings run one at a time on the CPU, with all cores: the number of threads decides how sums are rounded, and so the
    weights must not depend on the number of workers.
    """

    options: WorkOptions
    _processes: list[_Process] = field(default_factory=list)
    _inbox: "queue.Queue[tuple[_Process, Event | None]]" = field(default_factory=queue.Queue)
    _crashes: dict[str, int] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        self._store = Store(self.options.out)
        source, again = iter(tasks), deque[Task]()
        exhausted = False
        while True:
            while not exhausted or again:
                if not self._has_room():
                    break
                task = again.popleft() if again else next(source, None)
                if task is None:
                    exhausted = True
                    break
                if (left := self._still_to_do(task)) is None:
                    continue
                slot = self._free_slot()
                self._give(slot, left)
            busy = [process for process in self._processes if process.task]
            if not busy and exhausted and not again:
                return
            try:
                wait = min(process.deadline for process in busy) - time.monotonic()
                process, event = self._inbox.get(timeout=max(0.0, min(wait, _LOOK_SECONDS)))
            except queue.Empty:
                yield from self._overdue(again)
                # A child of the worker may hold its pipe open, so that its end is not heard.
                for process in [process for process in busy if process.process.poll() is not None]:
                    if process in self._processes:
                        yield from self._died(process, again)
                continue
            if process not in self._processes:
                continue  # the last words of a process that was killed
            if event is None:
                yield from self._died(process, again)
            else:
                yield from self._heard(process, event)

    def close(self) -> None:
        """Kill all workers."""
        for process in self._processes:
            _kill(process)
        self._processes.clear()

    def _has_room(self) -> bool:
        fitting = any(isinstance(process.task, FitTask) for process in self._processes)
        if fitting and not self.options.device.startswith("cuda"):
            return False
        return sum(process.task is not None for process in self._processes) < self.options.workers

    def _free_slot(self) -> _Process:
        idle = next((process for process in self._processes if process.task is None), None)
        if idle is None:
            # The lowest free number: it decides the GPU and the log.
            idle = self._start(min(set(range(self.options.workers)) - {process.number for process in self._processes}))
            self._processes.append(idle)
        return idle

    def _start(self, number: int) -> _Process:
        log = self.options.out / "logs" / f"worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            child = subprocess.Popen(
                # The worker imports from where this process does, and not from the folder it happens to stand in.
                [sys.executable, "-P", "-m", "xbench.worker", str(number)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Its own session: Ctrl-C is the parent's to answer. It ends when its standard input does.
                start_new_session=os.name == "posix",
            )
        process = _Process(number, child, log)
        assert child.stdout is not None
        threading.Thread(target=self._listen, args=(process, child.stdout), daemon=True).start()
        self._send(process, self.options)
        return process

    def _listen(self, process: _Process, stream: IO[bytes]) -> None:
        with contextlib.suppress(Exception), stream:
            while (event := wire.receive(stream)) is not None:
                self._inbox.put((process, event))
        self._inbox.put((process, None))

    def _send(self, process: _Process, message: object) -> None:
        assert process.process.stdin is not None
        with contextlib.suppress(OSError):  # it has died; the listener says so
            wire.send(process.process.stdin, message)

    def _give(self, process: _Process, task: Task) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        alone = isinstance(task, FitTask)
        threads = self.options.threads or (cores if alone else max(1, cores // self.options.workers))
        process.task = task
        self._send(process, (task, threads))

    def _still_to_do(self, task: Task) -> Task | None:
        if isinstance(task, FitTask):
            return task
        jobs = tuple(job for job in task.jobs if job.key not in self._failed)
        return replace(task, jobs=jobs) if jobs else None

    def _heard(self, process: _Process, event: Event) -> Iterator[Event]:
        if isinstance(event, JobStarted):
            process.job, process.deadline = event, time.monotonic() + self.options.budget
        elif isinstance(event, JobDone):
            process.job, process.deadline = None, float("inf")
            if event.status != "ok":
                self._failed.add(event.key)
            if isinstance(process.task, Unit):
                rest = tuple(job for job in process.task.jobs if job.key != event.key)
                process.task = replace(process.task, jobs=rest)
        elif isinstance(event, TaskDone):
            process.task = None
        elif isinstance(event, Ready):
            process.ready = True
        if isinstance(event, Fatal):
            self.close()
        yield event

    def _overdue(self, again: deque[Task]) -> Iterator[Event]:
        now = time.monotonic()
        for process in [process for process in self._processes if process.deadline <= now]:
            assert process.job is not None
            reason = (
                f"took longer than its budget of {self.options.budget:g} s for one slice; budget=SECONDS allows more"
            )
            yield self._fail(process, process.job, "timeout", reason)
            self._replace(process, again)

    def _died(self, process: _Process, again: deque[Task]) -> Iterator[Event]:
        try:
            code = process.process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it closed its pipe and lives on
            process.process.kill()
            code = process.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        task, job = process.task, process.job
        if isinstance(task, Unit) and not task.jobs:
            task = process.task = None  # all of it was reported; nothing is lost
        if task is None and process.ready:
            self._replace(process, again)
            return
        what = "start" if not process.ready or task is None else job.key if job else _name(task)
        self._crashes[what] = self._crashes.get(what, 0) + 1
        if self._crashes[what] >= _CRASHES_ALLOWED:
            if what == "start":
                self.close()
                yield Fatal(f"a worker ended twice before its first task ({how}); see {process.log}")
                return
            reason = f"ended its process twice ({how})"
            if isinstance(task, FitTask):
                process.task = None
                yield FitDone(task.key, problem=f"{reason}; see {process.log}")
            elif isinstance(task, Unit):
                part = task.part
                lost = [job] if job else [JobStarted(other.key, part) for other in task.jobs]
                for one in lost:
                    yield self._fail(process, one, "crashed", reason, _tail(process.log))
        self._replace(process, again)

    def _fail(self, process: _Process, job: JobStarted, status: str, reason: str, detail: str = "") -> JobDone:
        self._failed.add(job.key)
        self._store.fail(job.key, status, reason, detail)
        n = len(process.task.ids) if isinstance(process.task, Unit) else 0
        return JobDone(job.key, job.part, n, status, reason)

    def _replace(self, process: _Process, again: deque[Task]) -> None:
        """Kill a worker; what it had not finished goes to the next free one."""
        _kill(process)
        self._processes.remove(process)
        if process.task is not None:
            again.append(process.task)


def _name(task: Task) -> str:
    return task.key if isinstance(task, FitTask) else f"{task.samples_digest} {task.part} {task.jobs[0].key}"


def _kill(process: _Process) -> None:
    """Kill a worker and what it has started; its standard output is the listener's to read to the end."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.process.pid, signal.SIGKILL)  # it leads a session of its own
        process.process.kill()
    process.process.wait()
    if process.process.stdin is not None:
        with contextlib.suppress(OSError):
            process.process.stdin.close()


def _tail(log: Path, size: int = 2000) -> str:
    try:
        return log.read_bytes()[-size:].decode(errors="replace")
    except OSError:
        return ""
