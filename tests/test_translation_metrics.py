"""Translation metrics on networks that read one pixel, where every flip, distance and curve is known in closed form."""

import inspect
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from xbench.columns import Columns
from xbench.components import Component, import_attr
from xbench.metrics import xbench_metrics
from xbench.metrics.counterfactual import (
    attention_agreement,
    counterfactual_distance,
    cout,
    difference_mass,
    proximity,
)
from xbench.metrics.ranks import spearman
from xbench.metrics.translation import oracle_flip_rate, translation_controls, translation_flip_rate, validity
from xbench.models import Model
from xbench.perturb import step_counts
from xbench.scene import Backdrop, Scene
from xbench.seeds import permutation, sample_keys
from xbench.tensors import Batch, Explanation

law = settings(max_examples=50, deadline=None, derandomize=True)
SPECS = [spec for spec in xbench_metrics() if spec.family == "translation"]
CLASSES = ("small", "large")


class Reads(nn.Module):
    """Logits [-v, v] (or, with one logit, 2 v) of how far one pixel is above one half, times a gain."""

    def __init__(self, row=0, column=0, gain=8.0, one_logit=False):
        super().__init__()
        self.row, self.column, self.gain, self.one_logit = row, column, gain, one_logit
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        v = self.gain * (x[:, 0, self.row, self.column] - 0.5)
        return v[:, None] if self.one_logit else torch.stack([-v, v], dim=1)


def draw(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def make_scene(image, translated, label, net=None, attribution=None, oracle=None, ids=None, extras=None, **other):
    """A scene of images and their translations; the network reads the first pixel unless another one is given."""
    image, label = torch.as_tensor(image, dtype=torch.float32), torch.as_tensor(label)
    ids = tuple(f"s{i}" for i in range(len(image))) if ids is None else tuple(ids)
    options = {name: other.pop(name) for name in ("link", "batch_size") if name in other}
    model = Model(Reads() if net is None else net, **options)
    batch = Batch(image, ids, label, label, sample_keys(0, ids), counter_target=1 - label, **other)
    attribution = torch.zeros_like(image[:, 0]) if attribution is None else attribution
    explanation = Explanation(attribution, torch.as_tensor(translated, dtype=torch.float32), extras=extras or {})
    backdrop = Backdrop(model, batch, torch.zeros(image.shape[1]), classes=CLASSES, oracle=oracle)
    return Scene(backdrop, explanation)


def pixels(values, size=4):
    """Images [B,1,size,size] of one half whose first pixel has the values."""
    image = torch.full((len(values), 1, size, size), 0.5)
    image[:, 0, 0, 0] = torch.tensor(values)
    return image


# Every way that a sample can go: label, prediction before, prediction after.
WAYS = torch.cartesian_prod(*[torch.arange(2)] * 3)
LABEL, BEFORE, AFTER = WAYS.T
LOW_HIGH = torch.tensor([0.25, 0.75])


def all_ways(**other):
    return make_scene(pixels(LOW_HIGH[BEFORE].tolist()), pixels(LOW_HIGH[AFTER].tolist()), LABEL, **other)


def numbers(values):
    """A list with None for NaN, so that lists can be compared."""
    return [None if math.isnan(value) else value for value in values.tolist()]


# Flips.


def test_flips_of_all_eight_ways_are_as_counted_by_hand():
    found = translation_flip_rate()(all_ways())
    #             (label, before, after): 000 001 010 011 100 101 110 111
    assert found["translation_flip_rate"].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    assert numbers(found["corrected_flip_rate"]) == [0, 1, None, None, None, None, 1, 0]
    assert numbers(found["unflip_rate"]) == [None, None, 1, 0, 0, 1, None, None]
    assert found["net_shift"].tolist() == [0, 1, -1, 0, 0, -1, 1, 0]
    p = torch.sigmoid(torch.tensor(2 * 8 * 0.25)).item()
    expected = [0, 2 * p - 1, 1 - 2 * p, 0, 0, 1 - 2 * p, 2 * p - 1, 0]
    assert found["confidence_gain"].tolist() == pytest.approx(expected, abs=1e-7)


def test_validity_is_the_prediction_after_alone_and_from_restricts_it_to_a_class():
    assert validity()(all_ways())["validity"].tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    small, large = (validity(**{"from": name})(all_ways())["validity"] for name in CLASSES)
    assert numbers(small) == [0, 1, 0, 1, None, None, None, None]
    assert numbers(large) == [None, None, None, None, 1, 0, 1, 0]


def test_validity_from_a_class_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match=r"validity\[from=smal\]: there is no such class; did you mean 'small'\?"):
        validity(**{"from": "smal"})(all_ways())
    with pytest.raises(ValueError, match="one of small, large"):
        validity(**{"from": "zzz"})(all_ways())
    with pytest.raises(TypeError, match="no parameter source"):
        validity(source="small")


