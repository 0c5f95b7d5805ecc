"""Captum's explainers against closed forms, loops, Captum itself, and the same batch cut otherwise."""

import importlib
import itertools
import subprocess
import sys

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import xbench_captum
from xbench.checks import compare, fingerprint
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import integers, sample_keys
from xbench.tensors import Batch, Explanation
from xbench_captum import cells, deeplift, fills, paths
from xbench_captum.twin import Twin

SPECS = {spec.name: spec for spec in xbench_captum.xbench_explainers()}
FEW = {
    "integrated_gradients": {"steps": 6},
    "gradient_shap": {"n": 5},
    "deeplift": {},
    "deeplift_shap": {"n": 3},
    "feature_ablation": {"cells": 3},
    "shapley_sampling": {"cells": 2, "n": 3},
}
DEEP = ("deeplift", "deeplift_shap")


def batch(count=3, channels=2, height=9, width=12, targets=3, dtype=torch.float64, seed=0):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(seed, ids))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    """One ReLU that runs three times, two of them in place, as in torchvision's ResNets."""

    def __init__(self, channels, inplace=True):
        super().__init__()
        self.first, self.second = (nn.Conv2d(i, 4, 3, padding=1) for i in (channels, 4))
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        x = self.relu(self.first(x))
        out = self.relu(self.second(x))
        out += x
        return self.relu(out - 0.5)


def conv_net(some, classes=3, *, pool=None, link="softmax", batch_size=64, inplace=False, activation=None, seed=0):
    torch.manual_seed(seed)
    act = activation or (lambda: nn.ReLU(inplace))
    trunk = [nn.Conv2d(some.image.shape[1], 4, 3, padding=1), act()]
    trunk += [nn.MaxPool2d(2) if pool is None else pool, nn.Conv2d(4, 5, 3), act(), nn.Flatten()]
    trunk = nn.Sequential(*trunk).to(some.image.dtype)
    head = nn.Linear(trunk(some.image[:1]).shape[1], classes).to(some.image.dtype)
    return Model(nn.Sequential(*trunk, head), link=link, batch_size=batch_size)


def linear_net(some, classes=3, batch_size=64):
    torch.manual_seed(0)
    size = some.image[0].numel()
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).to(some.image.dtype), batch_size=batch_size)


def explainer(name, net, **params):
    spec = SPECS[name]
    module, attr = spec.factory.split(":")
    return getattr(importlib.import_module(module), attr)(net, **{**spec.params, **FEW[name], **params})


def explain(name, net, some, **params):
    found = explainer(name, net, **params)(some)
    return found.attribution if isinstance(found, Explanation) else found


def close(result, expected, tolerance=1e-6):
    torch.testing.assert_close(result, expected.to(result), atol=tolerance, rtol=tolerance)


def change(net, some, fill="zero", kind="logit"):
    """Return s(x) - s(fill) [B]."""
    empty = fills.filled(fill, some.image)
    return net.score(some.image, some.target, kind) - net.score(empty, some.target, kind)


# What every explainer of the package keeps to.


@pytest.mark.parametrize(("classes", "link"), [(3, "softmax"), (1, "sigmoid")])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.filterwarnings("error")
def test_every_explainer_gives_one_map_a_sample_and_leaves_everything_as_it_was(name, count, channels, classes, link):
    some = batch(count, channels, targets=2, dtype=torch.float32)
    net, image = conv_net(some, classes, link=link, inplace=True), some.image.clone()
    before, drawn, numbers = fingerprint(net.module), torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.no_grad():
        result = explain(name, net, some)
    assert result.shape == (count, 9, 12)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert not result.requires_grad
    assert result.abs().amax(dim=(1, 2)).min() > 0
    assert torch.equal(some.image, image)
    assert not some.image.requires_grad
    compare(before, net.module)
    assert not any(part.__dict__.keys() & {"input", "output", "input_ref"} for part in net.module.modules())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], numbers)


