"""Classifiers trained by GAIN: another model's network and recipe, with another loss."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbench.errors import Unsupported, did_you_mean
from xbench.fits import FitContext
from xbench.models import Model
from xbench_gain.objective import Gain, Settings

_COLOUR_SAMPLES = 256


def gain(shape: tuple[int, int, int], classes: Sequence[str], /, of: nn.Module, **params: Any) -> nn.Module:
    """Return the wrapped network as it is: GAIN changes what it is trained for (Li et al. 2018).

    Two forward passes a step, the second of the image without what the first one looked at: L_cl + alpha L_am.

    Parameters
    ----------
    shape, classes
        Of the data; not to be confused with the parameter ``classes``.
    of
        The wrapped network.
    params
        ``alpha``: weight of L_am, s^c of the erased image. ``sigma``, ``omega``: threshold and slope of the soft mask; Li
        et al. name neither, these are the values of public code.

        ``am``: s^c in L_am is the probability, which cannot fall below 0, or the logit of the paper, which falls without
        end. ``normalise``: each map from 0 to 1 by its own extremes (``sample``), or as it comes (``none``), as in the
        paper, where the threshold then hangs on the scale of the logits. ``detach_weights``: the channels' weights are
        constants in the gradient, as in public code. ``layer``: whose features; empty takes `Model.default_layer`.
        ``fill``: erased pixels become the mean colour of the training images, or ``black`` as in the paper.

        ``warmup``: that share of the training is plain. An untrained network's attention says nothing, and as long as it
        covers little, L_am is L_cl with its sign turned, so that some trainings stay at chance. The price: L_am is small
        already for a network that has settled on one cue and looks at it, and changes it little.

        ``classes``: L_am counts every label (the paper's sum over the classes present), or with ``positive`` none of class
        0, where that is an absence: no place can be erased so that an image without the object shows one, and -z has
        little evidence in features of 0 or more, so that its maps may be blank. ``blanks``: a blank map erases nothing
        and has no gradient; ``skip`` leaves such samples out of L_am, ``keep`` does not. ``tolerance``: which maps are
        blank, as a share of the largest absolute sum of weighted features; the slope of a normalised map grows as its
        extent falls, and this bounds it.

        ``omega_ext`` (gain/ext): weight of L_e, the squared distance of the attention from the mask; none in the warm-up.
        A blank map is nearer to a small mask than a map that misses it, so that L_e too can blank the maps of a network
        whose features do not speak for the class yet: ``blank_rate`` among the epochs' notes tells.

    Raises
    ------
    Unsupported
        A parameter is out of range.
    """
    name = "gain/ext" if "omega_ext" in params else "gain/self"
    ranges = {
        "alpha": (0.0, math.inf, "a weight of 0 or more"),
        "sigma": (-math.inf, math.inf, "a number"),
        "omega": (math.ulp(0.0), math.inf, "a slope above 0"),
        "warmup": (0.0, 1.0, "a share from 0 to 1"),
        "tolerance": (0.0, math.nextafter(1.0, 0.0), "a share from 0 up to, not including, 1"),
        "omega_ext": (0.0, math.inf, "a weight of 0 or more"),
    }
    for key, (low, high, need) in ranges.items():
        value = params.get(key, low)
        if not low <= value <= high or (value == math.inf):
            raise Unsupported(f"{name}[{key}={value}]: {need} is needed")
    return of


def fit_gain(context: FitContext) -> Mapping[str, Tensor]:
    """Train by the wrapped model's own recipe on GAIN's loss, and return the state dict.

    ``context.notes`` gets ``gain``, the layer and the fill colour that were taken, and through the training loop the
    monitors of `Gain` in ``epochs``. Of a recipe that stops early the best epoch is one behind the warm-up.

    Raises
    ------
    Unsupported
        The wrapped recipe does not train on the context's objective; GAIN wraps GAIN; or see `Gain`.
    ValueError
        The model has no such layer.
    """
    params, module = context.params, context.module
    assert module is not None, "a model's fit gets its module from the harness"
    assert context.wrapped_fit is not None, "a wrapper's fit gets the wrapped recipe from the harness"
    if context.objective is not None:
        raise Unsupported(
            "a training that another objective steers already cannot be wrapped in GAIN's; wrap the plain model"
        )
    names = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in params.items() if name in names})
    layer = _layer(module, params["layer"], context.train.shape)
    colour = _mean_colour(context) if params["fill"] == "mean" else torch.zeros(context.train.shape[0])
    objective = Gain(settings, layer, colour)
    context.notes["gain"] = {"layer": layer, "fill": [round(value, 5) for value in colour.tolist()]}
    state = context.wrapped_fit(replace(context, objective=objective))
    if not any("loss_am" in line for line in context.notes.get("epochs", [])):
        raise Unsupported("the wrapped model's recipe does not train on context.objective, as train_classifier does")
    return state


def _layer(module: nn.Module, layer: str, shape: tuple[int, int, int]) -> str:
    parts = dict(module.named_modules())
    if layer and layer not in parts:
        raise ValueError(f"the model has no layer {layer!r}{did_you_mean(layer, parts)}")
    if layer:
        return layer
    first = next(module.parameters())
    # A copy, for `Model` freezes what it is given.
    return Model(copy.deepcopy(module)).default_layer(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))


def _mean_colour(context: FitContext) -> Tensor:
    """Return [C] float32: the mean colour over at most 256 training images, evenly spread."""
    ids = context.train.ids
    places = np.unique(np.linspace(0, len(ids) - 1, _COLOUR_SAMPLES).round().astype(int))
    image = context.dataset.load([ids[place] for place in places]).image
    return torch.as_tensor(image.mean(axis=(0, 2, 3), dtype=np.float64), dtype=torch.float32)
