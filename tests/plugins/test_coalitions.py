"""Coalitions against the Shapley kernel."""

import math

import pytest
import torch

from xbench_perturbation.coalitions import shapley_coalitions


@pytest.mark.parametrize("players", range(2, 11))
def test_all_coalitions_weigh_what_the_shapley_kernel_says(players):
    present, weights = shapley_coalitions(players, 2**players)
    assert len(present.unique(dim=0)) == len(present) == 2**players - 2
    size = present.sum(dim=1).double()
    kernel = torch.tensor([(players - 1) / (math.comb(players, int(k)) * int(k) * (players - int(k))) for k in size])
    torch.testing.assert_close(weights, kernel.double() / kernel.double().sum(), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("players", "count"), [(49, 500), (49, 100), (12, 27), (12, 400), (10, 1023), (7, 40), (2, 4)])
def test_sampled_coalitions_keep_the_budget_the_kernel_and_their_complements(players, count):
    present, weights = shapley_coalitions(players, count)
    assert count - 3 <= len(present) <= count - 2
    assert 0 < weights.sum() < 1 + 1e-9
    rows = sorted(map(tuple, present.tolist()))
    assert rows == sorted(map(tuple, (~present).tolist()))
    assert {tuple(row) for row in torch.eye(players).bool().tolist()} <= set(rows)
    size = present.sum(dim=1)
    assert ((size > 0) & (size < players)).all()
    if count >= 3 * players:
        kernel = torch.tensor([1 / (k * (players - k)) for k in range(1, players)]).double()
        found = torch.zeros(players + 1).double().scatter_add_(0, size, weights)[1:-1]
        # Random sizes come in whole coalitions.
        assert (found - kernel / kernel.sum()).abs().max() < 2 / count
