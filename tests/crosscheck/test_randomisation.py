"""Randomisation tests against Quantus, on layers whose fresh weights are known: both must draw the same ones."""

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from xbench.metrics.randomisation import efficient_mprt, mprt, random_logit

QUIET = {"disable_warnings": True, "display_progressbar": False}


class Forgetful(nn.Linear):
    """A layer whose fresh weights are always the same."""

    def reset_parameters(self):
        generator = torch.Generator().manual_seed(1000 * self.in_features + self.out_features)
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) / self.in_features**0.5)
            self.bias.copy_(torch.randn(self.bias.shape, generator=generator) / 4)


def net_of_linear_layers(kind=Forgetful, classes=2, seed=0):
    """Return a net [B,1,8,8] -> [B,classes] with weights that it would not get by forgetting."""
    net = nn.Sequential(nn.Flatten(), kind(64, 24), nn.Tanh(), kind(24, 16), nn.Tanh(), kind(16, classes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return net


def gradient_times_input(net, image, target):
    """Return maps [B,H,W]."""
    with torch.enable_grad():
        image = image.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(image).gather(1, target[:, None]).sum(), image)
    return (gradient * image).sum(dim=1).detach()


def in_levels(net, image, target):
    """Return the same maps in 2^16 steps of their highest, as xbench rounds before it ranks."""
    maps = gradient_times_input(net, image, target).double()
    return (maps / maps.abs().amax(dim=(1, 2), keepdim=True) * 2**16).round().float()


def prepared(case, explain=in_levels, kind=Forgetful, seed=0, size=8, classes=2):
    """Return a case whose maps explain its net, and its scene."""
    made = case(size=size, side=8, seed=seed, classes=classes, top_class=False)
    made.net = net_of_linear_layers(kind, classes, seed)
    made.maps = explain(made.net, made.image, made.target)
    return made, made.scene(explain=explain)


def quantus_score(metric, made, explain=in_levels, batch_size=64):
    """Return what a Quantus metric says of a case."""

    def explained(model, inputs, targets, **options):
        return explain(model, torch.as_tensor(inputs), torch.as_tensor(targets))[:, None].numpy()

    return metric(
        model=made.net,
        x_batch=made.image.numpy(),
        y_batch=made.target.numpy(),
        a_batch=made.maps.numpy()[:, None],
        explain_func=explained,
        channel_first=True,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("absolute", [False, True])
def test_every_stage_of_mprt_is_that_of_quantus(case, agree, absolute, seed):
    made, scene = prepared(case, seed=seed)
    ours = mprt(0, absolute)(scene)
    theirs = quantus_score(quantus.MPRT(abs=absolute, **QUIET), made)
    assert list(theirs) == ["original", "5", "3", "1"]
    agree("Quantus MPRT, after each layer", ours["mprt.curve"].y, np.array(list(theirs.values())).T, 1e-10)
    agree("Quantus MPRT, all layers fresh", ours["mprt_last"], theirs["1"], 1e-10)
    mean = np.mean([theirs[layer] for layer in "531"], axis=0)
    agree("Quantus MPRT, mean over the fresh layers", ours["mprt"], mean, 1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_before_the_ranks_moves_a_correlation_little(case, agree, seed):
    """Of 64 pixels few pairs lie so near that xbench calls them equal."""
    made, scene = prepared(case, gradient_times_input, seed=seed)
    theirs = quantus_score(quantus.MPRT(abs=False, **QUIET), made, gradient_times_input)
    ours = mprt(0, False)(scene)["mprt.curve"].y
    agree("Quantus MPRT, maps not rounded", ours, np.array(list(theirs.values())).T, 5e-3)


@pytest.mark.parametrize("seed", range(4))
def test_efficient_mprt_is_that_of_quantus_of_absolute_values(case, agree, seed):
    made, scene = prepared(case, gradient_times_input, seed=seed)
    theirs = quantus_score(quantus.EfficientMPRT(abs=True, **QUIET), made, gradient_times_input)
    # A pixel on the border of two of the 100 bins may fall into either.
    agree("Quantus EfficientMPRT", efficient_mprt()(scene)["efficient_mprt"], theirs, 1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("absolute", [False, True])
def test_random_logit_of_two_classes_is_that_of_quantus_with_spearman(case, agree, absolute, seed):
    made, scene = prepared(case, seed=seed)
    metric = quantus.RandomLogit(
        num_classes=2, similarity_func=quantus.similarity_func.correlation_spearman, abs=absolute, **QUIET
    )
    theirs = np.asarray(quantus_score(metric, made))
    agree("Quantus RandomLogit, two classes, Spearman", random_logit(absolute)(scene)["random_logit"], theirs, 1e-10)


def test_known_defect_quantus_counts_the_untouched_network_in_its_average(case):
    """The stage is called original and left out by the name orig: a correlation of 1 is part of the mean."""
    made, scene = prepared(case)
    stages = quantus_score(quantus.MPRT(**QUIET), made)
    average = quantus_score(quantus.MPRT(return_average_correlation=True, **QUIET), made)
    np.testing.assert_allclose(stages["original"], 1)
    np.testing.assert_allclose(average, np.mean(list(stages.values()), axis=0))
    without = np.mean([stages[layer] for layer in "531"], axis=0)
    assert (np.array(average) - without).min() > 0.05
    np.testing.assert_allclose(mprt(0, True)(scene)["mprt"], without, atol=1e-4)


def test_known_defect_quantus_gives_layers_of_one_shape_the_same_fresh_weights(case):
    """Every layer is drawn after seeding anew with one seed."""
    made, seen = case(side=8), []
    layers = [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)]
    made.net = nn.Sequential(nn.Flatten(), *layers).eval()

    def explain(net, image, target):
        seen.append((net[1].weight.clone(), net[3].weight.clone()))
        return in_levels(net, image, target)

    made.maps = in_levels(made.net, made.image, made.target)
    quantus_score(quantus.MPRT(**QUIET), made, explain)
    assert torch.equal(*seen[-1])
    mprt(0, True)(made.scene(explain=explain))
    assert not torch.equal(*seen[-1])


def test_known_defect_quantus_draws_other_classes_for_another_batch_size(case):
    """The generator is seeded anew for each batch: samples at one place in their batches share a draw."""
    made, _ = prepared(case, classes=7, size=24)

    def quantus_at(batch_size):
        metric = quantus.RandomLogit(
            num_classes=7, similarity_func=quantus.similarity_func.correlation_spearman, **QUIET
        )
        return np.asarray(quantus_score(metric, made, batch_size=batch_size)).ravel()

    assert np.abs(quantus_at(24) - quantus_at(4)).max() > 0.1
    ours = [random_logit(False)(made.scene(explain=in_levels, batch_size=size)) for size in (24, 4)]
    np.testing.assert_array_equal(*(found["random_logit"] for found in ours))
