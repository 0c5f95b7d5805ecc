"""What translating images to the other class did to a classifier's predictions, counted jointly and in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, fisher_exact

from xbench.stats import wilson

Counts = NDArray[np.int64]
CLASSES = ("class 0", "class 1")


@dataclass(frozen=True)
class Rate:
    """How many (``hits``) of how many (``n``)."""

    hits: int
    n: int

    @property
    def rate(self) -> float:
        """The share hits / n; NaN where n is 0."""
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, for n independent images; NaN where n is 0."""
        return wilson(self.rate, self.n) if self.n else (float("nan"), float("nan"))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.n}, {self.rate:.1%} [{low:.1%}, {high:.1%}]" if self.n else "none of 0"


@dataclass(frozen=True)
class Bounds:
    """What the margins alone leave open: at least ``low`` and at most ``high`` of ``n``."""

    low: int
    high: int
    n: int

    @property
    def rates(self) -> tuple[float, float]:
        """The bounds as shares of n; NaN where n is 0."""
        return (self.low / self.n, self.high / self.n) if self.n else (float("nan"), float("nan"))

    def __str__(self) -> str:
        low, high = self.rates
        return f"{self.low} to {self.high} of {self.n}" + (f", {low:.1%} to {high:.1%}" if self.n else "")


@dataclass(frozen=True, eq=False)
class Association:
    """Counts of images that the classifier got right or wrong, against translations that were valid or not.

    Attributes
    ----------
    counts
        [2,2] int64: [right, wrong] x [valid, not valid].
    """

    counts: Counts

    @property
    def odds_ratio(self) -> float:
        """Odds of a valid translation where the classifier was right, over those where it was wrong; NaN for an empty side."""
        return float(fisher_exact(self.counts)[0])

    @property
    def p_value(self) -> float:
        """Fisher's exact test, two-sided; 1 where a row or column is empty."""
        return float(fisher_exact(self.counts)[1])

    def __str__(self) -> str:
        right, wrong = (f"{row[0]} of {row.sum()}" for row in self.counts)
        return f"valid on {right} classified rightly and {wrong} classified wrongly, Fisher p = {self.p_value:.2g}"


