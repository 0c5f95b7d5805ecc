"""Localisation scores are 1 on the mask, 0 off it, chance where a map says nothing, and exact expectations over ties."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xbench.metrics.localisation import (
    difference_precision,
    localisation_precision,
    pointing_game,
    relevance_mass,
)
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation

METRICS = {
    "localisation_precision": localisation_precision(),
    "pointing_game": pointing_game(0.0),
    "relevance_mass": relevance_mass(),
}
law = settings(max_examples=60, deadline=None, derandomize=True)
every_metric = pytest.mark.parametrize("name", METRICS)


def make_scene(maps, mask, polarity="signed", ids=None, **truth):
    """A scene whose model is never asked; maps and mask [B,H,W] or one [H,W]."""
    maps, mask = torch.as_tensor(maps, dtype=torch.float32), torch.as_tensor(mask, dtype=torch.bool)
    maps = maps[None] if maps.ndim == 2 else maps
    mask = (mask[None] if mask.ndim == 2 else mask).expand(maps.shape)
    size, height, width = maps.shape
    ids = tuple(f"s{i}" for i in range(size)) if ids is None else tuple(ids)
    target = truth.pop("target", torch.ones(size, dtype=torch.int64))
    image = truth.pop("image", torch.full((size, 1, height, width), 0.5))
    batch = Batch(image, ids, target, target, sample_keys(0, ids), mask=mask, **truth)
    backdrop = Backdrop(Model(nn.Identity()), batch, torch.zeros(image.shape[1]))
    return Scene(backdrop, Explanation(maps), polarity)


def measure(name, scene):
    found = METRICS[name](scene)
    assert list(found) == [name, f"{name}.chance"]
    assert all(value.dtype == torch.float64 and value.shape == (len(scene.batch),) for value in found.values())
    return found[name].tolist(), found[f"{name}.chance"].tolist()


def random_masks(count=20, height=5, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, height, width, generator=generator) < torch.rand(count, 1, 1, generator=generator)
    mask[:, 0, 0], mask[:, -1, -1] = True, False
    return mask


# What any map must score.


@every_metric
def test_the_mask_itself_scores_one_and_its_complement_zero(name):
    mask = random_masks()
    share = mask.double().mean(dim=(1, 2)).tolist()
    assert measure(name, make_scene(mask, mask)) == ([1.0] * 20, share)
    assert measure(name, make_scene(7.5 * mask - 7, mask))[0] == [1.0] * 20
    # With a mask of more than half the image some of the k highest pixels must lie on it.
    small = mask[mask.flatten(1).sum(dim=1) <= 15]
    assert measure(name, make_scene(~small, small))[0] == [0.0] * len(small)
    assert len(small) > 5


@every_metric
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, -2.0])
def test_a_uniform_map_scores_chance(name, value):
    mask = random_masks()
    score, chance = measure(name, make_scene(torch.full((20, 5, 6), value), mask))
    assert chance == (mask.flatten(1).sum(dim=1).double() / 30).tolist()
    assert score == pytest.approx(chance, abs=1e-15)


@every_metric
def test_random_maps_score_chance_on_average(name):
    generator = torch.Generator().manual_seed(3)
    mask = random_masks(1)[0].expand(3000, -1, -1)
    score, chance = measure(name, make_scene(torch.rand(3000, 5, 6, generator=generator), mask))
    assert abs(np.mean(score) - chance[0]) < 4 * np.std(score) / math.sqrt(3000)


def test_a_case_of_four_by_four_worked_by_hand():
    mask = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    maps = [[0, 0, 5, 0], [0, 5, 3, -9], [2, 2, 2, 0], [0, -1, 0, 0]]
    # Two pixels of 5, one of them inside; then 3, inside; one place is left for three 2s, two of them inside.
    assert measure("localisation_precision", make_scene(maps, mask))[0] == pytest.approx([(1 + 1 + 2 / 3) / 4])
    assert measure("pointing_game", make_scene(maps, mask))[0] == [0.5]
    assert measure("relevance_mass", make_scene(maps, mask))[0] == pytest.approx([(5 + 3 + 2 + 2) / 19])
    for name in METRICS:
        assert measure(name, make_scene(maps, mask))[1] == [0.25]


# Ties.


def tie_breakings(values):
    """Every order, from the largest down, in which the pixels could be drawn."""
    for ties in itertools.permutations(range(len(values))):
        yield sorted(range(len(values)), key=lambda pixel: (-values[pixel], ties[pixel]))


@law
@given(st.data())
def test_scores_are_the_mean_over_all_ways_to_break_ties(data):
    n = data.draw(st.integers(2, 6))
    values = data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    scene = make_scene([values], [mask])
    k = sum(mask)
    orders = list(tie_breakings(values))
    precision = np.mean([sum(mask[pixel] for pixel in order[:k]) / k for order in orders])
    pointing = np.mean([mask[order[0]] for order in orders])
    assert measure("localisation_precision", scene)[0] == pytest.approx([precision], abs=1e-12)
    assert measure("pointing_game", scene)[0] == pytest.approx([pointing], abs=1e-12)
    total = sum(max(value, 0) for value in values)
    inside = sum(max(value, 0) for value, hit in zip(values, mask, strict=True) if hit)
    assert measure("relevance_mass", scene)[0] == pytest.approx([inside / total if total else k / n], abs=1e-12)


def test_expectations_equal_the_mean_over_the_seeded_tie_breaking_that_curves_use():
    count = 4000
    maps = torch.tensor([[2.0, 1, 1, 1], [0, 2, 1, 0], [0, 0, 0, 1]])
    mask = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    scene = make_scene(maps.expand(count, -1, -1), mask)
    k = int(mask.sum())
    drawn = ((scene.ranks < k) & mask.flatten()).sum(dim=1).double() / k
    first = ((scene.ranks == 0) & mask.flatten()).sum(dim=1).double()
    for name, found in (("localisation_precision", drawn), ("pointing_game", first)):
        assert 0 < found.std() < 1
        expected = measure(name, scene)[0][0]
        assert abs(found.mean().item() - expected) < 4 * found.std().item() / math.sqrt(count)


# What is no truth.


@every_metric
def test_a_sample_without_a_mask_has_neither_score_nor_chance(name):
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[1, 2, 2] = True
    score, chance = measure(name, make_scene(torch.ones(3, 4, 4), mask))
    assert [math.isnan(value) for value in score] == [True, False, True]
    assert [math.isnan(value) for value in chance] == [True, False, True]


@every_metric
def test_a_mask_of_another_class_than_the_explained_one_is_no_truth(name):
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, 2, 2] = True
    speaks_of, target = torch.tensor([0, 1, -1]), torch.tensor([1, 1, 1])
    score, chance = measure(name, make_scene(mask, mask, mask_class=speaks_of, target=target))
    assert math.isnan(score[0])
    assert math.isnan(chance[0])
    assert score[1:] == [1, 1]
    assert chance[1:] == [1 / 16, 1 / 16]


@every_metric
def test_a_mask_of_the_whole_image_is_hit_by_any_map(name):
    full = torch.ones(1, 4, 4, dtype=torch.bool)
    assert measure(name, make_scene(torch.rand(1, 4, 4), full)) == ([1.0], [1.0])


def test_difference_precision_looks_where_the_counterfactual_differs_and_nowhere_else():
    image = torch.full((3, 2, 4, 4), 0.5)
    counterfactual = image.clone()
    counterfactual[0, 1, 1, 1] += 0.5  # one channel is enough
    counterfactual[0, 0, 2, 3] -= 2 / 255
    counterfactual[0, :, 0, 0] += 1 / 255  # one grey level is rounding
    counterfactual[1, 0, :2] = 0
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, 3, 3] = True
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 1], maps[0, 0, 0], maps[0, 3, 3] = 3, 2, 1
    scene = make_scene(maps, mask, image=image, counterfactual=counterfactual, mask_class=torch.zeros(3).long())
    found = difference_precision()(scene)
    assert list(found) == ["difference_precision", "difference_precision.chance"]
    score, chance = (value.tolist() for value in found.values())
    assert score[:2] == [0.5, 0.5]
    assert chance[:2] == [2 / 16, 8 / 16]
    assert math.isnan(score[2])
    assert math.isnan(chance[2])
    ring = make_scene(scene.batch.difference, mask, image=image, counterfactual=counterfactual)
    assert difference_precision()(ring)["difference_precision"].tolist()[:2] == [1, 1]


# Tolerance.


def peaked(row, column):
    maps = torch.zeros(9, 9)
    maps[row, column] = 1
    return maps


@pytest.mark.parametrize(
    ("place", "tolerance", "hit"),
    [
        ((4, 4), 0.0, 1),
        ((4, 5), 0.0, 0),
        ((4, 5), 1.0, 0),
        ((4, 5), 1.001, 1),
        ((5, 5), 1.414, 0),
        ((5, 5), 1.415, 1),
        ((4, 7), 3.0, 0),
        ((4, 7), 3.001, 1),
        ((0, 1), 5.0, 0),
        ((0, 1), 5.001, 1),
    ],
)
def test_a_peak_hits_when_it_is_nearer_to_the_mask_than_the_tolerance(place, tolerance, hit):
    mask = peaked(4, 4) > 0
    found = pointing_game(tolerance)(make_scene(peaked(*place), mask))
    assert found["pointing_game"].tolist() == [hit]
    reached = [(y, x) for y in range(9) for x in range(9) if math.dist((y, x), (4, 4)) < tolerance or (y, x) == (4, 4)]
    assert found["pointing_game.chance"].tolist() == [len(reached) / 81]


def test_tolerance_gives_no_truth_to_a_sample_without_one():
    mask = torch.stack([torch.zeros(9, 9), torch.ones(9, 9), peaked(0, 0)]) > 0
    maps = torch.stack([peaked(4, 4)] * 3)
    found = pointing_game(2.0)(make_scene(maps, mask))
    assert math.isnan(found["pointing_game"][0])
    assert math.isnan(found["pointing_game.chance"][0])
    assert found["pointing_game"][1:].tolist() == [1, 0]


# What must not matter.


@law
@given(seed=st.integers(0, 10_000), power=st.integers(-60, 60))
def test_a_positive_factor_changes_no_score(seed, power):
    maps = torch.randn(6, 5, 6, generator=torch.Generator().manual_seed(seed))
    mask = random_masks(6, seed=seed)
    for name in METRICS:
        assert measure(name, make_scene(maps, mask)) == measure(name, make_scene(maps * 2.0**power, mask))
    other = make_scene(maps * 0.3, mask)
    for name in METRICS:
        assert measure(name, make_scene(maps, mask))[0] == pytest.approx(measure(name, other)[0], abs=1e-6)


@every_metric
@pytest.mark.parametrize("polarity", ["signed", "non_contributing"])
def test_company_changes_no_score(name, polarity):
    maps = (torch.randn(20, 5, 6, generator=torch.Generator().manual_seed(1)) * 2).round()
    mask = random_masks()
    together = measure(name, make_scene(maps, mask, polarity))
    for rows in ([0], [7, 3], list(range(19, -1, -1))):
        scene = make_scene(maps[rows], mask[rows], polarity, ids=[f"s{i}" for i in rows])
        for one, all_ in zip(measure(name, scene), together, strict=True):
            assert one == [all_[i] for i in rows]


@every_metric
def test_a_non_contributing_map_is_the_better_the_lower_it_is_on_the_mask(name):
    mask = random_masks()
    away = make_scene(mask, mask, "non_contributing")
    good = make_scene(-1.0 * mask, mask, "non_contributing")
    worse, better = measure(name, away)[0], measure(name, good)[0]
    assert all(low < high for low, high in zip(worse, better, strict=True))
    if name != "relevance_mass":
        assert better == [1.0] * 20