@pytest.mark.parametrize("name", SPECS)
def test_a_network_that_fails_in_the_middle_is_left_as_it_was(name):
    calls = []

    def fail(x):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("the network gave up")
        return x

    some = batch(dtype=torch.float32)
    net = conv_net(some, batch_size=2)
    net.module.add_module("last", Lambda(fail))
    before, numbers = fingerprint(net.module), np.random.get_state()[1].copy()
    with pytest.raises(RuntimeError, match="gave up"):
        explain(name, net, some)
    compare(before, net.module)
    assert not any(part.__dict__.keys() & {"input", "output"} for part in net.module.modules())
    assert np.array_equal(np.random.get_state()[1], numbers)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(batch_size=st.integers(1, 20), order=st.permutations(range(5)), cut=st.integers(1, 4))
def test_no_explainer_sees_the_batch_its_order_or_the_size_of_a_pass(name, batch_size, order, cut):
    some = batch(5)
    some.image[:, :, 2:5, 3:7] = 0  # equal to the fill: there Captum's own pooling rule mixes samples
    pool = nn.MaxPool2d(3, 2, padding=1)
    whole = explain(name, conv_net(some, pool=pool), some)
    net = conv_net(some, pool=pool, batch_size=batch_size)
    shuffled = Batch(
        some.image[order], tuple(some.sample_id[i] for i in order), *[some.target[order]] * 2, some.keys[order]
    )
    parts = [explain(name, net, shuffled.take(part)) for part in (slice(0, cut), slice(cut, None))]
    close(torch.cat(parts), whole[order])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
@pytest.mark.parametrize("name", SPECS)
def test_no_pass_is_larger_than_the_models_batch_size(name, batch_size):
    some, seen = batch(3), []
    net = conv_net(some, batch_size=batch_size)
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    explain(name, net, some)
    # DeepLIFT needs image and fill side by side.
    assert 1 <= max(seen) <= max(batch_size, 2 if name in DEEP else 1)
    assert sum(seen) == net.passes.forwards


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [
        ("integrated_gradients", 6 + 2, 6),
        ("gradient_shap", 5, 5),
        ("deeplift", 2, 2),
        ("deeplift_shap", 2 * 3, 2 * 3),
        ("feature_ablation", 9 + 1, 0),
        ("shapley_sampling", 3 * (4 + 1) + 2, 0),
    ],
)
def test_explainers_take_the_passes_that_they_say(name, forwards, backwards):
    some = batch(4)
    net = conv_net(some, batch_size=5)
    explain(name, net, some)
    once = 3 if name in DEEP else 0  # the look at the network
    assert (net.passes.forwards, net.passes.backwards) == (4 * forwards + once, 4 * backwards)


@pytest.mark.parametrize("name", SPECS)
def test_only_what_is_declared_stochastic_changes_with_the_seed(name):
    some, net = batch(), conv_net(batch())
    same = torch.equal(explain(name, net, some), explain(name, net, batch(seed=1)))
    assert same != SPECS[name].stochastic
    twins = batch(2, targets=1)
    twins.image[1] = twins.image[0]
    first, second = explain(name, net, twins)
    assert torch.allclose(first, second, atol=1e-9) != SPECS[name].stochastic


@pytest.mark.parametrize("name", SPECS)
def test_the_targets_of_a_one_logit_net_are_opposite(name):
    some = batch()
    net = conv_net(some, 1, link="sigmoid")
    no, yes = (explain(name, net, some.with_target(torch.full((3,), target))) for target in (0, 1))
    close(no, -yes)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("integrated_gradients", {"steps": 0}, "captum/integrated_gradients: steps is 0; at least 1"),
        ("gradient_shap", {"n": 0}, "captum/gradient_shap: n is 0; at least 1"),
        ("deeplift_shap", {"n": -1}, "captum/deeplift_shap: n is -1; at least 1"),
        ("feature_ablation", {"cells": 0}, "captum/feature_ablation: cells is 0; 1 or more"),
        ("shapley_sampling", {"cells": 0}, "captum/shapley_sampling: cells is 0; 1 or more"),
        ("shapley_sampling", {"n": 0}, "captum/shapley_sampling: n is 0; 1 or more"),
    ],
)
def test_a_parameter_out_of_range_is_told(name, params, message):
    with pytest.raises(Unsupported, match=message):
        explainer(name, linear_net(batch()), **params)


