"""Noise from (seed, sample id): no draw depends on batch size, order, shard or device.

A counter-based generator: a 32-bit integer hash of (sample, stream, draw, position), computed in int64 tensors on whatever
device the batch is on, so that CPU and GPU draw the same numbers without a loop over samples. The mixing function is the
`lowbias32` of Wellons, "Prospecting for hash functions" (2018); the tests check its moments and correlations.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = 0xFFFFFFFF
_TWO_PI = 2 * math.pi


def stable_int(*parts: object, bits: int = 63) -> int:
    """Return a non-negative integer below 2**bits that depends on the parts' text alone (BLAKE2b)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)


def sample_keys(seed: int, sample_ids: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
    """Return the [B,2] int64 keys (two words of 32 bits) from which all noise of these samples derives."""
    words = [stable_int(seed, sample, bits=64) for sample in sample_ids]
    keys = [[word >> 32, word & _MASK] for word in words]
    return torch.tensor(keys, dtype=torch.int64, device=device).reshape(-1, 2)


def integers(keys: Tensor, stream: str, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Return [B,*shape] int64, uniform on 0 .. 2**32-1; another ``stream`` or ``draw`` is independent noise."""
    words = _words(keys, stream, math.prod(shape), draw)
    found = words if isinstance(words, Tensor) else torch.from_numpy(words.astype(np.int64))
    return found.reshape(len(keys), *shape)


def uniform(keys: Tensor, stream: str, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Return [B,*shape] float32, uniform on [0,1) in steps of 2**-24."""
    words = _words(keys, stream, math.prod(shape), draw)
    if isinstance(words, Tensor):
        found = (words >> 8).to(torch.float32) * 2.0**-24
    else:
        found = torch.from_numpy((words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))
    return found.reshape(len(keys), *shape)


def normal(keys: Tensor, stream: str, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Return [B,*shape] float32, standard normal (Box-Muller)."""
    radius = torch.sqrt(-2 * torch.log1p(-uniform(keys, stream + "/radius", shape, draw)))
    return radius * torch.cos(_TWO_PI * uniform(keys, stream + "/angle", shape, draw))


def permutation(keys: Tensor, stream: str, count: int) -> Tensor:
    """Return [B,count] int64: a random permutation of 0 .. count-1 for each sample."""
    return integers(keys, stream, (count,)).argsort(dim=1, stable=True)


def _words(keys: Tensor, stream: str, count: int, draw: int) -> Tensor | NDArray[np.uint32]:
    """Return [B,count] words of 32 bits; on a CPU by NumPy, which multiplies them without taking twice their room."""
    salt = stable_int(stream, draw, bits=64)
    high = _mix(keys[:, 0] ^ (salt >> 32))
    low = _mix((keys[:, 1] ^ (salt & _MASK)) + high & _MASK)
    if keys.device.type != "cpu":
        position = torch.arange(count, dtype=torch.int64, device=keys.device)
        return _mix(_mix(position ^ high[:, None]) + low[:, None] & _MASK)
    first, second = (word.numpy().astype(np.uint32)[:, None] for word in (high, low))
    return _mixed(_mixed(np.arange(count, dtype=np.uint32) ^ first) + second)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ (value >> 16)) * 0x7FEB352D & _MASK
    value = (value ^ (value >> 15)) * 0x846CA68B & _MASK
    return value ^ (value >> 16)


def _mixed(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return what `_mix` does of words that wrap around by themselves, in their own memory."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        value ^= value >> np.uint32(shift)
        value *= np.uint32(factor)
    value ^= value >> np.uint32(16)
    return value
