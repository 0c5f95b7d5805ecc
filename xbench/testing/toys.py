"""Small data and networks with known truth, on which components are checked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbench.components import Component
from xbench.data import Bools, Index, Samples
from xbench.fits import FitContext
from xbench.models import Model
from xbench.seeds import stable_int
from xbench.specs import DatasetSpec, ExplainerSpec, ModelSpec
from xbench.tensors import Batch, Explainer, make_batch
from xbench.training import train_classifier

TOY_EXPLAINER = ExplainerSpec(
    package="toy",
    name="slope",
    version=1,
    factory="xbench.testing.toys:slope",
    summary="gradient times image",
    cost={"forwards": 1, "backwards": 1},
)
TOY_MODEL = ModelSpec(
    package="toy",
    name="net",
    version=1,
    factory="xbench.testing.toys:toy_net",
    fit="xbench.testing.toys:fit_toy_net",
)
TOY_DATA = DatasetSpec(
    package="toy",
    name="squares",
    version=1,
    factory="xbench.testing.toys:squares",
    params={"size": 16, "channels": 3, "classes": 2},
    has=("mask", "counterfactual", "shortcut", "swapped"),
)


_GAIN = 12.0
"""On the weights of a toy's last layer, so that its outputs move when an image does."""

_LIFT = 10.0
"""On all logits, which moves no probability: some methods hand out positive logits only."""


@dataclass(frozen=True)
class Setting:
    """A network and its images, in which an explainer is asked.

    Attributes
    ----------
    channels, height, width, classes
        Of images and network.
    one_logit
        A network of one logit for two classes, under the sigmoid link.
    inplace
        ReLUs that overwrite what they read.
    dropout
        Batch normalisation and dropout too: a network of which training mode makes another one.
    """

    channels: int = 3
    height: int = 16
    width: int = 16
    classes: int = 3
    one_logit: bool = False
    inplace: bool = False
    dropout: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def module(self) -> nn.Module:
        """Return the network, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stable_int("toy", self.channels, self.classes))
            return _network(self)

    def model(self) -> Model:
        """Return the classifier."""
        return Model(self.module(), "sigmoid" if self.one_logit else "softmax")

    def data(self) -> "Squares":
        """Return the data set that goes with it."""
        return Squares(self.shape, self.classes)

    def batch(self, count: int = 6, seed: int = 0) -> Batch:
        """Return test samples with all truth; their labels are the targets."""
        data = self.data()
        index = data.index("test")
        ids = tuple(index.ids[:count])
        labels = torch.from_numpy(index.labels[:count])
        return make_batch(data.load(ids), ids, labels, seed, self.classes)


def _network(setting: Setting, gain: float = _GAIN, lift: float = _LIFT) -> nn.Sequential:
    width = 6

    def block(before: int) -> list[nn.Module]:
        made: list[nn.Module] = [nn.Conv2d(before, width, 3, padding=1)]
        made += [nn.BatchNorm2d(width)] if setting.dropout else []
        made += [nn.ReLU(inplace=setting.inplace)]
        return made + ([nn.Dropout(0.5)] if setting.dropout else [])

    seen = width * (setting.height // 4) * (setting.width // 4)
    head = nn.Linear(seen, 1 if setting.one_logit else setting.classes)
    layers = [*block(setting.channels), nn.MaxPool2d(2), *block(width), nn.AvgPool2d(2), nn.Flatten(), head]
    with torch.no_grad():
        head.weight.mul_(gain)
        if not setting.one_logit:
            head.bias.add_(lift)
    return nn.Sequential(*layers).eval()


@dataclass
class Squares:
    """Grainy images of one bright square each, whose column is the class; all truth is known.

    The exact counterfactual has the square in the next class's column. The shortcut is a faint line along the upper border
    of the class's column; in swapped samples it is in the next one.
    """

    shape: tuple[int, int, int]
    classes: int
    count: int = 24
    lift: tuple[float, float] = (0.25, 0.4)
    grain: tuple[float, float] = (0.3, 0.4)

    def index(self, split: str) -> Index:
        """Return the index of a split; every two samples are a group."""
        ids = tuple(f"{split}-{i:03d}" for i in range(self.count))
        digest = hashlib.sha256(f"{self} {split}".encode()).hexdigest()
        labels = (np.arange(self.count) % self.classes).astype(np.int64)
        names = tuple(f"column {i}" for i in range(self.classes))
        return Index(ids, labels, tuple(f"{split}-{i // 2:03d}" for i in range(self.count)), self.shape, names, digest)

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the samples named."""
        made = [self._one(name) for name in ids]
        image, mask, other, shortcut, swapped = (np.stack(parts) for parts in zip(*made, strict=True))
        return Samples(image, mask=mask, mask_class=None, counterfactual=other, shortcut=shortcut, swapped=swapped)

    def _one(self, name: str) -> tuple[Any, ...]:
        _, height, width = self.shape
        label = int(name.rpartition("-")[2]) % self.classes
        rng = np.random.default_rng(stable_int("toy", name, self.shape))
        grain = rng.uniform(*self.grain, self.shape).astype(np.float32)
        top = int(rng.integers(1, height - 4))
        here, there = (np.zeros((height, width), bool) for _ in range(2))
        for line, column in ((here, label), (there, (label + 1) % self.classes)):
            line[0] = np.arange(width) * self.classes // width == column
        mask = self._square(top, label)
        lit, swapped = (grain + np.float32(0.1) * line for line in (here, there))
        lift = np.float32(rng.uniform(*self.lift))
        other = lit + lift * self._square(top, (label + 1) % self.classes)
        return lit + lift * mask, mask, other, here, swapped + lift * mask

    def _square(self, top: int, label: int) -> Bools:
        _, height, width = self.shape
        found = np.zeros((height, width), bool)
        left = (2 * label + 1) * width // (2 * self.classes) - 2
        found[top : top + 4, max(0, left) : left + 4] = True
        return found


