"""The idx file format of MNIST, read strictly: a damaged or swapped file is named, never guessed around."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from xbench.errors import XbenchError

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 0x08
_MOST, _PIECE = 2**31, 2**20  # bytes; MNIST has 47 million, EMNIST 640 million


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of an idx file by its published name, plain or ``.gz``, ``-idx3`` or ``.idx3``, or None."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return path
    return None


def read_idx(path: Path, n_dims: int) -> NDArray[np.uint8]:
    """Return an idx file of unsigned bytes as an array of ``n_dims`` dimensions.

    The format: two zero bytes, a byte for the type (0x08 = unsigned byte), a byte for the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values (LeCun, http://yann.lecun.com/exdb/mnist).

    Raises
    ------
    XbenchError
        The file cannot be read or unpacked, is no idx file, has another type or number of dimensions, or has fewer or
        more bytes than its head says.
    """
    wanted = f"0x{_UNSIGNED_BYTE << 8 | n_dims:08x} (unsigned bytes, {n_dims} dimension{'s' * (n_dims > 1)})"
    start = 4 + 4 * n_dims
    with _unpacked(path) as file:
        head = _read(path, file, start)
        if len(head) < start:
            raise XbenchError(f"{path} is truncated: {len(head)} bytes are too few for the head of an idx file")
        magic, *shape = struct.unpack(f">{1 + n_dims}I", head)
        if magic != _UNSIGNED_BYTE << 8 | n_dims:
            raise XbenchError(f"{path} begins with 0x{magic:08x} where an idx file of its name has {wanted}")
        size, dims = math.prod(shape), " x ".join(map(str, shape))
        if size > _MOST:
            raise XbenchError(f"{path}: its head says {dims} bytes of data; {_MOST:,} are the most that is read")
        # A byte more than the head says: a packed file may hold a thousand times its own size.
        raw = _read(path, file, size + 1)
    if len(raw) != size:
        state, held = ("is truncated", f"{len(raw)}") if len(raw) < size else ("is too long", "more")
        raise XbenchError(f"{path} {state}: its head says {dims} bytes of data, and it has {held}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _unpacked(path: Path) -> "gzip.GzipFile | IO[bytes]":
    """Return a file open for reading, unpacked where it is packed: by content, for browsers unpack and leave the name."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return gzip.open(path) if packed else path.open("rb")
    except OSError as error:
        raise XbenchError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path, file: "gzip.GzipFile | IO[bytes]", most: int) -> bytes:
    """Return at most so many bytes, piece by piece: nothing is made room for that is not there."""
    parts: list[bytes] = []
    try:
        while most and (part := file.read(min(most, _PIECE))):
            parts.append(part)
            most -= len(part)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise XbenchError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise XbenchError(f"{path} cannot be read: {error.strerror or error}") from error
    return b"".join(parts)
