"""Who else writes to a folder: several runs may, and each is told whether it is the first."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from xbench.errors import CannotWrite


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold the folder, made if need be, for one run; yield False where another run holds it. The lock goes with the process.

    Raises CannotWrite where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise CannotWrite(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield True
    finally:
        lock.release()
