"""Grad-CAM: where the feature maps that raise the class's score are active."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.models import Model
from xbench.tensors import Batch, Explainer

Score = Literal["logit", "prob"]


def gradcam(model: Model, score: Score, layer: str) -> Explainer:
    """Return Grad-CAM: the positive part of `class_activation`, scaled to the image (Selvaraju et al. 2017, eq. 2).

    Parameters
    ----------
    model
        The classifier to explain.
    score
        ``logit``, or ``prob``: the gradient then goes through the softmax or sigmoid, and fades where the class is
        certain (Sakai and Takenaka 2019).
    layer
        Dotted name of the module whose output is explained; empty takes `Model.default_layer`.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw; bilinear from the layer's h by w, corners not aligned.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps.
    ValueError
        From the explainer, when the model has no such layer.
    """

    def explain(batch: Batch) -> Tensor:
        images, targets = torch.split(batch.image, model.batch_size), torch.split(batch.target, model.batch_size)
        maps = [class_activation(model, *part, score, layer) for part in zip(images, targets, strict=True)]
        positive = torch.cat(maps).clamp(min=0)[:, None]
        return F.interpolate(positive, size=batch.image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]

    return explain


def class_activation(model: Model, image: Tensor, target: Tensor, score: Score, layer: str = "") -> Tensor:
    """Return the signed map sum_k alpha_k A_k, alpha_k the spatial mean of d s / d A_k (Selvaraju et al. 2017, eq. 1).

    Parameters
    ----------
    model
        The classifier to explain.
    image
        [B,C,H,W] float32 in [0,1].
    target
        [B] int64, the class whose score s is explained.
    score
        Whether s is the logit or the probability.
    layer
        Dotted name of the module that gives A [B,F,h,w]; empty takes `Model.default_layer`.

    Returns
    -------
    [B,h,w] float32, signed, at the layer's own resolution.

    Raises
    ------
    Unsupported
        When the layer gives no feature maps.
    ValueError
        When the model has no such layer.
    """
    with torch.enable_grad():
        activation, logits = model.tap(image, layer)
        gradient = torch.autograd.grad(model.pick(logits, target, score).sum(), activation)[0]
    alpha = gradient.mean(dim=(2, 3))
    return torch.einsum("bk,bkhw->bhw", alpha, activation.detach())
