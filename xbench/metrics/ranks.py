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


class Places:
    """Where the mask's pixels stand among all of a map: its average precision, and its pairs in order.

    Only the mask's own pixels are looked at, which are few as a rule: what counts of the others is how many lie below.

    Parameters
    ----------
    level
        [B,n] int32.
    ordered
        The same, each row ascending.
    mask
        [B,n] bool.
    area
        [B]: how many pixels each mask has.
    """

    def __init__(self, level: Tensor, ordered: Tensor, mask: Tensor, area: Tensor) -> None:
        self.ordered, self.area, self.n = ordered, area, level.shape[1]
        most = int(area.max()) if len(area) else 0
        # Ascending, with what stands above every level behind those of a smaller mask.
        self.hits = sort_rows(level.masked_fill(~mask, 2 * LEVELS))[:, :most].contiguous()
        self.below = torch.searchsorted(ordered, self.hits)

    def average_precision(self) -> Tensor:
        """Return [B] float64: the mean, over the mask's pixels, of the mask's share of all that are as high or higher."""
        # Of those behind a smaller mask the first factor is 0.
        hits_as_high = (self.area[:, None] - begins(self.hits)).double()
        return (hits_as_high / (self.n - self.below).clamp_(min=1)).sum(dim=1) / self.area

    def pairs_in_order(self) -> Tensor:
        """Return [B] float64: in how many pairs of a mask pixel and another the mask's is higher, equals counted half."""
        not_above = torch.searchsorted(self.ordered, self.hits, right=True)
        behind = 2 * self.n * (self.hits.shape[1] - self.area)
        # A run of equals counts its pixels half; so counted, the mask's own pairs are its area's square.
        return ((self.below + not_above).sum(dim=1) - behind - self.area**2).double() / 2
