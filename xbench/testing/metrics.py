"""What every metric keeps: the checks of the scores that it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xbench.checks import ModelTouched, checked, compare, fingerprint
from xbench.columns import Columns
from xbench.components import import_attr, metric_unmet
from xbench.models import Model
from xbench.scene import Backdrop, Curve, Scene
from xbench.seeds import uniform
from xbench.specs import UNBOUNDED, ScoreSpec
from xbench.tensors import Batch, Explanation, make_batch
from xbench.testing.common import common_checks, found_factory
from xbench.testing.law import CannotTell, Check, Failed, NotApplicable
from xbench.testing.subjects import MetricSubject
from xbench.testing.toys import TOY_DATA, TOY_MODEL, Squares, linear

Explain = Callable[[Model, Batch], Explanation]
DATA = Squares((1, 12, 12), 2, count=48, lift=(0.2, 0.25), grain=(0.345, 0.355))
_GRAIN = 0.35
_DRAWS = 8
_ERRORS = 4
_GIVES = ("attribution", "counterfactual")


def _batch() -> Batch:
    index = DATA.index("test")
    return make_batch(DATA.load(index.ids), tuple(index.ids), torch.from_numpy(index.labels), 0, DATA.classes)


def truth(model: Model, batch: Batch) -> Explanation:
    """Return what each pixel adds to the linear model's logit, and the exact counterfactual."""
    return _told(model, batch, 1.0)


def reversed_truth(model: Model, batch: Batch) -> Explanation:
    """Return the opposite of the truth: each sign turned around, and the image changed the other way."""
    return _told(model, batch, -1.0)


def _told(model: Model, batch: Batch, sign: float) -> Explanation:
    image = batch.image.detach().requires_grad_(True)
    with torch.enable_grad():
        gradient = torch.autograd.grad(model.score(image, batch.target).sum(), image)[0]
    maps = sign * (gradient * (batch.image - _GRAIN)).sum(dim=1)
    assert batch.counterfactual is not None
    other = batch.image + sign * (batch.counterfactual - batch.image)
    return Explanation(maps, counterfactual=other, extras=_extras(maps, other, batch, sign))


def _extras(maps: Tensor, other: Tensor, batch: Batch, sign: float) -> dict[str, Tensor]:
    return {
        "total": sign * maps.flatten(1).sum(dim=1),
        "cycle": batch.image,
        "swapped": batch.image,
        "noised": batch.image,
    }


def noise(draw: int) -> Explain:
    """Return an explainer that knows nothing."""

    def explain(model: Model, batch: Batch) -> Explanation:
        maps = uniform(batch.keys, f"kit/{draw}", batch.image.shape[2:])
        found = truth(model, batch)
        return replace(found, attribution=maps, extras={**found.extras, "total": maps.flatten(1).sum(dim=1)})

    return explain


def nothing(model: Model, batch: Batch) -> Explanation:
    """Return blank maps and the images themselves."""
    maps = torch.zeros_like(batch.image[:, 0])
    return Explanation(maps, counterfactual=batch.image, extras=_extras(maps, batch.image, batch, 1.0))


@dataclass
class Looked:
    """A metric's results on a scene, and the scene."""

    found: Mapping[str, Any]
    scene: Scene

    @property
    def columns(self) -> dict[str, Tensor]:
        """The per-sample values and chances, without the curves."""
        return {name: value for name, value in self.found.items() if not isinstance(value, Curve)}


def look(subject: MetricSubject, explain: Explain = truth, batch: Batch | None = None) -> Looked:
    """Measure one explanation of toy samples."""
    batch = batch or _batch()
    model = linear(DATA)
    index = DATA.index("test")
    oracle = linear(DATA) if "oracle" in subject.spec.uses else None
    backdrop = Backdrop(model, batch, torch.full((1,), 0.37), classes=index.classes, oracle=oracle)
    if subject.spec.level == "model":
        scene = Scene(backdrop)
    else:

        def rebind(other: Model) -> Callable[[Batch], Explanation]:
            return lambda part: checked(explain(other, part), part)

        scene = Scene(backdrop, rebind(model)(batch.clone()), rebind=rebind)
    return Looked(import_attr(subject.spec.factory)(**subject.component.params)(scene), scene)


