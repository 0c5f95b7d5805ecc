"""The idx file format of MNIST, read strictly: a damaged or swapped file is named, never guessed around."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xbench.errors import XbenchError

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 0x08


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
    raw = _unpacked(path)
    wanted = f"0x{_UNSIGNED_BYTE << 8 | n_dims:08x} (unsigned bytes, {n_dims} dimension{'s' * (n_dims > 1)})"
    if len(raw) < 4 + 4 * n_dims:
        raise XbenchError(f"{path} is truncated: {len(raw)} bytes are too few for the head of an idx file")
    magic, *shape = struct.unpack_from(f">{1 + n_dims}I", raw)
    if magic != _UNSIGNED_BYTE << 8 | n_dims:
        raise XbenchError(f"{path} begins with 0x{magic:08x} where an idx file of its name has {wanted}")
    start, size = 4 + 4 * n_dims, math.prod(shape)
    if len(raw) - start != size:
        state = "is truncated" if len(raw) - start < size else "is too long"
        dims = " x ".join(map(str, shape))
        raise XbenchError(f"{path} {state}: its head says {dims} bytes of data, and it has {len(raw) - start}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        # By content: browsers unpack files and leave them their name.
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise XbenchError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise XbenchError(f"{path} cannot be read: {error.strerror or error}") from error
