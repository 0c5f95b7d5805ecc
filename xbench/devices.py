"""Which device to compute on, and how to go on when its memory is too small for a batch."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from xbench.errors import XbenchError

T = TypeVar("T")


def choose_device(wish: str, number: int = 0) -> torch.device:
    """Return the device wished for; workers beyond the first take the next GPU in turn.

    Raises XbenchError where there is no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wish == "cpu" or (wish == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise XbenchError(f"device={wish}: torch {torch.__version__} sees no CUDA device here; device=cpu works")
    place = wish.partition(":")[2]
    if place and int(place) >= gpus:
        raise XbenchError(f"device={wish}: there are {gpus} CUDA devices, numbered from 0")
    return torch.device("cuda", int(place) if place else number % gpus)


def halving(
    attempt: Callable[[int], T], size: int, device: torch.device, note: Callable[[int], None] | None = None
) -> T:
    """Return ``attempt(size)``; where the memory is too small, of half the size, and so on down to 1.

    Parameters
    ----------
    attempt
        Called with the images a pass may hold; must leave nothing behind when it fails.
    size
        The first size tried.
    device
        Where the memory is freed before the next attempt.
    note
        Called with each smaller size.

    Raises
    ------
    torch.OutOfMemoryError
        A single image is too much.
    """
    while True:
        try:
            return attempt(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if note:
            note(size)
