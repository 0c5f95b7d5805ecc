"""Is a run what it says? Every record against its hash, and a random part computed again on the run's own weights.

Scores, predictions and what goes with them sample by sample are computed again. Curves, pictures, costs, ``run.json`` and what
a cell that failed says are held by their hashes alone.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xbench.cells import Cell
from xbench.config import make_config
from xbench.errors import Unsupported, XbenchError
from xbench.events import WorkOptions
from xbench.evidence import Changed, Evidence, suites
from xbench.fits import load_fit
from xbench.manifest import run_folder
from xbench.plan import Plan, make_plan, unit
from xbench.plugins import Registry
from xbench.record import for_tables
from xbench.store import Json, Record, Store, is_column, slice_size

if TYPE_CHECKING:
    from xbench.work import Worker

TOLERANCE = 1e-4
"""How far a number may lie from the recorded one, relative to it where it is above 1: what another processor, another number
of threads or of images a pass can do."""
_LOOSE = {"tied": 0.01}
"""The share of a map's pixels that tie is told, not scored; a difference in the last digit of a float ties or parts a pixel."""


@dataclass(frozen=True)
class Claim:
    """A record and what is needed to make it again.

    Attributes
    ----------
    label
        What it is, for a reader.
    path
        The file, or the folder, that holds it.
    record, table
        What is said, and of which samples.
    settings
        The run's settings as ``key=value``.
    """

    label: str
    path: Path
    record: Record
    table: Json
    settings: tuple[str, ...]


@dataclass
class Verdict:
    """What was found.

    Attributes
    ----------
    damaged
        Files that are not what their hash says.
    mismatches
        Numbers that came out otherwise, a line each.
    unverifiable
        Why a record that was drawn could not be computed again, a line each.
    records, samples, numbers
        How much was computed again and agrees.
    seed
        What the draw hangs on.
    """

    seed: int
    damaged: list[Path] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)
    records: int = 0
    samples: int = 0
    numbers: int = 0

    @property
    def sound(self) -> bool:
        """Whether all files are whole, and all that was drawn was computed again and agrees."""
        return not (self.damaged or self.mismatches or self.unverifiable) and self.records > 0

    def lines(self) -> list[str]:
        """Return the verdict in words."""
        if self.damaged:
            return [f"damaged: {path} is not what its hash says" for path in self.damaged]
        lines = [f"mismatch: {line}" for line in self.mismatches]
        lines += [f"not verified: {line}" for line in self.unverifiable]
        lines.append(
            f"{self.records} records computed again on {self.samples} samples: {self.numbers} numbers agree to "
            f"{TOLERANCE:g} (--seed {self.seed} draws the same again)"
        )
        return lines


def verify(
    place: Path,
    registry: Registry,
    cells: int = 3,
    samples: int = 3,
    seed: int | None = None,
    device: str = "auto",
    listen: Callable[[str], None] = lambda label: None,
) -> Verdict:
    """Check every record of a run, of a leaderboard or of one accepted record, and compute a random part again.

    Parameters
    ----------
    place
        A run's folder, a leaderboard's folder, or a file of ``leaderboard/records``.
    registry
        What is installed.
    cells, samples
        How many records are drawn, and how many samples of each; whatever shared a pass with a sample is computed with it.
    seed
        The draw's; None draws one.
    device
        Where to compute.
    listen
        Hears what is computed next.

    Raises
    ------
    XbenchError
        There is nothing to verify.
    """
    verdict = Verdict(random.SystemRandom().randrange(10**6) if seed is None else seed)
    claims, verdict.damaged = _claims(place)
    if verdict.damaged:
        return verdict
    whole = [claim for claim in claims if claim.record.status in ("ok", "unsupported")]
    if not any(claim.record.status == "ok" for claim in whole):
        raise XbenchError(f"{place} holds no whole record that could be computed again")
    for claim in claims:
        if claim not in whole:
            verdict.unverifiable.append(f"{claim.label}: {claim.record.status}: {claim.record.reason}")
    draw = random.Random(verdict.seed)
    chosen = sorted(draw.sample(range(len(whole)), min(cells, len(whole))))
    again = _Again(registry, device)
    for claim in (whole[i] for i in chosen):
        listen(claim.label)
        n = claim.record.definition["n"]
        rows = sorted(draw.sample(range(n), min(samples, n)))
        try:
            plan, cell = again.cell(claim, verdict.mismatches)
            before = len(verdict.mismatches)
            if claim.record.status == "unsupported":
                _cannot_be(claim, again, plan, cell, verdict.mismatches)
            for passed in _passes(claim.record, rows) if claim.record.status == "ok" else ():
                verdict.numbers += _compare(claim, passed, again.columns(plan, cell, claim, passed), verdict.mismatches)
                verdict.samples += len(passed)
            verdict.records += len(verdict.mismatches) == before
        except _CannotTell as error:
            verdict.unverifiable.append(f"{claim.label}: {error}")
    return verdict


