"""Intervals resample groups, pair columns and nest seeds; ranks share what the data cannot separate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

from xbench import stats
from xbench.errors import XbenchError
from xbench.stats import Bootstrap, rank_groups, weighted_auroc

law = settings(max_examples=60, deadline=None, derandomize=True)
numbers = st.one_of(st.floats(-100, 100), st.just(float("nan")))


def names(count):
    return [f"g{i:03d}" for i in range(count)]


def column(count, seed=0):
    return np.random.default_rng(seed).normal(size=count)


def width(estimate):
    return estimate.high - estimate.low


def weights(bootstrap, count):
    """[R,n] how often each sample is in each resample, told from outside by one indicator column a sample."""
    found = [bootstrap.estimate([np.eye(count)[i]]).draws for i in range(count)]
    return np.rint(np.stack(found, axis=1) * count).astype(int)


# The mean.


@law
@given(arrays.arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 20)), elements=numbers))
def test_mean_leaves_out_what_is_undefined_and_averages_seeds(columns):
    found = Bootstrap(names(columns.shape[1]), seeds=len(columns), resamples=50).estimate(list(columns))
    assert (found.n_scored, found.n) == (int((~np.isnan(columns)).sum()), columns.size)
    known = [seed[~np.isnan(seed)] for seed in columns]
    if all(len(seed) for seed in known):
        assert found.mean == pytest.approx(np.mean([seed.mean() for seed in known]), abs=1e-9)
    else:
        assert np.isnan(found.mean)
    if not any(len(seed) for seed in known):
        assert np.isnan([found.low, found.high]).all()


def test_groups_weigh_as_many_samples_as_they_have():
    found = Bootstrap(["a", "a", "a", "b"]).estimate([np.array([1.0, 1, 1, 0])])
    assert found.mean == 0.75
    assert set(found.draws) == {0, 0.75, 1}


def test_undefined_samples_neither_move_nor_fill_a_resample():
    values = column(30)
    values[::3] = np.nan
    bootstrap = Bootstrap(names(30), resamples=200)
    repeated = weights(bootstrap, 30)
    expected = [np.nanmean(np.repeat(values, row)) for row in repeated]
    np.testing.assert_allclose(bootstrap.estimate([values]).draws, expected, atol=1e-12)


def test_a_resample_draws_as_many_groups_as_there_are_with_replacement():
    drawn = weights(Bootstrap(names(20)), 20)
    assert drawn.shape == (stats.RESAMPLES, 20)
    assert (drawn.sum(axis=1) == 20).all()
    assert abs(drawn.mean(axis=0) - 1).max() < 4 * np.sqrt(0.95 / stats.RESAMPLES)
    assert drawn.var() == pytest.approx(1 - 1 / 20, rel=0.03)


# The interval.


def test_an_interval_is_the_middle_95_percent_of_its_draws():
    found = Bootstrap(names(50)).estimate([column(50)])
    inside = (found.draws >= found.low) & (found.draws <= found.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.002)
    assert (found.draws < found.low).mean() == pytest.approx(0.025, abs=0.001)
    # The textbook standard error, to what 2,000 resamples can tell.
    assert width(found) == pytest.approx(2 * 1.96 * column(50).std() / np.sqrt(50), rel=0.08)


def test_samples_that_repeat_their_group_add_no_certainty():
    values, groups = column(40), names(40)
    alone = Bootstrap(groups).estimate([values])
    repeated = Bootstrap(np.repeat(groups, 5)).estimate([np.repeat(values, 5)])
    np.testing.assert_allclose(repeated.draws, alone.draws, atol=1e-12)
    naive = Bootstrap(names(200)).estimate([np.repeat(values, 5)])
    assert width(repeated) > 1.9 * width(naive)


@pytest.mark.parametrize("auroc", [False, True])
def test_order_of_samples_changes_no_interval(auroc):
    values, groups, order = column(60), np.repeat(names(20), 3), np.random.default_rng(1).permutation(60)
    labels = np.arange(60) % 2
    if auroc:
        one, other = (Bootstrap(groups[o]).auroc([values[o]], labels[o]) for o in (np.arange(60), order))
    else:
        one, other = (Bootstrap(groups[o]).estimate([values[o]]) for o in (np.arange(60), order))
    np.testing.assert_allclose(one.draws, other.draws, atol=1e-12)


def test_intervals_of_grouped_samples_cover_the_truth_about_19_times_in_20():
    rng = np.random.default_rng(0)
    groups, hits, naive_hits, rounds = np.repeat(names(40), 4), 0, 0, 300
    clustered, naive = Bootstrap(groups, resamples=400), Bootstrap(names(160), resamples=400)
    for _ in range(rounds):
        values = np.repeat(rng.normal(size=40), 4) + 0.5 * rng.normal(size=160)
        found, blind = clustered.estimate([values]), naive.estimate([values])
        hits += found.low <= 0 <= found.high
        naive_hits += blind.low <= 0 <= blind.high
    assert 0.90 <= hits / rounds <= 0.98
    assert naive_hits / rounds < 0.8


def test_a_constant_column_has_an_interval_without_width():
    found = Bootstrap(names(30)).estimate([np.full(30, 0.3)])
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)


def test_columns_are_paired():
    bootstrap = Bootstrap(np.repeat(names(20), 2), seeds=2)
    one, two = column(40), column(40, 1)
    first, second = bootstrap.estimate([one, two]), bootstrap.estimate([one + 3, two + 3])
    np.testing.assert_allclose(second.draws - first.draws, 3, atol=1e-12)
    total = bootstrap.estimate([one + 2 * two, two + 2 * one])
    np.testing.assert_allclose(total.draws, first.draws + 2 * bootstrap.estimate([two, one]).draws, atol=1e-12)


@pytest.mark.parametrize("block", [1, 130, 5000])
def test_the_size_of_a_block_of_resamples_changes_nothing(monkeypatch, block):
    values, labels, groups = column(60), np.arange(60) % 2, np.repeat(names(30), 2)

    def both():
        bootstrap = Bootstrap(groups, resamples=100)
        return bootstrap.estimate([values]), bootstrap.auroc([values], labels)

    whole = both()
    monkeypatch.setattr(stats, "_BLOCK", block)
    for one, other in zip(both(), whole, strict=True):
        np.testing.assert_allclose(one.draws, other.draws, atol=1e-14)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-14)


# Seeds.


def test_a_second_seed_that_says_the_same_adds_no_certainty_and_one_that_differs_takes_some():
    values = column(80)
    alone = Bootstrap(names(80)).estimate([values])
    same = Bootstrap(names(80), seeds=2).estimate([values, values])
    apart = Bootstrap(names(80), seeds=2).estimate([values - 1, values + 1])
    assert same.mean == pytest.approx(alone.mean)
    assert width(same) == pytest.approx(width(alone), rel=0.08)
    assert apart.mean == pytest.approx(alone.mean)
    assert width(apart) > 3 * width(same)


def test_seeds_are_drawn_with_replacement_and_samples_within_them():
    bootstrap, values = Bootstrap(names(30), seeds=2), column(30)
    shift = bootstrap.estimate([values, values + 1]).draws - bootstrap.estimate([values, values]).draws
    assert set(np.round(shift, 9)) == {0, 0.5, 1}
    assert np.mean(np.isclose(shift, 0.5)) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.isclose(shift, 1)) == pytest.approx(0.25, abs=0.05)


def test_a_seed_without_any_value_is_not_passed_over():
    found = Bootstrap(names(30), seeds=2).estimate([column(30), np.full(30, np.nan)])
    assert np.isnan(found.mean)
    assert found.n_scored == 30


# The area under the ROC curve.

scored = st.integers(4, 25).flatmap(
    lambda n: st.tuples(
        arrays.arrays(float, n, elements=st.integers(-3, 3).map(float)),
        arrays.arrays(np.int64, n, elements=st.integers(0, 1)),
        arrays.arrays(float, (3, n), elements=st.integers(0, 4).map(float)),
    )
)


@law
@given(scored)
def test_auroc_equals_scikit_learn_on_samples_repeated_by_their_weights(case):
    values, labels, weight = case
    found = weighted_auroc(values, labels == 1, weight)
    for row, area in zip(weight.astype(int), found, strict=True):
        repeated = np.repeat(labels, row)
        if len(set(repeated)) < 2:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(repeated, np.repeat(values, row)), abs=1e-12)


def test_auroc_equals_a_slow_bootstrap():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    values = np.round(labels + rng.normal(size=40), 1)
    bootstrap = Bootstrap(names(40), resamples=150)
    found = bootstrap.auroc([values], labels)
    assert found.mean == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    slow = [roc_auc_score(np.repeat(labels, row), np.repeat(values, row)) for row in weights(bootstrap, 40)]
    np.testing.assert_allclose(found.draws, slow, atol=1e-12)
    assert found.low < found.mean < found.high


def test_auroc_draws_whole_groups_and_averages_seeds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 30)
    one, two = labels + rng.normal(size=30), labels + rng.normal(size=30)
    alone = Bootstrap(names(30)).auroc([one], labels)
    repeated = Bootstrap(np.repeat(names(30), 3)).auroc([np.repeat(one, 3)], np.repeat(labels, 3))
    np.testing.assert_allclose(repeated.draws, alone.draws, atol=1e-12)
    both = Bootstrap(names(30), seeds=2).auroc([one, two], labels)
    expected = (roc_auc_score(labels, one) + roc_auc_score(labels, two)) / 2
    assert both.mean == pytest.approx(expected, abs=1e-12)


def test_auroc_leaves_out_what_is_undefined():
    values, labels = np.round(column(30), 1), np.arange(30) % 2
    holes = values.copy()
    holes[5:9] = np.nan
    known = ~np.isnan(holes)
    found = Bootstrap(names(30)).auroc([holes], labels)
    assert found.mean == pytest.approx(roc_auc_score(labels[known], values[known]), abs=1e-12)
    assert (found.n_scored, found.n) == (26, 30)


def test_auroc_of_one_class_is_undefined():
    found = Bootstrap(names(10)).auroc([column(10)], np.ones(10, dtype=np.int64))
    assert np.isnan([found.mean, found.low, found.high]).all()


# Ranks.


def estimates(*columns):
    bootstrap = Bootstrap(names(len(columns[0])))
    return [bootstrap.estimate([one]) for one in columns]


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_ranks_follow_the_direction_and_what_cannot_be_separated_shares_a_rank(higher_is_better):
    base, sign = column(100), 1 if higher_is_better else -1
    rows = estimates(base, base + 5 * sign, base, base + 5 * sign + 1e-3 * column(100, 1), base - 5 * sign)
    assert rank_groups(rows, higher_is_better) == [3, 1, 3, 1, 5]


def test_a_paired_difference_separates_what_single_intervals_do_not():
    base = column(100)
    rows = estimates(base, base + 0.05 + 0.01 * column(100, 1))
    assert rows[0].high > rows[1].low
    assert rank_groups(rows, True) == [2, 1]


def test_a_difference_that_is_noise_separates_nothing():
    assert rank_groups(estimates(column(100), column(100, 1) + 0.1), True) == [1, 1]
    assert rank_groups(estimates(column(5)), True) == [1]


def test_leaving_out_hard_samples_wins_no_rank():
    base = column(100)
    picked = np.where(base > 0, base, np.nan)
    rows = estimates(base, picked)
    assert rows[1].low > rows[0].high
    assert rank_groups(rows, True) == [1, 1]
    better = np.where(base > 0, base + 0.1, np.nan)
    assert rank_groups(estimates(base, better), True) == [2, 1]
    assert rank_groups(estimates(picked, np.where(base > 0, np.nan, base)), True) == [1, 1]


def test_rank_does_not_depend_on_the_order_of_rows():
    rows = estimates(*(column(60, seed) + seed / 4 for seed in range(6)))
    ranks = rank_groups(rows, True)
    order = [3, 0, 5, 1, 4, 2]
    assert rank_groups([rows[i] for i in order], True) == [ranks[i] for i in order]
    assert min(ranks) == 1
    assert len(set(ranks)) > 2


# Rates.


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_the_published_interval(hits, n, low, high):
    assert stats.wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_rate_of_nothing_or_of_all_still_has_an_interval(value):
    found = Bootstrap(names(50)).rate([np.full(50, value)])
    assert (found.low, found.high) == stats.wilson(value, 50)
    assert found.low < found.high
    assert (found.mean, found.n_scored) == (value, 50)


@pytest.mark.parametrize("value", [2.0, -1.0])
def test_a_rate_of_other_values_than_zeros_and_ones_is_told(value):
    with pytest.raises(XbenchError, match="a rate is the mean of zeros and ones"):
        Bootstrap(list("abc")).rate([np.full(3, value)])


def test_a_rate_of_independent_values_has_about_wilsons_interval_and_copies_add_no_certainty():
    values = (np.random.default_rng(3).random(200) < 0.3).astype(float)
    single = Bootstrap(names(200)).rate([values])
    assert (single.low, single.high) == pytest.approx(stats.wilson(values.mean(), 200), abs=0.01)
    copied = Bootstrap(names(200) * 10).rate([np.tile(values, 10)])
    assert width(copied) == pytest.approx(width(single), rel=0.1)
    assert Bootstrap(names(2000)).rate([np.tile(values, 10)]).high < copied.high


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_at_none_and_at_all_a_group_counts_once(value):
    found = Bootstrap(names(10) * 12, seeds=2).rate([np.full(120, value)] * 2)
    assert (found.low, found.high) == stats.wilson(value, 10)
    assert found.n_scored == 240
    unknown = np.full(50, value)
    unknown[:30] = np.nan
    part = Bootstrap(names(50)).rate([unknown])
    assert (part.low, part.high) == stats.wilson(value, 20)


def test_resamples_that_are_kept_are_those_that_are_drawn_again(monkeypatch):
    columns = [np.random.default_rng(seed).random(300) for seed in (0, 1)]
    columns[1][::7] = np.nan
    found = []
    for floats, small in ((2**22, 2**26), (0, 2**26), (0, 0)):
        monkeypatch.setattr("xbench.stats._KEPT_FLOATS", floats)
        monkeypatch.setattr("xbench.stats._KEPT_BYTES", small)
        bootstrap = Bootstrap(list(map(str, range(300))), seeds=2)
        for each in (columns, columns[:1] * 2):
            found.append([bootstrap.estimate(each).draws for _ in range(2)])
    assert all(np.array_equal(one, other) for one, other in found)
    assert all(np.array_equal(found[place % 2][0], pair[0]) for place, pair in enumerate(found))


def test_the_end_of_an_interval_is_placed_against_zero_as_a_percentile_is():
    rng = np.random.default_rng(0)
    for shift in np.linspace(1.5, 2.5, 400):
        draws = rng.normal(size=2000) + shift
        assert stats._is_above(draws) == (np.percentile(draws, 2.5) > 0)
    for below in range(45, 55):
        draws = np.concatenate([np.full(below, -1e-9), np.full(2000 - below, 1e-3)])
        assert stats._is_above(draws) == (np.percentile(draws, 2.5) > 0), below
