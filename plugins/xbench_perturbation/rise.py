"""RISE: a pixel counts as much as the class is found in randomly masked images that show it."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import integers, stable_int, uniform
from xbench.tensors import Batch, Explainer
from xbench_perturbation.passes import Score, pair_scores, plain_fill

# Numbers that a block of masks may hold: 16 MiB of float32. It bounds memory and changes no result.
_BLOCK = 2**22


def rise(
    model: Model, score: Score, n: int, cells: int, p: float, fill: Literal["zero", "mean"], draw: int
) -> Explainer:
    """Return RISE: S = sum_i f(x * m_i) m_i / (n p) over n random masks (Petsiuk, Das, Saenko 2018, eq. 6).

    The masks of `random_masks` are the same for every image, batch and seed; ``draw`` changes them. ``n`` forwards an
    image. The paper takes 4,000 (VGG16) or 8,000 (ResNet50) masks with cells=7, p=.5; the default of 1,000 makes the
    noise of a map twice as large for a quarter of the passes.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether f is the target's probability, as in the paper, or its logit. The map of a score of mean f carries f as
        an offset, and what the masks leave uneven by chance is multiplied by it.
    n
        Masks, 1 or more.
    cells
        Cells along each side of the grid behind a mask, 1 or more.
    p
        Odds that a cell is shown, between 0 and 1.
    fill
        What shows where a mask is 0: ``zero`` (black), as in the paper, or ``mean`` (the image's mean colour).
    draw
        Any whole number; another one gives other masks.

    Returns
    -------
    Explainer of maps [B,H,W] float32, raw, >= 0 for probabilities, in units of the score.

    Raises
    ------
    Unsupported
        When ``n``, ``cells`` or ``p`` is out of range.
    """
    if n < 1:
        raise Unsupported(f"perturbation/rise: n is {n}; at least 1 mask is needed")
    if cells < 1:
        raise Unsupported(f"perturbation/rise: cells is {cells}; at least 1 cell along a side is needed")
    if not 0 < p < 1:
        raise Unsupported(f"perturbation/rise: p is {p}; odds between 0 and 1 are needed, neither of them")

    def explain(batch: Batch) -> Tensor:
        image = batch.image
        pixels = image.shape[-2:].numel()
        colour = None if fill == "zero" else plain_fill(fill, image)
        total = torch.zeros_like(image[:, 0])
        # A whole number of passes to a block, whatever the number of images: only the last pass of all is not full.
        block = model.batch_size * max(1, _BLOCK // (pixels * model.batch_size))
        for first in range(0, n, block):
            shown = random_masks(first, min(block, n - first), image, cells, p, draw)

            def masked(row: Tensor, number: Tensor, shown: Tensor = shown) -> Tensor:
                mask = shown[number][:, None]
                return image[row].mul_(mask) if colour is None else torch.lerp(colour[row], image[row], mask)

            scores = pair_scores(model, batch.target, len(shown), masked, score)
            total += (scores.to(shown.dtype) @ shown.flatten(1)).view_as(total)
        return total / (n * p)

    return explain


def random_masks(first: int, count: int, like: Tensor, cells: int, p: float, draw: int = 0) -> Tensor:
    """Return the masks number ``first`` .. ``first + count - 1`` of an endless sequence that never changes.

    A grid of cells x cells, each shown with odds p, is scaled bilinearly to (cells + 1) * ceil(side / cells) and cropped
    at random by less than a cell (Petsiuk, Das, Saenko 2018, section 3.2; the order of sizes is that of the authors'
    code). Where a cell is a single pixel there is nothing to scale: pixels are then shown independently.

    Parameters
    ----------
    first, count
        Which masks.
    like
        A tensor [...,H,W] whose sides, dtype and device the masks get.
    cells, p, draw
        As in `rise`.

    Returns
    -------
    [count,H,W] in [0,1], of expectation p everywhere.
    """
    number = torch.arange(first, first + count, device=like.device)
    keys = torch.stack([number, torch.full_like(number, stable_int(draw, bits=32))], dim=1)
    grid = (uniform(keys, "perturbation/rise/grid", (cells, cells)) < p).to(like.dtype)
    crop = integers(keys, "perturbation/rise/crop", (2,))
    rows, columns = (_weights(side, cells, crop[:, axis], like) for axis, side in enumerate(like.shape[-2:]))
    return rows @ grid @ columns.transpose(1, 2)


def _weights(side: int, cells: int, crop: Tensor, like: Tensor) -> Tensor:
    """Return [N,side,cells]: the share of each cell in each pixel along one side, for N crops."""
    cell = math.ceil(side / cells)
    unit = torch.eye(cells, dtype=like.dtype, device=like.device)
    if cell == 1:
        return unit[:side].expand(len(crop), -1, -1)
    scaled = F.interpolate(unit[None], size=(cells + 1) * cell, mode="linear", align_corners=False)[0].T
    return scaled[(crop % cell)[:, None] + torch.arange(side, device=like.device)]