class _CannotTell(Exception):
    """Why a record cannot be computed again here."""


def _cannot_be(claim: Claim, again: "_Again", plan: Plan, cell: Cell, mismatches: list[str]) -> None:
    """Add a line where a cell that is recorded as impossible is possible."""
    n = claim.record.definition["n"]
    start = claim.record.n_slices * slice_size(n)
    if start >= n:
        mismatches.append(f"{claim.path}: it is recorded as unsupported and holds every score")
    elif not cell.unsupported:
        try:
            again.columns(plan, cell, claim, range(start, min(start + slice_size(n), n)))
        except _CannotTell as error:
            if isinstance(error.__cause__, Unsupported):
                return
            raise
        mismatches.append(f"{claim.path}: it is recorded as unsupported, and can be computed")


def _claims(place: Path) -> tuple[list[Claim], list[Path]]:
    """Return the records in a place, and its damaged files; where there are such, no records."""
    if (place / "run.json").exists():
        store = Store(place)
        if damaged := store.check():
            return [], damaged
        keys, _, manifest = run_folder(place)
        settings = manifest.get("settings")
        if manifest.get("suite") == "evaluate":
            raise XbenchError(f"{place} holds scores of maps made elsewhere, which cannot be computed again")
        if not isinstance(settings, list):
            raise XbenchError(
                f"{place} was made by an older xbench, which did not write down its settings; run it again"
            )
        return [_claim(store.folder(key), store.read(key), store, settings) for key in keys], []
    if not place.is_file() and not (place / "records").is_dir():
        raise XbenchError(f"{place} is neither a run's folder, nor a leaderboard's, nor a file of accepted records")
    try:
        accepted = [Evidence(place.parent, place)] if place.is_file() else suites(place)
        return [
            _claim(path, evidence.read(key), evidence, evidence.content(key)["run"]["settings"])
            for evidence in accepted
            for key, path in evidence.paths.items()
        ], []
    except Changed as error:
        return [], error.paths


def _claim(path: Path, record: Record, records: "Store | Evidence", settings: Sequence[str]) -> Claim:
    cell = for_tables(record).definition
    who = cell["explainer"]["text"] if cell["explainer"] else "classifier"
    label = f"{who} on {cell['model']['text']} (seed {cell['seed']}), {cell['data']['text']}"
    return Claim(label, path, record, records.samples(cell["samples"]), tuple(settings))


class _Again:
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
                raise _CannotTell(f"the run cannot be planned here: {error.lines[0]}") from error
        plan = self._plans[claim.settings]
        found = next((cell for cell in plan.cells if cell.key == claim.record.key), None)
        if found is None:
            raise _CannotTell(f"what is installed here would compute something else: {_difference(plan, claim.record)}")
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
                raise _CannotTell(f"the weights of {what} are gone from the cache (fit {fit[:12]})")
            if kept != sha256:
                raise _CannotTell(f"the weights of {what} in the cache are others than those it was made with")
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
            raise _CannotTell(f"it could not be computed again: {type(error).__name__}: {error}") from error


def _passes(record: Record, rows: Sequence[int]) -> Iterator[range]:
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


def _compare(claim: Claim, rows: range, found: dict[str, np.ndarray], mismatches: list[str]) -> int:
    """Add a line for every column that differs; return how many numbers agree."""
    agree = 0
    columns = {name: values for name, values in claim.record.arrays.items() if is_column(name)}
    if odd := sorted(columns.keys() ^ {name for name in found if is_column(name)}):
        mismatches.append(f"{claim.path}: {', '.join(odd)}: recorded and not measured, or measured and not recorded")
    for name in columns.keys() & found.keys():
        said, made = columns[name][rows.start : rows.stop], found[name]
        if said.shape != made.shape:
            mismatches.append(
                f"{claim.path}: {name} has shape {said.shape} on these samples and comes out as {made.shape}"
            )
            continue
        said, made = said.astype(np.float64), made.astype(np.float64)
        near = np.isclose(made, said, rtol=TOLERANCE, atol=_LOOSE.get(name, TOLERANCE), equal_nan=True)
        agree += int(near.sum())
        if not near.all():
            place = tuple(np.argwhere(~near)[0])
            sample = claim.table["ids"][rows.start + place[0]]
            mismatches.append(
                f"{claim.path}: {name} of {sample} is recorded as {said[place]:.6g} and comes out as {made[place]:.6g}"
                f" ({(~near).sum()} of {near.size} numbers differ)"
            )
    return agree


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
