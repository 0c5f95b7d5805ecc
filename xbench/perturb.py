"""The hot path: ranking with seeded ties, fills, and perturbation curves in as few and as full forward passes as can be."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from xbench.seeds import permutation, uniform

LEVELS = 2**16
"""A map is rounded to max|L| / LEVELS before ranking, so that float noise of another batch size moves no rank."""

_TOGETHER = 2**18
"""Numbers that the copies of images made in one go hold, where a pass holds fewer: after it little is left in the caches."""

FILLS = ("zero", "mean", "blur", "noise")


def levels(attribution: Tensor) -> Tensor:
    """Return a map [B,H,W] rounded to whole multiples of max|L| * 2**-16, as [B,H*W] int32 in -65,536 .. 65,536."""
    flat = attribution.flatten(1)
    top = flat.abs().amax(dim=1, keepdim=True).double()
    return (flat.double() / top.where(top > 0, torch.ones_like(top))).mul_(LEVELS).round_().int()


def sort_rows(values: Tensor) -> Tensor:
    """Return the rows of [B,n] in ascending order; NumPy's vectorised sort is 15 to 60 times torch's on a CPU."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    return torch.from_numpy(np.sort(values.numpy(), axis=1))


def argsort_rows(values: Tensor) -> Tensor:
    """Return [B,n] int64: where each row's smallest value stands, its next, ...; equal ones in any order."""
    if values.device.type != "cpu":
        return values.argsort(dim=1)
    return torch.from_numpy(np.argsort(values.numpy(), axis=1))


def tie_order(keys: Tensor, n: int) -> Tensor:
    """Return [B,n] int64: the seeded order of the pixels of each sample in which ties are broken, for every explainer."""
    return permutation(keys, "ties", n)


def ranks(level: Tensor, ties: Tensor) -> Tensor:
    """Return [B,n] int32: each pixel's place when sorted by level, largest first, ties in the order of ``ties``."""
    n = level.shape[1]
    order = argsort_rows(ties - level.long() * n)
    places = torch.arange(n, dtype=torch.int32, device=level.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places)


def fill_image(name: str, image: Tensor, mean: Tensor, keys: Tensor) -> Tensor:
    """Return what stands for "removed", [B,C,H,W] in [0,1].

    Parameters
    ----------
    name
        ``zero``: black. ``mean``: the data set's mean colour. ``blur``: the image blurred as in RISE (a Gaussian of
        sigma 5 cut to 11x11 by reflection, outside the image the mean; Petsiuk, Das, Saenko 2018). ``noise``: uniform.
    image
        [B,C,H,W] in [0,1].
    mean
        [C] in [0,1].
    keys
        [B,2] noise keys.
    """
    colour = mean.to(image)[None, :, None, None]
    if name == "zero":
        return torch.zeros_like(image)
    if name == "mean":
        return colour.expand_as(image).contiguous()
    if name == "noise":
        return uniform(keys, "fill/noise", image.shape[1:]).to(image)
    if name == "blur":
        channels = image.shape[1]
        row = rise_kernel().to(image)
        kernel = row.repeat(channels, 1, 1, 1)
        centred = F.conv2d(image - colour, kernel, padding=(0, 5), groups=channels)
        return F.conv2d(centred, kernel.transpose(2, 3), padding=(5, 0), groups=channels) + colour
    raise ValueError(f"fill {name!r} is not one of {', '.join(FILLS)}")


def rise_kernel() -> Tensor:
    """Return one factor [1,1,1,11] of RISE's separable 11x11 blur: scipy's Gaussian of a delta, borders reflected."""
    delta = torch.zeros(11, dtype=torch.float64)
    delta[5] = 1
    return torch.as_tensor(gaussian_filter(delta.numpy(), 5.0), dtype=torch.float32)[None, None, None]


def step_counts(n: int, steps: int) -> list[int]:
    """Return how many of n pixels are changed at each point of a curve: 0, about n/steps, ..., n, all different."""
    return sorted({round(i * n / steps) for i in range(steps + 1)})


def replaced(image: Tensor, fill: Tensor, place: Tensor, counts: Tensor) -> Tensor:
    """Return copies of images whose first pixels are those of a fill, all channels of a pixel together.

    Parameters
    ----------
    image, fill
        [B,C,H,W] float32.
    place
        [B,1,H,W] int32: 0 is replaced first.
    counts
        [m] int32: how many pixels of each copy.

    Returns
    -------
    [m,B,C,H,W] float32.
    """
    # Bit by bit, the sign of a difference being all bits 0 or 1: a sixth of the time of `torch.where` on a CPU.
    first = (place - counts.view(-1, 1, 1, 1, 1)).bitwise_right_shift_(31)
    kept, other = image.view(torch.int32), fill.view(torch.int32)
    return ((kept ^ other) & first).bitwise_xor_(kept).view(torch.float32)


def replaced_in_passes(
    image: Tensor, fill: Tensor, place: Tensor, counts: Sequence[int], batch_size: int
) -> Iterator[Tensor]:
    """Yield what `replaced` gives for all counts, at most ``batch_size`` images or one copy of each at a time."""
    copies = max(1, batch_size // len(image))
    group = copies * max(1, _TOGETHER // (copies * image.numel()))
    for start in range(0, len(counts), group):
        part = torch.tensor(counts[start : start + group], dtype=torch.int32, device=image.device)
        yield from replaced(image, fill, place, part).split(copies)


def perturbed_scores(
    score: Callable[[Tensor, int], Tensor],
    image: Tensor,
    fill: Tensor,
    rank: Tensor,
    counts: Sequence[int],
    batch_size: int,
) -> Tensor:
    """Score images in which the first k pixels of a ranking are replaced, all channels of a pixel together.

    Parameters
    ----------
    score
        ``score(images [m*B,C,H,W], m) -> [m*B]``: the target's score of m perturbed copies of the batch, copy by copy;
        or their logits [m*B,K], for a caller who scores all of them at once.
    image, fill
        [B,C,H,W].
    rank
        [B,n] int32, 0 is replaced first.
    counts
        The values of k.
    batch_size
        The most images in one forward pass; small batches share a pass between several k.

    Returns
    -------
    [B,len(counts)] float32, or [B,len(counts),K].
    """
    if not counts:
        return image.new_zeros(len(image), 0)
    size, _, height, width = image.shape
    passes = replaced_in_passes(image, fill, rank.view(size, 1, height, width), counts, batch_size)
    found = [score(copies.flatten(0, 1), len(copies)).unflatten(0, (-1, size)) for copies in passes]
    return torch.cat(found).transpose(0, 1)
