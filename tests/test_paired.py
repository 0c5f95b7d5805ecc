"""Paired tests: they are exact where they can be, err as often as they say, and find what is there."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_rel

from xbench.paired import difference, holm, needed_groups, sign_flip
from xbench.stats import Bootstrap


def simulated(rng, groups, per_group, shift, share=0.5):
    """Two columns whose mean difference is ``shift``; a share of the difference's variance is the group's."""
    names = np.repeat([f"p{i}" for i in range(groups)], per_group)
    common = rng.normal(size=groups * per_group)
    gap = np.repeat(rng.normal(size=groups), per_group) * math.sqrt(share) + rng.normal(size=len(names)) * math.sqrt(
        1 - share
    )
    return common + shift + gap / 2, common - gap / 2, names


def test_a_few_groups_are_tested_by_every_sign():
    sums = np.array([3.0, -1.0, 2.0, 0.5])
    totals = [
        abs(sum(sign * value for sign, value in zip(signs, sums, strict=True)))
        for signs in itertools.product((1, -1), repeat=4)
    ]
    assert sign_flip(sums) == np.mean([total >= abs(sums.sum()) for total in totals])
    assert sign_flip(np.ones(5)) == 2 / 2**5
    assert sign_flip(np.zeros(7)) == 1


def test_many_groups_are_tested_by_drawn_signs_near_the_normal_limit():
    rng = np.random.default_rng(0)
    sums = rng.normal(0.1, 1, 400)
    z = abs(sums.sum()) / math.sqrt((sums**2).sum())
    assert sign_flip(sums) == pytest.approx(2 * norm.sf(z), abs=0.01)
    assert sign_flip(sums) == sign_flip(sums)
    assert sign_flip(np.full(300, 0.2)) == 1 / 10_000


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_size_of_a_study_is_the_textbooks():
    assert needed_groups(0.2) == pytest.approx(196.2, abs=0.1)
    assert needed_groups(-0.2) == needed_groups(0.2)
    assert needed_groups(0.0) == math.inf
    assert needed_groups(0.2, 0.05 / 20) > 1.8 * needed_groups(0.2)
    assert needed_groups(100.0) == 6
    assert sign_flip(np.ones(6)) <= 0.05 < sign_flip(np.ones(5))
    rng = np.random.default_rng(1)
    n, found = round(needed_groups(0.3)), 0
    for _ in range(300):
        found += sign_flip(rng.normal(0.3, 1, n)) <= 0.05
    assert 0.73 <= found / 300 <= 0.87


def test_a_difference_counts_samples_that_both_have_and_averages_seeds():
    one = [np.array([1.0, np.nan, 3.0, 4.0]), np.array([2.0, np.nan, 3.0, 4.0])]
    other = [np.array([0.0, 1.0, np.nan, 4.0]), np.array([0.0, 1.0, 1.0, 4.0])]
    told = difference(one, other, ["a", "a", "b", "c"])
    assert (told.n, told.n_groups, told.seeds) == (3, 3, 2)
    assert told.mean == pytest.approx(np.mean([np.mean([1, 0]), np.mean([2, 2, 0])]))
    assert (told.ahead, told.behind) == (pytest.approx(2 / 3), 0)
    assert told.p_seeds is None
    with pytest.raises(ValueError, match="no sample has a value of both"):
        difference([np.array([np.nan, 1.0])], [np.array([1.0, np.nan])], ["a", "b"])


def test_seeds_are_tested_by_a_paired_t_test_of_their_means():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(5, 30)), rng.normal(size=(5, 30))
    told = difference(list(one), list(other), [str(i) for i in range(30)])
    assert told.p_seeds == pytest.approx(ttest_rel(one.mean(axis=1), other.mean(axis=1)).pvalue)
    assert difference(list(one), list(one), [str(i) for i in range(30)]).p_seeds == 1


def test_the_effect_is_that_of_what_is_tested_whatever_the_groups_sizes():
    values = np.concatenate([np.full(30, 1.0), np.full(3, -1.0)])
    groups = ["large"] * 30 + ["a", "b", "c"]
    told = difference([values], [np.zeros(33)], groups)
    assert told.mean > 0
    assert told.effect > 0


@pytest.mark.parametrize(("groups", "per_group"), [(100, 1), (40, 4)], ids=["images", "clusters"])
def test_without_a_difference_the_test_errs_in_at_most_six_percent(groups, per_group):
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(500):
        one, other, names = simulated(rng, groups, per_group, 0.0)
        wrong += difference([one], [other], names).p <= 0.05
    assert wrong / 500 <= 0.06


def test_a_test_that_ignored_the_clusters_would_err_far_more_often():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        one, other, names = simulated(rng, 40, 4, 0.0)
        wrong += difference([one], [other], [str(i) for i in range(len(names))]).p <= 0.05
    assert wrong / 200 > 0.12


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["percentile", "bca"])
@pytest.mark.parametrize(("groups", "per_group"), [(120, 1), (80, 3)], ids=["images", "clusters"])
@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "skewed"])
def test_intervals_hold_the_true_difference_in_93_to_97_percent(groups, per_group, interval, skewed):
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(500):
        one, other, names = simulated(rng, groups, per_group, 0.3)
        gap = one - other
        if skewed:  # a lognormal of the same mean in expectation
            gap = np.exp(gap - 0.3 - 0.5) - 1 + 0.3
        bootstrap = Bootstrap(names, resamples=1000)
        found = bootstrap.estimate([gap])
        low, high = (found.low, found.high) if interval == "percentile" else bootstrap.bca([gap])
        held += low <= 0.3 <= high
    # Few skewed values are what no bootstrap of the mean is good at; the accelerated one is less bad.
    assert (0.9 if skewed else 0.93) <= held / 500 <= 0.97


def test_the_accelerated_interval_leans_to_the_long_tail_and_falls_back_where_it_is_not_defined():
    rng = np.random.default_rng(5)
    values, names = rng.lognormal(size=60), [str(i) for i in range(60)]
    bootstrap = Bootstrap(names)
    found, (low, high) = bootstrap.estimate([values]), bootstrap.bca([values])
    assert low > found.low
    assert high > found.high
    symmetrical = np.concatenate([values, -values])
    plain = Bootstrap([str(i) for i in range(120)])
    assert plain.bca([symmetrical]) == pytest.approx(
        (plain.estimate([symmetrical]).low, plain.estimate([symmetrical]).high), abs=0.03
    )
    few = Bootstrap(["a", "b", "c"])
    assert few.bca([values[:3]]) == (few.estimate([values[:3]]).low, few.estimate([values[:3]]).high)
    nested = Bootstrap(names, seeds=2)
    both = nested.estimate([values, values])
    assert nested.bca([values, values]) == (both.low, both.high)
    assert bootstrap.bca([np.ones(60)]) == (1, 1)
