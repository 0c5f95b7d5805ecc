"""Maps that know nothing of the model, or that know the truth: the floor and the ceiling of every table."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import uniform
from xbench.tensors import Batch, Explainer, Explanation

_REC601 = (0.299, 0.587, 0.114)


def random(model: Model) -> Explainer:
    """Return an explainer whose map [B,H,W] float32 is independent uniform noise on [0,1), from ``batch.keys``."""

    def explain(batch: Batch) -> Tensor:
        return uniform(batch.keys, "controls/random", batch.image.shape[-2:])

    return explain


def constant(model: Model) -> Explainer:
    """Return an explainer whose map [B,H,W] float32 is 1 everywhere: positive mass, but no order."""

    def explain(batch: Batch) -> Tensor:
        return torch.ones_like(batch.image[:, 0])

    return explain


def centre(model: Model, sigma: float) -> Explainer:
    """Return an explainer whose map is a Gaussian in the middle of the image.

    Parameters
    ----------
    model
        Not looked at.
    sigma
        Standard deviation as a fraction of the image's shorter side, above 0.

    Returns
    -------
    Explainer of maps [B,H,W] float32 in (0,1], the same for every sample.

    Raises
    ------
    Unsupported
        When ``sigma`` is not above 0.
    """
    if not sigma > 0:
        raise Unsupported(f"controls/centre: sigma is {sigma}; a fraction of the shorter side above 0 is needed")

    def explain(batch: Batch) -> Tensor:
        height, width = batch.image.shape[-2:]
        y = torch.arange(height, dtype=torch.float32, device=batch.image.device) - (height - 1) / 2
        x = torch.arange(width, dtype=torch.float32, device=batch.image.device) - (width - 1) / 2
        square = (y[:, None] ** 2 + x**2) / (sigma * min(height, width)) ** 2
        return torch.exp(-square / 2).repeat(len(batch), 1, 1)

    return explain


def sobel(model: Model) -> Explainer:
    """Return an explainer whose map [B,H,W] float32 >= 0 is the luminance's Sobel edge strength, sqrt(gx^2 + gy^2).

    Borders are reflected; a constant image gives exactly 0. Images need at least two rows and columns.
    """

    def explain(batch: Batch) -> Tensor:
        padded = F.pad(luminance(batch.image)[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
        # Differences before sums: rounding then cannot leave edges on a constant image, as it can in a convolution.
        across = padded[:, :, 2:] - padded[:, :, :-2]
        down = padded[:, 2:] - padded[:, :-2]
        gx = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
        gy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
        return torch.sqrt(gx**2 + gy**2)

    return explain


def intensity(model: Model) -> Explainer:
    """Return an explainer whose map [B,H,W] float32 in [0,1] is the luminance itself."""

    def explain(batch: Batch) -> Tensor:
        return luminance(batch.image)

    return explain


def oracle(model: Model) -> Explainer:
    """Return an explainer whose map [B,H,W] float32 in {0,1} is the true mask; undefined where a sample has none."""

    def explain(batch: Batch) -> Explanation:
        return _truth("oracle", "mask", batch.mask)

    return explain


def oracle_difference(model: Model) -> Explainer:
    """Return an explainer that knows the exact counterfactual [B,C,H,W]; its map [B,H,W] in {0,1} is where that differs.

    Undefined where it differs nowhere.
    """

    def explain(batch: Batch) -> Explanation:
        truth = _truth("oracle_difference", "counterfactual", batch.difference)
        return replace(truth, counterfactual=batch.counterfactual)

    return explain


def identity(model: Model) -> Explainer:
    """Return an explainer whose translated image [B,C,H,W] is the image itself; it has no map to score."""

    def explain(batch: Batch) -> Explanation:
        return Explanation(torch.zeros_like(batch.image[:, 0]), counterfactual=batch.image)

    return explain


def blur(model: Model, of: Explainer, sigma: float) -> Explainer:
    """Return an explainer whose map [B,H,W] is that of another one under a Gaussian blur, in its units.

    Coarse maps such as Grad-CAM's owe a part of their scores to being smooth: a fine map that is blurred to the same
    smoothness tells which part.

    Parameters
    ----------
    model
        Not looked at; the explainer wrapped has it.
    of
        The explainer wrapped.
    sigma
        Standard deviation as a fraction of the image's shorter side, above 0; the kernel ends at 3 of them, and the map's
        border values go on outside.

    Raises
    ------
    Unsupported
        When ``sigma`` is not above 0.
    """
    if not sigma > 0:
        raise Unsupported(f"controls/blur: sigma is {sigma}; a fraction of the shorter side above 0 is needed")

    def explain(batch: Batch) -> Explanation:
        found = of(batch)
        given = found if isinstance(found, Explanation) else Explanation(found)
        width = sigma * min(batch.image.shape[-2:])
        reach = max(1, math.ceil(3 * width))
        offset = torch.arange(-reach, reach + 1, dtype=given.attribution.dtype, device=given.attribution.device)
        kernel = torch.exp(-(offset**2) / (2 * width**2))
        kernel = (kernel / kernel.sum())[None, None, None]
        padded = F.pad(given.attribution[:, None], (reach, reach, reach, reach), mode="replicate")
        across = F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))
        return Explanation(across[:, 0], defined=given.defined)

    return explain


def luminance(image: Tensor) -> Tensor:
    """Return the luminance [B,H,W] of images [B,C,H,W], in their range.

    Three channels are weighed by ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B); any other number is averaged.
    """
    if image.shape[1] != 3:
        return image.mean(dim=1)
    red, green, blue = (weight * image[:, channel] for channel, weight in enumerate(_REC601))
    return red + green + blue


def _truth(name: str, what: str, truth: Tensor | None) -> Explanation:
    if truth is None:
        raise Unsupported(f"controls/{name} needs data with a {what}, and this batch has none")
    return Explanation(truth.to(torch.float32), defined=truth.flatten(1).any(dim=1))