def built(subject: MetricSubject) -> None:
    """Build it, where the toys have what it needs."""
    found_factory(subject)
    if why := metric_unmet(subject.spec, TOY_MODEL, TOY_DATA, _GIVES, DATA.classes):
        raise CannotTell(f"the toys cannot give what it wants: it {why}")
    import_attr(subject.spec.factory)(**subject.component.params)


def declared(subject: MetricSubject) -> None:
    """Hand the results to what stores them."""
    wide = tuple(replace(score, bounds=UNBOUNDED) for score in subject.spec.scores)
    component = replace(subject.component, spec=replace(subject.spec, scores=wide))
    looked = look(subject)
    try:
        Columns().add_scores(component, dict(looked.found), looked.scene)
    except ValueError as error:
        raise Failed(str(error)) from error


def bounds(subject: MetricSubject) -> None:
    """Compare scores of true, reversed, random and blank maps with the bounds."""
    for name, explain in (("true", truth), ("reversed", reversed_truth), ("random", noise(0)), ("blank", nothing)):
        found = look(subject, explain).columns
        for score in (one for one in subject.spec.scores if one.aggregate != "auroc"):
            low, high = score.bounds
            values = found[score.name]
            beyond = values[(values < low - 1e-6) | (values > high + 1e-6)]
            if len(beyond):
                raise Failed(
                    f"{score.name} is {float(beyond[0]):.4g} for {name} maps; its bounds are {low:g} to {high:g}"
                )


def direction(subject: MetricSubject) -> None:
    """Compare the truth with its opposite; for a metric of the classifier, right labels with wrong ones."""
    ranked = [score for score in subject.spec.scores if score.higher_is_better is not None]
    if not ranked:
        raise NotApplicable("no score of it ranks (higher_is_better is None)")
    if subject.spec.level == "model":
        batch = _batch()
        wrong = replace(batch, label=1 - batch.label, target=1 - batch.target)
        good, bad, words = look(subject, batch=batch), look(subject, batch=wrong), "right labels, {:.4g} wrong ones"
    else:
        good, bad, words = look(subject), look(subject, reversed_truth), "the truth, {:.4g} its opposite"
    for score in ranked:
        one, other = _summary(score, good), _summary(score, bad)
        if one != one or other != other:
            continue
        if (one - other) * (1 if score.higher_is_better else -1) < -1e-6:
            better = "higher" if score.higher_is_better else "lower"
            raise Failed(f"{score.name}, of which {better} is better, gives {one:.4g} to {words.format(other)}")


def _summary(score: ScoreSpec, looked: Looked) -> float:
    values = looked.columns[score.name].double()
    if score.aggregate != "auroc":
        return float(values.nanmean())
    positive = looked.scene.batch.label == 1
    above = values[positive][:, None] - values[~positive][None]
    return float(((above > 0).double() + (above == 0).double() / 2).mean())


def chance(subject: MetricSubject) -> None:
    """Average random maps."""
    known = [score for score in subject.spec.scores if score.chance is not None]
    if not known:
        raise NotApplicable("it declares no chance")
    if subject.spec.level == "model":
        raise NotApplicable("chance of a classifier is not tried with maps")
    if "attribution" not in subject.spec.needs:
        raise NotApplicable("it measures translations, of which none knows nothing")
    drawn = [look(subject, noise(draw)).columns for draw in range(_DRAWS)]
    for score in known:
        if score.chance == "per_sample":
            off = [one[score.name].double() - one[f"{score.name}.chance"].double() for one in drawn]
        else:
            off = [one[score.name].double() - float(score.chance or 0) for one in drawn]
        mean = torch.stack(off).nanmean(dim=0)
        mean = mean[~mean.isnan()]
        error = float(mean.std() / len(mean) ** 0.5)
        if abs(float(mean.mean())) > _ERRORS * error + 1e-6:
            raise Failed(
                f"{score.name} of random maps is off its declared chance by {float(mean.mean()):+.4g} on average over "
                f"{len(mean)} samples of {_DRAWS} draws (standard error {error:.2g})"
            )


