"""RunConfig -> cells -> units; keys are content hashes. Pure, deterministic, without torch."""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from xbench.codehash import code_hash
from xbench.components import Component, import_attr, needs_unmet
from xbench.config import RunConfig
from xbench.data import Dataset, Index, Selection, select
from xbench.errors import XbenchError, did_you_mean
from xbench.events import Event
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec
from xbench.store import Json, Store, content_key, slice_size

MODEL_LEVEL_LIMIT = 10_000
"""The most test samples on which a classifier itself (accuracy, AUROC) is measured, whatever the run's ``limit``."""

# Raised whenever the harness's own part in a number changes: choice of targets, mean colour, what is stored (columns.py).
CONTENT_SCHEMA = 2


@dataclass(frozen=True)
class FitTask:
    """One artifact to train, and the fits it needs first."""

    key: str
    definition: Json
    component: Component
    seed: int
    data: Component
    data_root: Path | None
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    model: Component | None = None
    model_fit: str | None = None
    after: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.component.text} (seed {self.seed})"


@dataclass(frozen=True)
class Cell:
    """One explainer (or the classifier alone) on one model, data set and seed.

    Attributes
    ----------
    key, definition
        Content key, and what it is the hash of.
    metrics
        Those that apply.
    missing
        Score name -> why it cannot be measured here.
    unsupported
        Why the whole cell cannot be computed, or an empty string.
    """

    key: str
    definition: Json
    model: Component
    model_fit: str | None
    explainer: Component | None
    explainer_fit: str | None
    seed: int
    metrics: tuple[Component, ...]
    selection: Selection
    missing: dict[str, str] = field(default_factory=dict)
    unsupported: str = ""

    @property
    def n_slices(self) -> int:
        """How many slices the cell is committed in."""
        return -(-len(self.selection.ids) // slice_size(len(self.selection.ids)))

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.explainer.text if self.explainer else 'classifier'} on {self.model.text} (seed {self.seed})"


