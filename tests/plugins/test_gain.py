"""GAIN's loss against closed forms, loops over samples and finite differences."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.training import classification_loss
from xbench_cam.gradcam import class_activation
from xbench_gain.objective import (
    Gain,
    Settings,
    attention,
    enlarged,
    erased,
    normalised,
    once_more,
    score,
    soft_mask,
    supervision,
    tapped,
)

INFINITE = float("inf")
LOSSES = ("loss_cl", "loss_am", "loss_ext", "blank_rate", "attention_area")


def pictures(count=5, channels=2, height=11, width=14, classes=2):
    """Return images [B,C,H,W], labels [B] and masks [B,H,W], every third of which is empty."""
    draw = torch.Generator().manual_seed(3)
    image = torch.rand(count, channels, height, width, generator=draw, dtype=torch.float64)
    mask = torch.rand(count, height, width, generator=draw) > 0.6
    mask[::3] = False
    return image, torch.arange(count).flip(0) % max(classes, 2), mask


def net(classes=2, channels=2, *, inplace=False, normalise=False, seed=2):
    """Return a net with a layer of 5 maps of 4 x 5 pixels (of 11 x 14), and a head in which places differ.

    With seed 2 no map is blank, with seed 1 a fifth of them are.
    """
    torch.manual_seed(seed)
    norm = [nn.BatchNorm2d(4)] if normalise else [nn.Identity()]
    layers = [nn.Conv2d(channels, 4, 3), *norm, nn.ReLU(inplace), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(inplace)]
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20, 6), nn.ReLU(inplace), nn.Linear(6, classes)]
    return nn.Sequential(*layers, *head).double().train()


def gain(layer="4", colour=(0.3, 0.6), **settings):
    return Gain(Settings(**settings), layer, torch.tensor(colour, dtype=torch.float64))


def step(objective, module, image, label, mask=None, weight=None):
    return objective(module, image, label, mask, lambda logits: classification_loss(logits, label, weight))


def gradients(loss, module):
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, module.parameters(), strict=True)]


def slow_attention(module, cut, image, label, settings):
    """Return A^c [h,w] of one image [C,H,W], normalised, by loops over features and pixels; and T."""
    features = module[: cut + 1](image[None]).detach().requires_grad_()
    logits = module[cut + 1 :](features.clone())[0]
    value = logits[label] if len(logits) > 1 else logits[0] * (2 * label - 1)
    (slope,) = torch.autograd.grad(value, features)
    _, count, h, w = features.shape
    found = torch.zeros(h, w, dtype=image.dtype)
    for i in range(h):
        for j in range(w):
            found[i, j] = max(0, sum(slope[0, k].mean() * features[0, k, i, j].detach() for k in range(count)))
    if settings.normalise == "sample":
        found = (found - found.min()) / (found.max() - found.min() + 1e-8)
    return found, 1 / (1 + torch.exp(-settings.omega * (found - settings.sigma)))


def slow_prob(logits, label):
    if len(logits) == 1:
        return 1 / (1 + torch.exp(-logits[0] * (2 * label - 1)))
    return torch.exp(logits[label]) / torch.exp(logits).sum()


def slow_losses(module, image, label, mask, settings, colour, cut=4):
    """Return L_cl, L_am and L_e, one sample after the other."""
    left, apart, classification = [], [], 0
    for i in range(len(image)):
        found, soft = slow_attention(module, cut, image[i], int(label[i]), settings)
        large = F.interpolate(soft[None, None], image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
        changed = image[i].clone()
        for channel in range(len(colour)):
            changed[channel] = (1 - large) * image[i, channel] + large * colour[channel]
        logits = module(changed[None])[0].detach()
        own = logits[label[i]] if len(logits) > 1 else logits[0] * (2 * label[i] - 1)
        left.append(slow_prob(logits, int(label[i])) if settings.am == "prob" else own)
        classification -= slow_prob(module(image[i : i + 1])[0].detach(), int(label[i])).log() / len(image)
        if mask[i].any():
            truth = F.interpolate(mask[i][None, None].double(), found.shape, mode="area")[0, 0]
            apart.append(((found - truth) ** 2).mean())
    return classification, sum(left) / len(left), sum(apart) / len(apart)


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("am", ["prob", "logit"])
@pytest.mark.parametrize("normalise", ["sample", "none"])
def test_loss_is_that_of_a_loop_over_samples_features_and_pixels(classes, am, normalise):
    (image, label, mask), module = pictures(classes=classes), net(classes)
    objective = gain(am=am, normalise=normalise, alpha=0.7, sigma=0.2, omega=6.0, omega_ext=3.0, blanks="keep")
    loss = step(objective, module, image, label, mask)
    expected = slow_losses(module, image, label, mask, objective.settings, (0.3, 0.6))
    for name, value in zip(LOSSES[:3], expected, strict=True):
        torch.testing.assert_close(objective.monitors[name], value, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(loss, expected[0] + 0.7 * expected[1] + 3 * expected[2], atol=1e-12, rtol=1e-9)
    assert objective.monitors["blank_rate"] == 0


def slope_along(objective, module, data, directions, h=1e-6):
    """Return the loss's central difference along a direction of the weights."""
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(module.parameters(), directions, strict=True):
                p += sign * h * d
            with torch.enable_grad():
                values.append(step(objective, module, *data).detach())
        for p, d in zip(module.parameters(), directions, strict=True):
            p += h * d
    return (values[0] - values[1]) / (2 * h)


