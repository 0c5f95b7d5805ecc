"""Messages between a run and its workers: pickles over the pipes of a child process that we started ourselves."""

import pickle
import struct
from dataclasses import dataclass
from typing import IO, Any

_LENGTH = struct.Struct(">Q")
_LARGEST = 2**30
"""Bytes of a message: more can only be what something else has written into the pipe."""


@dataclass(frozen=True)
class Alive:
    """A worker's word that its process still runs, sent every few seconds whatever it computes."""


def pack(message: object) -> bytes:
    """Return the bytes of a message."""
    raw = pickle.dumps(message)
    return _LENGTH.pack(len(raw)) + raw


def send(stream: IO[bytes], message: object) -> None:
    """Write one message."""
    stream.write(pack(message))
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; None at the end of the stream. Raises ValueError where it is no message."""
    head = _exactly(stream, _LENGTH.size)
    size = _LENGTH.unpack(head)[0] if head else 0
    if size > _LARGEST:
        raise ValueError(f"a message of {size} bytes is none: something else has written into the pipe")
    body = _exactly(stream, size)
    return pickle.loads(body) if body else None


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