@pytest.mark.parametrize("name", ["feature_ablation", "shapley_sampling"])
def test_more_cells_than_pixels_are_told(name):
    some = batch()
    with pytest.raises(Unsupported, match="cells is 10; an image of 9 x 12 pixels has room for 9"):
        explain(name, linear_net(some), some, cells=10)


def test_listing_the_explainers_imports_neither_torch_nor_captum():
    code = "import sys, xbench_captum as x; x.xbench_explainers(); assert not sys.modules.keys() & {'torch', 'captum'}"
    subprocess.run([sys.executable, "-c", code], check=True)


# Fills.


def test_fills_are_the_colours_that_they_say():
    image = batch().image
    for fill, level in (("zero", 0.0), ("grey", 0.5), ("white", 1.0)):
        assert (fills.filled(fill, image) == level).all()
    own = fills.filled("mean", image)
    close(own[1, 0, 3, 4], image[1, 0].mean())
    assert own.shape == image.shape


@pytest.mark.parametrize("fill", ["grey", "noise"])
def test_random_fills_are_uniform_and_come_from_the_key(fill):
    keys = sample_keys(0, [str(i) for i in range(40)])
    found = fills.references(fill, keys, (2, 5, 4), 25, "test")
    assert found.shape == (40, 25, 2, 5, 4)
    assert 0 <= found.min() <= found.max() < 1
    assert abs(found.mean().item() - 0.5) < 0.01
    assert abs(found.std().item() - 12**-0.5) < 0.01
    assert torch.equal(fills.references(fill, keys[7:9], (2, 5, 4), 25, "test"), found[7:9])
    plain = (found == found[:, :, :1, :1, :1]).all()
    assert plain == (fill == "grey")
    if plain:  # one level in each n-th of [0,1]
        assert torch.equal((found[:, :, 0, 0, 0] * 25).long(), torch.arange(25).expand(40, -1))


# Integrated gradients.


@pytest.mark.parametrize("fill", ["zero", "grey", "white", "mean"])
def test_integrated_gradients_of_a_linear_net_are_exact_in_one_step(fill):
    some = batch()
    net = linear_net(some)
    rows = net.module[1].weight[some.target].view_as(some.image)
    expected = (rows * (some.image - fills.filled(fill, some.image))).sum(dim=1)
    for steps in (1, 7):
        close(explain("integrated_gradients", net, some, steps=steps, fill=fill), expected)


def test_integrated_gradients_share_a_product_in_halves():
    some = batch(1, 1, 1, 2)
    some.image[:] = torch.tensor([2.0, 3.0])
    net = Model(Lambda(lambda x: x.flatten(1).prod(dim=1, keepdim=True).repeat(1, 3)))
    close(explain("integrated_gradients", net, some, steps=2), torch.tensor([[[3.0, 3.0]]]))


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_integrated_gradients_equal_the_loop_over_samples_and_steps(score, fill):
    some = batch()
    net = conv_net(some, activation=nn.Softplus)
    place, weight = np.polynomial.legendre.leggauss(7)
    maps = torch.zeros(3, 9, 12, dtype=torch.float64)
    for i in range(3):
        x, target = some.image[i : i + 1], some.target[i : i + 1]
        empty = fills.filled(fill, x)
        for t, w in zip((1 + place) / 2, weight / 2, strict=True):
            point = (empty + t * (x - empty)).requires_grad_()
            slope = torch.autograd.grad(net.score(point, target, score).sum(), point)[0]
            maps[i] += w * ((x - empty) * slope)[0].sum(dim=0)
    close(explain("integrated_gradients", net, some, steps=7, fill=fill, score=score), maps)


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_integrated_gradients_become_complete_and_delta_says_how_nearly(score):
    some = batch()
    net = conv_net(some, activation=nn.Softplus)
    off = []
    for steps in (1, 4, 50):
        found = paths.integrated_gradients(net, score, "zero", steps)(some)
        delta = found.attribution.sum(dim=(1, 2)) - change(net, some, kind=score)
        close(found.extras["delta"], delta)
        off.append(delta.abs().max().item())
    assert off[0] > 10 * off[1]
    assert off[2] < 1e-6


# GradientSHAP.


