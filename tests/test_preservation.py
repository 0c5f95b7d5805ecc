"""Preservation under noise on networks whose dead pixels are known, against a loop; background precision by counting."""

import math

import pytest
import torch
from torch import nn

from xbench.metrics.localisation import localisation_precision
from xbench.metrics.preservation import EXTRAS, background_precision, noise_level, preservation
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys, uniform
from xbench.tensors import Batch, Explanation

NAMES = ["preservation_auc", "preservation_reversed_auc", "preservation_gap", "preservation_drift"]


class LeftHalf(nn.Module):
    """Logits [v, 0, -v], v the sum of the left half's pixels less half their number: the right half is dead."""

    def forward(self, x):
        v = 3 * (x[..., : x.shape[-1] // 2] - 0.5).sum(dim=(1, 2, 3))
        return torch.stack([v, torch.zeros_like(v), -v], dim=1)


def conv_net(channels=1, classes=4, link="softmax", batch_size=64):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, classes),
    )
    for parameter in net.parameters():
        parameter.data *= 4
    return Model(net, link=link, batch_size=batch_size)


def make_batch(model, count=6, channels=1, height=6, width=8, wrong=(), seed=0):
    ids = tuple(f"s{i}" for i in range(count))
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(3))
    predicted = model.logits(image).argmax(dim=1).detach()
    label = predicted.clone()
    for i in wrong:
        label[i] = (label[i] + 1) % 2
    return Batch(image, ids, label, predicted, sample_keys(seed, ids))


def measure(model, batch, maps, polarity="signed", metric=None):
    backdrop = Backdrop(model, batch, torch.zeros(batch.image.shape[1]))
    found = (metric or preservation(4, 10, 2.0))(Scene(backdrop, Explanation(maps), polarity))
    assert all(value.shape == (len(batch),) and value.dtype == torch.float64 for value in found.values())
    return found


def random_maps(batch, seed=7):
    return torch.rand(len(batch), *batch.image.shape[2:], generator=torch.Generator().manual_seed(seed))


def half(batch):
    """1 on the half that decides."""
    maps = torch.zeros(len(batch), *batch.image.shape[2:])
    maps[..., : maps.shape[-1] // 2] = 1
    return maps


# Noise.


def test_noise_on_dead_pixels_changes_nothing_and_the_reverse_order_does():
    model = Model(LeftHalf())
    batch = make_batch(model, 40)
    found = measure(model, batch, half(batch), metric=preservation(6, 10, 2.0))
    assert list(found) == NAMES
    # Up to q = 1/2 nothing moves: an area of at least .5.
    assert found["preservation_auc"].min() >= 0.5
    assert found["preservation_auc"].mean() > found["preservation_reversed_auc"].mean() + 0.1
    assert found["preservation_gap"].mean() > 0.1


def test_a_network_that_sees_nothing_agrees_with_itself_everywhere():
    class Blind(nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 1.0]).expand(len(x), 2)

    model = Model(Blind())
    batch = make_batch(model)
    found = measure(model, batch, random_maps(batch))
    assert [found[name].tolist() for name in NAMES] == [[1] * 6, [1] * 6, [0] * 6, [0] * 6]


@pytest.mark.parametrize(("channels", "classes", "link"), [(1, 4, "softmax"), (3, 1, "sigmoid"), (3, 4, "softmax")])
@pytest.mark.parametrize("polarity", ["signed", "non_contributing"])
def test_scores_equal_a_loop_over_samples_draws_and_shares(channels, classes, link, polarity):
    model = conv_net(channels, classes, link)
    batch = make_batch(model, 3, channels)
    maps = random_maps(batch)
    found = measure(model, batch, maps, polarity, preservation(5, 4, 4.0))
    evidence = -maps if polarity == "non_contributing" else maps
    n = maps[0].numel()
    counts = [0, 12, 24, 36, 48]
    for i in range(3):
        clean = model.logits(batch.image[i : i + 1])
        p, areas = model.prob(clean), []
        for order in (evidence[i].flatten().argsort(), evidence[i].flatten().argsort(descending=True)):
            agree, drift = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
            for s, count in enumerate(counts):
                where = torch.zeros(n, dtype=torch.bool)
                where[order[:count]] = True
                for draw in range(5):
                    u = uniform(batch.keys[i : i + 1], "preservation", batch.image.shape[1:], draw)[0] * 2 - 1
                    noisy = batch.image[i] + 4 * u * where.view(maps[0].shape)
                    logits = model.logits(noisy[None])
                    agree[s] += (logits.argmax() == clean.argmax()).double() / 5
                    drift[s] += (model.prob(logits) - p).abs().mean().double() / 5
            areas += [torch.trapezoid(y, dx=0.25).item() for y in (agree, drift)]
        assert found["preservation_auc"][i].item() == pytest.approx(areas[0])
        assert found["preservation_reversed_auc"][i].item() == pytest.approx(areas[2])
        assert found["preservation_gap"][i].item() == pytest.approx(areas[0] - areas[2])
        assert found["preservation_drift"][i].item() == pytest.approx(areas[1], abs=1e-6)
    assert min(found[name].min() for name in NAMES[:2]) < 1
    assert found["preservation_drift"].min() > 0


