"""Statistics of paired differences: a clustered sign-flip test, Holm's correction, effect sizes, how many groups it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

Array = NDArray[np.float64]

FLIPS = 9_999
ALPHA = 0.05
POWER = 0.8
_EXACT = 13
_BLOCK = 16_000_000


@dataclass(frozen=True)
class Difference:
    """What the differences d = A - B of n samples say.

    Attributes
    ----------
    mean
        Of d, over the samples that both have a value for, averaged over seeds.
    n, n_groups, seeds
        Samples with a value of both in some seed, patients or specimens among them, and seeds.
    p
        Two-sided, of the sign-flip test over groups.
    p_seeds
        Two-sided, of the paired t-test over the seeds' means; None for fewer than three seeds.
    ahead, behind
        Shares of the samples with d > 0 and with d < 0.
    effect
        Mean over standard deviation of the groups' sums: how far apart A and B are in units of what one patient shows.
    """

    mean: float
    n: int
    n_groups: int
    seeds: int
    p: float
    p_seeds: float | None
    ahead: float
    behind: float
    effect: float


def difference(one: Sequence[Array], other: Sequence[Array], groups: Sequence[str]) -> Difference:
    """Compare paired values.

    Parameters
    ----------
    one, other
        Values [n] of A and of B for each seed; NaN where there is none. A sample of a seed counts where both have one.
    groups
        [n] names; samples of one group are not independent of each other.

    Raises
    ------
    ValueError
        No sample has a value of both.
    """
    each = np.stack([mine - yours for mine, yours in zip(one, other, strict=True)])
    known = ~np.isnan(each)
    counted = known.any(axis=0)
    if not counted.any():
        raise ValueError("no sample has a value of both")
    with np.errstate(invalid="ignore"):
        values = (np.nansum(each, axis=0) / known.sum(axis=0))[counted]
    _, member = np.unique(np.asarray(groups, dtype=str)[counted], return_inverse=True)
    sums: Array = np.bincount(member, weights=values).astype(np.float64)
    spread = float(sums.std(ddof=1)) if len(sums) > 1 else math.nan
    effect = float(sums.mean() / spread) if spread > 0 else math.copysign(math.inf, sums.mean()) if sums.any() else 0.0
    per_seed = [float(row[here].mean()) for row, here in zip(each, known, strict=True) if here.any()]
    return Difference(
        mean=float(np.mean(per_seed)),
        n=int(counted.sum()),
        n_groups=len(sums),
        seeds=len(each),
        p=sign_flip(sums),
        p_seeds=_over_seeds(per_seed),
        ahead=float(np.mean(values > 0)),
        behind=float(np.mean(values < 0)),
        effect=effect,
    )


def sign_flip(sums: Array) -> float:
    """Return the two-sided p-value of "A and B are exchangeable within each group".

    Were they, the sum of a group's differences [G] would be as likely with the other sign. All 2^G signs are tried for up to
    13 groups, else 9,999 drawn ones beside the one seen (Phipson and Smyth, SAGMB 2010).
    """
    seen = abs(float(sums.sum()))
    within = seen * (1 - 1e-12)  # rounding must not tell apart sums that are equal
    n = len(sums)
    if n <= _EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ sums) >= within))
    rng, hits, left = np.random.default_rng(20190619), 0, FLIPS
    while left:
        rows = min(left, max(1, _BLOCK // n))
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(rows, n), dtype=np.int8)
        hits += int((np.abs(signs @ sums) >= within).sum())
        left -= rows
    return (1 + hits) / (1 + FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, so that all hold together (Holm, Scandinavian Journal of Statistics 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def needed_groups(effect: float, alpha: float = ALPHA) -> float:
    """Return how many groups a two-sided test needs to find an effect (mean over standard deviation) in four of five studies.

    At least as many as give a sign-flip test a p-value of ``alpha`` at all; infinite for no effect.
    """
    if effect == 0:
        return math.inf
    if math.isnan(effect):
        return math.nan
    normal = NormalDist()
    fewest = math.ceil(1 + math.log2(1 / alpha))
    return max(fewest, ((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)) / effect) ** 2)


def _over_seeds(means: Sequence[float]) -> float | None:
    if len(means) < 3:
        return None
    if len(set(means)) == 1:
        return 1.0 if means[0] == 0 else 0.0
    return float(ttest_1samp(means, 0.0).pvalue)
