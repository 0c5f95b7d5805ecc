"""The noise explainer: its optimum against closed forms, its invariances, and what it leaves behind."""

from functools import partial

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import xbench_noise
from xbench.checks import compare, fingerprint
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_noise.descent import Adam, adam
from xbench_noise.descent import boundary as boundary_of_share
from xbench_noise.explainer import HELD_OUT, PRESETS, noncontributing
from xbench_noise.objective import NoiseObjective

boundary = partial(boundary_of_share, share=0.9)
SPEC = xbench_noise.xbench_explainers()[0]


def batch(count=3, channels=1, height=6, width=7, seed=0):
    ids = tuple(f"sample {i}" for i in range(count))
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(count, dtype=torch.int64)
    return Batch(image, ids, target, target, sample_keys(seed, ids))


def relu_net(some, classes=4, batch_size=64, link="softmax", inplace=True):
    torch.manual_seed(0)
    channels, height, width = some.image.shape[1:]
    net = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.Flatten(),
        nn.Linear(4 * height * width, 16),
        nn.ReLU(inplace=inplace),
        nn.Linear(16, classes),
    )
    for parameter in net.parameters():
        parameter.data *= 3  # logits of a size at which noise matters
    return Model(net, link=link, batch_size=batch_size)


def linear(some, weight):
    net = nn.Sequential(nn.Flatten(), nn.Linear(*weight.shape, bias=False)).to(some.image.dtype)
    net[1].weight.data = weight.T.clone()
    return Model(net)


def explain(net, some, **params):
    return noncontributing(net, **{**SPEC.params, "steps": 10, "draws": 6, **params})(some)


def objective(net, some, tolerance=0.0, theta=(0.2, 0.0)):
    return NoiseObjective(net, some, "logit", "masked", tolerance, theta, clamp=False)


def start(some, value=0.5):
    return torch.full((len(some), *some.image.shape[2:]), value)


# The optimum.


@pytest.mark.parametrize("way", [adam, boundary])
def test_one_pixel_of_a_linear_net_ends_at_its_closed_form(way):
    """The term is (vw - a)^2 / (2vw); with one pixel its optimum is a / sqrt(v (v - 2)) for v > 2."""
    v, a = 3.0, 0.5
    some = batch(6, 1, 1, 1)
    found = objective(linear(some, torch.tensor([[v, 0.0]])), some, tolerance=a, theta=())
    w = way(found, start(some), 120, 100, 0.01 if way is adam else 0.3)
    want = a / (v * (v - 2)) ** 0.5
    assert w.mean().item() == pytest.approx(want, rel=0.06)
    assert w.std() < 0.15 * want


@pytest.mark.parametrize("way", [adam, boundary])
def test_pixels_that_do_not_matter_end_at_one_and_the_others_in_the_order_of_their_weights(way):
    some = batch(2)
    size = torch.linspace(0, 4, 42)[torch.randperm(42, generator=torch.Generator().manual_seed(0))]
    size[:10] = 0
    found = objective(linear(some, torch.stack([size, -size], dim=1)), some, tolerance=4.0, theta=())
    w = way(found, start(some), 150, 40, 0.02 if way is adam else 0.3).flatten(1)
    assert w[:, :10].min() > 0.98
    order = spearmanr(w[0, 10:], -size[10:]).statistic
    assert order > (0.8 if way is adam else 0.9)
    assert w[:, size > 3].mean() < 0.8


def test_boundary_reaches_the_objective_of_adam_with_a_tenth_of_its_draws():
    some = batch(2)
    net = relu_net(some)
    found = objective(net, some)
    slow = adam(found, start(some), 200, 50, 0.01)
    quick = boundary(found, start(some), 100, 10, 0.3)
    values = [found.measure(w, 1000, "fresh").excess - w.mean(dim=(1, 2)) for w in (start(some), slow, quick)]
    assert (values[1] < values[0] - 0.02).all()
    assert values[2].mean() < values[1].mean() + 0.02