def draws(some, i, n, fill):
    """Return what Captum's GradientShap draws for one sample: n fills and n places on the path."""
    key = some.keys[i : i + 1]
    known = fills.references(fill, key, some.image.shape[1:], n, "captum/gradient_shap/fills")[0].to(some.image.dtype)
    state = np.random.RandomState(integers(key, "captum/gradient_shap", (4,))[0].numpy())
    chosen = state.choice(n, n)
    return known[chosen], torch.as_tensor(state.uniform(0, 1, n))


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("fill", ["grey", "noise"])
def test_gradient_shap_equals_the_loop_over_samples_and_draws(score, fill):
    some = batch()
    net = conv_net(some, activation=nn.Softplus)
    maps = torch.zeros(3, 9, 12, dtype=torch.float64)
    for i in range(3):
        for empty, t in zip(*draws(some, i, 6, fill), strict=True):
            point = (empty + t * (some.image[i] - empty))[None].requires_grad_()
            slope = torch.autograd.grad(net.score(point, some.target[i : i + 1], score).sum(), point)[0][0]
            maps[i] += ((some.image[i] - empty) * slope).sum(dim=0) / 6
    close(explain("gradient_shap", net, some, n=6, fill=fill, score=score), maps)


def test_gradient_shap_is_what_captum_gives_for_the_sample_alone():
    some = batch()
    net = conv_net(some, batch_size=2)
    maps = []
    for i in range(3):
        known = fills.references("grey", some.keys[i : i + 1], (2, 9, 12), 5, "captum/gradient_shap/fills")[0]
        np.random.seed(integers(some.keys[i : i + 1], "captum/gradient_shap", (4,))[0].numpy())
        found = captum.attr.GradientShap(net.module).attribute(
            some.image[i : i + 1], known.double(), n_samples=5, target=int(some.target[i])
        )
        maps.append(found.sum(dim=1).detach())
    close(explain("gradient_shap", net, some, n=5), torch.cat(maps))


def test_gradient_shap_of_many_draws_adds_up_to_the_difference_from_the_mean_fill():
    some = batch(2)
    weight = torch.linspace(0, 1, some.image[0].numel(), dtype=torch.float64)
    net = Model(Lambda(lambda x: (weight * x.flatten(1) ** 2).sum(dim=1, keepdim=True).repeat(1, 3)), batch_size=4000)
    expected = (weight * some.image.flatten(1) ** 2).sum(dim=1) - weight.sum() / 3  # the mean square of a grey level
    off = [explain("gradient_shap", net, some, n=n).sum(dim=(1, 2)) - expected for n in (1, 4000)]
    assert off[0].abs().max() > 10
    assert off[1].abs().max() < 3


# DeepLIFT.


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_deeplift_of_a_linear_net_is_weight_times_difference(fill):
    some = batch()
    net = linear_net(some)
    rows = net.module[1].weight[some.target].view_as(some.image)
    close(
        explain("deeplift", net, some, fill=fill),
        (rows * (some.image - fills.filled(fill, some.image))).sum(dim=1),
        1e-12,
    )


def test_deeplift_of_two_layers_is_the_rescale_rule_by_hand():
    some = batch(2, 1, 3, 4)
    torch.manual_seed(1)
    first, second = nn.Linear(12, 6).double(), nn.Linear(6, 3).double()
    net = Model(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second))
    x = some.image.flatten(1)
    z, z0 = first(x), first(torch.zeros_like(x))
    ratio = (z.relu() - z0.relu()) / (z - z0)
    expected = x * ((second.weight[some.target] * ratio) @ first.weight)
    close(explain("deeplift", net, some), expected.view(2, 3, 4).detach(), 1e-12)


