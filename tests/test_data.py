"""The samples of a run are stratified, spread over groups and named by their ids alone; splits keep groups whole."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbench.data import Index, group_split, select

law = settings(max_examples=60, deadline=None, derandomize=True)


def make_index(labels, groups=None, annotated=None, digest="d"):
    ids = [f"s{i:04d}" for i in range(len(labels))]
    return Index(
        ids,
        np.asarray(labels, np.int64),
        ids if groups is None else groups,
        (1, 4, 4),
        ("a", "b", "c", "d", "e", "f"),
        digest,
        None if annotated is None else np.asarray(annotated, bool),
    )


@st.composite
def indices(draw, annotated=False):
    n = draw(st.integers(1, 60))
    labels = draw(st.lists(st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 4, 5]), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, 12).map(str), min_size=n, max_size=n))
    known = draw(st.lists(st.booleans(), min_size=n, max_size=n)) if annotated else None
    return make_index(labels, groups, known)


def by_class(index, annotated=None):
    """The rows of each class in the order in which they are chosen; only those with or without a mask, if asked."""
    row = {name: i for i, name in enumerate(index.ids)}
    chosen = [row[name] for name in select(index, None).ids]
    if annotated is not None:
        chosen = [i for i in chosen if index.annotated[i] == annotated]
    return {label: [i for i in chosen if index.labels[i] == label] for label in set(index.labels.tolist())}


# The order of samples.


@law
@given(indices())
def test_no_prefix_is_a_whole_sample_off_a_classs_share(index):
    chosen = select(index, None).labels
    for label, count in Counter(index.labels.tolist()).items():
        for size in range(1, len(chosen) + 1):
            assert abs(chosen[:size].count(label) - size * count / len(chosen)) < 1


def test_many_rare_classes_do_not_come_all_at_once():
    index = make_index([0] * 95 + [1, 2, 3, 4, 5])
    rare = [place for place, label in enumerate(select(index, None).labels) if label]
    assert min(np.diff(rare)) > 10


@law
@given(indices(annotated=True), st.integers(0, 70), st.integers(0, 70))
def test_a_smaller_limit_is_a_prefix_of_a_larger_one(index, one, other):
    few, many = select(index, min(one, other)), select(index, max(one, other))
    assert len(few.ids) == min(one, other, len(index))
    assert many.ids[: len(few.ids)] == few.ids
    assert (few.digest == many.digest) == (few.ids == many.ids)


@law
@given(indices(annotated=True))
def test_without_a_limit_every_sample_is_chosen_once_with_its_own_label_and_group(index):
    chosen = select(index, None)
    assert sorted(chosen.ids) == sorted(index.ids)
    row = {name: i for i, name in enumerate(index.ids)}
    assert chosen.labels == tuple(index.labels[row[name]] for name in chosen.ids)
    assert chosen.groups == tuple(index.groups[row[name]] for name in chosen.ids)


@law
@given(indices())
def test_within_a_class_every_group_gives_a_first_sample_before_any_gives_a_second(index):
    for rows in by_class(index).values():
        seen, visits = Counter(), []
        for i in rows:
            seen[index.groups[i]] += 1
            visits.append(seen[index.groups[i]])
        assert visits == sorted(visits)


@law
@given(indices(annotated=True))
def test_within_a_class_samples_with_a_mask_come_first_and_are_spread_over_groups_too(index):
    for rows in by_class(index).values():
        assert [bool(index.annotated[i]) for i in rows] == sorted(
            (bool(index.annotated[i]) for i in rows), reverse=True
        )
    for rows in by_class(index, annotated=True).values():
        seen, visits = Counter(), []
        for i in rows:
            seen[index.groups[i]] += 1
            visits.append(seen[index.groups[i]])
        assert visits == sorted(visits)


@law
@given(indices(annotated=True), st.randoms(use_true_random=False))
def test_the_order_of_an_index_changes_no_selection(index, random):
    order = list(range(len(index)))
    random.shuffle(order)
    shuffled = replace(
        index,
        ids=[index.ids[i] for i in order],
        labels=index.labels[order],
        groups=[index.groups[i] for i in order],
        annotated=index.annotated[order],
    )
    assert select(shuffled, 20) == select(index, 20)


def test_the_order_is_not_that_of_the_names():
    assert list(select(make_index([0] * 50), None).ids) != sorted(make_index([0] * 50).ids)


def test_the_digest_stands_for_the_data_and_for_which_samples_are_chosen():
    index = make_index([0, 1] * 10)
    digests = {select(index, 5).digest, select(index, 6).digest, select(replace(index, digest="other"), 5).digest}
    assert len(digests) == 3
    assert select(index, 5).digest == select(index, 5).digest


def test_the_selection_stays_what_published_records_were_made_from():
    found = select(make_index([0, 0, 0, 1, 0, 1], ["p", "p", "q", "q", "r", "s"]), 4)
    assert found.ids == ("s0004", "s0005", "s0002", "s0000")
    assert found.digest == "89b32c2770c04c325b1c49b833ce18ec4a591e3c7dbe1b2566ffda0ec8d1440f"


# Splits.


@law
@given(
    st.lists(st.integers(0, 40).map("p{}".format), max_size=80),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.text(max_size=3),
)
def test_every_sample_is_on_one_side_and_every_group_on_one_side_only(groups, valid_share, test_share, salt):
    sides = group_split(groups, (valid_share, test_share), salt)
    assert all(side.dtype == bool and side.shape == (len(groups),) for side in sides)
    assert (np.sum(sides, axis=0) == 1).all()
    where = [{group for group, inside in zip(groups, side, strict=True) if inside} for side in sides]
    assert not (where[0] & where[1])
    assert not (where[0] & where[2])
    assert not (where[1] & where[2])


@law
@given(st.lists(st.integers(0, 99).map("p{}".format), min_size=1, max_size=50), st.integers(0, 49))
def test_new_groups_move_no_old_one(groups, place):
    old = [side.tolist() for side in group_split(groups, (0.2, 0.3))]
    place %= len(groups) + 1
    grown = [*groups[:place], "new", "newer", *groups[place:]]
    new = [[*side[:place], *side[place + 2 :]] for side in (s.tolist() for s in group_split(grown, (0.2, 0.3)))]
    assert new == old


@pytest.mark.parametrize("shares", [(0.1, 0.2), (0.25, 0.25), (0.0, 0.5), (0.5, 0.0)])
def test_sides_have_the_shares_asked_for(shares):
    train, valid, test = group_split([f"p{i}" for i in range(4000)], shares)
    for side, share in ((train, 1 - sum(shares)), (valid, shares[0]), (test, shares[1])):
        assert abs(side.mean() - share) <= 4 * np.sqrt(share * (1 - share) / 4000)


def test_another_salt_is_another_split():
    groups = [f"p{i}" for i in range(200)]
    one, other = group_split(groups, (0.2, 0.2)), group_split(groups, (0.2, 0.2), "salt")
    assert (one[2] != other[2]).any()
    assert (one[2] & other[2]).mean() < 0.15
