"""Tasks to the machines of a Ray cluster: results go through the shared folder, only events come back through Ray."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xbench.attempts import Attempts, Flight
from xbench.errors import XbenchError
from xbench.events import Event, Fatal, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.plan import Task
from xbench.serving import last_words, post_here, serve
from xbench_ray.cluster import joined, ray_module

_WAIT_SECONDS = 0.25
"""How long Ray may be waited for at a time: meanwhile no signal is answered."""
_LOOK_SECONDS = 5.0
_PAUSE_SECONDS = 10.0
"""From when on this process must have been stopped, or was very slow, and not its workers."""
_A_LOST_MACHINE = 0.5
"""How much of a crash it is that a machine was lost with a job on it: seldom the job's fault."""


@dataclass
class _Stream(Flight):
    """A task that Ray carries out, or keeps until there is room."""

    log: Path


class RayExecutor:
    """Keep the workers of a cluster busy, with no more tasks pending than there is room for.

    Trainings on the CPU get a machine each: the number of threads decides how sums are rounded.

    Attributes
    ----------
    workers
        The most for which there was room at once.
    """

    def __init__(self, options: WorkOptions, address: str = "") -> None:
        if ":" in options.device:
            raise XbenchError(f"device={options.device}: Ray gives a worker whichever GPU is free; say device=cuda")
        self.options, self.address = options, address
        self.workers = self._room = 1
        self._attempts = Attempts(options)
        self._streams: dict[Any, _Stream] = {}
        self._ray: Any = None
        self._joined = contextlib.ExitStack()

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        self._attempts.begin(tasks)
        waited = looked = time.monotonic()
        while True:
            while len(self._streams) < self._room and (task := self._attempts.next()) is not None:
                self._submit(task)
            if not self._streams:
                return
            wait = min(flight.deadline for flight in self._streams.values()) - time.monotonic()
            ready, _ = self._ray.wait(list(self._streams), timeout=max(0.0, min(wait, _WAIT_SECONDS)))
            for stream in ready:
                for event in self._heard(stream):
                    yield event
                    if isinstance(event, Fatal):
                        return self.close()
            now = time.monotonic()
            paused, waited = now - waited > _PAUSE_SECONDS, now
            for stream, flight in [each for each in self._streams.items() if each[1].deadline <= now]:
                if paused:  # not it, this process was stopped; what it has told meanwhile is heard first
                    flight.deadline = now + self.options.budget
                    continue
                self._drop(stream)
                yield from self._attempts.overdue(flight)
            if now - looked > _LOOK_SECONDS:
                looked = now
                if not self._look():
                    yield Fatal("no machine is left in the Ray cluster to go on; run the same command again later")
                    return self.close()

    def close(self) -> None:
        """Stop at once: all processes that work for this run end, and the cluster too if it was started here."""
        for stream in list(self._streams):
            self._drop(stream)
        self._joined.close()

    def _heard(self, stream: Any) -> Iterator[Event]:
        errors, flight = self._ray.exceptions, self._streams[stream]
        try:
            event = self._ray.get(next(stream))
        except StopIteration:
            del self._streams[stream]
            self._attempts.give_back(flight)
        except errors.RayError as error:
            del self._streams[stream]
            lost = isinstance(error, (errors.NodeDiedError, errors.ObjectLostError))
            what = error.cause if isinstance(error, errors.RayTaskError) else error
            how = "its machine was lost" if lost else f"{type(what).__name__}; see {flight.log}"
            detail = f"{what}\n{last_words(flight.log)}"
            yield from self._attempts.crashed(flight, how, detail, _A_LOST_MACHINE if lost else 1.0)
        else:
            self._attempts.heard(flight, event)
            yield event

    def _submit(self, task: Task) -> None:
        if self._ray is None:
            self._connect()
        fit, gpus = isinstance(task, FitTask), self._needs.get("GPU", 0)
        cpus = min(machine["CPU"] for machine in self._able()) if fit and not gpus else self._needs["CPU"]
        busy = {flight.log for flight in self._streams.values()}
        logs = (self.options.out / "logs" / f"ray-{n}.log" for n in range(len(busy) + 1))
        log = next(log for log in logs if log not in busy)
        log.parent.mkdir(parents=True, exist_ok=True)
        remote = self._serve.options(num_cpus=cpus, num_gpus=gpus)
        stream = remote.remote(self._post, task, None if fit else int(self._needs["CPU"]), log)
        self._streams[stream] = _Stream(task=task, log=log)

    def _drop(self, stream: Any) -> None:
        del self._streams[stream]
        with contextlib.suppress(Exception):  # whatever has gone already
            self._ray.cancel(stream, force=True)

    def _connect(self) -> None:
        ray, workers, cores = ray_module(), self.options.workers, len(os.sched_getaffinity(0))
        threads = self.options.threads or (1 if self.address else max(1, cores // workers))
        if not ray.is_initialized():
            self._joined.enter_context(joined(ray, self.address, max(cores, threads * workers)))
        self._ray, self._needs = ray, {"CPU": threads}
        machines = self._able({})
        cpus, gpus = (int(sum(machine.get(name, 0) for machine in machines)) for name in ("CPU", "GPU"))
        if self.options.device == "cuda" or (self.options.device == "auto" and gpus):
            self._needs["GPU"] = 1
        if not self._look():
            wanted = " and ".join(f"{need} {name}" for name, need in self._needs.items())
            raise XbenchError(
                f"a worker takes {wanted}, and no machine of the Ray cluster has that (machines: {len(machines)}, CPU: "
                f"{cpus}, GPU: {gpus}); device=cpu takes no GPU, threads=N as many CPU"
            )
        device = "cuda" if "GPU" in self._needs else "cpu"
        self._post = post_here(replace(self.options, device=device))
        # Without max_calls=0 a process that had a GPU would end after its first task, and its model be read again.
        keep = {"max_calls": 0, "max_retries": 0}
        # One event at a time: the worker goes on when it has arrived, so that it is known what a process died of.
        self._serve = ray.remote(num_returns="streaming", _generator_backpressure_num_objects=1, **keep)(serve)

    def _able(self, needs: dict[str, int] | None = None) -> list[dict[str, float]]:
        """Return what each machine has that can take a task."""
        needs = self._needs if needs is None else needs
        found = [machine["Resources"] for machine in self._ray.nodes() if machine["Alive"]]
        return [each for each in found if all(each.get(name, 0) >= need for name, need in needs.items())]

    def _look(self) -> int:
        """Return for how many tasks there is room now: machines come and go."""
        room = sum(min(int(each[name] // need) for name, need in self._needs.items()) for each in self._able())
        asked = room if self.options.own_choice and self.address else self.options.workers
        self._room = min(room, asked)
        self.workers = max(self.workers, self._room)
        return self._room
