"""Ranks of maps, the rows of tensors: their rank correlation, and where the pixels of a mask stand among all."""

import numpy as np
import torch
from torch import Tensor

from xbench.perturb import argsort_rows, sort_rows


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return [B] float64: Spearman's rank correlation of the rows of two [B,n], ties sharing ranks; NaN for a constant."""
    first, second = (mean_ranks(values) for values in (one, other))
    first, second = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (first, second))
    scale = (first.square().sum(dim=1) * second.square().sum(dim=1)).sqrt()
    return torch.where(scale > 0, (first * second).sum(dim=1) / scale, float("nan"))


def mean_ranks(values: Tensor) -> Tensor:
    """Return [B,n] float64: ranks from 1, tied values sharing the mean of theirs."""
    order = argsort_rows(values)
    ordered = values.gather(1, order)
    begin, end = begins(ordered), values.shape[1] - begins(ordered.flip(1)).flip(1)
    return torch.empty_like(values, dtype=torch.float64).scatter_(1, order, (begin + end + 1).double() / 2)


def begins(ordered: Tensor) -> Tensor:
    """Return [B,n] int32: where the run of equal values begins that each place of sorted rows [B,n] is in."""
    place = torch.arange(ordered.shape[1], dtype=torch.int32, device=ordered.device).repeat(len(ordered), 1)
    place[:, 1:] *= ordered[:, 1:] != ordered[:, :-1]
    if place.device.type != "cpu":
        return place.cummax(dim=1).values
    return torch.from_numpy(np.maximum.accumulate(place.numpy(), axis=1))


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
