"""RISE against loops over masks, pixels and samples, and against the closed form of a linear net."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xbench.models import Model
from xbench.seeds import integers, sample_keys, stable_int, uniform
from xbench.tensors import Batch
from xbench_perturbation import rise as module
from xbench_perturbation.rise import random_masks, rise


def batch(count=3, channels=2, height=6, width=9):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % 3
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)).double()
    return Batch(image, ids, target, target, sample_keys(0, ids))


def linear(some, batch_size=512):
    torch.manual_seed(0)
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(some.image[0].numel(), 3)).double(), batch_size=batch_size)


def explain(net, some, *, score="logit", n=40, cells=4, p=0.5, fill="zero", draw=0):
    return rise(net, score, n, cells, p, fill, draw)(some)


def masks(count, height, width, cells, p=0.5, draw=0):
    return random_masks(0, count, torch.zeros(height, width, dtype=torch.float64), cells, p, draw)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_rise_equals_the_loop_over_samples_and_masks(score, fill, p):
    some = batch()
    net = linear(some, batch_size=7)
    expected = torch.zeros(3, 6, 9, dtype=torch.float64)
    for i in range(3):
        image = some.image[i]
        removed = image.mean(dim=(1, 2))[:, None, None] if fill == "mean" else 0
        for mask in masks(40, 6, 9, 4, p):
            shown = mask * image + (1 - mask) * removed
            expected[i] += net.score(shown[None], some.target[i : i + 1], score) * mask / (40 * p)
    torch.testing.assert_close(explain(net, some, score=score, fill=fill, p=p), expected)


@pytest.mark.parametrize(("height", "width", "cells"), [(10, 10, 3), (6, 9, 4), (7, 12, 1), (9, 5, 7)])
@pytest.mark.parametrize(("p", "draw"), [(0.5, 0), (0.3, 7)])
def test_a_mask_is_a_crop_of_the_scaled_grid(height, width, cells, p, draw):
    crops = []
    for i, mask in enumerate(masks(40, height, width, cells, p, draw)):
        key = torch.tensor([[i, stable_int(draw, bits=32)]])
        grid = (uniform(key, "perturbation/rise/grid", (cells, cells)) < p).double()
        cell = [math.ceil(side / cells) for side in (height, width)]
        size = [(cells + 1) * side if side > 1 else cells for side in cell]
        scaled = F.interpolate(grid[None], size=size, mode="bilinear", align_corners=False)[0, 0]
        noise = integers(key, "perturbation/rise/crop", (2,))[0].tolist()
        top, left = noise[0] % cell[0], noise[1] % cell[1]
        torch.testing.assert_close(mask, scaled[top : top + height, left : left + width])
        crops.append((top, left))
    assert {top for top, _ in crops} == set(range(cell[0]))
    assert {left for _, left in crops} == set(range(cell[1]))


@pytest.mark.parametrize(("height", "width", "cells"), [(12, 12, 4), (6, 9, 4), (5, 4, 5)])
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_masks_show_every_pixel_with_odds_p(height, width, cells, p):
    found = masks(4000, height, width, cells, p)
    assert found.min() >= 0
    assert found.max() <= 1
    # No pixel varies more than a single cell does; 4.5 standard errors for up to 144 pixels.
    assert (found.mean(dim=0) - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / 4000)
    assert found.var(dim=0).max() < 1.15 * p * (1 - p)


def test_masks_are_smooth_until_a_cell_is_a_pixel():
    smooth, single = masks(200, 12, 12, 3), masks(200, 12, 12, 12)
    assert ((single == 0) | (single == 1)).all()
    assert smooth.diff(dim=2).abs().max() < 0.25 + 1e-9
    assert smooth.std() > 0.2
    steps = torch.corrcoef(single.flatten(1).T)
    assert (steps - torch.eye(144)).abs().max() < 5 / math.sqrt(200)


def test_masks_are_one_sequence_however_it_is_cut():
    like = torch.zeros(6, 9)
    whole = random_masks(0, 20, like, 4, 0.5)
    assert torch.equal(torch.cat([random_masks(0, 3, like, 4, 0.5), random_masks(3, 17, like, 4, 0.5)]), whole)
    assert not torch.equal(random_masks(0, 20, like, 4, 0.5, draw=1), whole)
    assert not torch.equal(random_masks(0, 20, like, 4, 0.5, draw=-1), whole)
    assert len(whole.flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_rise_of_a_linear_net_with_single_pixel_masks_is_affine_in_the_contributions(p):
    # E S_i = b + p sum_j c_j + (1 - p) c_i, f = b + sum_j c_j m_j with independent m_j.
    some, n = batch(height=3, width=4), 40_000
    net = linear(some)
    found = explain(net, some, n=n, cells=4, p=p)
    rows = net.module[1].weight[some.target].view_as(some.image)
    c, b = (rows * some.image).sum(dim=1), net.module[1].bias[some.target]
    total = c.sum(dim=(1, 2))
    expected = b[:, None, None] + p * total[:, None, None] + (1 - p) * c
    shown = masks(n, 3, 4, 4, p)
    values = b[:, None] + torch.einsum("bhw,nhw->bn", c, shown)
    error = (values[:, :, None, None] * shown / p).std(dim=1) / math.sqrt(n)
    assert ((found - expected).abs() < 4.5 * error).all()
    # The slope is told from 0 by far more than the noise.
    slope = torch.stack([torch.corrcoef(torch.stack([found[i].flatten(), c[i].flatten()]))[0, 1] for i in range(3)])
    assert slope.min() > 0.98


def test_rise_of_a_constant_score_is_how_often_a_pixel_is_shown():
    some = batch()
    net = linear(some)
    net.module[1].weight.zero_()
    expected = net.module[1].bias[some.target][:, None, None] * masks(40, 6, 9, 4).mean(dim=0) / 0.5
    torch.testing.assert_close(explain(net, some), expected)


@pytest.mark.parametrize("block", [1, 6 * 9 * 5, 6 * 9 * 16])
def test_rise_holds_its_masks_in_blocks(block, monkeypatch):
    some, counts = batch(), []
    whole = explain(linear(some), some)
    monkeypatch.setattr(module, "_BLOCK", block)
    real = module.random_masks
    monkeypatch.setattr(
        module, "random_masks", lambda first, count, *rest: counts.append(count) or real(first, count, *rest)
    )
    net = linear(some, batch_size=4)
    torch.testing.assert_close(explain(net, some), whole)
    held = 4 * max(1, block // (6 * 9 * 4))
    assert counts == [held] * (40 // held) + [40 % held] * (40 % held > 0)
