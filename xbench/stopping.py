"""What is given to an executor ends where a run is asked to stop: what is in flight is finished, nothing more begun."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xbench.events import Event, UnitGiven
from xbench.plan import Unit


@dataclass(frozen=True)
class Stoppable:
    """Units that are given to an executor until a run is asked to stop.

    Attributes
    ----------
    units
        What is to be done.
    stopping
        Whether the run has been asked to stop; an executor asks it too before it tries again what a lost process left.
    tell
        Hears of every unit that is given out.
    """

    units: Iterable[Unit]
    stopping: Callable[[], bool]
    tell: Callable[[Event], None]

    def __iter__(self) -> Iterator[Unit]:
        """Iterate over the units, up to the request."""
        for unit in self.units:
            if self.stopping():
                return
            self.tell(UnitGiven(tuple(job.key for job in unit.jobs), unit.part))
            yield unit