POOLS = [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.MaxPool2d(3, 1), nn.MaxPool2d((2, 3), (1, 2), dilation=2)]
ACTIVATIONS = [nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_deeplift_adds_up_to_the_change_of_the_logit(activation, pool):
    some = batch()
    net = conv_net(some, pool=pool, activation=activation)
    found = deeplift.deeplift(net, "grey")(some)
    expected = change(net, some, "grey")
    assert expected.abs().min() > 1e-5
    close(found.attribution.sum(dim=(1, 2)), expected, 1e-9)
    close(found.extras["delta"], torch.zeros(3), 1e-9)


def test_delta_tells_what_is_missing_from_the_sum():
    some = batch()
    twin = Twin(conv_net(some), some.image)
    twin.network[0][1].forward = torch.relu  # not through the module on which Captum has its hook
    found = deeplift._explanation(*deeplift._rescale(twin, some.image, torch.zeros_like(some.image), some.target))
    close(found.extras["total"], change(conv_net(some), some), 1e-12)
    close(found.extras["delta"], found.attribution.sum(dim=(1, 2)) - change(conv_net(some), some), 1e-12)
    assert found.extras["delta"].abs().min() > 1e-4


# Captum's rule for pooling is right where windows do not overlap and something stands between it and the activation.
APART = nn.Sequential(nn.AvgPool2d(1), nn.MaxPool2d(2))


@pytest.mark.parametrize("activation", [nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus])
@pytest.mark.parametrize("pool", [APART, nn.AvgPool2d(3, 1)], ids=["max", "average"])
@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks")
def test_deeplift_agrees_with_captum_on_the_network_itself(activation, pool):
    some = batch()
    net = conv_net(some, pool=pool, activation=activation)
    expected = captum.attr.DeepLift(net.module).attribute(
        some.image.clone().requires_grad_(), torch.full_like(some.image, 0.5), target=some.target
    )
    close(explain("deeplift", net, some, fill="grey"), expected.detach().sum(dim=1), 1e-12)


def test_pooling_where_image_and_fill_agree_has_its_own_samples_gradient():
    # Of max(x) with x equal to the fill the multiplier is the gradient: 1 at the maximum, for each sample at its own.
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x[0, 0, 0, 0] = x[1, 0, 1, 1] = 1
    twin = Twin(Model(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)).double()), x)
    pair = torch.cat([x, x]).requires_grad_()
    slope = torch.autograd.grad(twin.network[0][0](pair).sum(), pair)[0]
    assert torch.equal(slope, torch.cat([x, x]))


def test_deeplift_adds_up_where_activations_and_pooling_follow_each_other_directly():
    some = batch()
    net = conv_net(some, activation=lambda: nn.Sequential(nn.Tanh(), nn.Dropout(), nn.ReLU(), nn.Sigmoid()))
    close(explain("deeplift", net, some, fill="mean").sum(dim=(1, 2)), change(net, some, "mean"), 1e-9)


@pytest.mark.parametrize("name", DEEP)
def test_deeplift_does_not_see_whether_activations_work_in_place(name):
    some = batch()
    plain, in_place = (explain(name, conv_net(some, inplace=inplace), some) for inplace in (False, True))
    assert torch.equal(plain, in_place)


def test_deeplift_takes_an_activation_that_runs_several_times():
    some = batch()
    torch.manual_seed(0)
    block = Residual(2)
    net = Model(nn.Sequential(block, block.relu, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)).double())
    found = deeplift.deeplift(net, "zero")(some)
    close(found.attribution.sum(dim=(1, 2)), change(net, some), 1e-9)
    twin = Twin(net, some.image)
    assert torch.equal(twin(some.image), net.logits(some.image))
    assert len(twin.runs) == 4
    assert {id(p) for p in twin.parameters()} == {id(p) for p in net.module.parameters()}


@pytest.mark.parametrize(
    "part",
    [
        Lambda(F.relu),
        Lambda(lambda x: F.max_pool2d(x, 2)),
        Lambda(lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()),
        Lambda(lambda x: x.softmax(dim=1)),
        nn.Softmax(dim=1),
        nn.GELU(),
        nn.ReLU6(),
        nn.GroupNorm(2, 4),
        nn.AdaptiveMaxPool2d(4),
    ],
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize("name", DEEP)
def test_deeplift_says_that_it_has_no_rule_for_part_of_the_network(name, part):
    some = batch()
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), part, nn.Flatten()).double()
    net = Model(nn.Sequential(*trunk, nn.Linear(trunk(some.image[:1]).shape[1], 3).double()))
    with pytest.raises(Unsupported, match="no rule for"):
        explain(name, net, some)


