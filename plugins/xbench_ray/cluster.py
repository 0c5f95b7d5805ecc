"""Joining a Ray cluster, or starting one on this machine, without its messages between ours."""

import contextlib
import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from xbench.errors import XbenchError
from xbench.serving import environment
from xbench.signals import keeping_sigterm

_ANSWER_SECONDS = 15.0
_MODE = "RAY_AUTH_MODE"
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


@contextlib.contextmanager
def joined(ray: Any, address: str, cpus: int) -> Iterator[None]:
    """Be part of the cluster at an address, or of one of ``cpus`` cores that is started here where that is empty.

    At the end, or if it is interrupted, no process that was started is left. Raises XbenchError where nobody answers.
    """
    # Ray decides by how the address is written whether it and its workers must show this machine's token. Where the workers
    # of a cluster have none, nothing that they tell would ever arrive.
    mode = _asks(address) if address else ""
    if address and not mode:
        raise XbenchError(
            f"ray.address={address}: no Ray cluster answers there within {_ANSWER_SECONDS:g} s; `ray start --head` starts "
            "one, and without ray.address= the run starts its own"
        )
    start = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    words = {"log_to_driver": False, "logging_level": logging.CRITICAL, **({} if address else start)}
    # Ray brings its own. When its chief process is killed, as on a busy machine it is, others of it live on for minutes.
    me = importlib.import_module("psutil").Process()
    others, before = me.children(), os.environ.get(_MODE)
    try:
        if address:
            os.environ[_MODE] = mode
            ray._raylet.Config.initialize("")  # it was read when Ray was imported
        try:
            with keeping_sigterm():  # Ray answers it otherwise
                ray.init(address or "local", **words, runtime_env={"env_vars": environment()})
        except Exception as error:
            what = f"ray.address={address}: cannot join" if address else "cannot start"
            raise XbenchError(f"{what} the Ray cluster: {' '.join(str(error).split())[:300]}") from error
        yield
    finally:
        family = [one for one in me.children() if one not in others]
        with contextlib.suppress(Exception):  # those that end meanwhile
            family += [one for child in tuple(family) for one in child.children(recursive=True)]
        ray.shutdown()
        for one in family:
            with contextlib.suppress(Exception):
                one.kill()
        os.environ.pop(_MODE, None)
        os.environ.update({_MODE: before} if before else {})


def _asks(address: str) -> str:
    """Return whether a cluster asks for a ``token``, or that is ``disabled``; empty where there is none.

    Ray itself would ask for a minute or two, and print how that goes.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    bare = {**os.environ, _MODE: "disabled"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, env=bare)
    except subprocess.TimeoutExpired:
        return ""
    return "disabled" if done.returncode == 0 else "token" if "AuthenticationError" in done.stderr else ""
