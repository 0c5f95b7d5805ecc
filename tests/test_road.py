"""Imputation against a sparse direct solver and closed forms; ROAD against loops over images, shares and pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

from xbench import imputation
from xbench.imputation import LinearImputer
from xbench.metrics.declared.faithfulness import specs
from xbench.metrics.road import Road, road, road_lerf
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import normal, sample_keys
from xbench.tensors import Batch, Explanation

KINDS = ["scattered", "blobs", "disc", "half", "stripes", "squares"]


def neighbours(y, x, height, width):
    """Yield (row, column, weight) of the neighbours inside the image."""
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if (dy or dx) and 0 <= y + dy < height and 0 <= x + dx < width:
                yield y + dy, x + dx, 1 / 12 if dy and dx else 1 / 6


def solved(image, removed):
    """Return the image [C,H,W] float64 with the removed pixels [H,W] imputed by a direct solver, row by row."""
    places = {place: i for i, place in enumerate(zip(*np.nonzero(removed), strict=True))}
    if not places:
        return image
    system, right = lil_matrix((len(places), len(places))), np.zeros((len(places), len(image)))
    for (y, x), i in places.items():
        around = list(neighbours(y, x, *removed.shape))
        whole = sum(weight for _, _, weight in around)
        system[i, i] = 1
        for row, column, weight in around:
            if removed[row, column]:
                system[i, places[row, column]] = -weight / whole
            else:
                right[i] += weight / whole * image[:, row, column]
    found = image.copy()
    values = np.asarray(spsolve(system.tocsc(), right)).reshape(len(places), -1)
    for (y, x), i in places.items():
        found[:, y, x] = values[i]
    return found


def residual(image, removed):
    """Return the largest |pixel - weighted mean of its neighbours| over removed pixels of [C,H,W]."""
    worst = 0.0
    for y, x in zip(*np.nonzero(removed), strict=True):
        around = list(neighbours(y, x, *removed.shape))
        mean = sum(weight * image[:, row, column] for row, column, weight in around)
        worst = max(worst, np.abs(image[:, y, x] - mean / sum(weight for _, _, weight in around)).max())
    return worst


def first(score, share):
    """Return [H,W] bool: the share of the pixels that have the lowest scores."""
    return score.ravel().argsort().argsort().reshape(score.shape) < round(share * score.size)


def mask(kind, height, width, share, seed=0):
    """Return a mask [H,W] of one kind with a share of its pixels removed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    score = {
        "scattered": random.random((height, width)),
        "blobs": gaussian_filter(random.standard_normal((height, width)), 3),
        "disc": np.hypot(y - height / 2, x - width / 2),
        "half": x + y / height,
        "stripes": (y % 3 == 0) + random.random((height, width)) / 100,
        "squares": ((y // 4 + x // 4) % 2) + random.random((height, width)) / 100,
    }[kind]
    return first(score, share)


def picture(channels, height, width, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


# The solver.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(28, 28), (19, 34)])
def test_imputed_values_are_those_of_a_direct_solver(kind, height, width):
    shares = [0.1, 0.5, 0.9, 0.99]
    image = torch.stack([picture(2, height, width, i) for i in range(len(shares))])
    removed = np.stack([mask(kind, height, width, share) for share in shares])
    found = LinearImputer()(image, torch.as_tensor(removed)).double().numpy()
    for i in range(len(shares)):
        np.testing.assert_allclose(found[i], solved(image[i].double().numpy(), removed[i]), atol=1e-4, rtol=0)
        assert residual(found[i], removed[i]) < 1e-4
        np.testing.assert_array_equal(found[i][:, ~removed[i]], image[i].double().numpy()[:, ~removed[i]])


def test_holes_of_a_large_image_are_solved_in_single_precision_in_a_few_iterations():
    shares = [0.3, 0.6, 0.9]
    for kind in ("scattered", "disc", "half"):
        image = torch.stack([picture(1, 128, 128, i) for i in range(len(shares))])
        removed = torch.as_tensor(np.stack([mask(kind, 128, 128, share) for share in shares]))
        exact = LinearImputer(tolerance=1e-11)(image.double(), removed)
        impute = LinearImputer()
        assert (impute(image, removed).double() - exact).abs().max() < 1e-4
        assert max(impute.iterations) <= 10


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 2), (2, 2), (3, 3), (5, 40), (4, 4), (5, 5), (16, 17)])
def test_small_and_narrow_images_agree_with_the_direct_solver(shape):
    for seed in range(5):
        image, removed = picture(1, *shape, seed), mask("scattered", *shape, 0.6, seed)
        found = LinearImputer(1e-11)(image[None].double(), torch.as_tensor(removed)[None])[0].numpy()
        np.testing.assert_allclose(found, solved(image.double().numpy(), removed), atol=1e-9)


