"""Which samples get a picture, and what becomes of maps that are not finite."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xbench.checks import InvalidMap, checked
from xbench.columns import GALLERY, Columns, gallery_rows
from xbench.devices import halving, images_a_pass, keep_freed_memory
from xbench.models import Model
from xbench.scene import Backdrop, Curve, Scene
from xbench.seeds import sample_keys
from xbench.specs import MetricSpec, ScoreSpec
from xbench.tensors import Batch

CPU = torch.device("cpu")


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :2]


def scene(maps):
    ids = tuple(map(str, range(len(maps))))
    label = torch.zeros(len(maps), dtype=torch.long)
    batch = Batch(torch.rand(len(maps), 1, *maps.shape[1:]), ids, label, label, sample_keys(0, ids))
    return Scene(Backdrop(Model(Flat()), batch, torch.zeros(1)), checked(maps, batch))


def bump(height):
    maps = torch.zeros(1, 4, 4)
    maps[:, 1, 2] = height
    return maps


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=80))
def test_pictures_show_every_class_first_and_then_as_many_misses_as_hits_while_both_last(pairs):
    labels, predicted = zip(*pairs, strict=True)
    rows = gallery_rows(labels, predicted)
    assert rows == sorted(set(rows))
    assert len(rows) == min(GALLERY, len(pairs))
    firsts = {labels.index(label) for label in set(labels)}
    assert firsts <= set(rows)
    rest = [i for i in range(len(pairs)) if i not in firsts]
    for label in set(labels):
        groups = [[i for i in rest if labels[i] == label and (predicted[i] == label) is hit] for hit in (False, True)]
        taken = [len(set(group) & set(rows)) for group in groups]
        if all(t < len(group) for t, group in zip(taken, groups, strict=True)):
            assert abs(taken[0] - taken[1]) <= 1


def test_a_slice_without_one_finite_map_is_an_error_and_one_finite_map_is_enough():
    bad = torch.cat([bump(float("nan")), bump(float("inf"))])
    columns = Columns()
    columns.add_maps(scene(bad))
    with pytest.raises(InvalidMap, match="every one of 2 maps"):
        columns.check()
    columns.add_maps(scene(bump(1.0)))
    columns.check()
    single = Columns()
    single.add_maps(scene(bump(float("nan"))))
    single.check()
    assert columns.arrays()["defined"].tolist() == [False, False, True]


def test_pictures_of_a_slice_are_the_rows_asked_for_however_it_is_cut_into_batches():
    maps = torch.randn(7, 4, 4)
    whole, parts = Columns([0, 3, 6]), Columns([0, 3, 6])
    whole.add_maps(scene(maps))
    for part in maps.split(2):
        parts.add_maps(scene(part))
    assert whole.arrays()["gallery/row"].tolist() == parts.arrays()["gallery/row"].tolist() == [0, 3, 6]
    for columns in (whole, parts):
        arrays = columns.arrays()
        found = torch.as_tensor(arrays["gallery/attribution"]).float() * torch.as_tensor(
            arrays["gallery/attribution_scale"]
        ).view(-1, 1, 1)
        torch.testing.assert_close(found, maps[[0, 3, 6]], atol=2e-3, rtol=2e-3)


def test_a_curve_keeps_its_sums_and_squares_over_the_samples_that_have_one():
    columns, maps = Columns(), torch.rand(5, 4, 4)
    component = SimpleNamespace(
        scores=lambda: [("deletion", ScoreSpec(name="deletion", higher_is_better=False))],
        spec=MetricSpec(name="deletion", version=1, factory="x:y", scores=(), family="faithfulness"),
    )
    y = torch.rand(5, 3, dtype=torch.float64)
    y[1, 2] = float("nan")
    x = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    for part in (slice(0, 2), slice(2, 5)):
        found = {"deletion": y[part].mean(dim=1).nan_to_num(), "deletion.curve": Curve(x, y[part])}
        columns.add_scores(component, found, scene(maps[part]))
    kept = y[[0, 2, 3, 4]]
    expected = torch.stack([4 * x, kept.sum(dim=0), torch.full((3,), 4.0, dtype=torch.float64), (kept**2).sum(dim=0)])
    np.testing.assert_allclose(columns.arrays()["curve/deletion"], expected.numpy())


def test_too_little_memory_halves_the_batch_until_it_fits_or_one_is_too_much():
    tried, told = [], []

    def attempt(size, fits):
        tried.append(size)
        if size > fits:
            raise torch.OutOfMemoryError
        return size

    assert halving(lambda size: attempt(size, 5), 64, CPU, told.append) == 4
    assert tried == [64, 32, 16, 8, 4]
    assert told == [32, 16, 8, 4]
    with pytest.raises(torch.OutOfMemoryError):
        halving(lambda size: attempt(size, 0), 4, CPU)


@pytest.mark.parametrize(
    ("shape", "told"), [((1, 28, 28), 64), ((3, 64, 64), 64), ((3, 224, 224), 13), ((3, 2000, 2000), 1)]
)
def test_a_pass_on_the_cpu_holds_no_more_than_its_caches_like(shape, told):
    assert images_a_pass(CPU, shape) == told
    assert images_a_pass(torch.device("cuda"), shape) == 256


def test_asking_the_c_library_to_keep_memory_harms_nothing_where_it_cannot_be_asked(monkeypatch):
    assert keep_freed_memory() in (True, False)

    def refuse(name):
        raise OSError("no such library")

    monkeypatch.setattr("xbench.devices.ctypes.CDLL", refuse)
    assert keep_freed_memory() is False