@dataclass(frozen=True)
class Plan:
    """All cells of a run and the fits they need, in an order in which they can be done."""

    config: RunConfig
    test: Index
    cells: tuple[Cell, ...]
    fits: tuple[FitTask, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One cell on one slice: the piece that is committed at once."""

    key: str
    explainer: Component | None
    explainer_fit: str | None
    metrics: tuple[Component, ...]


@dataclass(frozen=True)
class Unit:
    """What a worker takes: one model, one slice of samples, the jobs on them."""

    model: Component
    model_fit: str | None
    seed: int
    data: Component
    data_root: Path | None
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    data_digest: str
    samples_digest: str
    target: str
    part: int
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    jobs: tuple[Job, ...]


Task = FitTask | Unit


class Executor(Protocol):
    """What an executor's factory returns: carries out a run's tasks, wherever that may be."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks that do not depend on each other; yield events as they come, end when all are done."""

    def close(self) -> None:
        """Stop at once; what is committed stays."""


def open_dataset(component: Component, root: Path | None) -> Dataset:
    """Return the data set that a component names."""
    return import_attr(component.spec.factory)(root, **component.params)


def make_plan(config: RunConfig) -> Plan:
    """Return the run's cells and fits.

    Raises
    ------
    XbenchError
        Data are missing, the target is not a class, or nothing matches.
    """
    dataset = open_dataset(config.data, config.data_root)
    test = dataset.index("test")
    if not len(test):
        raise XbenchError(f"the test split of {config.data.text} is empty")
    _check_target(config.target, test)
    chosen, everything = select(test, config.limit), select(test, MODEL_LEVEL_LIMIT)
    data_spec = config.data.spec
    assert isinstance(data_spec, DatasetSpec)
    fits: dict[str, FitTask] = {}
    cells: dict[str, Cell] = {}
    splits: dict[str, Index] = {}

    def split(name: str) -> Index:
        if name not in splits:
            splits[name] = dataset.index(name)
        return splits[name]

    for model in config.models:
        for seed in config.seeds:
            refused = _refused(model, config.data)
            model_fit = None
            if not refused and getattr(model.spec, "fit", None):
                model_fit = _add_fit(fits, config, model, seed, split, test)
            for explainer in (None, *config.explainers):
                cell = _cell(config, test, model, model_fit, explainer, seed, chosen, everything, refused)
                if explainer is not None and not cell.unsupported and getattr(explainer.spec, "fit", None):
                    fit = _add_fit(fits, config, explainer, seed, split, test, model, model_fit)
                    cell = _cell(config, test, model, model_fit, explainer, seed, chosen, everything, refused, fit)
                if cell.metrics or cell.unsupported:
                    cells[cell.key] = cell
    if not cells:
        raise XbenchError("nothing to do: no explainer and no metric is chosen")
    if all(cell.unsupported for cell in cells.values()):
        raise XbenchError(*dict.fromkeys(f"nothing can be computed: {cell.unsupported}" for cell in cells.values()))
    notes = tuple(dict.fromkeys(note for index in (test, *splits.values()) for note in index.notes))
    return Plan(config, test, tuple(cells.values()), tuple(fits.values()), notes)


def units(plan: Plan, store: Store, skip: Iterable[str] = ()) -> Iterator[Unit]:
    """Yield what is not committed yet, slice by slice, the explainers of one model and slice together."""
    config, left_out = plan.config, set(skip)
    together: dict[tuple[str, str | None, int, str], list[Cell]] = {}
    for cell in plan.cells:
        if not cell.unsupported and cell.key not in left_out:
            place = (cell.model.text, cell.model_fit, cell.seed, cell.selection.digest)
            together.setdefault(place, []).append(cell)
    for cells in together.values():
        first = cells[0]
        size = slice_size(len(first.selection.ids))
        for part in range(first.n_slices):
            todo = [cell for cell in cells if not store.committed(cell.key, part)]
            if not todo:
                continue
            rows = slice(part * size, (part + 1) * size)
            yield Unit(
                model=first.model,
                model_fit=first.model_fit,
                seed=first.seed,
                data=config.data,
                data_root=config.data_root,
                shape=plan.test.shape,
                classes=plan.test.classes,
                data_digest=plan.test.digest,
                samples_digest=first.selection.digest,
                target=config.target,
                part=part,
                ids=first.selection.ids[rows],
                labels=first.selection.labels[rows],
                jobs=tuple(Job(cell.key, cell.explainer, cell.explainer_fit, cell.metrics) for cell in todo),
            )


def write_plan(plan: Plan, store: Store) -> None:
    """Write down every cell and sample table, and what cannot be computed with its reason."""
    for cell in plan.cells:
        store.define(cell.key, cell.definition)
        selection = cell.selection
        table: Json = {"ids": selection.ids, "labels": selection.labels, "groups": selection.groups}
        store.write_samples(selection.digest, table)
        if cell.unsupported:
            store.fail(cell.key, "unsupported", cell.unsupported)


def _cell(
    config: RunConfig,
    test: Index,
    model: Component,
    model_fit: str | None,
    explainer: Component | None,
    seed: int,
    chosen: Selection,
    everything: Selection,
    refused: str,
    explainer_fit: str | None = None,
) -> Cell:
    level = "explainer" if explainer else "model"
    data_spec, model_spec = config.data.spec, model.spec
    assert isinstance(data_spec, DatasetSpec)
    assert isinstance(model_spec, ModelSpec)
    gives: tuple[str, ...] = ()
    unsupported, control = refused, False
    if explainer:
        assert isinstance(explainer.spec, ExplainerSpec)
        gives, control = explainer.spec.gives, explainer.spec.control
        unsupported = refused or _unmet(explainer, model_spec, data_spec, len(test.classes))
    metrics: list[Component] = []
    missing: dict[str, str] = {}
    for metric in config.metrics:
        assert isinstance(metric.spec, MetricSpec)
        if metric.spec.level != level:
            continue
        reason = _metric_unmet(metric.spec, data_spec, gives, len(test.classes))
        if reason:
            missing |= {name: reason for name, _ in metric.scores()}
        else:
            metrics.append(metric)
    if explainer and not metrics and not unsupported:
        unsupported = "no metric of the run applies to it: " + (
            "; ".join(dict.fromkeys(missing.values())) or "none is chosen"
        )
    selection = chosen if explainer else everything
    definition: Json = {
        "schema": CONTENT_SCHEMA,
        "suite": config.suite,
        "suite_version": config.suite_version,
        "protocol": config.protocol,
        "data": {**config.data.definition(), "digest": test.digest, "text": config.data.text},
        "classes": list(test.classes),
        "samples": selection.digest,
        "n": len(selection.ids),
        "target": config.target if explainer else None,
        "model": {**model.definition(), "text": model.text},
        "model_fit": model_fit,
        "series": model.series_text,
        "explainer": {**explainer.definition(), "text": explainer.text, "control": control} if explainer else None,
        "explainer_fit": explainer_fit,
        "seed": seed,
        "metrics": [{**metric.definition(), "scores": _facts(metric)} for metric in metrics],
        "missing": missing,
    }
    return Cell(
        key=content_key(definition),
        definition=definition,
        model=model,
        model_fit=model_fit,
        explainer=explainer,
        explainer_fit=explainer_fit,
        seed=seed,
        metrics=tuple(metrics),
        selection=selection,
        missing=missing,
        unsupported=unsupported,
    )


def _unmet(explainer: Component, model: ModelSpec, data: DatasetSpec, n_classes: int) -> str:
    """Return why an explainer, or one that it wraps, cannot work here, or an empty string."""
    assert isinstance(explainer.spec, ExplainerSpec)
    reason = needs_unmet(explainer.spec, model, data.has, n_classes)
    if not reason and explainer.of:
        assert isinstance(explainer.of.spec, ExplainerSpec)
        reason = _unmet(explainer.of, model, data, n_classes)
        if not reason and explainer.of.spec.fit:
            reason = (
                f"wraps {explainer.of.spec.id}, which is trained; only explainers without a training can be wrapped"
            )
    return reason


def _facts(metric: Component) -> list[Json]:
    """Return what a table must know of a metric's scores; it travels with the record, so that tables need no plugins."""
    assert isinstance(metric.spec, MetricSpec)
    return [
        {
            "name": name,
            "family": metric.spec.family,
            "higher_is_better": score.higher_is_better,
            "chance": score.chance,
            "aggregate": score.aggregate,
        }
        for name, score in metric.scores()
    ]


def _metric_unmet(metric: MetricSpec, data: DatasetSpec, gives: Sequence[str], n_classes: int) -> str:
    for need in metric.needs:
        if need == "two_classes":
            if n_classes != 2:
                return f"needs two classes; the data set has {n_classes}"
        elif need in ("attribution", "translation"):
            if {"attribution": "attribution", "translation": "counterfactual"}[need] not in gives:
                return f"needs {need}s; the explainer gives {' and '.join(gives)}"
        elif need not in data.has:
            what = {"swapped": "samples whose shortcut is swapped"}.get(need, f"a {need}")
            return f"needs {what}; {data.id} has none"
    return ""


def _refused(model: Component, data: Component) -> str:
    assert isinstance(model.spec, ModelSpec)
    if any(fnmatch.fnmatchcase(data.spec.id, pattern) for pattern in model.spec.datasets):
        return ""
    return f"{model.spec.id} is for {', '.join(model.spec.datasets)}, not for {data.spec.id}"


def _check_target(target: str, test: Index) -> None:
    options = ("predicted", "label", "annotated", *test.classes)
    if target not in options:
        hint = did_you_mean(target, options) or f"; one of {', '.join(options)}"
        raise XbenchError(f"target={target} is neither a policy nor a class of the data set{hint}")


def _add_fit(
    fits: dict[str, FitTask],
    config: RunConfig,
    component: Component,
    seed: int,
    split: Any,
    test: Index,
    model: Component | None = None,
    model_fit: str | None = None,
) -> str:
    train, valid = split("train"), split("valid")
    if not len(train):
        raise XbenchError(f"{component.text} must be trained, but the training split of {config.data.text} is empty")
    definition: Json = {
        "schema": CONTENT_SCHEMA,
        "component": {name: value for name, value in component.definition().items() if name != "checkpoint"},
        "data": {name: value for name, value in config.data.definition().items() if name != "params"},
        "training": code_hash("xbench.training:train_classifier"),
        "train": train.digest,
        "valid": valid.digest,
        "classes": list(test.classes),
        "shape": list(test.shape),
        "seed": seed,
        "uses": [{**model.definition(), "fit": model_fit}] if model else [],
    }
    key = content_key(definition)
    if key not in fits:
        fits[key] = FitTask(
            key=key,
            definition=definition,
            component=replace(component, checkpoint=None, series=False),
            seed=seed,
            data=config.data,
            data_root=config.data_root,
            shape=test.shape,
            classes=test.classes,
            model=model,
            model_fit=model_fit,
            after=(model_fit,) if model_fit else (),
        )
    return key