def test_affine_images_are_restored_in_interior_holes_and_not_in_holes_that_touch_the_border():
    y, x = np.mgrid[:40, :50]
    image = torch.as_tensor(0.01 * x + 0.007 * y + 0.05)[None]
    interior = mask("blobs", 40, 50, 0.5)
    interior[[0, -1]] = interior[:, [0, -1]] = False
    touching = interior.copy()
    touching[:, :20] = True
    removed = torch.as_tensor(np.stack([interior, touching]))
    found = LinearImputer(tolerance=1e-10)(image.expand(2, 1, -1, -1), removed)
    torch.testing.assert_close(found[0], image, atol=1e-9, rtol=0)
    assert (found[1] - image).abs().max() > 0.05
    single = LinearImputer(tolerance=2e-6)(image.expand(2, 1, -1, -1).float(), removed)
    torch.testing.assert_close(single[0].double(), image, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_images_are_restored_whatever_is_removed(kind):
    removed = torch.as_tensor(np.stack([mask(kind, 30, 20, share) for share in (0.1, 0.9, 599 / 600)]))
    for value in (0.0, 0.3, 1.0):
        found = LinearImputer()(torch.full((3, 2, 30, 20), value), removed)
        torch.testing.assert_close(found, torch.full_like(found, value), atol=2e-7, rtol=0)


def test_what_removed_pixels_held_is_not_looked_at():
    image, removed = picture(2, 20, 20)[None], torch.as_tensor(mask("blobs", 20, 20, 0.5))[None]
    hidden = image.masked_fill(removed[:, None], float("nan"))
    torch.testing.assert_close(LinearImputer()(hidden, removed), LinearImputer()(image, removed), atol=0, rtol=0)


def test_an_image_without_removed_pixels_stays_as_it_is_and_one_without_others_is_refused():
    image = torch.stack([picture(1, 8, 8, i) for i in range(2)])
    removed = torch.zeros(2, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(LinearImputer()(image, removed), image, atol=0, rtol=0)
    removed[1] = True
    with pytest.raises(ValueError, match="every pixel of an image is removed"):
        LinearImputer()(image, removed)
    one = torch.full((1, 1, 1, 1), 0.4)
    torch.testing.assert_close(LinearImputer()(one, torch.zeros(1, 1, 1, dtype=torch.bool)), one, atol=0, rtol=0)


def test_imputation_does_not_depend_on_what_else_is_in_the_batch(monkeypatch):
    kinds = [(kind, share) for kind in KINDS for share in (0.2, 0.9)]
    image = torch.stack([picture(2, 24, 24, i) for i in range(len(kinds))])
    removed = torch.as_tensor(np.stack([mask(kind, 24, 24, share) for kind, share in kinds]))
    impute = LinearImputer()
    together = impute(image, removed)
    apart = torch.cat([impute(image[[i]], removed[[i]]) for i in range(len(kinds))])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    order = torch.randperm(len(kinds))
    torch.testing.assert_close(impute(image[order], removed[order]), together[order], atol=1e-5, rtol=0)
    monkeypatch.setitem(imputation._PIECE, "cpu", 5 * 2 * 24 * 24)
    torch.testing.assert_close(impute(image, removed), together, atol=1e-5, rtol=0)


def test_an_image_that_is_not_finite_is_an_error_and_leaves_no_trace():
    image, removed = picture(1, 20, 20)[None], torch.as_tensor(mask("disc", 20, 20, 0.5))[None]
    impute = LinearImputer()
    expected = impute(image, removed)
    with pytest.raises(RuntimeError, match="did not reach"):
        impute(image.masked_fill(~removed, float("nan")), removed)
    torch.testing.assert_close(impute(image, removed), expected, atol=0, rtol=0)


# The metric.


class Net(nn.Module):
    def __init__(self, channels, classes, pixels):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten())
        self.head = nn.Linear(6 * pixels, classes, bias=False)
        self.head.weight.data -= self.head.weight.data.mean(dim=1, keepdim=True)
        self.most = 0

    def forward(self, image):
        assert not torch.is_grad_enabled()
        self.most = max(self.most, len(image))
        return 8 * self.head(self.body(image))


def backdrop(size=5, channels=2, height=9, width=12, batch_size=64, classes=3, link="softmax"):
    image = torch.stack([picture(channels, height, width, i) ** 2 for i in range(size)])
    model = Model(Net(channels, classes, height * width), link, batch_size)
    ids = tuple(f"s{i}" for i in range(size))
    with torch.no_grad():
        target = model.logits(image).argmax(dim=1)
    return Backdrop(model, Batch(image, ids, target, target, sample_keys(0, ids)), torch.full((channels,), 0.5))


def maps(shared, seed=3):
    batch = shared.batch
    return torch.randn(len(batch), *batch.image.shape[2:], generator=torch.Generator().manual_seed(seed))


def by_loops(scene, order, steps, deviation):
    """Return accuracy and probability [B,steps], image by image and share by share with the direct solver."""
    batch, model = scene.batch, scene.model
    size, _, height, width = batch.image.shape
    noise = deviation * normal(batch.keys, "road", batch.image.shape[1:])
    hit, prob = np.zeros((size, steps)), np.zeros((size, steps))
    for b in range(size):
        best = scene.ranks[b].argsort().tolist()
        for s in range(steps):
            count = round((s + 1) / (steps + 1) * height * width)
            gone = best[:count] if order == "morf" else best[::-1][:count]
            removed = np.zeros(height * width, dtype=bool)
            removed[gone] = True
            removed = removed.reshape(height, width)
            filled = torch.as_tensor(solved(batch.image[b].double().numpy(), removed)).float()
            filled = torch.where(torch.as_tensor(removed), filled + noise[b], batch.image[b])
            with torch.no_grad():
                probs = model.prob(model.logits(filled[None]))[0]
            hit[b, s] = probs.argmax() == batch.target[b]
            prob[b, s] = probs[batch.target[b]]
    return hit, prob


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize(("channels", "classes", "link"), [(2, 3, "softmax"), (1, 1, "sigmoid"), (3, 4, "sigmoid")])
def test_road_agrees_with_loops_and_a_direct_solver(order, channels, classes, link):
    shared = backdrop(channels=channels, classes=classes, link=link)
    scene = Scene(shared, Explanation(maps(shared)))
    found = Road("road", order, 9, 0.05)(scene)
    hit, prob = by_loops(scene, order, 9, 0.05)
    np.testing.assert_allclose(found["road"].numpy(), hit.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(found["road_prob"].numpy(), prob.mean(axis=1), atol=1e-4)
    clean = shared.clean_score.double().numpy()
    np.testing.assert_allclose(found["road_prob.curve"].y.numpy(), np.column_stack([clean, prob]), atol=1e-4)
    np.testing.assert_allclose(found["road.curve"].y.numpy(), np.column_stack([np.ones(5), hit]))
    expected = [0, *(round(i / 10 * 108) / 108 for i in range(1, 10))]
    np.testing.assert_allclose(found["road.curve"].x.numpy(), expected)
    assert 0 < hit.mean() < 1


def test_neither_batch_size_nor_order_nor_company_matters():
    whole = backdrop(size=7)
    expected = road(9, 0.01)(Scene(whole, Explanation(maps(whole))))
    for batch_size in (1, 3, 16):
        shared = backdrop(size=7, batch_size=batch_size)
        found = road(9, 0.01)(Scene(shared, Explanation(maps(shared))))
        for name in ("road", "road_prob"):
            torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)
    order = [4, 0, 6]
    old = whole.batch
    ids = tuple(old.sample_id[i] for i in order)
    batch = Batch(old.image[order], ids, old.label[order], old.target[order], old.keys[order])
    found = road(9, 0.01)(Scene(Backdrop(whole.model, batch, whole.mean), Explanation(maps(whole)[order])))
    torch.testing.assert_close(found["road_prob"], expected["road_prob"][order], atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11])
