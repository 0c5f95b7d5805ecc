"""Under which conditions an explainer must work all the same: another device, blank images, company."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from xbench.costs import declared_cost
from xbench.devices import plain_floats
from xbench.errors import XbenchError
from xbench.plugins import PASSES
from xbench.scoring import ask
from xbench.tensors import Batch
from xbench.testing.common import must_agree
from xbench.testing.elsewhere import Elsewhere
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.subjects import Asked, ExplainerSubject


def devices(subject: ExplainerSubject) -> None:
    """Play another device on the CPU."""
    batch, model = subject.setting.batch(), subject.setting.model()
    if subject.spec.fit:
        subject.state(subject.setting)
    with Elsewhere():
        ask(subject.build(subject.setting, model).explain, batch, subject.what)


def gpu(subject: ExplainerSubject) -> None:
    """Compare CPU and GPU."""
    if not torch.cuda.is_available():
        raise NotApplicable("there is no CUDA device here")
    batch = subject.setting.batch()
    here = subject.asked().maps(batch)
    model = subject.setting.model()
    model.module.to("cuda")
    with plain_floats():
        there = subject.asked(model=model).maps(batch.to("cuda")).cpu()
    must_agree(here, there, batch.sample_id, "CPU and GPU give other maps")


def blank(subject: ExplainerSubject) -> None:
    """Ask for a black and a grey image."""
    batch = subject.setting.batch(2)
    level = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1).expand_as(batch.image).clone()
    found = subject.asked()(replace(batch, image=level))
    if found.nonfinite is not None and found.nonfinite.any():
        shade = "black" if bool(found.nonfinite[0]) else "plain grey"
        raise Failed(f"the map of a {shade} image holds NaN or infinite values")


def cost(subject: ExplainerSubject) -> None:
    """Count passes for six images together and alone."""
    if subject.spec.stored:
        raise NotApplicable("its maps are looked up")
    together = _passes(subject, [subject.setting.batch()])
    alone = _passes(subject, [subject.setting.batch().take(slice(i, i + 1)) for i in range(6)])
    if together > alone:
        raise Failed(f"six images together take {together} passes through the network, one by one {alone}")


def budget(subject: ExplainerSubject) -> None:
    """Count the passes of single images, of two sizes, against what is declared."""
    if not subject.spec.cost:
        raise NotApplicable("it declares no cost")
    wide = replace(subject.setting, width=24)
    for setting in (subject.setting, wide):
        try:
            most = declared_cost(subject.component, setting.shape, setting.classes)
        except XbenchError as error:
            raise Failed(str(error)) from error
        asked, whole = subject.asked(setting), setting.batch()
        for place, name in enumerate(whole.sample_id):
            taken = _counted(asked, [whole.take(slice(place, place + 1))])
            for passes in (word for word in PASSES if taken[word] > most.get(word, math.inf)):
                raise Failed(
                    f"sample {name!r} takes {taken[passes]:,} {passes}; cost declares {most[passes]:,} at most"
                )


def _passes(subject: ExplainerSubject, batches: list[Batch]) -> int:
    return sum(_counted(subject.asked(), batches).values())


def _counted(asked: Asked, batches: list[Batch]) -> dict[str, int]:
    passes = asked.built.model.passes
    before = {name: getattr(passes, name) for name in PASSES}
    for batch in batches:
        asked(batch)
    return {name: getattr(passes, name) - before[name] for name in PASSES}


def _check(name: str, law: str, mend: str, run: Callable[[ExplainerSubject], None]) -> Check:
    return Check(name, "explainer", law, mend, run)


CONDITION_CHECKS: tuple[Check, ...] = (
    _check(
        "makes tensors where the images are",
        "No operation mixes a tensor made on the CPU with images or weights on another device.",
        "Give device=batch.image.device wherever a tensor is made, or use zeros_like and new_tensor.",
        devices,
    ),
    _check(
        "agrees on CPU and GPU",
        "A GPU gives the map that the CPU gives.",
        "Draw noise from batch.keys, which gives the same numbers everywhere, and keep to float32.",
        gpu,
    ),
    _check(
        "bears a blank image",
        "Images of one colour give finite maps.",
        "Guard each division: divide by value.clamp(min=tiny), or by 1 where a sum or a range is 0.",
        blank,
    ),
    _check(
        "costs no more in company",
        "A batch takes no more passes through the network than its images one by one.",
        "Send the images of a batch through the network together, each as often as it would go alone.",
        cost,
    ),
    _check(
        "keeps to its cost",
        "A map takes no more forward and backward passes of its image through the network than cost= declares.",
        "Correct cost=, the most for one image alone; passes without gradients and of copies of the image count too.",
        budget,
    ),
)