def test_a_step_of_boundary_is_a_factor_within_bounds_that_the_learning_rate_sets():
    some = batch(2)
    w = start(some, 0.1)
    factor = boundary(objective(relu_net(some), some, tolerance=0.001), w, 1, 8, 0.3) / w
    assert factor.min().item() == pytest.approx(torch.tensor(-0.3).exp().item())
    assert factor.max() <= torch.tensor(0.3).exp() * 1.0001


def test_w_stays_between_zero_and_one_on_the_way():
    some = batch(2)
    descent = Adam.start(start(some))
    found = objective(relu_net(some), some, tolerance=0.05)
    lowest, highest = 1.0, 0.0
    for _ in range(30):
        descent.advance(found, 4, 0.2)
        lowest, highest = min(lowest, descent.w.min().item()), max(highest, descent.w.max().item())
    assert (lowest, highest) == (0, 1)


def test_adam_takes_the_steps_of_its_paper_and_ends_each_in_zero_to_one():
    some = batch(2)
    found = objective(relu_net(some), some, tolerance=0.3)
    w, m, v = start(some).double(), 0.0, 0.0
    for t in range(1, 16):
        g = (found.measure(w.float(), 4, "descent", t - 1, slopes=True).slope - 1 / 42).double()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = (w - 0.05 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)).clamp(0, 1)
    assert (w == 1).any()
    torch.testing.assert_close(adam(found, start(some), 15, 4, 0.05), w.float(), atol=1e-4, rtol=0)


def test_a_descent_left_and_taken_up_again_ends_where_it_would_have():
    some = batch(2)
    found = objective(relu_net(some), some, tolerance=0.3)
    first = Adam.start(start(some))
    for _ in range(4):
        first.advance(found, 5, 0.03)
    second = Adam(first.w.clone(), first.mean.clone(), first.square.clone(), first.step)
    for _ in range(6):
        second.advance(found, 5, 0.03)
    assert torch.equal(second.w, adam(found, start(some), 10, 5, 0.03))


# The explainer.


def test_the_papers_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.descend, paper.steps, paper.draws, paper.lr) == (adam, 15_000, 100, 1e-4)
    assert SPEC.params["theta"] == "0.2:0:0"
    assert SPEC.params["w0"] == 0.5
    assert SPEC.polarity == "non_contributing"


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize(("channels", "classes", "link"), [(1, 4, "softmax"), (3, 1, "sigmoid")])
@pytest.mark.parametrize("inplace", [True, False])
def test_maps_lie_in_zero_to_one_and_the_model_is_left_as_it_was(preset, channels, classes, link, inplace):
    some = batch(3, channels)
    net = relu_net(some, classes, link=link, inplace=inplace)
    before, image = fingerprint(net.module), some.image.clone()
    with torch.no_grad():
        found = explain(net, some, preset=preset, lr=0.05)
    compare(before, net.module)
    assert torch.equal(some.image, image)
    assert found.attribution.shape == (3, 6, 7)
    assert found.attribution.dtype == torch.float32
    assert not found.attribution.requires_grad
    assert found.attribution.min() >= 0
    assert found.attribution.max() <= 1
    assert found.attribution.std() > 0.01
    assert set(found.extras) == {"objective", "coverage", "violation", "reference_gap", "masked_agrees"}
    assert all(value.shape == (3,) and value.isfinite().all() for value in found.extras.values())


def test_in_place_relus_and_others_give_one_map():
    some = batch()
    one, other = (explain(relu_net(some, inplace=flag), some).attribution for flag in (True, False))
    assert torch.equal(one, other)


