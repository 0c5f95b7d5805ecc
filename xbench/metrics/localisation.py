"""Does the map lie on the object? Exact expectations over ties, so that a blank map scores chance."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]
_OBJECT = "object mask"


def localisation_precision() -> Metric:
    """Return the metric: [B] expected share of the k highest pixels inside the mask, k = mask area; chance k/n.

    Source: Arras, Osman, Samek, "CLEVR-XAI", Information Fusion 2022 (relevance rank accuracy); ties by expectation.
    """
    return lambda scene: scored(scene, "localisation_precision", object_mask(scene), top_k_precision)


def difference_precision() -> Metric:
    """Return the metric: the same on the ring where the exact counterfactual differs."""

    def measure(scene: Scene) -> Scores:
        ring = scene.batch.difference
        assert ring is not None, "the plan offers this metric only where a counterfactual is known"
        return scored(scene, "difference_precision", ring.flatten(1), top_k_precision)

    return measure


def pointing_game(tolerance: float) -> Metric:
    """Return the metric: [B] share of the highest pixels that lie in the mask, or nearer to it than ``tolerance`` pixels.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016; strict distance as in TorchRay.
    """

    def measure(scene: Scene) -> Scores:
        mask = object_mask(scene)
        if tolerance > 0:
            shape, near = scene.batch.image.shape[2:], mask
            mask = scene.backdrop.drawn(
                f"{_OBJECT}/{tolerance}", lambda: _widened(near.view(-1, *shape), tolerance).flatten(1)
            )
        return scored(scene, "pointing_game", mask, _pointing)

    return measure


def relevance_mass() -> Metric:
    """Return the metric: [B] share of the positive attribution inside the mask; a map without any scores chance.

    Source: Arras, Osman, Samek, "CLEVR-XAI", Information Fusion 2022 (relevance mass accuracy).
    """
    return lambda scene: scored(scene, "relevance_mass", object_mask(scene), mass_inside)


def mass_inside(scene: Scene, mask: Tensor) -> Tensor:
    """Return [B]: the share of the positive attribution inside the mask [B,n]; its area where there is none at all."""
    total = scene.positive.sum(dim=1)
    inside = (scene.positive * mask).sum(dim=1)
    return torch.where(total > 0, inside / total, area(scene, mask).double() / mask.shape[1])


def object_mask(scene: Scene) -> Tensor:
    """Return [B,n] bool: the mask where it speaks of the class explained, else nothing."""
    batch, memo = scene.batch, scene.backdrop.memo
    assert batch.mask is not None, "the plan offers this metric only where there are masks"
    if _OBJECT not in memo:
        mask = batch.mask.flatten(1)
        if batch.mask_class is not None:
            speaks = (batch.mask_class < 0) | (batch.mask_class == batch.target)
            mask = mask & speaks[:, None]
        memo[_OBJECT] = mask
    return memo[_OBJECT]


def area(scene: Scene, mask: Tensor) -> Tensor:
    """Return [B] int64: how many pixels a mask [B,n] has; those of the object's are counted once for all metrics."""
    memo, name = scene.backdrop.memo, f"{_OBJECT}/area"
    if mask is not memo.get(_OBJECT):
        return mask.sum(dim=1)
    if name not in memo:
        memo[name] = mask.sum(dim=1)
    return memo[name]


def top_k_precision(scene: Scene, mask: Tensor) -> Tensor:
    """Return [B]: the expected share of the k highest levels inside the mask [B,n], ties drawn at random."""
    level, ordered = scene.levels, scene.ordered
    k = area(scene, mask)
    threshold = ordered.gather(1, (ordered.shape[1] - k).clamp(max=ordered.shape[1] - 1)[:, None])
    above, tied = level > threshold, level == threshold
    places_left = k - above.sum(dim=1)
    expected = (above & mask).sum(dim=1) + places_left * (tied & mask).sum(dim=1).double() / tied.sum(dim=1)
    return expected / k


def _pointing(scene: Scene, mask: Tensor) -> Tensor:
    top = scene.levels == scene.levels.amax(dim=1, keepdim=True)
    return (top & mask).sum(dim=1).double() / top.sum(dim=1)


def scored(scene: Scene, name: str, mask: Tensor, measure: Callable[[Scene, Tensor], Tensor]) -> Scores:
    """Return score and chance, both NaN where the sample has no truth."""
    size = area(scene, mask)
    unknown = size == 0
    return {
        name: measure(scene, mask).masked_fill(unknown, float("nan")),
        f"{name}.chance": (size.double() / mask.shape[1]).masked_fill(unknown, float("nan")),
    }


def _widened(mask: Tensor, tolerance: float) -> Tensor:
    each = [distance_transform_edt(~one) < tolerance if one.any() else np.zeros_like(one) for one in mask.cpu().numpy()]
    return torch.as_tensor(np.stack(each), device=mask.device)
