"""Explainers that work."""

import torch

from xbench.seeds import uniform
from xbench.tensors import Explanation


def weights(model):
    """Contribution of each pixel to the linear score."""

    def explain(batch):
        sign = batch.target * 2 - 1
        return (batch.image.mean(dim=1) - 0.2) * sign[:, None, None] * _weight(model, batch)

    return explain


def _weight(model, batch):
    weight = torch.ones(batch.image.shape[2:], device=batch.image.device)
    weight[:, : weight.shape[1] // 2] = -1
    return weight


def noise(model):
    return lambda batch: uniform(batch.keys, "fake/noise", batch.image.shape[2:])


def half(model):
    """Defined for class 1 only."""
    inner = weights(model)

    def explain(batch):
        found = inner(batch)
        defined = batch.target == 1
        return Explanation(
            torch.where(defined[:, None, None], found, torch.full_like(found, float("nan"))), defined=defined
        )

    return explain


def halved(model, of):
    return lambda batch: of(batch) / 2


def fit_trained(context):
    image = context.dataset.load(context.train.ids).image
    return {"mean": torch.as_tensor(image.mean(axis=(0, 1)))}


def trained(model, state):
    return lambda batch: batch.image.mean(dim=1) - state["mean"]


def fit_fails(context):
    raise RuntimeError("the recipe is bad")


def nowhere(model):
    """Never has an answer."""

    def explain(batch):
        return Explanation(
            torch.full_like(batch.image[:, 0], float("nan")), defined=torch.zeros(len(batch), dtype=torch.bool)
        )

    return explain


def torchs_own(model):
    """Draws from torch's global generator, as many libraries do."""
    return lambda batch: torch.rand_like(batch.image[:, 0])


def background(model):
    """The reverse of `weights`, declared as such."""
    inner = weights(model)
    return lambda batch: -inner(batch)
