"""Overlap at tuned thresholds: counted by loops, and no sample chooses its own threshold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xbench.columns import Columns
from xbench.components import Component
from xbench.export import score_frame
from xbench.leaderboard import read_boards
from xbench.metrics.declared.localisation import specs
from xbench.metrics.tuned import THRESHOLDS, iou_tuned
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.specs import ScoreSpec
from xbench.stats import cross_tuned
from xbench.store import Store, content_key
from xbench.tensors import Batch, Explanation

metric = iou_tuned()
SPEC = next(spec for spec in specs() if spec.name == "iou_tuned")


def make_scene(maps, mask, polarity="signed", **facts):
    maps, mask = torch.as_tensor(maps, dtype=torch.float32), torch.as_tensor(mask, dtype=torch.bool)
    ids, label = tuple(map(str, range(len(maps)))), torch.ones(len(maps), dtype=torch.int64)
    image = torch.full((len(maps), 1, *maps.shape[1:]), 0.5)
    batch = Batch(image, ids, label, label, sample_keys(0, ids), mask=mask)
    return Scene(Backdrop(Model(nn.Identity()), batch, torch.zeros(1)), Explanation(maps, **facts), polarity)


def draws(count=12, height=6, width=7):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(count, height, width)).astype(np.float32)
    maps[: count // 2] = np.round(maps[: count // 2] * 5) / 4  # pixels at a threshold, and ties
    mask = rng.random((count, height, width)) < rng.uniform(0.1, 0.9, (count, 1, 1))
    mask[:, 0, 0] = True
    return maps, mask


# Overlap at each threshold.


def test_every_threshold_has_the_overlap_that_a_loop_counts():
    maps, mask = draws()
    found = metric(make_scene(maps, mask))["iou_tuned"]
    assert found.shape == (12, THRESHOLDS)
    assert found.dtype == torch.float64
    for one, inside, row in zip(maps, mask, found.tolist(), strict=True):
        value = np.maximum(one.astype(np.float64), 0)
        for j in range(THRESHOLDS):
            above = THRESHOLDS * value > j * value.max()
            assert row[j] == pytest.approx((above & inside).sum() / (above | inside).sum(), abs=1e-15)


def test_the_mask_itself_overlaps_fully_and_a_blank_map_not_at_all_whatever_the_threshold():
    _, mask = draws()
    assert (metric(make_scene(mask.astype(np.float32), mask))["iou_tuned"] == 1).all()
    for blank in (np.zeros(mask.shape), np.ones(mask.shape), -mask.astype(float)):
        assert (metric(make_scene(blank, mask))["iou_tuned"] == 0).all()
    assert (metric(make_scene(np.ones(mask.shape), mask, "non_contributing"))["iou_tuned"] == 0).all()


@pytest.mark.parametrize("factor", [1e-30, 0.125, 37.5, 1e20])
def test_scale_does_not_count_and_a_sample_without_a_mask_is_undefined(factor):
    maps, mask = draws()
    maps, mask = maps[6:], mask[6:]
    mask[3] = False
    found, scaled = (metric(make_scene(each, mask))["iou_tuned"] for each in (maps, maps * np.float32(factor)))
    assert torch.equal(found.isnan().all(dim=1), torch.arange(6) == 3)
    assert torch.equal(found.isnan().any(dim=1), torch.arange(6) == 3)
    torch.testing.assert_close(scaled, found, equal_nan=True)


def test_a_sample_scores_the_same_alone_and_in_a_batch():
    maps, mask = draws()
    whole = metric(make_scene(maps, mask))["iou_tuned"]
    parts = [metric(make_scene(maps[i : i + 1], mask[i : i + 1]))["iou_tuned"] for i in range(12)]
    assert torch.equal(torch.cat(parts), whole)


# The choice of a threshold.


def slow(values, groups):
    """One sample at a time, and who is in the other fold found by trying."""
    found = []
    valued = [j for j in range(len(groups)) if not np.isnan(values[j]).any()]
    known = [groups[j] for j in valued]
    for i, group in enumerate(groups):
        if i not in valued:
            found.append(np.nan)
            continue
        other = [values[j] for j in valued if fold(groups[j], known) != fold(group, known)]
        means = [np.mean([row[t] for row in other]) for t in range(values.shape[1])] if other else []
        best = max(range(len(means)), key=lambda t: (means[t], -t), default=None)
        found.append(np.nan if best is None else values[i][best])
    return found


def fold(name, groups):
    """Return whether a group has a say in the first one's setting, and thus is in the other fold."""
    names = sorted(set(groups))
    votes = np.array([[1e-3, float(other == name)] for other in names])
    return int(name != names[0] and cross_tuned(votes, names)[0] != 1e-3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=14).filter(lambda names: len(set(names)) > 1),
    st.integers(0, 2**16),
)
def test_cross_tuning_is_what_a_loop_over_samples_chooses(groups, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (len(groups), 4)) / 4  # many ties, all of them exact
    values[rng.random(len(groups)) < 0.2] = np.nan
    np.testing.assert_array_equal(cross_tuned(values, groups), slow(values, groups))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 12), st.integers(0, 2**16))
