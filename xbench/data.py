"""What a data set is: an index that plans a run and samples that fill a batch. NumPy only, no torch."""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """One split of a data set, without its pixels.

    Attributes
    ----------
    ids
        One unique string a sample, stable for ever: noise and tie-breaking derive from it.
    labels
        [n] int64, positions in ``classes``.
    groups
        [n] strings; what the samples of one patient or specimen share. Intervals resample groups.
    shape
        (C, H, W) of every image.
    classes
        Class names in label order.
    digest
        Stands for the pixels: generator version + parameters, or a manifest of names, sizes and tables.
    annotated
        [n] bool or None: which samples have a mask, where only some do.
    notes
        Lines the user should know: dropped rows, which split was taken.
    """

    ids: Sequence[str]
    labels: Ints
    groups: Sequence[str]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    digest: str
    annotated: Bools | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Samples:
    """Pixels and truth of B samples.

    Attributes
    ----------
    image
        [B,C,H,W] float32 in [0,1].
    mask
        [B,H,W] bool or None: the object (heart, lizard, topping, stroke); a sample without any true pixel has no mask.
    mask_class
        [B] int64 or None: the class the mask is evidence for, -1 for whichever is explained.
    counterfactual
        [B,C,H,W] float32 in [0,1] or None: the same sample as the other class would look, exactly.
    shortcut
        [B,H,W] bool or None: a planted feature that should not decide.
    swapped
        [B,C,H,W] float32 in [0,1] or None: the same sample with the shortcut that goes with another class.
    unread
        Place in the batch -> why the sample there cannot be read, naming the file; what the arrays hold there means nothing.
    """

    image: Floats
    mask: Bools | None = None
    mask_class: Ints | None = None
    counterfactual: Floats | None = None
    shortcut: Bools | None = None
    swapped: Floats | None = None
    unread: Mapping[int, str] = field(default_factory=dict)


class Dataset(Protocol):
    """What a dataset factory returns; ``root`` is a folder of real data or None."""

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``. Raises XbenchError where data are missing."""

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the samples named, in that order; one whose file is damaged is named in ``unread`` and costs no other."""


@dataclass(frozen=True)
class Selection:
    """The samples a run scores, in a fixed order of which every prefix is stratified."""

    ids: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...]
    digest: str


def select(index: Index, limit: int | None) -> Selection:
    """Choose ``limit`` samples with the class shares of the whole split; no class is ever a whole sample off its share.

    Within a class, samples with a mask come first where only some have one (so that a short run scores as much truth as
    it can), then one sample of every group before a second of any. The order hangs on the sample ids alone: a smaller
    limit is a prefix of a larger one, and no seed moves it.
    """
    bare = np.zeros(len(index), bool) if index.annotated is None else ~index.annotated
    visits: dict[tuple[int, str], int] = {}
    classes: dict[int, list[tuple[bool, int, int, int]]] = {}
    for without, key, i in sorted((bool(bare[i]), _hash(name), i) for i, name in enumerate(index.ids)):
        label = int(index.labels[i])
        visit = visits[label, index.groups[i]] = visits.get((label, index.groups[i]), 0) + 1
        classes.setdefault(label, []).append((without, visit, key, i))
    # A class's next sample has a window of places in which the class keeps to its share, and the earliest end goes first:
    # Steiner, Yeomans, "Level schedules for mixed-model, just-in-time processes", Management Science 1993.
    total = len(index)
    waiting = sorted(
        (
            (place * total // len(members), -(-(place + 1) * total // len(members)), label, member[-1])
            for label, members in classes.items()
            for place, member in enumerate(sorted(members))
        ),
        reverse=True,
    )
    ready: list[tuple[int, int, int, int]] = []
    chosen = []
    for place in range(total if limit is None else min(limit, total)):
        while waiting and waiting[-1][0] <= place:
            start, end, label, i = waiting.pop()
            heapq.heappush(ready, (end, start, label, i))
        chosen.append(heapq.heappop(ready)[-1])
    ids = tuple(index.ids[i] for i in chosen)
    digest = samples_digest(index.digest, ids)
    return Selection(ids, tuple(int(index.labels[i]) for i in chosen), tuple(index.groups[i] for i in chosen), digest)


def samples_digest(data: str, ids: Sequence[str]) -> str:
    """Return the SHA-256 that names a choice of samples, in order, of the data of that digest."""
    return hashlib.sha256("\n".join((data, *ids)).encode()).hexdigest()


def group_split(groups: Sequence[str], shares: tuple[float, float], salt: str = "") -> tuple[Bools, Bools, Bools]:
    """Split samples into train, valid and test by group, so that no patient is on two sides.

    Parameters
    ----------
    groups
        [n] group names.
    shares
        The shares of groups for valid and for test; a group's side hangs on its name and ``salt`` alone.
    salt
        Another salt is another split.

    Returns
    -------
    Three [n] bool arrays: train, valid, test.
    """
    place = np.array([_hash(salt + group) / 2**64 for group in groups])
    test = place < shares[1]
    valid = ~test & (place < shares[0] + shares[1])
    return ~test & ~valid, valid, test


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
