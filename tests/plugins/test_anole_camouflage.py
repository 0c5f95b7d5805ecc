"""Laws of the generated camouflage: the lizard alone decides the class, and lizard and perch come and go without a trace."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from xbench.errors import XbenchError
from xbench_anole import camouflage as module
from xbench_anole.camouflage import PERCHES, camouflage

COUNTS = {"train": 60, "valid": 40, "test": 40}


def make(size=32, bias=0.9, seed=3, **counts):
    return camouflage(None, size=size, bias=bias, seed=seed, **(COUNTS | counts))


def perches(data, split):
    return np.array([data.perch(split, i) for i in range(data.counts[split])])


def differs(a, b):
    return (a != b).any(axis=1)


@pytest.fixture(scope="module")
def table():
    data = make(size=64)
    index = data.index("train")
    return index, data.load(index.ids)


def test_pictures_are_eight_bit_levels_in_the_unit_range(table):
    _, samples = table
    for image in (samples.image, samples.counterfactual, samples.swapped):
        assert image.dtype == np.float32
        assert image.shape == (60, 3, 64, 64)
        levels = np.rint(image * 255)
        assert levels.min() >= 0
        assert levels.max() <= 255
        assert np.array_equal(image, (levels / np.float32(255)).astype(np.float32))
    for plane in (samples.mask, samples.shortcut):
        assert plane.dtype == bool
        assert plane.shape == (60, 64, 64)


def test_classes_alternate_and_every_scene_is_a_group():
    index = make().index("test")
    assert index.labels.tolist() == [0, 1] * 20
    assert index.classes == ("negative", "positive")
    assert len(set(index.groups)) == len(set(index.ids)) == 40
    assert index.ids[12] == "camouflage-test-00012"
    assert index.shape == (3, 32, 32)


def test_lizard_is_evidence_for_positive_and_a_negative_has_none(table):
    index, samples = table
    assert samples.mask_class.tolist() == [1] * 60
    area = samples.mask.mean(axis=(1, 2))
    assert not area[index.labels == 0].any()
    assert area[index.labels == 1].min() > 0.015
    assert area.max() < 0.15
    assert samples.shortcut.mean(axis=(1, 2)).min() > 0.02


def test_lizard_gone_or_come_is_the_difference_and_nothing_else(table):
    index, samples = table
    positive = index.labels == 1
    change = differs(samples.image, samples.counterfactual)
    assert not (change & ~samples.mask)[positive].any()
    assert change[positive].sum() > 0.97 * samples.mask[positive].sum()
    # The same scenes with the classes the other way round: what was the counterfactual is the picture.
    places = [(0, i) for i in range(len(index))]
    others = module._pictures(64, 3, places, ~positive, perches(make(), "train") == 1)
    assert np.array_equal(others[0], samples.counterfactual)
    assert np.array_equal(others[1], samples.image)
    assert not (change & ~(samples.mask | others[3])).any()


def test_other_perch_differs_on_the_shortcut_and_nowhere_else(table):
    _, samples = table
    change = differs(samples.image, samples.swapped)
    assert not (change & ~samples.shortcut).any()
    assert change.sum() > 0.97 * samples.shortcut.sum()


def test_not_even_a_last_bit_comes_through_the_lizard_or_beside_it(monkeypatch):
    # Before the camera rounds: a blend by below + (lizard - below) would leave one.
    monkeypatch.setattr(module, "photograph", lambda p, scenes, grain: scenes)
    data = make()
    index = data.index("train")
    samples = data.load(index.ids)
    assert not (differs(samples.image, samples.swapped) & ~samples.shortcut).any()
    positive = index.labels == 1
    assert not (differs(samples.image, samples.counterfactual) & ~samples.mask)[positive].any()


def test_a_lizard_hides_the_perch_and_wears_the_same_skin_on_either(table):
    index, samples = table
    positive = index.labels == 1
    both = samples.mask & samples.shortcut
    # Only along the outline are both seen.
    assert both[positive].sum() < 0.1 * samples.mask[positive].sum()
    inside = samples.mask & ~samples.shortcut
    assert not (differs(samples.image, samples.swapped) & inside).any()


def test_a_branch_is_browner_than_a_reed(table):
    index, samples = table
    reed = perches(make(), "train").astype(bool)
    assert PERCHES == ("branch", "reed")

    def redness(images):
        return np.array([(i[0] - i[1])[there].mean() for i, there in zip(images, samples.shortcut, strict=True)])

    shown, other = redness(samples.image), redness(samples.swapped)
    assert len(index) == len(reed)
    assert np.where(reed, other - shown, shown - other).min() > 0.02


def test_colours_of_the_lizard_are_those_around_it():
    # No contrast drawn: averaged over many scenes the lizard is neither lighter nor darker, redder nor bluer.
    data = make(size=64, test=120)
    index = data.index("test")
    samples = data.load(index.ids)
    positive = index.labels == 1
    image, mask = samples.image[positive], samples.mask[positive]
    on = np.stack([i[:, m].mean(axis=1) for i, m in zip(image, mask, strict=True)])
    bare = samples.counterfactual[positive]
    around = np.stack([i[:, m].mean(axis=1) for i, m in zip(bare, mask, strict=True)])
    gap = on - around
    assert np.abs(gap.mean(axis=0)).max() < 4 * (gap.std(axis=0) / np.sqrt(len(gap))).max()
    # And a lizard in a light place is a light one.
    assert np.corrcoef(on.mean(axis=1), around.mean(axis=1))[0, 1] > 0.6


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.9, 1.0])
def test_perches_go_with_the_class_by_the_bias_in_training_and_nowhere_else(bias):
    data = make(bias=bias, train=400, valid=200, test=100)
    for split, share in (("train", (1 + bias) / 2), ("valid", 0.5), ("test", 0.5)):
        found, labels = perches(data, split), data.index(split).labels
        for label in (0, 1):
            branches = np.mean(found[labels == label] == 1 - label)
            assert branches == pytest.approx(share, abs=0.5 / (data.counts[split] // 2))


def test_a_note_says_how_far_the_perch_tells_the_class():
    notes = {make(bias=0.9).index(split).notes for split in COUNTS}
    assert len(notes) == 1
    assert "95.0% of the training pictures (bias=0.9) and for half of the others" in notes.pop()[0]


def test_another_bias_changes_perches_alone():
    ids = make().index("train").ids
    biased, fair = make(bias=1.0).load(ids), make(bias=0.0).load(ids)
    exchanged = perches(make(bias=1.0), "train") != perches(make(bias=0.0), "train")
    assert 0 < exchanged.sum() < len(ids)
    assert np.array_equal(np.where(exchanged[:, None, None, None], fair.swapped, fair.image), biased.image)
    assert np.array_equal(biased.mask, fair.mask)
    valid = make().index("valid").ids
    assert np.array_equal(make(bias=1.0).load(valid).image, make(bias=0.0).load(valid).image)


def test_nothing_but_the_lizard_tells_the_classes_apart():
    # Where the lizard is or would be all is painted grey; perches are balanced. A linear probe on what is left is at
    # chance on pictures that it has not seen.
    from sklearn.linear_model import RidgeClassifier

    data = make(size=24, bias=0.0, train=250, test=250)
    rest, labels = [], []
    for split in ("train", "test"):
        index = data.index(split)
        samples = data.load(index.ids)
        away = differs(samples.image, samples.counterfactual)[:, None]
        left = np.where(away, np.float32(0.3), samples.image)
        rest.append(left.reshape(len(index), 3, 12, 2, 12, 2).mean(axis=(3, 5)).reshape(len(index), -1))
        labels.append(index.labels)
    hit = RidgeClassifier(alpha=10.0).fit(rest[0], labels[0]).score(rest[1], labels[1])
    assert abs(hit - 0.5) < 3 * 0.5 / np.sqrt(250)


def test_picture_does_not_depend_on_what_is_loaded_beside_it(table):
    index, samples = table
    order = np.random.default_rng(0).permutation(60)[:17]
    some = make(size=64, train=40_000, test=0).load([index.ids[i] for i in order])
    same = perches(make(train=40_000), "train")[:60] == perches(make(), "train")
    assert same.all()
    for field in ("image", "mask", "counterfactual", "shortcut", "swapped"):
        assert getattr(some, field).tobytes() == getattr(samples, field)[order].tobytes()
    alone = make(size=64).load([index.ids[5]])
    assert alone.image.tobytes() == samples.image[5:6].tobytes()
    assert make().load([]).image.shape == (0, 3, 32, 32)


def test_seed_and_split_change_every_picture(table):
    index, samples = table
    other = make(size=64, seed=4).load(index.ids)
    assert (np.abs(other.image - samples.image).mean(axis=(1, 2, 3)) > 0.02).all()
    tests = {image.tobytes() for image in make(size=64).load(make().index("test").ids).image}
    assert not tests & {image.tobytes() for image in samples.image}


def test_another_size_shows_the_same_scene(table):
    index, samples = table
    large = make(size=128).load(index.ids[:20])
    halved = large.image.reshape(20, 3, 64, 2, 64, 2).mean(axis=(3, 5))
    for one, same, other in zip(samples.image[:20], halved, np.roll(halved, 1, axis=0), strict=True):
        alike = np.corrcoef(one.ravel(), same.ravel())[0, 1]
        assert alike > 0.9
        assert alike > np.corrcoef(one.ravel(), other.ravel())[0, 1] + 0.2
    share = large.mask[1::2].mean(axis=(1, 2)) / samples.mask[1:20:2].mean(axis=(1, 2))
    assert share.min() > 0.6
    assert share.max() < 1.1


def test_no_leaf_is_cut_by_the_window_it_is_painted_in(monkeypatch):
    # Leaves painted in windows as large as the picture are the reference; before the camera rounds.
    monkeypatch.setattr(module, "photograph", lambda p, scenes, grain: scenes)
    data = make(size=48, test=24)
    ids = data.index("test").ids
    samples = data.load(ids)
    monkeypatch.setattr(module.foliage, "math", SimpleNamespace(ceil=lambda side: 48))
    assert np.array_equal(samples.image, data.load(ids).image)


@pytest.mark.parametrize("size", [24, 33, 100])
def test_any_size_from_24_up_gives_whole_pictures(size):
    samples = make(size=size).load(["camouflage-test-00000", "camouflage-test-00001"])
    assert samples.image.shape == (2, 3, size, size)
    assert samples.mask.any(axis=(1, 2)).tolist() == [False, True]
    assert samples.shortcut.any(axis=(1, 2)).all()


def test_digest_follows_what_changes_the_split_and_nothing_else():
    digest = make().index("test").digest
    assert make(train=9, valid=1, bias=0.2).index("test").digest == digest
    assert make(bias=0.2).index("valid").digest == make().index("valid").digest
    others = [make(size=33), make(seed=4), make(test=31)]
    digests = {digest, make().index("train").digest, make(bias=0.2).index("train").digest}
    assert len(digests | {other.index("test").digest for other in others}) == 6


@pytest.mark.parametrize("given", ["size=8", "size=9000", "train=-1", "seed=-2", "bias=1.5", "bias=-0.1", "bias=nan"])
def test_values_that_cannot_be_are_refused_by_name(given):
    name, value = given.split("=")
    with pytest.raises(XbenchError, match=f"^anole/camouflage: {given} "):
        make(**{name: float(value) if name == "bias" else int(value)})


@pytest.mark.parametrize(
    "name", ["camouflage-test-00040", "camouflage-all-00001", "camouflage-test-000001", "lizard.jpg"]
)
def test_unknown_samples_are_refused_by_name(name):
    with pytest.raises(XbenchError, match=name):
        make().load([name])
    with pytest.raises(XbenchError, match="'all'"):
        make().index("all")


def test_planning_with_the_camouflage_imports_no_torch():
    code = "import sys, xbench_anole, xbench_anole.camouflage, xbench_anole.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
