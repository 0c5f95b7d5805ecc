"""The photographs of food as a data set: its own defaults, and the real folder where it is here."""

import numpy as np
import pytest
from PIL import Image

from xbench.errors import XbenchError
from xbench_food import xbench_datasets
from xbench_food.folder import folder

PARAMS = {spec.name: dict(spec.params) for spec in xbench_datasets()}["folder"]


def open_food(root, **params):
    return folder(root, **(PARAMS | params))


def test_default_is_the_size_of_the_source(tmp_path):
    for split in ("train", "val", "test"):
        for name in ("okonomiyaki", "pizza"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 30), (200, 90, 40)).save(tmp_path / split / name / "a.jpg")
    data = open_food(tmp_path)
    index = data.index("test")
    assert index.classes == ("okonomiyaki", "pizza")
    assert index.shape == (3, 160, 160)
    assert data.load(index.ids).image.shape == (2, 3, 160, 160)
    assert index.notes == ("food/folder: 0 of the 6 pictures have a mask",)


def test_errors_name_the_data_set_and_what_needs_no_file(monkeypatch):
    monkeypatch.delenv("XBENCH_DATA", raising=False)
    with pytest.raises(XbenchError, match=r"^food/folder needs pictures: .*data=food/dishes needs no file"):
        open_food(None).index("test")
    with pytest.raises(XbenchError, match=r"^food/folder: size=4 does not do"):
        open_food(None, size=4)


@pytest.mark.realdata
def test_real_photographs_have_their_published_counts(real_data):
    # Pizza and omelette of Food-101 stand in for the source's okonomiyaki and pizza.
    if not (real_data / "food").is_dir():
        pytest.skip("there is no folder food under XBENCH_DATA")
    data = open_food(None, size=64)
    for split, count in (("train", 250), ("valid", 100), ("test", 100)):
        assert np.bincount(data.index(split).labels).tolist() == [count, count]
    index = data.index("test")
    assert index.classes == ("omelette", "pizza")
    samples = data.load(index.ids)
    assert samples.image.shape == (200, 3, 64, 64)
    assert 0.3 < samples.image.mean() < 0.7
    assert not samples.mask.any()
    with Image.open(real_data / "food" / index.ids[0]) as photograph:
        np.testing.assert_array_equal(samples.image[0], np.asarray(photograph, np.float32).transpose(2, 0, 1) / 255)