def test_a_wrongly_classified_sample_has_no_score_and_costs_no_pass():
    model = conv_net()
    batch = make_batch(model, 6, wrong=(1, 4))
    before = model.passes.forwards
    found = measure(model, batch, random_maps(batch))
    assert model.passes.forwards - before == 6 + 4 * 4 * 19
    for name in NAMES:
        assert found[name].isnan().tolist() == [False, True, False, False, True, False]
    everyone = measure(model, make_batch(model, 6), random_maps(batch))
    for name in NAMES:
        assert torch.equal(found[name][[0, 2, 3, 5]], everyone[name][[0, 2, 3, 5]])
    nobody = make_batch(model, 6, wrong=range(6))
    assert all(value.isnan().all() for value in measure(model, nobody, random_maps(nobody)).values())


def test_random_orders_have_no_gap_on_average():
    model = conv_net()
    batch = make_batch(model, 400)
    gap = measure(model, batch, random_maps(batch), metric=preservation(2, 5, 4.0))["preservation_gap"]
    assert gap.std() > 0.05
    assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(400)


def test_a_negated_map_swaps_the_orders():
    model = conv_net()
    batch = make_batch(model)
    one, other = (measure(model, batch, sign * random_maps(batch)) for sign in (1, -1))
    assert torch.equal(one["preservation_auc"], other["preservation_reversed_auc"])
    torch.testing.assert_close(one["preservation_gap"], -other["preservation_gap"])
    turned = measure(model, batch, -random_maps(batch), "non_contributing")
    assert all(torch.equal(one[name], turned[name]) for name in NAMES)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_neither_chunks_nor_company_change_a_score(batch_size):
    model = conv_net(3, batch_size=batch_size)
    batch = make_batch(model, 6, 3)
    maps = random_maps(batch)
    whole = measure(conv_net(3), batch, maps)
    seen = []
    model.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = measure(model, batch.take(slice(2, 5)), maps[2:5])
    assert max(seen) <= max(batch_size, 3)  # the clean pass is the whole batch
    for name in NAMES:
        torch.testing.assert_close(found[name], whole[name][2:5], atol=1e-6, rtol=0)


@pytest.mark.parametrize("params", [(0, 10, 1.0), (4, 0, 1.0), (4, 10, 0.0), (4, 10, -1.0)])
def test_what_is_out_of_range_is_named(params):
    with pytest.raises(ValueError, match=r"draws=0|steps=0|amplitude="):
        preservation(*params)


# Background.


@pytest.mark.parametrize("polarity", ["signed", "non_contributing"])
def test_background_precision_counts_the_pixels_of_least_evidence_outside_the_mask(polarity):
    model = conv_net()
    batch = make_batch(model, 20)
    mask = (
        torch.rand(20, 6, 8, generator=torch.Generator().manual_seed(1)) < torch.linspace(0.1, 0.9, 20)[:, None, None]
    )
    maps = random_maps(batch)
    batch = Batch(batch.image, batch.sample_id, batch.label, batch.target, batch.keys, mask=mask)
    found = measure(model, batch, maps, polarity, background_precision())
    for i in range(20):
        outside = ~mask[i].flatten()
        k = int(outside.sum())
        evidence = (-maps if polarity == "non_contributing" else maps)[i].flatten()
        want = outside[evidence.argsort()[:k]].double().mean().item()
        assert found["background_precision"][i].item() == pytest.approx(want)
        assert found["background_precision.chance"][i].item() == pytest.approx(k / 48)
    assert found["background_precision"].std() > 0.1


def test_background_precision_is_one_on_the_mask_chance_on_a_blank_map_and_undefined_without_either_side():
    model = conv_net()
    batch = make_batch(model, 4)
    mask = random_maps(batch) > 0.5
    mask[2], mask[3] = False, True
    batch = Batch(batch.image, batch.sample_id, batch.label, batch.target, batch.keys, mask=mask)
    metric = background_precision()
    on, blank = (measure(model, batch, maps, metric=metric) for maps in (mask.float(), torch.ones(4, 6, 8)))
    assert on["background_precision"][:2].tolist() == [1, 1]
    torch.testing.assert_close(blank["background_precision"], on["background_precision.chance"], equal_nan=True)
    for name in ("background_precision", "background_precision.chance"):
        assert on[name].isnan().tolist() == [False, False, True, True]
    scene = Scene(Backdrop(model, batch, torch.zeros(1)), Explanation(random_maps(batch)))
    share = mask[:2].flatten(1).double().mean(dim=1)
    p = localisation_precision()(scene)["localisation_precision"][:2]
    torch.testing.assert_close(metric(scene)["background_precision"][:2], 1 - share * (1 - p) / (1 - share))


# What an explainer says of itself.


def test_noise_level_hands_on_what_the_explainer_says_and_nothing_for_others():
    model = conv_net()
    batch = make_batch(model, 3)
    extras = {name: torch.arange(3.0) + i for i, name in enumerate(EXTRAS.values())}
    scene = Scene(Backdrop(model, batch, torch.zeros(1)), Explanation(random_maps(batch), extras=extras))
    found = noise_level()(scene)
    assert {name: value.tolist() for name, value in found.items()} == {
        score: extras[name].tolist() for score, name in EXTRAS.items()
    }
    assert all(
        value.isnan().all() for value in measure(model, batch, random_maps(batch), metric=noise_level()).values()
    )
