"""Occlusion: how far the score falls when a window of the image is covered."""

from typing import Literal

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer
from xbench_perturbation.passes import Score, pair_scores, plain_fill

# Windows along the shorter side when no size is asked for; with half a window as stride about 200 passes an image.
_ACROSS = 7


def occlusion(model: Model, score: Score, window: int, stride: int, fill: Literal["zero", "mean"]) -> Explainer:
    """Return the score's fall under a sliding window (Zeiler and Fergus 2014).

    A pixel's value is the mean over the windows that cover it of s(x) - s(x with the window covered). The windows start
    at whole multiples of the stride until every pixel is covered; the last ones of a row or column are cut off by the
    border, as in Captum's ``Occlusion``. One forward an image and window, and one for the image itself.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.
    window
        Side of the square window in pixels; 0 takes a seventh of the image's shorter side.
    stride
        Pixels from one window to the next, at most ``window``; 0 takes half the window. Both 0: 169 windows
        on 28 x 28 and on 224 x 224, up to a third more on other squares.
    fill
        What covers: ``mean`` (the image's mean colour, like the grey square of the paper) or ``zero`` (black).

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When a size is negative or the stride leaves gaps; from the explainer, when the window is larger than the image.
    """
    for name, value in (("window", window), ("stride", stride)):
        if value < 0:
            raise Unsupported(
                f"perturbation/occlusion: {name} is {value}; 1 pixel or more is needed, or 0 for automatic"
            )
    if 0 < window < stride:
        raise _gaps(window, stride)

    def explain(batch: Batch) -> Tensor:
        image = batch.image
        height, width = image.shape[-2:]
        size = window or max(1, round(min(height, width) / _ACROSS))
        step = stride or max(1, size // 2)
        if size > min(height, width):
            raise Unsupported(f"perturbation/occlusion: a window of {size} pixels does not fit into {height} x {width}")
        if step > size:
            raise _gaps(size, step)
        rows, columns = (_bands(side, size, step, image.device) for side in (height, width))
        across, colour = len(columns), plain_fill(fill, image)
        # One more row of windows, covering nothing: its first one gives the score of the image itself.
        covered = torch.cat([rows, torch.zeros_like(rows[:1])])

        def hidden(row: Tensor, number: Tensor) -> Tensor:
            down, right = covered[number // across], columns[number % across]
            return torch.where((down[:, :, None] & right[:, None])[:, None], colour[row], image[row])

        scores = pair_scores(model, batch.target, len(rows) * across + 1, hidden, score)
        fall = (scores[:, -1:] - scores[:, :-1]).view(len(image), len(rows), across)
        # The share of each window in the mean over the windows that cover a pixel is a product of two one-sided shares.
        down, right = (bands.to(fall.dtype) / bands.sum(dim=0) for bands in (rows, columns))
        return down.T @ fall @ right

    return explain


def _bands(side: int, size: int, step: int, device: torch.device) -> Tensor:
    """Return [N,side] bool: the pixels along one side that each of the N positions of a window covers."""
    count = -(-(side - size) // step) + 1
    start = torch.arange(count, device=device)[:, None] * step
    place = torch.arange(side, device=device)
    return (place >= start) & (place < start + size)


def _gaps(window: int, stride: int) -> Unsupported:
    return Unsupported(
        f"perturbation/occlusion: stride is {stride} and the window {window} pixels; "
        "a stride of at most the window is needed, or pixels would never be covered"
    )
