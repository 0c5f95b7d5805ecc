"""Mask units: what a ReLU did not pass on for the image itself, it does not pass on for its noisy copies either."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Every way in which a network asks for a ReLU; nn.ReLU comes by F.relu, which tells by a keyword whether it is in place.
_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_IN_PLACE = {torch.relu_, Tensor.relu_}


class _ReLUs(TorchFunctionMode, ABC):
    """While it is entered, `after` has the last word on what every ReLU of this thread gives; ``met`` counts them.

    Functions and methods count as modules do, in place or not, and nothing is hooked or replaced in the model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    @abstractmethod
    def after(self, out: Tensor) -> Tensor:
        """Return what stands for a ReLU's output."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        # torch.relu remembers its output and not x, which the copy below may change.
        out = self.after(torch.relu(x))
        self.met += 1
        # By a copy, which autograd follows even into a view: whoever else holds x must see it changed.
        return x.copy_(out) if func in _IN_PLACE or kwargs.get("inplace") else out


class Recorded(_ReLUs):
    """Note of every ReLU which of its outputs h are above a threshold: m = 1[h > theta].

    Parameters
    ----------
    theta
        Thresholds in the order in which the ReLUs run; the last holds for all that follow.

    Attributes
    ----------
    masks
        For each ReLU its output's shape, in the output's dtype: 1 where it is passed on, else 0.
    """

    def __init__(self, theta: Sequence[float]) -> None:
        super().__init__()
        self.theta = theta
        self.masks: list[Tensor] = []

    def after(self, out: Tensor) -> Tensor:
        """Return the output as it is."""
        threshold = self.theta[min(self.met, len(self.theta) - 1)]
        self.masks.append((out.detach() > threshold).to(out.dtype))
        return out


class Masked(_ReLUs):
    """Multiply what every ReLU gives by its mask.

    Parameters
    ----------
    masks
        As `Recorded` left them, of B images.
    row
        [N] int64: which of those the network's N images are variants of; None: c * B images, copy by copy (the first B are
        the first copies).
    """

    def __init__(self, masks: Sequence[Tensor], row: Tensor | None = None) -> None:
        super().__init__()
        self.masks, self.row = masks, row

    def after(self, out: Tensor) -> Tensor:
        """Return the masked output."""
        mask = self.masks[self.met]
        if self.row is not None:
            return out * mask[self.row]
        copies: Tensor = out.view(-1, *mask.shape) * mask
        return copies.flatten(0, 1)
