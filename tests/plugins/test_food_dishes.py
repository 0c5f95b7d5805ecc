"""Laws of the generated dishes: toppings alone decide the class, and the plate can be exchanged without a trace elsewhere."""

import subprocess
import sys

import numpy as np
import pytest

from xbench.errors import XbenchError
from xbench_food import dishes as module
from xbench_food.dishes import PLATES, dishes

COUNTS = {"train": 80, "valid": 40, "test": 40}


def make(size=32, bias=0.9, seed=3, **counts):
    return dishes(None, size=size, bias=bias, seed=seed, **(COUNTS | counts))


def plates(data, split):
    return np.array([data.plate(split, i) for i in range(data.counts[split])])


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
        assert image.shape == (80, 3, 64, 64)
        levels = np.rint(image * 255)
        assert levels.min() >= 0
        assert levels.max() <= 255
        assert np.array_equal(image, (levels / np.float32(255)).astype(np.float32))
    for plane in (samples.mask, samples.shortcut):
        assert plane.dtype == bool
        assert plane.shape == (80, 64, 64)


def test_classes_alternate_and_every_dish_is_a_group():
    index = make().index("test")
    assert index.labels.tolist() == [0, 1] * 20
    assert index.classes == ("okonomiyaki", "pizza")
    assert len(set(index.groups)) == len(set(index.ids)) == 40
    assert index.ids[12] == "dishes-test-00012"
    assert index.shape == (3, 32, 32)


def test_toppings_are_evidence_for_the_label_and_lie_off_the_plate(table):
    index, samples = table
    assert samples.mask_class.tolist() == index.labels.tolist()
    assert not (samples.mask & samples.shortcut).any()
    # A slice of salami is the least there is; a plate that shows nothing would be no shortcut.
    assert samples.mask.mean(axis=(1, 2)).min() > 0.01
    assert samples.shortcut.mean(axis=(1, 2)).min() > 0.15


def test_other_plate_differs_on_the_shortcut_and_nowhere_else(table):
    _, samples = table
    change = differs(samples.image, samples.swapped)
    assert not (change & ~samples.shortcut).any()
    assert change.sum() > 0.97 * samples.shortcut.sum()


def test_not_even_a_last_bit_of_the_plate_comes_through_the_dish(monkeypatch):
    # Before the camera rounds: a blend by plate + (dish - plate) would leave one.
    monkeypatch.setattr(module.kitchen, "photograph", lambda p, scenes, grain: scenes)
    samples = make().load(make().index("train").ids)
    assert not (differs(samples.image, samples.swapped) & ~samples.shortcut).any()


def test_toppings_end_where_the_dish_does(monkeypatch):
    reach = np.array(["reach" in name for name in module._RANGES])
    monkeypatch.setattr(module, "_LOW", np.where(reach, 0.9, module._LOW))
    monkeypatch.setattr(module, "_HIGH", np.where(reach, 0.9, module._HIGH))
    samples = make().load(make().index("train").ids)
    assert not (samples.mask & samples.shortcut).any()
    assert not (differs(samples.image, samples.counterfactual) & samples.shortcut).any()


def test_other_toppings_differ_on_toppings_and_nowhere_else(table, monkeypatch):
    index, samples = table
    change = differs(samples.image, samples.counterfactual)
    assert (change.mean(axis=(1, 2)) > 0.01).all()
    # The same dishes with the classes the other way round: what was the counterfactual is the picture.
    places = [(0, i) for i in range(len(index))]
    china = np.array([make().plate("train", i) == 1 for i in range(len(index))])
    others = module._pictures(64, 3, places, 1 - index.labels, china)
    assert np.array_equal(others[0], samples.counterfactual)
    assert np.array_equal(others[1], samples.image)
    assert not (change & ~(samples.mask | others[3])).any()
    # Nearly all of a topping is seen: only where both classes have the same colour by chance does nothing change.
    assert (change & samples.mask).sum() > 0.95 * samples.mask.sum()