def test_deeplift_says_that_a_network_cannot_be_copied():
    some = batch()
    net = linear_net(some)
    net.module.lock = (i for i in range(3))
    with pytest.raises(Unsupported, match="cannot be copied: cannot pickle"):
        explain("deeplift", net, some)


def test_deeplift_sees_weights_that_change_after_the_explainer_was_built():
    some = batch()
    net = linear_net(some)
    method = explainer("deeplift", net)
    before = method(some).attribution
    net.module[1].weight.mul_(-2)
    close(method(some).attribution, -2 * before, 1e-12)


@pytest.mark.filterwarnings("ignore:.*Setting forward, backward hooks")
@pytest.mark.parametrize("fill", ["grey", "noise"])
def test_deeplift_shap_agrees_with_captum_sample_by_sample(fill):
    some = batch()
    net = conv_net(some, batch_size=5, activation=nn.Tanh, pool=APART)
    maps = []
    for i in range(3):
        known = fills.references(fill, some.keys[i : i + 1], (2, 9, 12), 4, "captum/deeplift_shap")[0].double()
        found = captum.attr.DeepLiftShap(net.module).attribute(
            some.image[i : i + 1].clone().requires_grad_(), known, target=int(some.target[i])
        )
        maps.append(found.detach().sum(dim=1))
    close(explain("deeplift_shap", net, some, n=4, fill=fill), torch.cat(maps), 1e-9)


def test_deeplift_shap_adds_up_to_the_difference_from_the_mean_fill():
    some = batch()
    net = conv_net(some, pool=nn.MaxPool2d(3, 2))
    known = fills.references("grey", some.keys, (2, 9, 12), 4, "captum/deeplift_shap").double()
    base = torch.stack([net.score(known[:, j], some.target) for j in range(4)]).mean(dim=0)
    found = deeplift.deeplift_shap(net, "grey", 4)(some)
    close(found.attribution.sum(dim=(1, 2)), net.score(some.image, some.target) - base, 1e-9)
    close(found.extras["delta"], torch.zeros(3), 1e-9)


# Cells.


