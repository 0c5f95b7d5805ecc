"""Metrics of a map alone, or of a map and a mask: closed forms, scikit-learn and scikit-image, chance."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from xbench.metrics.complexity import complexity
from xbench.metrics.retrieval import _otsu, average_precision, iou, mask_auroc
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation


def make_scene(maps, mask=None, polarity="signed"):
    maps = torch.as_tensor(maps, dtype=torch.float32)
    size, height, width = maps.shape
    mask = torch.zeros(maps.shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask, dtype=torch.bool)
    ids, label = tuple(map(str, range(size))), torch.ones(size, dtype=torch.int64)
    batch = Batch(torch.full((size, 1, height, width), 0.5), ids, label, label, sample_keys(0, ids), mask=mask)
    return Scene(Backdrop(Model(nn.Identity()), batch, torch.zeros(1)), Explanation(maps), polarity)


def draws(count=30, height=6, width=7, steps=0):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(count, height, width))
    if steps:
        maps = np.round(maps * steps) / steps
    mask = rng.random((count, height, width)) < rng.uniform(0.1, 0.9, (count, 1, 1))
    mask[:, 0, 0], mask[:, -1, -1] = True, False
    return maps.astype(np.float32), mask


@pytest.mark.parametrize("steps", [0, 2], ids=["distinct", "tied"])
@pytest.mark.parametrize(
    ("metric", "name", "slow"),
    [(average_precision(), "average_precision", average_precision_score), (mask_auroc(), "mask_auroc", roc_auc_score)],
    ids=["ap", "auroc"],
)
def test_retrieval_is_scikit_learns(steps, metric, name, slow):
    maps, mask = draws(steps=steps)
    # Rounded as the harness rounds, for what is equal to it must be equal to the other.
    scene = make_scene(maps, mask)
    level = scene.levels.numpy()
    expected = [slow(inside.ravel(), row) for inside, row in zip(mask, level, strict=True)]
    np.testing.assert_allclose(metric(scene)[name].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("metric", [average_precision(), mask_auroc(), iou("otsu"), iou("half")])
def test_the_mask_itself_scores_one_and_a_blank_map_chance_or_nothing(metric):
    _, mask = draws()
    whole = metric(make_scene(mask.astype(np.float32), mask))
    name = next(iter(whole))
    assert torch.equal(whole[name], torch.ones(30, dtype=torch.float64))
    blank = metric(make_scene(np.zeros(mask.shape, np.float32), mask))
    expected = {"average_precision": mask.mean(axis=(1, 2)), "mask_auroc": np.full(30, 0.5), "iou": np.zeros(30)}[name]
    np.testing.assert_allclose(blank[name].numpy(), expected)


@pytest.mark.parametrize("metric", [average_precision(), mask_auroc(), iou("otsu"), iou("half")])
def test_a_sample_without_a_mask_is_undefined_and_scale_does_not_count(metric):
    maps, mask = draws()
    mask[3] = False
    found, scaled = metric(make_scene(maps, mask)), metric(make_scene(maps * 37.5, mask))
    name = next(iter(found))
    assert found[name].isnan().nonzero().tolist() == [[3]]
    torch.testing.assert_close(found[name], scaled[name], equal_nan=True)


@pytest.mark.parametrize(("metric", "name"), [(average_precision(), "average_precision"), (mask_auroc(), "mask_auroc")])
def test_random_maps_land_at_chance(metric, name):
    maps = torch.rand(3000, 6, 7, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[1:3, 2:4] = True
    found = metric(make_scene(maps, mask.expand(3000, -1, -1)))
    chance = found.get(f"{name}.chance", torch.full((1,), 0.5)).mean()
    error = found[name].std() / 3000**0.5
    assert (found[name].mean() - chance).abs() < 4 * error


def test_a_mask_that_is_the_whole_image_leaves_auroc_undefined():
    assert mask_auroc()(make_scene(np.ones((1, 2, 2)), np.ones((1, 2, 2))))["mask_auroc"].isnan().all()


def test_otsus_threshold_is_that_of_a_search_over_all_thresholds():
    rng = np.random.default_rng(1)
    grey = np.concatenate([rng.integers(0, 90, (20, 30)), rng.integers(100, 256, (20, 12))], axis=1)

    def between(row, t):
        low, high = row[row <= t], row[row > t]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else -1

    found = _otsu(torch.as_tensor(grey))
    for row, t in zip(grey, found.tolist(), strict=True):
        assert between(row, t) == pytest.approx(max(between(row, other) for other in range(256)))


def test_iou_of_half_the_top_by_hand():
    maps = [[[1.0, 0.6, 0.4], [0.5, -3.0, 0.0]]]
    mask = [[[1, 1, 1], [0, 0, 0]]]
    assert iou("half")(make_scene(maps, mask))["iou"].item() == pytest.approx(2 / 4)


def test_complexity_of_one_pixel_and_of_a_uniform_map():
    n = 12
    single, uniform = torch.zeros(1, 3, 4), torch.full((1, 3, 4), 0.3)
    single[0, 1, 2] = 5
    found = complexity(0.05)(make_scene(torch.cat([single, uniform])))
    assert found["sparseness"].tolist() == pytest.approx([(n - 1) / n, 0])
    assert found["entropy"].tolist() == pytest.approx([0, 1])
    assert found["effective_complexity"].tolist() == pytest.approx([1 / n, 1])


def test_complexity_by_loops():
    maps, _ = draws(5)
    found = complexity(0.25)(make_scene(maps))
    for i, row in enumerate(maps.reshape(5, -1).astype(np.float64)):
        v = np.sort(np.clip(row, 0, None))
        n = len(v)
        gini = sum((2 * (j + 1) - n - 1) * v[j] for j in range(n)) / (n * v.sum())
        entropy = -sum(x / v.sum() * math.log(x / v.sum()) for x in v if x > 0) / math.log(n)
        assert found["sparseness"][i].item() == pytest.approx(gini)
        assert found["entropy"][i].item() == pytest.approx(entropy)
        assert found["effective_complexity"][i].item() == pytest.approx(np.mean(v > 0.25 * v.max()))


def test_complexity_counts_positive_evidence_only_and_no_scale():
    maps, _ = draws(4)
    found = complexity(0.1)(make_scene(maps))
    for other in (np.clip(maps, 0, None), maps * 1000):
        for name, value in complexity(0.1)(make_scene(other)).items():
            torch.testing.assert_close(value, found[name])
    assert all(value.isnan().all() for value in complexity(0.1)(make_scene(-np.abs(maps))).values())
    with pytest.raises(ValueError, match="share=1"):
        complexity(1)