@dataclass(frozen=True, eq=False)
class Margins:
    """Confusion matrices before and after, which is what a study without joint counts can show.

    Class 0 is translated to class 1 and class 1 to class 0. Every method takes ``label`` 0 or 1, or None for both.

    Attributes
    ----------
    before, after
        [2,2] int64: label x predicted class.
    classes
        Their names.
    """

    before: Counts
    after: Counts
    classes: tuple[str, str] = CLASSES

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            value = np.asarray(getattr(self, name), dtype=np.int64)
            if value.shape != (2, 2) or (value < 0).any():
                raise ValueError(
                    f"{name} has shape {value.shape}; counts [2 labels, 2 predictions] from 0 up are needed"
                )
            object.__setattr__(self, name, value)
        if (self.before.sum(axis=1) != self.after.sum(axis=1)).any():
            raise ValueError("the two matrices do not hold the same number of images of each label")

    def n(self, label: int | None = None) -> int:
        """Return how many images there are."""
        return sum(int(self.before[k].sum()) for k in _labels(label))

    def predicted_before(self, label: int | None = None) -> Rate:
        """Return how many were predicted as the class translated to from the start: the classifier's errors."""
        return Rate(sum(int(self.before[k, 1 - k]) for k in _labels(label)), self.n(label))

    def validity(self, label: int | None = None) -> Rate:
        """Return how many are predicted as the class translated to after the translation."""
        return Rate(sum(int(self.after[k, 1 - k]) for k in _labels(label)), self.n(label))

    def net_shift(self, label: int | None = None) -> float:
        """Return validity less its value before, in [-1,1]."""
        return self.validity(label).rate - self.predicted_before(label).rate

    def balanced_validity(self) -> float:
        """Return the mean of the two classes' validities."""
        return (self.validity(0).rate + self.validity(1).rate) / 2

    def accuracy(self) -> Rate:
        """Return the classifier's accuracy on the images themselves."""
        return Rate(int(np.trace(self.before)), self.n())

    def agreement_after(self) -> Rate:
        """Return how many are still predicted as their label after the translation."""
        return Rate(int(np.trace(self.after)), self.n())

    def corrected_flip_bounds(self, label: int | None = None) -> Bounds:
        """Return the bounds on the corrected flip rate: of the images classified rightly, those then predicted otherwise.

        Of n images, b were predicted as the class translated to before, and a after. Then at least max(0, a - b) of the
        n - b others turned to it, and at most min(n - b, a) (Frechet, Annales de l'Universite de Lyon 1951). Both labels
        together are bounded by the sums of their bounds.
        """
        low = high = n = 0
        for k in _labels(label):
            before, after, total = int(self.before[k, 1 - k]), int(self.after[k, 1 - k]), self.n(k)
            low += max(0, after - before)
            high += min(total - before, after)
            n += total - before
        return Bounds(low, high, n)

    def lines(self) -> list[str]:
        """Return the two matrices and what follows from them, for a terminal."""
        head = [f"label {name} ({self.n(k)})" for k, name in enumerate(self.classes)]
        wide = max(map(len, head))
        column = max(*map(len, self.classes), len(str(self.n())))
        names = "  ".join(f"{name:>{column}}" for name in self.classes)
        rows = [f"{'':{wide}}   {'before':<{len(names)}}   after", f"{'':{wide}}   {names}   {names}"]
        for k, text in enumerate(head):
            cells = ("  ".join(f"{int(count):>{column}}" for count in side[k]) for side in (self.before, self.after))
            rows.append(f"{text:{wide}}   {'   '.join(cells)}")
        for k in (0, 1):
            goal = self.classes[1 - k]
            if not self.n(k):
                rows.append(f"{self.classes[k]} to {goal}: no image")
                continue
            rows += [
                f"{self.classes[k]} to {goal}",
                f"  predicted {goal} before: {self.predicted_before(k)}",
                f"  predicted {goal} after (validity): {self.validity(k)}; net shift {self.net_shift(k) * 100:+.1f} points",
                f"  turned, of those classified rightly, by these matrices alone: {self.corrected_flip_bounds(k)}",
            ]
        return rows


@dataclass(frozen=True, eq=False)
class FlipTable:
    """Joint counts of label, prediction before and prediction after: what confusion matrices cannot tell.

    Class 0 is translated to class 1 and class 1 to class 0. Every method takes ``label`` 0 or 1, or None for both. Intervals
    and tests take images as independent; where patients have several, the leaderboard's intervals draw patients.

    Attributes
    ----------
    counts
        [2,2,2] int64: label x predicted before x predicted after.
    classes
        Their names.
    """

    counts: Counts
    classes: tuple[str, str] = CLASSES

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (2, 2, 2) or (counts < 0).any():
            raise ValueError(f"counts have shape {counts.shape}; [2 labels, 2 before, 2 after] from 0 up are needed")
        object.__setattr__(self, "counts", counts)

    @property
    def margins(self) -> Margins:
        """The confusion matrices before and after."""
        return Margins(self.counts.sum(axis=2), self.counts.sum(axis=1), self.classes)

    def paths(self, label: int | None = None) -> Counts:
        """Return [2,2] int64: predicted before x predicted after, the label first and the class translated to second."""
        return np.sum([self.counts[k][[k, 1 - k]][:, [k, 1 - k]] for k in _labels(label)], axis=0)

    def flip_rate(self, label: int | None = None) -> Rate:
        """Return how many predictions changed, in either direction."""
        paths = self.paths(label)
        return Rate(int(paths[0, 1] + paths[1, 0]), int(paths.sum()))

    def corrected_flip_rate(self, label: int | None = None) -> Rate:
        """Return how many turned to the class translated to, of those classified rightly before."""
        right = self.paths(label)[0]
        return Rate(int(right[1]), int(right.sum()))

    def unflip_rate(self, label: int | None = None) -> Rate:
        """Return how many turned to their label, of those that the classifier took for the other class before."""
        wrong = self.paths(label)[1]
        return Rate(int(wrong[0]), int(wrong.sum()))

    def turned(self, label: int | None = None) -> tuple[int, int]:
        """Return how many predictions turned to the class translated to, and how many away from it."""
        return self.corrected_flip_rate(label).hits, self.unflip_rate(label).hits

    def mcnemar(self, label: int | None = None) -> float:
        """Return McNemar's exact two-sided p-value: did as many turn to the class translated to as away from it?

        The smaller of the two counts is binomial with probability 1/2; 1 where none turned (McNemar, Psychometrika 1947).
        """
        turned = self.turned(label)
        return min(1.0, 2 * float(binom.cdf(min(turned), sum(turned), 0.5)))

    def difficulty(self, label: int | None = None) -> Association:
        """Return whether translations fail on the images that the classifier gets wrong: the open question of Tsutsui's study.

        An odds ratio above 1 says yes. But an image classified wrongly was predicted as the class translated to from the
        start, so a translator that changes nothing is valid on just those: predictions that persist pull the ratio below 1,
        and a ratio below 1 answers nothing. The validity of another classifier (`associate`) is free of that.
        """
        return Association(self.paths(label)[:, ::-1])

    def lines(self) -> list[str]:
        """Return the table in plain words, for a terminal."""
        rows = self.margins.lines()
        for k, name in enumerate(self.classes):
            goal, (to, away) = self.classes[1 - k], self.turned(k)
            if not self.margins.n(k):
                continue
            rows += [
                f"{name} to {goal}, image by image",
                f"  predictions changed: {self.flip_rate(k)}",
                f"  classified rightly, then predicted {goal} (corrected flip rate): {self.corrected_flip_rate(k)}",
                f"  classified wrongly, then predicted {name} (unflip rate): {self.unflip_rate(k)}",
                f"  {to} turned to {goal} and {away} away from it, McNemar p = {self.mcnemar(k):.2g}",
                f"  {self.difficulty(k)}",
            ]
        return [*rows, "both classes together", f"  {self.difficulty()}"]