@pytest.mark.parametrize("one_logit", [False, True])
def test_a_net_with_one_logit_flips_as_one_with_two(one_logit):
    scene = all_ways(net=Reads(gain=16.0, one_logit=True), link="sigmoid") if one_logit else all_ways()
    found = translation_flip_rate()(scene)
    assert found["translation_flip_rate"].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    reach = torch.sigmoid(torch.tensor(4.0)).item()
    assert found["confidence_gain"][1].item() == pytest.approx(2 * reach - 1, abs=1e-7)
    assert cout(50)(scene)["cout"].isfinite().all()


def test_the_oracle_speaks_for_itself():
    image, translated = pixels([0.25] * 4), pixels([0.75, 0.75, 0.25, 0.25])
    # The oracle reads another pixel, which the translation moves in samples 1 and 3 only.
    image[:, 0, 3, 3] = 0.25
    translated[:, 0, 3, 3] = torch.tensor([0.25, 0.75, 0.25, 0.75])
    oracle = Model(Reads(3, 3), batch_size=3)
    scene = make_scene(image, translated, [0] * 4, oracle=oracle)
    found = oracle_flip_rate()(scene)
    assert found["oracle_flip_rate"].tolist() == [0, 1, 0, 1]
    assert found["oracle_validity"].tolist() == [0, 1, 0, 1]
    assert found["oracle_agreement"].tolist() == [0, 1, 1, 0]
    assert validity()(scene)["validity"].tolist() == [1, 1, 0, 0]
    assert oracle.module.sizes == [3, 1, 3, 1]
    # Another explanation of the same batch asks it about the translated images only.
    oracle_flip_rate()(Scene(scene.backdrop, scene.explanation))
    assert oracle.module.sizes == [3, 1, 3, 1, 3, 1]


def test_an_oracle_that_was_wrong_from_the_start_is_valid_without_a_flip():
    image, translated = pixels([0.25]), pixels([0.25])
    image[:, 0, 3, 3] = translated[:, 0, 3, 3] = 0.75
    found = oracle_flip_rate()(make_scene(image, translated, [0], oracle=Model(Reads(3, 3))))
    assert [value.item() for value in found.values()] == [0, 1, 0]


def test_controls_count_changed_predictions_and_are_undefined_where_the_explainer_gives_none():
    extras = {"cycle": pixels([0.25, 0.75, 0.4]), "swapped": pixels([0.75, 0.3, 0.2])}
    image = pixels([0.25, 0.25, 0.75])
    net = Reads()
    scene = make_scene(image, pixels([0.75] * 3), [0, 0, 1], net=net, extras=extras, batch_size=2)
    found = translation_controls()(scene)
    assert found["cycle_flip_rate"].tolist() == [0, 1, 1]
    assert found["swapped_flip_rate"].tolist() == [1, 0, 1]
    assert numbers(found["noise_flip_rate"]) == [None] * 3
    assert net.sizes == [3, 2, 1, 2, 1]  # the clean images, then each control in passes of two


