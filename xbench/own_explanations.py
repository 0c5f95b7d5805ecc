"""A network and images of one's own, explained without a run: `xbench.explain`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xbench.checks import InvalidMap, ModelTouched, checked, compare, fingerprint
from xbench.components import Component, explainer_unmet, resolve
from xbench.data import Samples
from xbench.devices import halving
from xbench.errors import Unsupported, XbenchError
from xbench.own_arguments import as_array, checked_ids, checked_images, checked_targets, checked_whole
from xbench.own_model import OWN_MODEL, Link, Normalised, borrowed
from xbench.plugins import discover
from xbench.scoring import ask, build_explainer
from xbench.specs import DatasetSpec, ExplainerSpec
from xbench.tensors import make_batch


@overload
def explain(
    model: nn.Module, image: NDArray[Any], explainer: str, target: Any = None, **params: Any
) -> NDArray[np.float32]: ...


@overload
def explain(model: nn.Module, image: Tensor, explainer: str, target: Any = None, **params: Any) -> Tensor: ...


def explain(
    model: nn.Module,
    image: Any,
    explainer: str,
    target: int | Sequence[int] | NDArray[Any] | Tensor | None = None,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    link: Link | None = None,
    ids: Sequence[str] | None = None,
    seed: int = 0,
    batch: int = 64,
    **params: Any,
) -> Any:
    """Explain images by a network of one's own, with any installed explainer that needs no training.

    Parameters
    ----------
    model
        Images [B,C,H,W] to logits [B,K]; it is given back as it was: weights, modes, hooks, gradients.
    image
        [C,H,W] or [B,C,H,W], floating point in [0,1]; an array or a tensor.
    explainer
        As on the command line: ``cam/gradcam``, ``cam/gradcam[score=prob]``, ``controls/blur[of=cam/gradcam]``.
    target
        The class to explain, one for all images or one each; None: the class predicted.
    mean, std
        What the network wants its images normalised by: it sees (image - mean) / std; a number, or one a channel.
    link
        ``softmax`` or ``sigmoid``: how logits become probabilities; None: softmax, and sigmoid for a network of one logit.
    ids
        Names of the images, from which all noise comes together with ``seed``; None: their places.
    batch
        The most images of a forward pass; halved where the memory is too small.
    params
        The explainer's parameters: ``score="prob"``, ``layer="layer3"``.

    Returns
    -------
    The attribution, float32 [H,W] of an image [C,H,W] and [B,H,W] of several, raw; an array where an array was given, else
    a tensor on the image's device. NaN where the explainer has no answer for an image.

    Raises
    ------
    XbenchError
        There is no such explainer or parameter, it must be trained or needs truth that only data sets have, the images are
        not in [0,1], the target is no class, or the explainer cannot work on this network.
    """
    component = _chosen(explainer, params)
    given = image if isinstance(image, Tensor) else as_array(image, "the images")
    pixels = checked_images(given[None] if given.ndim == 3 else given)
    names, seed, batch = checked_ids(ids, len(pixels)), checked_whole(seed, "seed"), checked_whole(batch, "batch", 1)
    with borrowed(model, mean, std, link, pixels) as lent:
        own, n_classes = lent.model, lent.n_classes
        device = own.device
        if why := explainer_unmet(
            component, OWN_MODEL, DatasetSpec(name="images", version=1, factory="-:-"), n_classes
        ):
            raise XbenchError(f"{component.text} cannot explain a network and images of one's own: it {why}")
        whole = make_batch(Samples(pixels), names, torch.zeros(len(pixels), dtype=torch.int64), seed, n_classes)
        whole = whole.to(device).with_target(checked_targets(target, lent.logits).to(device))
        untouched = fingerprint(own.module)

        inner = _inside(component) if isinstance(own.module, Normalised) else component

        def attempt(size: int) -> list[Tensor]:
            own.batch_size = size
            made = build_explainer(inner, own)
            found = []
            for start in range(0, len(whole), size):
                part = whole.take(slice(start, start + size))
                explanation = checked(ask(made, part, component.text), part)
                empty = ~explanation.answered[:, None, None]
                found.append(explanation.attribution.masked_fill(empty, float("nan")))
            return found

        try:
            maps = torch.cat(halving(attempt, batch, device))
            compare(untouched, own.module)
        except (Unsupported, InvalidMap, ModelTouched, ValueError) as error:
            said = " ".join(str(error).replace("'network.", "'").split())
            raise XbenchError(f"{component.text}: {said}") from error
    maps = maps if given.ndim == 4 else maps[0]
    return maps.to(image.device) if isinstance(image, Tensor) else maps.cpu().numpy()


def _chosen(text: str, params: Mapping[str, Any]) -> Component:
    mistakes: list[str] = []
    component = resolve("explainer", text, discover(), mistakes, params)
    if component is None or mistakes:
        raise XbenchError(*mistakes)
    assert isinstance(component.spec, ExplainerSpec)
    if component.spec.fit:
        raise XbenchError(f"{component.spec.id} must be trained on a data set, which only a run does (xbench run)")
    if component.innermost.stored:
        raise XbenchError(
            f"{component.spec.id} looks up maps of a data set's samples; xbench.evaluate scores arrays of maps"
        )
    if "attribution" not in component.spec.gives:
        raise XbenchError(f"{component.spec.id} gives {' and '.join(component.spec.gives)}s, no attribution")
    return component


def _inside(component: Component) -> Component:
    """Return the component with the layers that it names where `Normalised` has them."""
    layer = component.params.get("layer")
    params = {**component.params, "layer": f"network.{layer}"} if layer else component.params
    return replace(component, params=params, of=component.of and _inside(component.of))
