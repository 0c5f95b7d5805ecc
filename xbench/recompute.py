"""A recorded cell is planned and measured again, on the run's own weights; or why that cannot be done here."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xbench.cells import Cell
from xbench.claims import Claim
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.events import WorkOptions
from xbench.fits import load_fit
from xbench.plan import Plan, make_plan, unit
from xbench.plugins import Registry
from xbench.store import Record, slice_size

if TYPE_CHECKING:
    from xbench.work import Worker


class CannotTell(Exception):
    """Why a record cannot be computed again here."""


class Recomputation:
    """Plans and workers, kept between records of one run."""

    def __init__(self, registry: Registry, device: str) -> None:
        self.registry, self.device = registry, device
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._workers: dict[int, Worker] = {}
        self._kept: dict[tuple[str, int | None], str | None] = {}

    def cell(self, claim: Claim, mismatches: list[str]) -> tuple[Plan, Cell]:
        """Return the planned cell that a claim is about; add a line where its samples are labelled otherwise."""
        if claim.settings not in self._plans:
            try:
                self._plans[claim.settings] = make_plan(make_config(claim.settings, self.registry))
            except XbenchError as error:
                raise CannotTell(f"the run cannot be planned here: {error.lines[0]}") from error
        plan = self._plans[claim.settings]
        found = next((cell for cell in plan.cells if cell.key == claim.record.key), None)
        if found is None:
            raise CannotTell(f"what is installed here would compute something else: {_difference(plan, claim.record)}")
        told = {"ids": found.selection.ids, "labels": found.selection.labels, "groups": found.selection.groups}
        if any(list(claim.table.get(name, ())) != list(values) for name, values in told.items()):
            mismatches.append(f"{claim.path}: its samples have other labels or groups than the data set gives them")
        for fit, checkpoint, sha256, what in (
            (found.model_fit, found.model.checkpoint, claim.record.weights, found.model.text),
            (found.explainer_fit, None, claim.record.trained, found.explainer and found.explainer.text),
            (found.oracle_fit, None, claim.record.oracle, "the independent classifier"),
        ):
            if fit is None or claim.record.status != "ok":
                continue
            kept = self._sha256(fit, checkpoint)
            if kept is None:
                raise CannotTell(f"the weights of {what} are gone from the cache (fit {fit[:12]})")
            if kept != sha256:
                raise CannotTell(f"the weights of {what} in the cache are others than those it was made with")
        return plan, found

    def _sha256(self, fit: str, checkpoint: int | None) -> str | None:
        if (fit, checkpoint) not in self._kept:
            found = load_fit(fit, checkpoint)
            self._kept[fit, checkpoint] = found.sha256 if found else None
        return self._kept[fit, checkpoint]

    def columns(self, plan: Plan, cell: Cell, claim: Claim, rows: range) -> dict[str, np.ndarray]:
        """Return what is measured now on the samples of some rows."""
        from xbench.work import Worker  # imports torch: not before files are known to be whole

        part = rows.start // slice_size(claim.record.definition["n"])
        # As many images a pass as then: what an explainer does in several goes adds up in the same order.
        batch = _images_a_pass(claim.record, part)
        if batch not in self._workers:
            options = WorkOptions(out=claim.path, device=self.device, batch=batch)
            self._workers = {batch: Worker(options, lambda event: None)}
        try:
            return self._workers[batch].measure(unit(plan, [cell], part, slice(rows.start, rows.stop)))
        except Exception as error:
            raise CannotTell(f"it could not be computed again: {type(error).__name__}: {error}") from error


def passes(record: Record, rows: Sequence[int]) -> Iterator[range]:
    """Yield the samples of each pass of the run that holds one of the rows: an explainer may draw its noise by the pass."""
    n = record.definition["n"]
    size = slice_size(n)
    found = set()
    for row in rows:
        part, place = divmod(row, size)
        batch = _images_a_pass(record, part)
        start = part * size + place // batch * batch
        found.add((start, min(start + batch, (part + 1) * size, n)))
    for start, stop in sorted(found):
        yield range(start, stop)


def _images_a_pass(record: Record, part: int) -> int:
    told = record.cost.get("images_a_pass")
    known = told[part] if isinstance(told, list) and part < len(told) else None
    return known if type(known) is int and known > 0 else slice_size(record.definition["n"])


def _difference(plan: Plan, record: Record) -> str:
    """Return in which entries of its definition the nearest planned cell differs from a record."""
    said = _flat(record.definition)

    def away(cell: Cell) -> list[str]:
        made = _flat(cell.definition)
        return sorted(name for name in said.keys() | made.keys() if said.get(name) != made.get(name))

    nearest = min((away(cell) for cell in plan.cells), key=len)
    return ", ".join(nearest[:4]) + (" and more" if len(nearest) > 4 else "") + " changed since"


def _flat(value: object, name: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {key: leaf for inner, each in value.items() for key, leaf in _flat(each, f"{name}.{inner}").items()}
    if isinstance(value, list):
        named = [each.get("id", place) if isinstance(each, dict) else place for place, each in enumerate(value)]
        parts = zip(named, value, strict=True)
        return {key: leaf for place, each in parts for key, leaf in _flat(each, f"{name}.{place}").items()}
    return {name.removeprefix("."): value}
