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

from xbench.cache import cache_folder
from xbench.errors import XbenchError

_ANSWER_SECONDS = 15.0
_RECEIPTS_BYTES = 80 * 2**20
"""Of Ray's own store, through which no result goes."""


def ray_module() -> Any:
    """Return the module of Ray, told to be quiet. Raises XbenchError where it is not installed."""
    # Before it is imported: what it would print of every process that ends.
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
            f"ray.address={address}: no Ray cluster answers there (waited {_ANSWER_SECONDS:g} s at most); `ray start --head` "
            "starts one, without ray.address= the run starts its own"
        )
    where = {"address": address} if address else _here(cpus)
    with _signals():
        try:
            ray.init(
                **where, runtime_env={"env_vars": _environment()}, log_to_driver=False, logging_level=logging.CRITICAL
            )
        except Exception as error:
            said = " ".join(str(error).split())
            what = f"ray.address={address}: cannot join" if address else "cannot start"
            raise XbenchError(f"{what} the Ray cluster: {said[:300]}") from error


def _here(cpus: int) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": _RECEIPTS_BYTES,
    }


def _answers(address: str) -> bool:
    """Say whether there is a cluster; Ray itself would ask for a minute or two and print how that goes."""
    where = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    try:
        return subprocess.run(command, capture_output=True, timeout=_ANSWER_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _environment() -> dict[str, str]:
    """Return what workers need of this process's environment, wherever they are."""
    own = {name: value for name, value in os.environ.items() if name.startswith("XBENCH_")}
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    return {**own, "XBENCH_CACHE": str(cache_folder().absolute()), "PYTHONPATH": path}


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Keep the answers to signals that this process had: Ray puts one of its own in place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)
