"""Grad-CAM against CAM, closed forms and loops over samples, channels and pixels."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import xbench_cam
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_cam.gradcam import activation_gradients, class_activation, gradcam


def batch(count=3, channels=2, height=9, width=12, targets=3, dtype=torch.float64):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(0, ids))


def gap_net(channels=2, classes=3, *, inplace=False, stride=1, link="softmax", batch_size=64, dtype=torch.float64):
    """Return a net whose last layer is linear in the spatial means of its last feature maps."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(inplace),
        nn.Conv2d(4, 5, 3, stride=stride, padding=1),
        nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, classes),
    )
    return Model(module.to(dtype), link=link, batch_size=batch_size)


def dense_net(some, classes=3, *, inplace=False, stride=2, link="softmax", batch_size=64):
    """Return a net whose head is a pooling layer and two dense layers: the gradient differs from place to place."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(some.image.shape[1], 5, 3, stride=stride), nn.ReLU(inplace)).double()
    pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    size = pool(trunk(some.image[:1])).shape[1]
    head = nn.Sequential(nn.Linear(size, 8), nn.ReLU(inplace), nn.Linear(8, classes)).double()
    return Model(nn.Sequential(*trunk, *pool, *head), link=link, batch_size=batch_size)


def slow_bilinear(grid, height, width):
    """Return a map [h,w] at another size, pixel centres aligned and borders repeated, one pixel at a time."""
    h, w = grid.shape
    result = torch.zeros(height, width, dtype=grid.dtype)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dx = y - top, x - left
            upper = (1 - dx) * grid[top, left] + dx * grid[top, right]
            lower = (1 - dx) * grid[bottom, left] + dx * grid[bottom, right]
            result[i, j] = (1 - dy) * upper + dy * lower
    return result


def slow_gradcam(net, cut, some, score):
    """Return Grad-CAM behind module number ``cut``, by loops."""
    maps = []
    for i in range(len(some)):
        activation = net.module[: cut + 1](some.image[i : i + 1]).detach().requires_grad_()
        logits = net.module[cut + 1 :](activation.clone())
        if logits.shape[1] == 1:
            logits = torch.cat([-logits, logits], dim=1)
        values = logits if score == "logit" else net.prob(logits)
        gradient = torch.autograd.grad(values[0, some.target[i]], activation)[0][0]
        grid = torch.zeros(activation.shape[2:], dtype=activation.dtype)
        for k, feature in enumerate(activation[0].detach()):
            grid += gradient[k].sum() / gradient[k].numel() * feature
        maps.append(slow_bilinear(grid.clamp(min=0), *some.image.shape[-2:]))
    return torch.stack(maps)


@pytest.mark.parametrize("spec", xbench_cam.xbench_explainers(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_every_explainer_gives_one_map_a_sample_and_leaves_the_model_as_it_was(spec, channels, count):
    module, name = spec.factory.split(":")
    some = batch(count, channels, dtype=torch.float32)
    net, image = gap_net(channels, stride=2, inplace=True, dtype=torch.float32), some.image.clone()
    weights = {key: value.clone() for key, value in net.module.state_dict().items()}
    with torch.no_grad():
        found = getattr(importlib.import_module(module), name)(net, **spec.params)(some)
    result = found.attribution
    assert set(found.extras) - {"colour"} == {"weight", "signed_max", "reference_weight", "reference"}
    for value in found.extras.values():
        assert len(value) == count
        assert value.dtype == torch.float32
        assert not value.requires_grad
    assert result.shape == (count, 9, 12)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert not result.requires_grad
    assert torch.equal(some.image, image)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.module.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in net.module.state_dict().items())
    assert not any(part._forward_hooks for part in net.module.modules())


def test_map_of_a_gap_net_is_cam_over_the_number_of_pixels():
    some, net = batch(), gap_net()
    features = net.module[:4](some.image)
    weights = net.module[-1].weight[some.target]
    cam = (weights[:, :, None, None] * features).sum(dim=1)
    result = class_activation(net, some.image, some.target, "logit", "")
    torch.testing.assert_close(result, cam / (9 * 12), atol=1e-12, rtol=1e-9)
    assert result.min() < 0 < result.max()


def test_map_of_a_gap_net_and_the_bias_add_up_to_the_logit():
    some, net = batch(), gap_net()
    result = class_activation(net, some.image, some.target, "logit", "")
    total = result.sum(dim=(1, 2)) + net.module[-1].bias[some.target]
    torch.testing.assert_close(total, net.score(some.image, some.target), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 12, 9), (3, 9, 14), (3, 10, 10)])
@pytest.mark.parametrize(("classes", "link"), [(3, "softmax"), (3, "sigmoid"), (1, "sigmoid")])
def test_gradcam_equals_the_loop_over_samples_channels_and_pixels(score, channels, height, width, classes, link):
    some = batch(2, channels, height, width, targets=2)
    net = dense_net(some, classes, link=link)
    expected = slow_gradcam(net, 1, some, score)
    torch.testing.assert_close(gradcam(net, score, "")(some).attribution, expected, atol=1e-12, rtol=1e-9)
    assert expected.max() > 0


@pytest.mark.parametrize("layer", ["0"])
def test_gradcam_explains_the_layer_asked_for(layer):
    some = batch(2)
    net = dense_net(some)
    result = gradcam(net, "logit", layer)(some).attribution
    torch.testing.assert_close(result, slow_gradcam(net, 0, some, "logit"), atol=1e-12, rtol=1e-9)
    assert not torch.allclose(result, gradcam(net, "logit", "")(some).attribution)


@pytest.mark.parametrize("layer", ["", "0", "1"])
def test_gradcam_does_not_see_whether_relus_work_in_place(layer):
    some = batch()
    plain, in_place = (
        gradcam(dense_net(some, inplace=inplace), "logit", layer)(some).attribution for inplace in (False, True)
    )
    assert torch.equal(plain, in_place)


def test_maps_of_a_score_and_of_its_negative_partition_the_signed_map():
    # With stride 1 the layer has the image's size, and scaling is the identity.
    some, net = batch(), gap_net()
    signed = class_activation(net, some.image, some.target, "logit", "")
    positive = gradcam(net, "logit", "")(some).attribution
    for parameter in net.module[-1].parameters():
        parameter.neg_()
    negative = gradcam(net, "logit", "")(some).attribution
    assert torch.equal(positive - negative, signed)
    assert (positive * negative).abs().max() == 0
    assert positive.max() > 0
    assert negative.max() > 0


def test_maps_of_the_probability_follow_the_chain_rule_of_the_softmax():
    some, net = batch(), gap_net()
    prob = net.prob(net.logits(some.image))
    maps = torch.stack(
        [class_activation(net, some.image, torch.full((3,), target), "logit", "") for target in range(3)], dim=1
    )
    rows = torch.arange(3)
    centred = maps[rows, some.target] - (prob[:, :, None, None] * maps).sum(dim=1)
    expected = prob[rows, some.target][:, None, None] * centred
    torch.testing.assert_close(class_activation(net, some.image, some.target, "prob", ""), expected)


def test_targets_of_a_one_logit_net_are_opposite():
    some = batch()
    net = dense_net(some, classes=1, link="sigmoid")
    no, yes = (class_activation(net, some.image, torch.full((3,), target), "logit", "") for target in (0, 1))
    assert torch.equal(no, -yes)
    p = net.prob(net.logits(some.image))[:, 1][:, None, None]
    of_no, of_yes = (class_activation(net, some.image, torch.full((3,), target), "prob", "") for target in (0, 1))
    torch.testing.assert_close(of_yes, p * (1 - p) * yes)
    torch.testing.assert_close(of_no, -of_yes)


def test_certainty_blanks_the_map_of_the_probability_and_only_scales_that_of_the_logit():
    some = batch(dtype=torch.float32)
    net = gap_net(dtype=torch.float32)
    some = some.with_target(net.logits(some.image).argmax(dim=1))
    before = gradcam(net, "logit", "")(some).attribution
    for parameter in net.module[-1].parameters():
        parameter.mul_(2.0**14)
    assert torch.equal(gradcam(net, "logit", "")(some).attribution, before * 2.0**14)
    assert before.amax(dim=(1, 2)).min() > 0
    assert gradcam(net, "prob", "")(some).attribution.max() == 0


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 8),
    cuts=st.sets(st.integers(1, 5), max_size=4),
    score=st.sampled_from(["logit", "prob"]),
)
def test_gradcam_does_not_depend_on_batch_or_chunk(batch_size, cuts, score):
    some = batch(6)
    whole = gradcam(dense_net(some), score, "")(some).attribution
    explain = gradcam(dense_net(some, batch_size=batch_size), score, "")
    bounds = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    parts = [explain(some.take(slice(start, stop))).attribution for start, stop in bounds]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(("score", "backwards"), [("logit", 7), ("prob", 14)])
def test_gradcam_takes_one_forward_an_image_and_a_second_backward_for_the_reference_of_the_probability(
    score, backwards
):
    some, seen = batch(7), []
    net = gap_net(batch_size=3)
    explain = gradcam(net, score, "3")
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    explain(some)
    assert seen == [3, 3, 1]
    assert (net.passes.forwards, net.passes.backwards) == (7, backwards)


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_extras_are_the_largest_weight_and_the_peak_before_the_positive_part(score):
    some = batch()
    net = dense_net(some, batch_size=2)
    found = gradcam(net, score, "")(some)
    activation, (gradient,) = activation_gradients(net, some.image, some.target, (score,))
    assert activation.shape == gradient.shape == (3, 5, 4, 5)
    torch.testing.assert_close(found.extras["weight"], gradient.mean(dim=(2, 3)).abs().amax(dim=1))
    signed = class_activation(net, some.image, some.target, score)
    torch.testing.assert_close(found.extras["signed_max"], signed.amax(dim=(1, 2)))


def test_the_logit_is_its_own_reference_and_that_of_the_probability():
    some = batch()
    net = dense_net(some, batch_size=2)
    of_logit, of_prob = (gradcam(net, score, "")(some) for score in ("logit", "prob"))
    assert torch.equal(of_logit.extras["reference"], of_logit.attribution.amax(dim=(1, 2)))
    assert torch.equal(of_logit.extras["reference_weight"], of_logit.extras["weight"])
    for name in ("reference", "reference_weight"):
        torch.testing.assert_close(of_prob.extras[name], of_logit.extras[name], atol=0, rtol=1e-12)
    assert not torch.allclose(of_prob.extras["weight"], of_prob.extras["reference_weight"])
    assert not torch.allclose(of_prob.extras["reference"], of_prob.attribution.amax(dim=(1, 2)))


def test_extras_tell_a_vanished_map_from_one_that_is_negative_everywhere():
    some = batch(dtype=torch.float32)
    net = gap_net(dtype=torch.float32)
    some = some.with_target(net.logits(some.image).argmax(dim=1))
    net.module[-1].weight.abs_().neg_()
    negative = gradcam(net, "logit", "")(some)
    assert negative.attribution.abs().max() == 0
    assert negative.extras["weight"].min() > 0
    assert negative.extras["signed_max"].max() <= 0
    net.module[-1].weight.neg_()
    net.module[-1].bias[0] = 200.0
    vanished = gradcam(net, "prob", "")(some.with_target(torch.zeros(3, dtype=torch.long)))
    assert vanished.attribution.abs().max() == 0
    assert vanished.extras["weight"].max() == 0
    assert vanished.extras["reference_weight"].min() > 0
    assert vanished.extras["reference"].min() > 0


def test_gradcam_without_maps_is_unsupported_and_a_wrong_name_is_told():
    some = batch()
    with pytest.raises(Unsupported, match="'6' gives no feature maps"):
        gradcam(gap_net(), "logit", "6")(some)
    with pytest.raises(Unsupported, match="no layer that gives feature maps"):
        gradcam(Model(nn.Sequential(nn.Flatten(), nn.Linear(216, 3)).double()), "logit", "")(some)
    with pytest.raises(ValueError, match="no layer 'convolution'"):
        gradcam(gap_net(), "logit", "convolution")(some)
