"""One cell of a plan: what of it can be measured, and the key that stands for all that can change its numbers."""

import fnmatch
import hashlib
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from xbench.components import Component, explainer_unmet, metric_unmet, score_facts
from xbench.data import Selection
from xbench.fit_tasks import CONTENT_SCHEMA, ORACLE_SEED, FitPlanner
from xbench.keys import Json, canonical_text, encoded, slice_size
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, Spec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """One explainer (or the classifier alone) on one model, data set and seed.

    Attributes
    ----------
    key
        Content key: the SHA-256 of the definition's canonical JSON.
    metrics
        Those that apply.
    missing
        Score name -> why it cannot be measured here.
    unsupported
        Why the whole cell cannot be computed, or an empty string.
    shared
        The definition's canonical JSON in pieces, which other cells have too: between them stand the fits and the seed.
    """

    key: str
    model: Component
    model_fit: str | None
    explainer: Component | None
    explainer_fit: str | None
    oracle_fit: str | None
    seed: int
    metrics: tuple[Component, ...]
    selection: Selection
    missing: dict[str, str]
    unsupported: str
    shared: tuple[str, ...] = field(repr=False)

    @property
    def text(self) -> str:
        """What the key is the hash of, as canonical JSON."""
        before, metrics, model, size, samples, rest = self.shared
        explainer_fit, model_fit, oracle_fit = map(_value, (self.explainer_fit, self.model_fit, self.oracle_fit))
        own = f"{before}{explainer_fit}{metrics}{model}{model_fit}{size}{oracle_fit}"
        return f"{own}{samples}{self.seed}{rest}"

    @property
    def definition(self) -> Json:
        """What the key is the hash of, made anew: a plan of many cells holds only what they do not share."""
        return dict(json.loads(self.text))

    @property
    def n_slices(self) -> int:
        """How many slices the cell is committed in."""
        return -(-len(self.selection.ids) // slice_size(len(self.selection.ids)))

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.explainer.text if self.explainer else 'classifier'} on {self.model.text} (seed {self.seed})"


@dataclass(frozen=True)
class _Choice:
    """The metrics that apply, why the others do not, whether one asks an independent classifier; and what a definition says."""

    metrics: tuple[Component, ...]
    missing: dict[str, str]
    asks: bool
    text: str


@dataclass(frozen=True)
class _Pair:
    """What a model and an explainer have in common for all seeds; ``front`` has hashed what comes before the model."""

    refused: str
    useless: str
    choice: _Choice
    shared: tuple[str, ...]
    front: Any


