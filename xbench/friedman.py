"""Which explainers' mean ranks can be told apart: Friedman's test and Nemenyi's critical difference, patients as blocks."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, f, rankdata, studentized_range

from xbench.paired import ALPHA
from xbench.stats import Array


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of k explainers over n blocks, with Nemenyi's critical difference (Demsar, JMLR 2006).

    Attributes
    ----------
    mean_ranks
        [k] in [1, k], 1 is best; equal values share the mean of their ranks.
    p
        Of "all explainers are alike", by Iman and Davenport's F: Friedman's chi-square errs to the safe side.
    f
        Iman and Davenport's statistic, F distributed with k - 1 and (k - 1)(n - 1) degrees of freedom.
    chi_square, p_chi_square
        Friedman's own statistic, corrected for ties, and its p-value with k - 1 degrees of freedom.
    critical
        Nemenyi's difference of mean ranks at 5 %: nearer ones cannot be told apart.
    groups
        Maximal sets of at least two explainers of which no two can be told apart, each best first, as places in
        ``mean_ranks``; one set of all where the test itself tells nobody apart.
    n
        Blocks.
    """

    mean_ranks: Array
    p: float
    f: float
    chi_square: float
    p_chi_square: float
    critical: float
    groups: tuple[tuple[int, ...], ...]
    n: int


def friedman(values: Array) -> Friedman:
    """Test whether explainers differ in their ranks.

    Parameters
    ----------
    values
        [E,N] float64, better is up: what each of E >= 2 explainers scores on each of N >= 2 independent blocks.

    Raises
    ------
    ValueError
        There are fewer explainers or blocks, or a value is missing.
    """
    k, n = values.shape
    if k < 2 or n < 2:
        raise ValueError(f"{k} explainers and {n} blocks; a test needs two of each")
    if np.isnan(values).any():
        raise ValueError("a value is missing; leave its block out")
    ranks = rankdata(-np.round(values, 12), axis=0)  # equal means are equal whatever the order of their sums
    # Times n, all sums are of quarters and exact: blocks that agree fully leave an error of exactly nought.
    between = float(((ranks.sum(axis=1) - n * (k + 1) / 2) ** 2).sum())
    error = n * float(((ranks - (k + 1) / 2) ** 2).sum()) - between
    if between == 0:
        chi_square, ratio = 0.0, 0.0
    else:
        chi_square = (k - 1) * n * between / (between + error)
        ratio = (n - 1) * between / error if error > 0 else math.inf
    p = float(f.sf(ratio, k - 1, (k - 1) * (n - 1)))
    mean_ranks, critical = ranks.mean(axis=1), critical_difference(k, n)
    return Friedman(
        mean_ranks=mean_ranks,
        p=p,
        f=ratio,
        chi_square=chi_square,
        p_chi_square=float(chi2.sf(chi_square, k - 1)),
        critical=critical,
        groups=alike(mean_ranks, critical if p <= ALPHA else math.inf),
        n=n,
    )


def critical_difference(k: int, n: int) -> float:
    """Return Nemenyi's critical difference of the mean ranks of k explainers over n blocks at 5 % (Demsar, JMLR 2006)."""
    return quantile(k) * math.sqrt(k * (k + 1) / (6 * n))


@functools.cache
def quantile(k: int) -> float:
    """Return q at 5 %: the studentised range of k explainers with infinite degrees of freedom, over the root of two."""
    return float(studentized_range.ppf(1 - ALPHA, k, np.inf)) / math.sqrt(2)


def alike(mean_ranks: Array, critical: float) -> tuple[tuple[int, ...], ...]:
    """Return the maximal sets of at least two places whose mean ranks [E] all differ by less than ``critical``."""
    order = np.argsort(mean_ranks, kind="stable")
    ordered = mean_ranks[order]
    found: list[tuple[int, ...]] = []
    last = 0
    for first in range(len(order)):
        end = int(np.searchsorted(ordered - ordered[first], critical, side="left"))
        if end > last and end - first > 1:
            found.append(tuple(int(place) for place in order[first:end]))
        last = max(last, end)
    return tuple(found)


def letters(test: Friedman) -> list[str]:
    """Return for each explainer the letters of its groups: those that share one cannot be told apart."""
    return [
        "".join(_letter(i) for i, group in enumerate(test.groups) if k in group) for k in range(len(test.mean_ranks))
    ]


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"({i + 1})"