def test_a_control_of_another_shape_is_refused():
    scene = make_scene(pixels([0.25]), pixels([0.75]), [0], extras={"noised": torch.zeros(1, 4, 4)})
    with pytest.raises(ValueError, match=r"'noised' has shape \(1, 4, 4\); \(1, 1, 4, 4\) is needed"):
        translation_controls()(scene)


def test_all_flips_share_one_forward_of_the_translated_images():
    scene = all_ways()
    for metric in (translation_flip_rate(), validity(), validity(**{"from": "small"}), proximity()):
        metric(scene)
    assert scene.model.passes.forwards == 2 * len(WAYS)


def test_an_explanation_without_the_promised_image_is_named():
    scene = all_ways()
    scene = Scene(scene.backdrop, Explanation(scene.explanation.attribution))
    for metric in (translation_flip_rate(), proximity(), cout(50)):
        with pytest.raises(ValueError, match="holds no translated image"):
            metric(scene)


# The identity.


def test_a_translation_that_changes_nothing_flips_nothing_and_scores_what_nothing_scores():
    image, label = draw((20, 2, 5, 6)), torch.arange(20) % 2
    mask, exact = draw((20, 5, 6), 1) < 0.3, image.clone()
    exact[:, :, 2, 3] = 1 - image[:, :, 2, 3]
    attribution = draw((20, 5, 6), 2)
    scene = make_scene(
        image, image.clone(), label, attribution=attribution, mask=mask, counterfactual=exact, oracle=Model(Reads(4, 5))
    )
    flips = translation_flip_rate()(scene)
    for name in ("translation_flip_rate", "net_shift", "confidence_gain"):
        assert flips[name].tolist() == [0] * 20
    assert set(flips["corrected_flip_rate"].nan_to_num(0).tolist()) == {0}
    assert oracle_flip_rate()(scene)["oracle_flip_rate"].tolist() == [0] * 20
    assert all(value.tolist() == [0] * 20 for value in proximity()(scene).values())
    distance = counterfactual_distance()(scene)
    near, attention = difference_mass(0.0)(scene), attention_agreement(0.1, 0.1)(scene)
    for found, name in (
        (distance, "counterfactual_distance"),
        (distance, "ring_mass"),
        (near, "difference_mass"),
        (attention, "attention_iou"),
    ):
        torch.testing.assert_close(found[name], found[f"{name}.chance"], rtol=0, atol=1e-12)
    assert attention["attention_agreement"].isnan().all()
    assert attention["attention_mass"].isnan().all()
    p = scene.model.prob(scene.backdrop.clean_logits)
    lead = p.gather(1, 1 - label[:, None]) - p.gather(1, label[:, None])
    torch.testing.assert_close(cout(50)(scene)["cout"], lead[:, 0].double(), rtol=0, atol=1e-6)


# How much, and where.


def test_proximity_of_a_change_worked_by_hand():
    image = torch.full((3, 2, 2, 4), 0.5)
    translated = image.clone()
    translated[1, 0, 0, 0] += 0.25
    translated[1, 1, 0, 0] -= 0.25
    translated[1, 1, 1, 3] += 0.5
    translated[2] += 1 / 255  # one grey level is rounding
    translated[2, 1, 0, 1] += 1 / 255  # two are a change
    found = proximity()(make_scene(image, translated, [0, 1, 0]))
    assert found["l1"].tolist() == pytest.approx([0, 1 / 16, 17 / 255 / 16], abs=1e-7)
    assert found["l2"].tolist() == pytest.approx([0, math.sqrt(0.375 / 16), math.sqrt(19 / 16) / 255], abs=1e-7)
    assert found["changed_share"].tolist() == [0, 2 / 8, 1 / 8]


