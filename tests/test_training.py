"""The training loop: killed and resumed it ends in the same weights, and its options are what they say."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from xbench.data import Index, Samples
from xbench.fits import FitContext
from xbench.training import _average, _blend, train_classifier


class Stop(Exception):
    pass


class Dots:
    """Sixteen images whose first pixel tells the class."""

    def index(self, split):
        labels = np.arange(16) % 2
        ids = tuple(map(str, range(16)))
        return Index(ids, labels, ids, (1, 3, 3), ("dark", "bright"), "dots")

    def load(self, ids):
        draw = np.random.default_rng(0).random((16, 1, 3, 3), dtype=np.float32)
        draw[:, 0, 0, 0] = np.arange(16) % 2
        return Samples(draw[[int(name) for name in ids]])


def context(folder, report=lambda *_: None):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(12, 2)
    )
    data = Dots()
    index = data.index("train")
    return FitContext(data, index, index, {}, 0, torch.device("cpu"), folder, report=report, module=net)


OPTIONS = [{}, {"mixup": 0.3}, {"average": 0.9}, {"mixup": 0.3, "average": 0.9, "balance": True}, {"early_stop": 2}]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
def test_a_training_that_is_killed_and_resumed_ends_in_the_same_weights(tmp_path, options):
    settings = {"epochs": 4, "batch": 5, "lr": 0.01, **options}
    whole = train_classifier(context(tmp_path / "whole"), **settings)

    def die(done, total, text):
        if done > 2 * total / 4:
            raise Stop

    with pytest.raises(Stop):
        train_classifier(context(tmp_path / "killed", die), **settings)
    assert equal(train_classifier(context(tmp_path / "killed"), **settings), whole)


@pytest.mark.parametrize("option", ["mixup", "average"])
def test_every_option_changes_the_weights_and_learns_all_the_same(tmp_path, option):
    settings = {"epochs": 60, "batch": 8, "lr": 0.02}
    plain = train_classifier(context(tmp_path / "plain"), **settings)
    made = context(tmp_path / "option")
    found = train_classifier(made, **settings, **{option: 0.5})
    assert not equal(found, plain)
    made.module.load_state_dict(found)
    with torch.no_grad():
        guess = made.module.eval()(torch.as_tensor(Dots().load(range(16)).image)).argmax(1)
    assert (guess.numpy() == np.arange(16) % 2).mean() >= 0.9


def test_an_average_forgets_the_start_and_then_decays_as_told():
    mean, now = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(mean.weight, 100.0)
    nn.init.constant_(now.weight, 1.0)
    expected = 100.0
    for step in range(200):
        _average(mean, now, 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
    assert mean.weight.item() == pytest.approx(expected, rel=1e-4)
    assert mean.weight.item() == pytest.approx(1.0, abs=1e-3)


def test_blends_are_shares_of_permuted_partners_drawn_anew_for_every_batch():
    drawn = [_blend(0.2, 6, 7, step) for step in range(200)]
    assert all(0 <= share <= 1 and sorted(other.tolist()) == list(range(6)) for share, other in drawn)
    shares = np.array([share for share, _ in drawn])
    assert len(set(shares)) == 200
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.1)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), abs=0.03)
    assert _blend(0.2, 6, 7, 3)[0] == shares[3]


def test_early_stopping_returns_the_weights_of_the_best_validation_epoch_and_ends_there(tmp_path):
    made = dataclasses.replace(context(tmp_path / "stop"), keep_epochs=True)
    settings = {"batch": 4, "lr": 0.5, "schedule": "constant"}  # such steps make it worse sooner or later
    found = train_classifier(made, epochs=40, early_stop=3, **settings)
    lines, best = made.notes["epochs"], made.notes["best_epoch"]
    marks = [(line["valid_accuracy"], -line["valid_loss"]) for line in lines]
    assert marks.index(max(marks)) + 1 == best
    assert len(lines) == best + 3 < 40
    again = train_classifier(context(tmp_path / "same"), epochs=40, early_stop=3, **settings)
    assert equal(found, again)
    kept = made.folder / "epochs" / f"{best:04d}.safetensors"
    assert equal(load_file(kept), found)


def test_a_training_that_would_stop_by_an_empty_validation_split_says_so(tmp_path):
    made = context(tmp_path / "empty")
    empty = dataclasses.replace(made.valid, ids=(), labels=np.zeros(0, np.int64), groups=())
    with pytest.raises(ValueError, match="validation split is empty"):
        train_classifier(dataclasses.replace(made, valid=empty), epochs=1, batch=4, lr=0.01, early_stop=1)


class Masked(Dots):
    """The same images, each with a mask that says where its values exceed a half."""

    def load(self, ids):
        samples = super().load(ids)
        return Samples(samples.image, samples.image[:, 0] > 0.5, mask_class=np.arange(16)[[int(i) for i in ids]] % 2)


class Recorded:
    """An objective that is the recipe's own loss, and remembers what it was given."""

    needs_masks = True
    ready = True

    def __init__(self):
        self.monitors, self.masks, self.progress = {}, [], 0.0

    def __call__(self, module, image, label, mask, classification):
        self.masks.append((image, mask))
        value = classification(module(image))
        self.monitors = {"own": value, "one": torch.ones(())}
        return value


@pytest.mark.parametrize("options", [{}, {"mixup": 0.3}], ids=["plain", "mixup"])
def test_an_objective_that_is_the_recipes_own_loss_changes_no_weight(tmp_path, options):
    settings = {"epochs": 3, "batch": 5, "lr": 0.01, **options}
    plain = train_classifier(context(tmp_path / "plain"), **settings)
    made = dataclasses.replace(context(tmp_path / "objective"), objective=Recorded())
    assert equal(train_classifier(made, **settings), plain)
    assert [line["one"] for line in made.notes["epochs"]] == [1, 1, 1]
    assert made.notes["epochs"][-1]["own"] < made.notes["epochs"][0]["own"]


def test_masks_go_through_the_same_augmentation_as_their_images(tmp_path):
    def shift(image, generator):
        return torch.roll(image, int(torch.randint(3, (), generator=generator)), dims=3)

    objective = Recorded()
    made = dataclasses.replace(context(tmp_path / "masks"), dataset=Masked(), objective=objective)
    train_classifier(made, epochs=3, batch=4, lr=0.01, augment=shift)
    assert len(objective.masks) == 12
    for image, mask in objective.masks:
        assert torch.equal(mask, image[:, 0] > 0.5)
    bare = Recorded()
    bare.needs_masks = False
    made = dataclasses.replace(context(tmp_path / "without"), dataset=Masked(), objective=bare)
    train_classifier(made, epochs=1, batch=4, lr=0.01)
    assert all(mask is None for _, mask in bare.masks)


def test_an_epoch_before_the_objective_is_ready_is_never_the_best(tmp_path):
    class Late(Recorded):
        @property
        def ready(self):
            return self.progress >= 0.5

    made = dataclasses.replace(context(tmp_path / "late"), objective=Late())
    train_classifier(made, epochs=10, batch=4, lr=0.5, schedule="constant", early_stop=2)
    assert made.notes["best_epoch"] > 5
