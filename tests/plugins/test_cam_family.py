"""Grad-CAM++, LayerCAM, Score-CAM and Guided Grad-CAM against closed forms, loops, derivatives and Captum."""

import importlib
import itertools

import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import xbench_cam
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_cam import guided
from xbench_cam.gradcam import (
    Cam,
    activation_gradients,
    class_activation,
    gradcam,
    gradcam_pp,
    layercam,
    mean_gradient,
    plus_plus_weight,
)
from xbench_cam.guided import guided_gradcam
from xbench_cam.scorecam import masked_scores, scorecam
from xbench_gradients.guided import guided_gradient

SPECS = {spec.name: spec for spec in xbench_cam.xbench_explainers()}
# Every explainer with every choice of its parameters, the layer apart.
CASES = [
    pytest.param(spec, dict(zip(options, values, strict=True)), id=f"{spec.name} {' '.join(map(str, values))}")
    for spec in SPECS.values()
    for options in [{name: spec.choices.get(name, (False, True)) for name in spec.params if name != "layer"}]
    for values in itertools.product(*options.values())
]
VARIANTS = ("cic", "softmax", "score")


def batch(count=3, channels=2, height=9, width=12, targets=3, dtype=torch.float64):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(0, ids))


def gap_net(channels=2, classes=3, *, width=5, inplace=False, stride=1, batch_size=64, dtype=torch.float64):
    """Return a net whose last layer is linear in the spatial means of its last feature maps, module 3."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(inplace),
        nn.Conv2d(4, width, 3, stride=stride, padding=1),
        nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )
    return Model(module.to(dtype), batch_size=batch_size)


def dense_net(some, classes=3, *, inplace=False, link="softmax", batch_size=64):
    """Return a net whose head is a pooling layer and two dense layers; module 1 gives its feature maps."""
    torch.manual_seed(25)  # weights with which no explainer's map is blank
    trunk = nn.Sequential(nn.Conv2d(some.image.shape[1], 5, 3, stride=2), nn.ReLU(inplace)).double()
    pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    size = pool(trunk(some.image[:1].double())).shape[1]
    head = nn.Sequential(nn.Linear(size, 8), nn.ReLU(inplace), nn.Linear(8, classes)).double()
    return Model(nn.Sequential(*trunk, *pool, *head).to(some.image.dtype), link=link, batch_size=batch_size)


def explain(spec, params, net, some, layer=""):
    module, name = spec.factory.split(":")
    return getattr(importlib.import_module(module), name)(net, layer=layer, **params)(some)


def upsampled(grid, some):
    return F.interpolate(grid[None, None], size=some.image.shape[-2:], mode="bilinear")[0, 0]


def taps(net, some, score="logit"):
    """Return a layer's maps and gradients, one sample at a time, without the model's own tap."""
    activations, gradients = [], []
    for i in range(len(some)):
        activation = net.module[:2](some.image[i : i + 1]).detach().requires_grad_()
        logits = net.module[2:](activation.clone())
        if logits.shape[1] == 1:
            logits = torch.cat([-logits, logits], dim=1)
        values = logits if score == "logit" else net.prob(logits)
        gradients.append(torch.autograd.grad(values[0, some.target[i]], activation)[0][0])
        activations.append(activation.detach()[0])
    return activations, gradients


# All of them


@pytest.mark.parametrize(("spec", "params"), CASES)
@pytest.mark.parametrize(("channels", "classes", "count"), [(1, 1, 1), (3, 1, 2), (1, 3, 2), (3, 3, 1)])
def test_maps_are_those_of_each_image_alone_and_of_relus_not_in_place(spec, params, channels, classes, count):
    some = batch(count, channels, 9, 14, targets=2)
    link = "sigmoid" if classes == 1 else "softmax"
    result = explain(spec, params, dense_net(some, classes, inplace=True, link=link), some)
    assert result.attribution.shape == (count, 9, 14)
    assert result.attribution.isfinite().all()
    alone = [
        explain(spec, params, dense_net(some, classes, link=link), some.take(slice(i, i + 1))) for i in range(count)
    ]
    joined = torch.cat([one.attribution for one in alone])
    torch.testing.assert_close(result.attribution, joined, atol=1e-14, rtol=1e-9)
    for name, value in result.extras.items():
        torch.testing.assert_close(value, torch.cat([one.extras[name] for one in alone]), atol=1e-14, rtol=1e-9)
    assert result.attribution.max() > 0


@settings(max_examples=12, deadline=None, derandomize=True)
@given(batch_size=st.integers(1, 8), cuts=st.sets(st.integers(1, 5), max_size=3), case=st.sampled_from(CASES))
def test_maps_do_not_depend_on_batch_or_chunk(batch_size, cuts, case):
    spec, params = case.values
    some = batch(6)
    whole = explain(spec, params, dense_net(some), some)
    bounds = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    net, seen = dense_net(some, batch_size=batch_size), []
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    parts = [explain(spec, params, net, some.take(slice(start, stop)), "1") for start, stop in bounds]
    torch.testing.assert_close(torch.cat([one.attribution for one in parts]), whole.attribution, atol=1e-14, rtol=1e-9)
    for name, value in whole.extras.items():
        torch.testing.assert_close(torch.cat([one.extras[name] for one in parts]), value, atol=1e-14, rtol=1e-9)
    assert max(seen) <= batch_size


@pytest.mark.parametrize(("spec", "params"), CASES)
def test_the_model_is_left_as_it_was_also_after_an_exception(spec, params):
    some = batch(dtype=torch.float32)
    net, image = dense_net(some, inplace=True), some.image.clone()
    weights = {key: value.clone() for key, value in net.module.state_dict().items()}

    def untouched():
        assert all(torch.equal(value, weights[key]) for key, value in net.module.state_dict().items())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.module.parameters())
        assert not any(part._forward_hooks or part._backward_hooks for part in net.module.modules())
        assert not net.module.training
        assert torch.equal(some.image, image)

    found = explain(spec, params, net, some)
    assert found.attribution.dtype == torch.float32
    assert not found.attribution.requires_grad
    untouched()

    def broken(module, inputs):
        raise RuntimeError("broken")

    handle = net.module[-1].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        explain(spec, params, net, some, "1")
    handle.remove()
    untouched()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_layer_without_maps_is_unsupported_and_a_wrong_name_is_told(spec):
    some, params = batch(), {name: value for name, value in spec.params.items() if name != "layer"}
    with pytest.raises(Unsupported, match="'6' gives no feature maps"):
        explain(spec, params, gap_net(), some, "6")
    with pytest.raises(ValueError, match="no layer 'convolution'"):
        explain(spec, params, gap_net(), some, "convolution")


@pytest.mark.parametrize(("spec", "params"), CASES)
def test_the_reference_is_what_the_logit_gives_on_the_same_images(spec, params):
    some = batch()
    found = explain(spec, params, dense_net(some, batch_size=2), some)
    logit = explain(spec, params | {"score": "logit"} if "score" in params else params, dense_net(some), some)
    torch.testing.assert_close(found.extras["reference"], logit.attribution.amax(dim=(1, 2)), atol=0, rtol=1e-12)
    torch.testing.assert_close(found.extras["reference_weight"], logit.extras["weight"], atol=0, rtol=1e-12)
    if params.get("score") == "prob":
        assert not torch.allclose(found.extras["reference"], found.attribution.amax(dim=(1, 2)))


# Grad-CAM++


@pytest.mark.parametrize("normalise", [False, True])
def test_plus_plus_weights_of_a_gap_net_have_their_closed_form(normalise):
    some, net = batch(), gap_net()
    activation, (gradient,) = activation_gradients(net, some.image, some.target, ("logit",))
    row = net.module[-1].weight[some.target]
    assert row.min() < 0 < row.max()
    # g = w / Z at every place, S = Z mean(A): the sum over Z places of g / (2 + g S), or of g / Z.
    expected = row.clamp(min=0) / (108 if normalise else 2 + row.clamp(min=0) * activation.mean(dim=(2, 3)))
    result = plus_plus_weight(activation, gradient, normalise)[:, :, 0, 0]
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-9)


def test_plus_plus_with_normalised_alpha_is_gradcam_if_and_only_if_no_class_weight_is_negative():
    some, net = batch(), gap_net(stride=2)
    plain, normalised = gradcam(net, "logit", "")(some), gradcam_pp(net, "", True)(some)
    assert not torch.allclose(plain.attribution, normalised.attribution)
    net.module[-1].weight.abs_()
    plain, normalised = gradcam(net, "logit", "")(some), gradcam_pp(net, "", True)(some)
    torch.testing.assert_close(plain.attribution, normalised.attribution, atol=1e-12, rtol=1e-9)
    unnormalised = gradcam_pp(net, "", False)(some).attribution
    alive = plain.attribution > 1e-3
    ratio = unnormalised[alive] / plain.attribution[alive]
    assert ratio.amax() / ratio.amin() > 1.001


def test_alpha_is_the_ratio_of_the_second_and_third_derivatives_of_the_exponential():
    # A head that is piecewise linear, so that the derivatives of exp(s) are those the closed form is made of.
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    activation = torch.rand(1, 3, 2, 2, dtype=torch.float64).requires_grad_()
    gradient = torch.autograd.grad(head(activation).sum(), activation)[0]
    y = head(activation).exp().sum()
    first = torch.autograd.grad(y, activation, create_graph=True)[0]
    expected = torch.zeros(3, dtype=torch.float64)
    for k, i, j in itertools.product(range(3), range(2), range(2)):
        second = torch.autograd.grad(first[0, k, i, j], activation, create_graph=True)[0][0, k, i, j]
        third = torch.autograd.grad(second, activation, retain_graph=True)[0][0, k, i, j]
        alpha = second / (2 * second + activation[0, k].sum() * third)
        expected[k] += (alpha * (first[0, k, i, j] / y).clamp(min=0)).detach()
    assert gradient.min() < 0 < gradient.max()
    torch.testing.assert_close(plus_plus_weight(activation.detach(), gradient, False)[0, :, 0, 0], expected)


def test_plus_plus_weights_of_vanishing_gradients_are_half_their_positive_sums():
    some = batch()
    net = dense_net(some)
    activation, (gradient,) = activation_gradients(net, some.image, some.target, ("logit",))
    half = gradient.clamp(min=0).sum(dim=(2, 3), keepdim=True) / 2
    for scale, tolerance in ((1e-3, 1e-2), (1e-6, 1e-5), (1e-12, 1e-11)):
        torch.testing.assert_close(
            plus_plus_weight(activation, scale * gradient, False) / scale, half, atol=0, rtol=tolerance
        )
    assert not torch.allclose(plus_plus_weight(activation, gradient, False), half, rtol=1e-2)


@pytest.mark.parametrize("normalise", [False, True])
def test_plus_plus_equals_the_loop_over_samples_channels_and_places(normalise):
    some = batch(2, 3, 9, 14)
    net = dense_net(some)
    maps = []
    for activation, gradient in zip(*taps(net, some), strict=True):
        grid = torch.zeros_like(activation[0])
        for feature, slope in zip(activation, gradient, strict=True):
            alpha = {
                place: 1 / (2 + float(slope[place]) * float(feature.sum()))
                for place in itertools.product(*map(range, slope.shape))
                if slope[place] > 0
            }
            total = sum(alpha.values()) if normalise else 1
            grid += sum(value / total * slope[place] for place, value in alpha.items()) * feature
        maps.append(upsampled(grid.clamp(min=0), some))
    result = gradcam_pp(net, "", normalise)(some).attribution
    torch.testing.assert_close(result, torch.stack(maps), atol=1e-14, rtol=1e-9)


def test_plus_plus_survives_dead_channels_and_logits_beyond_the_exponential():
    some = batch(dtype=torch.float32)
    net = gap_net(dtype=torch.float32)
    net.module[2].weight[0], net.module[2].bias[0] = 0, -1
    net.module[-1].weight.mul_(1e6)
    net.module[-1].weight[:, 1] = -1
    assert net.score(some.image, some.target).abs().max() > 1e3
    for normalise in (False, True):
        result = gradcam_pp(net, "", normalise)(some)
        assert result.attribution.isfinite().all()
        assert result.attribution.max() > 0


def test_plus_plus_of_a_layer_before_its_relu_is_unsupported():
    some = batch()
    with pytest.raises(Unsupported, match="needs feature maps of 0 or more"):
        gradcam_pp(gap_net(), "2", False)(some)


# LayerCAM


def test_layercam_of_a_gap_net_without_negative_class_weights_is_gradcam():
    some, net = batch(), gap_net(stride=2)
    assert not torch.allclose(layercam(net, "logit", "")(some).attribution, gradcam(net, "logit", "")(some).attribution)
    net.module[-1].weight.abs_()
    plain = gradcam(net, "logit", "")(some)
    result = layercam(net, "logit", "")(some)
    torch.testing.assert_close(result.attribution, plain.attribution, atol=1e-14, rtol=1e-9)
    torch.testing.assert_close(result.extras["weight"], plain.extras["weight"], atol=1e-14, rtol=1e-9)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("classes", [1, 3])
def test_layercam_equals_the_loop_over_samples_channels_and_places(score, classes):
    some = batch(2, 3, 9, 14, targets=2)
    net = dense_net(some, classes, link="sigmoid")
    maps = []
    for activation, gradient in zip(*taps(net, some, score), strict=True):
        grid = torch.zeros_like(activation[0])
        for k, i, j in itertools.product(*map(range, activation.shape)):
            grid[i, j] += max(float(gradient[k, i, j]), 0) * activation[k, i, j]
        maps.append(upsampled(grid.clamp(min=0), some))
    result = layercam(net, score, "")(some).attribution
    torch.testing.assert_close(result, torch.stack(maps), atol=1e-14, rtol=1e-9)


# Score-CAM


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("classes", [1, 3])
def test_scorecam_equals_the_loop_over_samples_and_channels(score, variant, classes):
    some = batch(2, 3, 9, 14, targets=2)
    net = dense_net(some, classes, link="sigmoid", batch_size=4)
    maps = []
    for i, activation in enumerate(taps(net, some)[0]):
        one = some.take(slice(i, i + 1))
        weights = []
        for feature in activation:
            if feature.max() == feature.min():
                weights.append(-torch.inf if variant == "softmax" else 0)
                continue
            mask = upsampled(feature, some)
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            value = float(net.score(one.image * mask, one.target, score))
            weights.append(value - (variant == "cic") * float(net.score(0 * one.image, one.target, score)))
        weights = torch.tensor(weights, dtype=torch.float64)
        if variant == "softmax":
            weights = weights.exp() / weights.exp().sum()
        grid = sum(weight * feature for weight, feature in zip(weights, activation, strict=True))
        maps.append(upsampled(grid.clamp(min=0), some))
    found = scorecam(net, score, "", variant)(some)
    torch.testing.assert_close(found.attribution, torch.stack(maps), atol=1e-14, rtol=1e-9)
    torch.testing.assert_close(found.extras["weight"][1], weights.abs().max())
    torch.testing.assert_close(found.extras["signed_max"][1], grid.max())


def test_increase_of_confidence_in_a_linear_net_is_what_the_map_lets_through():
    some = batch()

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.maps = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
            self.dense = nn.Linear(216, 3)

        def forward(self, image):
            self.maps(image)
            return self.dense(image.flatten(1))

    net = Model(Linear().double())
    activation = net.module.maps(some.image)
    mask = F.interpolate(activation, size=(9, 12), mode="bilinear")
    low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
    mask = (mask - low) / (high - low)
    shares = (net.module.dense.weight[some.target].view_as(some.image) * some.image).sum(dim=1)
    weights = torch.einsum("bhw,bkhw->bk", shares, mask)
    assert weights.min() < 0
    signed = torch.einsum("bk,bkhw->bhw", weights, activation)
    expected = F.interpolate(signed.clamp(min=0)[:, None], size=(9, 12), mode="bilinear")[:, 0]
    found = scorecam(net, "logit", "maps", "cic")(some)
    torch.testing.assert_close(found.attribution, expected, atol=1e-13, rtol=1e-9)
    torch.testing.assert_close(found.extras["weight"], weights.abs().amax(dim=1))


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_scorecam_of_a_single_channel_is_proportional_to_it(score):
    some = batch()
    net = gap_net(width=1, stride=2)
    for layer in (0, 2, -1):
        net.module[layer].weight.abs_()
    features = net.module[:4](some.image)
    shape = F.interpolate(features, size=(9, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(scorecam(net, score, "", "softmax")(some).attribution, shape)
    for variant in ("cic", "score"):
        found = scorecam(net, score, "", variant)(some)
        factor = found.extras["weight"] * (found.extras["signed_max"] > 0)
        torch.testing.assert_close(found.attribution, factor[:, None, None] * shape)
        assert factor.max() > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_scorecam_does_not_see_the_order_of_channels(variant):
    some, net = batch(), gap_net(stride=2)
    before = scorecam(net, "logit", "", variant)(some)
    order = torch.tensor([3, 0, 4, 2, 1])
    for layer in (net.module[2].weight, net.module[2].bias):
        layer.copy_(layer[order])
    net.module[-1].weight.copy_(net.module[-1].weight[:, order])
    after = scorecam(net, "logit", "", variant)(some)
    torch.testing.assert_close(after.attribution, before.attribution, atol=1e-14, rtol=1e-9)
    for name, value in before.extras.items():
        torch.testing.assert_close(after.extras[name], value, atol=1e-14, rtol=1e-9)


def test_softmax_weights_of_scorecam_add_up_to_one_over_the_maps_that_are_used():
    # Maps made equal: their weighted sum is any of them if and only if the weights add up to 1.
    some, net = batch(), gap_net(stride=2)
    net.module[2].weight[1:4] = net.module[2].weight[0]
    net.module[2].bias[:4] = 0.5
    net.module[2].weight[4], net.module[2].bias[4] = 0, 0.1
    features = net.module[:4](some.image)
    assert torch.equal(features[:, 0], features[:, 3])
    result = scorecam(net, "logit", "", "softmax")(some)
    expected = F.interpolate(features[:, :1], size=(9, 12), mode="bilinear")[:, 0]
    torch.testing.assert_close(result.attribution, expected)
    torch.testing.assert_close(result.extras["weight"], torch.full((3,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(("variant", "besides"), [("cic", 1), ("softmax", 0), ("score", 0)])
def test_scorecam_passes_each_map_that_is_not_flat_once_in_full_passes(variant, besides):
    some, seen = batch(5, dtype=torch.float32), []
    net = gap_net(stride=2, batch_size=4, dtype=torch.float32)
    net.module[2].weight[2], net.module[2].bias[2] = 0, 0.1
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    activation = net.module[:4](some.image)
    flat = [
        (i, k) for i in range(5) for k in range(5) if float(activation[i, k].max()) == float(activation[i, k].min())
    ]
    for score in ("logit", "prob"):
        net.passes.forwards, net.passes.backwards = 0, 0
        seen.clear()
        scorecam(net, score, "3", variant)(some)
        assert net.passes.forwards == 5 + besides + 25 - len(flat)
        assert net.passes.backwards == 0
        # The first pass of 4 images fills passes of 4 with its pairs; so does the last image.
        assert max(seen) == 4
        assert len(seen) == besides + 2 + sum(
            -(-sum(1 for i in part for k in range(5) if (i, k) not in flat) // 4) for part in (range(4), range(4, 5))
        )
    _, used = masked_scores(net, some.image, some.target, activation, ("logit",))
    assert not used[:, 2].any()
    assert used.any(dim=1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_scorecam_without_a_map_to_see_through_is_blank(variant):
    some, net = batch(), gap_net()
    net.module[2].weight.zero_()
    net.module[2].bias.fill_(0.1)
    found = scorecam(net, "logit", "", variant)(some)
    assert found.attribution.abs().max() == 0
    assert found.extras["weight"].max() == 0


def test_increase_of_confidence_of_a_black_image_is_nothing():
    some, net = batch(dtype=torch.float32), gap_net(dtype=torch.float32)
    some.image.zero_()
    net.module[2].bias.fill_(0.1)
    assert scorecam(net, "logit", "", "cic")(some).attribution.abs().max() < 1e-6
    assert scorecam(net, "logit", "", "score")(some).attribution.abs().max() > 1e-3


# Guided Grad-CAM


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_guided_gradcam_is_gradcam_times_the_guided_gradient_of_each_channel(score):
    some = batch(channels=3)
    net = dense_net(some)
    found, cam = guided_gradcam(net, score, "")(some), gradcam(net, score, "")(some)
    gradient = guided_gradient(net, some.image, some.target, score)
    colour = torch.stack([cam.attribution * gradient[:, c] for c in range(3)], dim=1)
    assert torch.equal(found.extras["colour"], colour)
    assert torch.equal(found.attribution, colour.abs().amax(dim=1))
    for name in ("weight", "signed_max", "reference_weight"):
        assert torch.equal(found.extras[name], cam.extras[name])


def test_guided_gradcam_is_zero_where_gradcam_is_and_guided_backprop_where_that_is_one(monkeypatch):
    some, net = batch(), gap_net()
    cam, found = gradcam(net, "logit", "")(some), guided_gradcam(net, "logit", "")(some)
    assert 0 < int((cam.attribution == 0).sum()) < cam.attribution.numel()
    assert found.attribution[cam.attribution == 0].abs().max() == 0
    assert found.attribution.max() > 0
    ones = Cam(torch.ones(3, 9, 12).double(), torch.ones(3).double(), torch.ones(3).double())
    monkeypatch.setattr(guided, "gradient_cams", lambda *arguments: [ones])
    gradient = guided_gradient(net, some.image, some.target, "logit")
    assert torch.equal(guided_gradcam(net, "logit", "")(some).extras["colour"], gradient)


@pytest.mark.parametrize(("score", "backwards"), [("logit", 14), ("prob", 28)])
def test_guided_gradcam_takes_two_forwards_an_image(score, backwards):
    some = batch(7)
    net = dense_net(some, batch_size=3)
    guided_gradcam(net, score, "1")(some)
    assert (net.passes.forwards, net.passes.backwards) == (14, backwards)


def test_guided_gradcam_of_a_net_without_relu_is_unsupported():
    some = batch()
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(280, 3)).double()
    with pytest.raises(Unsupported, match="no ReLU was met"):
        guided_gradcam(Model(net), "logit", "")(some)


# Captum


@pytest.mark.parametrize("layer", [0, 1])
def test_signed_map_equals_captums(layer):
    some = batch(channels=3)
    net = dense_net(some)
    expected = LayerGradCam(net.module, net.module[layer]).attribute(some.image, target=some.target)
    result = class_activation(net, some.image, some.target, "logit", str(layer))
    torch.testing.assert_close(result, expected[:, 0].detach(), atol=1e-15, rtol=1e-9)
    assert result.min() < 0 < result.max()


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_gradcam_equals_captums(inplace):
    some = batch(channels=3)
    net = dense_net(some, inplace=inplace)
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = GuidedGradCam(net.module, net.module[1]).attribute(
            some.image.clone().requires_grad_(), target=some.target, interpolate_mode="bilinear"
        )
    result = guided_gradcam(net, "logit", "1")(some).extras["colour"]
    torch.testing.assert_close(result, expected.detach(), atol=1e-15, rtol=1e-9)
    assert result.min() < 0 < result.max()


def test_mean_gradient_is_what_captum_weights_by():
    some = batch()
    net = dense_net(some)
    activation, (gradient,) = activation_gradients(net, some.image, some.target, ("logit",), "1")
    assert torch.equal(mean_gradient(activation, gradient)[:, :, 0, 0], gradient.mean(dim=(2, 3)))
