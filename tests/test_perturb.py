"""Perturbation curves against closed forms and a slow reference; they do not see batch, order or float noise."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.signal import correlate2d
from torch import nn

from xbench import perturb
from xbench.checks import checked
from xbench.metrics.faithfulness import deletion, insertion, normalised_area, srg
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import permutation, sample_keys, uniform
from xbench.tensors import Batch, Explanation

FILLS = ("zero", "mean", "blur", "noise")
MEAN = torch.tensor([0.25, 0.5, 0.75])
law = settings(max_examples=40, deadline=None, derandomize=True)


class Raw(Model):
    """Its score is the logit itself, so that a sum over pixels can be followed by hand."""

    def prob(self, logits):
        return logits


class Additive(nn.Module):
    """f(x) = 1/8 + the sum of weight * x over all channels and pixels, in float64."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight.double()

    def forward(self, image):
        return 0.125 + (image.double() * self.weight).flatten(1).sum(dim=1, keepdim=True)


def draw(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def eighths(shape, seed=0):
    """Numbers k/8 in [0,1], whose sums and products float64 holds exactly."""
    return (draw(shape, seed) * 9).floor().clamp(max=8) / 8


def whole(shape, seed=0):
    """Whole numbers from -8 to 8."""
    return (draw(shape, seed) * 17).floor() - 8


def make_batch(image, ids=None, target=None):
    ids = tuple(f"s{i}" for i in range(len(image))) if ids is None else tuple(ids)
    target = torch.ones(len(image), dtype=torch.int64) if target is None else target
    return Batch(image=image, sample_id=ids, label=target, target=target, keys=sample_keys(0, ids))


def additive_scene(weight, image, maps, **options):
    backdrop = Backdrop(Raw(Additive(weight), link="sigmoid"), make_batch(image), MEAN[: image.shape[1]])
    return Scene(backdrop, Explanation(maps), **options)


def contributions(weight, image, fill):
    """[B,H,W]: what each pixel adds to f compared with its fill."""
    return ((image - fill).double() * weight.double()).sum(dim=1)


def convnet(channels=3, size=6, classes=3):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * size * size, classes)
    )
    with torch.no_grad():
        net[-1].weight *= 6
    return net


def net_scene(maps, image, rows=None, batch_size=64, **options):
    """A scene of a softmax net on some of the samples, each of which keeps its id and target in any company."""
    rows = list(range(len(image))) if rows is None else rows
    batch = make_batch(image[rows], [f"s{i}" for i in rows], torch.tensor(rows) % 3)
    model = Model(convnet(image.shape[1], image.shape[2]), batch_size=batch_size)
    return Scene(Backdrop(model, batch, MEAN[: image.shape[1]]), Explanation(maps[rows]), **options)


def slow_rank(one, key):
    """The pixels of a map [H,W] from the most relevant to the least, one by one."""
    top = one.abs().max().item()
    level = [round(value / top * 65536) if top else 0 for value in one.double().flatten().tolist()]
    tie = permutation(key[None], "ties", one.numel())[0].tolist()
    return sorted(range(one.numel()), key=lambda pixel: (-level[pixel], tie[pixel]))


def slow_walk(model, image, start, finish, order, counts, target):
    """The target's probability with the first k pixels of ``order`` taken from ``finish``, for every k."""
    found = []
    for count in counts:
        changed = start.clone()
        for pixel in order[:count]:
            row, column = divmod(pixel, image.shape[2])
            changed[:, row, column] = finish[:, row, column]
        found.append(model.prob(model.logits(changed[None]))[0, target].item())
    return np.array(found)


def trapezoid(x, y):
    return sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(x) - 1))


# Closed forms for an additive score.


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_deletion_of_an_additive_score_is_the_closed_form_when_every_pixel_is_a_step(fill):
    image, weight = eighths((5, 3, 6, 6)), whole((3, 6, 6), 1)
    share = contributions(weight, image, perturb.fill_image(fill, image, MEAN, sample_keys(0, "abcde")))
    scene = additive_scene(weight, image, share.float())
    n = 36
    f_0 = Additive(weight)(image)[:, 0]
    ordered = share.flatten(1).sort(dim=1, descending=True).values
    j = torch.arange(1, n + 1)
    expected = f_0 - ((n - j + 0.5) * ordered).sum(dim=1) / n
    torch.testing.assert_close(deletion(fill, n)(scene)["deletion"], expected, atol=1e-9, rtol=0)


