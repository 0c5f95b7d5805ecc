"""The main loop of a worker process: ``python -m xbench.worker NUMBER``, tasks on standard input, events on standard output."""

import contextlib
import ctypes
import dataclasses
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

from xbench import gpus, wire
from xbench.errors import XbenchError
from xbench.events import Fatal, Note, Ready, TaskDone

_FIRST_OWN_FD = 200
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve tasks until standard input ends."""
    inbox, outbox = _opened(0, "rb"), _opened(1, "wb")
    # What a plugin prints goes to the log, not between our messages.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # where a library crashes, the log says where
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _wake_when_the_parent_dies()
    number, emit = int(sys.argv[1]), _emitter(outbox)
    options = wire.receive(inbox)
    if options is None:
        os._exit(0)
    options = dataclasses.replace(options, device=gpus.bind(options.device, number, os.environ))
    tasks: queue.Queue[Any] = queue.Queue()
    # Only now: what a task is made of may import plugins, and these import torch.
    threading.Thread(target=_read, args=(inbox, tasks), daemon=True).start()
    threading.Thread(target=_beat, args=(emit, min(5.0, options.silence / 5)), daemon=True).start()
    try:
        from xbench.metrics.cost import device_name
        from xbench.work import Worker

        worker = Worker(options, emit, number)
        if worker.device.type == "cpu" and gpus.on_gpu(options.device, os.environ):
            emit(Note(f"worker {number}: torch cannot use GPU {os.environ.get(gpus.VISIBLE, '')}; the CPU computes"))
        emit(Ready(device_name(worker.device)))
        while True:
            task, threads = tasks.get()
            start = time.monotonic()
            worker.run(task, threads)
            emit(TaskDone(time.monotonic() - start))
    except XbenchError as error:
        emit(Fatal(str(error)))
    except BaseException:
        _fail()
    os._exit(0)  # a thread that a plugin left behind must not keep the process


def _opened(stream: int, mode: str) -> IO[bytes]:
    """Return a standard stream under a number that neither a tidy plugin closes nor its next file is given."""
    try:
        import fcntl

        return os.fdopen(fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_FD), mode)
    except (ImportError, OSError):  # Windows; or so many files may not be open
        return os.fdopen(os.dup(stream), mode)


def _emitter(outbox: IO[bytes]) -> Callable[[object], None]:
    lock, own = threading.Lock(), os.getpid()

    def emit(event: object) -> None:
        if os.getpid() != own:
            os._exit(1)  # a child that a plugin forked and that came back into our loop
        with lock:
            wire.send(outbox, event)

    return emit


def _beat(emit: Callable[[object], None], seconds: float) -> None:
    """Say every so often that the process runs: stopped, or inside a call that never lets Python go on, it does not."""
    with contextlib.suppress(OSError, ValueError):  # the other side is gone, as `_read` hears too
        while True:
            time.sleep(seconds)
            emit(wire.Alive())


def _read(inbox: IO[bytes], tasks: "queue.Queue[Any]") -> None:
    """Pass on messages; when the other side is gone, even by kill -9, end at once, with all that was started here."""
    try:
        while (message := wire.receive(inbox)) is not None:
            tasks.put(message)
    except BaseException:
        _fail()
    finally:
        if os.name == "posix" and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(0)


def _fail() -> None:
    with contextlib.suppress(OSError, ValueError):  # the log's disk may be full
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _wake_when_the_parent_dies() -> None:
    """Have a stopped worker go on when its parent is killed, for it to see that and end: it may hold a training's lock."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


if __name__ == "__main__":
    main()
