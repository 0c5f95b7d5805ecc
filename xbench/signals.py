"""What signals do to a run: Ctrl-C once finishes what is in flight, twice ends at once, and so does SIGTERM."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from xbench.events import Event, JobDone, UnitGiven


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: the process ends at once, as by Ctrl-C, with another exit code."""


class CtrlC:
    """What Ctrl-C does while a run goes on; a context manager of the main thread. Called, it says whether to stop.

    Trainings end at once: they go on from their last epoch. Of the units, none is begun any more and those in flight are
    finished; a second Ctrl-C ends them too.

    Parameters
    ----------
    say
        Prints a line; called from a thread of its own, for the main one may be printing at that moment.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._asked = False
        self._in_flight: dict[str, set[int]] = {}
        self._before: object = None

    def __call__(self) -> bool:
        """Say whether the run has been asked to stop."""
        return self._asked

    def hear(self, event: Event) -> None:
        """Follow what is in flight."""
        if isinstance(event, UnitGiven):
            for key in event.keys:
                self._in_flight.setdefault(key, set()).add(event.part)
        elif isinstance(event, JobDone) and event.status == "ok":
            self._in_flight.get(event.key, set()).discard(event.part)
        elif isinstance(event, JobDone):  # none of its slices is tried any more
            self._in_flight.pop(event.key, None)

    def __enter__(self) -> "CtrlC":
        # Where somebody has had it ignored (nohup, a shell's background) or answers it, it stays theirs.
        if _main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        slices = sum(map(len, list(self._in_flight.values())))
        if self._asked or not slices:
            raise KeyboardInterrupt
        self._asked = True
        line = f"finishing {slices} slice{'s' * (slices > 1)} in flight; Ctrl-C again stops at once"
        threading.Thread(target=self._say, args=(line,), daemon=True).start()


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, so that workers are stopped and a line is printed; where nobody else answers it."""
    if os.name != "posix" or not _main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminated(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM where what is called meanwhile puts its own in place, which exits."""
    if not _main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM:
            signal.signal(signal.SIGTERM, kept)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, kept)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
