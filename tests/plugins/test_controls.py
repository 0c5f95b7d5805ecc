"""The controls are what they say, and look at nothing but what they say."""

import importlib
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import xbench_controls
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation
from xbench_controls import controls

SPECS = [spec for spec in xbench_controls.xbench_explainers() if not spec.wraps]


def batch(count=3, channels=3, height=8, width=10, seed=0, **truth):
    ids = tuple(f"sample {i}" for i in range(count))
    label = torch.zeros(count, dtype=torch.long)
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image, ids, label, label, sample_keys(seed, ids), **truth)


def full_batch(**size):
    plain = batch(**size)
    half = plain.image[:, 0] > 0.5
    return batch(**size, mask=half, counterfactual=plain.image.flip(3))


class Unused(nn.Module):
    def forward(self, x):
        raise AssertionError("a control looked at the model")


MODEL = Model(Unused())


def explain(name, some, **params):
    return getattr(controls, name)(MODEL, **params)(some)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_control_gives_one_finite_float32_map_a_sample_without_the_model(spec, channels):
    module, name = spec.factory.split(":")
    some = full_batch(channels=channels)
    image = some.image.clone()
    result = getattr(importlib.import_module(module), name)(MODEL, **spec.params)(some)
    result = result if isinstance(result, Explanation) else Explanation(result)
    assert result.attribution.shape == (3, 8, 10)
    assert result.attribution.dtype == torch.float32
    assert result.attribution.isfinite().all()
    assert torch.equal(some.image, image)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_control_explains_a_sample_as_it_does_in_a_batch(spec):
    some, name = full_batch(), spec.name

    def attribution(part):
        result = explain(name, part, **spec.params)
        return result.attribution if isinstance(result, Explanation) else result

    alone = [attribution(some.take(slice(i, i + 1))) for i in range(3)]
    assert torch.equal(torch.cat(alone), attribution(some))


def test_random_is_uniform_noise_of_the_samples_key():
    values = explain("random", batch(40, height=30, width=40))
    assert 0 <= values.min() < 0.001
    assert 0.999 < values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * math.sqrt(1 / 12 / values.numel())
    assert len(values.flatten(1).unique(dim=0)) == 40
    assert torch.equal(values[:3], explain("random", batch(3, height=30, width=40)))
    assert not torch.equal(values, explain("random", batch(40, height=30, width=40, seed=1)))


def test_constant_is_constant_and_has_mass():
    assert torch.equal(explain("constant", batch()), torch.ones(3, 8, 10))


@pytest.mark.parametrize("size", [(8, 10), (7, 5), (6, 6)])
def test_centre_is_a_gaussian_of_the_shorter_side(size):
    height, width = size
    expected = torch.empty(height, width)
    deviation = 0.3 * min(size)
    for i in range(height):
        for j in range(width):
            square = (i - (height - 1) / 2) ** 2 + (j - (width - 1) / 2) ** 2
            expected[i, j] = math.exp(-square / (2 * deviation**2))
    drawn = explain("centre", batch(height=height, width=width), sigma=0.3)
    torch.testing.assert_close(drawn, expected.expand(3, height, width))


@pytest.mark.parametrize("sigma", [0, -0.1, math.nan])
def test_centre_needs_a_width(sigma):
    with pytest.raises(Unsupported, match=f"sigma is {sigma}"):
        controls.centre(MODEL, sigma=sigma)


def test_sobel_equals_scipys_on_the_luminance():
    some = batch()
    grey = np.tensordot([0.299, 0.587, 0.114], some.image.double().numpy(), axes=(0, 1))
    expected = [
        np.hypot(ndimage.sobel(image, axis=0, mode="mirror"), ndimage.sobel(image, axis=1, mode="mirror"))
        for image in grey
    ]
    torch.testing.assert_close(explain("sobel", some).double(), torch.tensor(np.array(expected)), atol=1e-6, rtol=1e-5)


def test_sobel_of_a_ramp_is_eight_times_its_slope():
    some = batch(1, 1, 5, 6)
    some.image[:] = torch.arange(6) * 0.1
    expected = torch.full((1, 5, 6), 0.8)
    expected[:, :, [0, -1]] = 0
    torch.testing.assert_close(explain("sobel", some), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("colour", [(0.1,), (0.7,), (0.1, 0.7, 0.3), (1 / 3, 0.9, 1e-3)])
def test_sobel_of_a_constant_image_is_exactly_zero(colour):
    some = batch(channels=len(colour), height=13, width=17)
    some.image[:] = torch.tensor(colour)[:, None, None]
    assert explain("sobel", some).abs().max() == 0


def test_intensity_is_the_luminance():
    some = batch()
    red, green, blue = some.image.unbind(dim=1)
    torch.testing.assert_close(explain("intensity", some), 0.299 * red + 0.587 * green + 0.114 * blue)
    grey = batch(channels=1)
    assert torch.equal(explain("intensity", grey), grey.image[:, 0])
    two = batch(channels=2)
    torch.testing.assert_close(explain("intensity", two), (two.image[:, 0] + two.image[:, 1]) / 2)


def test_oracle_is_the_mask_and_undefined_without_one():
    mask = torch.zeros(3, 8, 10, dtype=torch.bool)
    mask[0, 2:4, 3] = True
    mask[2] = True
    result = explain("oracle", batch(mask=mask))
    assert torch.equal(result.attribution, mask.float())
    assert result.defined.tolist() == [True, False, True]


def test_oracle_difference_is_the_ring_and_undefined_without_one():
    plain = batch()
    other = plain.image.clone()
    other[0, 1, 2, 3] += 0.5
    other[2, 0, 4, 4] -= 0.5
    other[2, 0, 5, 5] += 0.9 / 255
    result = explain("oracle_difference", batch(counterfactual=other))
    assert result.attribution.nonzero().tolist() == [[0, 2, 3], [2, 4, 4]]
    assert result.attribution.max() == 1
    assert result.defined.tolist() == [True, False, True]


@pytest.mark.parametrize(("name", "what"), [("oracle", "mask"), ("oracle_difference", "counterfactual")])
def test_an_oracle_without_truth_is_unsupported(name, what):
    with pytest.raises(Unsupported, match=f"controls/{name} needs data with a {what}"):
        explain(name, batch())


@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_blur_is_the_wrapped_map_under_scipys_gaussian_with_its_border_going_on(sigma):
    some = batch()
    maps = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(2))
    defined = torch.tensor([True, False, True])
    result = controls.blur(MODEL, of=lambda given: Explanation(maps, defined=defined), sigma=sigma)(some)
    radius = max(1, math.ceil(3 * sigma * 8))
    for blurred, plain in zip(result.attribution, maps, strict=True):
        expected = ndimage.gaussian_filter(plain.double().numpy(), sigma * 8, mode="nearest", radius=radius)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)
    assert torch.equal(result.defined, defined)
    bare = controls.blur(MODEL, of=lambda given: maps, sigma=sigma)(some)
    assert torch.equal(bare.attribution, result.attribution)


def test_blur_keeps_a_constant_map_and_refuses_no_width():
    flat = controls.blur(MODEL, of=lambda given: torch.full((3, 8, 10), 2.5), sigma=0.2)(batch())
    torch.testing.assert_close(flat.attribution, torch.full((3, 8, 10), 2.5))
    with pytest.raises(Unsupported, match="sigma is 0"):
        controls.blur(MODEL, of=lambda given: None, sigma=0)