def test_difference_mass_counts_on_the_object_whichever_class_its_mask_speaks_for():
    image, translated = torch.full((3, 1, 4, 4), 0.5), torch.full((3, 1, 4, 4), 0.5)
    translated[:, 0, 1, 1] += 0.375
    translated[:, 0, 3, 3] -= 0.125
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:2, 1, 1] = True
    scene = make_scene(image, translated, [0, 1, 0], mask=mask, mask_class=torch.tensor([1, 1, 1]))
    found = difference_mass(0.0)(scene)
    assert numbers(found["difference_mass"]) == [0.75, 0.75, None]
    assert numbers(found["difference_mass.chance"]) == [1 / 16, 1 / 16, None]


@pytest.mark.parametrize(("margin", "reached"), [(0.0, 1), (0.24, 1), (0.25, 5), (0.354, 9), (0.5, 12)])
def test_a_margin_lets_the_object_count_with_what_lies_beside_it(margin, reached):
    image = torch.zeros(1, 1, 4, 6)
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 2, 3] = True
    inside = [(y, x) for y in range(4) for x in range(6) if math.dist((y, x), (2, 3)) <= margin * 4]
    assert len(inside) == reached
    found = difference_mass(margin)(make_scene(image, torch.ones_like(image), [0], mask=mask))
    assert found["difference_mass"].item() == pytest.approx(len(inside) / 24)
    assert found["difference_mass.chance"].item() == pytest.approx(len(inside) / 24)
    one = image.clone()
    one[0, 0, 2, 4] = 1
    moved = difference_mass(margin)(make_scene(image, one, [0], mask=mask))["difference_mass"].item()
    assert moved == ((2, 4) in inside)


def test_the_exact_counterfactual_is_at_distance_zero_with_all_its_mass_on_the_ring():
    image = draw((6, 3, 4, 5)) / 2
    exact = image.clone()
    exact[:, 1, 1:3, 2] += 0.25
    exact[5] = image[5]
    scene = make_scene(image, exact.clone(), [0] * 6, counterfactual=exact)
    found = counterfactual_distance()(scene)
    assert numbers(found["counterfactual_distance"]) == [0] * 5 + [None]
    assert numbers(found["counterfactual_distance.chance"])[5] is None
    assert found["counterfactual_distance.chance"][:5].tolist() == pytest.approx([0.5 / 60] * 5)
    assert numbers(found["ring_mass"]) == [1] * 5 + [None]
    assert found["ring_mass.chance"][:5].tolist() == pytest.approx([2 / 20] * 5)
    off = make_scene(image, image + (image - exact).abs().roll(1, 3), [0] * 6, counterfactual=exact)
    found = counterfactual_distance()(off)
    assert found["counterfactual_distance"][:5].tolist() == pytest.approx([1 / 60] * 5)
    assert found["ring_mass"][:5].tolist() == [0] * 5


# Attention.


def attend(attribution, change, tau=0.1, top=0.1, polarity="signed"):
    """Attention scores where the images change by [B,H,W] in one of two channels."""
    attribution, change = (torch.as_tensor(maps, dtype=torch.float32) for maps in (attribution, change))
    image = torch.zeros(len(change), 2, *change.shape[1:])
    translated = image.clone()
    translated[:, 1] = change
    scene = make_scene(image, translated, [0] * len(change), attribution=attribution)
    scene = Scene(scene.backdrop, scene.explanation, polarity)
    return attention_agreement(tau, top)(scene)


def test_an_attention_that_orders_pixels_as_the_change_does_agrees_fully():
    change = draw((5, 6, 7))
    for attribution in (change, change**3, change / 10 - 4):
        found = attend(attribution, change)
        assert found["attention_agreement"].tolist() == pytest.approx([1] * 5, abs=1e-3)  # cubes may share a level
        assert found["attention_iou"].tolist() == pytest.approx([1] * 5)
    assert attend(change, change)["attention_agreement"].tolist() == pytest.approx([1] * 5, abs=1e-12)
    away = attend(-change, change)
    assert away["attention_agreement"].tolist() == pytest.approx([-1] * 5, abs=1e-12)
    assert away["attention_iou"].tolist() == [0] * 5
    backwards = attend(-change, change, polarity="non_contributing")
    assert backwards["attention_agreement"].tolist() == pytest.approx([1] * 5, abs=1e-12)


