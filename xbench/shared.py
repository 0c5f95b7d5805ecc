"""What the machines of one run must share, the run's folder and the cache: told where one of them sees something else."""

import secrets
import socket
import time
from pathlib import Path

from xbench.atomic import write_first
from xbench.cache import cache_folder

_PATIENCE_SECONDS = 60.0
"""How long a network file system may take until what one machine wrote is seen by another."""


def cache_mark() -> str:
    """Return 32 hex digits by which the cache is known again from another machine; drawn the first time.

    Raises CannotWrite where the cache cannot be written.
    """
    path = cache_folder() / "mark"
    if not path.exists():
        write_first(path, secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii").strip()


def unshared(out: Path, mark: str, patience: float = _PATIENCE_SECONDS) -> str:
    """Return what this machine does not see of a run in one line, or an empty string.

    Parameters
    ----------
    out
        The run's folder, in which ``run.json`` has been written.
    mark
        That of the cache (`cache_mark`) with which the run was started.
    patience
        Seconds to wait for what is not there yet.
    """
    end = time.monotonic() + patience
    while problem := _unseen(out, mark):
        if time.monotonic() >= end:
            break
        time.sleep(min(1.0, patience))
    return problem


def _unseen(out: Path, mark: str) -> str:
    host = socket.gethostname()
    if not (out / "run.json").is_file():
        return f"{host} sees no run in {out}; out=DIR must be a folder that all machines share"
    try:
        seen = (cache_folder() / "mark").read_bytes().strip() == mark.encode()
    except OSError:
        seen = False
    if not seen:
        return (
            f"the cache of {host}, {cache_folder()}, is not the one the run was started with, and training would be done "
            "twice; XBENCH_CACHE must name a folder that all machines share"
        )
    return ""
