"""Two explainers, or two classifiers, beside each other: every score's paired difference, and what it means in plain words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbench.errors import XbenchError, did_you_mean
from xbench.leaderboard import read_measured
from xbench.paired import ALPHA, Difference, difference, holm, needed_groups
from xbench.rows import Measured
from xbench.stats import Array, Estimate
from xbench.store import Records


@dataclass(frozen=True)
class Comparison:
    """One score of A and of B on the same samples.

    Attributes
    ----------
    board, place, metric
        Where: the board's title; the classifier on which two explainers are compared, or the explainer (None: no
        explainer) by which two classifiers are; the score's name.
    higher_is_better
        None where the score only describes.
    mean_a, mean_b
        Over the samples that both have a value for.
    low, high
        95 % interval of A - B: bias-corrected and accelerated for one seed, percentiles of nested resamples for several.
    difference
        The rest: p-values, effect, samples.
    p_holm, family
        ``difference.p`` corrected for all scores compared on the board, and their number.
    n_a, n_b, n
        Values that A has, that B has, and all, over seeds.
    """

    board: str
    place: str | None
    metric: str
    higher_is_better: bool | None
    mean_a: float
    mean_b: float
    low: float
    high: float
    difference: Difference
    p_holm: float
    family: int
    n_a: int
    n_b: int
    n: int

    @property
    def differ(self) -> bool:
        """Whether the corrected test, the interval and, from three seeds on, the test over seeds all tell them apart."""
        p_seeds = self.difference.p_seeds
        apart = self.low > 0 or self.high < 0
        return apart and self.p_holm <= ALPHA and (p_seeds is None or p_seeds <= ALPHA)

    @property
    def winner(self) -> str | None:
        """``A`` or ``B`` where they differ and the score has a better side, else None."""
        if self.higher_is_better is None or not self.differ:
            return None
        return "A" if (self.difference.mean > 0) == self.higher_is_better else "B"

    def sentence(self, a: str, b: str) -> str:
        """Return the result in plain words."""
        told, seen = self.difference, f"difference {self.difference.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
        groups = f"{told.n_groups} images" if told.n_groups == told.n else f"{told.n_groups} groups of images"
        tests = f"p {_p(told.p)} (after Holm {_p(self.p_holm)})"
        if told.p_seeds is not None:
            tests += f"; over {told.seeds} seeds p {_p(told.p_seeds)}"
        if self.winner:
            better, worse = (a, b) if self.winner == "A" else (b, a)
            ahead, behind = (told.ahead, told.behind) if told.mean > 0 else (told.behind, told.ahead)
            text = f"{better} is better than {worse}: {seen}, {tests}; ahead on {ahead:.0%} of {told.n} images"
            text += f" and behind on {behind:.0%}"
        elif self.differ:
            text = f"{a} and {b} differ: {seen}, {tests}"
        else:
            who = f"{told.seeds} seeds" if self.p_holm <= ALPHA and told.seeds > 1 else groups
            text = f"{who} cannot separate {a} and {b}: {seen}, {tests}"
            needed = needed_groups(told.effect, ALPHA / self.family)
            if math.isfinite(needed) and needed > told.n_groups and told.seeds == 1:
                text += f"; if the difference is what was seen, about {_round(needed)} would"
        if self.n_a != self.n_b or self.n_a < self.n:
            text += f"; values: {self.n_a} and {self.n_b} of {self.n}, compared where both have one"
        return text


def compare(
    stores: Sequence[Records],
    a: str,
    b: str,
    metrics: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
) -> list[Comparison]:
    """Return every comparison of two explainers on each classifier, or of two classifiers by each explainer.

    Parameters
    ----------
    stores
        The runs' folders.
    a, b
        Names as tables write them, both of explainers or both of classifiers.
    metrics
        The scores to compare, a family of tests of their own; None for all.
    keys
        The cells to look at; None for all in the folders.

    Raises
    ------
    XbenchError
        A name is not in the records, or nothing was measured alike for both.
    """
    boards = [(title, measured) for title, _, measured in read_measured(stores, keys)]
    rows = [each.row for _, measured in boards for each in measured]
    explainers = list(dict.fromkeys(row.explainer for row in rows if row.explainer))
    models = list(dict.fromkeys(row.model for row in rows))
    for side in (explainers, models):
        if a in side and b in side:
            break
    else:
        missing = [name for name in (a, b) if name not in explainers and name not in models]
        if not missing:
            raise XbenchError(f"{a!r} and {b!r} are an explainer and a classifier; two of a kind can be compared")
        hints = [
            did_you_mean(name, [*explainers, *models]) or f"; there are {', '.join(explainers)}" for name in missing
        ]
        raise XbenchError(*(f"{name!r} is not in the records{hint}" for name, hint in zip(missing, hints, strict=True)))
    if metrics is not None:
        known = list(dict.fromkeys(row.metric for row in rows))
        if unknown := [name for name in metrics if name not in known]:
            raise XbenchError(*(f"{name!r} was not measured{did_you_mean(name, known)}" for name in unknown))
        boards = [(title, [each for each in measured if each.row.metric in metrics]) for title, measured in boards]
    found = [one for title, measured in boards for one in _on_board(title, measured, a, b, side is models)]
    if not found:
        raise XbenchError(f"no score was measured for both {a!r} and {b!r} on the same samples")
    return found


def _on_board(title: str, measured: Sequence[Measured], a: str, b: str, models: bool) -> list[Comparison]:
    """Compare on one board; the p-values of all its scores are one family."""
    sides: dict[tuple[str | None, str, str], dict[str, Measured]] = {}
    for each in measured:
        name, place = (each.row.model, each.row.explainer) if models else (each.row.explainer, each.row.model)
        if each.estimate is not None and name in (a, b):
            sides.setdefault((place, each.row.metric, each.contest), {})[str(name)] = each
    made = [
        _compared(title, place, both[a], both[b])
        for (place, _, _), both in sides.items()
        if both.keys() == {a, b} and _shared(both[a].estimate, both[b].estimate)
    ]
    corrected = holm([one.difference.p for one in made])
    return [replace(one, p_holm=p, family=len(made)) for one, p in zip(made, corrected, strict=True)]


def _shared(one: Estimate | None, other: Estimate | None) -> bool:
    """Say whether two estimates are means of values that some sample has both of."""
    if one is None or other is None or not one.of_means or one.source.n_groups < 2:
        return False
    return any(not np.isnan(mine - yours).all() for mine, yours in zip(one.columns, other.columns, strict=True))


def _compared(title: str, place: str | None, a: Measured, b: Measured) -> Comparison:
    one, other = a.estimate, b.estimate
    assert one is not None
    assert other is not None
    source, row = one.source, a.row
    deltas = [mine - yours for mine, yours in zip(one.columns, other.columns, strict=True)]
    low, high = source.bca(deltas)
    told = difference(one.columns, other.columns, source.groups)
    mean_a, mean_b = (_mean(side.columns, deltas) for side in (one, other))
    return Comparison(
        board=title,
        place=place,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        mean_a=mean_a,
        mean_b=mean_b,
        low=low,
        high=high,
        difference=told,
        p_holm=told.p,
        family=1,
        n_a=row.n_scored,
        n_b=b.row.n_scored,
        n=row.n,
    )


def _mean(columns: Sequence[Array], deltas: Sequence[Array]) -> float:
    """Return the mean over seeds of the mean over the samples that both have a value for."""
    known = [column[~np.isnan(delta)] for column, delta in zip(columns, deltas, strict=True)]
    return float(np.mean([values.mean() for values in known if len(values)]))


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"= {value:.3f}"


def _round(count: float) -> str:
    """Return a number of groups to two digits: more would promise too much."""
    digits = max(0, len(str(math.ceil(count))) - 2)
    return f"{round(math.ceil(count), -digits):,}"
