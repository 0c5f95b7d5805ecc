"""Captum's methods that follow a path from a fill to the image: integrated gradients and GradientSHAP."""

import contextlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from captum.attr import GradientShap, IntegratedGradients
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import integers
from xbench.tensors import Batch, Explainer, Explanation
from xbench_captum.fills import Fill, References, change, filled, references

Score = Literal["logit", "prob"]


def integrated_gradients(model: Model, score: Score, fill: Fill, steps: int) -> Explainer:
    """Return integrated gradients (Sundararajan et al. 2017), summed over channels.

    (x - x0) times the mean of d s / d x on the straight path from the fill x0 to x, by Gauss-Legendre quadrature. The
    maps add up to s(x) - s(x0) but for the quadrature's error; `Explanation.extras` holds the difference as ``total`` [B]
    and the error as ``delta`` [B] (the map's sum minus the difference). Captum's 50 steps are the default; where delta is
    large, 100 to 300 help. ``steps`` + 2 forwards and ``steps`` backwards an image.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.
    fill
        x0, see `filled`.
    steps
        Points on the path, 1 or more.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When ``steps`` is out of range.
    """
    if steps < 1:
        raise Unsupported(f"captum/integrated_gradients: steps is {steps}; at least 1 step is needed")

    def scores(image: Tensor) -> Tensor:
        logits = model.logits(image)
        return logits if score == "logit" else model.prob(logits)

    def explain(batch: Batch) -> Explanation:
        maps, totals = [], []
        size = model.batch_size
        for image, target in zip(batch.image.split(size), batch.target.split(size), strict=True):
            empty = filled(fill, image)
            found = IntegratedGradients(scores).attribute(
                image, baselines=empty, target=target, n_steps=steps, internal_batch_size=size
            )
            maps.append(found.detach().sum(dim=1))
            totals.append(change(model, image, empty, target, score))
        result, total = torch.cat(maps), torch.cat(totals)
        return Explanation(result, extras={"total": total, "delta": result.sum(dim=(1, 2)) - total})

    return explain


def gradient_shap(model: Model, score: Score, fill: References, n: int) -> Explainer:
    """Return GradientSHAP, also known as expected gradients (Lundberg and Lee 2017; Erion et al. 2021), summed over channels.

    The mean over n draws of (x - b) * d s / d x at b + t (x - b), b drawn from n random fills of the sample (see
    `references`) and t uniform on [0,1]. Only on average over draws do the maps add up to s(x) minus the mean of s(b).

    Captum draws b and t from NumPy's global generator, one sequence for a whole batch. So it is called sample by sample,
    the generator set from the sample's key and put back afterwards: the map is that of ``captum.attr.GradientShap`` for
    this image alone. ``n`` forwards and ``n`` backwards an image, at most ``model.batch_size`` at a time.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.
    fill
        What the fills b are, see `references`.
    n
        Draws, 1 or more.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When ``n`` is out of range.
    """
    if n < 1:
        raise Unsupported(f"captum/gradient_shap: n is {n}; at least 1 draw is needed")

    def one(image: Tensor, target: Tensor, key: Tensor) -> Tensor:
        method = GradientShap(lambda inputs: model.score(inputs, target.expand(len(inputs)), score))

        def gradient(forward: object, inputs: tuple[Tensor, ...], *_: object) -> tuple[Tensor, ...]:
            parts = []
            for part in inputs[0].detach().split(model.batch_size):
                with torch.enable_grad():
                    leaf = part.requires_grad_(True)
                    parts.append(torch.autograd.grad(method.forward_func(leaf).sum(), leaf)[0])
            return (torch.cat(parts),)

        # Captum would put all n draws into one pass.
        method.gradient_func = gradient
        fills = references(fill, key, image.shape[1:], n, "captum/gradient_shap/fills")[0].to(image.dtype)
        words = integers(key, "captum/gradient_shap", (4,))[0].tolist()
        with _global_noise(words, image.device):
            found: Tensor = method.attribute(image, baselines=fills, n_samples=n, stdevs=0.0)
        return found.detach().sum(dim=1)

    def explain(batch: Batch) -> Tensor:
        rows = [slice(i, i + 1) for i in range(len(batch))]
        return torch.cat([one(batch.image[row], batch.target[row], batch.keys[row]) for row in rows])

    return explain


@contextlib.contextmanager
def _global_noise(words: list[int], device: torch.device) -> Iterator[None]:
    """Seed NumPy's generator, and put it and torch's (from which Captum draws noise of deviation 0) back at the end."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            np.random.seed(words)
            yield
        finally:
            np.random.set_state(before)
