"""Tasks carried to an engine's processes: no more than there is room for, budgets kept, what is lost given out again."""

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from xbench.attempts import Attempts, Flight
from xbench.events import Event, Fatal, WorkOptions
from xbench.plan import Task
from xbench.serving import last_words

_WAIT_SECONDS = 0.25
"""How long an engine may be waited for at a time: meanwhile it may be that no signal is answered."""
_LOOK_SECONDS = 5.0
_PAUSE_SECONDS = 10.0
"""From when on this process must have been stopped, or was very slow, and not its workers."""
_A_LOST_MACHINE = 0.5
"""How much of a crash it is that a machine was lost with a job on it: seldom the job's fault."""


class Lost(Exception):
    """A process has ended by itself: how, what is known of it, and whether its machine went with it."""

    def __init__(self, how: str, detail: str, machine: bool) -> None:
        super().__init__(how)
        self.how, self.detail, self.machine = how, detail, machine


class Engine(Protocol):
    """What runs `xbench.serving.serve` somewhere and hands back its events."""

    def room(self) -> int:
        """Return how many tasks there is room for now; 0 ends the run."""

    def submit(self, task: Task, log: Path) -> Hashable:
        """Have a task carried out, its process printing to a log; return what names it from then on."""

    def wait(self, streams: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Return those that have something to tell, after so many seconds at most."""

    def hear(self, stream: Any) -> Event | None:
        """Return the next event of one that has something to tell, None at its end. Raises Lost."""

    def cancel(self, stream: Any) -> None:
        """End a task and its process at once, whatever it is doing."""


@dataclass(kw_only=True)
class _Stream(Flight):
    log: Path


@dataclass
class Streams:
    """The tasks that an engine has in hand.

    Attributes
    ----------
    engine, options
        Who carries them out, and how.
    workers
        The most for which there was room at once.
    """

    engine: Engine
    options: WorkOptions
    workers: int = 1
    _flights: dict[Any, _Stream] = field(default_factory=dict)
    _room: int = 1
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.options)

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        self._attempts.begin(tasks)
        waited = time.monotonic()
        while True:
            while len(self._flights) < self._room and (task := self._attempts.next()) is not None:
                if not self._looked:  # an engine starts with the first task
                    self._look()
                self._submit(task)
            if not self._flights:
                return
            wait = min(flight.deadline for flight in self._flights.values()) - time.monotonic()
            for stream in self.engine.wait(list(self._flights), max(0.0, min(wait, _WAIT_SECONDS))):
                for event in self._heard(stream):
                    yield event
                    if isinstance(event, Fatal):
                        return
            now = time.monotonic()
            paused, waited = now - waited > _PAUSE_SECONDS, now
            for stream, flight in [each for each in self._flights.items() if each[1].deadline <= now]:
                if paused:  # not it, this process was stopped; what it has told meanwhile is heard first
                    flight.deadline = now + self.options.budget
                    continue
                self._drop(stream)
                yield from self._attempts.overdue(flight)
            if now - self._looked > _LOOK_SECONDS:
                self._look()
            if not self._room:
                yield Fatal("no machine is left that could go on; run the same command again later")
                return

    def close(self) -> None:
        """Stop at once."""
        for stream in list(self._flights):
            self._drop(stream)

    def _look(self) -> None:
        """See how much room there is: machines come and go."""
        self._room, self._looked = self.engine.room(), time.monotonic()
        self.workers = max(self.workers, self._room)

    def _submit(self, task: Task) -> None:
        busy = {flight.log for flight in self._flights.values()}
        logs = (self.options.out / "logs" / f"worker-{n}.log" for n in range(len(busy) + 1))
        log = next(log for log in logs if log not in busy)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._flights[self.engine.submit(task, log)] = _Stream(task=task, log=log)

    def _drop(self, stream: Hashable) -> None:
        del self._flights[stream]
        self.engine.cancel(stream)

    def _heard(self, stream: Hashable) -> Iterator[Event]:
        flight = self._flights[stream]
        try:
            event = self.engine.hear(stream)
        except Lost as lost:
            del self._flights[stream]
            how = "its machine was lost" if lost.machine else f"{lost.how}; see {flight.log}"
            detail = f"{lost.detail}\n{last_words(flight.log)}"
            yield from self._attempts.crashed(flight, how, detail, _A_LOST_MACHINE if lost.machine else 1.0)
            return
        if event is None:
            del self._flights[stream]
            self._attempts.give_back(flight)
            return
        self._attempts.heard(flight, event)
        yield event