@pytest.mark.parametrize("preset", ["draft", "paper"])
@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_neither_company_nor_chunks_change_a_map(preset, batch_size):
    some = batch(5)
    params = {"preset": preset, "lr": 0.05}
    whole = explain(relu_net(some), some, **params)
    seen = []
    net = relu_net(some, batch_size=batch_size)
    handle = net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = explain(net, some, **params)
    handle.remove()
    assert max(seen) <= batch_size
    torch.testing.assert_close(found.attribution, whole.attribution, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.extras["objective"], whole.extras["objective"], atol=1e-3, rtol=0)
    alone = explain(net, some.take(slice(3, 4)), **params).attribution
    torch.testing.assert_close(alone, whole.attribution[3:4], atol=1e-4, rtol=0)


def test_two_seeds_agree_on_the_order_of_pixels_and_are_not_the_same():
    one, other = batch(3), batch(3, seed=1)
    maps = [explain(relu_net(some), some, steps=100, draws=20).attribution for some in (one, other)]
    assert not torch.equal(*maps)
    assert min(spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*maps, strict=True)) > 0.7


def test_extras_are_measured_on_draws_of_their_own():
    some = batch()
    net = relu_net(some)
    found = explain(net, some, tolerance=0.5)
    w, check = found.attribution, objective(net, some, tolerance=0.5)
    fresh = check.measure(w, HELD_OUT, "held out")
    assert torch.equal(found.extras["coverage"], w.mean(dim=(1, 2)))
    torch.testing.assert_close(found.extras["objective"], fresh.excess - w.mean(dim=(1, 2)))
    torch.testing.assert_close(found.extras["violation"], fresh.violated)
    assert not torch.equal(fresh.excess, check.measure(w, HELD_OUT, "descent").excess)
    torch.testing.assert_close(found.extras["reference_gap"], check.reference_gap)
    assert found.extras["reference_gap"].max() > 0


def test_every_parameter_moves_the_map():
    some = batch()
    usual = explain(relu_net(some), some).attribution
    changes = [
        {"score": "prob"},
        {"reference": "original"},
        {"tolerance": 0.1},
        {"theta": "off"},
        {"theta": "0.5"},
        {"steps": 11},
        {"draws": 7},
        {"lr": 0.1},
        {"w0": 0.9},
        {"clamp": True},
        {"preset": "paper"},
        {"preset": "fast"},
    ]
    for change in changes:
        assert not torch.equal(explain(relu_net(some), some, **change).attribution, usual), change


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": -1}, "noise/noncontributing: steps is -1; a value above 0"),
        ({"draws": -2}, "draws is -2"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"w0": 1.5}, "w0 is 1.5; a start in"),
        ({"w0": 0.0}, "w0 is 0.0"),
        ({"theta": "none"}, "theta is 'none'; numbers like 0.2:0:0, or off"),
        ({"theta": ""}, "theta is ''"),
        ({"theta": "0.2:nan"}, "theta is '0.2:nan'"),
    ],
)
def test_what_is_out_of_range_is_named(params, message):
    with pytest.raises(Unsupported, match=message):
        explain(relu_net(batch()), batch(), **params)


def test_an_exception_on_the_way_leaves_the_model_as_it_was():
    some = batch()
    net = relu_net(some)
    before, calls = fingerprint(net.module), []
    forward = net.module[5].forward

    def breaks(x):
        calls.append(len(x))
        if len(calls) == 5:
            raise RuntimeError("broken")
        return forward(x)

    net.module[5].forward = breaks
    with pytest.raises(RuntimeError, match="broken"):
        explain(net, some)
    net.module[5].forward = forward
    compare(before, net.module)
    clean = relu_net(some)
    assert torch.equal(net.logits(some.image + 3), clean.logits(some.image + 3))


def test_a_net_without_relus_is_explained_without_mask_units_only():
    some = batch()
    net = linear(some, torch.randn(42, 3, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(Unsupported, match="no ReLU was met"):
        explain(net, some)
    assert explain(net, some, theta="off").extras["reference_gap"].tolist() == [0, 0, 0]
