"""How well does a map overlap the object at the threshold that suits its explainer? One threshold each, tuned on others."""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.metrics.localisation import area, object_mask
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]

THRESHOLDS = 20


def iou_tuned() -> Metric:
    """Return the metric: [B,20] intersection over union in [0,1] of the mask and the pixels above each of 20 thresholds.

    Threshold j is j/20 of the map's highest positive evidence, j = 0 .. 19; a pixel at a threshold is not above it. A map and
    its multiple score the same. NaN where the sample has no mask of the class explained.

    Source: Saporta et al., "Benchmarking saliency methods for chest X-ray interpretation", Nature Machine Intelligence 2022
    (CheXlocalize), who tune one threshold for each method and pathology on held-out images.

    Notes
    -----
    Which of the columns counts is decided when a table is made, by `xbench.stats.cross_tuned`: for the samples of one half of
    the groups that which is best on the other half. There is one threshold for each explainer and half, over all classes.

    A blank map has no pixel above a threshold and scores 0, where CheXlocalize by default leaves the image out.
    """

    def measure(scene: Scene) -> Scores:
        mask, value = object_mask(scene), scene.positive.float()
        top = value.amax(dim=1, keepdim=True)
        top = top.masked_fill((top <= 0) | scene.blank[:, None], float("inf"))
        # How many of the thresholds a pixel is above, none in a blank map.
        passed = (value * THRESHOLDS).div_(top).ceil_().clamp_(max=THRESHOLDS).int()
        outside, inside = _above(passed, mask).unbind(dim=1)
        size = area(scene, mask)[:, None]
        found = inside / (size + outside).clamp(min=1)
        return {"iou_tuned": found.masked_fill(size == 0, float("nan"))}

    return measure


def _above(passed: Tensor, mask: Tensor) -> Tensor:
    """Return [B,2,T] float64: how many pixels outside and inside of the mask [B,n] are above each threshold."""
    size, bins = len(passed), THRESHOLDS + 1
    row = torch.arange(0, size * 2 * bins, 2 * bins, device=passed.device, dtype=torch.int32)
    counts = torch.bincount((passed + mask * bins + row[:, None]).flatten(), minlength=size * 2 * bins)
    return counts.view(size, 2, bins).double().flip(2).cumsum(dim=2).flip(2)[:, :, 1:]
