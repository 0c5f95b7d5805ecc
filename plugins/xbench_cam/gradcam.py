"""Grad-CAM and its kin: maps of a layer's features, weighted by the gradient of the class's score."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation

Score = Literal["logit", "prob"]

# Feature maps A [B,F,h,w] and d s / d A to their weights [B,F,1,1] or [B,F,h,w].
Rule = Callable[[Tensor, Tensor], Tensor]


class Cam(NamedTuple):
    """The class activation maps of B images.

    Attributes
    ----------
    map
        [B,H,W] float32 >= 0: the positive part of sum_k w_k A_k, scaled to the image.
    weight
        [B] float32: max |w_k|.
    signed_max
        [B] float32: the maximum of sum_k w_k A_k at the layer's own resolution, before its positive part is taken.
    """

    map: Tensor
    weight: Tensor
    signed_max: Tensor


def gradcam(model: Model, score: Score, layer: str) -> Explainer:
    """Return Grad-CAM: relu(sum_k alpha_k A_k), alpha_k the spatial mean of d s / d A_k (Selvaraju et al. 2017, eq. 1, 2).

    Parameters
    ----------
    model
        The classifier to explain.
    score
        ``logit``, or ``prob``: the gradient then goes through the softmax or sigmoid, and fades where the class is
        certain (Sakai and Takenaka 2019). One forward and one backward pass an image; ``prob`` takes a second
        backward pass, from the logits to the layer, for the reference.
    layer
        Dotted name of the module whose output A is explained; empty takes `Model.default_layer`.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw; bilinear from the layer's h by w, corners not aligned. Its extras, each
    [B] float32, tell why a map is blank: ``weight`` and ``signed_max`` of `Cam`, and of the map that ``score=logit``
    gives on the same image and target ``reference_weight``, its ``weight``, and ``reference``, its largest value.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps.
    ValueError
        From the explainer, when the model has no such layer.
    """
    return _explainer(model, score, layer, mean_gradient)


def gradcam_pp(model: Model, layer: str, normalise_alpha: bool) -> Explainer:
    """Return Grad-CAM++: relu(sum_k w_k A_k), w_k = sum_ij alpha_ij relu(g_ij) (Chattopadhyay et al. 2018).

    With Y = exp(s) of a logit s that is piecewise linear in A, the derivatives of Y are Y g, Y g^2 and Y g^3, so Y
    cancels: alpha_ij = 1 / (2 + g_ij S), S = sum_ab A_ab. It is taken where g > 0 only, the places that count in w_k. The
    weights depend on the scale of the logits: where g S is small against 2 they are half the sum of positive gradients.

    Parameters
    ----------
    model
        The classifier to explain; the derivation is for logits only.
    layer
        As for `gradcam`; its output must be 0 or more.
    normalise_alpha
        Divide alpha by its sum over each map, as the authors' code does; theirs also counts places where g < 0, where
        2 + g S may pass through 0.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw, with the extras of `gradcam`; it is its own reference.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps, or negative values.
    ValueError
        From the explainer, when the model has no such layer.
    """

    def rule(activation: Tensor, gradient: Tensor) -> Tensor:
        if activation.amin() < 0:
            raise Unsupported(
                "Grad-CAM++ needs feature maps of 0 or more, as a ReLU gives; this layer's have values below 0"
            )
        return plus_plus_weight(activation, gradient, normalise_alpha)

    return _explainer(model, "logit", layer, rule)


def layercam(model: Model, score: Score, layer: str) -> Explainer:
    """Return LayerCAM: relu(sum_k relu(g_k) A_k), every place by its own gradient (Jiang et al. 2021).

    Parameters
    ----------
    model, score, layer
        As for `gradcam`.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw, with the extras of `gradcam`; a weight is then one of a single place.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps.
    ValueError
        From the explainer, when the model has no such layer.
    """
    return _explainer(model, score, layer, lambda activation, gradient: gradient.clamp(min=0))


def mean_gradient(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return Grad-CAM's weights [B,F,1,1]: the spatial mean of the gradient [B,F,h,w]."""
    return gradient.mean(dim=(2, 3), keepdim=True)


def plus_plus_weight(activation: Tensor, gradient: Tensor, normalise_alpha: bool) -> Tensor:
    """Return Grad-CAM++'s weights [B,F,1,1] >= 0 of feature maps and gradients [B,F,h,w]; see `gradcam_pp`."""
    positive = gradient.clamp(min=0)
    below = positive.mul(activation.sum(dim=(2, 3), keepdim=True)).add_(2)
    found = positive.div_(below).sum(dim=(2, 3), keepdim=True)
    if normalise_alpha:
        total = ((gradient > 0) / below).sum(dim=(2, 3), keepdim=True)
        found = torch.where(total > 0, found / total, 0)
    return found