def test_deletion_in_the_order_of_contributions_is_minimal_and_all_orders_average_to_the_middle():
    n = 5
    orders = list(itertools.permutations(range(n)))
    image, weight = eighths((1, 3, 1, n)).expand(len(orders), -1, -1, -1), whole((3, 1, n), 1)
    maps = torch.tensor(orders, dtype=torch.float32)[:, None]
    every = deletion("zero", n)(additive_scene(weight, image, maps))["deletion"]
    share = contributions(weight, image[:1], torch.zeros(3, 1, n))
    assert len(share.unique()) == n
    best = deletion("zero", n)(additive_scene(weight, image[:1], share.float()))["deletion"]
    assert best.item() == pytest.approx(every.min().item(), abs=1e-12)
    assert (every < best + 1e-9).sum() == 1
    f_0, f_n = Additive(weight)(image[:1]).item(), 0.125
    assert every.mean().item() == pytest.approx((f_0 + f_n) / 2, abs=1e-9)
    highest = insertion("zero", n)(additive_scene(weight, image[:1], share.float()))["insertion"]
    inserted = insertion("zero", n)(additive_scene(weight, image, maps))["insertion"]
    assert highest.item() == pytest.approx(inserted.max().item(), abs=1e-12)


@law
@given(
    steps=st.sampled_from([1, 2, 3, 4, 6, 9, 12, 18, 36]),
    seed=st.integers(0, 99),
    fill=st.sampled_from(["zero", "mean"]),
)
def test_deletion_and_insertion_with_one_fill_add_up_to_both_ends_of_an_additive_score(steps, seed, fill):
    image, weight = eighths((4, 3, 6, 6), seed), whole((3, 6, 6), seed + 1)
    scene = additive_scene(weight, image, torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(seed)))
    filled = perturb.fill_image(fill, image, MEAN, scene.batch.keys)
    ends = Additive(weight)(image)[:, 0] + Additive(weight)(filled)[:, 0]
    both = deletion(fill, steps)(scene)["deletion"] + insertion(fill, steps)(scene)["insertion"]
    torch.testing.assert_close(both, ends, atol=1e-9, rtol=0)


def test_a_constant_map_scores_on_average_what_random_orders_score():
    count = 1500
    image, weight = eighths((1, 3, 4, 4)).expand(count, -1, -1, -1), whole((3, 4, 4), 1)
    scene = additive_scene(weight, image, torch.full((count, 4, 4), 0.3))
    found = deletion("zero", 16)(scene)["deletion"]
    f_0, f_n = Additive(weight)(image[:1]).item(), 0.125
    assert abs(found.mean().item() - (f_0 + f_n) / 2) < 4 * found.std().item() / math.sqrt(count)
    places = scene.ranks.double().mean(dim=0)
    assert (places - 7.5).abs().max() < 4.5 * math.sqrt((16**2 - 1) / 12 / count)
    assert scene.blank.all()
    assert (scene.tied == 1).all()


# The slow reference.


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("size", "steps"), [(6, 1), (6, 5), (6, 7), (6, 12), (6, 28), (6, 36), (6, 50), (5, 2), (5, 10)]
)
def test_curves_equal_a_slow_reference_pixel_by_pixel(fill, size, steps):
    image = draw((4, 3, size, size))
    maps = draw((4, size, size), 1) - 0.4
    maps[1] = (maps[1] * 3).round()  # with ties
    maps[2] = 0
    scene = net_scene(maps, image)
    n = size * size
    counts = sorted({round(i * n / steps) for i in range(steps + 1)})
    for name, metric in (("deletion", deletion(fill, steps)), ("insertion", insertion(fill, steps))):
        found = metric(scene)
        curve = found[f"{name}.curve"]
        for i in range(len(image)):
            filled = perturb.fill_image(fill, image[i : i + 1], MEAN, scene.batch.keys[i : i + 1])[0]
            order = slow_rank(maps[i], scene.batch.keys[i])
            start, finish = (image[i], filled) if name == "deletion" else (filled, image[i])
            path = counts if name == "deletion" else [n - count for count in reversed(counts)]
            y = slow_walk(scene.model, image[i], start, finish, order, path, scene.batch.target[i])
            x = [count / n for count in path]
            np.testing.assert_allclose(curve.x, x, atol=1e-12)
            np.testing.assert_allclose(curve.y[i], y, atol=1e-6)
            assert found[name][i].item() == pytest.approx(trapezoid(x, y), abs=1e-6)


