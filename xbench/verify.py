"""Is a run what it says? Every record against its hash, and a random part computed again on the run's own weights.

Scores, predictions and what goes with them sample by sample are computed again. Curves, pictures, costs, ``run.json`` and what
a cell that failed says are held by their hashes alone.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xbench.cells import Cell
from xbench.claims import Claim, read_claims
from xbench.errors import Unsupported, XbenchError
from xbench.plan import Plan
from xbench.plugins import Registry
from xbench.recompute import CannotTell, Recomputation, passes
from xbench.store import is_column, slice_size

TOLERANCE = 1e-4
"""How far a number may lie from the recorded one, relative to it where it is above 1: what another processor, another number
of threads or of images a pass can do."""
_LOOSE = {"tied": 0.01}
"""The share of a map's pixels that tie is told, not scored; a difference in the last digit of a float ties or parts a pixel."""


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
    claims, verdict.damaged = read_claims(place)
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
    again = Recomputation(registry, device)
    for claim in (whole[i] for i in chosen):
        listen(claim.label)
        n = claim.record.definition["n"]
        rows = sorted(draw.sample(range(n), min(samples, n)))
        try:
            plan, cell = again.cell(claim, verdict.mismatches)
            before = len(verdict.mismatches)
            if claim.record.status == "unsupported":
                _cannot_be(claim, again, plan, cell, verdict.mismatches)
            for passed in passes(claim.record, rows) if claim.record.status == "ok" else ():
                verdict.numbers += _compare(claim, passed, again.columns(plan, cell, claim, passed), verdict.mismatches)
                verdict.samples += len(passed)
            verdict.records += len(verdict.mismatches) == before
        except CannotTell as error:
            verdict.unverifiable.append(f"{claim.label}: {error}")
    return verdict


def _cannot_be(claim: Claim, again: Recomputation, plan: Plan, cell: Cell, mismatches: list[str]) -> None:
    """Add a line where a cell that is recorded as impossible is possible."""
    n = claim.record.definition["n"]
    start = claim.record.n_slices * slice_size(n)
    if start >= n:
        mismatches.append(f"{claim.path}: it is recorded as unsupported and holds every score")
    elif not cell.unsupported:
        try:
            again.columns(plan, cell, claim, range(start, min(start + slice_size(n), n)))
        except CannotTell as error:
            if isinstance(error.__cause__, Unsupported):
                return
            raise
        mismatches.append(f"{claim.path}: it is recorded as unsupported, and can be computed")


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