@law
@given(st.data())
def test_agreement_is_scipys_rank_correlation_ties_included(data):
    n = data.draw(st.integers(2, 12))
    rows = st.lists(st.integers(-2, 2), min_size=n, max_size=n)
    one, other = data.draw(st.lists(rows, min_size=2, max_size=2)), data.draw(st.lists(rows, min_size=2, max_size=2))
    found = spearman(torch.tensor(one), torch.tensor(other)).tolist()
    for mine, first, second in zip(found, one, other, strict=True):
        if len(set(first)) == 1 or len(set(second)) == 1:
            assert math.isnan(mine)
        else:
            assert mine == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_attention_mass_is_the_change_where_attention_reaches_tau():
    change = [[[0.5, 0.25], [0.125, 0.125]]]
    attribution = [[[0.0999, 0.1], [0.5, 0.0]]]
    found = attend(attribution, change)
    assert found["attention_mass"].tolist() == [0.375]
    assert found["attention_area"].tolist() == [0.5]
    assert attend(attribution, change, tau=0.5)["attention_mass"].tolist() == [0.125]
    assert attend(attribution, change, tau=0.0)["attention_mass"].tolist() == [1]


def test_attention_iou_is_that_of_the_highest_pixels():
    attribution, change = torch.zeros(1, 4, 5), torch.zeros(1, 4, 5)
    attribution[0, 0], change[0, 0] = torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([0.1, 0.2, 0.5, 0.4, 0.3])
    # Of the highest four (a fifth of twenty) three are shared; of the highest two, none.
    assert attend(attribution, change, top=0.2)["attention_iou"].tolist() == pytest.approx([3 / 5])
    assert attend(attribution, change)["attention_iou"].tolist() == [0]
    assert attend(attribution, change)["attention_iou.chance"].tolist() == pytest.approx([2 / 38])


@law
@given(st.data())
def test_attention_iou_takes_the_mean_intersection_over_all_ways_to_break_ties(data):
    n = data.draw(st.integers(1, 5))
    rows = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    one, other, k = data.draw(rows), data.draw(rows), data.draw(st.integers(1, n))
    tops = []
    for values in (one, other):
        orders = [sorted(range(n), key=lambda i: (-values[i], p[i]))[:k] for p in permutations(range(n))]
        tops.append(np.array([[i in order for i in range(n)] for order in orders]).mean(axis=0))
    shared = float((tops[0] * tops[1]).sum())
    found = attend([[one]], [[[value / 2 for value in other]]], top=k / n)["attention_iou"].item()
    assert found == pytest.approx(shared / (2 * k - shared), abs=1e-9)


def test_two_maps_that_know_nothing_of_each_other_score_chance():
    found = attend(draw((2000, 8, 10)), draw((2000, 8, 10), 1))
    excess = found["attention_iou"] - found["attention_iou.chance"]
    assert abs(excess.mean()) < 2e-3 + 4 * excess.std() / math.sqrt(2000)
    excess = found["attention_mass"] - found["attention_area"]
    assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(2000)
    agreement = found["attention_agreement"]
    assert abs(agreement.mean()) < 4 * agreement.std() / math.sqrt(2000)


def test_a_blank_attention_holds_the_whole_change_on_the_whole_image_and_agrees_with_nothing():
    found = attend(torch.ones(3, 5, 4), draw((3, 5, 4)))
    assert found["attention_agreement"].isnan().all()
    assert found["attention_mass"].tolist() == found["attention_area"].tolist() == [1] * 3
    assert found["attention_iou"].tolist() == pytest.approx(found["attention_iou.chance"].tolist(), abs=1e-12)


