"""What every explainer keeps: the checks of the maps that it gives."""

from collections.abc import Callable
from dataclasses import replace

import torch

from xbench.checks import InvalidMap, checked
from xbench.scoring import ask
from xbench.tensors import Batch, Explanation
from xbench.testing.common import common_checks, differing, found_factory, must_agree
from xbench.testing.conditions import CONDITION_CHECKS
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.residue import RESIDUE_CHECKS
from xbench.testing.subjects import ExplainerSubject
from xbench.testing.toys import Setting
from xbench.user_code import is_own


def built(subject: ExplainerSubject) -> None:
    """Build it, and train it where it is trained."""
    found_factory(subject)
    subject.asked()


def sound(subject: ExplainerSubject) -> None:
    """Look at the maps of six images of 16 x 16."""
    batch = subject.setting.batch()
    _sound(subject.asked().built.explain, batch, subject)


def _sound(explain: Callable[[Batch], object], batch: Batch, subject: ExplainerSubject) -> Explanation:
    try:
        found = checked(ask(explain, batch, subject.what), batch)
    except InvalidMap as error:
        raise Failed(str(error)) from error
    if found.nonfinite is not None and found.nonfinite.any():
        place = int(found.nonfinite.int().argmax())
        raise Failed(f"the map of sample {batch.sample_id[place]!r} holds NaN or infinite values")
    if not found.answered.any():
        raise Failed(f"none of {len(batch)} samples has an answer (defined is False for all)")
    if "counterfactual" in subject.spec.gives and found.counterfactual is None:
        raise Failed("it declares to give a counterfactual and gives none")
    for name, value in found.extras.items():
        if len(value) != len(batch):
            raise Failed(f"the extra {name!r} has {len(value)} rows for {len(batch)} samples")
    return found


def polarity(subject: ExplainerSubject) -> None:
    """A positive map has no negative value."""
    if subject.component.polarity == "signed":
        raise NotApplicable("its maps are declared signed")
    batch = subject.setting.batch()
    maps = subject.asked()(batch).attribution
    if (low := float(maps.min())) < 0:
        place = int(maps.flatten(1).amin(dim=1).argmin())
        raise Failed(
            f"polarity is {subject.spec.polarity!r}, and the map of {batch.sample_id[place]!r} goes down to {low:.3g}"
        )


def batch_of_one(subject: ExplainerSubject) -> None:
    """Ask for a single image."""
    _sound(subject.asked().built.explain, subject.setting.batch(1), subject)


def not_square(subject: ExplainerSubject) -> None:
    """Ask for images of 16 x 24 and 24 x 16."""
    for height, width in ((16, 24), (24, 16)):
        setting = replace(subject.setting, height=height, width=width)
        _within(subject, setting, f"images of {height} x {width}")


def channels(subject: ExplainerSubject) -> None:
    """Ask for grey images."""
    _within(subject, replace(subject.setting, channels=1), "images of one channel")


def one_logit(subject: ExplainerSubject) -> None:
    """Ask of a net with one logit."""
    _within(subject, replace(subject.setting, classes=2, one_logit=True), "a net of one logit")


def many_classes(subject: ExplainerSubject) -> None:
    """Ask of a net of five classes."""
    if "two_classes" in subject.spec.needs:
        raise NotApplicable("it needs two classes")
    _within(subject, replace(subject.setting, classes=5), "a net of five classes")


def _within(subject: ExplainerSubject, setting: Setting, what: str) -> None:
    batch = setting.batch(5)
    try:
        _sound(subject.asked(setting).built.explain, batch, subject)
    except Failed as error:
        raise Failed(f"{what}: {error}") from error


def inplace(subject: ExplainerSubject) -> None:
    """Compare the maps of a net whose ReLUs overwrite their input with those of the same net."""
    batch = subject.setting.batch()
    usual, other = (subject.asked(replace(subject.setting, inplace=mode)).maps(batch) for mode in (False, True))
    _repeatable(subject, batch)
    must_agree(
        usual, other, batch.sample_id, "a net whose ReLUs work in place is explained otherwise than the same net"
    )


def company(subject: ExplainerSubject) -> None:
    """Compare a batch with its parts, and with the batch turned around."""
    asked, batch = subject.asked(), subject.setting.batch()
    whole = asked.maps(batch)
    _repeatable(subject, batch)
    parts = torch.cat([asked.maps(batch.take(part)) for part in (slice(0, 1), slice(1, 3), slice(3, 6))])
    must_agree(
        whole, parts, batch.sample_id, "in a batch of six and in batches of one, two and three, maps are not the same"
    )
    back = asked.maps(_reversed(batch)).flip(0)
    must_agree(whole, back, batch.sample_id, "maps change with the order of the samples")


def _repeatable(subject: ExplainerSubject, batch: Batch) -> None:
    asked = subject.asked()
    if differing(asked.maps(batch), asked.maps(batch)).any():
        raise NotApplicable("two calls with the same batch differ already ('same seed, same map')")


def _reversed(batch: Batch) -> Batch:
    back = batch._map(lambda tensor: tensor.flip(0))
    return replace(back, sample_id=batch.sample_id[::-1])


