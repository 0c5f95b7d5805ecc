"""Rank correlation of maps, the rows of two tensors."""

import torch
from torch import Tensor


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return [B] float64: Spearman's rank correlation of the rows of two [B,n], ties sharing ranks; NaN for a constant."""
    first, second = (mean_ranks(values) for values in (one, other))
    first, second = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (first, second))
    scale = (first.square().sum(dim=1) * second.square().sum(dim=1)).sqrt()
    return torch.where(scale > 0, (first * second).sum(dim=1) / scale, float("nan"))


def mean_ranks(values: Tensor) -> Tensor:
    """Return [B,n] float64: ranks from 1, tied values sharing the mean of theirs."""
    ordered = values.sort(dim=1).values
    below, upto = (torch.searchsorted(ordered, values.contiguous(), right=right) for right in (False, True))
    return (below + upto + 1).double() / 2