def test_insertion_is_the_least_relevant_first_curve_read_backwards():
    image, maps = draw((4, 3, 6, 6)), draw((4, 6, 6), 1)
    forward = net_scene(maps, image).curve("lerf", "blur", 7)
    found = insertion("blur", 7)(net_scene(maps, image))["insertion.curve"]
    np.testing.assert_allclose(found.y, forward.y.flip(1))
    np.testing.assert_allclose(found.x, 1 - forward.x.flip(0))
    turned = net_scene(-maps, image).curve("morf", "blur", 7)
    np.testing.assert_allclose(forward.y, turned.y, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 4, 9, 18, 36])
def test_area_equals_rises_own_formula_when_the_step_divides_the_image(steps):
    curve = net_scene(draw((4, 6, 6), 1), draw((4, 3, 6, 6))).curve("morf", "mean", steps)
    assert curve.y.shape == (4, steps + 1)
    rise = (curve.y.sum(dim=1) - curve.y[:, 0] / 2 - curve.y[:, -1] / 2) / steps
    torch.testing.assert_close(curve.area(), rise, atol=1e-12, rtol=0)


@pytest.mark.parametrize("fill", FILLS)
def test_both_ends_of_a_curve_are_the_untouched_image_and_the_fill(fill):
    image = draw((4, 3, 6, 6))
    scene = net_scene(draw((4, 6, 6), 1), image)
    curve = scene.curve("morf", fill, 5)
    filled = perturb.fill_image(fill, image, MEAN, scene.batch.keys)
    for place, shown in ((0, image), (-1, filled)):
        expected = scene.model.score(shown, scene.batch.target, "prob")
        np.testing.assert_allclose(curve.y[:, place], expected, atol=1e-6)
    assert (curve.x[0], curve.x[-1]) == (0, 1)


