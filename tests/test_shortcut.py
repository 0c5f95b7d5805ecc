"""The shortcut metrics on a network whose rule is known."""

import pytest
import torch
from torch import nn

from xbench.metrics.shortcut import shortcut_share, swap_accuracy
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation


class Reads(nn.Module):
    """Logits [-v, v] of what a column of pixels holds beyond one half."""

    def __init__(self, column):
        super().__init__()
        self.column = column

    def forward(self, x):
        v = x[:, 0, :, self.column].mean(dim=1) - 0.5
        return torch.stack([-v, v], dim=1)


def batch(bias):
    """Column 0 is the object, column 3 the shortcut; in a share of samples the shortcut disagrees with the label."""
    n = 8
    label = torch.arange(n) % 2
    agrees = torch.arange(n) < bias * n
    image = torch.full((n, 1, 4, 4), 0.5)
    image[:, 0, :, 0] = label[:, None].float()
    image[:, 0, :, 3] = torch.where(agrees, label, 1 - label)[:, None].float()
    swapped = image.clone()
    swapped[:, 0, :, 3] = 1 - image[:, 0, :, 3]
    shortcut = torch.zeros(n, 4, 4, dtype=torch.bool)
    shortcut[:, :, 3] = True
    ids = tuple(map(str, range(n)))
    return Batch(image, ids, label, label, sample_keys(0, ids), shortcut=shortcut, swapped=swapped)


@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0])
def test_swapping_the_shortcut_turns_round_who_looks_at_it_and_leaves_alone_who_does_not(bias):
    some = batch(bias)
    looks, does_not = (swap_accuracy()(Scene(Backdrop(Model(Reads(c)), some, torch.zeros(1)))) for c in (3, 0))
    assert looks["swap_accuracy"].mean() == 1 - bias
    assert looks["swap_flip_rate"].tolist() == [1] * 8
    assert does_not["swap_accuracy"].tolist() == [1] * 8
    assert does_not["swap_flip_rate"].tolist() == [0] * 8


def share(maps):
    some = batch(1.0)
    explanation = Explanation(maps.expand(8, 4, 4))
    return shortcut_share()(Scene(Backdrop(Model(Reads(0)), some, torch.zeros(1)), explanation))


def test_share_is_the_positive_mass_on_the_shortcut_and_its_area_by_chance():
    on, off, mixed = torch.zeros(3, 4, 4)
    on[:, 3], off[:, 0] = 2.0, 1.0
    mixed[0, 3], mixed[0, 0], mixed[1, 1] = 3.0, 1.0, -9.0
    assert share(on)["shortcut_share"].tolist() == [1] * 8
    assert share(off)["shortcut_share"].tolist() == [0] * 8
    assert share(mixed)["shortcut_share"].tolist() == [0.75] * 8
    for maps in (torch.ones(4, 4), torch.zeros(4, 4)):
        assert share(maps)["shortcut_share"].tolist() == share(maps)["shortcut_share.chance"].tolist() == [0.25] * 8


def test_a_sample_without_a_shortcut_has_no_share():
    some = batch(1.0)
    some.shortcut[2] = False
    found = shortcut_share()(Scene(Backdrop(Model(Reads(0)), some, torch.zeros(1)), Explanation(torch.ones(8, 4, 4))))
    assert found["shortcut_share"].isnan().tolist() == [i == 2 for i in range(8)]
