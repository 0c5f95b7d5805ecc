"""Joining a Ray cluster, or starting one on this machine, without its messages between ours."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from xbench.errors import XbenchError
from xbench.serving import environment

_ANSWER_SECONDS = 15.0
# Of Ray's own store, through which no result goes.
_STORE_BYTES = 80 * 2**20


def ray_module() -> Any:
    """Return the module of Ray, told to be quiet. Raises XbenchError where it is not installed."""
    # Both are read when it is imported; the first are lines it would print of every process that ends.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise XbenchError(
            f"executor=ray needs Ray, and there is no module {error.name!r}: install the extra `ray` "
            "(pip install 'xbench-xai[ray]'; in a checkout pip install -e '.[ray]')"
        ) from error
    return ray


def join(ray: Any, address: str, cpus: int) -> None:
    """Connect to the cluster at an address, or start one of ``cpus`` cores here where that is empty.

    Raises XbenchError where nobody answers.
    """
    if address and not _answers(address):
        raise XbenchError(
            f"ray.address={address}: no Ray cluster answers there within {_ANSWER_SECONDS:g} s; `ray start --head` starts "
            "one, and without ray.address= the run starts its own"
        )
    own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    where = {"address": address} if address else {"address": "local", **own}
    with _signals():
        try:
            ray.init(
                **where, runtime_env={"env_vars": environment()}, log_to_driver=False, logging_level=logging.CRITICAL
            )
        except Exception as error:
            what = f"ray.address={address}: cannot join" if address else "cannot start"
            raise XbenchError(f"{what} the Ray cluster: {' '.join(str(error).split())[:300]}") from error


def _answers(address: str) -> bool:
    """Say whether there is a cluster; Ray itself would ask for a minute or two and print how that goes."""
    where = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    try:
        return subprocess.run(command, capture_output=True, timeout=_ANSWER_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Keep this process's own answer to SIGTERM: Ray puts one of its own in place."""
    if threading.current_thread() is not threading.main_thread():
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
