"""What stands for "nothing there" in Captum's methods: one fill for an image, or many drawn from its noise key."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from xbench.models import Model
from xbench.seeds import uniform

Fill = Literal["zero", "grey", "white", "mean"]
References = Literal["grey", "noise"]

_LEVELS = {"zero": 0.0, "grey": 0.5, "white": 1.0}


def filled(fill: Fill, image: Tensor) -> Tensor:
    """Return [B,C,H,W]: what the images are compared with.

    Parameters
    ----------
    fill
        ``zero`` (black), ``grey`` (0.5 in every channel), ``white``, or ``mean``: the image's own mean colour. The data
        set's mean is not among them, for an explainer sees no other image.
    image
        [B,C,H,W] in [0,1].
    """
    if fill == "mean":
        return image.mean(dim=(2, 3), keepdim=True).expand_as(image).contiguous()
    return torch.full_like(image, _LEVELS[fill])


def change(model: Model, image: Tensor, empty: Tensor, target: Tensor, score: Literal["logit", "prob"]) -> Tensor:
    """Return [N]: s(x) - s(x0) of images and what they are compared with, both [N,C,H,W], for targets [N].

    Two forwards an image, at most ``model.batch_size`` in a pass; no gradient.
    """

    def scores(images: Tensor) -> Tensor:
        parts = zip(images.split(model.batch_size), target.split(model.batch_size), strict=True)
        return torch.cat([model.score(part, of, score) for part, of in parts])

    with torch.no_grad():
        return scores(image) - scores(empty)


def references(fill: References, keys: Tensor, shape: Sequence[int], n: int, stream: str) -> Tensor:
    """Return [B,n,C,H,W] float32 in [0,1]: n fills a sample that come from its noise key alone.

    The methods' papers draw them from the training images. An explainer sees none, so these are not of the data's
    distribution.

    Parameters
    ----------
    fill
        ``grey``: plain images, one grey level drawn uniformly from each n-th of [0,1]; together they are uniform on it,
        with less variance than n free draws. ``noise``: every value uniform on [0,1].
    keys
        [B,2] noise keys.
    shape
        (C,H,W).
    n
        Fills a sample.
    stream
        Name of the noise.
    """
    if fill == "noise":
        return uniform(keys, stream, (n, *shape))
    level = (torch.arange(n, device=keys.device) + uniform(keys, stream, (n,))) / n
    return level[:, :, None, None, None].expand(-1, -1, *shape)
