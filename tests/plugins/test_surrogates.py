"""LIME and KernelSHAP against additive models, brute force over permutations, scikit-learn and Captum."""

import itertools
import math

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression
from captum.attr import KernelShap, Lime
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from torch import nn

from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_perturbation.coalitions import fewest, shapley_coalitions
from xbench_perturbation.segments import cut
from xbench_perturbation.surrogate import Game, kernel_shap, lime, lime_fit, shapley_fit

FILLS = ["segment", "zero", "mean"]
KINDS = ["slic", "grid"]


def batch(count=3, channels=2, height=6, width=8):
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


def shap(net, some, *, score="logit", n=200, kind="slic", segments=6, fill="mean", draw=0):
    return kernel_shap(net, score, n, kind, segments, fill, draw)(some)


def surrogate(net, some, *, score="logit", n=60, kind="slic", segments=6, fill="mean", width=0.25, ridge=1.0):
    return lime(net, score, n, kind, segments, fill, width, ridge, 0)(some)


def hidden(some, labels, fill):
    """Return the images with everything hidden, a segment at a time."""
    if fill == "zero":
        return torch.zeros_like(some.image)
    if fill == "mean":
        return some.image.mean(dim=(2, 3), keepdim=True).expand_as(some.image)
    result = torch.zeros_like(some.image)
    for i in range(len(some)):
        for label in labels[i].unique():
            inside = labels[i] == label
            result[i][:, inside] = some.image[i][:, inside].mean(dim=1, keepdim=True)
    return result


def segment_sums(net, some, labels, fill):
    """Return [B,H,W]: for a linear net, the summed contributions of each pixel's segment."""
    rows = net.module[1].weight[some.target].view_as(some.image)
    c = (rows * (some.image - hidden(some, labels, fill))).sum(dim=1)
    result = torch.zeros_like(c)
    for i in range(len(some)):
        for label in labels[i].unique():
            result[i][labels[i] == label] = c[i][labels[i] == label].sum()
    return result


def brute_force(net, some, labels, fill, score):
    """Return [B,H,W]: the Shapley value of each pixel's segment, its mean gain over all orders of the segments."""
    result = torch.zeros_like(some.image[:, 0])
    empty = hidden(some, labels, fill)
    for i in range(len(some)):
        members = labels[i].unique().tolist()
        values = {}
        for coalition in itertools.chain.from_iterable(
            itertools.combinations(members, k) for k in range(len(members) + 1)
        ):
            shown = torch.isin(labels[i], torch.tensor(coalition, dtype=torch.long))
            image = torch.where(shown, some.image[i], empty[i])
            values[frozenset(coalition)] = float(net.score(image[None], some.target[i : i + 1], score))
        for order in itertools.permutations(members):
            for place, label in enumerate(order):
                gain = values[frozenset(order[: place + 1])] - values[frozenset(order[:place])]
                result[i][labels[i] == label] += gain / math.factorial(len(members))
    return result


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_give_the_segment_sums_of_a_linear_net(fill, kind):
    some = batch()
    net = model(some, linear=True)
    labels, count = cut(some.image, kind, 12)
    expected = segment_sums(net, some, labels, fill)
    # The means of segments are kept to 2**-21 a pixel.
    close = {"atol": 1e-5 if fill == "segment" else 1e-9, "rtol": 0}
    found = surrogate(net, some, kind=kind, segments=12, fill=fill, ridge=1e-12)
    torch.testing.assert_close(found, expected, **close)
    for n in (fewest(count), 60, 2**12):
        torch.testing.assert_close(shap(net, some, kind=kind, n=n, segments=12, fill=fill), expected, **close)
    assert expected.abs().max() > 0.05


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize(
    ("fill", "kind", "segments"), [("mean", "slic", 6), ("segment", "slic", 5), ("zero", "grid", 4)]
)
def test_kernel_shap_with_all_coalitions_equals_the_mean_over_all_orders(score, fill, kind, segments):
    some = batch()
    net = model(some)
    labels, count = cut(some.image, kind, segments)
    expected = brute_force(net, some, labels, fill, score)
    found = shap(net, some, score=score, n=2**count, kind=kind, segments=segments, fill=fill)
    torch.testing.assert_close(found, expected, atol=1e-6 if fill == "segment" else 1e-9, rtol=0)
    assert net.passes.forwards >= 3 * 2**count


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_kernel_shap_of_very_few_segments_equals_the_mean_over_all_orders(segments):
    some = batch()
    net = model(some)
    labels, count = cut(some.image, "grid", segments)
    assert count == segments
    expected = brute_force(net, some, labels, "zero", "logit")
    torch.testing.assert_close(shap(net, some, n=8, kind="grid", segments=segments, fill="zero"), expected)