def company(subject: MetricSubject) -> None:
    """Compare samples together with samples in parts, and in the other order."""
    batch = _batch()
    whole = look(subject, batch=batch).columns
    parts = [look(subject, batch=batch.take(part)).columns for part in (slice(0, 1), slice(1, 20), slice(20, 48))]
    _equal(whole, {name: torch.cat([part[name] for part in parts]) for name in whole}, "in batches of 1, 19 and 28")
    back = replace(batch._map(lambda tensor: tensor.flip(0)), sample_id=batch.sample_id[::-1])
    turned = look(subject, batch=back).columns
    _equal(whole, {name: value.flip(0) for name, value in turned.items()}, "in the other order")


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    for name, value in one.items():
        same = torch.isclose(value.double(), other[name].double(), atol=2e-5, rtol=1e-4, equal_nan=True)
        if not same.all():
            place = int((~same).flatten(1).any(dim=1).int().argmax()) if value.ndim > 1 else int((~same).int().argmax())
            raise Failed(
                f"{name} of sample {place} is {value[place].flatten()[0]:.5g} among 48, "
                f"{other[name][place].flatten()[0]:.5g} {where}"
            )


def value(subject: MetricSubject) -> None:
    """Count undefined scores of ordinary maps."""
    found = look(subject).columns
    for score in subject.spec.scores:
        values = found[score.name]
        without = values.isnan().flatten(1).any(dim=1) if values.ndim > 1 else values.isnan()
        if without.any():
            raise Failed(f"{score.name} is NaN for {int(without.sum())} of {len(values)} ordinary samples")


def untouched(subject: MetricSubject) -> None:
    """Compare images, truth, maps and model before and after."""
    batch = _batch()
    kept = batch.clone()
    watched: dict[str, Tensor] = {}
    state: list[tuple[Any, Any]] = []

    def explain(model: Model, part: Batch) -> Explanation:
        found = truth(model, part)
        if not watched:
            watched.update(maps=found.attribution, copy=found.attribution.clone())
            state.append((model.module, fingerprint(model.module)))
        return found

    look(subject, explain, batch)
    for name in ("image", "mask", "label", "target", "keys", "counterfactual", "shortcut", "swapped"):
        if not torch.equal(getattr(batch, name), getattr(kept, name)):
            raise Failed(f"batch.{name} is another one afterwards")
    if watched and not torch.equal(watched["maps"], watched["copy"]):
        raise Failed("the explanation's attribution is another one afterwards")
    for module, before in state:
        try:
            compare(before, module)
        except ModelTouched as error:
            raise Failed(str(error).replace("the explainer", "the metric")) from error


def _check(name: str, law: str, mend: str, run: Callable[[MetricSubject], None], gate: bool = False) -> Check:
    return Check(name, "metric", law, mend, run, gate)


METRIC_CHECKS: tuple[Check, ...] = (
    *common_checks("metric"),
    _check(
        "can be built",
        "The factory takes the declared parameters and returns a callable.",
        "Let factory= name a function (**params) that returns a function of a Scene.",
        built,
        gate=True,
    ),
    _check(
        "gives the scores it declares",
        "Every declared score comes as a tensor [B] (with its chance, where that is per sample), and no other.",
        "Return {score name: tensor [B]} for each ScoreSpec, and '<name>.chance' where chance='per_sample'.",
        declared,
        gate=True,
    ),
    _check(
        "keeps its bounds",
        "Scores of true, reversed, random and blank maps lie within the declared bounds.",
        "Correct bounds= of the ScoreSpec, or divide by what makes the score lie within.",
        bounds,
    ),
    _check(
        "knows which way is better",
        "On a linear classifier the true map scores no worse than its opposite.",
        "Turn higher_is_better around, or the sign of the score.",
        direction,
    ),
    _check(
        "reaches its chance",
        "Random maps score the declared chance on average, within four standard errors.",
        "Correct chance=: a number, or 'per_sample' with a column '<name>.chance' where it hangs on the sample.",
        chance,
    ),
    _check(
        "does not depend on company",
        "A sample's scores are the same in any batch, at any place.",
        "Reduce over dim=1 or dim=(1, 2), never over the batch; draw noise from batch.keys (xbench.seeds).",
        company,
    ),
    _check(
        "has a value for ordinary maps",
        "Only what is documented as undefined (a blank map, an empty mask) is NaN: ordinary samples have every score.",
        "Guard divisions and logarithms; or declare, under known_failures, for which maps the score is made.",
        value,
    ),
    _check(
        "leaves the scene as it was",
        "Images, truth, maps and network are afterwards what they were.",
        "Work on clones: scene.batch and scene.explanation are shared with every other metric.",
        untouched,
    ),
)
