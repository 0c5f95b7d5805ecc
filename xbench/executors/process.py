"""One worker process as its parent sees it: started, written to, listened to, killed; none of it can hold the parent up."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from xbench import wire
from xbench.attempts import Flight
from xbench.errors import CannotWrite, XbenchError
from xbench.events import Event, WorkOptions

_END_SECONDS = 10.0
_CLOSED_SECONDS = 2.0

Inbox = queue.Queue[tuple["WorkerProcess", Event | None]]


@dataclass(eq=False, kw_only=True)
class WorkerProcess(Flight):
    """A worker process and what it has in hand.

    Attributes
    ----------
    number
        Its place among the workers of the run: decides the GPU and the log.
    heard
        When it last gave a sign of life, on the clock of `time.monotonic`.
    busy
        Whether it was given a task that it has not said to be done with.
    ready
        Whether it has ever been ready for one.
    """

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    heard: float = field(default_factory=time.monotonic)
    busy: bool = False
    ready: bool = False
    _outbox: "queue.SimpleQueue[bytes | None]" = field(default_factory=queue.SimpleQueue)

    def send(self, message: object) -> None:
        """Send it a message, which it reads when it can."""
        self._outbox.put(wire.pack(message))

    def kill(self) -> None:
        """Kill it and what it has started."""
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(self.process.pid, signal.SIGKILL)  # it leads a session of its own
            self.process.kill()
        self._outbox.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the system itself may hold it, on a disk that is away
            self.process.wait(timeout=_END_SECONDS)

    def end(self) -> str:
        """Wait for its end, of which the pipe has told, and say how it came; one that lives on is killed."""
        try:
            code = self.process.wait(timeout=_CLOSED_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its pipes"
        if code == -9:
            return "killed by signal 9, as the system does where memory runs out"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def last_words(self, size: int = 2000) -> str:
        """Return the end of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def start(number: int, options: WorkOptions, inbox: Inbox) -> WorkerProcess:
    """Start a worker, whose events go to the inbox, and None after the last one.

    Raises
    ------
    CannotWrite
        Its log cannot be written.
    XbenchError
        The system starts no more processes.
    """
    log = options.out / "logs" / f"worker-{number}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        errors = log.open("ab")
    except OSError as error:
        raise CannotWrite(f"cannot write {log}: {error.strerror or error}") from error
    with errors:
        try:
            child = subprocess.Popen(
                # The worker imports from where this process does, and not from the folder it happens to stand in.
                [sys.executable, "-P", "-m", "xbench.worker", str(number)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # Its own session: Ctrl-C is the parent's to answer. It ends when its standard input does.
                start_new_session=os.name == "posix",
            )
        except OSError as error:
            raise XbenchError(
                f"cannot start worker {number}: {error.strerror or error}; fewer workers=N may do"
            ) from error
    made = WorkerProcess(number=number, process=child, log=log)
    assert child.stdout is not None
    assert child.stdin is not None
    threading.Thread(target=_listen, args=(made, child.stdout, inbox), daemon=True).start()
    threading.Thread(target=_write, args=(child.stdin, made._outbox), daemon=True).start()
    made.send(options)
    return made


def _listen(process: WorkerProcess, stream: IO[bytes], inbox: Inbox) -> None:
    with contextlib.suppress(Exception), stream:  # whatever it wrote that is no event ends it
        while (event := wire.receive(stream)) is not None:
            process.heard = time.monotonic()
            if not isinstance(event, wire.Alive):
                inbox.put((process, event))
    inbox.put((process, None))


def _write(stream: IO[bytes], outbox: "queue.SimpleQueue[bytes | None]") -> None:
    """Write from a thread of its own: a pipe holds 64 KiB, and who should read it may be stopped."""
    with contextlib.suppress(OSError), stream:  # it has died; the listener says so
        while (raw := outbox.get()) is not None:
            stream.write(raw)
            stream.flush()
