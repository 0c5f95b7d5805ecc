"""Tasks to the machines of a Ray cluster: results go through the shared folder, only events come back through Ray."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from xbench.errors import XbenchError
from xbench.events import Event, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.machines import room, takes, takes_to_train
from xbench.plan import Task
from xbench.serving import post_here, serve
from xbench.streams import Lost, Streams
from xbench.wire import Alive
from xbench_ray.cluster import joined, ray_module


class RayExecutor:
    """Keep the workers of a cluster busy."""

    def __init__(self, options: WorkOptions, address: str = "") -> None:
        if ":" in options.device:
            raise XbenchError(f"device={options.device}: Ray gives a worker whichever GPU is free; say device=cuda")
        self.options, self.address = options, address
        self._streams = Streams(self, options)
        self._ray: Any = None
        self._joined = contextlib.ExitStack()

    @property
    def workers(self) -> int:
        """The most for which there was room at once."""
        return self._streams.workers

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        return self._streams.run(tasks)

    def close(self) -> None:
        """Stop at once: all processes that work for this run end, and the cluster too if it was started here."""
        self._streams.close()
        self._joined.close()

    def room(self) -> int:
        """Return for how many tasks there is room now. Raises XbenchError where a worker fits nowhere."""
        if self._ray is None:
            self._connect()
        found = room(self._machines(), self._needs)
        return found if self.options.own_choice and self.address else min(found, self.options.workers)

    def submit(self, task: Task, log: Path) -> Any:
        """Have a task carried out."""
        fit = isinstance(task, FitTask)
        needs = takes_to_train(self._machines(), self._needs) if fit else self._needs
        remote = self._serve.options(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        return remote.remote(self._post, task, None if fit else needs["CPU"], log)

    def wait(self, streams: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Return what has something to tell."""
        return list(self._ray.wait(list(streams), timeout=seconds)[0])

    def hear(self, stream: Any) -> Event | Alive | None:
        """Return the next event, None at the end. Raises Lost."""
        errors = self._ray.exceptions
        try:
            return cast(Event | Alive, self._ray.get(next(stream)))
        except StopIteration:
            return None
        except errors.RayError as error:
            what = error.cause if isinstance(error, errors.RayTaskError) else error
            machine = isinstance(error, (errors.NodeDiedError, errors.ObjectLostError))
            raise Lost(type(what).__name__, str(what), machine) from error

    def cancel(self, stream: Any) -> None:
        """End a task at once."""
        with contextlib.suppress(Exception):  # whatever has gone already
            self._ray.cancel(stream, force=True)

    def _connect(self) -> None:
        ray, workers, cores = ray_module(), self.options.workers, len(os.sched_getaffinity(0))
        threads = self.options.threads or (1 if self.address else max(1, cores // workers))
        if not ray.is_initialized():
            self._joined.enter_context(joined(ray, self.address, max(cores, threads * workers)))
        self._ray = ray
        self._needs = takes(self.options.device, threads, self._machines())
        self._post = post_here(replace(self.options, device="cuda" if "GPU" in self._needs else "cpu"))
        # Without max_calls=0 a process that had a GPU would end after its first task, and its model be read again.
        keep = {"max_calls": 0, "max_retries": 0}
        # One event at a time: the worker goes on when it has arrived, so that it is known what a process died of.
        self._serve = ray.remote(num_returns="streaming", _generator_backpressure_num_objects=1, **keep)(serve)

    def _machines(self) -> list[dict[str, float]]:
        """Return what each machine that is up has."""
        return [machine["Resources"] for machine in self._ray.nodes() if machine["Alive"]]