VARIANTS = [
    {},
    {"am": "logit"},
    {"normalise": "none", "sigma": 0.01, "omega": 50.0},
    {"omega_ext": 5.0},
    {"classes": "positive"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("classes", [1, 3])
def test_gradient_is_that_of_finite_differences_through_the_channel_weights(settings, classes):
    data, module, objective = pictures(classes=classes), net(classes), gain(alpha=3.0, **settings)
    found = gradients(step(objective, module, *data), module)
    assert objective.monitors["blank_rate"] == 0
    fixed = gradients(step(gain(alpha=3.0, detach_weights=True, **settings), module, *data), module)
    for seed in range(3):
        torch.manual_seed(seed)
        directions = [torch.randn_like(p) for p in module.parameters()]
        slope = slope_along(objective, module, data, directions)
        along, without = (sum((g * d).sum() for g, d in zip(each, directions, strict=True)) for each in (found, fixed))
        torch.testing.assert_close(along, slope, atol=1e-7, rtol=1e-7)
        assert (without - slope).abs() > 1e-5


def test_detached_weights_change_the_gradient_and_no_value():
    data, module = pictures(), net()
    whole, fixed = (step(gain(detach_weights=detach), module, *data) for detach in (False, True))
    assert torch.equal(whole, fixed)
    pairs = zip(gradients(whole, module), gradients(fixed, module), strict=True)
    assert max((a - b).abs().max() for a, b in pairs) > 1e-5


@pytest.mark.parametrize("classes", [1, 3])
def test_with_a_threshold_of_minus_infinity_all_is_erased(classes):
    (image, label, _), module = pictures(classes=classes), net(classes)
    found = attention(*(lambda f, z: (f, score(module, z, label, "logit")))(*tapped(module, image, "4")), Settings())
    soft = soft_mask(found.map, -INFINITE, 10.0)
    assert torch.equal(soft, torch.ones_like(soft))
    assert erased(image, soft, torch.zeros(2)).abs().max() < 1e-15
    objective = gain(colour=(0.0, 0.0), sigma=-INFINITE, blanks="keep")
    step(objective, module, image, label)
    black = score(module, module(torch.zeros_like(image)), label, "prob").mean()
    torch.testing.assert_close(objective.monitors["loss_am"], black.detach())
    assert objective.monitors["attention_area"] == 1


@pytest.mark.parametrize("classes", [1, 3])
def test_with_a_threshold_far_above_nothing_is_erased_and_l_am_is_the_probability(classes):
    (image, label, _), module = pictures(classes=classes), net(classes)
    objective = gain(sigma=100.0, blanks="keep")
    step(objective, module, image, label)
    whole = score(module, module(image), label, "prob").mean()
    torch.testing.assert_close(objective.monitors["loss_am"], whole.detach(), atol=1e-12, rtol=1e-12)


def test_without_its_weight_l_e_leaves_gain_self():
    (image, label, mask), module = pictures(), net()
    alone, both = gain(), gain(omega_ext=0.0)
    first, second = step(alone, module, image, label), step(both, module, image, label, mask)
    assert torch.equal(first, second)
    assert all(map(torch.equal, gradients(first, module), gradients(second, module)))
    assert not both.needs_masks
    assert gain(omega_ext=1.0).needs_masks
    assert not torch.equal(step(gain(omega_ext=1.0), module, image, label, mask), first)


def test_l_e_is_the_squared_distance_of_samples_that_have_a_mask():
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[1, :2, :3] = True  # over cells of 2 x 2 pixels: 1, 1/2, 0, 0
    maps = torch.tensor([[[9.0, 9], [9, 9]], [[0.5, 0.5], [0, 1]], [[7, 7], [7, 7]]])
    assert supervision(maps, mask) == pytest.approx((0.25 + 0 + 0 + 1) / 4)
    assert supervision(maps, torch.zeros_like(mask)) == 0
    assert supervision(mask[:, ::2, ::2].float()[1:2], mask[1:2]) == pytest.approx(0.25 / 4)
    with pytest.raises(Unsupported, match="needs data with masks"):
        supervision(maps, None)


def test_a_map_is_brought_to_0_and_1_by_its_own_extremes():
    signed = torch.tensor([[[-1.0, 2], [4, 3]], [[3, 5], [4, 4]], [[-1, -2], [-3, 0]], [[2, 2], [2, 2]]]).double()
    found = normalised(signed, Settings())
    torch.testing.assert_close(found.map[0], torch.tensor([[0, 0.5], [1, 0.75]]).double())
    torch.testing.assert_close(found.map[1], torch.tensor([[0, 1], [0.5, 0.5]]).double())
    assert found.blank.tolist() == [False, False, True, True]
    assert not found.map[2:].any()
    raw = normalised(signed, Settings(normalise="none"))
    assert torch.equal(raw.map, signed.relu())
    assert raw.blank.tolist() == [False, False, True, False]


def test_tolerance_counts_as_blank_what_is_small_beside_the_negative_sum():
    signed = torch.tensor([[[-10.0, 0.5]], [[-10, 2]]])
    for tolerance, blank in ((0.0, [False, False]), (0.1, [True, False]), (0.3, [True, True])):
        found = normalised(signed, Settings(tolerance=tolerance))
        assert found.blank.tolist() == blank
        assert [not each.any() for each in found.map] == blank
        assert normalised(7e-6 * signed, Settings(tolerance=tolerance)).blank.tolist() == blank


@pytest.mark.parametrize("signed", [[[-1.0, -2.0]], [[2.0, 2.0]], [[0.0, 0.0]]], ids=["negative", "constant", "zero"])
@pytest.mark.parametrize("normalise", ["sample", "none"])
def test_a_blank_map_has_no_slope_and_none_is_nan(signed, normalise):
    signed = torch.tensor([signed], requires_grad=True)
    found = normalised(signed, Settings(normalise=normalise))
    (slope,) = torch.autograd.grad((found.map * torch.tensor([1.0, 2.0])).sum(), signed)
    assert torch.isfinite(slope).all()
    assert found.blank[0] != slope.any()


def blank_net():
    """Return a one-logit net with no evidence for class 1 in any feature, and for class 0 in all."""
    module = net(1)
    with torch.no_grad():
        for part in (module[7], module[9]):
            part.weight.abs_()
        module[9].weight.neg_()
    return module


def test_blank_maps_are_left_out_of_l_am_or_on_request_kept():
    (image, _, _), module = pictures(), blank_net()
    label = torch.ones(5, dtype=torch.long)
    skipping, keeping = gain(), gain(blanks="keep")
    plain = classification_loss(module(image), label)
    loss = step(skipping, module, image, label)
    assert torch.equal(loss, plain)
    assert skipping.monitors["blank_rate"] == 1
    torch.testing.assert_close(
        skipping.monitors["attention_area"].item(), 1 / (1 + torch.exp(torch.tensor(5.0)).item())
    )
    kept = step(keeping, module, image, label)
    soft = torch.full((5, 4, 5), skipping.monitors["attention_area"].item(), dtype=torch.float64)
    seen = score(module, module(erased(image, soft, keeping.colour)), label, "prob").mean()
    torch.testing.assert_close(kept, plain + seen)
    assert all(torch.isfinite(g).all() for g in gradients(kept, module))
    label = torch.tensor([1, 0, 1, 0, 0])
    step(skipping, module, image, label)
    assert skipping.monitors["blank_rate"] == pytest.approx(0.4)


@pytest.mark.parametrize("settings", [{}, {"classes": "positive"}, {"am": "logit", "blanks": "keep"}], ids=str)
@pytest.mark.parametrize("classes", [1, 3])
def test_loss_of_a_batch_is_the_mean_of_the_losses_of_its_samples(settings, classes):
    (image, label, _), module = pictures(6, classes=classes), net(classes, seed=1)
    whole = step(gain(**settings), module, image, label)
    alone = [step(gain(**settings), module, image[i : i + 1], label[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(whole, torch.stack(alone).mean(), atol=1e-12, rtol=1e-10)


def test_positive_classes_leave_out_label_0_and_its_second_pass():
    (image, _, _), module, seen = pictures(), net(3), []
    label = torch.tensor([0, 1, 0, 2, 0])
    chosen = torch.tensor([1, 3])
    some, objective = gain(blanks="keep"), gain(blanks="keep", classes="positive")
    step(some, module, image[chosen], label[chosen])
    module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    step(objective, module, image, label)
    assert seen == [5, 2]
    torch.testing.assert_close(objective.monitors["loss_am"], some.monitors["loss_am"] * 2 / 5)
    for name in ("blank_rate", "attention_area"):
        torch.testing.assert_close(objective.monitors[name], some.monitors[name])
    seen.clear()
    loss = step(objective, module, image, torch.zeros_like(label))
    assert seen == [5]
    assert torch.equal(loss, classification_loss(module(image), torch.zeros_like(label)))
    assert objective.monitors["blank_rate"] == objective.monitors["attention_area"] == 0


def test_a_step_takes_two_forward_passes_and_one_in_the_warm_up_or_without_a_weight():
    (image, label, mask), module, seen = pictures(), net(), []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    plain = classification_loss(module(image), label)
    objective = gain(warmup=0.25, blanks="keep", omega_ext=1.0)
    for progress, passes in ((0.0, [5]), (0.2, [5]), (0.25, [5, 5])):
        seen.clear()
        objective.progress = progress
        loss = step(objective, module, image, label, mask)
        assert seen == passes
        assert torch.equal(loss, plain) == (progress < 0.25)
        assert objective.monitors["attention_area"] > 0
        assert all(map(torch.equal, gradients(loss, module), gradients(plain, module))) == (progress < 0.25)
        plain = classification_loss(module(image), label)
    seen.clear()
    assert torch.equal(step(gain(alpha=0.0), module, image, label), plain)
    assert seen == [5]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_move_once_a_step(momentum):
    (image, label, _), module, plain = pictures(), net(normalise=True), net(normalise=True)
    for each in (module, plain):
        each[1].momentum = momentum
    for _ in range(2):
        step(gain(blanks="keep"), module, image, label).backward()
        plain(image)
    assert module[1].num_batches_tracked == 2
    for name, value in plain.named_buffers():
        assert torch.equal(dict(module.named_buffers())[name], value)
    before = once_more(module, image)
    assert torch.equal(before, module(image))


def test_with_batch_normalisation_the_second_pass_keeps_the_batch_together():
    (image, _, _), module, seen = pictures(), net(normalise=True), []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    label = torch.tensor([0, 0, 1, 0, 0])
    objective = gain(classes="positive", blanks="keep")
    step(objective, module, image, label)
    assert seen == [5, 5]
    assert 0 < objective.monitors["loss_am"] < 1 / 5


@pytest.mark.parametrize("layer", ["3", "4"])
@pytest.mark.parametrize("classes", [1, 3])
def test_relus_in_place_change_neither_loss_nor_gradient(layer, classes):
    data = pictures(classes=classes)
    modules = [net(classes, inplace=inplace) for inplace in (False, True)]
    losses = [step(gain(layer, omega_ext=2.0), module, *data) for module in modules]
    assert torch.equal(*losses)
    pairs = zip(*(gradients(*pair) for pair in zip(losses, modules, strict=True)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [1, 3])
def test_attention_in_training_is_gradcam_at_the_layers_size(channels, classes):
    (image, label, _), module = pictures(3, channels, classes=classes), net(classes, channels)
    features, logits = tapped(module, image, "4")
    found = attention(features, score(module, logits, label, "logit"), Settings(normalise="none"))
    model = Model(module, "sigmoid" if classes == 1 else "softmax")
    expected = class_activation(model, image, label, "logit", "4").clamp(min=0)
    torch.testing.assert_close(found.map, expected, atol=1e-14, rtol=1e-10)
    assert expected.any()


def test_maps_are_enlarged_as_by_bilinear_interpolation():
    maps = torch.rand(2, 4, 6, dtype=torch.float64)
    for size in ((11, 14), (4, 6), (3, 20)):
        expected = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(enlarged(maps, *size), expected)


def test_score_is_that_of_the_models_own_link():
    logits, label = torch.tensor([[1.0, -2, 0.5], [0, 3, 1]]), torch.tensor([2, 0])
    module = net(3)
    for shape, link in ((3, "softmax"), (1, "sigmoid")):
        z, y = logits[:, :shape], label.clamp(max=1)
        model = Model(nn.Sequential(nn.Flatten()), link)
        pair = model.logits(z[..., None, None])
        for kind in ("logit", "prob"):
            torch.testing.assert_close(score(module, z, y, kind), model.pick(pair, y, kind))
    module.prob = lambda values: values * 2
    assert score(module, logits, label, "prob").tolist() == [1, 0]


def test_frozen_layers_stay_frozen_and_those_behind_them_learn():
    data, module = pictures(), net()
    for part in module[:4]:
        part.requires_grad_(False)
    loss = step(gain(layer="4"), module, *data)
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in module.parameters())
    assert module[7].weight.grad.any()


def test_the_module_is_left_as_it_was_also_where_a_step_fails():
    (image, label, _), module = pictures(), net(normalise=True)
    weights = [p.clone() for p in module.parameters()]
    step(gain(blanks="keep"), module, image, label)

    def fail(logits):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        gain()(module, image, label, None, fail)
    with pytest.raises(Unsupported, match="'6' gives no feature maps"):
        step(gain(layer="6"), module, image, label)
    with pytest.raises(RuntimeError, match="channels"):
        step(gain(), module, image[:, :1], label)
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert all(map(torch.equal, weights, module.parameters()))


def test_monitors_are_scalars_without_a_graph():
    data, objective = pictures(), gain(omega_ext=1.0)
    step(objective, net(), *data)
    assert tuple(objective.monitors) == LOSSES
    assert all(value.ndim == 0 and not value.requires_grad for value in objective.monitors.values())
