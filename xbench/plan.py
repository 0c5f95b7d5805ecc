"""RunConfig -> cells -> units; keys are content hashes. Pure, deterministic, without torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from xbench.cells import Cell, CellPlanner
from xbench.components import Component
from xbench.config import RunConfig
from xbench.data import Index, select
from xbench.errors import XbenchError, did_you_mean
from xbench.events import Event
from xbench.fit_tasks import FitPlanner, FitTask, open_dataset
from xbench.store import Json, Store, slice_size

MODEL_LEVEL_LIMIT = 10_000
"""The most test samples on which a classifier itself (accuracy, AUROC) is measured, whatever the run's ``limit``."""


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
    fits = FitPlanner(config, dataset, test)
    planner = CellPlanner(fits)
    cells: dict[str, Cell] = {}
    for model in config.models:
        for seed in config.seeds:
            for explainer in (None, *config.explainers):
                cell = planner.cell(model, explainer, seed, everything if explainer is None else chosen)
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


def units(plan: Plan, store: Store, skip: Iterable[str] = (), draw: Random | None = None) -> Iterator[Unit]:
    """Yield what is not committed yet, slice by slice, the explainers of one model and slice together.

    ``draw`` shuffles what needs no other model in between, for a run that is not alone: two in one order would for ever do
    the same at the same time.
    """
    groups = [(cells, list(range(cells[0].n_slices))) for cells in grouped(plan, skip)]
    if draw:
        draw.shuffle(groups)
        for cells, parts in groups:
            draw.shuffle(cells)
            draw.shuffle(parts)
    for cells, parts in groups:
        size = slice_size(len(cells[0].selection.ids))
        for part in parts:
            if todo := [cell for cell in cells if not store.committed(cell.key, part, cell.selection.digest)]:
                yield unit(plan, todo, part, slice(part * size, (part + 1) * size))


def grouped(plan: Plan, skip: Iterable[str] = ()) -> list[list[Cell]]:
    """Return the cells that can be computed, but for those of the keys ``skip``, in groups of which a slice is one unit."""
    left_out, together = set(skip), dict[tuple[str, str | None, int, str], list[Cell]]()
    for cell in plan.cells:
        if not cell.unsupported and cell.key not in left_out:
            place = cell.model.text, cell.model_fit, cell.seed, cell.selection.digest
            together.setdefault(place, []).append(cell)
    return list(together.values())


def count_units(plan: Plan) -> int:
    """Return how many units the whole plan has, whatever is committed."""
    return sum(cells[0].n_slices for cells in grouped(plan))


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
    # Tables first: who reads meanwhile finds all that a cell names.
    for selection in {cell.selection.digest: cell.selection for cell in plan.cells}.values():
        table: Json = {"ids": selection.ids, "labels": selection.labels, "groups": selection.groups}
        store.write_samples(selection.digest, table)
    for cell in plan.cells:
        store.define(cell.key, cell.text)
        told = "unsupported", " ".join(cell.unsupported.split())
        if cell.unsupported and store.failure(cell.key) != told:
            store.fail(cell.key, *told)


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