# COUT.


@pytest.mark.parametrize("place", [0, 3, 8, 15])
@pytest.mark.parametrize("steps", [4, 5, 16, 50])
def test_cout_of_a_net_that_reads_one_pixel_jumps_when_that_pixel_comes(place, steps):
    n = 16
    image, translated = pixels([0.25]), torch.full((1, 1, 4, 4), 0.5)
    # The pixel read moves by 1/2; so many others move further and come first.
    translated[0, 0, 0, 0] = 0.75
    image.view(-1)[1 : place + 1], translated.view(-1)[1 : place + 1] = 0.0, 1.0
    found = cout(steps)(make_scene(image, translated, [0]))
    counts = step_counts(n, steps)
    reach = 2 * torch.sigmoid(torch.tensor(4.0)).item() - 1
    y = [reach if count > place else -reach for count in counts]
    area = sum((counts[i + 1] - counts[i]) / n * (y[i] + y[i + 1]) / 2 for i in range(len(counts) - 1))
    assert found["cout"].tolist() == pytest.approx([area], abs=1e-6)
    assert found["cout.curve"].x.tolist() == pytest.approx([count / n for count in counts])
    assert found["cout.curve"].y[0].tolist() == pytest.approx(y, abs=1e-6)


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30, 2))
    with torch.no_grad():
        net[-1].weight *= 20
    return net


def slow_cout(model, image, translated, label, key, steps):
    """AUC(p_t) and AUC(p_y) of one sample, pixels one by one."""
    change = (translated - image).double().abs().sum(dim=0).flatten()
    level = (change / change.max() * 65536).round().long().tolist()
    tie = permutation(key[None], "ties", len(level))[0].tolist()
    order = sorted(range(len(level)), key=lambda pixel: (-level[pixel], tie[pixel]))
    counts, found = step_counts(len(level), steps), []
    for count in counts:
        changed = image.clone()
        for pixel in order[:count]:
            row, column = divmod(pixel, image.shape[2])
            changed[:, row, column] = translated[:, row, column]
        found.append(model.prob(model.logits(changed[None]))[0].tolist())
    p, x = np.array(found), np.array(counts) / len(level)
    return np.trapezoid(p[:, 1 - label], x), np.trapezoid(p[:, label], x)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_cout_is_the_difference_of_two_areas_of_a_slow_walk(link):
    image, translated, label = draw((4, 2, 5, 6)), draw((4, 2, 5, 6), 1), [0, 1, 1, 0]
    translated[:, :, 1:3] = image[:, :, 1:3] + 0.5  # ties whose order decides
    translated[:, :, 3:] = image[:, :, 3:]
    scene = make_scene(image, translated, label, net=small_net(), link=link)
    found = cout(7)(scene)["cout"]
    for i in range(4):
        to, away = slow_cout(scene.model, image[i], translated[i], label[i], scene.batch.keys[i], 7)
        assert found[i].item() == pytest.approx(to - away, abs=1e-5)
        if link == "softmax":  # the two probabilities are complements
            assert found[i].item() == pytest.approx(2 * to - 1, abs=1e-5)


