"""Intervals from one clustered bootstrap: groups (patients, specimens) are drawn, never single samples."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.errors import XbenchError

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 4_000_000
_KEPT_FLOATS, _KEPT_BYTES = 2**22, 2**26
"""Up to how many numbers the resamples are kept between columns, as they are used or small; beyond, they are drawn again."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and the resampled values it comes from.

    Attributes
    ----------
    mean, low, high
        The estimate and its percentile interval; NaN where nothing is scored.
    n_scored, n
        Values that are defined, and all of them (over all seeds).
    draws
        [R] the estimate on each resample.
    columns, source
        The values it is made of, and whose resamples: what a paired difference needs.
    of_means
        Whether it is a mean of the values, as it is not for an area under the ROC curve.
    """

    mean: float
    low: float
    high: float
    n_scored: int
    n: int
    draws: Array
    columns: Sequence[Array]
    source: "Bootstrap"
    of_means: bool = True


class Bootstrap:
    """Resamples of one set of samples, the same for every column, so that differences are paired.

    Parameters
    ----------
    groups
        [n] names; all samples of a group are drawn together.
    seeds
        How many seeds a column pools: seeds are drawn too, and samples within them (nested).
    resamples
        R.
    """

    def __init__(self, groups: Sequence[str], seeds: int = 1, resamples: int = RESAMPLES) -> None:
        self.groups = tuple(groups)
        names, self._member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.n_groups, self.resamples, self.n_seeds = len(names), resamples, seeds
        rng = np.random.default_rng(20190619)
        drawn = rng.integers(0, seeds, size=(resamples, seeds))
        self._seed_weights = np.stack([(drawn == seed).sum(axis=1) for seed in range(seeds)], axis=1) / seeds
        self._rng_state = rng.bit_generator.state
        self._kept: list[NDArray[Any]] = []
        self._every_count: list[Array] = []

    def estimate(self, columns: Sequence[Array]) -> Estimate:
        """Return the mean of values [n] a seed, NaN left out: averaged within each seed, then over seeds."""
        sums = np.stack([self._per_group(np.nan_to_num(column)) for column in columns], axis=1)
        known = [~np.isnan(column) for column in columns]
        counts = np.stack([self._per_group(each.astype(float)) for each in known], axis=1)
        mean = _over_seeds(
            _ratio(sums.sum(axis=0), counts.sum(axis=0))[None], np.full((1, len(columns)), 1 / len(columns))
        )
        drawn: Iterable[Array] = self._whole_counts(counts) if all(map(np.all, known)) else ()
        pairs = itertools.zip_longest(self._blocks(), drawn)
        draws = [_ratio(block @ sums, block @ counts if of is None else of) for block, of in pairs]
        return self._summary(float(mean[0]), _over_seeds(np.concatenate(draws), self._seed_weights), columns)

    def bca(self, columns: Sequence[Array]) -> tuple[float, float]:
        """Return the bias-corrected and accelerated interval of `estimate` (Efron, JASA 1987), guarded.

        The acceleration is from leaving out one group at a time. Where it is not defined (several seeds, fewer than ten
        groups, all resamples alike, or an end beyond the outermost five of them), the percentile interval is returned.
        """
        found = self.estimate(columns)
        plain = found.low, found.high
        known = np.sort(found.draws[~np.isnan(found.draws)])
        if self.n_seeds > 1 or self.n_groups < 10 or not len(known) or known[0] == known[-1]:
            return plain
        normal = NormalDist()
        below = (np.sum(known < found.mean) + np.sum(known == found.mean) / 2) / len(known)
        if not 0 < below < 1:
            return plain
        column = columns[0]
        sums = self._per_group(np.nan_to_num(column))
        counts = self._per_group((~np.isnan(column)).astype(float))
        without = _ratio(sums.sum() - sums, counts.sum() - counts)
        pull = without[~np.isnan(without)].mean() - without[~np.isnan(without)]
        scale = float((pull**2).sum()) ** 1.5
        acceleration = float((pull**3).sum()) / (6 * scale) if scale > 0 else 0.0
        bias, ends = normal.inv_cdf(float(below)), []
        for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
            z = bias + normal.inv_cdf(share)
            if acceleration * z >= 1:
                return plain
            place = normal.cdf(bias + z / (1 - acceleration * z)) * len(known)
            if not 5 <= place <= len(known) - 5:
                return plain
            ends.append(float(np.percentile(known, 100 * place / len(known))))
        return ends[0], ends[1]

    def auroc(self, columns: Sequence[Array], labels: NDArray[np.int64]) -> Estimate:
        """Return the area under the ROC curve of values [n] a seed against ``labels == 1``, averaged over seeds."""
        positive = labels == 1
        ones = np.ones((1, self.n_groups))
        mean = np.mean([weighted_auroc(column, positive, ones[:, self._member])[0] for column in columns])
        per_seed = []
        for column in columns:
            blocks = [weighted_auroc(column, positive, block[:, self._member]) for block in self._blocks()]
            per_seed.append(np.concatenate(blocks))
        draws = _over_seeds(np.stack(per_seed, axis=1), self._seed_weights)
        return replace(self._summary(float(mean), draws, columns), of_means=False)

    def rate(self, columns: Sequence[Array]) -> Estimate:
        """Return the mean of zeros and ones [n] a seed, with Wilson's interval: it has a width at 0 and at 1 too.

        The interval is that of n/d independent values, d >= 1 being how much wider the bootstrap finds the mean's variance,
        over groups and seeds, than that of n independent values (Korn and Graubard, Survey Methodology 1998). At 0 and
        at 1, where a bootstrap sees no variance, every group counts once, however many values it has. Raises XbenchError
        where the values are others, as of a record that somebody wrote.
        """
        found = self.estimate(columns)
        if found.n_scored and not 0 <= found.mean <= 1:
            raise XbenchError(
                f"a rate is the mean of zeros and ones, and {found.mean:g} was read; no metric gives that"
            )
        if found.n_scored and self.n_groups > 1:
            single, n = found.mean * (1 - found.mean) / found.n_scored, float(found.n_scored)
            if single > 0:
                n /= max(1.0, float(np.nanvar(found.draws)) / single)
            else:
                known = np.any([~np.isnan(column) for column in columns], axis=0)
                n = min(n, float((self._per_group(known.astype(float)) > 0).sum()))
            low, high = wilson(found.mean, n)
            found = replace(found, low=low, high=high)
        return found

    def _per_group(self, values: Array) -> Array:
        return np.bincount(self._member, weights=values, minlength=self.n_groups).astype(np.float64)

    def _whole_counts(self, counts: Array) -> list[Array]:
        """Return ``block @ counts`` for every block where all values are defined, as they are in most columns."""
        if not self._every_count or self._every_count[0].shape[1] != counts.shape[1]:
            self._every_count = [block @ counts for block in self._blocks()]
        return self._every_count

    def _blocks(self) -> Iterator[Array]:
        """Yield [r,G] weights: how often each group is in a resample; always the same resamples."""
        numbers = self.resamples * self.n_groups
        if not self._kept and numbers <= _KEPT_BYTES:
            # Of many groups none is ever drawn 256 times: once is what they are drawn on average.
            kept = float if numbers <= _KEPT_FLOATS else np.uint8
            self._kept = [block.astype(kept, copy=False) for block in self._drawn()]
        yield from (block.astype(float, copy=False) for block in self._kept) if self._kept else self._drawn()

    def _drawn(self) -> Iterator[Array]:
        rng = np.random.default_rng()
        rng.bit_generator.state = self._rng_state
        size = max(1, _BLOCK // max(self.n_groups, len(self._member)))
        for start in range(0, self.resamples, size):
            rows = min(size, self.resamples - start)
            drawn = rng.integers(0, self.n_groups, size=(rows, self.n_groups))
            flat = (drawn + np.arange(rows)[:, None] * self.n_groups).ravel()
            yield np.bincount(flat, minlength=rows * self.n_groups).reshape(rows, self.n_groups).astype(float)

    def _summary(self, mean: float, draws: Array, columns: Sequence[Array]) -> Estimate:
        if self.n_groups < 2:
            draws = np.full_like(draws, np.nan)  # one patient says nothing about the spread between patients
        known = draws[~np.isnan(draws)]
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
        scored = sum(int((~np.isnan(column)).sum()) for column in columns)
        return Estimate(
            mean, float(low), float(high), scored, sum(len(column) for column in columns), draws, columns, self
        )


def cross_tuned(values: Array, groups: Sequence[str]) -> Array:
    """Return [n]: each sample's value under the setting that has the best mean over the groups of the other fold.

    No sample has a say in its own setting, nor has another of its group. The two folds are of equal numbers of groups:
    those with a value are put in order by a hash of their names and go to the one and the other in turn.

    Parameters
    ----------
    values
        [n,T] under T settings, more is better; a row with a NaN is a sample without a value.
    groups
        [n] names.

    Returns
    -------
    NaN where the sample, or every sample of the other fold, has no value: with one group there is nothing to tune on. Of
    settings that do equally well, the first is taken. An interval of these values holds for the settings chosen: what
    another choice on other samples would change is not in it.
    """
    known: NDArray[np.bool_] = np.logical_not(np.isnan(values).any(axis=1))
    names = {name for name, has in zip(groups, known, strict=True) if has}
    order = sorted(names, key=lambda name: (hashlib.blake2b(name.encode()).digest(), name))
    fold_of = {name: place % 2 for place, name in enumerate(order)}
    fold = np.array([fold_of.get(name, 0) for name in groups], dtype=np.int64)
    found = np.full(len(values), np.nan)
    for side in (0, 1):
        other = values[known & (fold != side)]
        if len(other):
            own = known & (fold == side)
            found[own] = values[own, np.round(other.mean(axis=0), 12).argmax()]
    return found


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of a rate seen in n independent values (Wilson, JASA 1927)."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    centre, spread = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def weighted_auroc(values: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return [R]: the share of (positive, negative) pairs in the right order, ties half, samples weighted [R,n].

    NaN values are left out.
    """
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    ordered, hit, weight = values[order], positive[order], weights[:, order]
    negatives = np.concatenate([np.zeros((len(weight), 1)), np.cumsum(weight * ~hit, axis=1)], axis=1)
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    below = negatives[:, first] + 0.5 * (negatives[:, last] - negatives[:, first])
    hits = weight * hit
    return _ratio((hits * below).sum(axis=1), hits.sum(axis=1) * negatives[:, -1])