def same_seed(subject: ExplainerSubject) -> None:
    """Ask the same explainer twice, with another batch between; and one built anew."""
    asked, batch = subject.asked(), subject.setting.batch()
    first = asked.maps(batch)
    asked.maps(subject.setting.batch(3, seed=1))
    must_agree(first, asked.maps(batch), batch.sample_id, "the same batch explained again gives another map")
    must_agree(first, subject.asked().maps(batch), batch.sample_id, "the explainer built again gives another map")


def other_seed(subject: ExplainerSubject) -> None:
    """Ask under another seed."""
    if is_own(subject.spec.id):
        raise NotApplicable("a function does not declare whether it draws at random")
    one, other = (subject.asked(seed=seed).maps(subject.setting.batch(seed=seed)) for seed in (0, 1))
    _repeatable(subject, subject.setting.batch())
    moved = differing(one, other)
    if subject.spec.stochastic and not moved.any():
        raise Failed("it declares stochastic=True, and another seed gives the same maps")
    if moved.any() and not subject.spec.stochastic:
        ids = subject.setting.batch().sample_id
        place = int(moved.int().argmax())
        raise Failed(
            f"another seed gives another map of sample {ids[place]!r}, and it does not declare stochastic=True"
        )


def target(subject: ExplainerSubject) -> None:
    """Ask for the next class of every sample."""
    spec = subject.spec
    if spec.control or spec.stored:
        raise NotApplicable("a control need not look at the class" if spec.control else "its maps are of one target")
    asked, batch = subject.asked(), subject.setting.batch()
    classes = subject.setting.classes
    own = asked.maps(batch)
    _repeatable(subject, batch)
    other = asked.maps(batch.with_target((batch.target + 1) % classes))
    if not differing(own, other).any():
        raise Failed(f"asked for another class, all {len(batch)} maps stay the same")


def _check(name: str, law: str, mend: str, run: Callable[[ExplainerSubject], None], gate: bool = False) -> Check:
    return Check(name, "explainer", law, mend, run, gate)


EXPLAINER_CHECKS: tuple[Check, ...] = (
    *common_checks("explainer"),
    _check(
        "can be built",
        "The factory takes a model and the declared parameters; a trained explainer trains with its quick parameters.",
        "Let factory= name a function (model, **params), with state where fit= is set and of where wraps= is.",
        built,
        gate=True,
    ),
    _check(
        "gives a sound map",
        "A batch of B images gives an attribution [B,H,W], floating point and finite, and what else is declared.",
        "Bring the map to the image's height and width, sum or max over channels, and return what gives= promises.",
        sound,
        gate=True,
    ),
    _check(
        "keeps its polarity",
        "Maps declared positive or non_contributing have no value below 0.",
        "Declare polarity='signed', or clamp the map at 0 if that is the method.",
        polarity,
    ),
    _check(
        "explains a batch of one",
        "A batch of one image gives a map [1,H,W].",
        "Reduce named dimensions (dim=1), never squeeze() without one.",
        batch_of_one,
        gate=True,
    ),
    _check(
        "explains images that are not square",
        "Images of any height and width give maps of that height and width.",
        "Take height and width from batch.image.shape[2:], in that order.",
        not_square,
    ),
    _check(
        "explains grey images",
        "Images of one channel are explained as those of three.",
        "Take the channels from batch.image.shape[1].",
        channels,
    ),
    _check(
        "explains a net of one logit",
        "A two-class net of one logit under the sigmoid link is explained for both classes.",
        "Ask model.logits or model.score, which give both classes' logits, instead of the module.",
        one_logit,
    ),
    _check(
        "explains a net of many classes",
        "A net of any number of classes is explained.",
        "Pick the target's logit by batch.target (model.score); declare needs=('two_classes',) if it must be two.",
        many_classes,
    ),
    _check(
        "bears operations in place",
        "A net whose ReLUs overwrite their input gives the map of the same net without that.",
        "Clone what a hook keeps: the next layer may overwrite it.",
        inplace,
    ),
    _check(
        "does not depend on company",
        "A sample's map is the same in any batch, at any place.",
        "Reduce over dim=(1, 2, 3), never over the batch; draw noise from batch.keys (xbench.seeds), never by place.",
        company,
    ),
    _check(
        "same seed, same map",
        "The same batch with the same seed gives the same map, from the same explainer and from one built again.",
        "Draw from batch.keys (xbench.seeds.uniform, normal), not from NumPy, random or a generator kept between calls.",
        same_seed,
    ),
    _check(
        "another seed, another map only if stochastic",
        "Another seed changes some map if stochastic=True is declared, and none if not.",
        "Declare stochastic= as it is, and let every draw come from batch.keys.",
        other_seed,
    ),
    _check(
        "explains the target",
        "For another target class some map is another one; controls need not.",
        "Explain batch.target (model.score(image, batch.target)), not the class predicted.",
        target,
    ),
    *RESIDUE_CHECKS,
    *CONDITION_CHECKS,
)
