"""Which device to compute on, how much of it a pass takes, and how to go on when its memory is too small."""

import contextlib
import ctypes
import gc
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from xbench.errors import Broken, XbenchError
from xbench.memory import out_of_memory

T = TypeVar("T")

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h
_PASS_CPU, _PASS_CUDA = 64, 256
_NUMBERS = 2**21
"""Numbers that the images of a pass on the CPU hold: beyond, activations leave the caches. At 224 x 224 it makes 13 images."""


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


def must_work(device: torch.device) -> None:
    """Raise Broken where nothing more can be computed in this process: a kernel that fails takes all later ones with it."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError as error:
            raise Broken(
                f"{device} failed ({str(error).splitlines()[0]}); only another process can use it again"
            ) from error


@contextlib.contextmanager
def plain_floats() -> Iterator[None]:
    """Inside, GPUs multiply float32 as float32, never as TF32, and convolve by algorithms that always give the same.

    Afterwards torch is set as it was.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # torch 2.9: to read the older name fails where somebody has set the newer
        wanted: list[tuple[Any, str, Any]] = [
            (part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv, cudnn.rnn)
        ]
    else:
        wanted = [(part, "allow_tf32", False) for part in (matmul, cudnn)]
    wanted.append((cudnn, "deterministic", True))
    before = [(part, name, getattr(part, name)) for part, name, _ in wanted]
    try:
        for setting in wanted:
            setattr(*setting)
        yield
    finally:
        for setting in before:
            setattr(*setting)


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
    Exception
        That of the last attempt: a single image is too much, or something else is wrong.
    """
    while True:
        try:
            return attempt(size)
        except Exception as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if note:
            note(size)


def images_a_pass(device: torch.device, shape: tuple[int, int, int]) -> int:
    """Return how many images [C,H,W] a forward pass takes where nobody asked for a number."""
    if device.type == "cuda":
        return _PASS_CUDA
    return max(1, min(_PASS_CPU, _NUMBERS // math.prod(shape)))


def keep_freed_memory() -> bool:
    """Ask the C library to keep the memory that a pass frees for the next one; return whether it could be asked.

    glibc returns large blocks to the system at once, and every pass gets them back page by page: a fifth of the time on a
    CPU (``make bench`` calls this too, so that bare passes gain as much).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 2**25) and mallopt(_TRIM_THRESHOLD, 2**30))  # 32 MiB is the most it accepts
