"""The network of the source for food photographs, and how it is trained."""

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.data import Dataset, Index, Samples
from xbench.errors import Unsupported
from xbench.fits import FitContext
from xbench.seeds import stable_int
from xbench.training import train_classifier

Plates = Literal["biased", "random"]

SMALLEST_SIDE = 24
# Rounded from the generated dishes (mean .45, deviation .27).
_MEAN, _STD = 0.5, 0.25


class S3(nn.Sequential):
    """The Keras listing of S3: images [B,C,H,W] in [0,1] to logits [B,K].

    Source: Ito, "Grad-CAM" (okonomiyaki against pizza), BrainPad engineers' blog, 2017, section 4-2. Its prose puts a
    pooling behind the third and the fourth convolution; its listing, which is followed here, behind the second too.
    """

    cam_layer = "relu4"
    """The last convolution's output after its ReLU and before the pooling: [B,128,36,36] for 160 x 160."""

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B,K]."""
        logits: Tensor = super().forward((image - _MEAN) / _STD)  # type: ignore[no-untyped-call]
        return logits


def s3(shape: tuple[int, int, int], classes: Sequence[str], **_: object) -> nn.Module:
    """Return S3's network for images of ``shape`` (C,H,W), its first weights drawn as Keras draws them.

    Parameters
    ----------
    shape, classes
        Of the data; no side of the image may be shorter than 24 pixels. For 160 x 160 the flattened maps have 41,472
        entries.

    Raises
    ------
    ValueError
        The images are too small for four convolutions and three poolings.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"food/s3 needs images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels; these have {height} x {width}"
        )
    rows, columns = ((((side - 4) // 2 - 2) // 2 - 2) // 2 for side in (height, width))
    last = nn.Linear(64, len(classes))
    network = S3(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(64, 64, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(64, 128, 3),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
            conv4=nn.Conv2d(128, 128, 3),
            relu4=nn.ReLU(),
            pool4=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(128 * rows * columns, 64),
            relu5=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            dense2=last,
        )
    )
    for module in network:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.uniform_(last.weight, -0.05, 0.05)
    return network


def fit_s3(context: FitContext) -> dict[str, Tensor]:
    """Train on cross-entropy with every class counting the same, and return the state dict.

    The source names batches of 15 and 300 epochs, neither optimiser nor learning rate: Adam with decoupled weight decay
    under a one-cycle schedule is ours, and so are `jitter`, mixup and the average of the weights, without which 500
    photographs of 64 x 64 pixels are learnt by heart.

    Raises
    ------
    Unsupported
        ``plates="random"`` on data whose plates cannot be exchanged.
    """
    params = context.params
    if params["plates"] == "random":
        context = dataclasses.replace(context, dataset=RandomPlates(context.dataset, context.seed))
    return train_classifier(
        context,
        epochs=params["epochs"],
        batch=params["batch"],
        lr=params["lr"],
        weight_decay=1e-2,
        balance=True,
        augment=jitter if params["augment"] else None,
        mixup=0.2 if params["augment"] else 0.0,
        average=0.995,
    )


@dataclass(frozen=True)
class RandomPlates:
    """A data set whose shortcut says nothing of the class: half the samples, by a hash of seed and id, are exchanged for
    themselves on the other plate. A sample is the same in every epoch, so that as many pictures are seen as without.
    """

    dataset: Dataset
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of the data set behind it."""
        return self.dataset.index(split)

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the samples' images, on the plates dealt to them; no truth. Raises Unsupported where none is exchangeable."""
        samples = self.dataset.load(ids)
        if samples.swapped is None:
            raise Unsupported(
                "food/s3[plates=random] needs data whose plates can be exchanged, as food/dishes; these cannot"
            )
        other = np.array([stable_int("plate", self.seed, name, bits=1) for name in ids], bool)
        return Samples(np.where(other[:, None, None, None], samples.swapped, samples.image))


def jitter(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [B,C,H,W] mirrored sideways at random, shifted, scaled and lit otherwise.

    Shifts reach 10 % of the image (what comes in is its mirror image), scales 15 %; brightness, contrast and saturation
    change by up to 20 %.
    """

    def draw(reach: float) -> Tensor:
        return (torch.rand(len(image), generator=generator) * 2 - 1) * reach

    scale, nothing = 1 + draw(0.15), torch.zeros(len(image))
    across = torch.stack([torch.where(draw(1) < 0, -scale, scale), nothing, draw(0.2)], dim=1)
    down = torch.stack([nothing, scale, draw(0.2)], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    brightness, contrast, saturation = ((1 + draw(0.2))[:, None, None, None] for _ in range(3))
    moved = moved * brightness
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    moved = (moved - mean) * contrast + mean
    grey = moved.mean(dim=1, keepdim=True)
    return ((moved - grey) * saturation + grey).clamp(0, 1)
