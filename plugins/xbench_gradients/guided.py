"""Guided backpropagation: the gradient along the paths on which every ReLU passes positive evidence on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer
from xbench_gradients.gradients import Score

# Every way in which a network asks for a ReLU; nn.ReLU comes by F.relu, which tells by a keyword whether it is in place.
_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_IN_PLACE = {torch.relu_, Tensor.relu_}


def guided_backprop(model: Model, score: Score) -> Explainer:
    """Return guided backpropagation: max over channels of |`guided_gradient`| (Springenberg et al. 2015).

    Channels are reduced as those of `gradients.gradient` are: of a net whose weights are all positive both give one map.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, in units of the score per unit of pixel value in [0,1].

    Raises
    ------
    Unsupported
        From the explainer, when no ReLU was met in the network's forward pass.
    """

    def explain(batch: Batch) -> Tensor:
        return guided_gradient(model, batch.image, batch.target, score).abs().amax(dim=1)

    return explain


def guided_gradient(model: Model, image: Tensor, target: Tensor, score: Score) -> Tensor:
    """Return the guided gradient [N,C,H,W] of N images; see `guided_gradients`."""
    return guided_gradients(model, image, target, (score,))[0]


def guided_gradients(model: Model, image: Tensor, target: Tensor, scores: Sequence[Score]) -> list[Tensor]:
    """Return d s_target / d x with guided ReLUs, for several scores s from one forward pass.

    Behind a ReLU of output a the gradient is g_in = g_out * [a > 0] * [g_out > 0] (Springenberg, Dosovitskiy, Brox,
    Riedmiller: Striving for simplicity, ICLR workshop 2015); all other layers, and the softmax or sigmoid
    of a probability, keep their own. Modules, functions and methods count alike, in place or not; a ReLU inside
    TorchScript, and relatives of it (ReLU6, leaky), do not.

    Parameters
    ----------
    model
        The classifier, which is left as it was: nothing is hooked or replaced, and no parameter gets a ``.grad``.
    image
        [N,C,H,W] float32 in [0,1]; at most ``model.batch_size`` go through the network at a time.
    target
        [N] int64, the class whose score is differentiated.
    scores
        For each result, whether s is the logit or the probability.

    Returns
    -------
    For each of ``scores`` [N,C,H,W] float32, signed.

    Raises
    ------
    Unsupported
        When no ReLU was met.
    """
    parts = []
    for x, t in zip(torch.split(image, model.batch_size), torch.split(target, model.batch_size), strict=True):
        relus = _GuidedReLUs()
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            with relus:
                logits = model.logits(leaf)
            if not relus.met:
                raise Unsupported(
                    "no ReLU was met in the model's forward pass; guided backpropagation changes only ReLUs"
                )
            totals = [model.pick(logits, t, score).sum() for score in scores]
            # The graph is kept for those that still have to go back through it.
            parts.append(
                [
                    torch.autograd.grad(total, leaf, retain_graph=i + 1 < len(totals))[0]
                    for i, total in enumerate(totals)
                ]
            )
    return [torch.cat(part) for part in zip(*parts, strict=True)]


class _GuidedReLUs(TorchFunctionMode):
    """While it is entered, every ReLU of this thread is a guided one; ``met`` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        self.met += 1
        x = args[0] if args else kwargs["input"]
        out = _GuidedReLU.apply(x)
        # By a copy, which autograd follows even into a view: whoever else holds x must see it changed.
        return x.copy_(out) if func in _IN_PLACE or kwargs.get("inplace") else out


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clamp(min=0)
        ctx.save_for_backward(out > 0)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        active: Tensor = ctx.saved_tensors[0]
        return gradient.clamp(min=0) * active
