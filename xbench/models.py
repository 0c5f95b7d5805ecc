"""A classifier as explainers and metrics see it: logits, probabilities, one convolution tapped, every pass counted."""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xbench.errors import Unsupported, did_you_mean
from xbench.memory import out_of_memory

_NOT_FEATURES = (
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.Upsample,
)


@dataclass
class Passes:
    """How many images went through the network, how many gradients came back, and how long that took.

    A backward pass is timed from the logits to the image, or to the layer that `Model.tap` opened; one that a plugin ends
    elsewhere is counted, not timed, and of several forward passes gone back through together only the last.
    """

    forwards: int = 0
    backwards: int = 0
    _seconds: float = 0.0
    _spans: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=deque)
    _begun: float | tuple[torch.cuda.Event, torch.device] | None = None

    @property
    def seconds(self) -> float:
        """Time inside passes; on a GPU between their first and last kernel, which this waits for."""
        while self._spans:
            self._settle(*self._spans.popleft())
        return self._seconds

    def begin(self, device: torch.device) -> None:
        """A pass begins."""
        self._begun = (_event(device), device) if device.type == "cuda" else time.perf_counter()

    def end(self) -> None:
        """The pass that began last has ended."""
        if isinstance(self._begun, tuple):
            begin, device = self._begun
            self._spans.append((begin, _event(device)))
            while self._spans and self._spans[0][1].query():  # a long training must not pile them up
                self._settle(*self._spans.popleft())
        elif self._begun is not None:
            self._seconds += time.perf_counter() - self._begun
        self._begun = None

    def _settle(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> None:
        end.synchronize()
        self._seconds += begin.elapsed_time(end) / 1000


def _event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


class Model:
    """A frozen classifier in eval mode.

    Parameters
    ----------
    module
        Images [B,C,H,W] in [0,1] to logits [B,K], or [B,1] for two classes under the sigmoid link.
    link
        ``softmax``: p = softmax(logits). ``sigmoid``: every logit on its own, p = sigmoid(logit). A module with a method
        ``prob(logits [B,K]) -> [B,K]`` decides for itself.
    batch_size
        The most images an explainer should put into one forward pass.
    passes
        Running counts; the harness reads differences. Another network's may go on.

    Attributes
    ----------
    memo
        What a metric computed of this network whatever the images, under a name of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        link: Literal["softmax", "sigmoid"] = "softmax",
        batch_size: int = 64,
        passes: Passes | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.link = link
        self.batch_size = batch_size
        self.passes = passes or Passes()
        self.memo: dict[str, Tensor] = {}
        self._default_layer: str | None = None
        self._channels_last = True
        self._entry: RemovableHandle | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        first: Tensor | None = next(itertools.chain(self.module.parameters(), self.module.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    def logits(self, image: Tensor) -> Tensor:
        """Return logits [B,K] of images [B,C,H,W] in [0,1]; a one-logit net gives [-z, z]."""
        self.passes.begin(image.device)
        return self._passed(self._forward(image))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count the passes of someone who calls the module itself; of a one-logit net that one gets [-z, z] too."""

        def before(module: nn.Module, inputs: tuple[object, ...]) -> None:
            self.passes.begin(self.device)
            if inputs and isinstance(image := inputs[0], Tensor) and image.requires_grad:
                self._enter(image)

        def after(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            return self._passed(output)

        handles = [self.module.register_forward_pre_hook(before), self.module.register_forward_hook(after)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _passed(self, out: Tensor) -> Tensor:
        self.passes.end()
        self.passes.forwards += len(out)
        if out.ndim != 2:
            raise ValueError(f"the model gave logits of shape {tuple(out.shape)}; [batch, classes] is needed")
        if out.shape[1] == 1:
            if self.link != "sigmoid":
                raise ValueError("a net with one logit needs the model declared with link='sigmoid'")
            out = torch.cat([-out, out], dim=1)
        if out.requires_grad:
            out.register_hook(self._count_backward)
        return out

    def _forward(self, image: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            if image.requires_grad:
                self._enter(image)
            return self.module(image)
        # With channels innermost a CPU takes half of the time on small images of one channel, .86 on ResNet-18 (make bench).
        if self._channels_last and (image.device.type == "cpu" or torch.is_autocast_enabled("cuda")):
            try:
                return self.module(_channels_innermost(image))
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                # A net that lays its tensors out itself, by `view` or its own operations; any other error comes again.
                out = self.module(image)
                self._channels_last = False
                return out
        return self.module(image)

    def _enter(self, image: Tensor) -> None:
        if self._entry is not None:
            self._entry.remove()  # on an image used again they would pile up
        self._entry = image.register_hook(self._end_backward)

    def prob(self, logits: Tensor) -> Tensor:
        """Return probabilities [B,K] of logits [B,K]; a one-logit net's pair [-z, z] gives sigmoid(-z), sigmoid(z)."""
        if (own := getattr(self.module, "prob", None)) is not None:
            return own(logits)
        return logits.softmax(dim=1) if self.link == "softmax" else logits.sigmoid()

    def score(self, image: Tensor, target: Tensor, kind: Literal["logit", "prob"] = "logit") -> Tensor:
        """Return [B]: the target class's logit or probability."""
        return self.pick(self.logits(image), target, kind)

    def pick(self, logits: Tensor, target: Tensor, kind: Literal["logit", "prob"] = "logit") -> Tensor:
        """Return [B]: the target class's entry of logits [B,K], or its probability."""
        values = logits if kind == "logit" else self.prob(logits)
        return values.gather(1, target[:, None]).squeeze(1)

    def tap(self, image: Tensor, layer: str | None = None) -> tuple[Tensor, Tensor]:
        """Run the net once and open it at a convolution layer.

        The layer's output is replaced by a copy that requires a gradient (a copy, so that an in-place operation behind
        it cannot change what is kept), hence `torch.autograd.grad(score.sum(), activation)` runs back to that layer
        only.

        Parameters
        ----------
        image
            [B,C,H,W] in [0,1].
        layer
            A module's dotted name; None takes `default_layer`. Of a module that runs several times (a shared ReLU), the
            last run that gives maps counts.

        Returns
        -------
        activation [B,F,h,w] (a leaf requiring a gradient) and logits [B,K].

        Raises
        ------
        ValueError
            When the model has no such module.
        Unsupported
            When the module gives no maps of more than one pixel.
        """
        name = layer or self.default_layer(image)
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: object) -> Tensor | None:
            if not _is_map(output):
                return None
            leaf = output.detach().clone().requires_grad_(True)
            kept.append(leaf)
            opened = leaf.clone()
            opened.register_hook(self._end_backward)
            return opened

        with self._hooked(name, keep), torch.enable_grad():
            logits = self.logits(image)
        if not kept:
            raise Unsupported(f"the model's layer {name!r} gives no feature maps of more than one pixel")
        return kept[-1], logits

    def default_layer(self, image: Tensor) -> str:
        """Return the last module that gives a map of more than one pixel, after its ReLU and before its pooling.

        A module with an attribute ``cam_layer`` (a dotted name) decides for itself.
        """
        if self._default_layer is None:
            declared = getattr(self.module, "cam_layer", None)
            self._default_layer = declared if isinstance(declared, str) else self._last_map(image[:1])
        return self._default_layer

    def _last_map(self, image: Tensor) -> str:
        found: list[str] = []
        pooled: list[Tensor] = []
        handles = []

        def note(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                if not _is_map(output):
                    return
                if isinstance(module, _NOT_FEATURES):
                    pooled.append(output)
                # A block that hands on the output of its last child, a pooling layer, gives a pooled map itself.
                elif not (any(module.children()) and any(output is other for other in pooled)):
                    found.append(name)

            return hook

        try:
            for name, module in self.module.named_modules():
                if name:
                    handles.append(module.register_forward_hook(note(name)))
            with torch.no_grad():
                self.module(image)
        finally:
            for handle in handles:
                handle.remove()
        if not found:
            raise Unsupported("the model has no layer that gives feature maps of more than one pixel")
        # A block ends when its last child ends: of "layer4.1.relu", "layer4.1" and "layer4" the outermost is its name.
        return found[-1]

    @contextlib.contextmanager
    def _hooked(self, layer: str, hook: Callable[[nn.Module, object, object], Tensor | None]) -> Iterator[None]:
        modules = dict(self.module.named_modules())
        inside = getattr(self.module, "inside", "") + layer
        if layer not in modules and inside in modules:  # a network within another has its layers there
            layer = inside
        if layer not in modules:
            raise ValueError(f"the model has no layer {layer!r}{did_you_mean(layer, modules)}")
        handle = modules[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backwards += len(gradient)
        self.passes.begin(gradient.device)

    def _end_backward(self, gradient: Tensor) -> None:
        self.passes.end()


def _channels_innermost(image: Tensor) -> Tensor:
    """Return images [B,C,H,W] as they would lie with channels innermost; of a single channel torch must be told by strides."""
    _, channels, height, width = image.shape
    if channels == 1:
        return image.contiguous().as_strided(image.shape, (height * width, 1, width, 1))
    return image.contiguous(memory_format=torch.channels_last)


def _is_map(output: object) -> TypeGuard[Tensor]:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1
