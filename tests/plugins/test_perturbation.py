"""What RISE, occlusion, LIME and KernelSHAP have in common: passes, batches, masks, and a model left as it was."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import xbench_perturbation
from xbench.checks import compare, fingerprint
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_perturbation.passes import pair_scores

SPECS = {spec.name: spec for spec in xbench_perturbation.xbench_explainers()}
# Small enough for a test: 30 masks, 20 windows, 40 samples, 30 coalitions.
SMALL = {
    "rise": {"n": 30, "cells": 3},
    "occlusion": {"window": 2, "stride": 2},
    "lime": {"n": 40, "segments": 6},
    "kernel_shap": {"n": 30, "segments": 6},
}
PASSES = {"rise": 30, "occlusion": 13, "lime": 40, "kernel_shap": 30}
EACH = pytest.mark.parametrize("name", SPECS)


def batch(count=3, channels=2, height=6, width=7, targets=3, seed=0, dtype=torch.float64):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(seed, ids))


def model(some, classes=3, batch_size=64, link="softmax"):
    """Return a small net with an in-place ReLU, of the batch's dtype."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(some.image.shape[1], 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(classes)]
    module = nn.Sequential(*parts).double()
    module(some.image[:1].double())
    return Model(module.to(some.image.dtype), link=link, batch_size=batch_size)


def explainer(name, net, **params):
    module, attr = SPECS[name].factory.split(":")
    return getattr(importlib.import_module(module), attr)(net, **{**SPECS[name].params, **SMALL[name], **params})


@EACH
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("classes", "link"), [(1, "sigmoid"), (4, "softmax")])
def test_every_explainer_gives_one_map_a_sample_and_leaves_the_model_as_it_was(name, channels, count, classes, link):
    some = batch(count, channels, targets=2, dtype=torch.float32)
    net, image, keys = model(some, classes, link=link), some.image.clone(), some.keys.clone()
    before, noise = fingerprint(net.module), torch.get_rng_state()
    result = explainer(name, net)(some)
    assert result.shape == (count, 6, 7)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    assert (result.flatten(1).std(dim=1) > 0).all()
    assert not result.requires_grad
    assert torch.equal(some.image, image)
    assert torch.equal(some.keys, keys)
    assert torch.equal(torch.get_rng_state(), noise)
    compare(before, net.module)


@EACH
def test_the_defaults_are_the_factorys_parameters(name):
    module, attr = SPECS[name].factory.split(":")
    net = model(batch())
    getattr(importlib.import_module(module), attr)(net, **SPECS[name].params)
    assert net.passes.forwards == 0


@EACH
def test_a_model_that_fails_in_the_middle_is_left_as_it_was(name):
    some = batch()
    net = model(some, batch_size=16)
    before, passes = fingerprint(net.module), []

    def fail(image):
        passes.append(len(image))
        if len(passes) > 1:
            raise RuntimeError("no more")
        return type(net).logits(net, image)

    net.logits = fail
    with pytest.raises(RuntimeError, match="no more"):
        explainer(name, net)(some)
    compare(before, net.module)


@EACH
@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_pass_is_full_but_the_last_and_none_is_superfluous(name, count, batch_size):
    some, seen = batch(count), []
    net = model(some, batch_size=batch_size)
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    explainer(name, net)(some)
    whole, rest = divmod(count * PASSES[name], batch_size)
    assert seen == [batch_size] * whole + [rest] * (rest > 0)
    assert net.passes.forwards == count * PASSES[name]
    assert net.passes.backwards == 0


@EACH
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 50), cuts=st.sets(st.integers(1, 5), max_size=3), score=st.sampled_from(["logit", "prob"])
)
def test_maps_do_not_depend_on_batch_or_chunk(name, batch_size, cuts, score):
    some = batch(6)
    whole = explainer(name, model(some), score=score)(some)
    net = model(some, batch_size=batch_size)
    bounds = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    parts = [explainer(name, net, score=score)(some.take(slice(*bound))) for bound in bounds]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-10, rtol=1e-10)


@EACH
def test_all_images_and_seeds_share_their_masks(name):
    twins = batch(2, targets=1)
    twins.image[1] = twins.image[0]
    net = model(twins)
    first, second = explainer(name, net)(twins)
    torch.testing.assert_close(first, second, atol=1e-12, rtol=1e-12)
    other = batch(2, targets=1, seed=1)
    torch.testing.assert_close(explainer(name, net)(other)[0], first, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if "draw" in spec.params])
def test_another_draw_gives_other_masks(name):
    some = batch()
    net = model(some)
    one, two, again = (explainer(name, net, draw=draw)(some) for draw in (0, 1, 0))
    assert torch.equal(one, again)
    assert not torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.polarity == "signed"])
def test_the_map_of_a_one_logit_net_turns_sign_with_the_target(name):
    some = batch()
    net = model(some, classes=1, link="sigmoid")
    no, yes = (explainer(name, net)(some.with_target(torch.full((3,), target))) for target in (0, 1))
    torch.testing.assert_close(no, -yes)
    assert yes.abs().max() > 1e-3


@EACH
def test_float32_agrees_with_float64(name):
    some, single = batch(), batch(dtype=torch.float32)
    exact = explainer(name, model(some))(some)
    torch.testing.assert_close(explainer(name, model(single))(single).double(), exact, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("score", ["logit", "prob"])
def test_pair_scores_are_the_scores_of_each_image_under_each_perturbation(score):
    some = batch()
    net = model(some, batch_size=4)
    factors = torch.linspace(0, 1, 5, dtype=torch.float64)
    found = pair_scores(net, some.target, 5, lambda row, draw: some.image[row] * factors[draw].view(-1, 1, 1, 1), score)
    for i in range(3):
        for j in range(5):
            alone = net.score(some.image[i : i + 1] * factors[j], some.target[i : i + 1], score)
            torch.testing.assert_close(found[i, j], alone[0])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rise", {"n": 0}, "perturbation/rise: n is 0; at least 1"),
        ("rise", {"cells": 0}, "cells is 0"),
        ("rise", {"p": 0.0}, "p is 0.0"),
        ("rise", {"p": 1.0}, "p is 1.0"),
        ("occlusion", {"window": -1}, "perturbation/occlusion: window is -1"),
        ("occlusion", {"stride": -2}, "stride is -2"),
        ("occlusion", {"window": 3, "stride": 4}, "stride is 4 and the window 3"),
        ("lime", {"n": 1}, "perturbation/lime: n is 1"),
        ("lime", {"segments": 0}, "segments is 0"),
        ("lime", {"ridge": 0.0}, "ridge is 0.0"),
        ("lime", {"kernel_width": -1.0}, "kernel_width is -1.0"),
        ("kernel_shap", {"segments": 0}, "perturbation/kernel_shap: segments is 0"),
        ("kernel_shap", {"n": 13}, "n is 13; 6 superpixels need at least 14"),
    ],
)
def test_the_factory_says_which_parameter_is_out_of_range(name, params, message):
    with pytest.raises(Unsupported, match=message):
        explainer(name, model(batch()), **params)