@law
@given(n=st.integers(1, 3000), steps=st.integers(1, 300))
def test_step_counts_rise_evenly_from_nothing_to_every_pixel(n, steps):
    counts = perturb.step_counts(n, steps)
    assert (counts[0], counts[-1]) == (0, n)
    assert len(counts) == min(n, steps) + 1
    gaps = np.diff(counts)
    assert gaps.min() >= max(1, n // steps)
    assert gaps.max() <= math.ceil(n / steps)


@pytest.mark.parametrize("metric", [deletion, insertion])
def test_a_curve_without_a_step_is_refused(metric):
    with pytest.raises(ValueError, match="steps=0: a curve needs at least one step"):
        metric("mean", 0)


def test_all_channels_of_exactly_k_pixels_change_together_in_the_order_of_rank():
    image, fill = draw((3, 3, 4, 5)), draw((3, 3, 4, 5), 1) + 2
    rank = permutation(sample_keys(0, "abc"), "test", 20).int()
    counts, seen = [1, 5, 12, 19], []

    def watch(images, copies):
        seen.append(images.view(copies, 3, 3, 4, 5))
        return torch.zeros(len(images))

    perturb.perturbed_scores(watch, image, fill, rank, counts, batch_size=6)
    for count, shown in zip(counts, torch.cat(seen), strict=True):
        for i in range(3):
            changed = (rank[i] < count).view(4, 5)
            assert torch.equal(shown[i][:, changed], fill[i][:, changed])
            assert torch.equal(shown[i][:, ~changed], image[i][:, ~changed])


# Company, order and batch size.


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize(
    "parts",
    [[range(8)], [range(3), range(3, 8)], [[i] for i in range(8)], [range(7, -1, -1)]],
    ids=["together", "two parts", "alone", "backwards"],
)
def test_ranks_and_curves_do_not_depend_on_company_order_or_batch_size(batch_size, parts):
    image, maps = draw((8, 3, 6, 6)), (draw((8, 6, 6), 1) * 4).round() - 1
    whole_scene = net_scene(maps, image)
    wanted = [("morf", "mean", 7), ("lerf", "blur", 12), ("morf", "noise", 36)]
    expected = {one: whole_scene.curve(*one) for one in wanted}
    for part in parts:
        rows = list(part)
        scene = net_scene(maps, image, rows, batch_size)
        assert torch.equal(scene.ranks, whole_scene.ranks[rows])
        assert torch.equal(scene.batch.keys, whole_scene.batch.keys[rows])
        for one in wanted:
            np.testing.assert_allclose(scene.curve(*one).y, expected[one].y[rows], atol=1e-6)
            np.testing.assert_allclose(scene.curve(*one).area(), expected[one].area()[rows], atol=1e-6)


@law
@given(st.integers(0, 10_000), st.floats(1e-30, 1e30))
def test_float_noise_moves_no_rank(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    # Plateaus and near-ties, as an upsampled feature map has them, on the grid of what counts as different.
    level = torch.randint(-65536, 65537, (2, 100), generator=generator)
    level[:, 10:60] = torch.randint(-3, 4, (2, 50), generator=generator)
    level[:, 0] = 65536
    maps = (level.double() / 65536 * scale).float().view(2, 10, 10)
    noisy = maps * (1 + 1e-7 * (2 * torch.rand(maps.shape, generator=generator) - 1))
    noisy += maps.abs().max() * 1e-7 * (torch.rand(maps.shape, generator=generator) - 0.5)
    ties = perturb.tie_order(sample_keys(0, ["a", "b"]), 100)
    assert not torch.equal(maps, noisy)
    assert torch.equal(perturb.levels(maps), level)
    assert torch.equal(perturb.ranks(perturb.levels(noisy), ties), perturb.ranks(level, ties))


@law
@given(st.integers(0, 10_000), st.integers(-100, 100))
def test_scaling_a_map_moves_no_rank(seed, power):
    maps = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(perturb.levels(maps), perturb.levels(maps * 2.0**power))


@law
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(0, 40))
def test_ranks_are_a_permutation_from_the_largest_down_whose_ties_are_broken_alike_for_every_map(seed, n, spread):
    generator = torch.Generator().manual_seed(seed)
    level = torch.randint(-spread, spread + 1, (3, n), generator=generator)
    ties = perturb.tie_order(sample_keys(seed, ["a", "b", "c"]), n)
    rank = perturb.ranks(level, ties)
    for i in range(3):
        order = sorted(range(n), key=lambda pixel: (-level[i, pixel], ties[i, pixel]))
        assert [rank[i, pixel].item() for pixel in order] == list(range(n))


def test_ties_are_broken_differently_from_sample_to_sample():
    ties = perturb.tie_order(sample_keys(0, [f"s{i}" for i in range(50)]), 25)
    assert len({tuple(row) for row in ties.tolist()}) == 50
    assert all(sorted(row) == list(range(25)) for row in ties.tolist())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_map_that_is_not_finite_never_comes_to_be_ranked(bad):
    batch, maps = make_batch(draw((3, 1, 4, 4))), draw((3, 4, 4))
    maps[1, 2, 2] = bad
    found = checked(maps, batch)
    assert found.nonfinite.tolist() == [False, True, False]
    assert torch.equal(found.attribution[[0, 2]], maps[[0, 2]])
    assert not found.attribution[1].any()
    kept = checked(Explanation(maps, defined=torch.tensor([True, False, True])), batch)
    assert torch.equal(kept.attribution[[0, 2]], maps[[0, 2]])
    assert not kept.attribution[1].any()


def test_a_non_contributing_map_is_ranked_backwards_and_enters_as_a_mass_by_its_inverted_rank():
    image, maps = draw((4, 3, 6, 6)), draw((4, 6, 6), 1)
    scene = net_scene(maps, image, polarity="non_contributing")
    turned = net_scene(-maps, image)
    assert torch.equal(scene.ranks, turned.ranks)
    for metric, name in ((deletion("mean", 9), "deletion"), (insertion("blur", 9), "insertion")):
        torch.testing.assert_close(metric(scene)[name], metric(turned)[name])
        assert not torch.allclose(metric(scene)[name], metric(net_scene(maps, image))[name])
    order = maps.flatten(1).argsort(dim=1)
    expected = torch.linspace(1, 0, 36, dtype=torch.float64).expand(4, -1)
    torch.testing.assert_close(scene.positive.gather(1, order), expected)
    torch.testing.assert_close(turned.positive, (-maps).flatten(1).double().clamp(min=0))


def test_tied_is_the_share_of_pixels_that_share_their_level_and_blank_means_all_of_one_level():
    maps = torch.tensor([[[1.0, 1.0], [0.5, 0.25]], [[0.0, 0.0], [0.0, 0.0]], [[-3.0, -3.0], [-3.0, -3.0]]])
    scene = net_scene(maps, draw((3, 1, 2, 2)))
    assert scene.tied.tolist() == [0.5, 1, 1]
    assert scene.blank.tolist() == [False, True, True]
    assert net_scene(torch.tensor([[[4.0, 3], [2, 1]]]), draw((1, 1, 2, 2))).tied.tolist() == [0]


# What stands for "removed".


def test_zero_and_mean_fills_are_one_colour():
    image = draw((2, 3, 4, 5))
    keys = sample_keys(0, ["a", "b"])
    assert not perturb.fill_image("zero", image, MEAN, keys).any()
    filled = perturb.fill_image("mean", image, MEAN, keys)
    assert filled.shape == image.shape
    assert (filled == MEAN[None, :, None, None]).all()


def test_noise_fill_is_uniform_and_each_samples_own():
    image = draw((6, 3, 16, 16))
    ids = [f"s{i}" for i in range(6)]
    filled = perturb.fill_image("noise", image, MEAN, sample_keys(0, ids))
    assert filled.min() >= 0
    assert filled.max() < 1
    assert abs(filled.mean().item() - 0.5) < 4 / math.sqrt(12 * filled.numel())
    alone = perturb.fill_image("noise", image[4:5], MEAN, sample_keys(0, ids[4:5]))
    assert torch.equal(alone[0], filled[4])
    assert not torch.equal(filled[0], filled[1])
    assert not torch.equal(filled, perturb.fill_image("noise", image, MEAN, sample_keys(1, ids)))
    # The noise that fills is not the noise that breaks ties, or any other stream.
    assert not torch.equal(filled, uniform(sample_keys(0, ids), "ties", (3, 16, 16)))


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 16, 21), (1, 3, 4, 4)])
def test_blur_fill_is_rises_kernel_on_the_mean_centred_image_with_zeros_outside(shape):
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = gaussian_filter(delta, 5)
    image, mean = draw(shape).double().numpy(), MEAN[: shape[1]].double().numpy()
    filled = perturb.fill_image("blur", draw(shape), MEAN[: shape[1]], sample_keys(0, ["a"] * shape[0]))
    for i, channel in itertools.product(range(shape[0]), range(shape[1])):
        centred = np.pad(image[i, channel] - mean[channel], 5)
        expected = correlate2d(centred, kernel, mode="valid") + mean[channel]
        np.testing.assert_allclose(filled[i, channel], expected, atol=1e-6)


