"""Noise from (seed, sample id): no draw depends on batch size, order, shard or device.

A counter-based generator: a 32-bit integer hash of (sample, stream, draw, position), computed in int64 tensors on whatever
device the batch is on, so that CPU and GPU draw the same numbers without a loop over samples. The mixing function is the
`lowbias32` of Wellons, "Prospecting for hash functions" (2018); the tests check its moments and correlations.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
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
    count = math.prod(shape)
    salt = stable_int(stream, draw, bits=64)
    high = _mix(keys[:, 0] ^ (salt >> 32))
    low = _mix((keys[:, 1] ^ (salt & _MASK)) + high & _MASK)
    position = torch.arange(count, dtype=torch.int64, device=keys.device)
    values = _mix(_mix(position ^ high[:, None]) + low[:, None] & _MASK)
    return values.reshape(len(keys), *shape)


def uniform(keys: Tensor, stream: str, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Return [B,*shape] float32, uniform on [0,1) in steps of 2**-24."""
    return (integers(keys, stream, shape, draw) >> 8).to(torch.float32) * 2.0**-24


def normal(keys: Tensor, stream: str, shape: Sequence[int], draw: int = 0) -> Tensor:
    """Return [B,*shape] float32, standard normal (Box-Muller)."""
    radius = torch.sqrt(-2 * torch.log1p(-uniform(keys, stream + "/radius", shape, draw)))
    return radius * torch.cos(_TWO_PI * uniform(keys, stream + "/angle", shape, draw))


def permutation(keys: Tensor, stream: str, count: int) -> Tensor:
    """Return [B,count] int64: a random permutation of 0 .. count-1 for each sample."""
    return integers(keys, stream, (count,)).argsort(dim=1, stable=True)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ (value >> 16)) * 0x7FEB352D & _MASK
    value = (value ^ (value >> 15)) * 0x846CA68B & _MASK
    return value ^ (value >> 16)
