"""RunConfig -> cells -> units; keys are content hashes. Pure, deterministic, without torch."""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xbench.components import Component, explainer_unmet, metric_unmet, score_facts
from xbench.config import RunConfig
from xbench.data import Index, Selection, select
from xbench.errors import XbenchError, did_you_mean
from xbench.events import Event
from xbench.fit_tasks import CONTENT_SCHEMA, ORACLE_SEED, FitPlanner, FitTask, open_dataset
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec
from xbench.store import Json, Store, content_key, slice_size

MODEL_LEVEL_LIMIT = 10_000
"""The most test samples on which a classifier itself (accuracy, AUROC) is measured, whatever the run's ``limit``."""


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
    oracle_fit: str | None
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
    oracle_fit: str | None = None


Task = FitTask | Unit


class Executor(Protocol):
    """What an executor's factory returns: carries out a run's tasks, wherever that may be."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Event]:
        """Carry out tasks that do not depend on each other; yield events as they come, end when all are done."""

    def close(self) -> None:
        """Stop at once; what is committed stays."""


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
    fits = FitPlanner(config, dataset, test)
    cells: dict[str, Cell] = {}
    for model in config.models:
        for seed in config.seeds:
            for explainer in (None, *config.explainers):
                cell = _cell(fits, model, explainer, seed, everything if explainer is None else chosen)
                if cell.metrics or cell.unsupported:
                    cells[cell.key] = cell
    if not cells:
        raise XbenchError("nothing to do: no explainer and no metric is chosen")
    _check_stored(cells.values())
    if all(cell.unsupported for cell in cells.values()):
        raise XbenchError(*dict.fromkeys(f"nothing can be computed: {cell.unsupported}" for cell in cells.values()))
    read = [note for index in (test, *fits.splits.values()) for note in index.notes]
    notes = tuple(dict.fromkeys([*read, *config.notes]))
    return Plan(config, test, tuple(cells.values()), tuple(fits.tasks.values()), notes)


def units(plan: Plan, store: Store, skip: Iterable[str] = ()) -> Iterator[Unit]:
    """Yield what is not committed yet, slice by slice, the explainers of one model and slice together."""
    left_out = set(skip)
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
            yield unit(plan, todo, part, slice(part * size, (part + 1) * size))


def unit(plan: Plan, cells: Sequence[Cell], part: int, rows: slice) -> Unit:
    """Return the work on some samples of cells that share a model, its weights and the sample set."""
    config, first = plan.config, cells[0]
    return Unit(
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
        jobs=tuple(Job(cell.key, cell.explainer, cell.explainer_fit, cell.metrics) for cell in cells),
        oracle_fit=next((cell.oracle_fit for cell in cells if cell.oracle_fit), None),
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


def _cell(fits: FitPlanner, model: Component, explainer: Component | None, seed: int, selection: Selection) -> Cell:
    config, test = fits.config, fits.test
    level = "explainer" if explainer else "model"
    data_spec, model_spec = config.data.spec, model.network.spec
    assert isinstance(data_spec, DatasetSpec)
    assert isinstance(model_spec, ModelSpec)
    gives: tuple[str, ...] = ()
    unsupported: str = _refused(model, config.data)
    control: bool | str = False
    if explainer:
        assert isinstance(explainer.spec, ExplainerSpec)
        gives, control = explainer.spec.gives, explainer.spec.control
        unsupported = unsupported or explainer_unmet(explainer, model_spec, data_spec, len(test.classes))
        if stored := explainer.innermost.stored:
            unsupported = unsupported or stored.unmet(
                test.digest, model.text, seed, config.target, test.shape[1:], selection.ids
            )
    metrics: list[Component] = []
    missing: dict[str, str] = {}
    for metric in config.metrics:
        assert isinstance(metric.spec, MetricSpec)
        if metric.spec.level != level:
            continue
        reason = metric_unmet(metric.spec, model_spec, data_spec, gives, len(test.classes))
        if (source := metric.params.get("from")) and source not in test.classes:
            reason = f"the data set has no class {source!r}; it has {', '.join(test.classes)}"
        if reason:
            missing |= {name: reason for name, _ in metric.scores()}
        else:
            metrics.append(metric)
    if explainer and not metrics and not unsupported:
        unsupported = "no metric of the run applies to it: " + (
            "; ".join(dict.fromkeys(missing.values())) or "none is chosen"
        )
    model_fit = explainer_fit = oracle_fit = None
    if not unsupported:
        model_fit = fits.classifier(model, seed)
        if explainer and getattr(explainer.spec, "fit", None):
            explainer_fit = fits.explainer(explainer, seed, model, model_fit)
        if any("oracle" in getattr(metric.spec, "uses", ()) for metric in metrics):
            oracle_fit = fits.classifier(model.trained, seed + ORACLE_SEED)
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
        "explainer": {**explainer.definition(), "text": explainer.shown, "control": control} if explainer else None,
        "explainer_fit": explainer_fit,
        "oracle_fit": oracle_fit,
        "seed": seed,
        "metrics": [{**metric.definition(), "scores": score_facts(metric)} for metric in metrics],
        "missing": missing,
    }
    return Cell(
        key=content_key(definition),
        definition=definition,
        model=model,
        model_fit=model_fit,
        explainer=explainer,
        explainer_fit=explainer_fit,
        oracle_fit=oracle_fit,
        seed=seed,
        metrics=tuple(metrics),
        selection=selection,
        missing=missing,
        unsupported=unsupported,
    )


def _refused(model: Component, data: Component) -> str:
    spec = model.network.spec
    assert isinstance(spec, ModelSpec)
    if any(fnmatch.fnmatchcase(data.spec.id, pattern) for pattern in spec.datasets):
        return ""
    return f"{spec.id} is for {', '.join(spec.datasets)}, not for {data.spec.id}"


def _check_stored(cells: Iterable[Cell]) -> None:
    """Raise XbenchError where maps that were named fit no cell of the run: nothing may be trained for a wrong folder."""
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.explainer and cell.explainer.innermost.stored:
            reasons.setdefault(cell.explainer.text, []).append(cell.unsupported)
    useless = [f"{text}: {line}" for text, told in reasons.items() if all(told) for line in dict.fromkeys(told)]
    if useless:
        raise XbenchError(*useless)


def _check_target(target: str, test: Index) -> None:
    options = ("predicted", "label", "annotated", *test.classes)
    if target not in options:
        hint = did_you_mean(target, options) or f"; one of {', '.join(options)}"
        raise XbenchError(f"target={target} is neither a policy nor a class of the data set{hint}")
