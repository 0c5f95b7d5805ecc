"""A network of one's own, explained without a run: `xbench.explain`, and how a network is borrowed and given back."""

import contextlib
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xbench.checks import InvalidMap, ModelTouched, checked, compare, fingerprint
from xbench.components import Component, explainer_unmet, resolve
from xbench.data import Floats, Samples
from xbench.devices import halving
from xbench.errors import Unsupported, XbenchError
from xbench.memory import out_of_memory
from xbench.models import Model
from xbench.plugins import discover
from xbench.scoring import ask, build_explainer
from xbench.specs import DatasetSpec, ExplainerSpec, ModelSpec
from xbench.tensors import make_batch

Link = Literal["softmax", "sigmoid"]
OWN_MODEL = ModelSpec(package="own", name="model", version=1, factory="-:-")
"""What is taken for granted of a network of one's own: gradients, and a convolution until it is looked for."""


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


@dataclass(frozen=True)
class Lent:
    """A network in the harness's hands: frozen, in eval mode, normalising its images.

    ``logits`` [n,K] are those of the images, on the CPU.
    """

    model: Model
    logits: Tensor

    @property
    def n_classes(self) -> int:
        """K."""
        return self.logits.shape[1]


class Normalised(nn.Module):
    """A network that normalises images [B,C,H,W] in [0,1] before it looks at them; its layers are found as if it did not."""

    inside = "network."
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        if isinstance(layer := getattr(network, "cam_layer", None), str):
            self.cam_layer = f"network.{layer}"
        if (own := getattr(network, "prob", None)) is not None:
            self.prob = own

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's logits."""
        return self.network((image - self.mean) / self.std)

    def __getattr__(self, name: str) -> Any:
        """Return the network's own attribute, ``model.layer4``, where this has none."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # how to copy or pickle the network is not how to copy this
                raise
            return getattr(super().__getattr__("network"), name)


@contextlib.contextmanager
def borrowed(
    module: nn.Module,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    link: Link | None,
    pixels: Floats,
    batch: int = 64,
) -> Iterator[Lent]:
    """Lend a network: modes, what is trained and torch's random numbers are put back afterwards.

    Raises XbenchError where it does not take the images [n,C,H,W].
    """
    if not isinstance(module, nn.Module):
        raise XbenchError(f"the model is a {type(module).__name__}; a torch.nn.Module from images to logits is needed")
    if link not in (None, *get_args(Link)):
        raise XbenchError(f"link {link!r:.60} is not one of {', '.join(get_args(Link))}")
    batch = checked_whole(batch, "batch", 1)
    modes = [(part, part.training) for part in module.modules()]
    trained = [(value, value.requires_grad) for value in module.parameters()]
    gpus = sorted({value.device.index or 0 for value in module.parameters() if value.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=gpus):
            own = Model(normalising(module, mean, std, pixels.shape[1]), link or "softmax", batch)
            if link is None and _gives_one_logit(own, pixels):
                own.link = "sigmoid"
            yield Lent(own, _logits(own, pixels, batch))
    finally:
        for part, training in modes:
            part.training = training
        for value, asks in trained:
            value.requires_grad_(asks)


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Return an array, a tensor or nested lists as an array. Raises XbenchError, which says ``what``, where they are none."""
    try:
        if isinstance(value, Tensor):
            plain = value.detach().cpu()
            return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of several lengths, say
        raise XbenchError(f"{what} cannot be read as an array: {' '.join(str(error).split())}") from error


def numbers(value: Any, what: str) -> Floats:
    """Return real numbers of any shape as float32. Raises XbenchError, which says ``what``, where they are none."""
    array = as_array(value, what)
    if array.dtype.kind not in "fiu":
        raise XbenchError(f"{what}={value!r:.60}: numbers are needed")
    return array.astype(np.float32)


