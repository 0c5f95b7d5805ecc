"""Score-CAM: feature maps weighted by what the class's score makes of the image seen through each of them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_cam.gradcam import Cam, Score, explanation, joined, scaled, weighted, with_reference

Variant = Literal["cic", "softmax", "score"]


def scorecam(model: Model, score: Score, layer: str, variant: Variant) -> Explainer:
    """Return Score-CAM: relu(sum_k w_k A_k), w_k from the score of the image times the map A_k (Wang et al. 2020).

    H_k is A_k scaled to the image and then to [0,1]. A map that is the same everywhere hides and shows nothing: it gets
    the weight 0, and no pass. No gradients; a forward pass for every other map of every image, and two besides.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability, which the paper and its code take.
    layer
        Dotted name of the module whose output A is explained; empty takes `Model.default_layer`.
    variant
        ``cic``: w_k = s(x H_k) - s(0), the channel-wise increase of confidence over a black image, as the paper defines
        it. ``softmax``: its softmax over k, as in the paper's algorithm 1; what is subtracted then cancels. ``score``:
        w_k = s(x H_k), as in the authors' code.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw; bilinear from the layer's h by w, corners not aligned; with the extras
    of `xbench_cam.gradcam.gradcam`.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps.
    ValueError
        From the explainer, when the model has no such layer.
    """
    scores = with_reference(score)

    @torch.no_grad()
    def explain(batch: Batch) -> Explanation:
        images, targets = torch.split(batch.image, model.batch_size), torch.split(batch.target, model.batch_size)
        black = model.logits(torch.zeros_like(batch.image[:1])) if variant == "cic" else None
        parts = []
        for image, target in zip(images, targets, strict=True):
            activation = model.tap(image, layer)[0].detach()
            values, used = masked_scores(model, image, target, activation, scores)
            if black is not None:
                blacks = black.expand(len(target), -1)
                values -= torch.stack([model.pick(blacks, target, kind) for kind in scores])[:, :, None]
            parts.append([_cam(activation, value, used, variant, image.shape[-2:]) for value in values])
        cams = [joined(part) for part in zip(*parts, strict=True)]
        return explanation(cams[0].map, cams[0], cams[-1], cams[-1].map)

    return explain


def masked_scores(
    model: Model, image: Tensor, target: Tensor, activation: Tensor, scores: Sequence[Score]
) -> tuple[Tensor, Tensor]:
    """Return the target's scores of images seen through each of their feature maps.

    The pairs of image and map fill passes of ``model.batch_size``, whatever images they are of.

    Parameters
    ----------
    model
        The classifier.
    image
        [B,C,H,W] float32 in [0,1].
    target
        [B] int64.
    activation
        [B,F,h,w], the feature maps.
    scores
        Which scores to take of the same passes, S of them.

    Returns
    -------
    [S,B,F] float32, 0 where unused; and [B,F] bool, which maps are used: those that are not the same everywhere.
    """
    # At the layer's own size: scaled, a flat map has rounding errors that [0,1] would blow up to a mask.
    used = activation.flatten(2).amax(dim=2) > activation.flatten(2).amin(dim=2)
    pairs, found = used.nonzero(), []
    for row, channel in (part.unbind(dim=1) for part in torch.split(pairs, model.batch_size)):
        mask = scaled(activation[row, channel][:, None], image.shape[-2:])
        low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
        mask = torch.where(high > low, (mask - low) / (high - low), 0)
        logits = model.logits(image[row] * mask)
        found.append(torch.stack([model.pick(logits, target[row], kind) for kind in scores]))
    values = activation.new_zeros(len(scores), *used.shape)
    values[:, used] = torch.cat(found, dim=1) if len(pairs) else values.new_zeros(len(scores), 0)
    return values, used


def _cam(activation: Tensor, value: Tensor, used: Tensor, variant: Variant, size: Sequence[int]) -> Cam:
    if variant == "softmax":
        # Where no map is used every entry is -inf and the softmax NaN: the weights are 0 as everywhere unused.
        value = value.masked_fill(~used, -torch.inf).softmax(dim=1)
    return weighted(activation, torch.where(used, value, 0)[:, :, None, None], size)
