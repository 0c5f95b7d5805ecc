"""Classifiers of chest films: a small residual network for CPUs, torchvision's large ones, and how they are trained."""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.fits import FitContext
from xbench.training import train_classifier
from xbench.weights import Loaded, load_weights

# Rounded from the phantom (mean .47, deviation .25) and NIH films at 64 pixels (.54, .25).
_MEAN, _STD = 0.5, 0.25
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small(shape: tuple[int, int, int], classes: Sequence[str], *, width: int, **_: object) -> nn.Module:
    """Return a network of 3 residual blocks whose maps keep a quarter of the image's sides (16 x 16 of 64 x 64).

    Dilation rather than a smaller map lets it see the whole chest: over three patient-disjoint splits of 2,200 NIH films
    (trained without grain) it reached a mean AUC of .848, the same blocks without dilation .826, blocks that end in 8 x 8
    maps .818 to .842.

    Parameters
    ----------
    shape
        (C, H, W) of the images; any H and W from 8 up.
    classes
        K names: the network gives K logits.
    width
        Channels of the first convolution; the blocks have twice as many.
    """
    return Small(shape[0], len(classes), width)


class Small(nn.Module):
    """Residual network with batch normalisation; images [B,C,H,W] in [0,1] to logits [B,K] by global average pooling."""

    cam_layer = "features.4"

    def __init__(self, channels: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(channels, width, 3, stride=2),
            nn.ReLU(),
            _Residual(width, 2 * width, stride=2),
            _Residual(2 * width, 2 * width, dilation=2),
            _Residual(2 * width, 2 * width, dilation=4),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B,K]."""
        logits: Tensor = self.head(self.pool(self.features((image - _MEAN) / _STD)).flatten(1))
        return logits


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, 3, stride, dilation), nn.ReLU(), _conv(outputs, outputs, 3, 1, dilation)
        )
        self.skip = nn.Identity() if inputs == outputs and stride == 1 else _conv(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + self.skip(x))
        return out


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False),
        nn.BatchNorm2d(outputs),
    )


def resnet18(shape: tuple[int, int, int], classes: Sequence[str], **_: object) -> nn.Module:
    """Return torchvision's ResNet-18 with fresh weights (`fit_chest` sets others), from films [B,1 or 3,H,W] to K logits."""
    return _Torchvision("resnet18", shape[0], len(classes), "network.layer4")


def resnet50(shape: tuple[int, int, int], classes: Sequence[str], **_: object) -> nn.Module:
    """Return torchvision's ResNet-50 with fresh weights (`fit_chest` sets others), from films [B,1 or 3,H,W] to K logits."""
    return _Torchvision("resnet50", shape[0], len(classes), "network.layer4")


def densenet121(shape: tuple[int, int, int], classes: Sequence[str], **_: object) -> nn.Module:
    """Return torchvision's DenseNet-121 with fresh weights (`fit_chest` sets others), from films [B,1 or 3,H,W] to K logits.

    Its last ReLU is a function inside ``forward``, where no hook reaches it; here it is the module ``network.relu``.
    """
    return _Torchvision("densenet121", shape[0], len(classes), "network.relu")


class _Torchvision(nn.Module):
    """A torchvision network behind ImageNet's normalisation; a grey film becomes three equal channels."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, channels: int, n_classes: int, cam_layer: str) -> None:
        super().__init__()
        import torchvision  # three seconds, which only those pay who use it

        if channels not in (1, 3):
            raise ValueError(f"chestxray/{name} takes images of 1 or 3 channels, not {channels}")
        network = getattr(torchvision.models, name)(weights=None, num_classes=n_classes)
        if name.startswith("densenet"):
            network = _open_densenet(network)
        self.network, self.cam_layer, self.name = network, cam_layer, name
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B,K]."""
        logits: Tensor = self.network((image.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return logits

    def load(self, weights: str) -> Loaded | None:
        """Set weights trained elsewhere, see `load_weights`; ``imagenet`` is torchvision's IMAGENET1K_V1, downloaded.

        The last layer stays as built unless it has K classes in the file too.
        """

        def published() -> Mapping[str, Tensor]:
            import torchvision

            # Named, not the default, which torchvision may move to other weights.
            network: nn.Module = getattr(torchvision.models, self.name)(weights="IMAGENET1K_V1", progress=False)
            return network.state_dict()

        return load_weights(
            self.network, weights, published=published, head=("fc.", "classifier."), rename=_denselayer_name
        )


def _denselayer_name(name: str) -> str:
    """Return today's name of a tensor: torchvision's DenseNet files say ``denselayer1.norm.1`` for ``denselayer1.norm1``."""
    return re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name)


def _open_densenet(network: nn.Module) -> nn.Module:
    """Return the same layers in a row, the last ReLU among them as a module."""
    layers = dict(network.named_children())
    layers = {
        "features": layers["features"],
        "relu": nn.ReLU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": layers["classifier"],
    }
    return nn.Sequential(OrderedDict(layers))


def fit_chest(context: FitContext) -> dict[str, Tensor]:
    """Train on cross-entropy with every class counting the same, and return the state dict.

    With its defaults `small` reaches an accuracy of .96 on the phantom at 64 pixels and on a patient split of 2,238 NIH films
    AUCs of .846, .845 and .857 (fit seeds 0 to 2), in half a minute on one CPU core each.

    ``weights`` (see `load_weights`) are where the training starts; ``epochs=0`` takes them as they are. They are read here
    and not when the network is built, for every worker builds it again to put the trained weights in.
    """
    params = context.params
    if isinstance(context.module, _Torchvision) and (loaded := context.module.load(params["weights"])):
        context.notes["weights"] = asdict(loaded)
        context.report(0, 0, loaded.summary)
    return train_classifier(
        context,
        epochs=params["epochs"],
        batch=params["batch"],
        lr=params["lr"],
        weight_decay=1e-2,
        balance=True,
        augment=augment if params["augment"] else None,
    )


def augment(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return films [B,C,H,W] as the training sees them: `jitter`, then `grain`."""
    return grain(jitter(image, generator), generator)


def jitter(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return films [B,C,H,W] a little moved, turned, scaled and exposed otherwise; never mirrored: the heart has a side.

    Shifts reach 5 % of the image, angles 6 degrees, scales 8 % (the same along both axes, so that no ratio of widths
    changes), contrast 15 % and brightness 0.08.
    """

    def draw(reach: float) -> Tensor:
        return (torch.rand(len(image), generator=generator) * 2 - 1) * reach

    angle, scale, aspect = draw(math.radians(6)), 1 + draw(0.08), image.shape[3] / image.shape[2]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    across = torch.stack([cos, -sin / aspect, draw(0.10)], dim=1)
    down = torch.stack([sin * aspect, cos, draw(0.10)], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (1 + draw(0.15))[:, None, None, None], draw(0.08)[:, None, None, None]
    return ((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def grain(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return films [B,C,H,W] each with a grain of its own, normal, of a standard deviation up to .1.

    Noise as large as the exact change of the heart turned 38 % of the phantom's enlarged hearts for a network that had seen
    no grain, 5 % for one that had, and both were right in 96 to 98 % (`python benchmarks/controls.py`).
    """
    size = torch.rand((len(image), 1, 1, 1), generator=generator) * 0.1
    return (image + size * torch.randn(image.shape, generator=generator)).clamp(0, 1)