def test_no_forward_pass_is_larger_than_allowed_and_every_share_costs_one(batch_size):
    shared = backdrop(size=4, batch_size=batch_size)
    scene = Scene(shared, Explanation(maps(shared)))
    assert len(shared.clean_logits) == 4
    shared.model.module.most, before = 0, shared.model.passes.forwards
    road(5, 0.01)(scene)
    assert shared.model.module.most <= batch_size
    assert shared.model.passes.forwards - before == 5 * 4


def test_a_blank_map_removes_pixels_in_the_order_in_which_ties_are_broken():
    shared = backdrop()
    blank = road(9, 0.01)(Scene(shared, Explanation(torch.zeros(5, 9, 12))))
    spelled = road(9, 0.01)(Scene(shared, Explanation(-shared.ties.view(5, 9, 12).float())))
    torch.testing.assert_close(blank["road_prob"], spelled["road_prob"])
    torch.testing.assert_close(blank["road"], spelled["road"])
    assert len(set(blank["road_prob"].tolist())) == 5


def test_removing_the_least_relevant_first_is_removing_the_most_relevant_of_the_negative_map():
    shared = backdrop()
    one = road_lerf(9, 0.01)(Scene(shared, Explanation(maps(shared))))
    other = road(9, 0.01)(Scene(shared, Explanation(-maps(shared))))
    torch.testing.assert_close(one["road_lerf_prob"], other["road_prob"])
    torch.testing.assert_close(one["road_lerf"], other["road"])
    least = Scene(shared, Explanation(-maps(shared)), "non_contributing")
    expected = road(9, 0.01)(Scene(shared, Explanation(maps(shared))))
    torch.testing.assert_close(road(9, 0.01)(least)["road_prob"], expected["road_prob"])


