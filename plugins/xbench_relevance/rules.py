"""How one linear layer hands relevance back to its inputs: z+, z^B, w^2, gamma and epsilon rule.

Relevance R is kept as c = R / z, a changed gradient: then rectifiers, residual sums, average and maximum pools hand it
on as autograd does (R = z * c is shared in proportion to the summands), and only layers with weights need a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from xbench.errors import Unsupported

Back = Callable[[Tensor], Tensor]
"""Takes c of a layer's outputs; a hidden layer's returns c of its inputs, the first layer's returns their relevance."""

# Below it a sum counts as 0: a quotient by it could leave float32.
_TINY = 1e-30


@dataclass(frozen=True)
class Linear:
    """A dense layer or a convolution, with the inputs it got.

    Attributes
    ----------
    inputs
        [B,...] detached.
    weight, bias
        As the layer holds them, or with a batch normalisation behind it merged into them.
    geometry
        A convolution's stride, padding, dilation and groups; None for a dense layer.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: dict[str, Any] | None = None

    def apply(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return sum_i inputs_i weight_ij + bias_j."""
        if self.geometry is None:
            return F.linear(inputs, weight, bias)
        return F.conv2d(inputs, weight, bias, **self.geometry)

    def pull(self, outputs: Tensor, weight: Tensor) -> Tensor:
        """Return sum_j weight_ij outputs_j, the transposed map."""
        if self.geometry is None:
            return outputs @ weight
        pulled: Tensor = conv2d_input(self.inputs.shape, weight, outputs, **self.geometry)
        return pulled

    def merged(self, scale: Tensor, shift: Tensor) -> "Linear":
        """Return the layer whose outputs z are scale * z + shift, both [channels of the output]."""
        weight = self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=weight, bias=shift if self.bias is None else self.bias * scale + shift)


@dataclass(frozen=True)
class Method:
    """The rules of an explainer.

    Attributes
    ----------
    name
        For messages.
    hidden
        (layer, its outputs z) to what takes c of the outputs to c of the inputs.
    first
        (layer, z, low, high) to what takes c of the outputs to the relevance of the inputs; low and high, shaped as the
        inputs, are the least and the largest that images in [0,1] give.
    positive
        Relevance starts and stays at 0 or more: a sum shares it among its positive terms only, and what could make it
        negative has no rule.
    lone_norms
        Whether a batch normalisation without a convolution in front is a linear layer of its own under these rules.
    """

    name: str
    hidden: Callable[[Linear, Tensor], Back]
    first: Callable[[Linear, Tensor, Tensor, Tensor], Back]
    positive: bool = False
    lone_norms: bool = False


def z_plus(layer: Linear, z: Tensor) -> Back:
    """Hidden layer of deep Taylor decomposition: R_i = sum_j a_i w_ij+ / (sum_i a_i w_ij+) R_j, for a >= 0.

    Montavon et al. 2017. Raises Unsupported when an input is negative: the rule's root point needs a >= 0.
    """
    if layer.inputs.amin() < 0:
        raise Unsupported(
            "deep Taylor decomposition needs hidden layers whose inputs are 0 or more (behind a ReLU); "
            f"a layer with weights {tuple(layer.weight.shape)} got negative ones"
        )
    weight = layer.weight.clamp(min=0)
    share = quotient(z, layer.apply(layer.inputs, weight))
    return lambda c: layer.pull(c * share, weight)


def gamma(strength: float) -> Callable[[Linear, Tensor], Back]:
    """LRP-gamma: contributions of the sign of z count 1 + gamma times; the bias is one of them and keeps its share.

    Montavon et al. 2019 for a >= 0 and z > 0; for the other signs Andéol et al. 2021 (as in zennit).
    """

    def rule(layer: Linear, z: Tensor) -> Back:
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        positive = layer.apply(layer.inputs.clamp(min=0), up)
        mixed = layer.inputs < 0 if layer.inputs.amin() < 0 else None
        if mixed is not None:
            positive += layer.apply(layer.inputs.clamp(max=0), down)
        if layer.bias is not None:
            positive += layer.bias.clamp(min=0).view(-1, *[1] * (z.ndim - 2 if layer.geometry else 0))
        # All summands of a total have the sign of its z: nothing cancels, and |total| >= |z|.
        share = quotient(z, z + strength * torch.where(z > 0, positive, z - positive)).copysign(z)
        up, down = layer.weight + strength * up, layer.weight + strength * down

        def back(c: Tensor) -> Tensor:
            above, below = c * share.clamp(min=0), -c * share.clamp(max=0)
            one_sided = not below.any()  # what lies in front of a ReLU has c = 0 wherever z < 0
            result = layer.pull(above, up) if one_sided else layer.pull(above, up) + layer.pull(below, down)
            if mixed is None:
                return result
            other = layer.pull(above, down) if one_sided else layer.pull(above, down) + layer.pull(below, up)
            return torch.where(mixed, other, result)

        return back

    return rule