def test_neither_a_sample_nor_another_of_its_group_has_a_say_in_its_threshold(count, seed):
    rng = np.random.default_rng(seed)
    groups = [f"patient {i // 2}" for i in range(2 * count)]
    values = rng.random((2 * count, 5))
    before = cross_tuned(values, groups)
    # The settings of one group trade places: those chosen for it stay.
    order = rng.permutation(5)
    mine = rng.integers(count)
    changed = values.copy()
    changed[2 * mine : 2 * mine + 2] = values[2 * mine : 2 * mine + 2][:, order]
    chosen = [np.flatnonzero(values[i] == before[i])[0] for i in (2 * mine, 2 * mine + 1)]
    after = cross_tuned(changed, groups)
    assert [after[2 * mine + k] for k in (0, 1)] == [changed[2 * mine + k, chosen[k]] for k in (0, 1)]


def test_what_suits_one_half_only_is_not_to_its_credit():
    groups = [f"patient {i}" for i in range(40)]
    half = np.isnan(cross_tuned(np.where(np.arange(40)[:, None] == 0, 0.5, np.nan).repeat(2, axis=1), groups))
    assert half.all()  # one sample with a value has nobody to choose for it
    # Each half has a setting of its own that does best; chosen on itself each would score 1.
    side = np.array([fold(name, groups) for name in groups])
    assert side.sum() == 20
    values = np.stack([side == 0, side == 1, np.full(40, 0.4)], axis=1).astype(float)
    assert cross_tuned(values, groups).tolist() == [0.0] * 40
    assert values[side == 0].mean(axis=0).max() == values[side == 1].mean(axis=0).max() == 1


def test_random_settings_gain_nothing_by_tuning():
    rng = np.random.default_rng(0)
    found = [cross_tuned(rng.random((20, 50)), [str(i) for i in range(20)]).mean() for _ in range(300)]
    assert abs(np.mean(found) - 0.5) < 4 * np.std(found) / 300**0.5
    assert rng.random((20, 50)).mean(axis=0).max() > 0.6  # what choosing on the samples themselves would show


def test_one_group_has_nothing_to_tune_on_and_two_always_have_each_other():
    values = np.random.default_rng(0).random((6, 3))
    assert np.isnan(cross_tuned(values, ["only"] * 6)).all()
    for names in (("a", "b"), ("b", "c"), ("patient 1", "patient 2"), ("x", "y")):
        assert not np.isnan(cross_tuned(values, [names[i % 2] for i in range(6)])).any()


def test_folds_depend_neither_on_the_order_of_samples_nor_on_how_many_a_group_has():
    rng = np.random.default_rng(1)
    groups = np.array([f"g{i // 3}" for i in range(30)])
    values = rng.random((30, 4))
    order = rng.permutation(30)
    np.testing.assert_array_equal(cross_tuned(values[order], groups[order]), cross_tuned(values, groups)[order])


# From the metric to the table.


def test_columns_hold_every_threshold_and_nothing_where_there_is_nothing():
    maps, mask = draws(4)
    component, columns = Component(SPEC, {}), Columns()
    first = make_scene(maps, mask, defined=torch.tensor([True, False, True, True]))
    columns.add_scores(component, metric(first), first)
    columns.add_nothing(component, make_scene(maps[:2], mask[:2]), "no answer")
    stored = columns.arrays()["score/iou_tuned"]
    assert stored.shape == (6, THRESHOLDS)
    assert np.isnan(stored).all(axis=1).tolist() == np.isnan(stored).any(axis=1).tolist() == [0, 1, 0, 0, 1, 1]
    np.testing.assert_array_equal(stored[[0, 2, 3]], metric(first)["iou_tuned"][[0, 2, 3]].numpy())


