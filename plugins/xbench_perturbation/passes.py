"""Scores of every (image, perturbation) pair in the fewest forward passes."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xbench.models import Model

Score = Literal["logit", "prob"]


def pair_scores(
    model: Model, target: Tensor, count: int, perturbed: Callable[[Tensor, Tensor], Tensor], score: Score
) -> Tensor:
    """Score ``count`` perturbations of every image, every pass full but the last whatever the size of the batch.

    Parameters
    ----------
    model
        The classifier; a pass holds ``model.batch_size`` images.
    target
        [B] int64, the class whose score is taken.
    count
        Perturbations N of each image.
    perturbed
        ``perturbed(row [m], draw [m]) -> [m,C,H,W]``: the image number ``row`` (0 .. B-1) under the perturbation number
        ``draw`` (0 .. N-1), both int64 on the target's device. A pass runs over all images before the next perturbation,
        so that few perturbations are in it.
    score
        Logit or probability.

    Returns
    -------
    [B,N], of the dtype of the model's logits, without a gradient.
    """
    size = len(target)
    found = []
    with torch.no_grad():
        for first in range(0, size * count, model.batch_size):
            pair = torch.arange(first, min(first + model.batch_size, size * count), device=target.device)
            row = pair % size
            found.append(model.score(perturbed(row, pair // size), target[row], score))
    return torch.cat(found).view(count, size).T


def plain_fill(name: Literal["zero", "mean"], image: Tensor) -> Tensor:
    """Return the one colour [B,C,1,1] that stands for "removed": black, or the mean colour of each image [B,C,H,W]."""
    return image.mean(dim=(2, 3), keepdim=True) if name == "mean" else torch.zeros_like(image[:, :, :1, :1])
