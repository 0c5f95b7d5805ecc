"""A network of one's own in the harness's hands: how it is lent and given back, and how its images are normalised."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from xbench.data import Floats
from xbench.devices import halving, plain_floats
from xbench.errors import XbenchError
from xbench.memory import out_of_memory
from xbench.models import Model
from xbench.own_arguments import checked_whole, numbers
from xbench.specs import ModelSpec

Link = Literal["softmax", "sigmoid"]
OWN_MODEL = ModelSpec(package="own", name="model", version=1, factory="-:-")
"""What is taken for granted of a network of one's own: gradients, and a convolution until it is looked for."""


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
    """Lend a network: modes, what is trained, torch's random numbers and how GPUs multiply are put back afterwards.

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
        with torch.random.fork_rng(devices=gpus), plain_floats():
            own = Model(normalising(module, mean, std, pixels.shape[1]), link or "softmax", batch)
            if link is None and _gives_one_logit(own, pixels):
                own.link = "sigmoid"
            yield Lent(own, _logits(own, pixels, batch))
    finally:
        for part, training in modes:
            part.training = training
        for value, asks in trained:
            value.requires_grad_(asks)


def normalising(module: nn.Module, mean: Any, std: Any, channels: int) -> nn.Module:
    """Return a network that first takes (image - mean) / std of its images; the network itself where neither is given.

    Raises XbenchError unless each is a number, or one for every channel, and std above 0.
    """
    if mean is None and std is None:
        return module
    value = next(itertools.chain(module.parameters(), module.buffers()), torch.zeros(1))
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
