"""A component's network as its seed draws it, and how a component is trained."""

import dataclasses
from typing import Any

import torch

from xbench.components import Component, factory_of, import_attr
from xbench.fits import Recipe
from xbench.seeds import stable_int
from xbench.specs import ExplainerSpec, ModelSpec


def build_module(
    component: Component, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
) -> torch.nn.Module:
    """Return a classifier's net, its weights drawn from the seed; one that wraps another starts from the other's."""
    params: dict[str, Any] = dict(component.params)
    if component.of:
        params["of"] = build_module(component.of, shape, classes, seed)
    factory = factory_of(component.spec)  # before the seed is set: a module that is imported may draw numbers
    torch.manual_seed(stable_int("init", component.spec.id, seed))
    return factory(shape, classes, **params)


def recipe_of(component: Component) -> Recipe:
    """Return how a component is trained: its own recipe, given its own parameters and that of the model it wraps."""
    spec, of = component.spec, component.of
    assert isinstance(spec, (ModelSpec, ExplainerSpec))
    assert spec.fit
    fit: Recipe = import_attr(spec.fit)
    wrapped = recipe_of(of) if of and isinstance(spec, ModelSpec) else None
    return lambda context: fit(dataclasses.replace(context, params=component.params, wrapped_fit=wrapped))
