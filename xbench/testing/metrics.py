"""What every metric keeps: the checks of the scores that it gives."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xbench.checks import ModelTouched, compare, fingerprint
from xbench.columns import Columns
from xbench.components import import_attr, metric_unmet
from xbench.models import Model
from xbench.specs import UNBOUNDED, ScoreSpec
from xbench.tensors import Batch, Explanation
from xbench.testing.common import common_checks, found_factory
from xbench.testing.law import CannotTell, Check, Failed, NotApplicable
from xbench.testing.scenes import DATA, Looked, look, noise, nothing, reversed_truth, toy_samples, truth
from xbench.testing.subjects import MetricSubject
from xbench.testing.toys import TOY_DATA, TOY_MODEL

_DRAWS = 8
_ERRORS = 4
_GIVES = ("attribution", "counterfactual")


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
        batch = toy_samples()
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
    batch = toy_samples()
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
    batch = toy_samples()
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
