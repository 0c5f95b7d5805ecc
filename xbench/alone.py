"""One writer a folder: two runs at once would undo each other's commits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from xbench.errors import CannotWrite, XbenchError


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be, for one run; the lock goes with the process.

    Raises XbenchError where another run holds it, CannotWrite where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise XbenchError(f"another run is writing to {folder}; wait for it, or choose another out=DIR") from None
    except OSError as error:
        raise CannotWrite(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
