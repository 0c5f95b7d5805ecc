"""Two networks for photographs of whatever classes: a small one for CPUs, and torchvision's ResNet-18."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from xbench.errors import Unsupported
from xbench.fits import FitContext
from xbench.own_model import Normalised
from xbench.training import train_classifier
from xbench.weights import load_weights

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small(shape: tuple[int, int, int], classes: Sequence[str], *, width: int, **_: object) -> nn.Module:
    """Return four convolutions, whose maps keep an eighth of the image's sides, under a mean and a dense layer.

    The mean over the maps makes it take images of any size, and of any content: four photographs are to it their mean.

    Parameters
    ----------
    shape
        (C, H, W) of the images; no side may be shorter than 8 pixels.
    classes
        K names: the network gives K logits.
    width
        Channels of the first convolution; the others have 2, 4 and 4 times as many.

    Raises
    ------
    Unsupported
        A side is too short, or the width is below 1.
    """
    if min(shape[1:]) < 8:
        raise Unsupported(f"photos/small needs images of at least 8 x 8 pixels; these have {shape[1]} x {shape[2]}")
    if width < 1:
        raise Unsupported(f"photos/small[width={width}]: at least one channel is needed")
    layers: list[nn.Module] = []
    inputs = shape[0]
    for i, outputs in enumerate((width, 2 * width, 4 * width, 4 * width)):
        stride = 2 if i < 3 else 1
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, len(classes))]
    return Normalised(nn.Sequential(*layers, *head), torch.tensor(0.5), torch.tensor(0.25))


def resnet18(shape: tuple[int, int, int], classes: Sequence[str], **_: object) -> nn.Module:
    """Return torchvision's ResNet-18 behind ImageNet's normalisation, with fresh weights; `fit` sets others.

    Parameters
    ----------
    shape
        (C, H, W) of the images, C = 3.
    classes
        K names: the network gives K logits.

    Raises
    ------
    Unsupported
        The images have not three channels.
    """
    import torchvision  # three seconds, which only those pay who use it

    if shape[0] != 3:
        raise Unsupported(f"photos/resnet18 takes images of 3 channels, not {shape[0]}")
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (_MEAN, _STD))
    return Normalised(torchvision.models.resnet18(weights=None, num_classes=len(classes)), mean, std)


def fit(context: FitContext) -> dict[str, Tensor]:
    """Train on cross-entropy with every class counting the same, and return the state dict.

    ``weights`` (see `load_weights`) are where the training starts, the last layer only where it has these classes;
    ``epochs=0`` takes them as they are.
    """
    params, module = context.params, context.module
    assert isinstance(module, Normalised)
    if loaded := load_weights(module.network, params.get("weights", "none"), published=_published, head=("fc.",)):
        context.notes["weights"] = asdict(loaded)
        context.report(0, 0, loaded.summary)
    return train_classifier(
        context,
        epochs=params["epochs"],
        batch=params["batch"],
        lr=params["lr"],
        weight_decay=1e-2,
        balance=True,
        augment=mirrored,
    )


def mirrored(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [B,C,H,W], each mirrored sideways or not."""
    turn = torch.rand(len(image), generator=generator) < 0.5
    return torch.where(turn.to(image.device)[:, None, None, None], image.flip(3), image)


def _published() -> Mapping[str, Tensor]:
    import torchvision

    # Named, not the default, which torchvision may move to other weights.
    network: nn.Module = torchvision.models.resnet18(weights="IMAGENET1K_V1", progress=False)
    return network.state_dict()
