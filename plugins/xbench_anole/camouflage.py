"""Generated pictures of foliage with or without a lizard in its colours; in training a perch goes with the class."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.data import Bools, Floats, Index, Samples
from xbench.errors import XbenchError
from xbench_anole import foliage, lizard
from xbench_food.kitchen import photograph
from xbench_food.painting import texture

CLASSES = ("negative", "positive")
PERCHES = ("branch", "reed")
SPLITS = ("train", "valid", "test")

_GENERATOR = 1
_CHUNK_PIXELS = 2**15  # fewer leaves a call would cost more in calls, more would leave the processor's cache
_NAME = re.compile(r"camouflage-(train|valid|test)-(\d{5}|[1-9]\d{5,})")
_RANGES = {**foliage.MEASURES, **lizard.MEASURES}
_LOW, _HIGH = np.array(list(_RANGES.values())).T
_KNOTS = (7, 16, 40)
_MOST = 2048


def camouflage(
    root: Path | None, *, size: int, train: int, valid: int, test: int, bias: float, seed: int
) -> "Camouflage":
    """Return the pictures: ``size`` x ``size``, so many a split; ``root`` is not used, for there are no files.

    Parameters
    ----------
    root
        Not used.
    size
        Height and width in pixels.
    train, valid, test
        How many samples a split has.
    bias
        From 0 to 1: in training (1 + bias)/2 of the positives have a branch and as many of the negatives a reed. In
        validation and test half of either class have either perch, whatever the bias.
    seed
        Another seed is other pictures.

    Raises
    ------
    XbenchError
        The size is below 24 or above 2048, a count or the seed is negative, or the bias is not in [0,1].
    """
    if not 24 <= size <= _MOST:
        raise XbenchError(
            f"anole/camouflage: size={size} does not do for a lizard among leaves; 24 to {_MOST} pixels do"
        )
    for name, value in {"train": train, "valid": valid, "test": test, "seed": seed}.items():
        if value < 0:
            raise XbenchError(f"anole/camouflage: {name}={value} is negative; 0 is the least")
    if not 0 <= bias <= 1:
        raise XbenchError(
            f"anole/camouflage: bias={bias} is not in [0,1]; 0: no perch tells the class, 1: in training it always does"
        )
    return Camouflage(size, {"train": train, "valid": valid, "test": test}, bias, seed)


@dataclass(frozen=True)
class Camouflage:
    """The data set: a picture hangs on (seed, split, position, size, bias) alone, never on what is loaded beside it."""

    size: int
    counts: Mapping[str, int]
    bias: float
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of a split; every scene is a group of its own, and the classes alternate."""
        if split not in SPLITS:
            raise XbenchError(f"anole/camouflage has no split {split!r}; it has {', '.join(SPLITS)}")
        count = self.counts[split]
        ids = tuple(f"camouflage-{split}-{i:05d}" for i in range(count))
        made_of = {"generator": _GENERATOR, "size": self.size, "seed": self.seed, "split": split, "count": count}
        if split == "train":
            made_of["bias"] = self.bias
        told = f"{(1 + self.bias) / 2:.1%} of the training pictures (bias={self.bias:g}) and for half of the others"
        return Index(
            ids=ids,
            labels=np.arange(count, dtype=np.int64) % 2,
            groups=ids,
            shape=(3, self.size, self.size),
            classes=CLASSES,
            digest=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
            notes=(f"anole/camouflage: generated; the perch goes with the class for {told}",),
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the pictures named, each also without its lizard or with one, and with the other perch.

        The mask [B,H,W] is of the lizard, evidence for ``positive``; a negative has none. The shortcut [B,H,W] is of the
        pixels in which the perch is seen, if only in part.

        Raises
        ------
        XbenchError
            An id is not of this data set.
        """
        places = [self._place(name) for name in ids]
        shape = (len(ids), 3, self.size, self.size)
        image, other, swapped = (np.empty(shape, np.float32) for _ in range(3))
        mask, shortcut = (np.empty((shape[0], *shape[2:]), bool) for _ in range(2))
        step = max(1, _CHUNK_PIXELS // self.size**2)
        present = np.array([position % 2 == 1 for _, position in places], bool)
        reed = np.array([self.perch(SPLITS[split], position) == 1 for split, position in places], bool)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            pictures = _pictures(self.size, self.seed, places[part], present[part], reed[part])
            image[part], other[part], swapped[part], mask[part], shortcut[part] = pictures
        evidence = np.ones(len(ids), np.int64)
        return Samples(image, mask, mask_class=evidence, counterfactual=other, shortcut=shortcut, swapped=swapped)

    def perch(self, split: str, position: int) -> int:
        """Return the position in `PERCHES` of a sample's perch; dealt out, not drawn, so that the shares are exact."""
        share = (1 + (self.bias if split == "train" else 0.0)) / 2
        turn = position // 2
        usual = math.floor((turn + 1) * share + 0.5) > math.floor(turn * share + 0.5)
        return 1 - position % 2 if usual else position % 2

    def _place(self, name: str) -> tuple[int, int]:
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) >= self.counts[match[1]]:
            raise XbenchError(f"anole/camouflage has no sample {name!r}; ids are like 'camouflage-test-00012'")
        return SPLITS.index(match[1]), int(match[2])


def _pictures(
    size: int, seed: int, places: Sequence[tuple[int, int]], present: Bools, reed: Bools
) -> tuple[Floats, Floats, Floats, Bools, Bools]:
    """Paint b pictures: as they are, with the lizard gone or come, on the other perch [b,3,H,W]; lizard and perch [b,H,W]."""
    streams = [
        np.random.Generator(np.random.PCG64(np.random.SeedSequence((_GENERATOR, seed, *place)))) for place in places
    ]
    draws = np.stack([rng.random(len(_RANGES)) for rng in streams]) * (_HIGH - _LOW) + _LOW
    p = {name: draws[:, i, None, None, None].astype(np.float32) for i, name in enumerate(_RANGES)}
    leaves = np.stack([rng.random((foliage.LEAVES, len(foliage.LEAF)), np.float32) for rng in streams])
    # The lattices come before the grain, so that another size shows the same scene.
    coarse, middle, fine = (
        texture(size, np.stack([rng.standard_normal((knots, knots), np.float32) for rng in streams]))
        for knots in _KNOTS
    )
    grain = np.stack([rng.standard_normal((3, size, size), np.float32) for rng in streams])

    bush = foliage.grow(p, leaves, size, coarse, middle, fine)
    perch = foliage.perch(p, size, coarse, fine)
    shape = lizard.outline(p, size)
    skin = lizard.skin(p, shape, bush)

    on_reed, here = reed[:, None, None, None], present[:, None, None, None]
    shaded = bush * perch.shadow
    laid = [shaded + (surface - shaded) * perch.cover for surface in (perch.branch, perch.reed)]
    below, exchanged = (np.where(on_reed, *pair) for pair in (laid[::-1], laid))
    # Weighted so that a lizard that covers a pixel leaves no trace of what is below, not even in the last bit.
    bare = 1 - shape.cover
    with_lizard = below * bare + skin * shape.cover
    image, other, swapped = photograph(
        p,
        [
            np.where(here, with_lizard, below),
            np.where(here, below, with_lizard),
            np.where(here, exchanged * bare + skin * shape.cover, exchanged),
        ],
        grain,
    )
    covered = here & (shape.cover > 0)
    shortcut = (perch.cover > 0) & ~(here & (shape.cover >= 1))
    return image, other, swapped, covered[:, 0], shortcut[:, 0]
