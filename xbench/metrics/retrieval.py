"""Does the map find the object's pixels? Thresholds of all heights, or one: precision and recall, ROC, overlap."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xbench.metrics.localisation import area, object_mask, scored
from xbench.metrics.ranks import Places
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]
_BINS = 256


def average_precision() -> Metric:
    """Return the metric: [B] area under precision over recall of the pixels, mask = positive; NaN where it is empty.

    Pixels of one level enter together, as in scikit-learn, so that no order of ties counts; a blank map scores k/n. Chance is
    what a random order of k mask pixels among n scores on average, ((k - 1)(n - H)/(n - 1) + H)/n with H = 1 + 1/2 + ... + 1/n.
    """

    def measure(scene: Scene) -> Scores:
        mask = object_mask(scene)
        k, n = area(scene, mask).double(), mask.shape[1]
        harmonic = float((1 / torch.arange(1, n + 1, dtype=torch.float64)).sum())
        chance = ((k - 1) * (n - harmonic) / max(n - 1, 1) + harmonic) / n
        found = scored(scene, "average_precision", mask, lambda scene, mask: _places(scene, mask).average_precision())
        return found | {"average_precision.chance": chance.masked_fill(k == 0, float("nan"))}

    return measure


def mask_auroc() -> Metric:
    """Return the metric: [B] P(a mask pixel is above one outside) + P(equal) / 2; NaN where the mask is empty or all.

    ``mask_auroc.chance`` is .5. A map and any increasing function of it score the same.
    """

    def measure(scene: Scene) -> Scores:
        mask = object_mask(scene)
        k, n = area(scene, mask), mask.shape[1]
        pairs = (k * (n - k)).double()
        found = _places(scene, mask).pairs_in_order() / pairs
        return {"mask_auroc": found.masked_fill(pairs == 0, float("nan"))}

    return measure


def iou(threshold: Literal["otsu", "half"]) -> Metric:
    """Return the metric: [B] intersection over union of the mask and the pixels above a threshold.

    Parameters
    ----------
    threshold
        ``otsu``: that of Otsu (1979) on the positive evidence in 256 equal steps from its least to its highest, as
        CheXlocalize segments maps. ``half``: half the highest.

    Notes
    -----
    A blank map has no pixel above a threshold and scores 0, where CheXlocalize by default leaves the image out.
    """

    def measure(scene: Scene) -> Scores:
        mask, value = object_mask(scene), scene.positive
        low, high = value.amin(dim=1, keepdim=True), value.amax(dim=1, keepdim=True)
        extent = high - low
        if threshold == "half":
            above = value >= high / 2
        else:
            share = (value - low).div_(extent.where(extent > 0, torch.ones_like(extent)))
            grey = share.mul_(_BINS - 1).round_().int()
            above = grey > _otsu(grey)[:, None]
        above = above & (extent > 0)
        size, both = area(scene, mask), (above & mask).sum(dim=1)
        found = both.double() / (size + above.sum(dim=1) - both).clamp(min=1)
        return {"iou": found.masked_fill(size == 0, float("nan"))}

    return measure


def _places(scene: Scene, mask: Tensor) -> Places:
    """Return where the object's pixels stand in the map, looked up once for two metrics."""
    if "object" not in scene.memo:
        scene.memo["object"] = Places(scene.levels, scene.ordered, mask, area(scene, mask))
    found: Places = scene.memo["object"]
    return found


def _otsu(grey: Tensor) -> Tensor:
    """Return [B]: the level that parts whole levels [B,n] in 0 .. 255 with the largest variance between the two sides."""
    row = torch.arange(0, len(grey) * _BINS, _BINS, dtype=torch.int32, device=grey.device)
    counts = torch.bincount((grey + row[:, None]).flatten(), minlength=len(grey) * _BINS).view(-1, _BINS).double()
    share = counts / grey.shape[1]
    levels = torch.arange(_BINS, dtype=torch.float64, device=grey.device)
    weight, mean = share.cumsum(dim=1), (share * levels).cumsum(dim=1)
    spread = (mean[:, -1:] * weight - mean) ** 2 / (weight * (1 - weight)).clamp(min=1e-12)
    return spread.argmax(dim=1)