@pytest.mark.parametrize("n", [26, 27, 40, 101, 5000])
def test_values_of_kernel_shap_add_up_to_what_hiding_everything_takes(n):
    some = batch()
    net = model(some)
    game = Game(some, "slic", 12, "mean")
    empty = hidden(some, game.labels, "mean")
    expected = net.score(some.image, some.target) - net.score(empty, some.target)
    found, total = shap(net, some, n=n, segments=12), torch.zeros(3, dtype=torch.float64)
    for i in range(3):
        for label in game.labels[i].unique():
            total[i] += found[i][game.labels[i] == label][0]
    torch.testing.assert_close(total, expected, atol=1e-10, rtol=0)


def test_sampled_kernel_shap_comes_near_the_exact_values():
    some = batch()
    net = model(some)
    exact = shap(net, some, n=2**12, segments=12)
    spread = exact.std()
    errors = [float((shap(net, some, n=n, segments=12, draw=3) - exact).square().mean().sqrt()) for n in (26, 100, 600)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 0.02 * spread
    mean = torch.stack([shap(net, some, n=100, segments=12, draw=draw) for draw in range(30)]).mean(dim=0)
    assert float((mean - exact).square().mean().sqrt()) < 0.4 * errors[1]


def test_coalitions_of_more_players_stand_for_those_of_fewer():
    generator = torch.Generator().manual_seed(0)
    worth = torch.randn(2, 2**4, generator=generator, dtype=torch.float64)

    def play(players, used, column):
        present, weights = shapley_coalitions(players, 2**players)
        ends = torch.tensor([[True], [False]]).expand(2, players)
        code = (torch.cat([ends, present])[:, column].long() * torch.tensor([1, 2, 4, 8])).sum(dim=1)
        return shapley_fit(present, weights, worth[:, code], used)

    used = torch.tensor([[True, False, True, True, False, True]] * 2)
    larger = play(6, used, [0, 2, 3, 5])
    exact = play(4, torch.ones(2, 4, dtype=torch.bool), [0, 1, 2, 3])
    torch.testing.assert_close(larger[:, [0, 2, 3, 5]], exact)
    assert torch.equal(larger[:, [1, 4]], torch.zeros(2, 2, dtype=torch.float64))


def test_shapley_fit_is_the_constrained_least_squares_of_any_weights():
    # The last value is what the others leave of the sum: least squares without a constraint over the others.
    generator = torch.Generator().manual_seed(0)
    present, weights = torch.rand(30, 5, generator=generator) < 0.4, torch.rand(30, generator=generator).double()
    scores = torch.randn(2, 32, generator=generator, dtype=torch.float64)
    found = shapley_fit(present, weights, scores, torch.ones(2, 5, dtype=torch.bool))
    shown, root = present.double(), weights.sqrt()
    for i in range(2):
        total, gain = scores[i, 0] - scores[i, 1], scores[i, 2:] - scores[i, 1]
        left, right = shown[:, :4] - shown[:, 4:], gain - shown[:, 4] * total
        others = torch.linalg.lstsq(root[:, None] * left, (root * right)[:, None]).solution[:, 0]
        torch.testing.assert_close(found[i], torch.cat([others, (total - others.sum())[None]]))


def test_lime_leaves_out_players_that_an_image_does_not_have():
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(40, 6, generator=generator) < 0.5
    scores = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    used = torch.tensor([[True] * 6, [True, False, True, True, False, True]])
    both = lime_fit(present, scores, used, 0.25, 1.0)
    fewer = lime_fit(present[:, [0, 2, 3, 5]], scores[1:], torch.ones(1, 4, dtype=torch.bool), 0.25, 1.0)
    torch.testing.assert_close(both[1:, [0, 2, 3, 5]], fewer)
    assert torch.equal(both[1, [1, 4]], torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(both[:1], lime_fit(present, scores[:1], used[:1], 0.25, 1.0))


@pytest.mark.parametrize("width", [0.25, 1.0])
@pytest.mark.parametrize("ridge", [1.0, 20.0])
def test_lime_fit_is_the_weighted_ridge_regression_of_the_authors_code(width, ridge):
    some = batch()
    net = model(some)
    game = Game(some, "slic", 9, "mean")
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(50, game.players, generator=generator) < 0.5
    present[0], present[1] = True, False
    scores = game.scores(net, present, "logit")
    found = lime_fit(present, scores, game.used, width, ridge)
    for i in range(3):
        used = game.used[i].numpy()
        data = present.numpy().astype(float)[:, used]
        distance = pairwise_distances(data, data[:1], metric="cosine").ravel()
        weights = np.sqrt(np.exp(-(distance**2) / width**2))
        fitted = Ridge(alpha=ridge, fit_intercept=True).fit(data, scores[i].numpy(), sample_weight=weights)
        torch.testing.assert_close(found[i][game.used[i]], torch.as_tensor(fitted.coef_), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", FILLS)
def test_scores_of_a_game_are_those_of_images_with_segments_hidden(kind, fill):
    some = batch()
    net = model(some, batch_size=7)
    game = Game(some, kind, 6, fill)
    present = torch.rand(10, game.players, generator=torch.Generator().manual_seed(0)) < 0.5
    found = game.scores(net, present, "prob")
    empty = hidden(some, game.labels, fill)
    for i in range(3):
        for j in range(10):
            image = torch.where(present[j][game.labels[i]], some.image[i], empty[i])
            expected = net.score(image[None], some.target[i : i + 1], "prob")[0]
            torch.testing.assert_close(found[i, j], expected, atol=1e-6, rtol=1e-6)


def test_the_first_sample_of_lime_is_the_image_itself():
    some, seen = batch(), []
    net = model(some)
    net.module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    surrogate(net, some)
    assert torch.equal(seen[0][:3], some.image)
    assert not torch.equal(seen[0][3:6], some.image)


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_both_agree_with_captum_on_a_linear_net(method):
    some = batch()
    net = model(some, linear=True)
    labels, _ = cut(some.image, "grid", 6)
    torch.manual_seed(0)
    if method == "lime":
        # Captum's own default, a lasso on 50 samples, shrinks; without a penalty both fits are exact.
        theirs = Lime(net.logits, interpretable_model=SkLearnLinearRegression())
        ours = surrogate(net, some, kind="grid", fill="zero", ridge=1e-12)
    else:
        theirs, ours = KernelShap(net.logits), shap(net, some, kind="grid", fill="zero", n=40)
    for i in range(3):
        one = some.image[i : i + 1]
        found = theirs.attribute(one, target=int(some.target[i]), feature_mask=labels[:1, None], n_samples=100)
        # Captum fits in float32, and KernelShap weighs its two end points by 1,000,000.
        torch.testing.assert_close(ours[i], found[0, 0].double(), atol=2e-4, rtol=1e-3)
    assert ours.abs().max() > 0.05


def test_kernel_shap_agrees_with_captum_on_a_net_that_is_not_linear():
    some = batch(1)
    net = model(some)
    labels, _ = cut(some.image, "grid", 4)
    torch.manual_seed(0)
    found = KernelShap(net.logits).attribute(
        some.image, target=0, feature_mask=labels[:1, None], n_samples=1500, perturbations_per_eval=100
    )
    ours = shap(net, some, n=16, kind="grid", segments=4, fill="zero")
    torch.testing.assert_close(ours[0], found[0, 0].double(), atol=0.003, rtol=0)
    assert ours.std() > 0.02
