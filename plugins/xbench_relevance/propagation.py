"""Relevance through a network as it is: every function of its forward pass hands back relevance instead of a gradient.

A ``TorchFunctionMode`` sees each call on a tensor that depends on the image, whether a module makes it or not. Nothing of
the network is hooked, copied or rewritten, and what has no rule is refused by name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from xbench.errors import Unsupported
from xbench.models import Model
from xbench_relevance.nodes import Affine, Box, HandBack, called, swapped, tensors
from xbench_relevance.rules import Linear, Method, quotient


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Views, rectifiers, scalings, means and the largest of several: f(t a) = t f(a) for t > 0, where autograd's own gradient
# hands on all of R = a * c. Names without the underscores that mark the in-place and the operator forms.
_VIEWS = _names(
    "view reshape flatten unflatten permute transpose movedim squeeze unsqueeze contiguous clone to float double chunk split "
    "narrow select getitem expand repeat cat concat stack unbind flip pad channel_shuffle dropout dropout2d"
)
_MEANS = _names("avg_pool2d adaptive_avg_pool2d mean sum")
_RECTIFIERS = _names("relu leaky_relu prelu max_pool2d adaptive_max_pool2d")
_QUOTIENTS = _names("div truediv itruediv true_divide divide")
_SCALINGS = _QUOTIENTS | _names("mul imul rmul neg")
_SUMS = _names("add radd iadd sub rsub isub subtract")
# Elementwise: the relevance of a unit is that of what it sums up (as zennit's Pass).
_ACTIVATIONS = _names("sigmoid tanh hardtanh relu6 elu gelu silu softplus hardswish hardsigmoid")
_OF_THE_IMAGE = _VIEWS | _MEANS | _SCALINGS | _SUMS | {"interpolate"}
_OF_FEATURES = _VIEWS | _MEANS | _SCALINGS | _SUMS | _RECTIFIERS | _ACTIVATIONS


def propagate(model: Model, image: Tensor, target: Tensor, method: Method) -> tuple[Tensor, Tensor]:
    """Return the relevance [B,C,H,W] of each channel and the target's logits [B]: one forward and one backward pass.

    Parameters
    ----------
    model
        The classifier, left as it was.
    image
        [B,C,H,W] in [0,1], at most ``model.batch_size`` of them.
    target
        [B] int64. What starts is R = the target's logit; under a positive method 0 where the logit is 0 or less.
    method
        The rules.

    Raises
    ------
    Unsupported
        When the network calls a function that the method has no rule for.
    """
    leaf = image.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        with _Propagation(method, leaf) as running:
            logits = model.logits(leaf)
        running.finish(logits)
        score = model.pick(logits, target)
        start = (score > 0).to(score.dtype) if method.positive else torch.ones_like(score)
        relevance = torch.autograd.grad(score, leaf, start)[0]
    return relevance, score.detach()


class _Propagation(TorchFunctionMode):
    def __init__(self, method: Method, image: Tensor) -> None:
        super().__init__()
        self.method = method
        self.waiting: list[Affine] = []
        # All tensors that depend on the image: a Box, the Affine that gave it, or None.
        self.notes: Any = WeakTensorKeyDictionary()
        self.notes[image] = Box(torch.zeros_like(image), torch.ones_like(image))

    def finish(self, logits: Tensor) -> None:
        """Ask the last rules, and refuse logits that no rule leads to."""
        self._settle()
        if logits not in self.notes:
            raise self._refusal("the logits come from a scripted module or another function that torch hides")
        if isinstance(self.notes[logits], Box):
            raise self._refusal("the network has no convolution and no dense layer")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [item for item in tensors((args, kwargs)) if item.requires_grad]
        if not inputs:
            return func(*args, **kwargs)
        if any(item not in self.notes for item in inputs):
            raise self._refusal(
                f"{called(func)} takes what a scripted module or another function that torch hides made"
            )
        if func is F.conv2d:
            return self._convolution(*args, **kwargs)
        if func is F.linear:
            return self._layer(*args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        boxed = [isinstance(self.notes[item], Box) for item in inputs]
        listed = name in _OF_THE_IMAGE if all(boxed) else name in _OF_FEATURES
        if not listed:
            return self._unlisted(func, args, kwargs, inputs)
        if name in _SCALINGS | _SUMS and kwargs.keys() & {"alpha", "rounding_mode", "out"}:
            raise self._refusal(f"{called(func)} with {', '.join(kwargs)} has no rule")
        if name in _SCALINGS and len(inputs) > 1:
            raise self._refusal(f"{called(func)} of two tensors that depend on the image has no rule")
        if name in _QUOTIENTS and not (args and args[0] is inputs[0]):
            raise self._refusal(f"{called(func)} by a tensor that depends on the image has no rule")
        if name in _SUMS and all(boxed) and len(inputs) > 1:
            raise self._refusal(f"{called(func)} of two tensors between image and first layer has no rule")
        if all(boxed):
            return self._of_the_image(func, args, kwargs)
        if any(boxed):
            raise self._refusal(f"{called(func)} joins the image with features, which has no rule")
        if name == "neg" and self.method.positive:
            return self._negated(inputs[0])
        self._settle()
        if name in _ACTIVATIONS:
            return self._activation(func, args, kwargs, inputs[0])
        if self.method.positive:
            if name in _SUMS:
                return self._positive_sum(func, args, kwargs, inputs)
            self._check_positive(func, name, args, inputs)
        return self._noted(func(*args, **kwargs))

    def _refusal(self, reason: str) -> Unsupported:
        return Unsupported(f"{self.method.name}: {reason}")

    def _settle(self) -> None:
        for affine in self.waiting:
            affine.settle()
        self.waiting.clear()

    def _noted(self, result: Any) -> Any:
        for item in tensors(result):
            if item.requires_grad:
                self.notes[item] = None
        return result

    def _emit(self, value: Tensor, back: Callable[[Tensor], Any], *inputs: Tensor, overwrite: bool = False) -> Tensor:
        result: Tensor = self._noted(HandBack.apply([value], back, overwrite, *inputs))
        return result

    def _convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str):
            steps = (dilation, dilation) if isinstance(dilation, int) else dilation
            total = [
                step * (size - 1) * (padding == "same") for step, size in zip(steps, weight.shape[2:], strict=True)
            ]
            if any(size % 2 for size in total):
                raise self._refusal("a convolution with padding='same' and a kernel of even size has no rule")
            padding = [size // 2 for size in total]
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return self._layer(input, weight, bias, geometry)

    def _layer(
        self, input: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: dict[str, Any] | None = None
    ) -> Tensor:
        if any(item is not None and item.requires_grad for item in (weight, bias)):
            raise self._refusal("a layer whose weights depend on the image has no rule")
        layer = Linear(input.detach(), weight, bias, geometry)
        return self._begin(layer, input, layer.apply(layer.inputs, weight, bias))

    def _begin(self, layer: Linear, source: Tensor, z: Tensor) -> Tensor:
        """Return a layer's outputs z as a tensor of the network, its rule to be asked at the next call."""
        note = self.notes[source]
        affine = Affine(self.method, layer, source, note if isinstance(note, Box) else None)
        result = self._emit(z, affine, source)
        affine.gave(result)
        self.waiting.append(affine)
        self.notes[result] = affine
        return result

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        if training or running_mean is None or running_var is None:
            raise self._refusal("a batch normalisation by the batch's own statistics has no rule")

        def normalise(x: Tensor) -> Tensor:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)

        note = self.notes[input]
        if isinstance(note, Box):
            return self._of_the_image(normalise, (input,), {})
        if isinstance(note, Affine) and note.waits and (note.layer.geometry or input.ndim == 2):
            self.waiting.remove(note)
            scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
            shift = (0 if bias is None else bias) - running_mean * scale
            return self._begin(note.layer.merged(scale, shift), note.source, normalise(note.outputs))
        if not self.method.lone_norms:
            raise self._refusal(
                "a batch normalisation with no convolution right in front (as in DenseNet) cannot be merged and has no rule; "
                "relevance/lrp[rule=epsilon] and gradients/input_x_gradient take it"
            )
        self._settle()
        return self._noted(normalise(input))

    def _negated(self, input: Tensor) -> Tensor:
        """Merge the minus of a one-logit net's other class into the layer that gave the logit."""
        note = self.notes[input]
        if not (isinstance(note, Affine) and note.waits):
            raise self._refusal("a minus has a rule only right behind a layer with weights")
        scale = note.layer.weight.new_full((len(note.layer.weight),), -1.0)
        return self._begin(note.layer.merged(scale, torch.zeros_like(scale)), note.source, -note.outputs)

    def _of_the_image(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function between image and first layer, on the images of 0 and 1 too."""
        dark, light = (
            func(*swapped(args, self._side(side)), **swapped(kwargs, self._side(side))) for side in ("dark", "light")
        )
        result = func(*args, **kwargs)
        for item, *box in zip(tensors(result), tensors(dark), tensors(light), strict=True):
            self.notes[item] = Box(*box)
        return result

    def _side(self, side: str) -> Callable[[Tensor], Tensor]:
        return lambda item: getattr(self.notes[item], side) if item.requires_grad else item

    def _activation(self, func: Any, args: Any, kwargs: Any, x: Tensor) -> Tensor:
        before = x.detach().clone()
        version = before._version

        def copied(item: Tensor) -> Tensor:
            return before if item is x else item

        value = func(*swapped(args, copied), **swapped(kwargs, copied))
        share = quotient(value, x.detach())
        return self._emit(value, lambda c: c * share, x, overwrite=before._version != version)

    def _positive_sum(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """Share the relevance of x + y in proportion to x+ and y+."""
        if "add" not in func.__name__ or len(inputs) != 2 or inputs[0].shape != inputs[1].shape:
            if "add" in func.__name__ and any(isinstance(item, int | float) and item == 0 for item in args):
                return self._noted(func(*args, **kwargs))
            raise self._refusal(f"{called(func)} has a rule only for two tensors of one shape that depend on the image")
        x, y = (item.detach().clamp(min=0) for item in inputs)
        z = inputs[0].detach() + inputs[1].detach()
        share = quotient(z, x + y)
        above = x > 0, y > 0

        def back(c: Tensor) -> tuple[Tensor, ...]:
            return tuple(c * share * part for part in above)

        return self._emit(z, back, *inputs, overwrite=func.__name__ in ("add_", "__iadd__"))

    def _check_positive(self, func: Any, name: str, args: Any, inputs: list[Tensor]) -> None:
        factors = [item for item in args if not any(item is other for other in inputs)] if name in _SCALINGS else []
        if any(torch.as_tensor(item).amin() < 0 for item in factors):
            raise self._refusal(f"{called(func)} by a negative number has no rule")
        if name in _MEANS and inputs[0].amin() < 0:
            raise self._refusal(f"{called(func)} has a rule only for values of 0 or more (behind a ReLU)")

    def _unlisted(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """Let a function pass that asks for shapes and the like, and refuse one that computes."""
        versions = [item._version for item in inputs]
        result = func(*args, **kwargs)
        if any(item.requires_grad for item in tensors(result)) or versions != [item._version for item in inputs]:
            raise self._refusal(f"the network calls {called(func)}, which has no rule")
        return result
