"""A classifier's feature maps as the common backbone of attention network and generator."""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench_translation.networks import InstanceNorm, Maps, Residual, initialise, same_conv

_SMALLEST, _LARGEST_RATIO = 4, 16


def taps(model: Model, shape: Sequence[int]) -> dict[str, int]:
    """Return the modules whose maps a decoder uses, finest first, and how many channels each gives.

    Of every resolution between a sixteenth of the image and the whole it is the last module that gives maps of it, down to
    maps of 4 pixels a side.

    Raises
    ------
    Unsupported
        When the network gives no such maps.
    """
    found: dict[tuple[int, int], tuple[str, int]] = {}
    handles = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and not isinstance(module, (nn.AvgPool2d, nn.MaxPool2d)):
                found[(output.shape[2], output.shape[3])] = (name, output.shape[1])

        return hook

    try:
        for name, module in model.module.named_modules():
            if name:
                handles.append(module.register_forward_hook(note(name)))
        with torch.no_grad():
            model.module(torch.zeros(1, *shape, device=model.device))
    finally:
        for handle in handles:
            handle.remove()
    height, width = shape[1:]
    sizes = [
        size
        for size in sorted(found, reverse=True)
        if min(size) >= _SMALLEST and size[0] * _LARGEST_RATIO >= height and size[1] * _LARGEST_RATIO >= width
    ]
    if not sizes:
        raise Unsupported(
            f"translation/ag_cyclegan: the model gives no feature maps of {_SMALLEST} x {_SMALLEST} pixels or more to "
            "share; share=none is needed"
        )
    return {found[size][0]: found[size][1] for size in sizes}


class Trunk:
    """Feature maps of a network in eval mode, which is left as it was; the network is no part of whoever holds this."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self.module, self.names = module, tuple(names)

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Return the maps [B,F,h,w] of every module named, of images [B,C,H,W] in [-1,1]."""
        kept: dict[str, Tensor] = {}
        modules = dict(self.module.named_modules())
        handles = []

        def keep(name: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
            def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
                # Its copy goes on, so that an in-place operation behind the module cannot change what is kept.
                kept[name] = output
                return output.clone()

            return hook

        try:
            handles = [modules[name].register_forward_hook(keep(name)) for name in self.names]
            self.module((image + 1) / 2)
        finally:
            for handle in handles:
                handle.remove()
        return [kept[name] for name in self.names]


class _Decoder(nn.Module):
    """From the coarsest map up: nearest-neighbour enlargement, the next finer map beside it, a convolution."""

    def __init__(
        self, width: int, blocks: int, kernel: int, names: Mapping[str, int], copies: nn.Module | None
    ) -> None:
        super().__init__()
        *finer, coarsest = names.values()
        self.trunk = Trunk(copy.deepcopy(copies).requires_grad_(True), list(names)) if copies is not None else None
        if self.trunk:
            self.encoder = self.trunk.module
        self.first = nn.Sequential(same_conv(coarsest, width, 3), InstanceNorm(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Residual(width, "zeros", last_relu=True) for _ in range(blocks)))
        self.joins = nn.ModuleList()
        for each in reversed(finer):
            self.joins.append(
                nn.Sequential(same_conv(width + each, width // 2, kernel), InstanceNorm(width // 2), nn.ReLU())
            )
            width //= 2
        for part in (self.first, self.blocks, self.joins):
            part.apply(initialise)
        self.width = width

    def decode(self, image: Tensor, maps: Maps) -> Tensor:
        """Return [B,width,H,W]."""
        *finer, coarsest = self.trunk(image) if self.trunk else maps
        x = self.blocks(self.first(_level(coarsest)))
        for join, skip in zip(self.joins, reversed(finer), strict=True):
            x = join(torch.cat([F.interpolate(x, skip.shape[2:]), _level(skip)], dim=1))
        return F.interpolate(x, image.shape[2:])


class GeneratorDecoder(_Decoder):
    """The image in the other domain, decoded from a classifier's maps and, at full size, the image itself."""

    def __init__(
        self, channels: int, width: int, blocks: int, names: Mapping[str, int], copies: nn.Module | None
    ) -> None:
        super().__init__(4 * width, blocks, 3, names, copies)
        self.last = nn.Sequential(
            same_conv(self.width + channels, width, 3),
            InstanceNorm(width),
            nn.ReLU(),
            same_conv(width, channels, 7),
            nn.Tanh(),
        )
        self.last.apply(initialise)

    def forward(self, image: Tensor, maps: Maps = ()) -> Tensor:
        """Return [B,C,H,W] in (-1,1)."""
        out: Tensor = self.last(torch.cat([self.decode(image, maps), image], dim=1))
        return out


class AttentionDecoder(_Decoder):
    """Where the translation may change the image, decoded from a classifier's maps."""

    def __init__(self, width: int, kernel: int, names: Mapping[str, int], copies: nn.Module | None) -> None:
        super().__init__(2 * width, 0, kernel, names, copies)
        self.last = nn.Sequential(same_conv(self.width, 1, kernel), nn.Sigmoid())
        self.last.apply(initialise)

    def forward(self, image: Tensor, maps: Maps = ()) -> Tensor:
        """Return [B,1,H,W] in (0,1)."""
        out: Tensor = self.last(self.decode(image, maps))
        return out


class CopiedJudge(nn.Module):
    """A discriminator that starts as a copy of the classifier's convolutions, up to its coarsest maps, and is trained on.

    Batch normalisation keeps the statistics it has; a 3x3 convolution turns the maps into scores [B,1,h,w].
    """

    def __init__(self, module: nn.Module, names: Mapping[str, int]) -> None:
        super().__init__()
        name, channels = list(names.items())[-1]
        self.trunk = Trunk(copy.deepcopy(module).requires_grad_(True), [name])
        self.encoder = self.trunk.module
        self.last = same_conv(channels, 1, 3)
        initialise(self.last)

    def forward(self, image: Tensor, normalise: bool) -> Tensor:
        """Return scores of images [B,C,H,W] in [-1,1]; ``normalise`` finds nothing to leave out."""
        scores: Tensor = self.last(self.trunk(image)[0])
        return scores


def _level(maps: Tensor) -> Tensor:
    """Return maps with every channel at mean 0 and deviation 1: layers of a classifier differ widely in scale."""
    return F.group_norm(maps, maps.shape[1], eps=1e-5)
