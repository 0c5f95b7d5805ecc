"""Fitted artifacts: trained once, shared, never read damaged."""

import json
import threading

import pytest
import torch

from xbench.cache import damaged_fit, epoch_file, fit_folder, has_fit
from xbench.fits import FitContext, load_fit, obtain_fit

KEY = "ab" + 62 * "0"
STATE = {"weight": torch.arange(4.0), "count": torch.tensor(3)}


def obtain(train=lambda folder: (STATE, {"epochs": 2}), **other):
    return obtain_fit(KEY, {"what": "a test"}, train, **other)


def never(folder):
    raise AssertionError("it must not be trained again")


def test_a_fit_is_trained_once_and_read_back_equal():
    first, again = obtain(), obtain(never)
    assert has_fit(KEY)
    assert first.sha256 == again.sha256
    assert all(torch.equal(again.state[name], value) for name, value in STATE.items())
    assert again.info["epochs"] == 2


def test_while_one_trains_another_waits_says_so_and_takes_its_weights():
    training, proceed, waits = threading.Event(), threading.Event(), []

    def slowly(folder):
        training.set()
        assert proceed.wait(20)
        return STATE, {}

    thread = threading.Thread(target=obtain, args=(slowly,))
    thread.start()
    assert training.wait(20)

    def waiting():
        waits.append(1)
        proceed.set()

    found = obtain(never, waiting=waiting)
    thread.join()
    assert waits == [1]
    assert torch.equal(found.state["weight"], STATE["weight"])


def test_a_training_that_fails_leaves_no_fit_and_no_lock():
    with pytest.raises(RuntimeError, match="no"):
        obtain(lambda folder: (_ for _ in ()).throw(RuntimeError("no")))
    assert not has_fit(KEY)
    assert obtain().sha256


@pytest.mark.parametrize("name", ["weights.safetensors", "fit.json"])
def test_a_damaged_file_counts_as_no_fit(name):
    whole = obtain()
    path = fit_folder(KEY) / name
    path.write_bytes(path.read_bytes()[:-2])
    assert not has_fit(KEY)
    assert load_fit(KEY) is None
    assert obtain().sha256 == whole.sha256


def with_epochs(folder):
    context = FitContext(*[None] * 5, torch.device("cpu"), folder, keep_epochs=True)
    for epoch in (1, 2):
        context.keep(epoch, {"weight": torch.full((4,), float(epoch))})
    return STATE, {"loss": float("nan")}


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?")]
)
def test_weights_of_an_epoch_are_held_by_their_hash_where_they_are_asked_for(harm):
    obtain(with_epochs)
    path = epoch_file(fit_folder(KEY), 2)
    assert load_fit(KEY, 2).state["weight"].tolist() == [2] * 4
    assert has_fit(KEY, [1, 2, 7])  # a training that stopped early has no seventh
    harm(path)
    assert damaged_fit(KEY, [2]) == damaged_fit(KEY, None) == [path]
    assert not has_fit(KEY, [2])
    assert has_fit(KEY, [1])
    assert load_fit(KEY, 2) is None
    obtain(with_epochs)
    assert load_fit(KEY, 2).state["weight"].tolist() == [2] * 4


def test_epochs_that_an_earlier_version_kept_are_read_unverified():
    obtain(with_epochs)
    path = fit_folder(KEY) / "fit.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in info.items() if name not in ("kept", "digest")}))
    assert has_fit(KEY, [1, 2])
    assert load_fit(KEY, 2).state["weight"].tolist() == [2] * 4


def test_any_flipped_byte_of_what_was_noted_makes_a_fit_damaged():
    obtain()
    path = fit_folder(KEY) / "fit.json"
    good = path.read_bytes()
    places = [place for place in range(len(good)) if b'"digest"' not in good[place - 8 : place + 8]]
    for place in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        # JSON reads some other spaces as the same.
        assert not has_fit(KEY) or json.loads(path.read_bytes()) == json.loads(good), place


def test_a_checkpoint_with_any_flipped_byte_or_cut_short_is_told_and_none(tmp_path):
    told = []
    context = FitContext(*[None] * 5, torch.device("cpu"), tmp_path, lambda done, total, text: told.append(text))
    state = {"epoch": 2, "weight": torch.arange(3.0), "name": "adam"}
    path = tmp_path / "checkpoint.pt"
    assert context.resume() is None
    context.checkpoint(state)
    assert torch.equal(context.resume()["weight"], state["weight"])
    assert torch.load(path, weights_only=True)["epoch"] == 2  # as any torch reads it
    assert told == []
    good = path.read_bytes()
    cuts = [good[:length] for length in (0, 1, 31, 32, 33, len(good) // 2, len(good) - 1)]
    for raw in [
        *(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :] for place in range(0, len(good), 7)),
        *cuts,
    ]:
        path.write_bytes(raw)
        assert context.resume() is None
        assert str(path) in told.pop()
        assert not path.exists()
    path.mkdir()
    assert context.resume() is None
    context.checkpoint(state)
    assert context.resume()["epoch"] == 2


def test_weights_that_share_memory_are_stored_apart():
    shared = torch.arange(6.0)
    found = obtain(lambda folder: ({"a": shared[:3], "b": shared, "c": shared.view(2, 3).T}, {}))
    assert torch.equal(found.state["c"], shared.view(2, 3).T)