class CellPlanner:
    """Makes the cells of a run; what many of them share is worked out, written and hashed once.

    Parameters
    ----------
    fits
        Knows the run and its data, and collects the trainings that the cells rest on.
    """

    def __init__(self, fits: FitPlanner) -> None:
        self.fits = fits
        # Components go by their identity: the run's settings keep them alive.
        self._made: dict[Hashable, Any] = {}

    def cell(self, model: Component, explainer: Component | None, seed: int, selection: Selection) -> Cell:
        """Return the cell of one explainer, or of the classifier alone, on the samples chosen."""
        fits, test = self.fits, self.fits.test
        pair = self._once((id(model), id(explainer)), lambda: self._pair(model, explainer, selection))
        unsupported, choice = pair.refused, pair.choice
        if explainer and not unsupported and (stored := explainer.innermost.stored):
            target = fits.config.target
            unsupported = stored.unmet(test.digest, model.text, seed, target, test.shape[1:], selection.ids)
        unsupported = unsupported or pair.useless
        model_fit = explainer_fit = oracle_fit = None
        if not unsupported:
            model_fit = fits.classifier(model, seed)
            if explainer and getattr(explainer.spec, "fit", None):
                explainer_fit = fits.explainer(explainer, seed, model, model_fit)
            if choice.asks:
                trained = self._once(("trained", id(model)), lambda: model.trained)
                oracle_fit = fits.classifier(trained, seed + ORACLE_SEED)
        before, metrics, network, size, samples, rest = pair.shared
        if explainer_fit is None:
            digest = pair.front.copy()
        else:
            digest = hashlib.sha256(encoded(f"{before}{_value(explainer_fit)}{metrics}"))
        digest.update(encoded(f"{network}{_value(model_fit)}{size}{_value(oracle_fit)}{samples}{seed}{rest}"))
        return Cell(
            key=digest.hexdigest(),
            model=model,
            model_fit=model_fit,
            explainer=explainer,
            explainer_fit=explainer_fit,
            oracle_fit=oracle_fit,
            seed=seed,
            metrics=choice.metrics,
            selection=selection,
            missing=choice.missing,
            unsupported=unsupported,
            shared=pair.shared,
        )

    def _pair(self, model: Component, explainer: Component | None, selection: Selection) -> _Pair:
        data_spec, model_spec = self.fits.config.data.spec, model.network.spec
        assert isinstance(data_spec, DatasetSpec)
        assert isinstance(model_spec, ModelSpec)
        refused, network, rest = self._once((id(model), explainer is None), partial(self._network, model, explainer))
        gives: tuple[str, ...] = ()
        level, useless = "model", ""
        if explainer:
            assert isinstance(explainer.spec, ExplainerSpec)
            level, gives = "explainer", explainer.spec.gives
            refused = refused or explainer_unmet(explainer, model_spec, data_spec, len(self.fits.test.classes))
        choice: _Choice = self._once(
            (id(model_spec), gives, level), lambda: self._choice(model_spec, data_spec, gives, level)
        )
        if explainer and not choice.metrics:
            useless = "no metric of the run applies to it: " + (
                "; ".join(dict.fromkeys(choice.missing.values())) or "none is chosen"
            )
        before = self._once(("before", id(explainer)), partial(self._before, explainer))
        size, samples = self._once(("samples", level), partial(self._samples, selection))
        front = self._once(
            ("front", id(explainer), id(choice)), lambda: hashlib.sha256(encoded(f"{before}null{choice.text}"))
        )
        return _Pair(refused, useless, choice, (before, choice.text, network, size, samples, rest), front)

    def _choice(self, model: ModelSpec, data: DatasetSpec, gives: tuple[str, ...], level: str) -> _Choice:
        classes = self.fits.test.classes
        metrics: list[Component] = []
        missing: dict[str, str] = {}
        for metric in self.fits.config.metrics:
            assert isinstance(metric.spec, MetricSpec)
            if metric.spec.level != level:
                continue
            reason = metric_unmet(metric.spec, model, data, gives, len(classes))
            if (source := metric.params.get("from")) and source not in classes:
                reason = f"the data set has no class {source!r}; it has {', '.join(classes)}"
            if reason:
                missing |= {name: reason for name, _ in metric.scores()}
            else:
                metrics.append(metric)
        asks = any("oracle" in getattr(metric.spec, "uses", ()) for metric in metrics)
        facts = [self._once(("metric", id(each)), partial(_facts, each)) for each in metrics]
        text = f',{_members(metrics=facts, missing=missing)},"model":'
        # One for all models that come to the same.
        return self._once(("choice", text), lambda: _Choice(tuple(metrics), missing, asks, text))

    # The pieces of a definition's canonical JSON, in the order of its keys.

    def _before(self, explainer: Component | None) -> str:
        config, test = self.fits.config, self.fits.test
        value: Json | None = None
        if explainer:
            control = getattr(explainer.spec, "control", False)
            value = {**explainer.definition(), "text": explainer.shown, "control": control}
        data = {**config.data.definition(), "digest": test.digest, "text": config.data.text}
        return f'{{{_members(classes=list(test.classes), data=data, explainer=value)},"explainer_fit":'

    def _network(self, model: Component, explainer: Component | None) -> tuple[str, str, str]:
        config = self.fits.config
        named = canonical_text({**model.definition(), "text": model.text})
        target, suite = (
            config.target if explainer else None,
            {"suite": config.suite, "suite_version": config.suite_version},
        )
        rest = _members(series=model.series_text, target=target, **suite)
        return _refused(model.network.spec, config.data.spec), f'{named},"model_fit":', f",{rest}}}"

    def _samples(self, selection: Selection) -> tuple[str, str]:
        inner = _members(protocol=self.fits.config.protocol, samples=selection.digest, schema=CONTENT_SCHEMA)
        return f',"n":{len(selection.ids)},"oracle_fit":', f',{inner},"seed":'

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found


def _members(**values: object) -> str:
    """Return some members of a canonical JSON object."""
    return canonical_text(values)[1:-1]


def _value(key: str | None) -> str:
    """Return a fit's key, which is plain, as JSON."""
    return "null" if key is None else f'"{key}"'


def _facts(metric: Component) -> Json:
    return {**metric.definition(), "scores": score_facts(metric)}


def _refused(model: Spec, data: Spec) -> str:
    assert isinstance(model, ModelSpec)
    if any(fnmatch.fnmatchcase(data.id, pattern) for pattern in model.datasets):
        return ""
    return f"{model.id} is for {', '.join(model.datasets)}, not for {data.id}"
