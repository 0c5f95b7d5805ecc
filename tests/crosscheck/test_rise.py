"""Deletion and insertion against RISE's CausalMetric, written down again from its definition, one image and step at a time."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d
from torch import nn

from xbench.metrics.faithfulness import deletion, insertion
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation

DEVIATION = (0.2, 0.3, 0.25)


class OfUnitImages(nn.Module):
    """A net for standardised images as xbench sees it, in [0,1]."""

    def __init__(self, net, mean, deviation):
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.view(1, -1, 1, 1))

    def forward(self, image):
        return self.net((image - self.mean) / self.deviation)


def blurred(image):
    """Return [C,H,W] convolved with an 11x11 Gaussian of sigma 5, zeros outside."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = gaussian_filter(delta, 5)
    return np.stack([convolve2d(channel, kernel, mode="same") for channel in image])


def causal(probability, start, finish, saliency, step):
    """Return RISE's scores, ceil(n / step) + 1 of them: probability of ``start`` as ever more pixels come from ``finish``."""
    order = np.argsort(saliency.ravel())[::-1]
    current, scores = start.copy(), [probability(start)]
    for done in range(0, len(order), step):
        rows, columns = np.unravel_index(order[done : done + step], saliency.shape)
        current[:, rows, columns] = finish[:, rows, columns]
        scores.append(probability(current))
    return np.array(scores)


def rise_area(scores):
    """Return RISE's normalised area."""
    return (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def both(case, dtype, step, seed):
    """Return (deletion, insertion) twice: xbench's (areas, curves), RISE's."""
    made = case(size=4, channels=3, dtype=dtype, seed=seed)
    mean, deviation = torch.tensor([0.4, 0.5, 0.6], dtype=dtype), torch.tensor(DEVIATION, dtype=dtype)
    core, made.mean, made.net = made.net, mean, OfUnitImages(made.net, mean, deviation)
    made.target = made.net(made.image).argmax(dim=1)  # RISE follows the class on top
    steps = made.maps[0].numel() // step
    scene = made.scene()
    ours = [deletion("mean", steps)(scene), insertion("blur", steps)(scene)]
    standard = ((made.image - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)).numpy()
    theirs = [[], []]
    for image, saliency, target in zip(standard, made.maps.numpy(), made.target.tolist(), strict=True):

        def probability(now, target=target):
            return core(torch.as_tensor(now, dtype=dtype)[None]).softmax(dim=1)[0, target].item()

        theirs[0].append(causal(probability, image, np.zeros_like(image), saliency, step))
        theirs[1].append(causal(probability, blurred(image), image, saliency, step))
    return ours, [np.stack(scores) for scores in theirs]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("step", [1, 6, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_deletion_and_insertion_are_those_of_rise(case, agree, dtype, step, seed):
    ours, theirs = both(case, dtype, step, seed)
    precise = str(dtype).removeprefix("torch.")
    # The blur's kernel is kept in float32.
    for name, found, scores in zip(("deletion", "insertion"), ours, theirs, strict=True):
        tolerance = 1e-5 if precise == "float32" or name == "insertion" else 1e-12
        agree(f"RISE CausalMetric, {name} curve, {precise}", found[f"{name}.curve"].y, scores, tolerance)
        areas = [rise_area(one) for one in scores]
        agree(f"RISE CausalMetric, {name} area, {precise}", found[name], areas, tolerance)


class ShareLeft(nn.Module):
    """Class 1 has as its probability the mean of the image."""

    def forward(self, image):
        share = image.flatten(1).mean(dim=1)
        return torch.stack([1 - share, share], dim=1)

    def prob(self, logits):
        return logits


class TopHalf(ShareLeft):
    """Class 1 has as its probability the mean of the image's upper half."""

    def forward(self, image):
        return super().forward(image[:, :, : image.shape[2] // 2])


def white(net, saliency):
    """Return the scene of a white image a map [B,H,W], and its probability as a function of an array [1,H,W]."""
    size, side = len(saliency), saliency.shape[-1]
    ids, target = tuple(f"s{i}" for i in range(size)), torch.ones(size, dtype=torch.int64)
    batch = Batch(torch.ones(size, 1, side, side), ids, target, target, sample_keys(0, ids))
    scene = Scene(Backdrop(Model(net), batch, torch.zeros(1)), Explanation(saliency))
    return scene, lambda image: net(torch.as_tensor(image)[None])[0, 1].item()


def test_known_defect_rise_weighs_its_last_step_as_much_when_it_is_shorter():
    """The share of pixels left falls along a straight line, whose area is a half whatever the steps."""
    saliency = torch.arange(64.0).view(1, 8, 8) / 64
    scene, probability = white(ShareLeft(), saliency)
    start = np.ones((1, 8, 8), dtype=np.float32)
    scores = causal(probability, start, np.zeros_like(start), saliency[0].numpy(), step=24)
    np.testing.assert_allclose(scores, [1, 40 / 64, 16 / 64, 0], atol=1e-6)
    assert rise_area(scores) == pytest.approx(11 / 24)
    for steps in (2, 3, 5, 64):
        assert deletion("zero", steps)(scene)["deletion"].item() == pytest.approx(0.5, abs=1e-6)


def test_known_defect_rise_scores_a_blank_map_by_where_the_object_lies():
    """All pixels tie: chance is 1/2; NumPy's order, turned round, removes the image from below."""
    blank = np.zeros((8, 8), dtype=np.float32)
    start = np.ones((1, 8, 8), dtype=np.float32)
    _, probability = white(TopHalf(), torch.zeros(1, 8, 8))
    upper = rise_area(causal(probability, start, np.zeros_like(start), blank, step=1))
    lower = rise_area(causal(lambda image: probability(image[:, ::-1].copy()), start, np.zeros_like(start), blank, 1))
    assert abs(upper - lower) > 0.1
    scene, _ = white(TopHalf(), torch.zeros(400, 8, 8))
    mean = deletion("zero", 64)(scene)["deletion"].mean().item()
    assert mean == pytest.approx(0.5, abs=0.01)
