"""Classifiers of one logit: a slim VGG for CPUs and the source's VGG16, and how they are trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from xbench.errors import Unsupported, XbenchError
from xbench.fits import FitContext
from xbench.training import train_classifier
from xbench.weights import Loaded, load_weights

# Rounded from the generated pictures.
_MEAN, _STD = 0.25, 0.18
# In [0,1], by the order of channels that a network's weights were trained for. RGB: torchvision's. BGR: Simonyan and
# Zisserman's, who subtracted means from 0 .. 255 and divided by nothing; here in the order red, green, blue.
_INPUT = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "bgr": ((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255, 1 / 255, 1 / 255)),
}
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLEST_SIDE = {"slim": 16, "vgg16": 32}


def slim(shape: tuple[int, int, int], classes: Sequence[str], *, width: int, **_: object) -> nn.Module:
    """Return a VGG of four convolutions whose maps keep an eighth of the image's sides (8 x 8 of 64 x 64).

    Parameters
    ----------
    shape
        (C, H, W) of the images; no side may be shorter than 16 pixels.
    classes
        Two names; the one logit is that of the second.
    width
        Channels of the first convolution; the others have 2, 4 and 4 times as many.

    Raises
    ------
    Unsupported
        There are not two classes, a side is too short, or the width is below 1.
    """
    _check("slim", shape, classes)
    if width < 1:
        raise Unsupported(f"anole/slim[width={width}]: at least one channel is needed")
    return Slim(shape[0], width)


class Slim(nn.Module):
    """Small VGG with batch normalisation; images [B,C,H,W] in [0,1] to one logit [B,1]."""

    cam_layer = "features.relu4"
    """The last convolution's output after its ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        for i, outputs in enumerate((width, 2 * width, 4 * width, 4 * width), 1):
            self.features.add_module(f"conv{i}", nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            self.features.add_module(f"norm{i}", nn.BatchNorm2d(outputs))
            self.features.add_module(f"relu{i}", nn.ReLU())
            if i < 4:
                self.features.add_module(f"pool{i}", nn.MaxPool2d(2))
            channels = outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(channels, 64), nn.ReLU(), nn.Linear(64, 1))
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logit [B,1] of the second class."""
        logit: Tensor = self.classifier(self.pool(self.features((image - _MEAN) / _STD)).flatten(1))
        return logit


def vgg16(shape: tuple[int, int, int], classes: Sequence[str], *, frozen: int, input: str, **_: object) -> nn.Module:
    """Return VGG16 as S4 has it, with fresh weights; `fit_vgg16` sets others.

    Its convolutions, global average pooling (512), a dense layer of 256 and one logit. The convolutions are called as
    torchvision calls them, ``features.0`` to ``features.28``. Source: Tomono, Nobuhara, Kawai, section 3.2; VGG16 itself:
    Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

    Parameters
    ----------
    shape
        (C, H, W) of the images, C 1 or 3; no side may be shorter than 32 pixels. A grey one becomes three equal channels.
    classes
        Two names; the one logit is that of the second.
    frozen
        So many of the 13 convolutions, from the image on, keep their weights in training; S4 froze 7.
    input
        What the weights were trained for: ``rgb``, torchvision's, less ImageNet's mean and over its deviation, or
        ``bgr``, the authors' own, from 0 to 255 less ImageNet's mean, blue first.

    Raises
    ------
    Unsupported
        There are not two classes, the images have 2 channels or more than 3, or a side is too short; ``frozen`` is not
        from 0 to 13.
    """
    _check("vgg16", shape, classes)
    if shape[0] not in (1, 3):
        raise Unsupported(f"anole/vgg16 takes images of 1 or 3 channels, not {shape[0]}")
    convolutions = sum(map(len, _BLOCKS))
    if not 0 <= frozen <= convolutions:
        raise Unsupported(f"anole/vgg16[frozen={frozen}]: a number of convolutions from 0 to {convolutions} is needed")
    return VGG16(input)


class VGG16(nn.Module):
    """VGG16's convolutions under a small head; images [B,1 or 3,H,W] in [0,1] to one logit [B,1]."""

    cam_layer = "features.29"
    """The last convolution's output after its ReLU: [B,512,14,14] for 224 x 224."""
    mean: Tensor
    std: Tensor

    def __init__(self, input: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block in _BLOCKS:
            for outputs in block:
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, 1))
        self.input = input
        for name, values in zip(("mean", "std"), _INPUT[input], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logit [B,1] of the second class."""
        image = image.expand(-1, 3, -1, -1)
        if self.input == "bgr":
            image = image.flip(1)
        maps = self.features((image - self.mean) / self.std)
        logit: Tensor = self.classifier(self.pool(maps).flatten(1))
        return logit

    def freeze(self, count: int) -> None:
        """Take the first ``count`` convolutions out of training, weights and biases."""
        convolutions = [part for part in self.features if isinstance(part, nn.Conv2d)]
        for convolution in convolutions[:count]:
            convolution.requires_grad_(False)

    def load(self, weights: str) -> Loaded | None:
        """Set weights trained elsewhere, see `load_weights`; ``imagenet`` is torchvision's IMAGENET1K_V1, downloaded.

        The head stays as built, unless the file has this one. So do the last two blocks, where the file has nothing of
        either: the first three are the seven convolutions that S4 froze.
        """
        seen: set[str] = set()

        def noted(name: str) -> str:
            seen.add(name)
            return name

        def published() -> Mapping[str, Tensor]:
            import torchvision  # three seconds, which only those pay who use it

            # Named, not the default, which torchvision may move to other weights.
            network: nn.Module = torchvision.models.vgg16(weights="IMAGENET1K_V1", progress=False)
            return network.state_dict()

        head = ("classifier.",)
        if weights == "imagenet" and self.input == "bgr":
            raise Unsupported("anole/vgg16[weights=imagenet,input=bgr]: torchvision's weights are for input=rgb")
        try:
            loaded = load_weights(self, weights, published=published, head=head, rename=noted)
        except XbenchError:
            end = sum(2 * len(block) + 1 for block in _BLOCKS[:3])
            late = tuple(f"features.{i}." for i in range(end, len(self.features)))
            if not seen or any(place in name for name in seen for place in late):
                raise
            loaded = load_weights(self, weights, head=head + late)
        return loaded


def _check(name: str, shape: tuple[int, int, int], classes: Sequence[str]) -> None:
    if len(classes) != 2:
        raise Unsupported(f"anole/{name} has one logit, for two classes; these data have {len(classes)}")
    least = SMALLEST_SIDE[name]
    if min(shape[1:]) < least:
        raise Unsupported(
            f"anole/{name} needs images of at least {least} x {least} pixels; these have {shape[1]} x {shape[2]}"
        )


def _initialise(network: nn.Module) -> None:
    """Draw weights as He et al. (ICCV 2015) for ReLUs; biases are zero."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def fit_slim(context: FitContext) -> dict[str, Tensor]:
    """Train on binary cross-entropy and return the state dict.

    Measured on the generated pictures at 64 pixels with 25 epochs, a minute of one CPU core each, fit seeds 0 and 1: an
    accuracy of .95 where training was unbiased (``data.bias=0``), .82 at a bias of .8, .62 at .9.
    """
    params = context.params
    return train_classifier(
        context,
        epochs=params["epochs"],
        batch=params["batch"],
        lr=params["lr"],
        weight_decay=1e-2,
        augment=turn_and_shift if params["augment"] else None,
    )


def fit_vgg16(context: FitContext) -> dict[str, Tensor]:
    """Train by S4's recipe, Adam on binary cross-entropy at a constant rate, and return the best epoch's state dict.

    An epoch shows each photograph ``copies`` times, cut out otherwise: S4 made 18,971 of its 1,678 in that way, 11 of each.
    S4 stopped after 25 epochs (45 with GAIN), when the accuracy on the validation split fell; so does ``early_stop``, see
    `train_classifier`. Its rate of 1e-7 is for trained weights: from ``weights=none`` it learns nothing in any time.

    ``weights`` (see `VGG16.load`) are where the training starts; ``epochs=0`` takes them as they are. They are read here
    and not when the network is built, for every worker builds it again to put the trained weights in.
    """
    params, module = context.params, context.module
    assert isinstance(module, VGG16), "this recipe is for anole/vgg16"
    if loaded := module.load(params["weights"]):
        context.notes["weights"] = asdict(loaded)
        context.report(0, 0, loaded.summary)
    module.freeze(params["frozen"])
    return train_classifier(
        context,
        epochs=params["epochs"],
        batch=params["batch"],
        lr=params["lr"],
        samples_per_epoch=params["copies"] * len(context.train) or None,
        schedule="constant",
        augment=shift if params["augment"] else None,
        early_stop=params["early_stop"],
    )


def shift(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [B,C,H,W] cut out elsewhere by up to an eighth of their sides; what comes in is its mirror image.

    By whole pixels: interpolation blurs, and a network trained on blurred pictures is worse on sharp ones.
    """
    rows, columns = (_shifted(side, len(image), generator) for side in image.shape[2:])
    return _picked(image, rows, columns)


def turn_and_shift(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures like `shift`, mirrored at random both ways, and square ones turned by a quarter in half the cases."""
    rows, columns = (_mirrored(_shifted(side, len(image), generator), side, generator) for side in image.shape[2:])
    moved = _picked(image, rows, columns)
    if image.shape[2] != image.shape[3]:
        return moved
    across = torch.rand(len(image), 1, 1, 1, generator=generator) < 0.5
    return torch.where(across, moved.transpose(2, 3), moved)


def _shifted(side: int, count: int, generator: torch.Generator) -> Tensor:
    """Return [count,side] int64: which row or column comes to each place."""
    reach = side // 8
    place = torch.arange(side) + torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    return (side - 1) - ((side - 1) - place.abs()).abs()


def _mirrored(place: Tensor, side: int, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(place), 1, generator=generator) < 0.5, side - 1 - place, place)


def _picked(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    batch = torch.arange(len(image))[:, None, None]
    return image.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()
