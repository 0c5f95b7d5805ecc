"""The photographs of lizards as a data set: its own defaults, classes and masks on a folder made here."""

import numpy as np
import pytest
from PIL import Image

from xbench.errors import XbenchError
from xbench_anole import xbench_datasets
from xbench_anole.folder import folder

PARAMS = {spec.name: dict(spec.params) for spec in xbench_datasets()}["folder"]


def open_anole(root, **params):
    return folder(root, **(PARAMS | params))


@pytest.fixture
def photographs(tmp_path):
    for split in ("train", "valid", "test"):
        for name in ("negative", "positive"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (60, 48), (90, 140, 60)).save(tmp_path / split / name / "a.jpg")
    mask = np.zeros((48, 60), np.uint8)
    mask[:, :30] = 255
    (tmp_path / "masks" / "test" / "positive").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks" / "test" / "positive" / "a.png")
    return tmp_path


def test_default_is_the_size_of_the_source(photographs):
    data = open_anole(photographs)
    index = data.index("test")
    assert index.shape == (3, 224, 224)
    assert index.notes == ("anole/folder: 1 of the 6 pictures have a mask",)
    assert data.load(index.ids).image.shape == (2, 3, 224, 224)


def test_masks_are_read_where_there_are_some_and_speak_for_the_lizard(photographs):
    data = open_anole(photographs, size=24)
    index = data.index("test")
    assert index.classes == ("negative", "positive")
    assert index.annotated.tolist() == [False, True]
    samples = data.load(index.ids)
    assert samples.mask_class.tolist() == [-1, 1]
    assert not samples.mask[0].any()
    assert samples.mask[1].mean() == pytest.approx(0.5, abs=0.05)
    assert samples.mask[1, :, 0].all()


def test_other_folders_are_left_out_and_a_missing_class_is_named(photographs):
    (photographs / "train" / "unsorted").mkdir()
    assert open_anole(photographs, size=24).index("train").classes == ("negative", "positive")
    (photographs / "test" / "positive").rename(photographs / "test" / "lizard")
    with pytest.raises(XbenchError, match="no folder of the class 'positive'"):
        open_anole(photographs, size=24).index("test")


def test_without_splits_every_class_is_divided(tmp_path):
    for name in ("negative", "positive"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (30, 30)).save(tmp_path / name / f"{i}.png")
    data = open_anole(tmp_path, size=24)
    assert [np.bincount(data.index(split).labels).tolist() for split in ("train", "valid", "test")] == [
        [6, 6],
        [2, 2],
        [2, 2],
    ]


def test_errors_name_the_data_set_and_what_needs_no_file(monkeypatch):
    monkeypatch.delenv("XBENCH_DATA", raising=False)
    with pytest.raises(XbenchError, match=r"^anole/folder needs pictures: .*data=anole/camouflage needs no file"):
        open_anole(None).index("test")
    with pytest.raises(XbenchError, match=r"^anole/folder: size=4 does not do"):
        open_anole(None, size=4)
