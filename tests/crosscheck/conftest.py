"""What the comparisons share: seeded nets, images and maps, and a record of how far two implementations lie apart."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation

RECORDED = defaultdict(list)


class Watched(nn.Module):
    """A net that keeps the images it is shown."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []
        self.eval()

    def forward(self, image):
        self.seen.append(image.detach().clone())
        return self.net(image)


@dataclass
class Case:
    """A net, images that it does not find alike, and maps that say nothing of them, without ties."""

    net: nn.Module
    image: torch.Tensor
    target: torch.Tensor
    maps: torch.Tensor
    mean: torch.Tensor

    def watched(self):
        """Return the net, which keeps from now on what it is shown."""
        return Watched(self.net)

    def scene(self, maps=None, mask=None, explain=None, batch_size=7, ids=None):
        """Return what xbench's metrics look at."""
        names = ids or tuple(f"s{i}" for i in range(len(self.image)))
        batch = Batch(self.image, names, self.target, self.target, sample_keys(0, names), mask=mask)
        shared = Backdrop(Model(self.net, batch_size=batch_size), batch, self.mean)

        def rebind(model):
            return lambda other: Explanation(explain(model.module, other.image, other.target))

        return Scene(shared, Explanation(self.maps if maps is None else maps), rebind=rebind if explain else None)


@pytest.fixture
def case():
    """Return a builder of cases; ``side`` may be (height, width), both even."""

    def build(size=6, channels=1, side=12, classes=3, dtype=torch.float32, seed=0, top_class=True):
        generator = torch.Generator().manual_seed(seed)
        height, width = side if isinstance(side, tuple) else (side, side)
        n = height * width

        def drawn(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        convolution, linear = nn.Conv2d(channels, 5, 3, padding=1), nn.Linear(5 * n // 4, classes)
        with torch.no_grad():
            convolution.weight.copy_(drawn(*convolution.weight.shape) / 2)
            linear.weight.copy_(drawn(*linear.weight.shape) / 4)
        image = torch.rand(size, channels, height, width, generator=generator, dtype=torch.float64).to(dtype)
        net = nn.Sequential(convolution, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), linear).to(dtype).eval()
        net.requires_grad_(False)
        linear.bias -= net(image).mean(dim=0)  # no class wins everywhere
        found = net(image).argmax(dim=1)
        target = found if top_class else torch.randint(classes, (size,), generator=generator)
        order = torch.stack([torch.randperm(n, generator=generator) for _ in range(size)])
        maps = ((order + 1) / n - 0.3).view(size, height, width).to(dtype)
        return Case(net, image, target, maps, torch.full((channels,), 0.375, dtype=dtype))

    return build


@pytest.fixture
def agree():
    """Return an assertion that also records how far two implementations lie apart."""

    def check(what, ours, theirs, tolerance):
        one, other = (np.asarray(side, dtype=np.float64) for side in (ours, theirs))
        assert one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}"
        assert one.size
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other), err_msg=what)
        # What is the same everywhere would agree with anything that is computed once.
        known = one[~np.isnan(one)]
        assert np.ptp(known) > 100 * tolerance, f"{what}: nothing varies, from {known.min()} to {known.max()}"
        distance = float(np.nanmax(np.abs(one - other)))
        RECORDED[what, tolerance].append((distance, known.size))
        assert distance <= tolerance, f"{what}: {distance:.3g} apart, {tolerance:g} at most is wanted"

    return check


def pytest_terminal_summary(terminalreporter):
    """Print the table that README.md holds."""
    if not RECORDED:
        return
    terminalreporter.section("largest differences")
    terminalreporter.write_line("| compared | numbers | tolerance | largest difference |\n| --- | --- | --- | --- |")
    for (what, tolerance), found in RECORDED.items():
        largest, count = max(distance for distance, _ in found), sum(size for _, size in found)
        terminalreporter.write_line(f"| {what} | {count} | {tolerance:g} | {largest:.1e} |")
