"""ROAD and its imputation against grad-cam, which keeps the authors' code, and Quantus; both solve a sparse system directly."""

import numpy as np
import pytest
import quantus
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADLeastRelevantFirst, ROADMostRelevantFirst
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from quantus.functions.perturb_func import noisy_linear_imputation
from scipy.ndimage import gaussian_filter

from xbench.imputation import LinearImputer
from xbench.metrics.road import road, road_lerf

QUIET = {"disable_warnings": True, "display_progressbar": False}
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # grad-cam's
SHARES = [0.1, 0.5, 0.9]


def images_and_masks(share, channels=3, height=20, width=23):
    """Return images [4,C,H,W] float64, and masks of a share removed: scattered, blobs, a disc, a half."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    score = [
        random.random((height, width)),
        gaussian_filter(random.standard_normal((height, width)), 3),
        np.hypot(y - height / 2, x - width / 2),
        x + y / height,
    ]
    place = [each.ravel().argsort().argsort().reshape(height, width) for each in score]
    removed = torch.as_tensor(np.stack(place) < share * height * width)
    return torch.as_tensor(random.random((4, channels, height, width))), removed


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_imputation_is_that_of_the_authors_and_of_quantus(agree, kind, share):
    image, removed = images_and_masks(share)
    image = image.to(getattr(torch, kind))
    ours = LinearImputer(1e-6 if kind == "float64" else 5e-5)(image, removed)
    authors = [
        NoisyLinearImputer(noise=0)(one.float(), (~mask).float()) for one, mask in zip(image, removed, strict=True)
    ]
    others = [
        noisy_linear_imputation(one.numpy(), np.flatnonzero(mask), noise=0.0)
        for one, mask in zip(image, removed, strict=True)
    ]
    agree(f"grad-cam NoisyLinearImputer, {kind}", ours, torch.stack(authors), 5e-5)
    agree(f"Quantus noisy_linear_imputation, {kind}", ours, np.stack(others), 5e-5 if kind == "float32" else 1e-6)


def grad_cam_probabilities(made, metric):
    """Return [B,9]: the target's probability when 10, ..., 90 % are removed, without noise."""
    columns = []
    for share in range(10, 100, 10):
        made_metric = metric(percentile=100 - share)
        made_metric.perturbation.imputer.noise = 0
        targets = [ClassifierOutputSoftmaxTarget(target) for target in made.target.tolist()]
        columns.append(made_metric(made.image, made.maps.numpy(), targets, made.net, return_diff=False))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(road, ROADMostRelevantFirst), (road_lerf, ROADLeastRelevantFirst)],
    ids=["morf", "lerf"],
)
def test_curves_of_a_map_without_ties_are_those_of_grad_cam(case, agree, ours, theirs, seed):
    made = case(side=10, channels=3, seed=seed, top_class=False)
    name = "road" if ours is road else "road_lerf"
    curve = ours(9, 0.0)(made.scene())[f"{name}_prob.curve"]
    agree(f"grad-cam ROAD, probability, {name}", curve.y[:, 1:], grad_cam_probabilities(made, theirs), 1e-4)


def quantus_accuracies(made, batch_size=64):
    """Return [9]: Quantus's accuracy when 10, ..., 90 % are removed, without noise."""
    metric = quantus.ROAD(percentages=list(range(10, 100, 10)), noise=0.0, **QUIET)
    found = metric(
        model=made.net,
        x_batch=made.image.numpy(),
        y_batch=made.target.numpy(),
        a_batch=made.maps.numpy()[:, None],
        channel_first=True,
        batch_size=batch_size,
    )
    return np.array(list(found.values()))


@pytest.mark.parametrize("seed", range(3))
def test_accuracies_of_grey_images_are_those_of_quantus(case, agree, seed):
    made = case(side=10, size=40, seed=seed)
    curve = road(9, 0.0)(made.scene())["road.curve"]
    agree("Quantus ROAD, accuracy", curve.y[:, 1:].mean(dim=0), quantus_accuracies(made), 1e-4)


def test_known_defect_quantus_road_reports_the_first_batch_only(case):
    made = case(side=10, size=40)
    ours = [road(9, 0.0)(made.scene(batch_size=size))["road.curve"].y[:, 1:].numpy() for size in (40, 8)]
    np.testing.assert_array_equal(*ours)
    np.testing.assert_allclose(quantus_accuracies(made, 40), ours[0].mean(axis=0))
    np.testing.assert_allclose(quantus_accuracies(made, 8), ours[0][:8].mean(axis=0))
    assert np.abs(ours[0][:8].mean(axis=0) - ours[0].mean(axis=0)).max() > 0.02


def test_known_defect_quantus_road_fails_on_images_in_colour(case):
    with pytest.raises(IndexError):
        quantus_accuracies(case(side=10, channels=3))


def removed_by_grad_cam(metric, saliency, share):
    """Return how large a share of the pixels grad-cam replaces when asked for one."""
    masks, made_metric = [], metric(percentile=100 * (1 - share))

    def imputer(image, mask):
        masks.append(mask)
        return image

    made_metric.perturbation.imputer = imputer
    made_metric.perturbation(torch.zeros(3, *saliency.shape), torch.as_tensor(saliency))
    return 1 - masks[0].mean().item()


def test_known_defect_grad_cam_removes_by_value_so_that_ties_go_together():
    """Of a map that is 60 % zeros: asked for 50, 70, 90 % it removes all; of the least relevant, for 10, 30 % two thirds."""
    random = np.random.default_rng(0)
    saliency = np.zeros(400, dtype=np.float32)
    saliency[:160] = 0.01 + random.random(160) * 0.99
    saliency = random.permutation(saliency).reshape(20, 20)
    for share in (0.5, 0.7, 0.9):
        assert removed_by_grad_cam(ROADMostRelevantFirst, saliency, share) == 1
    for share in (0.1, 0.3):
        assert removed_by_grad_cam(ROADLeastRelevantFirst, saliency, share) == pytest.approx(0.6, abs=0.02)
    for share in (0.1, 0.5, 0.9):
        assert removed_by_grad_cam(ROADMostRelevantFirst, np.zeros_like(saliency), share) == 1


def test_the_same_map_has_the_share_removed_that_was_asked_for(case):
    made = case(side=10, channels=3)
    made.maps = made.maps.clamp(min=0.2)  # nearly half of the pixels tie
    for curve in (road(9, 0.0)(made.scene())["road.curve"], road_lerf(9, 0.0)(made.scene())["road_lerf.curve"]):
        np.testing.assert_allclose(curve.x, np.arange(10) / 10)


def test_known_defect_grad_cam_takes_the_least_relevant_by_one_less_the_map():
    """Which is the reverse order in exact arithmetic only: small float32 values are lost against 1, and then tie."""
    saliency = (np.random.default_rng(0).permutation(400).astype(np.float32) * 1e-10).reshape(20, 20)
    assert removed_by_grad_cam(ROADMostRelevantFirst, saliency, 0.1) == pytest.approx(0.1)
    assert removed_by_grad_cam(ROADLeastRelevantFirst, saliency, 0.1) > 0.5
