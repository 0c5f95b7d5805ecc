"""What plain functions become: a function of three arguments an explainer, one that makes a network a model."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbench.errors import XbenchError
from xbench.models import Model
from xbench.own_model import normalising
from xbench.tensors import Batch, Explainer, Explanation
from xbench.user_code import EXPLAINER_PARAMS, GIVEN, numbers
from xbench.weights import load_weights

_NORMALISE = {
    "none": (None, None),
    "half": (0.5, 0.5),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def explainer_of(function: Callable[..., Any]) -> Callable[..., Explainer]:
    """Return an explainer's factory made of ``function(model, image, target, **params) -> map``.

    The function gets the network itself, an ``nn.Module`` in eval mode, its weights without gradients: images [B,C,H,W] in
    [0,1] to logits [B,K] (a network of one logit z gives [-z, z]); image [B,C,H,W] float32, its to change; target [B] int64,
    the classes to explain. It returns [B,H,W], a tensor or an array: larger is more evidence for the target, unless its
    ``polarity`` says otherwise, which it does not get. What it draws from torch's generator is seeded by the batch.
    """
    kept = EXPLAINER_PARAMS.keys() - inspect.signature(function).parameters.keys()

    def factory(model: Model, **given: Any) -> Explainer:
        params = {name: value for name, value in given.items() if name not in kept}

        def explain(batch: Batch) -> Explanation | Tensor:
            with model.watched():
                found = function(model.module, batch.image, batch.target, **params)
            return torch.from_numpy(found) if isinstance(found, np.ndarray) else found

        return explain

    return factory


def model_of(function: Callable[..., Any]) -> Callable[..., nn.Module]:
    """Return a model's factory made of a function that returns a network.

    The function gets what a user writes, and ``shape`` (C, H, W) and ``classes`` (names) where it has such parameters.
    """
    takes = inspect.signature(function).parameters

    def factory(
        shape: tuple[int, int, int],
        classes: Sequence[str],
        *,
        weights: str,
        normalise: str,
        mean: str,
        std: str,
        link: str,
        **params: Any,
    ) -> nn.Module:
        own = {name: value for name, value in zip(GIVEN, (shape, tuple(classes)), strict=True) if name in takes}
        network = function(**own, **params)
        if not isinstance(network, nn.Module):
            said = f"{function.__module__}.{getattr(function, '__name__', function)}"
            raise XbenchError(f"python:{said} returned a {type(network).__name__}; a torch.nn.Module is needed")
        load_weights(network, weights)
        usual = _NORMALISE[normalise]
        return normalising(network, numbers("mean", mean) or usual[0], numbers("std", std) or usual[1], shape[0])

    return factory
