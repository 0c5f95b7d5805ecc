"""Do sums of attribution say how far the output falls? Random changes of the image, the same ones for every explainer."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xbench.perturb import sort_rows
from xbench.scene import Backdrop, Scene
from xbench.seeds import integers, normal

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]
Score = Literal["prob", "logit"]
_STILL = 1e-6
"""A score that moves by no more than this does not move: float32 does as much by itself."""


def faithfulness_correlation(runs: int, share: float, fill: str, score: Score) -> Metric:
    """Return the metric: [B] Pearson's correlation, over random sets of pixels, of their attribution and of what they cost.

    Each of ``runs`` sets has the same number of pixels, ``share`` of all; one side is the sum of the raw map over the set (of
    a map whose large values mean no contribution, its negative), the other the target's score less that with the set
    filled. NaN where one side does not vary, as for a blank map or a saturated score. ``runs`` forwards an image, shared by all
    explainers.

    Source: Bhatt, Weller, Moura, "Evaluating and aggregating feature-based model explanations", IJCAI 2020.

    Raises
    ------
    ValueError
        Fewer than three runs, or a share that is not above 0 and below 1.
    """
    if runs < 3:
        raise ValueError(f"runs={runs}: a correlation needs at least 3")
    if not 0 < share < 1:
        raise ValueError(f"share={share}: a share of the pixels above 0 and below 1 is needed")

    def measure(scene: Scene) -> Scores:
        backdrop = scene.backdrop

        def changed(run: int) -> Tensor:
            inside = _subset(backdrop, run, share).view(len(scene.batch), 1, *scene.batch.image.shape[2:])
            return torch.where(inside, backdrop.fill(fill), scene.batch.image)

        cost = _drops(backdrop, f"correlation/{runs}/{share}/{fill}/{score}", runs, changed, score)
        value = _signed(scene)
        sums = torch.stack([(value * _subset(backdrop, run, share)).sum(dim=1) for run in range(runs)], dim=1)
        still = cost.amax(dim=1) - cost.amin(dim=1) <= _STILL
        return {"faithfulness_correlation": pearson(sums, cost).masked_fill(still, float("nan"))}

    return measure


def infidelity(runs: int, noise: float, score: Score) -> Metric:
    """Return the metric: [B] E (b I.Phi - (f(x) - f(x - I)))^2 / E (f(x) - f(x - I))^2 with the best factor b; less is better.

    I is normal noise of standard deviation ``noise``, the same for all channels of a pixel, Phi the raw map, f the target's
    score. b = max(0, E (I.Phi)(f(x) - f(x - I)) / E (I.Phi)^2) makes maps of any scale comparable, and the denominator
    images: 0 is a map that tells every change, 1 one that tells none, or the opposite (a blank map too). A map that knows
    nothing is fitted a little all the same, one of mean 0 to 1 - 1/(2 runs) on average, one that is positive everywhere as far
    as brightness counts: the `random` control says how far. NaN where the score does not move. ``runs`` forwards an image,
    shared by all explainers.

    Source: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019, with
    the optimal scaling of its section 5; the division by what there is to explain is ours.

    Raises
    ------
    ValueError
        Fewer than two runs, or noise that is not above 0.
    """
    if runs < 2:
        raise ValueError(f"runs={runs}: at least 2 are needed")
    if not noise > 0:
        raise ValueError(f"noise={noise}: a standard deviation above 0 is needed, in units of the image's range [0,1]")

    def measure(scene: Scene) -> Scores:
        batch, shape = scene.batch, scene.batch.image.shape[2:]

        def draw(run: int) -> Tensor:
            key = f"infidelity/{noise}/{run}"
            return scene.backdrop.drawn(key, lambda: noise * normal(batch.keys, "infidelity", shape, run))

        cost = _drops(
            scene.backdrop,
            f"infidelity/{runs}/{noise}/{score}",
            runs,
            lambda run: batch.image - draw(run)[:, None],
            score,
        )
        value = _signed(scene)
        told = torch.stack([(value * draw(run).flatten(1)).sum(dim=1) for run in range(runs)], dim=1)
        power = told.square().sum(dim=1)
        factor = torch.where(power > 0, (told * cost).sum(dim=1) / power, 0.0).clamp(min=0)
        whole = cost.square().sum(dim=1)
        rest = (factor[:, None] * told - cost).square().sum(dim=1) / whole
        still = cost.abs().amax(dim=1) <= _STILL
        return {"infidelity": rest.masked_fill(still, float("nan"))}

    return measure


def pearson(one: Tensor, other: Tensor) -> Tensor:
    """Return [B]: the correlation of the rows of two [B,R] float64; NaN where a row is constant."""
    one, other = (side - side.mean(dim=1, keepdim=True) for side in (one, other))
    size = one.norm(dim=1) * other.norm(dim=1)
    # What is constant but for rounding correlates with nothing.
    flat = (one.abs().amax(dim=1) <= 1e-12) | (other.abs().amax(dim=1) <= 1e-12)
    return ((one * other).sum(dim=1) / size).clamp(-1, 1).masked_fill(flat, float("nan"))


def _signed(scene: Scene) -> Tensor:
    """Return [B,n] float64: the raw map scaled to at most 1, larger = more evidence."""
    flat = scene.explanation.attribution.flatten(1).double()
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return -flat if scene.polarity == "non_contributing" else flat


def _subset(backdrop: Backdrop, run: int, share: float) -> Tensor:
    """Return [B,n] bool: exactly round(share * n) random pixels of each image, at least 1; kept where there is room."""
    batch = backdrop.batch
    n = batch.image[0, 0].numel()

    def make() -> Tensor:
        draw = integers(batch.keys, "subset", (n,), run)
        last = max(1, round(share * n)) - 1
        return draw <= sort_rows(draw)[:, last : last + 1]

    return backdrop.drawn(f"subset/{share}/{run}", make)


def _drops(backdrop: Backdrop, key: str, runs: int, changed: Callable[[int], Tensor], score: Score) -> Tensor:
    """Return [B,runs] float64: the target's score less that of each changed image; computed once a batch."""
    if (kept := backdrop.memo.get(key)) is not None:
        return kept
    model, target = backdrop.model, backdrop.batch.target
    together = max(1, model.batch_size // len(target))
    found = []
    with torch.no_grad():
        for start in range(0, runs, together):
            images = [changed(run) for run in range(start, min(runs, start + together))]
            found.append(model.score(torch.cat(images), target.repeat(len(images)), score).view(len(images), -1))
        clean = model.pick(backdrop.clean_logits, target, score)
    backdrop.memo[key] = clean[:, None].double() - torch.cat(found).T.double()
    return backdrop.memo[key]
