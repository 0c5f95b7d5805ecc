"""Flip tables: S0's published counts, joint counts worked by hand, bounds that always hold, tests against their formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom

from xbench.flips import FlipTable, Margins, Rate, associate, flip_table
from xbench.stats import wilson

law = settings(max_examples=80, deadline=None, derandomize=True)
both_and_each = pytest.mark.parametrize("label", [0, 1, None])
S0 = Margins([[8682, 3391], [152, 404]], [[5108, 6965], [340, 216]], ("no finding", "cardiomegaly"))
# Label 0: 5 stay, 30 turn, 2 turn back, 3 persist. Label 1 (seen from 1): 4 stay, 20 turn, 1 turns back, 6 persist.
HAND = FlipTable([[[5, 30], [2, 3]], [[6, 1], [20, 4]]], ("small", "large"))
tables = st.lists(st.integers(0, 12), min_size=8, max_size=8).map(lambda flat: FlipTable(np.reshape(flat, (2, 2, 2))))


# What S0 published, and what it leaves open (METHODS.md B8).


@pytest.mark.parametrize(
    ("label", "n", "before", "after", "shift", "low", "high", "right"),
    [
        (0, 12073, 3391, 6965, 29.60, 3574, 6965, 8682),
        (1, 556, 152, 340, 33.81, 188, 340, 404),
        (None, 12629, 3543, 7305, 29.79, 3762, 7305, 9086),
    ],
)
def test_the_eight_counts_of_s0_give_the_table_of_bounds(label, n, before, after, shift, low, high, right):
    assert S0.n(label) == n
    assert S0.predicted_before(label) == Rate(before, n)
    assert S0.validity(label) == Rate(after, n)
    assert round(100 * S0.net_shift(label), 2) == shift
    bounds = S0.corrected_flip_bounds(label)
    assert (bounds.low, bounds.high, bounds.n) == (low, high, right)


def test_the_eight_counts_of_s0_give_its_percentages():
    def percent(*values):
        return [round(100 * value, 2) for value in values]

    assert percent(*(S0.predicted_before(k).rate for k in (0, 1, None))) == [28.09, 27.34, 28.05]
    assert percent(*(S0.validity(k).rate for k in (0, 1, None))) == [57.69, 61.15, 57.84]
    assert [percent(*S0.corrected_flip_bounds(k).rates) for k in (0, 1, None)] == [
        [41.17, 80.22],
        [46.53, 84.16],
        [41.40, 80.40],
    ]
    assert percent(S0.balanced_validity(), S0.accuracy().rate, S0.agreement_after().rate) == [59.42, 71.95, 42.16]


# Joint counts.


def test_a_table_worked_by_hand():
    assert HAND.corrected_flip_rate(0) == Rate(30, 35)
    assert HAND.corrected_flip_rate(1) == Rate(20, 24)
    assert HAND.corrected_flip_rate() == Rate(50, 59)
    assert [HAND.unflip_rate(k) for k in (0, 1, None)] == [Rate(2, 5), Rate(1, 7), Rate(3, 12)]
    assert [HAND.flip_rate(k) for k in (0, 1, None)] == [Rate(32, 40), Rate(21, 31), Rate(53, 71)]
    assert [HAND.turned(k) for k in (0, 1, None)] == [(30, 2), (20, 1), (50, 3)]
    assert HAND.paths(0).tolist() == [[5, 30], [2, 3]]
    assert HAND.paths(1).tolist() == [[4, 20], [1, 6]]
    margins = HAND.margins
    assert margins.before.tolist() == [[35, 5], [7, 24]]
    assert margins.after.tolist() == [[7, 33], [26, 5]]
    assert [margins.validity(k) for k in (0, 1)] == [Rate(33, 40), Rate(26, 31)]
    assert margins.accuracy() == Rate(59, 71)
    assert margins.agreement_after() == Rate(12, 71)


@law
@given(tables)
def test_samples_one_by_one_give_the_same_rates(table):
    label, before, after = (np.repeat(index.ravel(), table.counts.ravel()) for index in np.indices((2, 2, 2)))
    mixed = np.random.default_rng(0).permutation(len(label))
    assert flip_table(label[mixed], before[mixed], after[mixed]).counts.tolist() == table.counts.tolist()
    for k in (0, 1, None):
        mine = np.ones_like(label, dtype=bool) if k is None else label == k
        right, wrong, goal = mine & (before == label), mine & (before != label), 1 - label
        assert table.corrected_flip_rate(k) == Rate((after == goal)[right].sum(), right.sum())
        assert table.unflip_rate(k) == Rate((after == label)[wrong].sum(), wrong.sum())
        assert table.flip_rate(k) == Rate((after != before)[mine].sum(), mine.sum())
        assert table.margins.validity(k) == Rate((after == goal)[mine].sum(), mine.sum())
        assert table.difficulty(k).counts.tolist() == associate(right[mine], (after == goal)[mine]).counts.tolist()


@law
@given(tables)
def test_the_bounds_from_the_margins_hold_the_joint_count(table):
    for k in (0, 1, None):
        bounds, found = table.margins.corrected_flip_bounds(k), table.corrected_flip_rate(k)
        assert bounds.low <= found.hits <= bounds.high
        assert bounds.n == found.n


@law
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_bounds_are_the_least_and_the_most_over_all_tables_with_these_margins(stay, turn, back, persist):
    n, before, after = stay + turn + back + persist, back + persist, turn + persist
    # With the margins fixed, the turned count x fixes the other three; all must be from 0 up.
    possible = [x for x in range(n + 1) if n - before - x >= 0 <= after - x and before - (after - x) >= 0]
    margins = FlipTable([[[stay, turn], [back, persist]], [[0, 0], [0, 0]]]).margins
    bounds = margins.corrected_flip_bounds(0)
    assert (bounds.low, bounds.high) == (min(possible), max(possible))


def test_a_translation_that_does_nothing_turns_nothing():
    label = np.arange(50) % 2
    before = np.where(np.arange(50) < 45, label, 1 - label)
    table = flip_table(label, before, before)
    assert table.flip_rate() == Rate(0, 50)
    assert table.corrected_flip_rate() == Rate(0, 45)
    assert table.margins.net_shift() == 0
    assert table.mcnemar() == 1
    # It is "valid" on all that was classified wrongly and on nothing else, which says nothing about difficulty.
    assert table.difficulty().counts.tolist() == [[0, 45], [5, 0]]
    assert table.difficulty().odds_ratio == 0


# Tests and intervals.


@both_and_each
def test_mcnemar_is_the_binomial_test_of_those_that_turned(label):
    to, away = HAND.turned(label)
    assert HAND.mcnemar(label) == pytest.approx(binomtest(to, to + away, 0.5).pvalue, rel=1e-12)


@law
@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_symmetric_and_the_sum_of_the_tails(to, away):
    def p(to, away):
        return FlipTable([[[7, to], [away, 3]], [[0, 0], [0, 0]]]).mcnemar()

    n = to + away
    tail = sum(math.comb(n, i) for i in range(min(to, away) + 1)) / 2**n
    assert p(to, away) == pytest.approx(min(1, 2 * tail), rel=1e-12)
    assert p(to, away) == p(away, to)


def test_fishers_test_sums_the_tables_that_are_no_likelier():
    counts = HAND.difficulty(0).counts
    assert counts.tolist() == [[30, 5], [3, 2]]
    spread = hypergeom(counts.sum(), counts[0].sum(), counts[:, 0].sum())
    chances = spread.pmf(np.arange(counts.sum() + 1))
    expected = chances[chances <= chances[counts[0, 0]] * (1 + 1e-9)].sum()
    assert HAND.difficulty(0).p_value == pytest.approx(expected, rel=1e-9)
    assert HAND.difficulty(0).odds_ratio == pytest.approx(30 * 2 / (5 * 3))


def test_a_difficulty_that_network_and_translator_share_shows_above_one_and_its_opposite_below():
    right = np.arange(100) < 80
    assert associate(right, right).odds_ratio == math.inf
    assert associate(right, right).p_value < 1e-10
    assert associate(right, ~right).odds_ratio == 0
    assert associate(right, np.arange(100) % 2).odds_ratio == pytest.approx(1)
    assert associate(right, np.arange(100) % 2).p_value == pytest.approx(1)


def test_a_side_that_is_empty_tests_nothing():
    found = associate(np.ones(9), np.arange(9) % 2)
    assert math.isnan(found.odds_ratio)
    assert found.p_value == 1


@both_and_each
def test_intervals_are_wilsons(label):
    for found in (HAND.flip_rate(label), HAND.corrected_flip_rate(label), HAND.margins.validity(label)):
        assert found.interval == wilson(found.hits / found.n, found.n)
        assert found.interval[0] < found.rate < found.interval[1]


def test_rates_of_nothing_are_not_a_number():
    empty = FlipTable(np.zeros((2, 2, 2)))
    for found in (empty.flip_rate(), empty.corrected_flip_rate(), empty.margins.validity(1)):
        assert math.isnan(found.rate)
        assert all(math.isnan(end) for end in found.interval)
    assert math.isnan(empty.margins.corrected_flip_bounds().rates[0])
    assert empty.mcnemar() == 1
    assert [line for line in empty.lines() if "no image" in line] == [
        f"class {k} to class {1 - k}: no image" for k in (0, 1)
    ]
    assert "nan" not in "\n".join(empty.lines())


# What a terminal shows.


def test_lines_show_both_matrices_and_every_rate_with_its_counts():
    lines = HAND.lines()
    text = "\n".join(lines)
    assert lines[2].split() == ["label", "small", "(40)", "35", "5", "7", "33"]
    assert lines[3].split() == ["label", "large", "(31)", "7", "24", "26", "5"]
    assert len({len(line) for line in lines[1:4]}) == 1
    for shown in (
        "predicted large after (validity): 33 of 40, 82.5% [68.1%, 91.3%]; net shift +70.0 points",
        "by these matrices alone: 28 to 33 of 35, 80.0% to 94.3%",
        "then predicted large (corrected flip rate): 30 of 35, 85.7%",
        "then predicted small (unflip rate): 2 of 5, 40.0%",
        "20 turned to small and 1 away from it, McNemar p = 2.1e-05",
        "valid on 30 of 35 classified rightly and 3 of 5 classified wrongly, Fisher p = 0.2",
    ):
        assert shown in text
    assert "valid on 50 of 59 classified rightly and 9 of 12 classified wrongly" in lines[-1]
    assert "image by image" not in "\n".join(S0.lines())
    assert "3574 to 6965 of 8682, 41.2% to 80.2%" in "\n".join(S0.lines())


# What is refused.


def test_values_that_are_no_class_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="after is not a row of zeros and ones"):
        flip_table([0, 1], [0, 1], [0.0, math.nan])
    with pytest.raises(ValueError, match="before is not a row of zeros and ones"):
        flip_table([0, 1], [0, 2], [0, 1])
    with pytest.raises(ValueError, match="hold 2, 1, 2 values"):
        flip_table([0, 1], [0], [0, 1])
    with pytest.raises(ValueError, match="3 classes"):
        flip_table([0], [0], [0], ("a", "b", "c"))
    with pytest.raises(ValueError, match="hold 2 and 1 values"):
        associate([0, 1], [1])
    with pytest.raises(ValueError, match="label=2"):
        HAND.flip_rate(2)


def test_counts_of_another_shape_or_below_zero_and_matrices_that_disagree_are_refused():
    with pytest.raises(ValueError, match="from 0 up are needed"):
        FlipTable(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="from 0 up are needed"):
        FlipTable(np.full((2, 2, 2), -1))
    with pytest.raises(ValueError, match="before has shape"):
        Margins(np.zeros((3, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="same number of images"):
        Margins([[1, 2], [3, 4]], [[1, 2], [3, 5]])
