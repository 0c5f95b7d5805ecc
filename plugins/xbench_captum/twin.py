"""A copy of a network that Captum's DeepLift can work on: hooks, shared activations and pooling layers are its own affair."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model

# The activations that Captum's rescale rule knows. Its softmax rule mixes the samples of a batch and is left out.
_ELEMENTWISE = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_NAMES = ", ".join(kind.__name__ for kind in (*_ELEMENTWISE, nn.MaxPool2d))


class Twin(nn.Module):
    """The model's network again, structure copied and weights shared; the model itself is never hooked.

    Two things differ from the original, and neither changes the logits: an activation that runs several times in a pass (as
    in torchvision's ResNets) has a module for each run, for Captum allows one run a module; max-pooling has the rule of
    `_MaxPoolRule`.

    Parameters
    ----------
    model
        The classifier; its passes are counted.
    image
        [B,C,H,W]; the first tells size and device. Three images of noise are passed once.

    Attributes
    ----------
    logits : Tensor
        [N,K] of the last pass.

    Raises
    ------
    Unsupported
        When the network cannot be copied, or does something non-linear outside of the modules that Captum's rules know.
    """

    logits: Tensor

    def __init__(self, model: Model, image: Tensor) -> None:
        super().__init__()
        # In a container of its own, so that even a network that is one activation has a place to be exchanged in.
        self.network = nn.Sequential(_shallow(model.module))
        self._model = copy.copy(model)
        self._model.module = self.network
        self._activations: list[_Activation] = []
        self._exchange()
        self._probe(image)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [N,K] of images [N,C,H,W]."""
        for activation in self._activations:
            activation.turn = 0
        logits = self._model.logits(image)
        self.logits = logits.detach()
        return logits

    def _exchange(self) -> None:
        new: dict[nn.Module, nn.Module] = {}
        for part in list(self.network.modules()):
            if type(part) in _ELEMENTWISE:
                new[part] = _Activation(part)
            elif type(part) is nn.MaxPool2d and not part.return_indices:
                new[part] = _MaxPool(part)
        for parent in list(self.network.modules()):
            for name, child in parent._modules.items():
                if child in new:
                    parent._modules[name] = new[child]
        self._activations = [part for part in new.values() if isinstance(part, _Activation)]

    def _probe(self, image: Tensor) -> None:
        """Count each activation's runs; make sure that nothing else is non-linear.

        With every known activation and pooling made linear, the whole network must map the middle of two images to the
        middle of their logits.
        """
        parts = [part for part in self.modules() if isinstance(part, _Activation | _MaxPool)]
        # Far beyond [0,1]: beside a bias, the image of a fresh network would be lost in rounding.
        noise = torch.randn(2, *image.shape[1:], generator=torch.Generator().manual_seed(0))
        points = (1024 * noise).to(image)
        with torch.no_grad():
            for part in parts:
                part.linear = True
            # One at a time: the model's batch size may be 1.
            one, other, middle = (self(x[None]) for x in (points[0], points[1], points.mean(dim=0)))
            for part in parts:
                part.linear = False
        # Here, for Captum hooks a module as often as it finds it, and an activation may have several places in the network.
        self.runs = nn.ModuleList(run for activation in self._activations for run in activation.settle())
        # Measured on torchvision's networks: 6e-6 at most where all is in modules, .1 and more where something is not.
        if not (middle - (one + other) / 2).abs().amax() <= 1e-3 * (one - other).abs().amax():  # not even for a NaN
            raise Unsupported(
                "the network does something non-linear that DeepLIFT has no rule for: a function where a module is needed "
                f"(functional.relu), a gate, a softmax, or an activation other than {_NAMES}"
            )


class _Activation(nn.Module):
    """An elementwise activation, one module for each of its runs in a pass."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        # In lists, where nobody looks for modules.
        self._original, self._runs = [part], list[nn.Module]()
        self.turn = 0
        self.linear = False

    def forward(self, x: Tensor) -> Tensor:
        turn, self.turn = self.turn, self.turn + 1
        if self.linear:
            return x
        # A tensor of its own: Captum 0.9.0 takes down its gradient before the rule of an activation behind it has changed it
        # (issue 1104).
        out: Tensor = self._runs[turn](x).clone()
        return out

    def settle(self) -> list[nn.Module]:
        """Make as many modules as there were runs in the last pass, and return them."""
        self._runs = [copy.deepcopy(self._original[0]) for _ in range(self.turn)]
        return self._runs


class _MaxPool(nn.Module):
    def __init__(self, part: nn.MaxPool2d) -> None:
        super().__init__()
        self._geometry = (part.kernel_size, part.stride, part.padding, part.dilation, part.ceil_mode)
        self.linear = False

    def forward(self, x: Tensor) -> Tensor:
        out, index = F.max_pool2d(x, *self._geometry, return_indices=True)
        if self.linear:
            return F.adaptive_avg_pool2d(x, (out.shape[-2], out.shape[-1]))
        if not x.requires_grad:
            return out
        routed: Tensor = _MaxPoolRule.apply(x, out, index)
        return routed


class _MaxPoolRule(torch.autograd.Function):
    """Max-pooling of [inputs, references] whose backward pass is DeepLIFT's rule.

    The rule is Captum's: what a window's maximum gained goes to the place of the input's maximum as far as it is above the
    reference's, to the place of the reference's maximum as far as it is below. Captum 0.9.0 has three faults, which is
    why it is written anew: overlapping windows lose all but one of their shares; where input and reference are equal, every
    sample gets the gradient of the batch's first (Captum's issue 1276); right behind an activation the rule is lost (1104).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, out: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(x, out, index)
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        (x, reference), (top, low), (place, other) = (saved.chunk(2) for saved in ctx.saved_tensors)
        # Of the two halves only the inputs' gradient is used in the end, so its multipliers count for both.
        multiplier = gradient[0].chunk(2)[0]
        shape, nothing = x.shape, torch.zeros_like(x).flatten(2)
        both = torch.maximum(top, low)
        gain = nothing.scatter_add(2, place.flatten(2), (multiplier * (both - low)).flatten(2))
        gain = gain.scatter_add(2, other.flatten(2), (multiplier * (top - both)).flatten(2)).view(shape)
        plain = nothing.scatter_add(2, place.flatten(2), multiplier.flatten(2)).view(shape)
        change = x - reference
        routed = torch.where(change.abs() < 1e-10, plain, gain / change)
        return torch.cat([routed, routed]), None, None


def _shallow(module: nn.Module) -> nn.Module:
    """Return a copy of a network that has modules of its own and the original's tensors."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unsupported(f"DeepLIFT works on a copy of the network, which cannot be copied: {reason}") from error
