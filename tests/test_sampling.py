"""Correlation and infidelity: exact on additive scores, the same changes for every explainer, curves' further areas."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

from xbench.metrics.faithfulness import deletion, insertion, normalised_area, srg
from xbench.metrics.sampling import faithfulness_correlation, infidelity, pearson
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation


class Additive(nn.Module):
    """Logits -s and s, s = sum w x over pixels and channels."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, image):
        s = (image.to(self.weight) * self.weight).flatten(1).sum(dim=1)
        return torch.stack([-s, s], dim=1)


class Curved(nn.Module):
    def forward(self, image):
        s = (image.flatten(1) ** 2).sum(dim=1) / 10 - image.flatten(1)[:, :3].prod(dim=1)
        return torch.stack([-s, s], dim=1)


def backdrop(model=None, size=3, channels=2, side=5, batch_size=64):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size, channels, side, side, generator=generator)
    weight = torch.randn(channels, side, side, generator=generator, dtype=torch.float64)
    ids, target = tuple(f"s{i}" for i in range(size)), torch.ones(size, dtype=torch.int64)
    made = model or Additive(weight)
    batch = Batch(image, ids, target, target, sample_keys(0, ids))
    return Backdrop(Model(made, batch_size=batch_size), batch, torch.full((channels,), 0.25)), weight


def contributions(shared, weight):
    """What every pixel gives to the target's logit over the mean fill: [B,H,W]."""
    return ((shared.batch.image - 0.25).double() * weight).sum(dim=1).float()


METRICS = {
    "faithfulness_correlation": faithfulness_correlation(20, 0.2, "mean", "logit"),
    "infidelity": infidelity(20, 0.1, "logit"),
}


def test_the_contributions_of_an_additive_score_correlate_fully():
    shared, weight = backdrop()
    found = METRICS["faithfulness_correlation"](Scene(shared, Explanation(contributions(shared, weight))))
    np.testing.assert_allclose(found["faithfulness_correlation"].numpy(), 1, atol=1e-5)
    negative = METRICS["faithfulness_correlation"](Scene(shared, Explanation(-contributions(shared, weight))))
    np.testing.assert_allclose(negative["faithfulness_correlation"].numpy(), -1, atol=1e-5)
    least = Scene(shared, Explanation(-contributions(shared, weight)), "non_contributing")
    np.testing.assert_allclose(
        METRICS["faithfulness_correlation"](least)["faithfulness_correlation"].numpy(), 1, atol=1e-5
    )


def test_the_weights_of_an_additive_score_leave_nothing_unexplained_at_any_scale():
    shared, weight = backdrop()
    gradient = weight.sum(dim=0).float().expand(3, -1, -1)
    for factor in (1, 37.0, 1e-6):
        found = METRICS["infidelity"](Scene(shared, Explanation(factor * gradient)))["infidelity"]
        np.testing.assert_allclose(found.numpy(), 0, atol=1e-8)
    opposite = METRICS["infidelity"](Scene(shared, Explanation(-gradient)))["infidelity"]
    np.testing.assert_allclose(opposite.numpy(), 1)


def test_a_blank_map_explains_nothing():
    shared, _ = backdrop()
    blank = Scene(shared, Explanation(torch.zeros(3, 5, 5)))
    np.testing.assert_allclose(METRICS["infidelity"](blank)["infidelity"].numpy(), 1)
    assert METRICS["faithfulness_correlation"](blank)["faithfulness_correlation"].isnan().all()


def test_a_score_that_never_moves_is_undefined():
    shared, _ = backdrop(Additive(torch.zeros(2, 5, 5)))
    scene = Scene(shared, Explanation(torch.rand(3, 5, 5)))
    assert all(next(iter(metric(scene).values())).isnan().all() for metric in METRICS.values())


@pytest.mark.parametrize("name", METRICS)
def test_a_random_map_lands_at_chance_and_scores_lie_in_their_bounds(name):
    shared, _ = backdrop(Curved(), size=200)
    maps = torch.rand(200, 5, 5, generator=torch.Generator().manual_seed(1))
    found = METRICS[name](Scene(shared, Explanation(maps)))[name]
    low, high = {"faithfulness_correlation": (-1, 1), "infidelity": (0, 1)}[name]
    assert low <= found.min() <= found.max() <= high
    noise = torch.randn(200, 5, 5, generator=torch.Generator().manual_seed(2))
    told = METRICS[name](Scene(shared, Explanation(noise)))
    # Of maps of mean 0 that know nothing the best factor is above 0 for half, and fits a little away.
    value, chance = (told[name], 0.0) if name == "faithfulness_correlation" else ((told[name] < 1).double(), 0.5)
    assert (value.mean() - chance).abs() < 4 * value.std() / 200**0.5


