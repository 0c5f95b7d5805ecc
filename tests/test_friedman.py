"""Friedman's test errs as often as it says, its quantiles are the published ones, Nemenyi's groups are the maximal ones."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare, rankdata

from xbench.friedman import alike, critical_difference, friedman, letters, quantile


def random_values(seed, k=5, n=12, tied=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (k, n)).astype(float) if tied else rng.normal(size=(k, n))


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
def test_the_chi_square_is_scipys_and_ranks_are_of_better_values_first(tied):
    for seed in range(5):
        values = random_values(seed, tied=tied)
        found, theirs = friedman(values), friedmanchisquare(*values)
        assert found.chi_square == pytest.approx(theirs.statistic)
        assert found.p_chi_square == pytest.approx(theirs.pvalue)
        by_block = [rankdata([-value for value in block]) for block in values.T]
        assert found.mean_ranks == pytest.approx(np.mean(by_block, axis=0))
    assert friedman(np.array([[3.0, 9.0], [1.0, 2.0], [2.0, 2.0]])).mean_ranks.tolist() == [1.0, 2.75, 2.25]


def test_the_p_value_is_that_of_a_two_way_analysis_of_variance_of_the_ranks():
    values = random_values(3, tied=True)
    table = np.stack([rankdata(block) for block in -values.T], axis=1)
    k, n = table.shape
    fitted = table.mean(axis=1, keepdims=True) + table.mean(axis=0) - table.mean()
    between = n * ((table.mean(axis=1) - table.mean()) ** 2).sum() / (k - 1)
    within = ((table - fitted) ** 2).sum() / ((k - 1) * (n - 1))
    found = friedman(values)
    assert found.f == pytest.approx(between / within)
    assert found.p == pytest.approx(f.sf(between / within, k - 1, (k - 1) * (n - 1)))


def test_full_agreement_and_full_ties_are_the_ends():
    agreed = friedman(np.arange(4.0)[:, None] + np.zeros(6))
    assert (agreed.p, agreed.f, agreed.mean_ranks.tolist()) == (0.0, math.inf, [4, 3, 2, 1])
    tied = friedman(np.zeros((4, 6)))
    assert (tied.p, tied.chi_square, tied.groups) == (1.0, 0.0, ((0, 1, 2, 3),))


def test_quantiles_are_those_that_demsar_published():
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    assert [quantile(k) for k in range(2, 11)] == pytest.approx(published, abs=0.0011)  # his last digits are rounded
    # His example: four classifiers on 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_a_monotone_transform_of_a_block_changes_nothing_and_a_permutation_permutes():
    values = random_values(7)
    found = friedman(values)
    stretched = np.stack([np.exp(block * (i + 1)) - i for i, block in enumerate(values.T)], axis=1)
    again = friedman(stretched)
    assert (again.p, again.groups) == (found.p, found.groups)
    assert again.mean_ranks.tolist() == found.mean_ranks.tolist()
    order = np.array([3, 0, 4, 1, 2])
    moved = friedman(values[order])
    assert moved.mean_ranks.tolist() == found.mean_ranks[order].tolist()
    assert moved.p == found.p
    assert {frozenset(order[list(group)].tolist()) for group in moved.groups} == set(map(frozenset, found.groups))


def test_equals_are_told_apart_in_at_most_six_percent():
    rng = np.random.default_rng(1)
    for k, n in ((3, 20), (8, 5), (10, 40)):
        made = [friedman(rng.normal(size=n) + rng.normal(size=(k, n))) for _ in range(1000)]
        assert 0.03 <= np.mean([one.p <= 0.05 for one in made]) <= 0.06
        # Nor does Nemenyi's difference part any pair more often.
        parted = [np.ptp(one.mean_ranks) >= one.critical for one in made]
        assert np.mean(parted) <= 0.06


def test_groups_are_the_maximal_sets_of_which_no_two_are_apart():
    rng = np.random.default_rng(2)
    for k in (2, 5, 8):
        for critical in (0.3, 1.0, 2.5, 9.0):
            mean_ranks = np.round(rng.uniform(1, k, k), 1)
            near = [
                set(some)
                for size in range(2, k + 1)
                for some in itertools.combinations(range(k), size)
                if np.ptp(mean_ranks[list(some)]) < critical
            ]
            wanted = {frozenset(some) for some in near if not any(some < other for other in near)}
            found = alike(mean_ranks, critical)
            assert len(found) == len(wanted)
            assert {frozenset(group) for group in found} == wanted
            assert all(list(mean_ranks[list(group)]) == sorted(mean_ranks[list(group)]) for group in found)
    assert alike(np.array([1.0, 2.0]), 1.0) == ()


def test_what_the_test_does_not_tell_apart_is_one_group():
    # Two of twenty are a little apart: further than the critical difference, while the test sees nothing.
    gain = np.array([0.9, *[0.0] * 18, -0.9])
    found = friedman(gain[:, None] + np.random.default_rng(1).normal(size=(20, 8)))
    assert found.p > 0.05
    assert np.ptp(found.mean_ranks) > found.critical
    assert [sorted(group) for group in found.groups] == [list(range(20))]
    assert letters(found) == ["a"] * 20


def test_letters_are_shared_by_those_alike():
    found = friedman(np.arange(5.0)[:, None] + np.random.default_rng(0).normal(0, 1.0, (5, 30)))
    written = letters(found)
    for i, j in itertools.combinations(range(5), 2):
        apart = abs(found.mean_ranks[i] - found.mean_ranks[j]) >= found.critical
        assert bool(set(written[i]) & set(written[j])) is not apart


def test_a_missing_value_or_a_single_block_is_refused():
    with pytest.raises(ValueError, match="a value is missing"):
        friedman(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="3 explainers and 1 blocks"):
        friedman(np.zeros((3, 1)))


def test_means_that_differ_by_rounding_are_equal():
    values = np.array([[0.1 + 0.2 + 0.3, 1, 2], [0.3 + 0.2 + 0.1, 1, 2], [0.5, 0, 0]])
    assert values[0, 0] != values[1, 0]
    assert friedman(values).mean_ranks.tolist() == [1.5, 1.5, 3.0]
