"""Memory that is too small, on the CPU: told from other errors, and answered with a smaller batch."""

import errno

import numpy as np
import pytest
import torch

from xbench import api
from xbench.devices import halving
from xbench.memory import out_of_memory
from xbench.store import Store

HUGE = 2**55


@pytest.mark.parametrize("ask", [lambda: torch.empty(HUGE), lambda: np.empty(HUGE), lambda: bytes(2**62)])
def test_what_cannot_be_had_is_out_of_memory(ask):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask()
    assert out_of_memory(caught.value)


def test_other_errors_are_not():
    assert out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    # As torch 2.15 and cuDNN 9 word it.
    assert out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."))
    assert out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"))
    assert out_of_memory(RuntimeError("GET was unable to find an engine to execute this computation"))
    for error in (
        RuntimeError("no memory of it"),
        OSError(errno.ENOSPC, "full"),
        ValueError("x"),
        KeyError("std::bad_alloc"),
    ):
        assert not out_of_memory(error)


def test_the_batch_is_halved_for_any_kind_of_memory_and_for_nothing_else():
    def attempt(size):
        if size > 5:
            raise MemoryError
        return size

    assert halving(attempt, 64, torch.device("cpu")) == 4

    def wrong(size):
        raise ValueError(str(size))

    with pytest.raises(ValueError, match="64"):
        halving(wrong, 64, torch.device("cpu"))


@pytest.mark.usefixtures("fakes")
def test_an_explainer_short_of_memory_gets_smaller_batches_and_one_that_never_has_enough_is_recorded(tmp_path):
    names = "fake/greedy,fake/insatiable,fake/weights"
    run = api.run("blobs", out=tmp_path, executor="inline", device="cpu", explainer=names, limit=64)
    status = {row.explainer: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}
    kind, reason = status["fake/insatiable"]
    assert kind == "oom"
    assert reason.startswith("out of memory with one image a pass on cpu (RuntimeError: ")
    means = {row.explainer: row.mean for row in run.rows if row.metric == "deletion"}
    assert means["fake/greedy"] == pytest.approx(means["fake/weights"], abs=1e-6)
    store = Store(run.folder)
    cells = {(store.definition(key)["explainer"] or {}).get("text"): key for key in store}
    # Nobody else gets less for it: what is computed does not hang on the company.
    assert set(store.read(cells["fake/greedy"]).cost["images_a_pass"]) == {16}
    assert set(store.read(cells["fake/weights"]).cost["images_a_pass"]) == {64}
