"""What every benchmark needs: networks and images, a clock, and a ratio of two pieces of work in one run."""

import os
import statistics
import time
from dataclasses import dataclass

import torch
import torchvision

from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_mnist.models import s2

CASES = ("mnist/s2 at 28", "resnet18 at 224")
GPU_CASES = ("resnet50 at 224",)


@dataclass(frozen=True)
class Row:
    """One figure: a ratio, the bound it should keep, and how far it varied over the rounds.

    ``own`` is the ratio to the same passes as the harness makes them, with channels innermost, where these are faster.
    """

    name: str
    case: str
    ratio: float
    bound: float | None
    low: float
    high: float
    unit: str = "x"
    note: str = ""
    at_least: bool = False
    own: float | None = None

    @property
    def ok(self):
        if self.bound is None:
            return None
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound


def classifier(case, device):
    """Return (model, batch) of a case: untrained weights and noise for images, which cost what any others do."""
    torch.manual_seed(0)
    cpu = device.type == "cpu"
    if case == "mnist/s2 at 28":
        module, shape, size = s2((1, 28, 28), tuple("0123456789"), epochs=1, samples_per_epoch=1), (1, 28, 28), 64
    else:
        module, shape, size = getattr(torchvision.models, case.split()[0])(weights=None), (3, 224, 224), 4
    size = size if cpu else 16 * size
    image = torch.rand(size, *shape)
    model = Model(module.to(device), batch_size=size)
    ids = tuple(map(str, range(size)))
    first = torch.zeros(size, dtype=torch.int64, device=device)
    mask = torch.zeros(size, *shape[1:], dtype=torch.bool)
    mask[:, shape[1] // 4 : shape[1] // 2, shape[2] // 4 : shape[2] // 2] = True
    return model, Batch(image.to(device), ids, first, first, sample_keys(0, ids, device), mask=mask.to(device))


def clock(work, device):
    """Return the seconds a call takes, the device idle at both ends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ratio(name, case, work, bare, device, rounds, *, bound=None, note="", times=(1, 1), own=None):
    """Return the row of work against bare passes; the two follow each other directly in every round.

    ``times`` says how often each is called, for work much shorter than what it is compared with; ``own`` are the same passes
    as the harness makes them.
    """

    def repeated(call, often):
        return lambda: [call() for _ in range(often)]

    whole, passes = repeated(work, times[0]), repeated(bare, times[1])
    inner = repeated(own, times[1]) if own else passes
    whole(), passes(), inner()
    found = []
    for _ in range(rounds):
        spent = clock(whole, device) / times[0]
        found.append([spent / (clock(each, device) / times[1]) for each in (passes, inner)])
    plain, others = zip(*found, strict=True)
    middle = statistics.median(others) if own else None
    return Row(name, case, statistics.median(plain), bound, min(plain), max(plain), note=note, own=middle)


def forwards(model, image, times=1, own=False):
    """Return the bare forward passes of a batch, ``times`` of them; ``own``: as the harness makes them."""
    call = model.logits if own else model.module

    @torch.no_grad()
    def bare():
        for _ in range(times):
            call(image)

    return bare


def gradients(model, image, target, times=1):
    """Return the bare forward and backward passes that a gradient with respect to the image needs."""

    def bare():
        for _ in range(times):
            leaf = image.detach().requires_grad_(True)
            score = model.module(leaf).gather(1, target[:, None]).sum()
            torch.autograd.grad(score, leaf)

    return bare


def partial_gradients(model, image, target, layer):
    """Return one bare forward pass and the backward pass down to a layer's output."""

    def bare():
        kept = []

        def open_here(module, inputs, output):
            kept.append(output.detach().requires_grad_(True))
            return kept[0].clone()  # what follows may work in place

        handle = model.module.get_submodule(layer).register_forward_hook(open_here)
        score = model.module(image).gather(1, target[:, None]).sum()
        torch.autograd.grad(score, kept[0])
        handle.remove()

    return bare


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
