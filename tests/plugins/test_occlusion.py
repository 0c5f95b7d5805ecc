"""Occlusion against closed forms, loops over windows and Captum."""

import pytest
import torch
from captum.attr import Occlusion
from torch import nn

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_perturbation.occlusion import occlusion


def batch(count=3, channels=2, height=7, width=9):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % 3
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)).double()
    return Batch(image, ids, target, target, sample_keys(0, ids))


def model(some, *, linear=False, batch_size=64):
    torch.manual_seed(0)
    trunk = [] if linear else [nn.Conv2d(some.image.shape[1], 5, 3, padding=1), nn.ReLU(inplace=True)]
    module = nn.Sequential(*trunk, nn.Flatten(), nn.LazyLinear(3)).double()
    module(some.image[:1])
    return Model(module, batch_size=batch_size)


def removed(some, fill):
    return some.image.mean(dim=(2, 3), keepdim=True) if fill == "mean" else torch.zeros(3, 2, 1, 1).double()


def contributions(net, some, fill):
    rows = net.module[1].weight[some.target].view_as(some.image)
    return (rows * (some.image - removed(some, fill))).sum(dim=1)


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_single_pixel_windows_give_the_contributions_of_a_linear_net(fill):
    some = batch()
    net = model(some, linear=True)
    expected = contributions(net, some, fill)
    torch.testing.assert_close(occlusion(net, "logit", 1, 1, fill)(some), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (3, 3), (4, 3), (7, 5), (2, 2)])
def test_larger_windows_give_box_means_of_box_sums(window, stride):
    some = batch()
    net = model(some, linear=True)
    c = contributions(net, some, "zero")
    starts = [[at for at in range(0, side, stride) if at - stride + window < side] for side in (7, 9)]
    expected = torch.zeros_like(c)
    for i in range(7):
        for j in range(9):
            sums = [
                c[:, y : y + window, x : x + window].sum(dim=(1, 2))
                for y in starts[0]
                for x in starts[1]
                if y <= i < y + window and x <= j < x + window
            ]
            assert sums
            expected[:, i, j] = torch.stack(sums).mean(dim=0)
    torch.testing.assert_close(occlusion(net, "logit", window, stride, "zero")(some), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 2), (4, 3), (7, 4)])
def test_occlusion_agrees_with_captum(score, fill, window, stride):
    some = batch()
    net = model(some)
    theirs = Occlusion(lambda image: net.logits(image) if score == "logit" else net.prob(net.logits(image))).attribute(
        some.image,
        sliding_window_shapes=(2, window, window),
        strides=(2, stride, stride),
        baselines=removed(some, fill).expand_as(some.image),
        target=some.target,
    )
    ours = occlusion(net, score, window, stride, fill)(some)
    # Every channel of a pixel gets the pixel's value there; Captum adds up in float32.
    for channel in range(2):
        torch.testing.assert_close(ours, theirs[:, channel].double(), atol=1e-6, rtol=1e-5)
    assert ours.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "windows"),
    [(28, 28, 0, 0, 13 * 13), (28, 42, 0, 0, 13 * 20), (5, 6, 0, 0, 30), (28, 28, 0, 4, 49), (28, 28, 8, 0, 36)],
)
def test_one_pass_for_each_window_and_one_for_the_image(height, width, window, stride, windows):
    some = batch(2, 1, height, width)
    net = model(some)
    occlusion(net, "logit", window, stride, "mean")(some)
    assert net.passes.forwards == 2 * (windows + 1)


def test_a_window_as_large_as_the_image_gives_one_number():
    some = batch(height=7, width=7)
    net = model(some)
    fall = net.score(some.image, some.target) - net.score(torch.zeros_like(some.image), some.target)
    result = occlusion(net, "logit", 7, 7, "zero")(some)
    torch.testing.assert_close(result, fall[:, None, None].expand(-1, 7, 7))


@pytest.mark.parametrize(("window", "stride", "message"), [(8, 1, "window of 8 .* 7 x 9"), (0, 2, "stride is 2")])
def test_what_does_not_fit_the_image_is_unsupported(window, stride, message):
    some = batch()
    with pytest.raises(Unsupported, match=message):
        occlusion(model(some), "logit", window, stride, "mean")(some)
