"""MoRF curves and faithfulness correlation against Quantus."""

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from xbench.metrics.faithfulness import normalised_area
from xbench.metrics.sampling import faithfulness_correlation

QUIET = {"disable_warnings": True, "display_progressbar": False}


def arrays(made):
    """Return a case as Quantus takes it."""
    return {
        "model": made.net,
        "x_batch": made.image.numpy(),
        "y_batch": made.target.numpy(),
        "a_batch": made.maps.numpy()[:, None],
    }


def flipped(made, step, fill=0.375, softmax=True, **options):
    """Return Quantus's curves [B, n / step]; the image itself is not among their points."""
    metric = quantus.PixelFlipping(features_in_step=step, perturb_baseline=fill, **QUIET)
    return np.array(metric(**arrays(made), softmax=softmax, channel_first=True, **options))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 6, 36])
@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize("side", [12, (8, 18)], ids=["square", "wide"])
def test_morf_curves_are_those_of_pixel_flipping_and_begin_at_the_image(case, agree, side, fill, step, seed):
    made = case(side=side, seed=seed, top_class=False)
    curve = made.scene().curve("morf", fill, made.maps[0].numel() // step)
    theirs = flipped(made, step, {"mean": 0.375, "zero": 0.0}[fill])
    agree("Quantus PixelFlipping, MoRF curve, softmax", curve.y[:, 1:], theirs, 1e-4)
    clean = made.net(made.image).softmax(dim=1).gather(1, made.target[:, None])[:, 0]
    np.testing.assert_allclose(curve.y[:, 0], clean, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_lerf_curves_are_those_of_pixel_flipping_on_the_negated_map(case, agree, seed):
    made = case(seed=seed, top_class=False)
    curve = made.scene().curve("lerf", "mean", 24)
    made.maps = -made.maps
    agree("Quantus PixelFlipping, LeRF curve, softmax", curve.y[:, 1:], flipped(made, 6), 1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_aopc_is_the_mean_drop_along_the_curve_of_pixel_flipping(case, agree, seed):
    made = case(size=16, seed=seed)
    ours = normalised_area("mean", 24, 0.05)(made.scene())["aopc"]
    clean = made.net(made.image).softmax(dim=1).gather(1, made.target[:, None]).numpy()
    drops = clean - np.concatenate([clean, flipped(made, 6)], axis=1)
    agree("AOPC from Quantus PixelFlipping", ours, drops.mean(axis=1), 1e-5)


def test_without_softmax_pixel_flipping_follows_the_logit_of_which_xbench_gives_no_curve(case):
    made = case()
    scene = made.scene()
    probability, logit = flipped(made, 6), flipped(made, 6, softmax=False)
    np.testing.assert_allclose(scene.curve("morf", "mean", 24).y[:, 1:], probability, atol=1e-4)
    assert np.abs(logit - probability).max() > 0.1


@pytest.mark.parametrize("score", ["prob", "logit"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_faithfulness_correlation_is_that_of_quantus_on_the_same_subsets(case, agree, monkeypatch, share, score):
    made, runs = case(top_class=False), 25
    made.net = made.watched()
    ours = faithfulness_correlation(runs, share, "mean", score)(made.scene(batch_size=len(made.image)))
    clean = made.image[:, 0].flatten(1)
    shown = [seen[:, 0].flatten(1) for seen in made.net.seen]
    changed = [now != clean for now in shown if not torch.equal(now, clean)]
    assert len(changed) == runs
    subsets = iter([np.flatnonzero(inside) for step in changed for inside in step.numpy()])
    size = round(share * clean.shape[1])
    monkeypatch.setattr(np.random, "choice", lambda n, count, replace: next(subsets))
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=runs, subset_size=size, perturb_baseline=0.375, return_aggregate=False, **QUIET
    )
    theirs = metric(**arrays(made), channel_first=True, softmax=score == "prob")
    agree("Quantus FaithfulnessCorrelation, same subsets", ours["faithfulness_correlation"], theirs, 1e-4)


def test_known_defect_quantus_leaves_the_image_out_of_the_curve_and_its_area_grows_with_the_steps(case):
    made = case()
    coarse, fine = (flipped(made, step) for step in (36, 1))
    assert (coarse.shape[1], fine.shape[1]) == (4, 144)
    scene = made.scene()
    ours = [scene.curve("morf", "mean", steps).area().mean().item() for steps in (4, 144)]
    theirs = [np.trapezoid(curves, axis=1).mean() for curves in (coarse, fine)]
    assert abs(ours[0] - ours[1]) < 0.1
    assert theirs[1] > 20 * theirs[0]


@pytest.mark.skipif(hasattr(np, "trapz"), reason="this NumPy still has trapz")
def test_known_defect_quantus_has_no_area_on_a_recent_numpy(case):
    metric = quantus.PixelFlipping(features_in_step=36, perturb_baseline=0.0, return_auc_per_sample=True, **QUIET)
    with pytest.raises(AttributeError, match="trapz"):
        metric(**arrays(case()), channel_first=True)


def test_known_defect_quantus_counts_channels_of_a_pixel_as_features_of_their_own(case):
    """One map for three channels: after a third of the steps, a third of the pixels touched have kept a channel."""
    made = case(channels=3)
    made.maps = (made.maps * 5).round() / 5  # five levels, as a map of low resolution has
    made.net = made.watched()
    flipped(made, 144, fill=-1.0)
    gone = made.net.seen[0] == -1  # 144 of 432 features
    touched, whole = gone.any(dim=1).sum(), gone.all(dim=1).sum()
    assert gone.flatten(1).sum(dim=1).tolist() == [144] * len(gone)
    assert whole < 0.75 * touched
    made.net.seen.clear()
    made.scene(batch_size=6).curve("morf", "mean", 3)
    for seen in made.net.seen:
        changed = seen != made.image
        assert torch.equal(changed.any(dim=1), changed.all(dim=1))


def test_known_defect_quantus_breaks_ties_by_place(case):
    """A blank map scores the same whatever the sample, by where NumPy's sort puts equal values; the expectation is a half."""

    class TopHalf(nn.Module):
        def forward(self, image):
            share = image[:, 0, : image.shape[2] // 2].mean(dim=(1, 2))
            return torch.stack([torch.zeros_like(share), torch.logit(share.clamp(1e-6, 1 - 1e-6))], dim=1)

    made = case(size=200, side=8)
    made.net, made.image, made.maps = TopHalf().eval(), torch.ones(200, 1, 8, 8), torch.zeros(200, 8, 8)
    made.maps[-1, 0, 0] = 1  # Quantus refuses a batch all of whose maps are blank, but not one that has another
    made.target, made.mean = torch.ones(200, dtype=torch.int64), torch.zeros(1)
    theirs = flipped(made, 1, fill=0.0).mean(axis=1)[:-1]
    assert np.ptp(theirs) < 1e-6
    assert theirs[0] < 0.3
    ours = made.scene(batch_size=200).curve("morf", "zero", 64).area()
    assert ours.mean().item() == pytest.approx(0.5, abs=0.02)


def test_known_defect_quantus_fills_with_the_mean_or_minimum_of_what_is_left_of_the_image(case):
    """Named fills are computed anew from the image as perturbed so far, so that a colour changes along its own curve."""
    made = case(size=1)
    for name, right in (("mean", made.image.mean()), ("black", torch.zeros(()))):
        watched = made.net = made.watched()
        flipped(made, 36, fill=name)
        order = made.maps.flatten().argsort(descending=True)
        last = watched.seen[-1].flatten()[order].view(4, 36)
        assert (last == last[:, :1]).all()  # each step has one colour
        colours = last[:, 0]
        assert (colours - right).abs().max() > 0.004, name
        made.net = watched.net


def test_known_defect_quantus_correlates_anew_at_every_call(case):
    made = case()
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=25, subset_size=14, perturb_baseline=0.375, return_aggregate=False, **QUIET
    )
    first, second = (np.array(metric(**arrays(made), channel_first=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    ours = [faithfulness_correlation(25, 0.1, "mean", "prob")(made.scene(batch_size=size)) for size in (2, 64)]
    np.testing.assert_allclose(*(found["faithfulness_correlation"] for found in ours), atol=1e-4)