def checked_whole(value: Any, what: str, least: int | None = None) -> int:
    """Return a whole number. Raises XbenchError, which says ``what``, where it is none, or less than ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise XbenchError(f"{what}={value!r:.60}: a whole number is needed") from None
    if least is not None and number < least:
        raise XbenchError(f"{what}={number}: {least} or more is needed")
    return number


def checked_names(given: Any, what: str) -> tuple[str, ...]:
    """Return names as texts. Raises XbenchError, which says ``what``, for one text alone, and for what no file can hold."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise XbenchError(f"{what}={given!r:.60}: a list of names is needed")
    names = tuple(map(str, given))
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise XbenchError(f"{what} hold {name!r:.60}; texts that UTF-8 can write are needed") from None
    return names


def checked_images(images: Any) -> Floats:
    """Return images as a float32 array [n,C,H,W]. Raises XbenchError unless they are floating point in [0,1]."""
    array = as_array(images, "the images")
    if array.ndim != 4 or 0 in array.shape:
        raise XbenchError(f"the images have shape {list(array.shape)}; [B,C,H,W], or [C,H,W] of one image, is needed")
    if array.dtype.kind != "f":
        raise XbenchError(f"the images are {array.dtype}; floating point in [0,1] is needed (of bytes: image / 255)")
    pixels: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise XbenchError("the images hold NaN or infinite values")
    if pixels.min() < 0 or pixels.max() > 1:
        raise XbenchError(
            f"the images hold values from {pixels.min():.3g} to {pixels.max():.3g}; give them in [0,1], and what the network "
            "wants them normalised by as mean= and std="
        )
    return pixels


def checked_ids(ids: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return n names, by default the places. Raises XbenchError where they are not n different ones."""
    names = checked_names(range(n) if ids is None else ids, "ids")
    if len(names) != n or len(set(names)) != n:
        raise XbenchError(
            f"there are {len(names)} ids, {len(set(names))} of them different; one for each of {n} is needed"
        )
    return names


def checked_targets(target: Any, logits: Tensor) -> Tensor:
    """Return the classes to explain [n] int64: those given, or those predicted. Raises XbenchError where they are none."""
    n, n_classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    given = as_array(target, "target")
    if given.dtype.kind not in "iu" or given.shape not in ((), (n,)):
        raise XbenchError(
            f"target is {given.dtype} of shape {list(given.shape)}; a class number, or one for each of {n} images, is needed"
        )
    if given.min() < 0 or given.max() >= n_classes:
        raise XbenchError(
            f"target holds {given.min()} to {given.max()}; the network's classes are 0 to {n_classes - 1}"
        )
    return torch.from_numpy(np.broadcast_to(given, (n,)).astype(np.int64))


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


def normalising(module: nn.Module, mean: Any, std: Any, channels: int) -> nn.Module:
    """Return a network that first takes (image - mean) / std of its images; the network itself where neither is given.

    Raises XbenchError unless each is a number, or one for every channel, and std above 0.
    """
    if mean is None and std is None:
        return module
    value = next(module.parameters(), torch.zeros(1))
    parts = []
    for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0)):
        values = np.atleast_1d(numbers(default if given is None else given, name))
        if values.shape not in ((1,), (channels,)) or not np.isfinite(values).all():
            raise XbenchError(f"{name}={given}: a number, or one for each of {channels} channels, is needed")
        parts.append(torch.from_numpy(values).reshape(1, -1, 1, 1).to(value.device))
    if (parts[1] <= 0).any():
        raise XbenchError(f"std={std}: numbers above 0 are needed")
    return Normalised(module, *parts)


def _gives_one_logit(model: Model, pixels: Floats) -> bool:
    out = _passed(model, lambda image: model.module(image), pixels[:1])
    return isinstance(out, Tensor) and out.ndim == 2 and out.shape[1] == 1


def _logits(model: Model, pixels: Floats, batch: int) -> Tensor:
    def attempt(size: int) -> list[Tensor]:
        return [_passed(model, model.logits, pixels[i : i + size]).cpu() for i in range(0, len(pixels), size)]

    return torch.cat(halving(attempt, batch, model.device))


def _passed(model: Model, through: Any, pixels: Floats) -> Tensor:
    try:
        with torch.no_grad():
            return through(torch.from_numpy(pixels).to(model.device))
    except (RuntimeError, ValueError, TypeError) as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise XbenchError(f"the network does not take images of shape {list(pixels.shape)}: {reason}") from error