def test_iron_is_dark_and_china_is_light(table):
    index, samples = table
    china = plates(make(), "train").astype(bool)
    light = np.array(
        [image.mean(axis=0)[there].mean() for image, there in zip(samples.image, samples.shortcut, strict=True)]
    )
    other = np.array(
        [image.mean(axis=0)[there].mean() for image, there in zip(samples.swapped, samples.shortcut, strict=True)]
    )
    assert len(index) == len(china)
    assert light[china].min() > light[~china].max() + 0.05
    assert other[~china].min() > other[china].max() + 0.05


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.9, 1.0])
def test_plates_go_with_the_class_by_the_bias_in_training_and_not_at_all_in_the_test(bias):
    data = make(bias=bias, train=400, valid=200, test=100)
    assert PLATES == ("iron", "china")
    for split, share in (("train", (1 + bias) / 2), ("valid", (1 + bias) / 2), ("test", 0.5)):
        found, labels = plates(data, split), data.index(split).labels
        for label in (0, 1):
            assert np.mean(found[labels == label] == label) == pytest.approx(share, abs=0.5 / (data.counts[split] // 2))


def test_a_note_says_how_far_the_plate_tells_the_class():
    notes = {make(bias=0.9).index(split).notes for split in COUNTS}
    assert len(notes) == 1
    assert "95.0% of the training dishes (bias=0.9) and for half of the test dishes" in notes.pop()[0]


def test_another_bias_changes_plates_alone():
    ids = make().index("train").ids
    biased, fair = make(bias=1.0).load(ids), make(bias=0.0).load(ids)
    exchanged = plates(make(bias=1.0), "train") != plates(make(bias=0.0), "train")
    assert 0 < exchanged.sum() < len(ids)
    assert np.array_equal(np.where(exchanged[:, None, None, None], fair.swapped, fair.image), biased.image)
    assert np.array_equal(biased.mask, fair.mask)


def test_nothing_but_toppings_tells_the_classes_apart():
    # Toppings are painted over with grey, those of both classes so that their outline says nothing; plates are balanced.
    # A linear probe on what is left is at chance on dishes that it has not seen; one on what was hidden is not.
    from sklearn.linear_model import RidgeClassifier

    data = make(size=24, bias=0.0, train=600, test=400)
    rest, hidden, labels = [], [], []
    for split in ("train", "test"):
        index = data.index(split)
        samples = data.load(index.ids)
        away = (samples.mask | differs(samples.image, samples.counterfactual))[:, None]
        left = np.where(away, np.float32(0.5), samples.image)
        rest.append(left.reshape(len(index), 3, 12, 2, 12, 2).mean(axis=(3, 5)).reshape(len(index), -1))
        hidden.append((samples.image * away).sum(axis=(2, 3)) / away.sum(axis=(2, 3)))
        labels.append(index.labels)

    def hit(features):
        return RidgeClassifier(alpha=10.0).fit(features[0], labels[0]).score(features[1], labels[1])

    assert abs(hit(rest) - 0.5) < 3 * 0.5 / np.sqrt(400)
    assert hit(hidden) > 0.65


def test_picture_does_not_depend_on_what_is_loaded_beside_it(table):
    index, samples = table
    order = np.random.default_rng(0).permutation(80)[:17]
    some = make(size=64, train=40_000, test=0).load([index.ids[i] for i in order])
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


def test_another_size_shows_the_same_dish(table):
    index, samples = table
    large = make(size=128).load(index.ids[:20])
    halved = large.image.reshape(20, 3, 64, 2, 64, 2).mean(axis=(3, 5))
    for one, same, other in zip(samples.image[:20], halved, np.roll(halved, 1, axis=0), strict=True):
        alike = np.corrcoef(one.ravel(), same.ravel())[0, 1]
        assert alike > 0.93
        assert alike > np.corrcoef(one.ravel(), other.ravel())[0, 1]


@pytest.mark.parametrize("size", [24, 33, 100])
def test_any_size_from_24_up_gives_whole_pictures(size):
    samples = make(size=size).load(["dishes-test-00000", "dishes-test-00001"])
    assert samples.image.shape == (2, 3, size, size)
    assert samples.mask.any(axis=(1, 2)).all()
    assert samples.shortcut.any(axis=(1, 2)).all()


def test_digest_follows_what_changes_the_split_and_nothing_else():
    digest = make().index("test").digest
    assert make(train=9, valid=1, bias=0.2).index("test").digest == digest
    others = [make(size=33), make(seed=4), make(test=31)]
    digests = {digest, make().index("train").digest, make(bias=0.2).index("train").digest}
    assert len(digests | {other.index("test").digest for other in others}) == 6


@pytest.mark.parametrize("given", ["size=8", "size=9000", "train=-1", "seed=-2", "bias=1.5", "bias=-0.1", "bias=nan"])
def test_values_that_cannot_be_are_refused_by_name(given):
    name, value = given.split("=")
    with pytest.raises(XbenchError, match=f"^food/dishes: {given} "):
        make(**{name: float(value) if name == "bias" else int(value)})


@pytest.mark.parametrize("name", ["dishes-test-00040", "dishes-all-00001", "dishes-test-000001", "pizza.jpg"])
def test_unknown_samples_are_refused_by_name(name):
    with pytest.raises(XbenchError, match=name):
        make().load([name])
    with pytest.raises(XbenchError, match="'all'"):
        make().index("all")


def test_planning_with_the_dishes_imports_no_torch():
    code = "import sys, xbench_food, xbench_food.dishes, xbench_food.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
