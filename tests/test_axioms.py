"""Completeness: the error of closed forms, of methods that promise it, and none for those that promise nothing."""

import math

import pytest
import torch
from torch import nn

from xbench.checks import checked
from xbench.errors import Unsupported
from xbench.metrics.axioms import completeness
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation
from xbench_captum.cells import shapley_sampling
from xbench_captum.deeplift import deeplift, deeplift_shap
from xbench_captum.paths import gradient_shap, integrated_gradients
from xbench_controls.controls import blur
from xbench_relevance.explainers import deep_taylor, lrp

metric = completeness()


def batch(count=4, channels=2, side=8):
    ids = tuple(f"s{i}" for i in range(count))
    image = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    target = torch.arange(count) % 2
    return Batch(image, ids, target, target, sample_keys(0, ids))


def backdrop(model=None, some=None):
    some = some or batch()
    return Backdrop(model or Model(nn.Identity()), some, torch.zeros(some.image.shape[1]))


def net(*, bias=True, activation=nn.ReLU):
    torch.manual_seed(0)
    layers = []
    for channels in (2, 6):
        layers += [nn.Conv2d(channels, 6, 3, padding=1, bias=bias), activation()]
    return Model(nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 2, bias=bias)))


def curved():
    """A net whose gradient changes much on the way from a fill to an image."""
    model = net(activation=nn.Tanh)
    for layer in (0, 2):
        model.module[layer].weight.mul_(4)
    return model


def linear():
    torch.manual_seed(0)
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(128, 2)))


def error(maps, total):
    maps, total = torch.as_tensor(maps, dtype=torch.float32), torch.as_tensor(total)
    some = batch(len(maps), 1, maps.shape[-1])
    found = metric(Scene(backdrop(some=some), Explanation(maps, extras={"total": total})))
    assert list(found) == ["completeness_error"]
    assert found["completeness_error"].dtype == torch.float64
    return found["completeness_error"].tolist()


def measured(explainer, model, some=None):
    shared = backdrop(model, some)
    return metric(Scene(shared, checked(explainer(shared.batch), shared.batch)))["completeness_error"]


# Closed forms.


@pytest.mark.parametrize("factor", [1.0, 0.25, 3.0, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_c_times_too_large_scores_c_less_one_over_c_plus_one(factor, sign):
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.3
    total = sign * maps.double().sum(dim=(1, 2))
    assert error(sign * factor * maps, total) == pytest.approx([abs(factor - 1) / (factor + 1)] * 3, abs=1e-6)


def test_a_blank_map_and_one_of_the_wrong_sign_score_one():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), -0.5), torch.eye(4)])
    assert error(maps, [2.0, 3.0, 0.0]) == [1.0, 1.0, 1.0]


def test_with_nothing_to_hand_out_there_is_no_score():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 1e-8), torch.tensor([1.0, -1.0]).repeat(4, 2)])
    assert [math.isnan(value) for value in error(maps, [0.0, -9e-7, 0.0])] == [True, True, True]
    assert error(maps[:1], [2e-6]) == [1.0]


def test_the_sum_is_exact_where_float32_would_lose_the_small_terms():
    maps = torch.full((1, 64, 64), 1e-4)
    maps[0, 0, 0], maps[0, -1, -1] = 1e6, -1e6
    assert error(maps, (64 * 64 - 2) * maps[:, 1, 1].double()) == pytest.approx([0.0], abs=1e-6)


def test_an_explainer_without_a_total_is_not_scored_and_one_with_a_wrong_total_is_told():
    shared = backdrop()
    with pytest.raises(Unsupported, match="promises nothing that its maps add up to"):
        metric(Scene(shared, Explanation(torch.rand(4, 8, 8))))
    wrong = Explanation(torch.rand(4, 8, 8), extras={"total": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"total has shape \(4, 2\); \(4,\) is needed"):
        metric(Scene(shared, wrong))


# Explainers.


def test_a_linear_model_is_explained_completely():
    for explainer in (integrated_gradients(linear(), "logit", "mean", 1), deeplift(linear(), "mean")):
        assert measured(explainer, linear()).max() < 1e-5


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_more_steps_bring_integrated_gradients_nearer(score):
    model = curved()
    errors = [measured(integrated_gradients(model, score, "zero", steps), model).mean() for steps in (1, 4, 100)]
    assert errors[0] > 2 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda model: deeplift(model, "grey"),
        lambda model: deeplift_shap(model, "grey", 3),
        lambda model: shapley_sampling(model, "prob", "zero", 2, 2),
        lambda model: deep_taylor(model, "z_b"),
    ],
    ids=["deeplift", "deeplift_shap", "shapley_sampling", "deep_taylor"],
)
def test_methods_that_are_complete_by_construction_are(make):
    model = net()
    model.module[-1].bias.add_(2)  # deep Taylor needs a logit above 0
    found = measured(make(model), model)
    assert not found.isnan().any()
    assert found.max() < 2e-4


def test_biases_and_the_stabiliser_are_what_relevance_propagation_loses():
    plain, biased = net(bias=False), net()
    biased.module[0].bias.fill_(0.3)
    assert measured(lrp(plain, "epsilon", 0.0, 0.0), plain).max() < 1e-4
    assert measured(lrp(biased, "epsilon", 0.0, 0.0), biased).min() > 0.05
    weaker, stronger = (measured(lrp(plain, "epsilon", 0.0, eps), plain) for eps in (0.05, 0.5))
    assert (weaker > 1e-3).all()
    assert (weaker < stronger).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda model: lambda batch: batch.image.mean(dim=1),
        lambda model: gradient_shap(model, "logit", "grey", 2),
        lambda model: blur(model, integrated_gradients(model, "logit", "zero", 2), 0.1),
    ],
    ids=["bare map", "gradient_shap", "blurred"],
)
def test_methods_that_are_complete_at_most_on_average_promise_nothing(make):
    with pytest.raises(Unsupported, match="promises nothing that its maps add up to"):
        measured(make(net()), net())


def test_a_sample_scores_the_same_alone_and_in_a_batch():
    model, some = curved(), batch(5)
    for explainer in (integrated_gradients(model, "logit", "zero", 2), lrp(model, "gamma", 0.25, 0.25)):
        whole = measured(explainer, model, some)
        parts = torch.cat([measured(explainer, model, some.take(slice(i, i + 1))) for i in range(5)])
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-3)
        assert whole.min() > 1e-5
