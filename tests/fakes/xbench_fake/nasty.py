"""Explainers that spoil what they run in: pipes, memory, time. Environment variables steer them, so that keys stay."""

import os
import signal
import time
from pathlib import Path

import torch

from xbench.errors import Broken
from xbench_fake.explainers import weights


def _once():
    """Return whether this is the first call for the file that FAKE_ONCE names."""
    flag = Path(os.environ["FAKE_ONCE"])
    first = not flag.exists()
    flag.touch()
    return first


def freezes(model):
    """Stops its process as a debugger does, once."""
    explain = weights(model)

    def freeze(batch):
        if _once():
            os.kill(os.getpid(), signal.SIGSTOP)
        return explain(batch)

    return freeze


def vanishes(model):
    """Is killed, as where memory runs out."""
    return lambda batch: os.kill(os.getpid(), signal.SIGKILL)


def slow(model):
    """Takes FAKE_SECONDS for a batch; FAKE_BEGUN names the file that says so."""
    explain = weights(model)

    def dawdle(batch):
        if begun := os.environ.get("FAKE_BEGUN"):
            Path(begun).touch()
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        return explain(batch)

    return dawdle


def prints(model):
    """Writes to every standard stream, more than a pipe holds."""
    explain = weights(model)

    def shout(batch):
        os.write(1, b"\xff" * 100_000)
        os.write(2, b"\0" * 100_000)
        print("x" * 100_000)
        return explain(batch)

    return shout


def closes(model):
    """Closes the files that it has not opened, as a daemon does."""
    return _closing(model, 64)


def closes_all(model):
    """Closes all files, the pipe to the parent too."""
    return _closing(model, 1024)


def _closing(model, most):
    explain = weights(model)

    def tidy(batch):
        os.closerange(0, most)
        return explain(batch)

    return tidy


def complains_at_length(model):
    def explain(batch):
        raise ValueError("x" * 50_000_000)

    return explain


def greedy(model):
    """Needs more memory than there is for more than 16 images."""
    explain = weights(model)

    def ask(batch):
        if len(batch) > 16:
            torch.empty(2**55)
        return explain(batch)

    return ask


def insatiable(model):
    return lambda batch: torch.empty(2**55)


def breaks_the_gpu(model):
    """Fails as a kernel does, after which its process can do nothing more with the GPU: the CPU stands in for that."""

    def explain(batch):
        import xbench.work

        def broken(device):
            raise Broken(
                "cuda:0 failed (CUDA error: device-side assert triggered); only another process can use it again"
            )

        xbench.work.must_work = broken
        raise IndexError("index out of bounds")

    return explain


def comes_back(model):
    """Forks, and both of them go on."""
    explain = weights(model)

    def ask(batch):
        os.fork()
        return explain(batch)

    return ask
