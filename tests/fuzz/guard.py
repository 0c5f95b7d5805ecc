"""What no input may do: run on, take much memory, or write anywhere but where it is told to."""

import os
import resource
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

CPU_SECONDS, WALL_SECONDS, MEMORY_BYTES = 5, 120, 3 * 2**30
"""Of processor time, for the machine may be busy; a wait for nothing takes none, hence the second."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.link": 2,
    "os.truncate": 1,
}
_CHANGES |= {"os.chmod": 1, "shutil.rmtree": 1, "os.mkfifo": 1}
_COMMANDS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn")


class Hang(BaseException):
    """An input took too long."""


class _Watch:
    allowed: tuple[str, ...] = ()
    on = False
    found: ClassVar[list[str]] = []


def _hear(event, arguments):
    if not _Watch.on:
        return
    if event in _COMMANDS:
        _Watch.found.append(f"{event} {arguments!r:.200}")
    elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)) and (arguments[2] or 0) & _WRITES:
        _look(arguments[0])
    elif event in _CHANGES:
        for path in arguments[: _CHANGES[event]]:
            _look(path)


def _look(path):
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    real = os.path.realpath(os.fsdecode(path))
    if not real.startswith(_Watch.allowed) and not real.startswith(("/dev/null", "/proc/")):
        _Watch.found.append(real)


def install() -> None:
    """Bound this process's memory and hear of all it writes."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, resource.RLIM_INFINITY))
    sys.addaudithook(_hear)
    for kind in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kind, _stop)


def _stop(number, frame):
    raise Hang(
        f"more than {CPU_SECONDS} s of processor time" if number == signal.SIGPROF else f"waited {WALL_SECONDS} s"
    )


@contextmanager
def watched(*folders: Path):
    """Inside, time runs, and only these folders may be written to; yields the list of what else was."""
    _Watch.allowed = tuple(os.path.realpath(folder) for folder in (*folders, tempfile.gettempdir() + "/xbench-"))
    _Watch.found = []
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    _Watch.on = True
    try:
        yield _Watch.found
    finally:
        _Watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
