"""The networks of AG-CycleGAN: generator, attention network and discriminator, in the sizes asked for."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = Sequence[Tensor]


class Generator(nn.Module):
    """The image in the other domain, [B,C,H,W] in (-1,1), from the whole image [B,C,H,W] in [-1,1].

    Mejjati et al., Unsupervised attention-guided image-to-image translation, NeurIPS 2018, as their published code runs:
    7x7 convolution, two 3x3 of stride 2, residual blocks with the ReLU after the sum, two transposed 3x3, 7x7 and tanh;
    zero padding, instance normalisation everywhere but last. 2,855,811 parameters for 3 channels, width 32, 9 blocks.

    Parameters
    ----------
    channels
        C of the images.
    width
        Channels of the first convolution; the blocks have four times as many.
    blocks
        Residual blocks, at a quarter of the sides.
    """

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 7, padding=3),
            InstanceNorm(width),
            nn.ReLU(),
            HalvingConv(width, 2 * width),
            InstanceNorm(2 * width),
            nn.ReLU(),
            HalvingConv(2 * width, 4 * width),
            InstanceNorm(4 * width),
            nn.ReLU(),
            *(Residual(4 * width, "zeros", last_relu=True) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
            InstanceNorm(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            InstanceNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 7, padding=3),
            nn.Tanh(),
        )
        self.apply(initialise)

    def forward(self, image: Tensor, maps: Maps = ()) -> Tensor:
        """Return [B,C,H,W] in (-1,1); ``maps`` of a shared backbone are not used."""
        return _on_multiples_of_four(self.body, image)


class Attention(nn.Module):
    """Where the translation may change the image: [B,1,H,W] in (0,1) from the image [B,C,H,W] in [-1,1].

    7x7 and 3x3 convolutions of stride 2 behind reflecting borders, one residual block, twice nearest-neighbour enlargement
    with a convolution, one channel and a sigmoid. 104,001 parameters for 3 channels, width 32 and ``decoder_kernel`` 1:
    the published code hands its decoder's kernel sizes over in the wrong place and so runs it with 1x1 convolutions.
    ``decoder_kernel`` 3 is what its authors wrote.
    """

    def __init__(self, channels: int, width: int, decoder_kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Mirrored(3),
            nn.Conv2d(channels, width, 7, stride=2),
            InstanceNorm(width),
            nn.ReLU(),
            HalvingConv(width, 2 * width),
            InstanceNorm(2 * width),
            nn.ReLU(),
            Residual(2 * width, "mirrored", last_relu=False),
            nn.Upsample(scale_factor=2),
            same_conv(2 * width, 2 * width, decoder_kernel),
            InstanceNorm(2 * width),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            same_conv(2 * width, width, decoder_kernel),
            InstanceNorm(width),
            nn.ReLU(),
            same_conv(width, 1, decoder_kernel),
            nn.Sigmoid(),
        )
        self.apply(initialise)

    def forward(self, image: Tensor, maps: Maps = ()) -> Tensor:
        """Return [B,1,H,W] in (0,1); ``maps`` of a shared backbone are not used."""
        return _on_multiples_of_four(self.body, image)


class Discriminator(nn.Module):
    """A map of scores [B,1,h,w], near 1 where a patch looks real, from an image [B,C,H,W] in [-1,1].

    Four 4x4 convolutions (strides 2, 2, 2, 1) and one to a single channel, zero padding 2 each, leaky ReLU of .2. Instance
    normalisation behind the first four may be left out in a pass: it is, once the input is masked. 2,766,657 parameters
    for 3 channels and width 64; 256 x 256 pixels give 35 x 35 scores.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width, 8 * width)
        strides = (2, 2, 2, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 4, stride=strides[i], padding=2) for i in range(4)
        )
        self.norms = nn.ModuleList(InstanceNorm(each) for each in widths[1:])
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=2)
        self.apply(initialise)

    def forward(self, image: Tensor, normalise: bool) -> Tensor:
        """Return scores [B,1,h,w]; ``normalise``: with instance normalisation."""
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            x = F.leaky_relu(norm(x) if normalise else x, 0.2)
        scores: Tensor = self.last(x)
        return scores


class InstanceNorm(nn.Module):
    """Every channel of every image [B,C,H,W] by its own mean and deviation, then a learnt scale and offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B,C,H,W]."""
        # A group a channel is the same sum, and takes a map of one pixel, too, which F.instance_norm refuses.
        return F.group_norm(x, x.shape[1], self.weight, self.bias, eps=1e-5)


class Mirrored(nn.Module):
    """A border of so many pixels, mirrored at the edge.

    That of `torch.nn.ReflectionPad2d`, whose gradients on a GPU are not the same from one run to the next.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        """Return [B,C,H + 2 pixels,W + 2 pixels]. Raises ValueError unless H and W are larger than the border."""
        if min(x.shape[2:]) <= self.pixels:
            raise ValueError(f"an image of {x.shape[2]} x {x.shape[3]} has no border of {self.pixels} pixels to mirror")
        for side in (2, 3):
            before, after = x.narrow(side, 1, self.pixels), x.narrow(side, x.shape[side] - 1 - self.pixels, self.pixels)
            x = torch.cat([before.flip(side), x, after.flip(side)], dim=side)
        return x


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity; in the generator with a ReLU after the sum."""

    def __init__(self, width: int, border: Literal["zeros", "mirrored"], last_relu: bool) -> None:
        super().__init__()
        self.border = nn.Identity() if border == "zeros" else Mirrored(1)
        padding = 1 if border == "zeros" else 0
        self.first = nn.Conv2d(width, width, 3, padding=padding)
        self.second = nn.Conv2d(width, width, 3, padding=padding)
        self.norms = nn.ModuleList([InstanceNorm(width), InstanceNorm(width)])
        self.last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:
        """Return [B,width,H,W]."""
        inner = torch.relu(self.norms[0](self.first(self.border(x))))
        out = x + self.norms[1](self.second(self.border(inner)))
        return torch.relu(out) if self.last_relu else out


class HalvingConv(nn.Conv2d):
    """A 3x3 convolution of stride 2 whose padding is right and below, as the published code has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B,outputs,H/2,W/2] of even sides."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def same_conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a convolution that keeps the sides."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


def initialise(module: nn.Module) -> None:
    """Draw weights as the published code does: convolutions from N(0, .02) cut at 2 deviations, scales from N(1, .02)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, InstanceNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def _on_multiples_of_four(body: nn.Module, image: Tensor) -> Tensor:
    """Run a net that halves twice and doubles twice; other sides are padded on the right and below, and cut again."""
    height, width = image.shape[2:]
    for side in (2, 3):
        last = image.narrow(side, image.shape[side] - 1, 1)
        image = torch.cat([image] + [last] * (-image.shape[side] % 4), dim=side)
    out: Tensor = body(image)
    return out[:, :, :height, :width]
