"""The explainers of a classifier ranked on every patient, from the records: their mean ranks, and who is told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xbench.errors import XbenchError, did_you_mean
from xbench.friedman import Friedman, friedman
from xbench.leaderboard import read_measured
from xbench.paired import ALPHA
from xbench.refs import matching
from xbench.rows import Measured, Row
from xbench.stats import Estimate
from xbench.store import Store

FEWEST = 3
"""Explainers without which there is no order to test; two are what `xbench compare` is for."""

FEWEST_BLOCKS = 5
"""Blocks, not all tied, from which on the F approximation holds: with 5 it errs in at most 6 % at 5 %, with 3 in up to 19 %
(simulated)."""


@dataclass(frozen=True)
class Ranking:
    """The explainers of one classifier, ranked on every patient.

    Attributes
    ----------
    board, model, metric, higher_is_better
        Which column of which table.
    names, controls
        [E] the explainers, best mean rank first, and which of them are controls.
    test
        Friedman's test of them, in the same order.
    blocks, n_blocks
        What a block is, in the plural, and how many there are; ``test.n`` of them are compared.
    n_empty
        Blocks on which no explainer has a value.
    lacking
        For explainers without a value on further blocks, on how many; these blocks are left out for all.
    n_values, n_samples
        Values of an explainer that entered, and all that there could be, over seeds.
    unranked
        Explainers of the table that are not compared.
    seeds
        Trainings whose values are averaged.
    """

    board: str
    model: str
    metric: str
    higher_is_better: bool
    names: tuple[str, ...]
    controls: tuple[bool, ...]
    test: Friedman
    blocks: str
    n_blocks: int
    n_empty: int
    lacking: dict[str, int]
    n_values: int
    n_samples: int
    unranked: tuple[str, ...]
    seeds: int = 1

    def sentences(self) -> list[str]:
        """Return the result in plain words."""
        test, k = self.test, len(self.names)
        p = "< .001" if test.p < 0.001 else f"= {test.p:.3f}"
        told = [
            f"Friedman's test of {k} explainers over {test.n} {self.blocks}: p {p} (Iman and Davenport's F; "
            f"chi-square {test.chi_square:.4g})"
        ]
        if test.p > ALPHA:
            told.append(f"{test.n} {self.blocks} cannot tell these explainers apart")
        elif len(test.groups) == 1 and len(test.groups[0]) == k:
            told.append(f"they differ, but no two are as far apart as {test.critical:.2g} (Nemenyi, 5 %)")
        else:
            told.append(f"mean ranks nearer than {test.critical:.2g} cannot be told apart (Nemenyi, 5 %)")
        if gone := self.n_blocks - test.n:
            parts = [f"on {self.n_empty} no explainer has a value"] if self.n_empty else []
            if gone > self.n_empty:
                worst = sorted(self.lacking.items(), key=lambda pair: (-pair[1], pair[0]))
                names = ", ".join(f"{name} on {count}" for name, count in worst)
                parts.append(f"on {gone - self.n_empty} not all have one" + f" (none: {names})" * bool(names))
            told.append(f"left out: {gone} of {self.n_blocks} {self.blocks}; {', '.join(parts)}")
        if self.n_blocks != self.n_samples:
            told.append(
                f"each enters once, with its mean: {self.n_values} of {self.n_samples} values of each explainer"
            )
        if self.seeds > 1:
            told.append(
                f"the {self.seeds} trainings are taken as they are: what others would change, xbench compare tells"
            )
        if self.unranked:
            told.append(f"not ranked, for want of values on the same samples: {', '.join(self.unranked)}")
        return told


def ranks(
    stores: Sequence[Store],
    metric: str = "",
    keys: Sequence[str] | None = None,
    primary: str = "",
    explainers: Sequence[str] = (),
) -> tuple[list[Ranking], list[str]]:
    """Return the explainers' rankings by one score, controls included, and a line for each classifier that has none.

    A block is a group of samples (a patient, a specimen), with the mean of its values over samples and seeds. Samples of a
    seed on which an explainer has no value count for none; groups without any sample left are left out and counted.

    Parameters
    ----------
    stores, keys
        The runs' folders, and the cells to look at (None: all).
    metric
        A score with a better side; empty takes ``primary``, the score that orders the tables.
    explainers
        Patterns of those ranked; none takes all. Mean ranks and the critical difference depend on who else is ranked.

    Raises
    ------
    XbenchError
        The score was not measured or ranks nobody, or nowhere of three explainers on five blocks that all have.
    """
    boards = [(board, measured) for board, _, measured in read_measured(stores, keys)]
    rows = [each.row for _, measured in boards for each in measured]
    known = list(dict.fromkeys(row.metric for row in rows if row.explainer and row.higher_is_better is not None))
    wanted = metric or primary
    if wanted not in known:
        hint = did_you_mean(wanted, known) or (f"; there are {', '.join(known)}" if known else "")
        raise XbenchError(f"{wanted!r} orders no explainers here{hint}")
    found, reasons = [], []
    for board, measured in boards:
        asked = [each for each in measured if each.row.metric == wanted and each.row.explainer is not None]
        if explainers:
            names = {str(each.row.explainer) for each in asked}
            chosen = {name for pattern in explainers for name in matching(pattern, names)}
            asked = [each for each in asked if each.row.explainer in chosen]
        for model in dict.fromkeys(each.row.model for each in asked):
            made = _ranking(board, [each for each in asked if each.row.model == model])
            if isinstance(made, Ranking):
                found.append(made)
            else:
                reasons.append(f"no ranks for {board}, {model}: {made}")
    if not found:
        raise XbenchError(*reasons)
    return found, reasons


def _ranking(board: str, measured: Sequence[Measured]) -> Ranking | str:
    """Rank the explainers of one classifier's column, or say why they cannot be."""
    contests: dict[str, list[tuple[Row, Estimate]]] = {}
    for each in measured:
        if each.estimate is not None and each.estimate.of_means:
            contests.setdefault(each.contest, []).append((each.row, each.estimate))
    # As in the tables: rows with other seeds than most cannot be paired with these.
    members = max(contests.values(), key=len, default=[])
    first = measured[0].row
    if len(members) < FEWEST:
        return (
            f"{len(members)} explainers have values of {first.metric!r} that can be compared; a ranking needs {FEWEST}"
        )
    values = np.stack([np.concatenate(found.columns) for _, found in members])
    source = members[0][1].source
    groups, block = np.unique(np.tile(source.groups, source.n_seeds), return_inverse=True)
    has = np.stack([np.bincount(block, weights=~np.isnan(row), minlength=len(groups)) > 0 for row in values])
    whole = ~np.isnan(values).any(axis=0)
    counts = np.bincount(block[whole], minlength=len(groups))
    lacking = {
        str(row.explainer): int((~own & has.any(axis=0)).sum()) for (row, _), own in zip(members, has, strict=True)
    }
    lacking = {name: count for name, count in lacking.items() if count}
    if (n := int((counts > 0).sum())) < FEWEST_BLOCKS:
        hint = f"; {max(lacking, key=lacking.__getitem__)} has fewest" if lacking else ""
        return f"{n} of {len(groups)} patients, specimens or images have a value of every explainer; {FEWEST_BLOCKS} must{hint}"
    sums = np.stack([np.bincount(block[whole], weights=row[whole], minlength=len(groups)) for row in values])
    higher = bool(members[0][0].higher_is_better)
    means = np.round((1 if higher else -1) * sums[:, counts > 0] / counts[counts > 0], 12)
    if (telling := int((np.ptp(means, axis=0) > 0).sum())) < FEWEST_BLOCKS:
        return (
            f"{telling} of {n} patients, specimens or images have explainers that differ; a test needs {FEWEST_BLOCKS}"
        )
    order = np.argsort(friedman(means).mean_ranks, kind="stable")
    ordered = [members[place][0] for place in order]
    names = tuple(str(row.explainer) for row in ordered)
    return Ranking(
        board=board,
        model=first.model,
        metric=first.metric,
        higher_is_better=higher,
        names=names,
        controls=tuple(bool(row.control) for row in ordered),
        test=friedman(means[order]),
        blocks="images" if source.n_groups == first.n // max(first.seeds, 1) else "groups of images",
        seeds=source.n_seeds,
        n_blocks=len(groups),
        n_empty=int((~has.any(axis=0)).sum()),
        lacking=lacking,
        n_values=int(whole.sum()),
        n_samples=values.shape[1],
        unranked=tuple(str(each.row.explainer) for each in measured if each.row.explainer not in names),
    )
