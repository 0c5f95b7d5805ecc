"""What runs in a process that another system started: a worker, kept from task to task, that tells what it does as it goes."""

import contextlib
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xbench.cache import cache_folder
from xbench.cores import cores
from xbench.errors import Broken, XbenchError
from xbench.events import Event, Fatal, FitDone, JobDone, JobStarted, Ready, TaskDone, WorkOptions
from xbench.gpus import VISIBLE
from xbench.plan import Task
from xbench.shared import cache_mark, unshared
from xbench.wire import Alive

if TYPE_CHECKING:
    from xbench.work import Worker

_TAIL_BYTES = 2000
_BEAT_SECONDS = 5.0
_AWAITED = (JobStarted, JobDone, FitDone)
"""What the caller must have heard before the worker goes on: the process may end of what comes next."""


@dataclass(frozen=True)
class Post:
    """Where a process is to work, and how; can be pickled.

    Attributes
    ----------
    options
        What is true of all workers of the run.
    folder
        Where the user stands: paths may be relative to it.
    mark
        The cache that all of them must see (`xbench.shared`).
    """

    options: WorkOptions
    folder: str
    mark: str


_kept: "dict[tuple[Post, str], Worker]" = {}
# One thread for the life of the process: torch's own threads belong to the one that starts them.
_hand = ThreadPoolExecutor(1)


def post_here(options: WorkOptions) -> Post:
    """Return the post of workers of a run that this process leads. Raises CannotWrite where it cannot write to the cache."""
    return Post(options, os.getcwd(), cache_mark())


def environment() -> dict[str, str]:
    """Return the variables of this process that its workers need, on whatever machine."""
    own = {name: value for name, value in os.environ.items() if name.startswith("XBENCH_")}
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    return {**own, "XBENCH_CACHE": str(cache_folder().absolute()), "PYTHONPATH": path}


def serve(post: Post, task: Task, threads: int | None, log: Path) -> Iterator[Event | Alive]:
    """Carry out a task; the worker goes on from one job to the next when the caller comes back for more.

    A job that ends its process has so been told of before, if the caller comes back only when an event has arrived.

    Parameters
    ----------
    post
        Where and how.
    task
        What.
    threads
        CPU threads; None takes all cores of the machine.
    log
        Where all that is printed meanwhile goes, at the end of what is there.

    Yields
    ------
    Event or Alive
        What the worker tells, `Ready` before the first task and `TaskDone` last; `Fatal` where no task could be done here.
        `Alive` at once, and whenever there has been nothing else for some seconds.

    Raises
    ------
    Exception
        The worker broke; the next task gets a fresh one.
    """
    events: queue.Queue[Event | None] = queue.Queue()
    arrived = threading.Semaphore(0)

    def tell(event: Event) -> None:
        events.put(event)
        if isinstance(event, _AWAITED):
            arrived.acquire()

    def work() -> None:
        try:
            worker, start = _worker(post, tell, log), time.monotonic()
            worker.run(task, threads or cores())
            worker.rest()
            events.put(TaskDone(time.monotonic() - start))
        except XbenchError as error:
            events.put(Fatal(str(error)))
        except Broken:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # the next task needs another process
        except BaseException:
            _kept.clear()  # nobody knows what state it is in
            raise
        finally:
            events.put(None)

    yield Alive()
    done = _hand.submit(work)
    while (event := _next(events, min(_BEAT_SECONDS, post.options.silence / 5))) is not None:
        yield event
        if isinstance(event, _AWAITED):
            arrived.release()
    done.result()


def last_words(log: Path) -> str:
    """Return the end of a log, empty where there is none."""
    try:
        return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""


def _next(events: "queue.Queue[Event | None]", seconds: float) -> Event | Alive | None:
    try:
        return events.get(timeout=seconds)
    except queue.Empty:
        return Alive()


def _worker(post: Post, tell: Callable[[Event], None], log: Path) -> "Worker":
    if problem := unshared(post.options.out, post.mark):
        raise XbenchError(problem)
    with contextlib.suppress(OSError):  # another machine may not have it; what is relative is then not found, and told
        os.chdir(post.folder)
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from xbench.metrics.cost import device_name
    from xbench.work import Worker

    device = _device(post.options.device)
    if (post, device) not in _kept:
        _kept.clear()
        worker = _kept[post, device] = Worker(replace(post.options, device=device), tell)
        tell(Ready(f"{device_name(worker.device)} of {socket.gethostname()}"))
    _kept[post, device].emit = tell
    return _kept[post, device]


def _device(wish: str) -> str:
    """Return the device of this task: the GPU that the other system says is this process's from now on.

    It says so anew for every task, in a variable that CUDA reads once: were it left there, a process that is kept would stay
    with the GPU of its first task, whoever has that now.
    """
    given = os.environ.get(VISIBLE, "")
    if wish != "cuda" or not given.isdigit():
        return wish
    del os.environ[VISIBLE]
    return f"cuda:{given}"
