"""Metrics that look at the map alone, localisation and complexity, against Quantus, TorchRay, scikit-learn, OpenCV."""

import cv2
import numpy as np
import pytest
import quantus
import torch
from sklearn.metrics import average_precision_score

from xbench.metrics.complexity import complexity
from xbench.metrics.localisation import localisation_precision, pointing_game, relevance_mass
from xbench.metrics.retrieval import average_precision, iou, mask_auroc

QUIET = {"disable_warnings": True, "display_progressbar": False}
SEEDS = range(4)


def random_masks(made, seed):
    """Return [B,H,W] bool: rectangles, one of them a single pixel."""
    random, masks = np.random.default_rng(seed), torch.zeros(made.maps.shape, dtype=torch.bool)
    for mask in masks:
        top, left = random.integers(0, 8, 2)
        height, width = random.integers(2, 5, 2)
        mask[top : top + height, left : left + width] = True
    masks[-1] = False
    masks[-1, 3, 4] = True
    return masks


def quantus_score(metric, made, mask=None, maps=None, **options):
    """Return a Quantus metric's score of every map, [B]."""
    given = made.maps if maps is None else maps
    found = metric(**QUIET, return_aggregate=False, **options)(
        model=made.net,
        x_batch=made.image.numpy().copy(),
        y_batch=made.target.numpy(),
        a_batch=given.numpy()[:, None].copy(),
        s_batch=None if mask is None else mask.numpy()[:, None],
        channel_first=True,
    )
    return np.asarray(found)


