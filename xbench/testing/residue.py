"""What an explainer must not leave behind: on the network, in the images, in memory."""

import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from xbench.checks import ModelTouched, compare, fingerprint
from xbench.scoring import ask
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.subjects import ExplainerSubject
from xbench.user_code import is_own

_STRETCH = 40


class Tripped(RuntimeError):
    """Raised inside a network, to see what an explainer leaves behind."""


def untouched(subject: ExplainerSubject) -> None:
    """Compare a net with batch normalisation and dropout before and after, training included."""
    setting = replace(subject.setting, dropout=True, inplace=True)
    model, batch = setting.model(), setting.batch()
    before = fingerprint(model.module)
    if subject.spec.fit:
        subject.train(setting, model)
        _same(before, model.module, "its training")
    explain = subject.asked(setting, model).built.explain
    for _ in range(2):
        ask(explain, batch, subject.what)
    _same(before, model.module, "two batches")


def after_an_exception(subject: ExplainerSubject) -> None:
    """Let the network raise in its first, second, middle and last pass."""
    passes = _trip(subject, None)
    if not passes:
        raise NotApplicable("it never runs the network")
    for place in sorted({1, 2, passes // 2, passes} & set(range(1, passes + 1))):
        _trip(subject, place)


def _trip(subject: ExplainerSubject, place: int | None) -> int:
    """Explain with a network that raises in pass number ``place``; return the number of passes."""
    setting = replace(subject.setting, dropout=True)
    model, batch = setting.model(), setting.batch()
    explain = subject.asked(setting, model).built.explain
    wire = _Wire(model.module, place)
    before = fingerprint(model.module)
    try:
        ask(explain, batch, subject.what)
    except Exception as error:  # whatever an explainer makes of the network's own
        if not wire.tripped:
            raise
        del error
    if place is None:
        try:
            compare(before, model.module)
        except ModelTouched as error:
            raise NotApplicable("it leaves the model another one without an exception already") from error
    if wire.tripped:
        _same(before, model.module, f"an exception in pass {place} of the network")
    return wire.passes


class _Wire:
    """A network's last layer raises in one of its passes; nothing of that shows in hooks or weights."""

    def __init__(self, module: nn.Module, place: int | None) -> None:
        self.passes, self.tripped = 0, False
        *_, last = module.modules()
        forward: Callable[[Tensor], Tensor] = last.forward

        def watched(image: Tensor) -> Tensor:
            self.passes += 1
            if self.passes == place:
                self.tripped = True
                raise Tripped("a network raised, as one out of memory would")
            return forward(image)

        last.forward = watched


def _same(before: dict[str, object], module: nn.Module, after: str) -> None:
    try:
        compare(before, module)
    except ModelTouched as error:
        raise Failed(f"after {after}: {error}") from error


def image_untouched(subject: ExplainerSubject) -> None:
    """Compare all tensors of the batch itself before and after."""
    if is_own(subject.spec.id):
        raise NotApplicable("a function gets images of its own")
    asked, batch = subject.asked(), subject.setting.batch()
    kept = batch.clone()
    with torch.enable_grad():
        asked.built.explain(batch)
    for name in ("image", "mask", "label", "target", "keys", "counterfactual"):
        one, other = getattr(batch, name), getattr(kept, name)
        if not torch.equal(one, other):
            place = int((one != other).flatten(1).any(dim=1).int().argmax()) if one.ndim > 1 else 0
            raise Failed(f"batch.{name} of sample {batch.sample_id[place]!r} is another one afterwards")
    if batch.image.requires_grad or batch.image.grad is not None:
        raise Failed("batch.image requires a gradient, or holds one, afterwards")


def memory(subject: ExplainerSubject) -> None:
    """Count what is alive after 40, 80, ... 200 batches, of new samples each time."""
    asked, whole = subject.asked(), subject.setting.batch(1)

    def explained(start: int) -> tuple[int, int]:
        for number in range(start, start + _STRETCH):
            names = (f"batch {number}",) if not subject.spec.stored else whole.sample_id
            asked(replace(whole, sample_id=names, keys=whole.keys + number))
        gc.collect()
        # Tuples come and go in the collector's books; whatever else Python can collect is counted to the last one.
        return sum(type(one) is not tuple for one in gc.get_objects()), sys.getallocatedblocks()

    explained(0)
    gc.freeze()
    try:
        counts = [explained(start) for start in range(_STRETCH, 5 * _STRETCH, _STRETCH)]
    finally:
        gc.unfreeze()
    # In every stretch: what fills up once, such as a cache by size, is no leak. Blocks are also those of arrays and numbers,
    # but some come and go with the interpreter's own.
    held = max(min(after - before for before, after in pairwise(each)) / _STRETCH for each in zip(*counts, strict=True))
    if held >= 0.9:
        raise Failed(f"every batch leaves {held:.1f} objects behind that stay in memory, over {4 * _STRETCH} batches")


def _check(name: str, law: str, mend: str, run: Callable[[ExplainerSubject], None]) -> Check:
    return Check(name, "explainer", law, mend, run)


RESIDUE_CHECKS: tuple[Check, ...] = (
    _check(
        "leaves the model as it was",
        "Weights, buffers, modes, hooks, requires_grad and gradients of the network are afterwards what they were.",
        "Remove hooks in a finally: block, use torch.autograd.grad instead of backward(), never call train(); for other "
        "weights work on copy.deepcopy(model.module).",
        untouched,
    ),
    _check(
        "leaves the model as it was after an exception",
        "Where the network raises in the middle of an explanation, it is left as it was too.",
        "Put whatever is changed back in a finally: block or a context manager.",
        after_an_exception,
    ),
    _check(
        "leaves the images as they were",
        "The tensors of the batch are afterwards what they were, and no gradient hangs on them.",
        "Work on batch.image.clone(), and on batch.image.detach() before requires_grad_().",
        image_untouched,
    ),
    _check(
        "holds no memory",
        "Memory does not grow with the number of batches explained.",
        "Keep nothing between calls that grows: no list of results, no cache by sample, no graph (detach() what is kept).",
        memory,
    ),
)
