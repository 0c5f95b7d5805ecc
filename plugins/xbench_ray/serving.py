"""What runs in a process of the cluster: a worker that is kept from task to task, and tells what it does as it goes."""

import contextlib
import os
import queue
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xbench.errors import XbenchError
from xbench.events import Event, Fatal, Ready, WorkOptions
from xbench.plan import Task
from xbench.shared import unshared

if TYPE_CHECKING:
    from xbench.work import Worker


@dataclass(frozen=True)
class Post:
    """Where a process is to work, and how.

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


_kept: "dict[Post, Worker]" = {}
# One thread for the life of the process: torch's own threads belong to the one that starts them.
_hand = ThreadPoolExecutor(1)


def serve(post: Post, task: Task, threads: int | None, log: Path) -> Iterator[Event]:
    """Carry out a task and yield its events as they come; ``threads`` None takes all cores of the machine."""
    events: queue.Queue[Event | None] = queue.Queue()

    def work() -> None:
        try:
            _worker(post, events, log).run(task, threads or len(os.sched_getaffinity(0)))
        except XbenchError as error:
            events.put(Fatal(str(error)))
        except BaseException:
            _kept.clear()  # nobody knows what state it is in
            raise
        finally:
            events.put(None)

    done = _hand.submit(work)
    while (event := events.get()) is not None:
        yield event
    done.result()


def _worker(post: Post, events: "queue.Queue[Event | None]", log: Path) -> "Worker":
    if problem := unshared(post.options.out, post.mark):
        raise XbenchError(problem)
    with contextlib.suppress(OSError):  # another machine may not have it; what is relative is then not found, and told
        os.chdir(post.folder)
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from xbench.metrics.cost import device_name
    from xbench.work import Worker

    if post not in _kept:
        _kept.clear()
        worker = _kept[post] = Worker(post.options, events.put)
        events.put(Ready(f"{device_name(worker.device)} of {socket.gethostname()}"))
    _kept[post].emit = events.put
    return _kept[post]