def linear(data: Squares) -> Model:
    """Return the classifier that sums up pixels: those of a class's columns speak for it, all others against."""
    channels, height, width = data.shape
    column = (torch.arange(width) * data.classes // width).expand(channels, height, width)
    layer = nn.Linear(channels * height * width, data.classes)
    with torch.no_grad():
        for label in range(data.classes):
            own = (column == label).flatten().float()
            layer.weight[label] = own / own.mean() - 1
        layer.weight.mul_(0.5 / data.classes)
        layer.bias.zero_()
    return Model(nn.Sequential(nn.Flatten(), layer))


def squares(root: object, *, size: int, channels: int, classes: int) -> Squares:
    """Return the toy data set."""
    return Squares((channels, size, size), classes)


def slope(model: Model) -> Explainer:
    """Return an explainer: the gradient of the target's logit times the image's distance from its mean, over channels."""

    def explain(batch: Batch) -> Tensor:
        image = batch.image.detach().requires_grad_(True)
        with torch.enable_grad():
            gradient = torch.autograd.grad(model.score(image, batch.target).sum(), image)[0]
        return (gradient * (batch.image - batch.image.mean(dim=(2, 3), keepdim=True))).sum(dim=1)

    return explain


def toy_net(shape: tuple[int, int, int], classes: tuple[str, ...]) -> nn.Module:
    """Return an untrained net for images of a data set."""
    return _network(Setting(*shape, classes=len(classes)), gain=1.0, lift=0.0)


def fit_toy_net(context: FitContext) -> dict[str, Tensor]:
    """Train it for two epochs."""
    return train_classifier(context, epochs=2, batch=8, lr=0.01)


def toy_component(spec: ExplainerSpec | ModelSpec | DatasetSpec) -> Component:
    """Return a toy as a run would use it."""
    return Component(spec, dict(spec.params))
