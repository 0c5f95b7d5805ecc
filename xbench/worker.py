"""The main loop of a worker process: ``python -m xbench.worker NUMBER``, tasks on standard input, events on standard output."""

import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from xbench import wire
from xbench.errors import XbenchError
from xbench.events import Event, Fatal, Ready, TaskDone


def main() -> None:
    """Serve tasks until standard input ends."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a plugin prints goes to the log, not between our messages.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    tasks: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read, args=(inbox, tasks), daemon=True).start()

    def emit(event: Event) -> None:
        wire.send(outbox, event)

    options = tasks.get()
    try:
        from xbench.metrics.cost import device_name
        from xbench.work import Worker

        worker = Worker(options, emit, int(sys.argv[1]))
        emit(Ready(device_name(worker.device)))
        while True:
            task, threads = tasks.get()
            worker.run(task, threads)
            emit(TaskDone())
    except XbenchError as error:
        emit(Fatal(str(error)))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # a thread that a plugin left behind must not keep the process


def _read(inbox: IO[bytes], tasks: "queue.Queue[Any]") -> None:
    """Pass on messages; when the other side is gone, even by kill -9, end at once."""
    try:
        while (message := wire.receive(inbox)) is not None:
            tasks.put(message)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
