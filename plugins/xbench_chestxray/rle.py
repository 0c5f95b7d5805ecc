"""COCO's compressed run-length strings, decoded without pycocotools."""

import numpy as np
import numpy.typing as npt

from xbench.data import Bools, Ints

MOST_PIXELS = 100_000_000
_LONGEST = 7  # characters of a number: 34 bits and a sign, where the largest mask allowed takes 27


def runs(counts: str, height: int, width: int) -> Ints:
    """Return the lengths of the runs, off and on by turns, the first off; their sum is ``height * width``.

    A number is written five bits a character, the lowest first: bit 5 of (character - 48) says that more follow, and bit 4
    of the last one is the sign. From the fourth on, a number is the difference to the last but one. Source: ``rleFrString``
    in cocoapi's common/maskApi.c.

    Raises
    ------
    ValueError
        The size is none that a film has, or the string is not one that this encoding writes for it. One line.
    """
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"a mask of {height} x {width} pixels; 1 to {MOST_PIXELS:,} in all are allowed")
    code = np.frombuffer(counts.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64) - ord("0")
    if outside := np.flatnonzero((code < 0) | (code > 63)).tolist():
        raise ValueError(
            f"the run-length string has {counts[outside[0]]!r} at place {outside[0]}; '0' to 'o' are its letters"
        )
    ends = np.flatnonzero(code < 32)
    if not len(ends) or ends[-1] != len(code) - 1:
        raise ValueError("the run-length string ends within a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    length = ends - starts + 1
    if length.max() > _LONGEST:
        raise ValueError(f"the run-length string has a number of {length.max()} characters; {_LONGEST} are the most")
    place = np.arange(len(code)) - np.repeat(starts, length)
    found = np.add.reduceat((code & 31) << (5 * place), starts)
    found -= np.where(code[ends] & 16, np.int64(1) << (5 * length), 0)
    for first in (1, 2):
        found[first::2] = np.cumsum(found[first::2])
    if (found < 0).any():
        raise ValueError(f"the run-length string has a run of {found.min()} pixels")
    # A run longer than the mask is told before the sum, which it could carry round to any number.
    if found.max() > height * width or found.sum() != height * width:
        total = f"{found.sum():,}" if found.max() <= height * width else f"{found.max():,} or more"
        raise ValueError(f"the runs have {total} pixels; a mask of {height} x {width} has {height * width:,}")
    return found


def decode(counts: str, height: int, width: int) -> Bools:
    """Return a mask [height,width]; runs go down the columns, the left one first. Raises ValueError as `runs` does."""
    lengths = runs(counts, height, width)
    on: npt.NDArray[np.bool_] = np.arange(len(lengths)) % 2 == 1
    return np.repeat(on, lengths).reshape(width, height).T
