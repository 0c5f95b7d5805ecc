"""Explanations read off the gradient of the score with respect to the image."""

from typing import Literal

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import normal
from xbench.tensors import Batch, Explainer

Score = Literal["logit", "prob"]

# Numbers an image that one call of the noise generator makes: several draws of a small image share the cost of a call,
# while a large one takes little memory. Part of the noise's definition: another value is other noise.
_BLOCK = 2**16


def gradient(model: Model, score: Score) -> Explainer:
    """Return the sensitivity map: max over channels of |d s_target / d x| (Simonyan et al. 2014).

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, in units of the score per unit of pixel value in [0,1].
    """

    def explain(batch: Batch) -> Tensor:
        return image_gradient(model, batch.image, batch.target, score).abs().amax(dim=1)

    return explain


def input_x_gradient(model: Model, score: Score) -> Explainer:
    """Return the sum over channels of x * d s_target / d x (Shrikumar et al. 2016).

    Parameters
    ----------
    model
        The classifier to explain; x is the image in [0,1], before the normalisation inside the model.
    score
        Whether s is the target's logit or its probability.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.
    """

    def explain(batch: Batch) -> Tensor:
        return (batch.image * image_gradient(model, batch.image, batch.target, score)).sum(dim=1)

    return explain


def smoothgrad(
    model: Model, score: Score, noise_level: float, n: int, variant: Literal["mean", "square", "var"]
) -> Explainer:
    """Return the gradient averaged over noisy copies of the image (Smilkov et al. 2017).

    The noise is normal with standard deviation ``noise_level`` * (max(x) - min(x)) of each image, not clipped to [0,1].
    Draws 2j and 2j+1 are an antithetic pair, +e_j and -e_j: with an even ``n`` whatever is odd in the noise cancels, at
    no cost; with an odd ``n`` the last draw stays alone. e_j comes from ``batch.keys`` and j, so that neither the batch
    nor ``model.batch_size`` changes it. ``n`` forwards and ``n`` backwards an image.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether the gradient is that of the target's logit or of its probability.
    noise_level
        Standard deviation of the noise as a fraction of the image's range, 0 or more; 0 gives `gradient`.
    n
        Noisy copies, 1 or more.
    variant
        What is taken of the n signed gradients g_k of each channel: ``mean``, the original; ``square``, the mean of
        g_k^2 (Hooker et al. 2019); ``var``, the mean of (g_k - mean)^2 (Adebayo et al. 2018).

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, the maximum over channels of the absolute value, in the units of `gradient`,
    squared for ``square`` and ``var``.

    Raises
    ------
    Unsupported
        When ``n`` or ``noise_level`` is out of range.
    """
    if n < 1:
        raise Unsupported(f"gradients/smoothgrad: n is {n}; at least 1 noisy copy is needed")
    if not noise_level >= 0:
        raise Unsupported(f"gradients/smoothgrad: noise_level is {noise_level}; 0 or more is needed")

    def explain(batch: Batch) -> Tensor:
        image, pairs = batch.image, (n + 1) // 2
        values = image.flatten(1)
        sigma = (noise_level * (values.amax(dim=1) - values.amin(dim=1))).view(-1, 1, 1, 1, 1)
        block = max(1, min(pairs, _BLOCK // image[0].numel()))
        group = block * max(1, model.batch_size // (2 * block * len(batch)))
        total, square, shift = torch.zeros_like(image), torch.zeros_like(image), None
        for first in range(0, pairs, group):
            starts = range(first, min(first + group, pairs), block)
            shapes = [(min(block, pairs - start), *image.shape[1:]) for start in starts]
            noise = [
                normal(batch.keys, "gradients/smoothgrad", shape, draw=start // block)
                for start, shape in zip(starts, shapes, strict=True)
            ]
            offset = sigma * torch.cat(noise, dim=1).to(image.dtype)
            offset = torch.stack([offset, -offset], dim=2).flatten(1, 2)[:, : n - 2 * first]
            noisy = (image[:, None] + offset).flatten(0, 1)
            grads = image_gradient(model, noisy, batch.target.repeat_interleave(offset.shape[1]), score)
            grads = grads.view_as(offset)
            if variant == "var":
                # Deviations from one draw rather than from 0: a variance small beside the mean survives float32.
                shift = grads[:, :1] if shift is None else shift
                grads = grads - shift
            if variant != "square":
                total += grads.sum(dim=1)
            if variant != "mean":
                square += grads.square().sum(dim=1)
        if variant == "mean":
            result = (total / n).abs()
        elif variant == "square":
            result = square / n
        else:
            result = (square / n - (total / n).square()).clamp(min=0)
        return result.amax(dim=1)

    return explain


def image_gradient(model: Model, image: Tensor, target: Tensor, score: Score) -> Tensor:
    """Return d s_target / d x [N,C,H,W] of N images, at most ``model.batch_size`` in a pass.

    Parameters
    ----------
    model
        The classifier, which is left as it was: no parameter gets a ``.grad``.
    image
        [N,C,H,W] float32 in [0,1], or beyond where noise was added.
    target
        [N] int64, the class whose score s is differentiated.
    score
        Whether s is the logit or the probability.
    """
    parts = []
    for x, t in zip(torch.split(image, model.batch_size), torch.split(target, model.batch_size), strict=True):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            # Samples do not see each other in eval mode, so one backward pass of the sum gives every sample's gradient.
            parts.append(torch.autograd.grad(model.score(leaf, t, score).sum(), leaf)[0])
    return torch.cat(parts)