def test_the_noise_is_that_of_the_sample_unclipped_on_removed_pixels_only_and_drawn_once():
    shared = backdrop(size=2)
    assert len(shared.clean_logits) == 2
    seen = []
    forward = shared.model.module.forward
    shared.model.module.forward = lambda image: (seen.append(image.clone()), forward(image))[1]
    for attribution in (maps(shared), maps(shared, 4)):
        road(3, 0.0)(Scene(shared, Explanation(attribution)))
        quiet, seen[:] = seen[-1], []
        road(3, 2.0)(Scene(shared, Explanation(attribution)))
        loud, seen[:] = seen[-1], []
        kept = quiet == shared.batch.image.repeat(3, 1, 1, 1)
        noise = 2 * normal(shared.batch.keys, "road", shared.batch.image.shape[1:]).repeat(3, 1, 1, 1)
        torch.testing.assert_close(loud, quiet + noise * ~kept)
        assert loud.min() < -1
        assert loud.max() > 2
    assert list(shared.memo) == ["road/0.0", "road/2.0"]


def test_a_map_of_the_object_beats_its_reverse_where_only_the_object_counts():
    class Centre(nn.Module):
        def forward(self, image):
            inner = image[..., 4:8, 4:8].mean(dim=(1, 2, 3))
            return 20 * torch.stack([0.5 - inner, inner - 0.5], dim=1)

    image = 0.2 * torch.stack([picture(1, 12, 12, i) for i in range(6)])
    image[..., 4:8, 4:8] += 0.7
    ids, target = tuple("abcdef"), torch.ones(6, dtype=torch.int64)
    shared = Backdrop(Model(Centre()), Batch(image, ids, target, target, sample_keys(0, ids)), torch.zeros(1))
    right = torch.zeros(6, 12, 12)
    right[:, 4:8, 4:8] = 1
    good, bad = (Scene(shared, Explanation(sign * right)) for sign in (1, -1))
    for metric, name, sign in ((road(9, 0.01), "road", -1), (road_lerf(9, 0.01), "road_lerf", 1)):
        better, worse = metric(good), metric(bad)
        assert (sign * (better[name] - worse[name])).min() > 0.5
        assert (sign * (better[f"{name}_prob"] - worse[f"{name}_prob"])).min() > 0.5


@pytest.mark.parametrize(
    ("order", "steps", "noise", "named"),
    [
        ("morf", 0, 0.01, "steps=0"),
        ("morf", -3, 0.01, "steps=-3"),
        ("morf", 9, -0.1, "noise=-0.1"),
        ("morf", 9, float("nan"), "noise=nan"),
        ("morf", 9, float("inf"), "noise=inf"),
        ("up", 9, 0.01, "order='up'"),
    ],
)
def test_bad_parameters_are_named(order, steps, noise, named):
    with pytest.raises(ValueError, match=named):
        Road("road", order, steps, noise)


def test_a_share_that_is_the_whole_image_is_an_error():
    shared = backdrop(height=2, width=2)
    with pytest.raises(ValueError, match="the last share of 4 pixels is all of them"):
        road(9, 0.01)(Scene(shared, Explanation(maps(shared))))


def test_what_is_declared_is_what_is_given():
    shared = backdrop()
    scene = Scene(shared, Explanation(maps(shared)))
    for spec in specs():
        if spec.name.startswith("road"):
            made = {"road": road, "road_lerf": road_lerf}[spec.name](**spec.params)
            found = made(scene)
            assert set(found) == {name + tail for name in (s.name for s in spec.scores) for tail in ("", ".curve")}
            assert all(score.higher_is_better == (spec.name == "road_lerf") for score in spec.scores)
