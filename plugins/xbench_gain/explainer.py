"""The attention that GAIN trains, as an explanation of any classifier."""

import math

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_cam.gradcam import activation_gradients, explanation, joined, mean_gradient, weighted
from xbench_gain.objective import Settings, enlarged, normalised, soft_mask


def attention(model: Model, sigma: float, omega: float, layer: str) -> Explainer:
    """Return GAIN's attention A^c of the target's logit (Li et al. 2018, eq. 1 and 2), which is Grad-CAM's map.

    Parameters
    ----------
    model
        The classifier to explain, however it was trained.
    sigma, omega
        Threshold and slope of the soft mask T, as in the training.
    layer
        As for `xbench_cam.gradcam.gradcam`.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw, with the extras of Grad-CAM, and ``colour`` [B,C,H,W] float32: T, of each
    map brought to 0 .. 1, times the image's difference from its own mean colour; what an erasure takes away, and 0 where
    the map is blank. One forward and one backward pass an image.

    Raises
    ------
    Unsupported
        A parameter is out of range; from the explainer, when the layer gives no feature maps.
    ValueError
        From the explainer, when the model has no such layer.
    """
    if math.isnan(sigma) or not 0 < omega < math.inf:
        raise Unsupported(f"gain/attention[sigma={sigma},omega={omega}]: a number and a slope above 0 are needed")

    def explain(batch: Batch) -> Explanation:
        cams, colours = [], []
        for first in range(0, len(batch), model.batch_size):
            part = batch.take(slice(first, first + model.batch_size))
            features, (gradient,) = activation_gradients(model, part.image, part.target, ("logit",), layer)
            weight = mean_gradient(features, gradient)
            cams.append(weighted(features, weight, part.image.shape[2:]))
            colours.append(_cut_out(part.image, (weight * features).sum(dim=1), sigma, omega))
        cam = joined(cams)
        return explanation(cam.map, cam, cam, cam.map, colour=torch.cat(colours))

    return explain


def _cut_out(image: Tensor, signed: Tensor, sigma: float, omega: float) -> Tensor:
    """Return T (I - mean colour) [B,C,H,W] of the sums of weighted features [B,h,w]."""
    found = normalised(signed, Settings())
    soft = soft_mask(found.map, sigma, omega) * ~found.blank[:, None, None]
    mean = image.mean(dim=(2, 3), keepdim=True)
    return enlarged(soft, *image.shape[2:])[:, None] * (image - mean)