def epsilon(strength: float) -> Callable[[Linear, Tensor], Back]:
    """LRP-epsilon: R_i = sum_j a_i w_ij / (z_j + e sign(z_j)) R_j; e = ``strength`` * the sample's root mean square of z.

    Bach et al. 2015; e relative to z as in Montavon et al. 2019. The bias is in z and keeps its share.
    """

    def rule(layer: Linear, z: Tensor) -> Back:
        if strength == 0:
            return lambda c: layer.pull(c, layer.weight)
        size = z.abs()
        share = quotient(size, size + strength * z.flatten(1).square().mean(dim=1).sqrt().view(-1, *[1] * (z.ndim - 1)))
        return lambda c: layer.pull(c * share, layer.weight)

    return rule


def gamma_epsilon(gamma_strength: float, epsilon_strength: float) -> Callable[[Linear, Tensor], Back]:
    """LRP-gamma in convolutions, LRP-epsilon in dense layers."""
    convolution, dense = gamma(gamma_strength), epsilon(epsilon_strength)
    return lambda layer, z: (dense if layer.geometry is None else convolution)(layer, z)


def first_z_box(layer: Linear, z: Tensor, low: Tensor, high: Tensor) -> Back:
    """z^B: R_i = sum_j (x_i w_ij - l_i w_ij+ - h_i w_ij-) / (sum_i same) R_j, l <= x <= h (Montavon et al. 2017)."""
    # x = x (w+ + w-): both parts are 0 or more, and nothing cancels.
    parts = (layer.inputs - low, layer.weight.clamp(min=0)), (layer.inputs - high, layer.weight.clamp(max=0))
    return _shared(layer, z, *parts)


def first_w_square(layer: Linear, z: Tensor, low: Tensor, high: Tensor) -> Back:
    """w^2: R_i = sum_j w_ij^2 / (sum_i w_ij^2) R_j, whatever x is (Montavon et al. 2017)."""
    return _shared(layer, z, (torch.ones_like(layer.inputs[:1]), layer.weight.square()))


def first_z_plus(layer: Linear, z: Tensor, low: Tensor, high: Tensor) -> Back:
    """z+ for inputs of any sign: contributions (x_i w_ij)+ (Bach et al. 2015, alpha 1 and beta 0)."""
    parts = (
        (layer.inputs.clamp(min=0), layer.weight.clamp(min=0)),
        (layer.inputs.clamp(max=0), layer.weight.clamp(max=0)),
    )
    return _shared(layer, z, *parts)


def first_epsilon(strength: float) -> Callable[[Linear, Tensor, Tensor, Tensor], Back]:
    """LRP-epsilon of the image in the network's own units, behind its normalisation."""

    def rule(layer: Linear, z: Tensor, low: Tensor, high: Tensor) -> Back:
        back = epsilon(strength)(layer, z)
        return lambda c: layer.inputs * back(c)

    return rule


def quotient(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, and 0 where below is 0."""
    return torch.where(below.abs() > _TINY, above / below, 0)


def _shared(layer: Linear, z: Tensor, *parts: tuple[Tensor, Tensor]) -> Back:
    """Share R_j = z_j c_j in proportion to sum_parts value_i * weight_ij."""
    share = quotient(z, reduce(torch.add, [layer.apply(value, weight) for value, weight in parts]))
    return lambda c: reduce(torch.add, [value * layer.pull(c * share, weight) for value, weight in parts])
