"""How a run goes on: bars with rate and time left on a terminal, sparse lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from xbench.cli.tables import console
from xbench.events import Event, FitDone, FitProgress, JobDone, JobStarted, Note, Ready
from xbench.plan import Plan
from xbench.store import Store, slice_size

_LINE_SECONDS = 10.0


class Progress:
    """Hears a run's events and shows them; used as a context manager.

    Parameters
    ----------
    plan
        What is to be done.
    store
        What is done already.
    fits
        Keys of the fits to train.
    quiet, verbose
        Show nothing; a line for every slice.
    """

    def __init__(
        self, plan: Plan, store: Store, fits: Sequence[str], quiet: bool = False, verbose: bool = False
    ) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.cells = {cell.key: cell for cell in plan.cells}
        self.fits = {fit.key: fit for fit in plan.fits if fit.key in set(fits)}
        self.total = 0
        for cell in plan.cells:
            if not cell.unsupported:
                n, size = len(cell.selection.ids), slice_size(len(cell.selection.ids))
                missing = [part for part in range(cell.n_slices) if not store.committed(cell.key, part)]
                self.total += sum(min(size, n - part * size) for part in missing)
        self.done = 0
        self.start = self.last_line = time.monotonic()
        self.bars: Bars | None = None
        self.tasks: dict[str, TaskID] = {}
        self.scoring: TaskID | None = None

    def __enter__(self) -> "Progress":
        if self.total and not self.quiet and sys.stderr.isatty():
            self.bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console(stderr=True),
                transient=True,
            )
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def hear(self, event: Event) -> None:
        """Show an event."""
        if self.quiet:
            return
        if isinstance(event, FitProgress) and event.key in self.fits:
            self._fit(event)
        elif isinstance(event, FitDone) and event.key in self.fits:
            if self.bars and event.key in self.tasks:
                self.bars.remove_task(self.tasks.pop(event.key))
            how = f"failed: {event.problem}" if event.problem else f"trained in {event.seconds:.0f} s"
            self.say(f"{self.fits[event.key].label}: {how}")
        elif isinstance(event, Note):
            self.say(event.text)
        elif isinstance(event, Ready) and self.verbose:
            self.say(f"worker ready on {event.device}")
        elif isinstance(event, JobStarted) and self.bars and self.scoring is not None:
            self.bars.update(self.scoring, description=f"explain and score: {self.cells[event.key].label}")
        elif isinstance(event, JobDone):
            self._job(event)

    def _fit(self, event: FitProgress) -> None:
        label = self.fits[event.key].label
        if self.bars:
            if event.key not in self.tasks:
                self.tasks[event.key] = self.bars.add_task(label, total=None, rate="")
            text = f"train {label}: {event.text}"
            self.bars.update(
                self.tasks[event.key], description=text, completed=event.done, total=event.total or None, rate="steps"
            )
        elif time.monotonic() - self.last_line > _LINE_SECONDS:
            self.say(f"train {label}: {event.text}")

    def _job(self, event: JobDone) -> None:
        self.done += event.n
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        if self.bars:
            if self.scoring is None:
                self.scoring = self.bars.add_task("explain and score", total=self.total, rate="")
                self.start = time.monotonic()
            self.bars.update(self.scoring, completed=self.done, rate=f"{rate:.0f} maps/s")
        if event.status != "ok":
            self.say(f"{self.cells[event.key].label}: {event.status}: {event.reason}")
        elif self.verbose:
            self.say(f"{self.cells[event.key].label}: slice {event.part + 1}/{self.cells[event.key].n_slices}")
        elif not self.bars and time.monotonic() - self.last_line > _LINE_SECONDS:
            left = (self.total - self.done) / max(rate, 1e-9)
            self.say(f"{self.done}/{self.total} maps, {rate:.0f}/s, about {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print a line."""
        self.last_line = time.monotonic()
        if self.bars:
            self.bars.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