@pytest.mark.parametrize("batch_size", [4, 7, 13, 64])
def test_cout_fills_its_passes_and_asks_for_no_image_twice(batch_size):
    image, translated = draw((4, 1, 6, 6)), draw((4, 1, 6, 6), 1)
    net = Reads()
    scene = make_scene(image, translated, [0, 1, 0, 1], net=net, batch_size=batch_size)
    cout(18)(scene)
    assert max(net.sizes) <= batch_size
    assert sum(net.sizes) == 4 * 19
    assert len(net.sizes) == 2 + math.ceil(17 / (batch_size // 4))


@law
@given(st.integers(0, 1000))
def test_cout_stays_between_its_bounds_and_turns_its_sign_with_the_label(seed):
    image, translated = draw((4, 1, 4, 4), seed), draw((4, 1, 4, 4), seed + 1)
    label = torch.tensor([0, 0, 1, 1])
    one = cout(8)(make_scene(image, translated, label))["cout"]
    other = cout(8)(make_scene(image, translated, 1 - label))["cout"]
    assert (one.abs() <= 1).all()
    torch.testing.assert_close(one, -other, rtol=0, atol=1e-6)


# What must not matter, and what is refused.


def every_metric():
    return {spec.name: import_attr(spec.factory)(**spec.params) for spec in SPECS}


def full_scene(rows, batch_size=64):
    """A scene with all that a metric may ask for; a sample is the same in any company."""
    image, translated = draw((9, 2, 5, 6)), draw((9, 2, 5, 6), 1)
    translated[:, :, :2] = image[:, :, :2]
    exact, mask = image.clone(), draw((9, 5, 6), 2) < 0.3
    exact[:, 0, 1:3, 1:4] = draw((9, 2, 3), 3)
    mask[4] = False
    extras = {name: draw((9, 2, 5, 6), i)[rows] for i, name in enumerate(("cycle", "noised", "swapped"), 4)}
    return make_scene(
        image[rows],
        translated[rows],
        (torch.arange(9) % 2)[rows],
        net=small_net(),
        attribution=((draw((9, 5, 6), 7) * 4).round() / 4)[rows],
        oracle=Model(Reads(1, 1)),
        ids=[f"s{i}" for i in rows],
        extras=extras,
        counterfactual=exact[rows],
        mask=mask[rows],
        batch_size=batch_size,
    )


@pytest.mark.parametrize("name", [spec.name for spec in SPECS])
def test_company_order_and_batch_size_change_no_score(name):
    metric = every_metric()[name]
    together = metric(full_scene(list(range(9))))
    for rows, batch_size in (([0], 64), ([4], 1), ([7, 3], 2), (list(range(8, -1, -1)), 9)):
        apart = metric(full_scene(rows, batch_size))
        for key, value in apart.items():
            if not key.endswith(".curve"):
                torch.testing.assert_close(value, together[key][rows], rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_metric_gives_the_scores_that_its_spec_declares_within_their_bounds(spec):
    scene = full_scene(list(range(9)))
    columns, component = Columns(), Component(spec, dict(spec.params))
    found = import_attr(spec.factory)(**spec.params)(scene)
    columns.add_scores(component, found, scene)
    promised = [score.name for score in spec.scores]
    assert [key for key in found if "." not in key] == promised
    chances = {key.removesuffix(".chance") for key in found if key.endswith(".chance")}
    assert chances == {score.name for score in spec.scores if score.chance == "per_sample"}
    assert all(found[name].dtype == torch.float64 and found[name].shape == (9,) for name in promised)
    for score in spec.scores:
        if score.aggregate == "rate":
            assert set(found[score.name][~found[score.name].isnan()].tolist()) <= {0, 1}
    assert "translation" in spec.needs
    assert inspect.getdoc(import_attr(spec.factory))


def test_nothing_is_changed_in_place():
    scene = full_scene(list(range(9)))
    held = [scene.batch.image, scene.explanation.counterfactual, scene.explanation.attribution, scene.batch.mask]
    before = [tensor.clone() for tensor in held]
    for metric in every_metric().values():
        metric(scene)
    assert all(torch.equal(now, then) for now, then in zip(held, before, strict=True))


@pytest.mark.parametrize(
    ("factory", "params", "message"),
    [
        (cout, {"steps": 0}, "steps=0"),
        (difference_mass, {"margin": -0.1}, "margin=-0.1"),
        (attention_agreement, {"tau": 1.5, "top": 0.1}, "tau=1.5"),
        (attention_agreement, {"tau": 0.1, "top": 0.0}, "top=0.0"),
    ],
)
def test_values_that_make_no_sense_are_refused(factory, params, message):
    with pytest.raises(ValueError, match=message):
        factory(**params)
