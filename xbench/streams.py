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
from xbench.wire import Alive

_WAIT_SECONDS = 0.25
"""How long an engine may be waited for at a time: meanwhile it may be that no signal is answered."""
_LOOK_SECONDS = 5.0
_PAUSE_SECONDS = 10.0
"""From when on this process must have been stopped, or was very slow, and not its workers."""
_START_SECONDS = 60.0
"""What a process may take to say more than that it runs, however little ``silence`` is: loading torch lets no Python run."""
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

    def hear(self, stream: Any) -> Event | Alive | None:
        """Return the next event of one that has something to tell, None at its end. Raises Lost."""

    def cancel(self, stream: Any) -> None:
        """End a task and its process at once, whatever it is doing."""


@dataclass(kw_only=True)
class _Stream(Flight):
    log: Path
    heard: float = float("inf")  # when last; as long as it has to wait for a machine, it cannot be late
    silence: float


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
    _heard_any: float = 0.0

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.options)

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks; yield events as they come."""
        self._attempts.begin(tasks)
        for event in self._events():
            yield event
            if isinstance(event, Fatal):
                return

    def close(self) -> None:
        """Stop at once."""
        for stream in list(self._flights):
            self._drop(stream)

    def _events(self) -> Iterator[Event]:
        waited = self._heard_any = time.monotonic()
        while True:
            while len(self._flights) < self._room and (task := self._attempts.next()) is not None:
                if not self._looked:  # an engine starts with the first task
                    self._look()
                self._submit(task)
            if not self._flights:
                return
            wait = min(flight.deadline for flight in self._flights.values()) - time.monotonic()
            for stream in self.engine.wait(list(self._flights), max(0.0, min(wait, _WAIT_SECONDS))):
                yield from self._heard(stream)
            now = time.monotonic()
            gap, waited = now - waited, now
            if gap > _PAUSE_SECONDS:  # not they, this process was stopped; what they have told meanwhile is heard first
                self._heard_any += gap
                for flight in self._flights.values():
                    flight.deadline, flight.heard = flight.deadline + gap, flight.heard + gap
            else:
                yield from self._late(now)
            if now - self._looked > _LOOK_SECONDS:
                self._look()
            if not self._room:
                yield Fatal("no machine is left that could go on; run the same command again later")

    def _late(self, now: float) -> Iterator[Event]:
        """End what has overrun its budget or tells nothing any more, and the run where nobody tells anything."""
        for stream, flight in list(self._flights.items()):
            if flight.deadline <= now:
                self._drop(stream)
                yield from self._attempts.overdue(flight)
            elif now - flight.heard > flight.silence:
                self._drop(stream)
                self._heard_any = now
                how = f"killed after {flight.silence:g} s without a sign of life; silence=SECONDS waits longer"
                yield from self._attempts.crashed(flight, how, last_words(flight.log))
        if self._flights and now - self._heard_any > (silence := self._silence()):
            yield Fatal(
                f"no worker has given a sign of life for {silence:g} s: the machines are busy with other work, or what they "
                "tell does not reach this process; silence=SECONDS waits longer"
            )

    def _silence(self) -> float:
        return max(self.options.silence, _START_SECONDS)

    def _look(self) -> None:
        """See how much room there is: machines come and go."""
        self._room, self._looked = self.engine.room(), time.monotonic()
        self.workers = max(self.workers, self._room)

    def _submit(self, task: Task) -> None:
        busy = {flight.log for flight in self._flights.values()}
        logs = (self.options.out / "logs" / f"worker-{n}.log" for n in range(len(busy) + 1))
        log = next(log for log in logs if log not in busy)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._flights[self.engine.submit(task, log)] = _Stream(task=task, log=log, silence=self._silence())

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
        flight.heard = self._heard_any = time.monotonic()
        if event is None:
            del self._flights[stream]
            self._attempts.give_back(flight)
        elif not isinstance(event, Alive):
            flight.silence = self.options.silence
            self._attempts.heard(flight, event)
            yield event
