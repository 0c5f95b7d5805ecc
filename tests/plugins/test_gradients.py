"""Gradients against closed forms, finite differences and loops over samples."""

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import xbench_gradients
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import normal, sample_keys
from xbench.tensors import Batch
from xbench_gradients import gradients

VARIANTS = ("mean", "square", "var")


def batch(count=3, channels=2, height=4, width=5, seed=0, targets=3, dtype=torch.float32):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(seed, ids))


def model(head, some, classes=3, batch_size=64, link="softmax", hidden=7):
    """Return a small net of the batch's dtype: ``linear``, ``softplus`` or ``relu``."""
    torch.manual_seed(0)
    size = some.image[0].numel()
    if head == "linear":
        parts = [nn.Flatten(), nn.Linear(size, classes)]
    else:
        activation = nn.Softplus() if head == "softplus" else nn.ReLU(inplace=True)
        maps = [nn.Conv2d(some.image.shape[1], hidden, 3, padding=1), activation]
        parts = [*maps, nn.Flatten(), nn.Linear(size // some.image.shape[1] * hidden, classes)]
    return Model(nn.Sequential(*parts).to(some.image.dtype), link=link, batch_size=batch_size)


def smoothgrad(net, some, *, score="logit", noise_level=0.15, n=6, variant="mean"):
    return gradients.smoothgrad(net, score, noise_level, n, variant)(some)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def finite_differences(net, some, score, step=1e-5):
    slopes = torch.empty_like(some.image)
    for place in range(some.image[0].numel()):
        shift = torch.zeros_like(some.image)
        shift.flatten(1)[:, place] = step
        up, down = (net.score(some.image + sign * shift, some.target, score) for sign in (1, -1))
        slopes.flatten(1)[:, place] = (up - down) / (2 * step)
    return slopes


@pytest.mark.parametrize("spec", xbench_gradients.xbench_explainers(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_explainer_gives_one_map_a_sample_and_leaves_the_model_as_it_was(spec, channels):
    module, name = spec.factory.split(":")
    some = batch(channels=channels)
    net, image = model("relu", some), some.image.clone()
    weights = {key: value.clone() for key, value in net.module.state_dict().items()}
    with torch.no_grad():
        result = getattr(importlib.import_module(module), name)(net, **spec.params)(some)
    assert result.shape == (3, 4, 5)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert not result.requires_grad
    assert torch.equal(some.image, image)
    assert not some.image.requires_grad
    assert some.image.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.module.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in net.module.state_dict().items())


def test_gradient_of_a_linear_net_is_its_row_of_weights():
    some = batch()
    net = model("linear", some)
    rows = net.module[1].weight[some.target].view_as(some.image)
    assert torch.equal(gradients.image_gradient(net, some.image, some.target, "logit"), rows)
    assert torch.equal(gradients.gradient(net, "logit")(some), rows.abs().amax(dim=1))
    torch.testing.assert_close(gradients.input_x_gradient(net, "logit")(some), (rows * some.image).sum(dim=1))


def test_input_x_gradient_of_a_linear_net_adds_up_to_the_logit_without_its_bias():
    some = batch(dtype=torch.float64)
    net = model("linear", some)
    expected = net.score(some.image, some.target) - net.module[1].bias[some.target]
    torch.testing.assert_close(gradients.input_x_gradient(net, "logit")(some).sum(dim=(1, 2)), expected)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_gradient_equals_central_finite_differences(score, link):
    some = batch(dtype=torch.float64)
    net = model("softplus", some, link=link)
    slopes = finite_differences(net, some, score)
    torch.testing.assert_close(
        gradients.image_gradient(net, some.image, some.target, score), slopes, atol=1e-9, rtol=1e-7
    )
    torch.testing.assert_close(gradients.gradient(net, score)(some), slopes.abs().amax(dim=1), atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(
        gradients.input_x_gradient(net, score)(some), (some.image * slopes).sum(dim=1), atol=1e-9, rtol=1e-7
    )


def test_gradient_of_a_one_logit_net_turns_sign_with_the_target():
    some = batch(dtype=torch.float64)
    net = model("softplus", some, classes=1, link="sigmoid")
    no, yes = (gradients.image_gradient(net, some.image, torch.full((3,), target), "logit") for target in (0, 1))
    assert torch.equal(no, -yes)
    torch.testing.assert_close(yes, finite_differences(net, some.with_target(torch.ones(3).long()), "logit"))


def test_gradient_of_the_probability_follows_the_chain_rule():
    some = batch(dtype=torch.float64)
    net = model("relu", some)
    prob = net.prob(net.logits(some.image))[:, :, None, None, None]
    of_logits = torch.stack(
        [gradients.image_gradient(net, some.image, torch.full((3,), target), "logit") for target in range(3)], dim=1
    )
    rows = torch.arange(3)
    expected = prob[rows, some.target] * (of_logits[rows, some.target] - (prob * of_logits).sum(dim=1))
    torch.testing.assert_close(gradients.image_gradient(net, some.image, some.target, "prob"), expected)


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_batched_gradient_equals_the_loop_over_samples(score):
    some = batch(7, dtype=torch.float64)
    for batch_size in (1, 3, 64):
        net = model("relu", some, batch_size=batch_size)
        for factory in (gradients.gradient, gradients.input_x_gradient):
            alone = [factory(net, score)(some.take(slice(i, i + 1))) for i in range(7)]
            torch.testing.assert_close(factory(net, score)(some), torch.cat(alone))


def test_no_forward_pass_is_larger_than_the_models_batch_size():
    some, seen = batch(7), []
    net = model("relu", some, batch_size=3)
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    gradients.gradient(net, "logit")(some)
    assert seen == [3, 3, 1]
    smoothgrad(net, some, n=5)
    assert max(seen) == 3


@pytest.mark.parametrize("n", [1, 5, 6])
def test_gradient_takes_one_pass_and_smoothgrad_n_passes_an_image(n):
    some = batch(3)
    net = model("relu", some, batch_size=4)
    gradients.gradient(net, "logit")(some)
    assert (net.passes.forwards, net.passes.backwards) == (3, 3)
    smoothgrad(net, some, n=n)
    assert (net.passes.forwards, net.passes.backwards) == (3 + 3 * n, 3 + 3 * n)


@pytest.mark.parametrize("n", [1, 7, 50])
def test_smoothgrad_without_noise_is_the_gradient(n):
    some = batch()
    net = model("relu", some)
    plain = gradients.gradient(net, "logit")(some)
    torch.testing.assert_close(smoothgrad(net, some, noise_level=0.0, n=n), plain, atol=1e-7, rtol=0)
    torch.testing.assert_close(
        smoothgrad(net, some, noise_level=0.0, n=n, variant="square"), plain**2, atol=1e-7, rtol=0
    )
    assert smoothgrad(net, some, noise_level=0.0, n=n, variant="var").max() < 1e-12


@pytest.mark.parametrize("noise_level", [0.15, 3.0])
@pytest.mark.parametrize("n", [1, 7, 50])
def test_smoothgrad_of_a_linear_net_is_its_gradient_whatever_the_noise(noise_level, n):
    some = batch()
    net = model("linear", some)
    plain = gradients.gradient(net, "logit")(some)
    torch.testing.assert_close(smoothgrad(net, some, noise_level=noise_level, n=n), plain, atol=1e-7, rtol=0)
    assert smoothgrad(net, some, noise_level=noise_level, n=n, variant="var").max() < 1e-12


@pytest.mark.parametrize("variant", VARIANTS)
def test_smoothgrad_of_a_scalar_relu_matches_the_normal_distribution(variant):
    # s = relu(w x_0): the gradient is w with odds Phi(x_0 / sigma), else 0; the second pixel only sets the range.
    w, x, n, noise_level = 3.0, 0.1, 40_000, 0.2
    ids = ("one",)
    target = torch.zeros(1, dtype=torch.long)
    some = Batch(torch.tensor([[[[x, 0.9]]]]), ids, target, target, sample_keys(0, ids))
    net = Model(Lambda(lambda image: torch.relu(w * image[:, :1, 0, 0]).repeat(1, 2)), batch_size=8192)
    odds = stats.norm.cdf(x / (noise_level * (0.9 - x)))
    expected = {"mean": w * odds, "square": w**2 * odds, "var": w**2 * odds * (1 - odds)}[variant]
    result = smoothgrad(net, some, noise_level=noise_level, n=n, variant=variant)
    assert result[0, 0, 1] == 0
    assert abs(float(result[0, 0, 0]) - expected) < 4 * w**2 * math.sqrt(odds * (1 - odds) / n)
    assert 0.6 < odds < 0.8


def test_even_numbers_of_draws_cancel_what_is_odd_in_the_noise():
    # s = sum a x^2 has the gradient 2 a (x + e): pairs of +e and -e leave 2 a x exactly, single draws do not.
    some = batch(dtype=torch.float64)
    weight = torch.linspace(-1, 1, some.image[0].numel(), dtype=torch.float64)
    net = Model(Lambda(lambda image: (weight * image.flatten(1) ** 2).sum(dim=1, keepdim=True).repeat(1, 3)))
    exact = gradients.gradient(net, "logit")(some)
    for n in (2, 8):
        torch.testing.assert_close(smoothgrad(net, some, n=n), exact)
    assert (smoothgrad(net, some, n=7) - exact).abs().max() > 1e-3


def reference(net, some, score, noise_level, n, variant, block):
    """Return SmoothGrad one sample and one draw at a time, moments in two passes."""
    maps = []
    for i in range(len(some)):
        one = some.take(slice(i, i + 1))
        sigma = noise_level * (one.image.max() - one.image.min())
        pairs = (n + 1) // 2
        noise = [
            normal(one.keys, "gradients/smoothgrad", (block, *one.image.shape[1:]), draw)
            for draw in range(math.ceil(pairs / block))
        ]
        noise = torch.cat(noise, dim=1)[0].to(one.image.dtype)
        draws = []
        for k in range(n):
            noisy = (one.image + (-1) ** k * sigma * noise[k // 2]).requires_grad_()
            draws.append(torch.autograd.grad(net.score(noisy, one.target, score).sum(), noisy)[0][0])
        draws = torch.stack(draws)
        mean = draws.mean(dim=0)
        wanted = {"mean": mean.abs(), "square": (draws**2).mean(dim=0), "var": ((draws - mean) ** 2).mean(dim=0)}
        maps.append(wanted[variant].amax(dim=0))
    return torch.stack(maps)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [1, 7, 8])
def test_smoothgrad_equals_the_loop_over_samples_and_draws(score, variant, n):
    some = batch(dtype=torch.float64)
    net = model("softplus", some)
    result = smoothgrad(net, some, score=score, n=n, variant=variant)
    torch.testing.assert_close(result, reference(net, some, score, 0.15, n, variant, (n + 1) // 2))


@pytest.mark.parametrize("batch_size", [1, 12, 64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_smoothgrad_of_a_large_image_draws_its_noise_in_blocks(batch_size, variant, monkeypatch):
    some = batch(dtype=torch.float64)
    net = model("softplus", some, batch_size=batch_size)
    for block, n in ((2, 11), (1, 6)):
        monkeypatch.setattr(gradients, "_BLOCK", block * some.image[0].numel() + 1)
        expected = reference(net, some, "logit", 0.15, n, variant, block)
        torch.testing.assert_close(smoothgrad(net, some, n=n, variant=variant), expected)
    monkeypatch.setattr(gradients, "_BLOCK", 1)
    torch.testing.assert_close(smoothgrad(net, some, n=6, variant=variant), expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 40),
    n=st.integers(1, 12),
    cuts=st.sets(st.integers(1, 5), max_size=3),
    variant=st.sampled_from(VARIANTS),
)
def test_smoothgrad_does_not_depend_on_batch_or_chunk(batch_size, n, cuts, variant):
    some = batch(6, dtype=torch.float64)
    whole = smoothgrad(model("relu", some), some, n=n, variant=variant)
    net = model("relu", some, batch_size=batch_size)
    bounds = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    parts = [smoothgrad(net, some.take(slice(start, stop)), n=n, variant=variant) for start, stop in bounds]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_smoothgrad_in_float32_agrees_with_float64():
    some = batch(dtype=torch.float64)
    single = batch()
    for variant in VARIANTS:
        exact = smoothgrad(model("softplus", some), some, n=50, variant=variant)
        result = smoothgrad(model("softplus", single), single, n=50, variant=variant)
        torch.testing.assert_close(result.double(), exact, atol=1e-9, rtol=2e-4)


def test_smoothgrad_differs_by_seed_and_by_sample():
    some = batch()
    net = model("relu", some)
    assert not torch.equal(smoothgrad(net, some), smoothgrad(net, batch(seed=1)))
    twins = batch(2, targets=1)
    twins.image[1] = twins.image[0]
    result = smoothgrad(net, twins)
    assert not torch.equal(result[0], result[1])


def test_smoothgrad_of_a_blank_image_is_its_gradient():
    some = batch()
    some.image[:] = 0.5
    net = model("relu", some)
    torch.testing.assert_close(smoothgrad(net, some), gradients.gradient(net, "logit")(some), atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n": 0}, "n is 0"), ({"noise_level": -0.1}, "noise_level is -0.1"), ({"noise_level": math.nan}, "is nan")],
)
def test_smoothgrad_says_which_parameter_is_out_of_range(params, message):
    some = batch()
    with pytest.raises(Unsupported, match=message):
        smoothgrad(model("linear", some), some, **params)
