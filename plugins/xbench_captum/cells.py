"""Captum's methods that remove groups of pixels, the cells of a grid: feature ablation and Shapley value sampling."""

from collections.abc import Callable
from typing import Literal

import torch
from captum.attr import FeatureAblation, ShapleyValueSampling
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import integers
from xbench.tensors import Batch, Explainer, Explanation
from xbench_captum.fills import Fill, change, filled

Score = Literal["logit", "prob"]


def feature_ablation(model: Model, score: Score, fill: Fill, cells: int) -> Explainer:
    """Return feature ablation: the drop of the score when one cell of the image is filled (Zeiler and Fergus 2014).

    A cell's pixels share its drop evenly, so that a map's sum over any cells is the sum of their drops. ``cells``**2 + 1
    forwards an image.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether the score is the target's logit or its probability.
    fill
        What takes the cell's place, see `filled`.
    cells
        The grid has ``cells`` rows and as many columns, 1 or more; where a side of the image is no multiple of it, cells
        differ by one pixel in length.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When ``cells`` is below 1, or (from the explainer) above the shorter side of the image in pixels.
    """
    _check("feature_ablation", "cells", cells)

    def explain(batch: Batch) -> Tensor:
        grid = _grid("feature_ablation", cells, batch.image)
        scored = _scored(model, batch, score, fill, grid)
        drops = []
        for rows in torch.arange(len(batch), device=grid.device).split(model.batch_size):
            present = torch.ones(len(rows), cells**2, dtype=batch.image.dtype, device=grid.device)
            drops.append(
                FeatureAblation(scored).attribute(
                    present,
                    additional_forward_args=(rows,),
                    perturbations_per_eval=max(1, model.batch_size // len(rows)),
                )
            )
        return _shared(torch.cat(drops), grid)

    return explain


def shapley_sampling(model: Model, score: Score, fill: Fill, cells: int, n: int) -> Explainer:
    """Return sampled Shapley values of the cells of a grid (Castro et al. 2009; Štrumbelj and Kononenko 2010).

    From the filled image the cells appear one by one in a random order; the gain in score as a cell appears, averaged over
    n orders, is its value. A cell's pixels share it evenly, so that a map adds up to s(x) - s(fill). Orders 2j and 2j+1
    are a pair, the second the first read backwards (with an odd ``n`` the last stays alone): what pairs of cells do
    together is then shared exactly. The orders come from ``batch.keys``, and are handed to Captum in place of its own.
    ``n`` * (``cells``**2 + 1) + 2 forwards an image: s(x) - s(fill) is in `Explanation.extras` as ``total`` [B].

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether the score is the target's logit or its probability.
    fill
        What stands where a cell has not appeared yet, see `filled`.
    cells
        The grid has ``cells`` rows and as many columns, 1 or more; where a side of the image is no multiple of it, cells
        differ by one pixel in length.
    n
        Orders, 1 or more.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When ``n`` or ``cells`` is below 1, or (from the explainer) ``cells`` above the shorter side of the image in pixels.
    """
    _check("shapley_sampling", "cells", cells)
    _check("shapley_sampling", "n", n)

    def explain(batch: Batch) -> Explanation:
        grid = _grid("shapley_sampling", cells, batch.image)
        scored = _scored(model, batch, score, fill, grid)
        first = integers(batch.keys, "captum/shapley_sampling", ((n + 1) // 2, cells**2)).argsort(dim=2, stable=True)
        orders = torch.stack([first, first.flip(2)], dim=2).flatten(1, 2)[:, :n].flatten(0, 1)

        def in_order(present: Tensor, row: Tensor) -> Tensor:
            return scored(torch.empty_like(present).scatter_(1, orders[row], present), row // n)

        # Captum knows one order for all rows of a call. So its features are the places in each row's own order.
        method = ShapleyValueSampling(in_order)
        method.permutation_generator = lambda count, samples: [range(count)]
        gains = []
        for rows in torch.arange(len(orders), device=grid.device).split(model.batch_size):
            present = torch.ones(len(rows), cells**2, dtype=batch.image.dtype, device=grid.device)
            found = method.attribute(
                present,
                additional_forward_args=(rows,),
                n_samples=1,
                perturbations_per_eval=max(1, model.batch_size // len(rows)),
            )
            gains.append(torch.empty_like(found).scatter_(1, orders[rows], found))
        maps = _shared(torch.cat(gains).unflatten(0, (len(batch), n)).mean(dim=1), grid)
        total = change(model, batch.image, filled(fill, batch.image), batch.target, score)
        return Explanation(maps, extras={"total": total})

    return explain


def _check(name: str, param: str, value: int) -> None:
    if value < 1:
        raise Unsupported(f"captum/{name}: {param} is {value}; 1 or more is needed")


def _grid(name: str, cells: int, image: Tensor) -> Tensor:
    """Return [H,W] int64: the number of the cell that a pixel is in."""
    height, width = image.shape[2:]
    if cells > min(height, width):
        raise Unsupported(
            f"captum/{name}: cells is {cells}; an image of {height} x {width} pixels has room for {min(height, width)}"
        )
    row, column = (torch.arange(side, device=image.device) * cells // side for side in (height, width))
    return row[:, None] * cells + column


def _scored(model: Model, batch: Batch, score: Score, fill: Fill, grid: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that Captum explains: which cells [N,F] (0 or 1) of which samples [N] are there -> scores [N].

    Captum sees the cells rather than the pixels: of a mask over pixels it would read every entry in a Python loop.
    """
    empty = filled(fill, batch.image)

    def scored(present: Tensor, row: Tensor) -> Tensor:
        there = (present > 0)[:, grid][:, None]
        return model.score(torch.where(there, batch.image[row], empty[row]), batch.target[row], score)

    return scored


def _shared(value: Tensor, grid: Tensor) -> Tensor:
    """Return maps [B,H,W] in which the pixels of a cell share its value [B,F] evenly."""
    area = torch.bincount(grid.flatten(), minlength=value.shape[1])
    return (value / area)[:, grid]
