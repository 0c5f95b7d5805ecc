"""A slice is carried out block by block; what is recorded of it does not depend on where it is cut."""

import numpy as np
import pytest

from xbench import api, work
from xbench.metrics.cost import added
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


def recorded(folder, monkeypatch, block, **settings):
    """Return the arrays and costs of a run whose blocks hold that many samples, passes eight."""
    monkeypatch.setattr(work, "_BLOCK", block)
    run = api.run("blobs", out=folder, device="cpu", executor="inline", batch=8, limit=100, **settings)
    store = Store(run.folder)
    return {key: store.read(key) for key in store}, run


def test_every_column_is_the_same_however_a_slice_is_cut(tmp_path, monkeypatch):
    settings = {"explainer": "fake/weights,gradients/smoothgrad[n=3],controls/random"}
    whole, _ = recorded(tmp_path / "whole", monkeypatch, 64, **settings)
    cut, _ = recorded(tmp_path / "cut", monkeypatch, 16, **settings)
    assert whole.keys() == cut.keys()
    for key, one in whole.items():
        other = cut[key]
        assert one.arrays.keys() == other.arrays.keys()
        for name, values in one.arrays.items():
            if name.startswith("curve/"):
                np.testing.assert_allclose(other.arrays[name], values, rtol=1e-12)
            elif not name.startswith("gallery/"):  # pictures are of the first block
                np.testing.assert_array_equal(other.arrays[name], values, err_msg=name)
        for count in ("images", "forwards", "backwards", "images_a_pass"):
            assert one.cost.get(count) == other.cost.get(count), count


def test_the_pictures_are_of_samples_of_the_first_block(tmp_path, monkeypatch):
    cut, _ = recorded(tmp_path / "cut", monkeypatch, 16, explainer="fake/weights")
    rows = [record.arrays["gallery/row"] for record in cut.values() if "gallery/row" in record.arrays]
    assert rows
    assert all(0 < len(row) <= 16 and row.max() < 16 for row in rows)


def test_a_cell_none_of_whose_maps_is_finite_fails_alone_however_it_is_cut(tmp_path, monkeypatch):
    for block in (64, 16):
        _, run = recorded(tmp_path / str(block), monkeypatch, block, explainer="fake/nan,fake/weights")
        ((label, status, _),) = run.failures
        assert label.startswith("fake/nan")
        assert status == "invalid_map"


def test_costs_of_parts_are_sums_and_extremes():
    one = {"seconds": 1.5, "images": 3, "peak_bytes": 7, "images_a_pass": 8, "device": "cpu"}
    other = {"seconds": 0.5, "images": 2, "peak_bytes": 5, "images_a_pass": 4, "device": "cpu"}
    together = {"seconds": 2.0, "images": 5, "peak_bytes": 7, "images_a_pass": 4, "device": "cpu"}
    assert added(one, other) == together
    assert added({}, one) == one
