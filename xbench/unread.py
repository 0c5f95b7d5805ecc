"""Samples that cannot be read: one damaged picture among thousands costs its own scores and nobody else's."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from xbench.data import Dataset, Index, Samples
from xbench.errors import XbenchError

_PREFIX = "sample/"

Wanted = TypeVar("Wanted")


def read_each(items: Iterable[Wanted], read: Callable[[int, Wanted], None], threads: int) -> dict[int, str]:
    """Call ``read(place, item)`` for every item; return why, by place, of those for which it raised XbenchError."""

    def tried(place: int, item: Wanted) -> str:
        try:
            read(place, item)
        except XbenchError as error:
            return " ".join(str(error).split())
        return ""

    wanted = list(items)
    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and resizes outside the interpreter's lock
        return {place: why for place, why in enumerate(pool.map(tried, range(len(wanted)), wanted)) if why}


def with_stand_ins(samples: Samples) -> Samples:
    """Return samples in which another one stands wherever one cannot be read, that from half the batch away.

    So that all others are computed in the same places of the same batches, and explainers and metrics meet real pictures only;
    what is found of a stand-in is thrown away.

    Raises
    ------
    XbenchError
        None of the samples can be read.
    """
    if not samples.unread:
        return samples
    n = len(samples.image)
    sound = [place for place in range(n) if place not in samples.unread]
    if not sound:
        first = min(samples.unread)
        raise XbenchError(f"none of {n:,} samples can be read, the first of them: {samples.unread[first]}")
    source = np.arange(n)
    for place in samples.unread:
        rank = int(np.searchsorted(sound, place))
        source[place] = sound[(rank + len(sound) // 2) % len(sound)]
    return _taken(samples, source)


def readable(samples: Samples) -> Samples:
    """Return the samples that can be read. Raises XbenchError where there is none."""
    if not samples.unread:
        return samples
    sound = np.array([place for place in range(len(samples.image)) if place not in samples.unread], np.int64)
    if not len(sound):
        raise XbenchError(f"no sample can be read, the first of them: {samples.unread[min(samples.unread)]}")
    return replace(_taken(samples, sound), unread={})


class Mended:
    """A `xbench.data.Dataset` to train on: where a sample cannot be read, the next of its class that can stands in.

    Parameters
    ----------
    dataset
        The data set behind it.
    note
        Hears, in one line, of the first such sample.
    """

    def __init__(self, dataset: Dataset, note: Callable[[str], None]) -> None:
        self.dataset, self.note = dataset, note
        self._splits: dict[str, Index] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._told = False

    def index(self, split: str) -> Index:
        """Return the index of a split."""
        if split not in self._splits:
            index = self._splits[split] = self.dataset.index(split)
            self._places |= {name: (split, place) for place, name in enumerate(index.ids)}
        return self._splits[split]

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the samples named, or who stands in for them. Raises XbenchError where no other of a class can be read."""
        samples = self.dataset.load(ids)
        for place, why in samples.unread.items():
            samples = self._replaced(samples, place, ids[place], why)
        return replace(samples, unread={})

    def _replaced(self, samples: Samples, place: int, name: str, why: str) -> Samples:
        if not self._told:
            self._told = True
            self.note(f"{why}; in the training another of its class stands in, and so for any more that cannot be read")
        for split in ("train", "valid", "test"):
            if name not in self._places:
                self.index(split)
        split, at = self._places[name]
        index = self._splits[split]
        members = np.flatnonzero(index.labels == index.labels[at])
        following = np.roll(members, -1 - int(np.searchsorted(members, at)))[:-1]
        for other in following.tolist():
            found = self.dataset.load([index.ids[other]])
            if not found.unread:
                return _put(samples, place, found)
        label = index.classes[int(index.labels[at])]
        raise XbenchError(f"no sample of {label} in the {split} split can be read, as {why}")


def as_unmeasured(unread: Mapping[str, str]) -> dict[str, str]:
    """Return how a record's ``unmeasured`` tells of samples by id, beside the scores that it tells of by name."""
    return {f"{_PREFIX}{name}": why for name, why in unread.items()}


def unread_in(unmeasured: Mapping[str, str]) -> dict[str, str]:
    """Return why samples could not be read, by id, from a record's ``unmeasured``."""
    return {name.removeprefix(_PREFIX): why for name, why in unmeasured.items() if name.startswith(_PREFIX)}


def scores_in(unmeasured: Mapping[str, str]) -> dict[str, str]:
    """Return why metrics had no answer, by score, from a record's ``unmeasured``."""
    return {name: why for name, why in unmeasured.items() if not name.startswith(_PREFIX)}


def line(found: Mapping[str, str], n: int) -> str:
    """Return the line that a run says of ``n`` samples."""
    name = min(found)
    one = len(found) == 1
    return f"{len(found):,} of {n:,} samples cannot be read and {'has' if one else 'have'} no score: {found[name]}" + (
        "" if one else f", and {len(found) - 1:,} more"
    )


def _taken(samples: Samples, places: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Samples:
    arrays: dict[str, Any] = {
        item.name: value[places]
        for item in fields(samples)
        if isinstance(value := getattr(samples, item.name), np.ndarray)
    }
    return replace(samples, **arrays)


def _put(samples: Samples, place: int, one: Samples) -> Samples:
    """Return samples with another in one place; the arrays that both have, in new arrays."""
    arrays: dict[str, Any] = {}
    for item in fields(samples):
        value, other = getattr(samples, item.name), getattr(one, item.name)
        if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
            value = value.copy()
            value[place] = other[0]
            arrays[item.name] = value
    return replace(samples, **arrays)
