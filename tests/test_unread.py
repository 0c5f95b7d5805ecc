"""A picture that cannot be read costs its own scores: every other number stays as it was, to the last bit."""

import numpy as np
import pytest
from PIL import Image

from xbench import api
from xbench.cli import main
from xbench.data import Index, Samples
from xbench.errors import XbenchError
from xbench.store import Store, is_column
from xbench.unread import Mended, read_each, readable, unread_in, with_stand_ins
from xbench_photos.datasets import grid

SPLITS, CLASSES = ("train", "valid", "test"), ("omelette", "pizza")


def make(root, count=6, side=24, splits=SPLITS):
    rng = np.random.default_rng(0)
    for split in splits:
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            (root / "masks" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:05}.png")
                mask = np.zeros((side, side), np.uint8)
                mask[: side // 2] = 255
                Image.fromarray(mask).save(root / "masks" / split / name / f"{i:05}.png")
    return root


def break_(path):
    """Damage a file in its middle, its size as before."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(raw))


def go(out, root, **more):
    settings = {
        "data": "food/folder",
        "data_root": root,
        "data_size": 24,
        "model": "food/s3[epochs=1]",
        "explainer": ["gradients/smoothgrad[n=2]", "cam/gradcam", "controls/random", "perturbation/rise[n=20]"],
        "metric": ["accuracy", "auroc", "deletion[steps=4]", "localisation_precision", "blankness", "iou_tuned"],
        "executor": "inline",
        "device": "cpu",
        "limit": "none",
    }
    return api.run("food", out=out, **settings | more)


def command(root, out, *settings):
    """Return the words of a run on the pictures under a folder."""
    fixed = ("suite=food", "data=food/folder", "data.size=24", "model=food/s3[epochs=1]", "explainer=controls/random")
    return ["run", *fixed, f"data.root={root}", "executor=inline", "device=cpu", f"out={out}", *settings]


def test_a_damaged_picture_costs_its_own_scores_and_no_bit_of_any_other(tmp_path, capsys):
    root = make(tmp_path / "data")
    whole = go(tmp_path / "whole", root)
    broken = root / "test/pizza/00003.png"
    break_(broken)
    damaged = go(tmp_path / "damaged", root)  # the fit and the mean colour are those of the cache
    assert whole.failures == damaged.failures == []
    one, other = Store(tmp_path / "whole"), Store(tmp_path / "damaged")
    keys = list(one)
    assert keys == list(other)
    assert len(keys) == 5
    for key in keys:
        before, after = one.read(key), other.read(key)
        ids = one.samples(before.definition["samples"])["ids"]
        row = ids.index("test/pizza/00003.png")
        assert str(broken) in unread_in(after.unmeasured)["test/pizza/00003.png"]
        assert unread_in(before.unmeasured) == {}
        assert before.arrays.keys() == after.arrays.keys()
        for name in filter(is_column, before.arrays):
            was, now = before.arrays[name], after.arrays[name]
            assert np.array_equal(np.delete(was, row, axis=0), np.delete(now, row, axis=0), equal_nan=True), name
            if "/" in name or name in ("probability", "tied"):
                assert np.isnan(now[row]).all(), name
            else:
                assert now[row] == (0 if name in ("defined", "blank") else -1), name
        for name in (name for name in before.arrays if name.startswith("curve/")):
            assert after.arrays[name][2, 0] == before.arrays[name][2, 0] - 1
        if "gallery/row" in after.arrays:
            assert row not in after.arrays["gallery/row"]
            assert row in before.arrays["gallery/row"]
    rows = {(row.explainer, row.metric): row for row in damaged.rows}
    assert {row.n_scored for row in rows.values() if row.metric == "deletion[steps=4]"} == {11}
    assert {row.n_scored for row in rows.values() if row.explainer is None} == {11}
    assert {row.n for row in rows.values()} == {12}

    assert main(command(root, tmp_path / "told", "metric=accuracy,deletion[steps=4]", "limit=none")) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot be read" in line]
    assert len(told) == 1
    assert told[0].startswith(f"xbench: 1 of 12 samples cannot be read and has no score: {broken} is not a whole")


@pytest.mark.slow
def test_of_ten_thousand_pictures_a_damaged_one_costs_itself(tmp_path):
    root = make(tmp_path / "data", count=3, splits=("train", "valid"))
    make(root, count=5000, side=8, splits=("test",))
    broken = root / "test/omelette/04321.png"
    broken.write_bytes(broken.read_bytes()[:60])
    run = go(
        tmp_path / "run",
        root,
        explainer=["controls/random"],
        metric=["accuracy", "localisation_precision"],
        target="label",
    )
    assert run.failures == []
    assert {(row.n_scored, row.n) for row in run.rows if row.status == "ok"} == {(9999, 10000)}


def test_a_training_goes_on_where_a_picture_cannot_be_read_and_says_so_once(tmp_path, capsys):
    root = make(tmp_path / "data")
    for i in (1, 2):
        break_(root / f"train/pizza/0000{i}.png")
    assert main(command(root, tmp_path / "out", "metric=accuracy")) == 0
    told = [line for line in "".join(capsys.readouterr()).splitlines() if "stands in" in line]
    assert len(told) == 1


class Numbers:
    """Twelve samples of two classes, a pixel each, that hold their own number; some cannot be read."""

    def __init__(self, unread=()):
        self.unread = set(unread)

    def index(self, split):
        start = SPLITS.index(split) * 12
        ids = tuple(str(i) for i in range(start, start + 12))
        return Index(ids, np.arange(12) % 2, ids, (1, 1, 1), CLASSES, "numbers")

    def load(self, ids):
        image = np.array([int(name) for name in ids], np.float32).reshape(-1, 1, 1, 1)
        mask = image[:, 0] > 0
        return Samples(
            image, mask=mask, unread={i: f"{name} is broken" for i, name in enumerate(ids) if int(name) in self.unread}
        )


def test_the_next_of_its_class_that_can_be_read_stands_in_for_training():
    lines = []
    data = Mended(Numbers({3, 5, 11}), lines.append)
    index = data.index("train")
    assert data.load(index.ids).image.ravel().tolist() == [0, 1, 2, 7, 4, 7, 6, 7, 8, 9, 10, 1]
    assert data.load(index.ids[11:]).image.ravel().tolist() == [1]
    assert data.load(index.ids).unread == {}
    assert len(lines) == 1
    assert "3 is broken" in lines[0]


def test_a_class_without_one_readable_sample_is_an_error():
    data = Mended(Numbers(set(range(1, 12, 2))), lambda line: None)
    with pytest.raises(XbenchError, match="no sample of pizza in the train split can be read"):
        data.load(["1"])


def test_stand_ins_are_whole_samples_of_the_same_batch_and_never_a_neighbour():
    samples = with_stand_ins(Numbers({1, 6}).load([str(i) for i in range(8)]))
    found = samples.image.ravel().tolist()
    assert [found[i] for i in (0, 2, 3, 4, 5, 7)] == [0, 2, 3, 4, 5, 7]
    assert found[1] == 5
    assert found[6] == 3
    assert set(samples.unread) == {1, 6}
    assert readable(samples).image.ravel().tolist() == [0, 2, 3, 4, 5, 7]


def test_a_mosaic_with_a_photograph_that_cannot_be_read_is_not_read_either(tmp_path):
    root = tmp_path / "data"
    for name in "abcd":
        (root / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(root / name / f"{i}.png")
    data = grid(root, size=16, n=20, classes="", split="auto", fit="crop", seed=0)
    ids = data.index("test").ids
    broken = data._mosaics["test"][ids[0]].parts[2]
    (root / broken).write_bytes(b"no picture")
    samples = data.load(ids)
    assert set(samples.unread) == {i for i, name in enumerate(ids) if broken in data._mosaics["test"][name].parts}
    assert 0 < len(samples.unread) < 20
    assert all(str(root / broken) in why for why in samples.unread.values())


def test_nothing_readable_is_one_clear_error():
    samples = Numbers({0, 1}).load(["0", "1"])
    for action in (with_stand_ins, readable):
        with pytest.raises(XbenchError, match="the first of them: 0 is broken"):
            action(samples)


def test_only_what_a_reader_tells_clearly_is_kept_for_later():
    def read(place, item):
        if item == "bad":
            raise XbenchError("two", "lines")
        if item == "worse":
            raise KeyError

    assert read_each(["good", "bad"], read, 2) == {1: "two lines"}
    with pytest.raises(KeyError):
        read_each(["worse"], read, 2)