def rank_groups(estimates: Sequence[Estimate], higher_is_better: bool) -> list[int]:
    """Return each row's rank: 1 + the number of rows whose paired difference to it is better with 95 % confidence.

    Rows that the data cannot separate share a rank, and no row ranks behind one with a worse mean. The intervals are not
    corrected for the number of comparisons.
    """
    sign = 1 if higher_is_better else -1
    ranks = []
    known = [[np.isnan(column).tobytes() for column in each.columns] for each in estimates]
    for mine, of in zip(estimates, known, strict=True):
        better = 0
        for other, there in zip(estimates, known, strict=True):
            better += _is_above(sign * _paired(other, mine, of == there))
        ranks.append(1 + better)
    # A row with a narrow difference to the leaders may be beaten beyond doubt where a worse one with a wide difference is
    # not: from the worst mean upwards, the best rank so far holds.
    best = len(ranks)
    for place in sorted(range(len(ranks)), key=lambda i: sign * estimates[i].mean):
        best = ranks[place] = min(best, ranks[place])
    return ranks


def _is_above(draws: Array) -> bool:
    """Return whether the lower end of the percentile interval is above zero."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return False
    # The end lies between two of the sorted draws; only where these are on two sides of zero must it be known.
    tail, below = (1 - LEVEL) / 2, int(np.count_nonzero(draws <= 0))
    place = tail * (len(draws) - 1)
    if below < place - 1 or below > place + 2:
        return below < place
    return bool(np.percentile(draws, 100 * tail) > 0)


def _paired(one: Estimate, other: Estimate, alike: bool) -> Array:
    """Return [R]: resampled differences, on the samples that both have a value for; ``alike``: those of one are all."""
    if alike:
        return one.draws - other.draws
    pairs = zip(one.columns, other.columns, strict=True)
    return one.source.estimate([mine - yours for mine, yours in pairs]).draws


def _ratio(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _over_seeds(values: Array, weights: Array) -> Array:
    """Return [R]: values [R,S] averaged with weights [R,S]; a seed that is not drawn does not count, though it be NaN."""
    return np.where(weights > 0, values * weights, 0.0).sum(axis=1)
