"""How many worker processes a run takes by itself, from the GPUs, cores and memory there are; without torch."""

import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path

from xbench import gpus

_MOST = 4
_WORKER_BYTES = 4 * 2**30
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of memory of this machine, or of the container if it has less; 0 where nobody tells."""
    told = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        told.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        told.append(int(_CGROUP.read_text()))
    return max(0, min(told, default=0))


def workers_of(device: str, units: int, environ: MutableMapping[str, str]) -> int:
    """Return how many workers a run takes by itself: one a GPU; on the CPU up to four that share the cores.

    Several processes of few threads do more than one of many: small networks leave most of a second thread idle, and what
    lies between passes has one thread anyway. It hangs on the machine and the plan alone, never on what is done already: so
    a run that goes on has as many threads a worker as before, and the same digits.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    units
        Of the whole plan; more workers would have nothing to do.
    environ
        Where ``CUDA_VISIBLE_DEVICES`` may be.
    """
    if gpus.on_gpu(device, environ):
        return 1 if ":" in device else max(1, len(gpus.visible_gpus(environ)))
    return max(1, min(_MOST, units, cores(), memory() // _WORKER_BYTES))