def test_blur_leaves_an_image_of_the_mean_colour_alone_and_darkens_no_other():
    flat = MEAN[None, :, None, None].expand(1, 3, 20, 20)
    keys = sample_keys(0, ["a"])
    torch.testing.assert_close(perturb.fill_image("blur", flat, MEAN, keys), flat)
    white = perturb.fill_image("blur", torch.ones(1, 3, 20, 20), MEAN, keys)
    torch.testing.assert_close(white[..., 5:15, 5:15], torch.ones(1, 3, 10, 10))
    assert (white <= 1 + 1e-6).all()
    assert (white.amin(dim=(2, 3)) > MEAN).all()


def test_an_unknown_fill_is_refused_by_name():
    with pytest.raises(ValueError, match="fill 'grey' is not one of zero, mean, blur, noise"):
        perturb.fill_image("grey", draw((1, 1, 2, 2)), MEAN[:1], sample_keys(0, "a"))


# Cost.


class Watched(Model):
    """Remembers every image that went through it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def logits(self, image):
        self.seen.append(image)
        return super().logits(image)


def watched_backdrop(batch_size=64):
    model = Watched(convnet(), batch_size=batch_size)
    image = draw((4, 3, 6, 6))
    return Backdrop(model, make_batch(image, target=torch.zeros(4, dtype=torch.int64)), MEAN)


def test_as_few_images_go_through_the_model_as_the_curves_need():
    backdrop = watched_backdrop()
    metrics = [deletion("mean", 28), insertion("mean", 28), insertion("blur", 36), deletion("mean", 28)]
    scene = Scene(backdrop, Explanation(draw((4, 6, 6), 1)))
    for metric in metrics:
        metric(scene)
    size, fills = 4, 2
    once = size + fills * size
    curves = size * ((28 - 1) + (28 - 1) + (36 - 1))
    passes = backdrop.model.passes
    assert (passes.forwards, passes.backwards) == (once + curves, 0)
    for metric in metrics:
        metric(scene)
    assert passes.forwards == once + curves
    deletion("blur", 30)(scene)
    curves += size * (30 - 1)
    assert passes.forwards == once + curves
    second = Scene(backdrop, Explanation(draw((4, 6, 6), 2)))
    for metric in (*metrics, deletion("blur", 30)):
        metric(second)
    assert passes.forwards == once + 2 * curves


def with_checked(*rows):
    """A batch of 4, of which those rows are held against the full curve."""
    backdrop = watched_backdrop()
    backdrop.batch.keys[:, 0] = torch.tensor([16 if row in rows else 7 for row in range(4)])
    return Scene(backdrop, Explanation(draw((4, 6, 6), 1)))


@pytest.mark.parametrize(
    "make", [deletion, insertion, srg, lambda *rest: normalised_area(rest[0], rest[1], 1e-9, *rest[2:])]
)
@pytest.mark.parametrize(("steps", "precision"), [(7, "float32"), (28, "bf16"), (36, "bf16"), (4, "bf16")])
def test_a_shortcut_says_how_far_it_is_from_the_full_curve(make, steps, precision):
    scene = with_checked(1, 3)
    full, short = make("mean", max(28, steps))(scene), make("mean", steps, precision)(scene)
    assert not [name for name in full if name.endswith("deviation")]
    names = [name for name in full if "." not in name]
    for name in names:
        away = short[f"{name}.deviation"]
        assert away[[0, 2]].isnan().all()
        torch.testing.assert_close(away[[1, 3]], (short[name] - full[name])[[1, 3]], atol=1e-6, rtol=0, equal_nan=True)
    assert any((short[f"{name}.deviation"][[1, 3]].abs() > 1e-6).any() for name in names)
    assert all(value.isnan().all() for name, value in make("mean", 7)(with_checked()).items() if "deviation" in name)


@pytest.mark.parametrize("first", [7, 28], ids=["another shortcut", "the full curve"])
def test_a_shortcut_walks_no_full_curve_that_was_walked_before(first):
    scene = with_checked(1, 3)
    deletion("mean", first)(scene)
    before = scene.model.passes.forwards
    deletion("mean", 5)(scene)
    assert scene.model.passes.forwards == before + 4 * (5 - 1)  # its own steps of the four samples, and nothing else


def test_bfloat16_changes_what_lies_between_the_ends_and_little():
    scene = with_checked()
    exact, rough = (scene.curve("morf", "mean", 28, precision).y for precision in ("float32", "bf16"))
    assert torch.equal(exact[:, [0, -1]], rough[:, [0, -1]])
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, atol=0.02, rtol=0)


def test_no_image_goes_through_the_model_twice():
    backdrop = watched_backdrop()
    scene = Scene(backdrop, Explanation(draw((4, 6, 6), 1)))
    for metric in (deletion("mean", 28), insertion("blur", 28), deletion("noise", 30)):
        metric(scene)
    seen = Counter(one.numpy().tobytes() for images in backdrop.model.seen for one in images)
    assert sum(seen.values()) == backdrop.model.passes.forwards
    # Four samples filled with one mean colour are one image.
    assert sorted(seen.values())[-1] == 4
    assert len(seen) == backdrop.model.passes.forwards - 3


def test_clean_predictions_that_are_known_are_not_made_again():
    backdrop = watched_backdrop()
    known = Backdrop(backdrop.model, backdrop.batch, MEAN, backdrop.clean_logits)
    before = backdrop.model.passes.forwards
    assert torch.equal(known.clean_score, backdrop.clean_score)
    assert backdrop.model.passes.forwards == before


@pytest.mark.parametrize("batch_size", [4, 7, 8, 13, 64])
def test_a_pass_holds_as_many_images_as_fit_and_never_more(batch_size):
    backdrop = watched_backdrop(batch_size)
    Scene(backdrop, Explanation(draw((4, 6, 6), 1))).curve("morf", "mean", 18)
    sizes = [len(images) for images in backdrop.model.seen]
    assert max(sizes) <= batch_size
    assert len(sizes) == 2 + math.ceil(17 / (batch_size // 4))


def test_a_metric_of_the_classifier_alone_has_no_explanation():
    scene = Scene(watched_backdrop())
    assert not scene.has_explanation
    with pytest.raises(ValueError, match="has no explanation to look at"):
        deletion("mean", 4)(scene)