@pytest.mark.parametrize("name", METRICS)
def test_forwards_are_shared_by_all_explainers_and_no_batch_counts(name):
    shared, _ = backdrop(Curved(), batch_size=7)
    maps = torch.rand(3, 5, 5)
    first = METRICS[name](Scene(shared, Explanation(maps)))[name]
    spent = shared.model.passes.forwards
    assert spent == 20 * 3 + 3
    again = METRICS[name](Scene(shared, Explanation(maps)))[name]
    METRICS[name](Scene(shared, Explanation(torch.rand(3, 5, 5))))
    assert shared.model.passes.forwards == spent
    assert torch.equal(first, again)
    for i in range(3):
        one, _ = backdrop(Curved())
        alone = Backdrop(one.model, one.batch.take(slice(i, i + 1)), one.mean)
        found = METRICS[name](Scene(alone, Explanation(maps[i : i + 1])))[name]
        torch.testing.assert_close(found, first[i : i + 1], atol=1e-5, rtol=0)


def test_correlation_by_loops_on_a_network_that_is_not_additive():
    shared, _ = backdrop(Curved())
    maps = torch.rand(3, 5, 5)
    found = faithfulness_correlation(9, 0.2, "zero", "prob")(Scene(shared, Explanation(maps)))
    for i in range(3):
        sums, cost = [], []
        for run in range(9):
            inside = shared.memo[f"subset/0.2/{run}"][i]
            assert inside.sum() == 5
            image = shared.batch.image[i].clone()
            image.flatten(1)[:, inside] = 0
            with torch.no_grad():
                both = [
                    shared.model.score(x[None], torch.tensor([1]), "prob").item()
                    for x in (shared.batch.image[i], image)
                ]
            sums.append(maps[i].flatten()[inside].sum().item())
            cost.append(both[0] - both[1])
        assert found["faithfulness_correlation"][i].item() == pytest.approx(pearsonr(sums, cost).statistic, abs=1e-4)


def test_pearson_of_what_does_not_vary_is_undefined():
    rows = torch.tensor([[1.0, 1, 1], [1, 2, 4]], dtype=torch.float64)
    assert pearson(rows, rows.flip(1)).isnan().tolist() == [True, False]


def test_bad_parameters_are_named():
    for make, wrong in (
        (lambda: faithfulness_correlation(2, 0.2, "mean", "prob"), "runs=2"),
        (lambda: faithfulness_correlation(9, 1.0, "mean", "prob"), "share=1.0"),
        (lambda: infidelity(1, 0.1, "prob"), "runs=1"),
        (lambda: infidelity(9, 0.0, "prob"), "noise=0.0"),
        (lambda: normalised_area("mean", 4, 0.0), "least=0.0"),
        (lambda: srg("mean", 0), "steps=0"),
    ):
        with pytest.raises(ValueError, match=wrong):
            make()


def test_further_areas_follow_from_deletion_and_insertion_without_another_forward():
    shared, _ = backdrop(Curved())
    scene = Scene(shared, Explanation(torch.rand(3, 5, 5)))
    out, back = deletion("mean", 10)(scene)["deletion"], insertion("mean", 10)(scene)["insertion"]
    spent = shared.model.passes.forwards
    gain = srg("mean", 10)(scene)
    more = normalised_area("mean", 10, 1e-9)(scene)
    assert shared.model.passes.forwards == spent
    # Insertion is the LeRF path read backwards: the same area.
    torch.testing.assert_close(gain["srg"], back - out)
    torch.testing.assert_close(gain["lerf"], back)
    start, end = shared.clean_score.double(), shared.filled_score("mean").double()
    for i in range(3):
        if start[i] > end[i]:
            assert more["normalised_deletion"][i].item() == pytest.approx(((out - end) / (start - end))[i].item())
            assert more["normalised_insertion"][i].item() == pytest.approx(((back - end) / (start - end))[i].item())
        else:
            assert more["normalised_deletion"][i].isnan()
    curve = scene.curve("morf", "mean", 10).y
    torch.testing.assert_close(more["aopc"], (start[:, None] - curve).mean(dim=1))


def test_the_symmetric_gain_of_random_orders_is_zero_on_average_and_turns_with_the_map():
    shared, weight = backdrop(size=1)
    maps = contributions(shared, weight)
    gain = srg("mean", 25)
    best, worst = (gain(Scene(shared, Explanation(sign * maps)))["srg"].item() for sign in (1, -1))
    assert best > 0
    assert worst == pytest.approx(-best, abs=1e-6)
