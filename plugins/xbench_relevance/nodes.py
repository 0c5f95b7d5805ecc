"""What a propagation keeps of a network's tensors, and the one autograd function that hands relevance back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name

from xbench.errors import Unsupported
from xbench_relevance.rules import Back, Linear, Method, quotient


@dataclass(frozen=True)
class Box:
    """An affine function of the image: its values for images of 0 and of 1."""

    dark: Tensor
    light: Tensor


class Affine:
    """A layer that ran.

    Its rule is asked at the next call only: a batch normalisation or a minus there is merged into the layer, and whatever
    else comes may overwrite the outputs.
    """

    def __init__(self, method: Method, layer: Linear, source: Tensor, box: Box | None) -> None:
        self.method, self.layer, self.source, self.box = method, layer, source, box
        self.back: Back | None = None

    def gave(self, outputs: Tensor) -> None:
        """Keep the layer's outputs z, without their history."""
        self.outputs = outputs.detach()
        self.read = (self.layer.inputs._version, self.outputs._version)

    @property
    def waits(self) -> bool:
        """Whether the rule is still to be asked, and nothing overwrote what the layer read and gave."""
        return self.back is None and self.read == (self.layer.inputs._version, self.outputs._version)

    def settle(self) -> None:
        """Ask the rule, and let go of all that it does not keep."""
        if self.back is not None:
            return
        if not self.waits:
            raise Unsupported(
                f"{self.method.name}: the network overwrites what a layer read or gave while it is needed"
            )
        if self.box is None:
            self.back = self.method.hidden(self.layer, self.outputs)
        else:
            low, high = torch.minimum(self.box.dark, self.box.light), torch.maximum(self.box.dark, self.box.light)
            first, slope = self.method.first(self.layer, self.outputs, low, high), self.box.light - self.box.dark
            # Autograd multiplies by the slope of all that lies between image and layer, but relevance goes back unchanged.
            self.back = lambda c: quotient(first(c), slope)
        del self.layer, self.source, self.box, self.outputs

    def __call__(self, c: Tensor) -> Tensor:
        """Take c of the outputs to c of the inputs."""
        self.settle()
        assert self.back is not None
        return self.back(c)


class HandBack(torch.autograd.Function):
    """A value computed elsewhere, ``[tensor]``, and how it takes c back to its inputs; it may overwrite the first of them."""

    @staticmethod
    def forward(
        ctx: Any, value: list[Tensor], back: Callable[[Tensor], Any], overwrite: bool, *inputs: Tensor
    ) -> Tensor:
        """Return the value."""
        ctx.back = back
        if overwrite:
            ctx.mark_dirty(inputs[0])
            return inputs[0].copy_(value[0])
        return value[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Return c of the inputs."""
        found = ctx.back(*grads)
        return None, None, None, *(found if isinstance(found, tuple) else (found,))


def called(func: Any) -> str:
    """Return a function's name for messages."""
    return resolve_name(func) or str(getattr(func, "__name__", func))


def tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [item for branch in tree for item in tensors(branch)] if isinstance(tree, tuple | list) else []


def swapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the tree with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: swapped(item, change) for key, item in tree.items()}
    return type(tree)(swapped(item, change) for item in tree) if type(tree) in (tuple, list) else tree