def flip_table(label: ArrayLike, before: ArrayLike, after: ArrayLike, classes: Sequence[str] = CLASSES) -> FlipTable:
    """Count images jointly.

    Parameters
    ----------
    label, before, after
        [n] of 0 and 1: the true class, and the class predicted before and after the translation to the other one. Where
        only the validity v is stored, ``after`` is the label where v is 0 and the other class where it is 1.
    classes
        The two classes' names.

    Raises
    ------
    ValueError
        Other values, unequal lengths, or not two classes.
    """
    if len(classes) != 2:
        raise ValueError(f"{len(classes)} classes; flips are counted between two")
    given = [_zeros_and_ones(*item) for item in (("label", label), ("before", before), ("after", after))]
    if len({len(values) for values in given}) > 1:
        raise ValueError(f"label, before and after hold {', '.join(str(len(values)) for values in given)} values")
    counts = np.zeros((2, 2, 2), dtype=np.int64)
    np.add.at(counts, tuple(given), 1)
    return FlipTable(counts, (classes[0], classes[1]))


def associate(right: ArrayLike, valid: ArrayLike) -> Association:
    """Count images [n] that the classifier got right (1) or wrong (0) against translations that were valid (1) or not (0).

    Raises
    ------
    ValueError
        Other values, or unequal lengths.
    """
    rows, columns = _zeros_and_ones("right", right), _zeros_and_ones("valid", valid)
    if len(rows) != len(columns):
        raise ValueError(f"right and valid hold {len(rows)} and {len(columns)} values")
    counts = np.zeros((2, 2), dtype=np.int64)
    np.add.at(counts, (1 - rows, 1 - columns), 1)
    return Association(counts)


def _zeros_and_ones(name: str, values: ArrayLike) -> Counts:
    found = np.asarray(values)
    if found.ndim != 1 or not np.isin(found, (0, 1)).all():
        raise ValueError(f"{name} is not a row of zeros and ones; leave out images without a prediction")
    return found.astype(np.int64)


def _labels(label: int | None) -> tuple[int, ...]:
    if label not in (0, 1, None):
        raise ValueError(f"label={label}: 0, 1 or None (both) is needed")
    return (0, 1) if label is None else (label,)