def class_activation(model: Model, image: Tensor, target: Tensor, score: Score, layer: str = "") -> Tensor:
    """Return Grad-CAM's signed map sum_k alpha_k A_k [B,h,w] float32, before its positive part is taken.

    Parameters
    ----------
    model, image, target, layer
        As for `activation_gradients`.
    score
        Whether s is the logit or the probability.
    """
    activation, (gradient,) = activation_gradients(model, image, target, (score,), layer)
    return (mean_gradient(activation, gradient) * activation).sum(dim=1)


def activation_gradients(
    model: Model, image: Tensor, target: Tensor, scores: Sequence[Score], layer: str = ""
) -> tuple[Tensor, list[Tensor]]:
    """Return a layer's feature maps A [B,F,h,w] and, for each score s, d s_target / d A: one forward, a backward a score.

    Parameters
    ----------
    model
        The classifier to explain.
    image
        [B,C,H,W] float32 in [0,1], all in one pass.
    target
        [B] int64, the class whose score is explained.
    scores
        For each gradient, whether s is the logit or the probability.
    layer
        Dotted name of the module that gives A; empty takes `Model.default_layer`.

    Raises
    ------
    Unsupported
        When the layer gives no feature maps.
    ValueError
        When the model has no such layer.
    """
    with torch.enable_grad():
        activation, logits = model.tap(image, layer)
        totals = [model.pick(logits, target, score).sum() for score in scores]
        # The graph is kept for those that still have to go back through it.
        gradients = [
            torch.autograd.grad(total, activation, retain_graph=i + 1 < len(totals))[0]
            for i, total in enumerate(totals)
        ]
    return activation.detach(), gradients


def gradient_cams(model: Model, batch: Batch, scores: Sequence[Score], layer: str, rule: Rule) -> list[Cam]:
    """Return for each score the class activation maps of a batch, at most ``model.batch_size`` images in a pass."""
    images, targets = torch.split(batch.image, model.batch_size), torch.split(batch.target, model.batch_size)
    parts = []
    for image, target in zip(images, targets, strict=True):
        activation, gradients = activation_gradients(model, image, target, scores, layer)
        size = image.shape[-2:]
        parts.append([weighted(activation, rule(activation, gradient), size) for gradient in gradients])
    return [joined(part) for part in zip(*parts, strict=True)]


def weighted(activation: Tensor, weight: Tensor, size: Sequence[int]) -> Cam:
    """Return the maps of size (H, W) of feature maps [B,F,h,w] and their weights [B,F,1,1] or [B,F,h,w]."""
    if weight.shape[2:].numel() == 1:  # one weight a map: a product of matrices, which keeps no weighted maps
        signed = (weight.flatten(2).transpose(1, 2) @ activation.flatten(2)).view_as(activation[:, :1])
    else:
        signed = (weight * activation).sum(dim=1, keepdim=True)
    return Cam(
        scaled(signed.clamp(min=0), size)[:, 0], weight.abs().flatten(1).amax(dim=1), signed.flatten(1).amax(dim=1)
    )


def joined(parts: Sequence[Cam]) -> Cam:
    """Return the maps of several parts of a batch as those of one."""
    return Cam(*map(torch.cat, zip(*parts, strict=True)))


def scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps [B,F,h,w] at size (H, W): bilinear, corners not aligned."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def with_reference(score: Score) -> tuple[Score, ...]:
    """Return the scores a blank map is judged by: the explained one first, the logit last."""
    return ("logit",) if score == "logit" else (score, "logit")


def explanation(attribution: Tensor, cam: Cam, logit: Cam, reference: Tensor, **extras: Tensor) -> Explanation:
    """Return an attribution [B,H,W] with what tells a blank map's cause (see `gradcam`).

    Parameters
    ----------
    attribution
        [B,H,W] float32.
    cam, logit
        The maps of the score explained, and of the logit.
    reference
        [B,H,W] float32: the attribution of the logit.
    extras
        More of them.
    """
    causes = {
        "weight": cam.weight,
        "signed_max": cam.signed_max,
        "reference_weight": logit.weight,
        "reference": reference.flatten(1).amax(dim=1),
    }
    return Explanation(attribution, extras={**causes, **extras})


def _explainer(model: Model, score: Score, layer: str, rule: Rule) -> Explainer:
    def explain(batch: Batch) -> Explanation:
        cams = gradient_cams(model, batch, with_reference(score), layer, rule)
        return explanation(cams[0].map, cams[0], cams[-1], cams[-1].map)

    return explain