def slow_grid(count, height, width):
    """Return the cells of an image as lists of (row, column)."""
    cut = {side: [-(-i * side // count) for i in range(count + 1)] for side in (height, width)}
    return [
        [(y, x) for y in range(*cut[height][i : i + 2]) for x in range(*cut[width][j : j + 2])]
        for i in range(count)
        for j in range(count)
    ]


def with_cells(image, empty, groups, chosen):
    """Return ``empty`` [C,H,W] with some cells of ``image``."""
    result = empty.clone()
    for k in chosen:
        for y, x in groups[k]:
            result[:, y, x] = image[:, y, x]
    return result


def as_map(values, groups, height, width):
    result = torch.zeros(height, width, dtype=torch.float64)
    for value, group in zip(values, groups, strict=True):
        for y, x in group:
            result[y, x] = value / len(group)
    return result


@pytest.mark.parametrize(("height", "width", "count"), [(9, 12, 3), (9, 12, 7), (10, 7, 1), (5, 5, 5)])
def test_cells_cover_the_image_and_differ_by_one_pixel_in_length(height, width, count):
    grid = cells._grid("test", count, torch.zeros(1, 1, height, width))
    expected = torch.zeros(height, width, dtype=torch.long)
    for k, group in enumerate(slow_grid(count, height, width)):
        for y, x in group:
            expected[y, x] = k
    assert torch.equal(grid, expected)
    assert grid.flatten().bincount().min() > 0


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_feature_ablation_equals_the_loop_over_samples_and_cells(score, fill, count):
    some = batch()
    net, groups = conv_net(some), slow_grid(count, 9, 12)
    maps = []
    for i, image in enumerate(some.image):
        empty, target = fills.filled(fill, image[None])[0], some.target[i : i + 1]
        left = [[j for j in range(count**2) if j != k] for k in range(count**2)]
        drop = [
            net.score(image[None], target, score)
            - net.score(with_cells(image, empty, groups, some_cells)[None], target, score)
            for some_cells in left
        ]
        maps.append(as_map(drop, groups, 9, 12))
    close(explain("feature_ablation", net, some, cells=count, fill=fill, score=score), torch.stack(maps), 1e-9)


@pytest.mark.parametrize("name", ["feature_ablation", "shapley_sampling"])
@pytest.mark.parametrize(("height", "width"), [(9, 12), (7, 5)])
def test_cells_of_an_additive_model_get_the_sum_of_their_pixels(name, height, width):
    some = batch(height=height, width=width)
    net = linear_net(some)
    rows = net.module[1].weight[some.target].view_as(some.image)
    pixels = (rows * (some.image - 0.5)).sum(dim=1)
    groups = slow_grid(4, height, width)
    expected = [as_map([sum(one[y, x] for y, x in group) for group in groups], groups, height, width) for one in pixels]
    close(explain(name, net, some, cells=4, fill="grey"), torch.stack(expected).detach())


def test_feature_ablation_of_one_pixel_a_cell_is_captums_own_over_channels():
    some = batch(2, 1, 6, 6)
    net = conv_net(some)
    expected = captum.attr.FeatureAblation(net.module).attribute(some.image, target=some.target)
    close(explain("feature_ablation", net, some, cells=6), expected.sum(dim=1), 1e-9)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("n", [1, 3, 4])
def test_shapley_sampling_equals_the_loop_over_samples_orders_and_cells(score, n):
    some = batch()
    net, groups = conv_net(some), slow_grid(3, 9, 12)
    maps = []
    for i, image in enumerate(some.image):
        key, target = some.keys[i : i + 1], some.target[i : i + 1]
        words = integers(key, "captum/shapley_sampling", ((n + 1) // 2, 9))[0]
        values = torch.zeros(9, dtype=torch.float64)
        for k in range(n):
            order = sorted(range(9), key=lambda cell, row=words[k // 2]: int(row[cell]), reverse=k % 2 == 1)
            for place in range(9):
                both = torch.stack(
                    [with_cells(image, torch.zeros_like(image), groups, order[: place + more]) for more in (0, 1)]
                )
                less, more = net.score(both, target.expand(2), score).detach()
                values[order[place]] += (more - less) / n
        maps.append(as_map(values, groups, 9, 12))
    close(explain("shapley_sampling", net, some, cells=3, n=n, score=score), torch.stack(maps))


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_shapley_sampling_adds_up_to_the_change_of_the_score(score):
    some = batch()
    net = conv_net(some)
    result = explain("shapley_sampling", net, some, fill="mean", score=score).sum(dim=(1, 2))
    close(result, change(net, some, "mean", score))


def test_shapley_sampling_shares_what_pairs_of_cells_do_together_exactly_in_two_orders():
    some = batch(channels=1, height=4, width=4, targets=1)
    torch.manual_seed(0)
    matrix = torch.randn(16, 16, dtype=torch.float64)
    net = Model(Lambda(lambda x: torch.einsum("bi,ij,bj->b", x.flatten(1), matrix, x.flatten(1))[:, None].repeat(1, 3)))
    x = some.image.flatten(1)
    # Half of x_i A_ij x_j goes to i and half to j.
    expected = (x * (x @ (matrix + matrix.T)) / 2).view(3, 4, 4)
    close(explain("shapley_sampling", net, some, cells=4, n=2), expected, 1e-5)
    assert (explain("shapley_sampling", net, some, cells=4, n=1) - expected).abs().max() > 0.1


def test_shapley_sampling_approaches_the_shapley_values():
    some = batch(2)
    net, groups = conv_net(some, activation=nn.Softplus, batch_size=4096), slow_grid(2, 9, 12)
    expected = []
    for i, image in enumerate(some.image):
        values = torch.zeros(4, dtype=torch.float64)
        for order in itertools.permutations(range(4)):
            states = [with_cells(image, torch.zeros_like(image), groups, order[:k]) for k in range(5)]
            scores = net.score(torch.stack(states), some.target[i].expand(5)).detach()
            values[list(order)] += scores.diff() / 24
        expected.append(as_map(values, groups, 9, 12))
    expected = torch.stack(expected)
    result = explain("shapley_sampling", net, some, cells=2, n=1000)
    assert (result - expected).abs().max() < 0.01 * expected.abs().max()
