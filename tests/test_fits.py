"""Fitted artifacts: trained once, shared, never read damaged."""

import threading

import pytest
import torch

from xbench.fits import load_fit, obtain_fit
from xbench.store import fit_folder, has_fit

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


def test_weights_that_share_memory_are_stored_apart():
    shared = torch.arange(6.0)
    found = obtain(lambda folder: ({"a": shared[:3], "b": shared, "c": shared.view(2, 3).T}, {}))
    assert torch.equal(found.state["c"], shared.view(2, 3).T)
