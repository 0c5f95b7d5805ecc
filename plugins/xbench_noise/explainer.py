"""Non-contributing pixels: how much noise every pixel bears before the network's outputs move."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_noise.descent import adam, boundary
from xbench_noise.objective import NoiseObjective, Reference, Score

_ID = "noise/noncontributing"

HELD_OUT = 100
"""Draws of noise, others than those of the descent, on which an optimum is measured."""


@dataclass(frozen=True)
class Preset:
    """A way down and its budget: ``descend(objective, w, steps, draws, lr)``."""

    descend: Callable[[NoiseObjective, Tensor, int, int, float], Tensor]
    steps: int
    draws: int
    lr: float


PRESETS = {
    "draft": Preset(partial(boundary, share=0.4), 100, 12, 0.3),
    "fast": Preset(partial(boundary, share=0.9), 250, 100, 0.2),
    "paper": Preset(adam, 15_000, 100, 1e-4),
}


def noncontributing(
    model: Model,
    preset: Literal["draft", "fast", "paper"],
    score: Score,
    reference: Reference,
    tolerance: float,
    theta: str,
    steps: int,
    draws: int,
    lr: float,
    w0: float,
    clamp: bool,
) -> Explainer:
    """Return the noise level that each pixel bears: w minimising E(w) (Ikeno, Hara, Washio 2018, section 3.2).

    E(w) = E_U[sum_k max(|y_k - y'_k| - a, 0)] - mean w over 0 <= w <= 1, with y' the outputs for x + U * w and U uniform
    on [-1,1]; see `NoiseObjective`. All outputs must stay where they are, so the map is one of the image and not of the target.

    On five test digits and mnist/s1, E over the same 2,000 fresh draws (``python benchmarks/noise.py``): ``paper`` -.9017 by
    1.53 million forwards an image; ``fast`` .0006 more (standard error .0007) by 26,600; ``draft`` .0117 more (.0010) by 1,290,
    a gradient going back for one forward in 15 of the last two. Spearman's correlation of the maps of two draw seeds is .74 to
    .96 for ``draft`` and .88 to .98 for ``fast``: where nearly all pixels bear all noise, their order is chance.

    Parameters
    ----------
    model
        The classifier to explain.
    preset
        ``paper``: projected Adam, 15,000 steps of 100 draws at a learning rate of 1e-4, as the paper has it. ``draft`` and
        ``fast``: `boundary`, 100 steps of 12 draws and 250 of 100.
    score
        Whether y are logits or probabilities; the paper does not say.
    reference
        Whose outputs for x should not move: the network's with its mask units, or the ``original`` network's, as a literal
        reading has it (then E(0) > 0 where the mask units alone move an output by more than a).
    tolerance
        a > 0 in units of the score; 0: .45 of the gap between the two largest y of each image, so that outputs within
        their tolerance cannot change places (the paper: "so large that their order does not change").
    theta
        Thresholds of the mask units in the order in which the ReLUs run, separated by colons, the last for all that follow:
        a unit that gives no more than its threshold for x gives 0 for every noisy copy. ``off``: no mask units.
    steps, draws, lr
        In place of the preset's; 0 leaves it.
    w0
        Where w starts, everywhere: in [0,1] for ``paper``, in (0,1] for the others, whose steps are factors.
    clamp
        Keep noisy images in [0,1]; the paper does not say so.

    Returns
    -------
    Explainer of maps w [B,H,W] float32 in [0,1], high where a pixel does not contribute, in units of the pixel value. Its
    extras, each [B]: ``objective`` E(w), ``coverage`` mean w, ``violation``, the share of draws in which some output moved
    by more than a, the first and last over `HELD_OUT` fresh draws; ``reference_gap`` max_k |y_masked(x) - y(x)| and
    ``masked_agrees``, 1 where the mask units leave the prediction for x as it was.

    Raises
    ------
    Unsupported
        A parameter is out of range; or, from the explainer, mask units are wanted and the network has no ReLU.
    """
    base = PRESETS[preset]
    thresholds = _thresholds(theta)
    for name, value in (("steps", steps), ("draws", draws), ("lr", lr), ("tolerance", tolerance)):
        if value < 0:
            raise Unsupported(f"{_ID}: {name} is {value}; a value above 0, or 0 for the preset's own, is needed")
    if not 0 <= w0 <= 1 or (preset != "paper" and w0 == 0):
        raise Unsupported(f"{_ID}: w0 is {w0}; a start in [0,1], above 0 unless preset=paper, is needed")

    def solve(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        objective = NoiseObjective(model, batch, score, reference, tolerance, thresholds, clamp)
        start = torch.full_like(batch.image[:, 0], w0)
        w = base.descend(objective, start, steps or base.steps, draws or base.draws, lr or base.lr)
        fresh = objective.measure(w, HELD_OUT, "held out")
        coverage = w.mean(dim=(1, 2))
        return w, {
            "objective": fresh.excess - coverage,
            "coverage": coverage,
            "violation": fresh.violated,
            "reference_gap": objective.reference_gap,
            "masked_agrees": objective.agrees.to(w.dtype),
        }

    def explain(batch: Batch) -> Explanation:
        size = model.batch_size
        found = [solve(batch.take(slice(first, first + size))) for first in range(0, len(batch), size)]
        extras = {name: torch.cat([part[1][name] for part in found]) for name in found[0][1]}
        return Explanation(torch.cat([part[0] for part in found]), extras=extras)

    return explain


def _thresholds(theta: str) -> tuple[float, ...]:
    """Return the numbers of ``"0.2:0:0"``, none of ``"off"``; raises Unsupported for any other text."""
    if theta == "off":
        return ()
    try:
        found = tuple(float(part) for part in theta.split(":"))
    except ValueError:
        found = (math.nan,)
    if any(math.isnan(value) for value in found):
        raise Unsupported(f"{_ID}: theta is {theta!r}; numbers like 0.2:0:0, or off, are needed")
    return found
