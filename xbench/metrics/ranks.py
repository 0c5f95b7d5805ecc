"""Ranks of maps, the rows of tensors: their rank correlation, and where the pixels of a mask stand among all."""

import torch
from torch import Tensor

from xbench.perturb import LEVELS, sort_rows


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return [B] float64: Spearman's rank correlation of levels [B,n] of two maps, ties sharing ranks; NaN for a constant."""
    return correlation(centred_ranks(one), centred_ranks(other))


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return [B] float64: the correlation of two maps' `centred_ranks`, whose products are exact; NaN for a constant."""
    dot = torch.linalg.vecdot
    scale = (dot(one, one) * dot(other, other)).sqrt()
    return torch.where(scale > 0, dot(one, other) / scale, float("nan"))


def centred_ranks(level: Tensor) -> Tensor:
    """Return [B,n] float64: twice the ranks of levels [B,n] from 1, less n + 1; equal levels share the mean of their ranks.

    They are whole numbers and add up to 0.
    """
    n = level.shape[1]
    bits = (n - 1).bit_length()
    # Each level with its place behind it: one sort of numbers gives both, several times sooner than an argsort.
    whole = level.to(torch.int32 if LEVELS << bits < 2**31 else torch.int64) << bits
    together = sort_rows(whole | torch.arange(n, dtype=whole.dtype, device=level.device))
    ordered = (together >> bits).int()
    double = begins(ordered) - begins(-ordered.flip(1)).flip(1)
    order = (together & ((1 << bits) - 1)).long()
    return torch.empty_like(level, dtype=torch.float64).scatter_(1, order, double.double())


def begins(ordered: Tensor) -> Tensor:
    """Return [B,n] int32: where the run of equal values begins that each place of ascending rows [B,n] int32 is in."""
    place = torch.arange(ordered.shape[1], dtype=torch.int32, device=ordered.device).repeat(len(ordered), 1)
    # The sign of a step, all bits 0 or 1: no comparison, no product of a truth value, each slower than all of this.
    place[:, 1:] &= (ordered[:, :-1] - ordered[:, 1:]) >> 31
    return place.cummax(dim=1).values


def packed(level: Tensor, mask: Tensor) -> Tensor:
    """Return levels [B,n] (whole numbers) in ascending order, doubled, and 1 more where the mask [B,n] is, last of equals."""
    return sort_rows(level * 2 + mask)


def pairs_in_order(level: Tensor, mask: Tensor, last: Tensor) -> Tensor:
    """Return [B] float64: in how many pairs of a mask pixel and another the mask's is higher, equals counted half.

    Ties are counted by two sorts, the mask's pixels last among equals (``last``, as `packed` gives it) and first.
    """
    n, k = level.shape[1], mask.sum(dim=1)
    place = torch.arange(n, dtype=torch.int32, device=level.device)
    # A mask's pixel counts the pixels before it, in both orders; k (k - 1) / 2 of these pairs are of the mask's own.
    first = (packed(level, ~mask) & 1) ^ 1
    sums = (place * ((last & 1) + first)).sum(dim=1)
    return (sums - k * (k - 1)).double() / 2


def average_precision(last: Tensor) -> Tensor:
    """Return [B] float64: the mean, over the mask's pixels, of the mask's share of all that are as high or higher.

    Takes the `packed` levels and mask [B,n].
    """
    hit, begin, n = last & 1, begins(last >> 1), last.shape[1]
    hits_below = (hit.cumsum(dim=1, dtype=torch.int32) - hit).gather(1, begin.long())
    k = hit.sum(dim=1, keepdim=True, dtype=torch.int32)
    return ((hit * (k - hits_below)).double() / (n - begin)).sum(dim=1) / k[:, 0]