@pytest.mark.parametrize("seed", SEEDS)
def test_localisation_precision_is_relevance_rank_accuracy(case, agree, seed):
    made = case(size=16, seed=seed)
    mask = random_masks(made, seed)
    ours = localisation_precision()(made.scene(mask=mask))["localisation_precision"]
    agree("Quantus RelevanceRankAccuracy", ours, quantus_score(quantus.RelevanceRankAccuracy, made, mask), 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_relevance_mass_is_relevance_mass_accuracy_of_the_positive_part(case, agree, seed):
    made = case(size=16, seed=seed)
    mask, positive = random_masks(made, seed), made.maps.clamp(min=0)
    theirs = quantus_score(quantus.RelevanceMassAccuracy, made, mask, maps=positive)
    agree("Quantus RelevanceMassAccuracy", relevance_mass()(made.scene(mask=mask))["relevance_mass"], theirs, 1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pointing_game_without_tolerance_is_that_of_quantus(case, agree, seed):
    made = case(size=40, seed=seed)
    mask = random_masks(made, seed)
    ours = pointing_game(0)(made.scene(mask=mask))["pointing_game"]
    agree("Quantus PointingGame", ours, quantus_score(quantus.PointingGame, made, mask), 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tolerance", [1, 2, 5])
def test_the_pointing_game_with_tolerance_is_that_of_torchray(case, agree, tolerance, seed):
    """There the point hits when some mask pixel has a squared distance below the squared tolerance."""
    made = case(size=40, seed=seed)
    mask, theirs = random_masks(made, seed), []
    for inside, value in zip(mask.numpy(), made.maps.numpy(), strict=True):
        point = np.unravel_index(value.argmax(), value.shape)
        theirs.append(min(((place - point) ** 2).sum() for place in np.argwhere(inside)) < tolerance**2)
    ours = pointing_game(tolerance)(made.scene(mask=mask))["pointing_game"]
    agree("TorchRay pointing game", ours, theirs, 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_overlap_above_otsus_threshold_is_that_of_opencv(case, agree, seed):
    made = case(size=16, side=32, seed=seed)
    made.maps = (made.maps.clamp(min=0) + 0.01) ** torch.linspace(0.5, 8, 16)[:, None, None]
    mask, theirs = random_masks(made, seed), []
    for inside, value in zip(mask.numpy(), made.maps.double().numpy(), strict=True):
        grey = np.uint8(np.round((value - value.min()) / np.ptp(value) * 255))
        _, above = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        theirs.append((inside & (above > 0)).sum() / (inside | (above > 0)).sum())
    agree("OpenCV Otsu, intersection over union", iou("otsu")(made.scene(mask=mask))["iou"], theirs, 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("level", [1000, 5], ids=["no ties", "ties"])
def test_areas_under_roc_and_precision_recall_are_those_of_quantus_and_scikit_learn(case, agree, seed, level):
    made = case(size=16, seed=seed)
    made.maps = (made.maps * level).round() / level
    mask = random_masks(made, seed)
    scene = made.scene(mask=mask)
    agree("Quantus AUC", mask_auroc()(scene)["mask_auroc"], quantus_score(quantus.AUC, made, mask), 1e-12)
    theirs = [
        average_precision_score(*(side.flatten().numpy() for side in pair))
        for pair in zip(mask, made.maps, strict=True)
    ]
    agree("scikit-learn average precision", average_precision()(scene)["average_precision"], theirs, 1e-12)


def test_the_areas_of_large_masks_are_as_exact(case, agree):
    """Pairs of pixels are more than float32 can count."""
    made = case(size=3, side=224)
    mask = (
        torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
        < torch.tensor([0.1, 0.4, 0.6])[:, None, None]
    )
    made.maps = made.maps + 0.2 * mask * torch.tensor([1, 2, 3])[:, None, None]
    scene = made.scene(mask=mask)
    # Of so many pixels some lie closer than the 2^-16 to which xbench rounds a map: Quantus is given the map rounded.
    theirs = quantus_score(quantus.AUC, made, mask, maps=scene.levels.view(made.maps.shape).float())
    agree("Quantus AUC, 224 x 224", mask_auroc()(scene)["mask_auroc"], theirs, 1e-12)
    theirs = [
        average_precision_score(*(side.flatten().numpy() for side in pair))
        for pair in zip(mask, scene.levels, strict=True)
    ]
    agree("scikit-learn average precision, 224 x 224", average_precision()(scene)["average_precision"], theirs, 1e-12)


def spread(made, seed):
    """Return maps from nearly uniform to nearly a single pixel."""
    powers = torch.linspace(0.2, 20, len(made.maps), dtype=made.maps.dtype)[:, None, None]
    return (made.maps - made.maps.amin() + 0.01) ** powers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gini_and_entropy_are_sparseness_and_complexity(case, agree, seed, dtype):
    made = case(size=16, seed=seed, dtype=dtype)
    made.net = made.net.float()
    made.image = made.image.float()
    made.maps = spread(made, seed)
    top = made.maps.amax(dim=(1, 2), keepdim=True)
    ours = complexity(0.01)(made.scene())
    # The others' scores of all maps are of each alone: see the known defects.
    each = [quantus_score(quantus.Sparseness, made, maps=made.maps / top), quantus_score(quantus.Complexity, made)]
    precise = str(dtype).removeprefix("torch.")
    # Quantus adds 1e-7 to every pixel, and 1e-12 in the logarithm.
    agree(f"Quantus Sparseness, {precise}", ours["sparseness"], each[0], 1e-4)
    agree(f"Quantus Complexity / ln n, {precise}", ours["entropy"], each[1] / np.log(144), 1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [1e-3, 0.05, 0.5])
def test_effective_complexity_is_that_of_quantus_with_every_map_at_most_one(case, agree, seed, share):
    made = case(size=16, seed=seed)
    made.maps = spread(made, seed)
    made.maps /= made.maps.amax(dim=(1, 2), keepdim=True)
    theirs = quantus_score(quantus.EffectiveComplexity, made, eps=share) / 144
    agree("Quantus EffectiveComplexity / n", complexity(share)(made.scene())["effective_complexity"], theirs, 1e-12)


def test_known_defect_quantus_counts_negative_relevance_against_the_mass(case):
    """Signed maps score outside [0,1], and a map whose values cancel divides by nothing."""
    made = case(size=16)
    made.maps = made.maps - 0.15
    mask = random_masks(made, 0)
    theirs = quantus_score(quantus.RelevanceMassAccuracy, made, mask)
    assert ((theirs < 0) | (theirs > 1)).any()
    ours = relevance_mass()(made.scene(mask=mask))["relevance_mass"]
    assert ((ours >= 0) & (ours <= 1)).all()


def test_known_defect_quantus_says_that_the_map_points_into_an_empty_mask(case):
    """NaN is written into an array of booleans, where it is True."""
    made = case(size=16)
    mask = random_masks(made, 0)
    mask[3] = False
    assert quantus_score(quantus.PointingGame, made, mask)[3] == 1
    assert pointing_game(0)(made.scene(mask=mask))["pointing_game"][3].isnan()


def test_known_defect_quantus_cannot_weigh_the_pointing_game(case):
    """The weights are a column, and would be written into the same array of booleans."""
    made = case(size=40)
    with pytest.raises(TypeError, match="boolean array indexing"):
        quantus_score(quantus.PointingGame, made, random_masks(made, 0), weighted=True)


def tied(size, side=12):
    """Return maps of which nine in ten pixels are zero, and masks that are the zero pixels of the lowest rows."""
    maps = torch.zeros(size, side, side)
    maps[:, :1] = 1
    mask = torch.zeros(size, side, side, dtype=torch.bool)
    mask[:, -6:] = True
    return maps, mask


def test_known_defect_quantus_ranks_ties_by_place(case):
    """Of a map that is nearly blank, the mask in the lower half is never found, the same in the upper half nearly always."""
    made = case(size=2)
    maps, mask = tied(2)
    low, high = (
        quantus_score(quantus.RelevanceRankAccuracy, made, where, maps=maps)[0] for where in (mask, mask.flip(1))
    )
    assert high - low > 0.3
    made.maps = maps
    for where, hits in ((mask, 0), (mask.flip(1), 12)):
        expected = (hits + (72 - 12) * (72 - hits) / 132) / 72
        ours = localisation_precision()(made.scene(mask=where))["localisation_precision"]
        np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_known_defect_quantus_gives_a_hit_when_any_of_the_tied_highest_pixels_is_inside(case):
    made = case(size=2)
    maps = torch.ones(2, 12, 12)
    maps[:, 0, 0] = 0  # Quantus refuses maps that are the same everywhere
    mask = torch.zeros(2, 12, 12, dtype=torch.bool)
    mask[:, 5, 5] = True
    np.testing.assert_array_equal(quantus_score(quantus.PointingGame, made, mask, maps=maps), 1)
    made.maps = maps
    np.testing.assert_allclose(pointing_game(0)(made.scene(mask=mask))["pointing_game"], 1 / 143)


def test_known_defect_quantus_scales_all_maps_by_the_highest_of_the_batch(case):
    """The score of one map depends on which others are handed in."""
    made = case(size=4)
    together = quantus_score(quantus.EffectiveComplexity, made, eps=0.2)[0]
    others = made.maps * torch.tensor([1, 1e3, 1, 1])[:, None, None]
    beside = quantus_score(quantus.EffectiveComplexity, made, maps=others, eps=0.2)[0]
    assert together > 50
    assert beside == 0
    ours = [complexity(0.2)(made.scene(maps))["effective_complexity"][0].item() for maps in (made.maps, others)]
    assert ours[0] == ours[1]


def test_known_defect_quantus_has_a_sparseness_that_moves_with_the_other_maps(case):
    """It adds 1e-7 after dividing by the highest of the batch: beside a map a billion times as large all are uniform."""
    made = case(size=4)
    others = spread(made, 0) * torch.tensor([1, 1e9, 1, 1])[:, None, None]
    alone = quantus_score(quantus.Sparseness, made, maps=spread(made, 0))
    beside = quantus_score(quantus.Sparseness, made, maps=others)
    assert alone[3] > 0.8
    assert beside[3] < 0.1
    ours = [complexity(0)(made.scene(maps))["sparseness"][3].item() for maps in (spread(made, 0), others)]
    assert ours[0] == ours[1] == pytest.approx(alone[3], abs=1e-4)


def test_known_defect_quantus_refuses_maps_without_positive_relevance(case):
    made = case(size=4)
    with pytest.raises(AssertionError, match="less than zero"):
        quantus_score(quantus.RelevanceRankAccuracy, made, random_masks(made, 0), maps=made.maps - 1)
    ours = [
        localisation_precision()(made.scene(maps, random_masks(made, 0)))["localisation_precision"]
        for maps in (made.maps, made.maps - 1)
    ]
    np.testing.assert_array_equal(*ours)
