"""Both directions of a translation: attention and generator put together, over networks of their own or a shared backbone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xbench.models import Model
from xbench_translation.backbone import AttentionDecoder, CopiedJudge, GeneratorDecoder, Trunk, taps
from xbench_translation.networks import Attention, Discriminator, Generator, Maps

DIRECTIONS = ("ab", "ba")


class Direction(nn.Module):
    """One translation module: m = A(x) and x^ = m * G(x) + (1 - m) * x, the generator seeing the whole image (S0, eq. 1).

    Parameters
    ----------
    generator, attention
        ``net(image [B,C,H,W] in [-1,1], maps)`` to [B,C,H,W] in (-1,1) and to [B,1,H,W] in (0,1).
    trunk
        A frozen backbone whose feature maps both may use, or None. Not part of the weights.
    """

    def __init__(self, generator: nn.Module, attention: nn.Module, trunk: Trunk | None) -> None:
        super().__init__()
        self.generator, self.attention, self.trunk = generator, attention, trunk

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the translated image [B,C,H,W] in [-1,1] and the attention [B,1,H,W] in (0,1)."""
        maps: Maps = self.trunk(image) if self.trunk else ()
        attention = self.attention(image, maps)
        return attention * self.generator(image, maps) + (1 - attention) * image, attention


class Translator(nn.Module):
    """Domain a (class 0) to domain b (class 1) under ``ab``, and back under ``ba``."""

    def __init__(self, ab: Direction, ba: Direction) -> None:
        super().__init__()
        self.ab, self.ba = ab, ba

    def direction(self, label: int) -> Direction:
        """Return the direction that leaves the domain of a class, 0 or 1."""
        return self.ba if label else self.ab

    def attentions(self) -> list[nn.Parameter]:
        """Return the parameters of both attention networks."""
        return [*self.ab.attention.parameters(), *self.ba.attention.parameters()]


def build_translator(
    model: Model, shape: Sequence[int], sizes: Mapping[str, Any], share: str, decoder_kernel: int
) -> Translator:
    """Return a translator with fresh weights from torch's generator, on the CPU where nothing is shared.

    Parameters
    ----------
    model
        The classifier, whose convolutions are the shared backbone.
    shape
        (C, H, W) of the images.
    sizes
        ``generator_width``, ``attention_width`` and ``blocks``.
    share
        ``none``: networks of their own. ``attention``: A decodes the frozen classifier's feature maps.
        ``attention+generator``: G does, too. ``init_only``: each network has a copy of the classifier's convolutions to
        itself, which is trained on.
    decoder_kernel
        Kernel of the attention decoder's convolutions, 1 or 3.

    Raises
    ------
    Unsupported
        The classifier has no feature maps to share.
    """
    channels, blocks = shape[0], sizes["blocks"]
    names = taps(model, shape) if share != "none" else {}
    copies = model.module if share == "init_only" else None
    trunk = Trunk(model.module, list(names)) if share in ("attention", "attention+generator") else None

    def direction() -> Direction:
        generator: nn.Module
        attention: nn.Module
        if share in ("attention+generator", "init_only"):
            generator = GeneratorDecoder(channels, sizes["generator_width"], blocks, names, copies)
        else:
            generator = Generator(channels, sizes["generator_width"], blocks)
        if share == "none":
            attention = Attention(channels, sizes["attention_width"], decoder_kernel)
        else:
            attention = AttentionDecoder(sizes["attention_width"], decoder_kernel, names, copies)
        return Direction(generator, attention, trunk)

    return Translator(direction(), direction())


def judge_of(model: Model, shape: Sequence[int], sizes: Mapping[str, Any], kind: str) -> Callable[[], nn.Module]:
    """Return what makes a fresh discriminator.

    Parameters
    ----------
    model, shape
        The classifier, and (C, H, W) of the images.
    sizes
        ``discriminator_width``.
    kind
        ``own``: the published network. ``classifier``: a copy of the classifier's convolutions, trained on.

    Raises
    ------
    Unsupported
        The classifier has no feature maps to start from.
    """
    if kind == "own":
        return lambda: Discriminator(shape[0], sizes["discriminator_width"])
    names = taps(model, shape)
    return lambda: CopiedJudge(model.module, names)


def to_network_range(image: Tensor) -> Tensor:
    """Return images of [0,1] in [-1,1]."""
    return image * 2 - 1


def to_image_range(image: Tensor) -> Tensor:
    """Return images of [-1,1] in [0,1]; what rounding puts beyond is cut."""
    return torch.clamp((image + 1) / 2, 0, 1)
