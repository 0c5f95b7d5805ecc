"""Which metric to believe: how far each metric orders the explainers as the truth does, and as each other metric does."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from xbench.errors import XbenchError, did_you_mean
from xbench.leaderboard import read_measured
from xbench.rows import Measured
from xbench.stats import LEVEL, Array, Estimate
from xbench.store import Records

FEWEST = 4
"""Explainers without which an order says nothing: three are in the same one in a sixth of all cases."""


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of two scores over explainers, better always up; controls do not count.

    Attributes
    ----------
    one, other
        Names of the scores.
    rho, low, high
        Of the explainers' means in [-1,1], ties sharing ranks, and the 95 % percentile interval over the resamples of the
        samples that both scores have in common. NaN where all explainers score the same.
    explainers
        How many explainers both were measured of.
    """

    one: str
    other: str
    rho: float
    low: float
    high: float
    explainers: int


@dataclass(frozen=True)
class Trust:
    """The agreements of one classifier's scores.

    Attributes
    ----------
    board, model
        Which table.
    truth
        The score that stands for the truth.
    with_truth
        Each other score's agreement with it, best first.
    between
        Agreements of all other pairs.
    """

    board: str
    model: str
    truth: str
    with_truth: list[Agreement]
    between: list[Agreement]


def trust(
    stores: Sequence[Records], truth: str = "", keys: Sequence[str] | None = None, primary: str = ""
) -> list[Trust]:
    """Return how far scores agree, for each board and classifier on which the truth was measured.

    Parameters
    ----------
    stores, keys
        The runs' folders, and the cells to look at (None: all).
    truth
        A score that knows the truth, e.g. ``localisation_precision``. Empty takes the primary one if it is of the family
        ``localisation``, else the first that is.
    primary
        The score that orders the tables.

    Raises
    ------
    XbenchError
        The truth was not measured, ranks nobody, or was measured of fewer than four explainers that are no controls.
    """
    return trust_of(list(read_measured(stores, keys)), truth, primary)


def trust_of(found: Sequence[tuple[str, str, list[Measured]]], truth: str = "", primary: str = "") -> list[Trust]:
    """Return what `trust` does, of what `read_measured` yields."""
    boards = [(board, measured) for board, _, measured in found]
    rows = [each.row for _, measured in boards for each in measured]
    known = list(dict.fromkeys(row.metric for row in rows if row.explainer and row.higher_is_better is not None))
    if not truth:
        located = [row.metric for row in rows if row.family == "localisation"]
        if not located:
            raise XbenchError(f"no score here knows the truth; --truth METRIC takes another: {', '.join(known)}")
        truth = primary if primary in located else located[0]
    if truth not in known:
        hint = did_you_mean(truth, known) or f"; there are {', '.join(known)}"
        raise XbenchError(f"{truth!r} orders no explainers here{hint}")
    made = []
    for board, measured in boards:
        for model in dict.fromkeys(each.row.model for each in measured):
            columns = _columns([each for each in measured if each.row.model == model])
            if len(columns.get(truth, ())) >= FEWEST:
                pairs = [agreement(*pair, columns) for pair in itertools.combinations(columns, 2)]
                enough = [pair for pair in pairs if pair.explainers >= FEWEST]
                own = [_led(pair, truth) for pair in enough if truth in (pair.one, pair.other)]
                own.sort(key=lambda pair: -np.nan_to_num(pair.rho, nan=-2.0))
                made.append(Trust(board, model, truth, own, [p for p in enough if truth not in (p.one, p.other)]))
    if not made:
        raise XbenchError(
            f"{truth!r} was measured of fewer than {FEWEST} explainers that are no controls; no order to compare"
        )
    return made


Columns = dict[str, dict[str, tuple[float, Array]]]


def agreement(one: str, other: str, columns: Columns) -> Agreement:
    """Return how far two scores agree; ``columns`` hold, by score and explainer, the mean and its resamples, better up."""
    both = [name for name in columns[one] if name in columns[other]]
    if len(both) < FEWEST:
        return Agreement(one, other, float("nan"), float("nan"), float("nan"), len(both))
    sides = [np.array([columns[score][name][0] for name in both])[:, None] for score in (one, other)]
    draws = [np.stack([columns[score][name][1] for name in both]) for score in (one, other)]
    rho = _spearman(*sides)[0]
    resampled = _spearman(*draws)
    known = resampled[~np.isnan(resampled)]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    return Agreement(one, other, float(rho), float(low), float(high), len(both))


def _columns(measured: Sequence[Measured]) -> Columns:
    """Return by score the explainers' means and resamples, turned so that better is up; controls are left out.

    All explainers of a score are compared on the samples that each of them has a value for: one that has none for the hard
    ones must not gain by it.
    """
    by_score: dict[str, list[tuple[str, int, Estimate]]] = {}
    for each in measured:
        row, found = each.row, each.estimate
        if found is None or row.explainer is None or row.control or row.higher_is_better is None:
            continue
        by_score.setdefault(row.metric, []).append((row.explainer, 1 if row.higher_is_better else -1, found))
    columns: Columns = {}
    for score, members in by_score.items():
        shapes = {tuple(map(len, found.columns)) for _, _, found in members}
        if len(shapes) > 1:
            continue  # seeds or samples that are not the same cannot be compared
        absent = [
            np.isnan(np.stack(seed)).any(axis=0) for seed in zip(*(f.columns for _, _, f in members), strict=True)
        ]
        columns[score] = {}
        for name, sign, found in members:
            common = [np.where(gone, np.nan, values) for gone, values in zip(absent, found.columns, strict=True)]
            estimate = found.source.estimate(common) if any(gone.any() for gone in absent) else found
            columns[score][name] = sign * estimate.mean, sign * estimate.draws
    return columns


def _spearman(one: Array, other: Array) -> Array:
    """Return [R]: Spearman's correlation over the rows of two [E,R]."""
    ranks = [rankdata(side, axis=0) for side in (one, other)]
    centred = [side - side.mean(axis=0) for side in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(axis=0) * (centred[1] ** 2).sum(axis=0))
    top = (centred[0] * centred[1]).sum(axis=0)
    rho: Array = np.divide(top, scale, out=np.full_like(top, np.nan), where=scale > 0)
    # A resample in which an explainer has no value orders nothing.
    rho[np.isnan(one).any(axis=0) | np.isnan(other).any(axis=0)] = np.nan
    return rho


def _led(pair: Agreement, truth: str) -> Agreement:
    """Return the pair with the truth second."""
    if pair.other == truth:
        return pair
    return Agreement(pair.other, truth, pair.rho, pair.low, pair.high, pair.explainers)
