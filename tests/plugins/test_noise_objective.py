"""The noise objective against closed forms, finite differences and loops; mask units against the network without them."""

import math

import pytest
import torch
from torch import nn

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_noise.descent import Adam
from xbench_noise.masks import Masked, Recorded
from xbench_noise.objective import GAP_SHARE, NoiseObjective


def batch(count=3, channels=1, height=5, width=6, dtype=torch.float32, seed=0):
    ids = tuple(f"sample {i}" for i in range(count))
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    target = torch.zeros(count, dtype=torch.int64)
    return Batch(image, ids, target, target, sample_keys(seed, ids))


class Functional(nn.Module):
    """Three ReLUs, asked for in three ways: as a module in place, as a function and as a method."""

    def __init__(self, channels, height, width, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.dense = nn.Linear(4 * height * width, 16)
        self.hidden = nn.Linear(16, 16)
        self.out = nn.Linear(16, classes)

    def forward(self, x):
        x = torch.relu(self.dense(self.relu(self.conv(x)).flatten(1)))
        return self.out(self.hidden(x).relu_())


def model(some, classes=4, batch_size=64, link="softmax", seed=0):
    torch.manual_seed(seed)
    net = Functional(*some.image.shape[1:], classes).to(some.image.dtype)
    for parameter in net.parameters():
        parameter.data *= 3  # logits of a size at which noise matters
    return Model(net, link=link, batch_size=batch_size)


def linear(some, weight):
    """A net of logits x @ weight [n,K], without a bias."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(*weight.shape, bias=False)).to(some.image.dtype)
    net[1].weight.data = weight.T.clone()
    return Model(net)


def objective(net, some, *, score="logit", reference="masked", tolerance=0.0, theta=(0.2, 0.0), clamp=False):
    return NoiseObjective(net, some, score, reference, tolerance, theta, clamp)


def levels(some, low=0.0, high=1.0, seed=5):
    size = (len(some), *some.image.shape[2:])
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)).to(some.image.dtype) * (high - low) + low


# Mask units.


def test_thresholds_below_every_output_leave_the_network_as_it_is():
    some = batch()
    net = model(some)
    noisy = some.image + torch.randn_like(some.image)
    recorded = Recorded((-1.0,))
    with recorded:
        clean = net.logits(some.image)
    assert torch.equal(clean, net.logits(some.image))
    assert len(recorded.masks) == 3
    with Masked(recorded.masks):
        masked = net.logits(noisy)
    assert torch.equal(masked, net.logits(noisy))


def test_thresholds_of_zero_change_a_noisy_image_and_not_the_image_itself():
    some = batch()
    net = model(some)
    recorded = Recorded((0.0,))
    with recorded:
        clean = net.logits(some.image)
    noisy = some.image + torch.randn_like(some.image)
    with Masked(recorded.masks):
        assert torch.equal(net.logits(some.image), clean)
    with Masked(recorded.masks):
        masked = net.logits(noisy)
    assert not torch.allclose(masked, net.logits(noisy), atol=0.1)


def test_masks_are_the_outputs_above_each_threshold_in_order_of_execution():
    some = batch()
    net = model(some)
    m = net.module
    first = m.conv(some.image).relu()
    second = m.dense(first.flatten(1)).relu()
    third = m.hidden(second).relu()
    recorded = Recorded((0.2, 0.1))
    with recorded:
        net.logits(some.image)
    wanted = [first > 0.2, second > 0.1, third > 0.1]
    assert all(torch.equal(mask.bool(), want) for mask, want in zip(recorded.masks, wanted, strict=True))
    assert 0 < recorded.masks[0].mean() < 1
    noisy = some.image + torch.randn_like(some.image)
    with Masked(recorded.masks):
        found = net.logits(noisy)
    a, b, c = recorded.masks
    h = m.dense((m.conv(noisy).relu() * a).flatten(1)).relu() * b
    torch.testing.assert_close(found, m.out(m.hidden(h).relu() * c))


def test_copies_and_rows_get_the_masks_of_their_own_image():
    some = batch(3)
    net = model(some)
    recorded = Recorded((0.2, 0.0))
    with recorded:
        net.logits(some.image)
    noise = torch.randn(2, *some.image.shape)
    each = []
    for i in range(3):
        with Masked([mask[i : i + 1] for mask in recorded.masks]):
            each.append(net.logits(some.image[i] + noise[:, i]))
    with Masked(recorded.masks):
        copies = net.logits((some.image + noise).flatten(0, 1)).view(2, 3, -1)
    torch.testing.assert_close(copies, torch.stack(each, dim=1))
    row = torch.tensor([2, 0, 2])
    with Masked(recorded.masks, row):
        rows = net.logits(some.image[row] + noise[0, row])
    torch.testing.assert_close(rows, torch.stack([each[i][0] for i in row]))


def test_a_network_without_relus_has_no_mask_units():
    some = batch()
    net = linear(some, torch.randn(30, 3))
    with pytest.raises(Unsupported, match=r"no ReLU was met .*theta=off"):
        objective(net, some)
    assert objective(net, some, theta=()).agrees.all()


# What is optimised.


def test_no_noise_costs_nothing_against_the_masked_network_and_the_masks_part_against_the_original():
    some = batch()
    net = model(some)
    nothing = torch.zeros(3, 5, 6)
    assert objective(net, some).measure(nothing, 4, "x").excess.tolist() == [0, 0, 0]
    found = objective(net, some, reference="original", tolerance=1e-3, theta=(0.5,))
    masked = objective(net, some, tolerance=1e-3, theta=(0.5,))
    gap = (masked.y - found.y).abs()
    assert torch.allclose(found.y, net.logits(some.image))
    assert gap.amax(dim=1).min() > 0.01
    torch.testing.assert_close(found.reference_gap, gap.amax(dim=1))
    assert found.agrees.tolist() == (masked.y.argmax(1) == found.y.argmax(1)).tolist()
    want = (gap - 1e-3).clamp(min=0).sum(dim=1)
    torch.testing.assert_close(found.measure(nothing, 4, "x").excess, want)


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_tolerance_is_less_than_half_the_gap_of_the_two_largest_outputs(score):
    some = batch()
    net = model(some)
    found = objective(net, some, score=score, theta=())
    y = net.logits(some.image) if score == "logit" else net.logits(some.image).softmax(1)
    torch.testing.assert_close(found.y, y)
    top = y.sort(dim=1).values
    torch.testing.assert_close(found.tolerance, GAP_SHARE * (top[:, -1] - top[:, -2]))
    assert GAP_SHARE < 0.5
    assert objective(net, some, tolerance=0.3).tolerance.tolist() == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("score", ["logit", "prob"])
def test_measure_equals_a_loop_over_images_and_draws(channels, clamp, score):
    some = batch(3, channels)
    net = model(some)
    tolerance = 0.3 if score == "logit" else 0.02
    found = objective(net, some, score=score, tolerance=tolerance, clamp=clamp)
    w = levels(some)
    measured = found.measure(w, 7, "x", 2, slopes=True)
    noise = torch.cat(list(found.noise(7, "x", 2)), dim=1)
    assert noise.shape == (3, 7, *some.image.shape[1:])
    for i in range(3):
        alone = objective(net, some.take(slice(i, i + 1)), score=score, tolerance=tolerance, clamp=clamp)
        leaf, total, hits = w[i].clone().requires_grad_(True), 0, 0
        for u in noise[i]:
            x = some.image[i] + u * leaf
            y = alone.outputs((x.clamp(0, 1) if clamp else x)[None])[0]
            over = ((y - alone.y[0]).abs() - tolerance).clamp(min=0).sum()
            total, hits = total + over / 7, hits + bool(over > 0) / 7
        assert total > 0
        torch.testing.assert_close(measured.excess[i], total.detach())
        assert measured.violated[i].item() == pytest.approx(hits)
        torch.testing.assert_close(measured.slope[i], torch.autograd.grad(total, leaf)[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("clamp", [False, True])
def test_slope_equals_finite_differences_of_the_excess(clamp):
    some = batch(2, 3, dtype=torch.float64)
    found = objective(model(some), some, tolerance=0.4, clamp=clamp)
    w, step = levels(some, 0.2, 0.8), 1e-6
    slope = found.measure(w, 5, "x", slopes=True).slope
    for row, column in [(0, 0), (2, 3), (4, 5)]:
        shift = torch.zeros_like(w)
        shift[:, row, column] = step
        up, down = (found.measure(w + sign * shift, 5, "x").excess for sign in (1, -1))
        torch.testing.assert_close((up - down) / (2 * step), slope[:, row, column], atol=1e-7, rtol=1e-6)
    assert slope.abs().max() > 0.01


@pytest.mark.parametrize("v", [0.5, 3.0])
def test_one_pixel_of_a_linear_net_has_its_closed_form(v):
    """|d| = v w |U|: the excess is (vw - a)^2 / (2vw), its slope (v - a^2 / (v w^2)) / 2, and P(violation) = 1 - a / (vw)."""
    some, a = batch(1, 1, 1, 1, torch.float64), 0.2
    found = objective(linear(some, torch.tensor([[v, 0.0]], dtype=torch.float64)), some, tolerance=a, theta=())
    for w in (0.5, 1.0):
        measured = found.measure(torch.full((1, 1, 1), w, dtype=torch.float64), 40_000, "x", slopes=True, band=0.5)
        assert measured.excess.item() == pytest.approx((v * w - a) ** 2 / (2 * v * w), rel=0.03)
        assert measured.violated.item() == pytest.approx(1 - a / (v * w), rel=0.03)
        slope = (v - a**2 / (v * w**2)) / 2
        assert measured.slope.item() == pytest.approx(slope, rel=0.03)
        # A single pixel: every draw near the tolerance has its U near a / (vw).
        edge = a / (v * w)
        assert measured.bend.item() == pytest.approx(v * (1 - edge**2) / 2, rel=0.08)
        assert v * (1 - edge**2) / 2 == pytest.approx(slope)


def test_bend_is_the_slope_of_a_linear_net_of_many_pixels():
    some = batch(1, 3, 4, 4, torch.float64)
    weight = torch.randn(48, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = objective(linear(some, weight), some, tolerance=5.0, theta=())
    w = levels(some, 0.3, 1.0)
    measured = found.measure(w, 40_000, "x", slopes=True, band=0.1)
    slope, bend = measured.slope.flatten(), measured.bend.flatten()
    assert torch.corrcoef(torch.stack([slope, bend]))[0, 1] > 0.9
    assert bend.sum().item() == pytest.approx(slope.sum().item(), rel=0.1)


def test_a_dead_pixel_has_no_slope_and_grows_by_the_learning_rate_until_it_is_one():
    some = batch(2)
    weight = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    weight[4] = 0
    found = objective(linear(some, weight), some, tolerance=0.5, theta=())
    w = torch.full((2, 5, 6), 0.5)
    measured = found.measure(w, 20, "x", slopes=True, band=0.1)
    assert measured.slope[:, 0, 4].tolist() == measured.bend[:, 0, 4].tolist() == [0, 0]
    descent = Adam.start(w)
    for step in range(1, 7):
        descent.advance(found, 5, 0.1)
        want = min(1.0, 0.5 + 0.1 * step)
        assert descent.w[:, 0, 4].tolist() == pytest.approx([want] * 2, abs=1e-5)


def test_one_logit_counts_as_the_two_it_stands_for():
    some = batch()
    net = model(some, classes=1, link="sigmoid")
    found = objective(net, some, tolerance=0.2)
    assert torch.equal(found.y[:, 0], -found.y[:, 1])
    w = levels(some)
    noise = torch.cat(list(found.noise(6, "x")), dim=1)
    y = torch.stack([found.outputs(some.image + noise[:, j] * w[:, None])[:, 1] for j in range(6)])
    want = 2 * ((y - found.y[:, 1]).abs() - 0.2).clamp(min=0).mean(dim=0)
    torch.testing.assert_close(found.measure(w, 6, "x").excess, want)


@pytest.mark.parametrize("batch_size", [3, 4, 7, 1000])
def test_neither_chunks_nor_company_change_what_is_measured(batch_size):
    some = batch(3, 3)
    w = levels(some)
    whole = objective(model(some), some, tolerance=0.3).measure(w, 9, "x", slopes=True, band=0.2)
    net = model(some, batch_size=batch_size)
    seen = []
    handle = net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = objective(net, some, tolerance=0.3).measure(w, 9, "x", slopes=True, band=0.2)
    handle.remove()
    assert max(seen) <= batch_size
    alone = objective(net, some.take(slice(1, 2)), tolerance=0.3).measure(w[1:2], 9, "x", slopes=True, band=0.2)
    for name in ("excess", "violated", "slope", "bend"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(getattr(alone, name), getattr(whole, name)[1:2], atol=1e-6, rtol=1e-5)
    assert whole.bend.max() > 0


def test_noise_is_uniform_and_every_step_and_stream_draws_its_own():
    some = batch(2, 3, 40, 40)
    found = objective(linear(some, torch.zeros(4800, 2)), some, tolerance=1.0, theta=())
    drawn = [torch.cat(list(found.noise(20, *key)), dim=1) for key in (("x", 0), ("x", 1), ("y", 0))]
    assert drawn[0].shape == (2, 20, 3, 40, 40)  # more than one call of the generator
    assert math.isclose(drawn[0].mean().item(), 0, abs_tol=0.01)
    assert math.isclose(drawn[0].var().item(), 1 / 3, rel_tol=0.01)
    assert drawn[0].abs().max() <= 1
    flat = torch.stack([one.flatten() for one in drawn] + [drawn[0].roll(1, dims=1).flatten()])
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.02


def test_evaluations_are_one_forward_a_draw_and_one_more_each_way_for_every_output_beyond():
    some = batch(3)
    net = model(some)
    found = objective(net, some, tolerance=0.3)
    w = levels(some)
    noise = torch.cat(list(found.noise(9, "x")), dim=1)
    moved = torch.stack([found.outputs(some.image + noise[:, j] * w[:, None]) - found.y for j in range(9)])
    beyond = int((moved.abs() > 0.3).sum())
    before = net.passes.forwards, net.passes.backwards
    found.measure(w, 9, "x", slopes=True)
    assert 0 < beyond < 9 * 3 * 4
    assert net.passes.forwards - before[0] == 27 + beyond
    assert net.passes.backwards - before[1] == beyond