@pytest.mark.parametrize("shape", [(4,), (4, THRESHOLDS - 1), (THRESHOLDS, 4), (4, THRESHOLDS, 1)])
def test_a_metric_that_returns_another_shape_is_told(shape):
    scene = make_scene(*draws(4))
    with pytest.raises(ValueError, match=r"'iou_tuned' has shape .*; \(4, 20\) is needed"):
        Columns().add_scores(Component(SPEC, {}), {"iou_tuned": torch.zeros(shape)}, scene)


def test_values_out_of_bounds_are_told():
    scene = make_scene(*draws(4))
    with pytest.raises(ValueError, match="outside its bounds 0 to 1"):
        Columns().add_scores(Component(SPEC, {}), {"iou_tuned": torch.full((4, THRESHOLDS), 1.5)}, scene)


@pytest.mark.parametrize(
    "facts",
    [
        {"aggregate": "tuned"},
        {"width": 20},
        {"aggregate": "tuned", "width": 20, "higher_is_better": False},
        {"aggregate": "tuned", "width": 20, "higher_is_better": None},
        {"aggregate": "tuned", "width": 20, "chance": "per_sample"},
    ],
)
def test_a_tuned_score_says_how_many_settings_and_which_way(facts):
    with pytest.raises(ValueError, match="score 'one'"):
        ScoreSpec(**{"name": "one", "higher_is_better": True, **facts})


COST = {"seconds": 2.0, "images": 12, "forwards": 12, "backwards": 0, "peak_bytes": 1, "device": "cpu"}


def commit(store, explainer, values, groups):
    """Commit a cell with a tuned score beside a plain one."""
    component = {"id": explainer, "version": 1, "params": {}, "code": "c", "text": explainer, "control": False}
    names = ("iou_tuned", "tuned"), ("plain", "mean")
    scores = [
        {"name": name, "family": "f", "higher_is_better": True, "chance": None, "aggregate": aggregate}
        for name, aggregate in names
    ]
    cell = {
        "schema": 1,
        "suite": "s",
        "suite_version": 1,
        "protocol": "quick",
        "classes": ["a", "b"],
        "target": "label",
        "data": {"id": "d/x", "version": 1, "params": {}, "code": "c", "digest": "x", "text": "d/x"},
        "samples": content_key("explained"),
        "n": len(groups),
        "model": {"id": "m/net", "version": 1, "params": {}, "code": "c", "text": "m/net"},
        "model_fit": None,
        "explainer": component,
        "explainer_fit": None,
        "seed": 0,
        "missing": {},
        "metrics": [{"id": "m", "version": 1, "code": "c", "params": {}, "scores": scores}],
    }
    key = content_key(cell)
    store.define(key, cell)
    n = len(groups)
    store.write_samples(
        cell["samples"], {"ids": [f"s{i}" for i in range(n)], "labels": [0] * n, "groups": list(groups)}
    )
    zeros = np.zeros(n, np.int64)
    arrays = {"score/iou_tuned": values, "score/plain": values[:, 0], "predicted": zeros, "target": zeros}
    store.commit(key, 0, arrays, None, COST)
    return key


def test_tables_and_lines_of_scores_show_the_tuned_values_and_rank_them(tmp_path):
    rng = np.random.default_rng(0)
    groups = [f"g{i // 2}" for i in range(30)]
    store, made = Store(tmp_path / "run"), {}
    for name, lift in (("a/good", 0.3), ("a/poor", 0.0)):
        values = rng.random((30, 5)) * 0.2 + lift * np.arange(5) / 4
        values[4] = np.nan
        made[name] = values, commit(store, name, values, groups)
    (board,) = read_boards([store])
    rows = {row.explainer: row for row in board.rows if row.metric == "iou_tuned"}
    for name, (values, key) in made.items():
        tuned = cross_tuned(values, groups)
        assert rows[name].mean == pytest.approx(np.nanmean(tuned))
        assert rows[name].low < rows[name].mean < rows[name].high
        assert (rows[name].n_scored, rows[name].n) == (29, 30)
        lines = score_frame(store, [key])
        np.testing.assert_array_equal(lines[lines.metric == "iou_tuned"].value, tuned)
    assert (rows["a/good"].rank, rows["a/poor"].rank) == (1, 2)


def test_a_table_of_one_group_says_that_the_score_is_undefined(tmp_path):
    store = Store(tmp_path / "run")
    commit(store, "a/one", np.random.default_rng(0).random((12, 5)), ["only"] * 12)
    (board,) = read_boards([store])
    (row,) = [row for row in board.rows if row.metric == "iou_tuned"]
    assert (row.mean, row.status, row.reason) == (None, "undefined", "no sample has a value")
