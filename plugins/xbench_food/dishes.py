"""Generated pictures of a dish on a plate: the toppings decide the class, the plate goes with it by a chosen bias."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.data import Bools, Floats, Index, Ints, Samples
from xbench.errors import XbenchError
from xbench_food import kitchen, toppings
from xbench_food.painting import texture

CLASSES = ("okonomiyaki", "pizza")
PLATES = ("iron", "china")
SPLITS = ("train", "valid", "test")

_GENERATOR = 1
_CHUNK_PIXELS = 2**13  # temporaries of three channels stay in the processor's cache
_NAME = re.compile(r"dishes-(train|valid|test)-(\d{5}|[1-9]\d{5,})")
_RANGES = {**kitchen.MEASURES, **toppings.MEASURES}
_LOW, _HIGH = np.array(list(_RANGES.values())).T
_KNOTS = (7, 16, 40)
_MOST = 2048


def dishes(root: Path | None, *, size: int, train: int, valid: int, test: int, bias: float, seed: int) -> "Dishes":
    """Return the dishes: ``size`` x ``size`` pictures, so many a split; ``root`` is not used, for there are no files.

    Parameters
    ----------
    root
        Not used.
    size
        Height and width in pixels.
    train, valid, test
        How many samples a split has.
    bias
        From 0 to 1: in training and validation (1 + bias)/2 of the okonomiyaki lie on iron and as many of the pizzas on
        china. In the test split half of either class lie on either plate, whatever the bias.
    seed
        Another seed is other dishes.

    Raises
    ------
    XbenchError
        The size is below 24 or above 2048, a count or the seed is negative, or the bias is not in [0,1].
    """
    if not 24 <= size <= _MOST:
        raise XbenchError(f"food/dishes: size={size} does not do for a dish with toppings; 24 to {_MOST} pixels do")
    for name, value in {"train": train, "valid": valid, "test": test, "seed": seed}.items():
        if value < 0:
            raise XbenchError(f"food/dishes: {name}={value} is negative; 0 is the least")
    if not 0 <= bias <= 1:
        raise XbenchError(f"food/dishes: bias={bias} is not in [0,1]; 0: no plate tells the class, 1: it always does")
    return Dishes(size, {"train": train, "valid": valid, "test": test}, bias, seed)


@dataclass(frozen=True)
class Dishes:
    """The data set: a picture hangs on (seed, split, position, size, bias) alone, never on what is loaded beside it."""

    size: int
    counts: Mapping[str, int]
    bias: float
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of a split; every dish is a group of its own, and the classes alternate."""
        if split not in SPLITS:
            raise XbenchError(f"food/dishes has no split {split!r}; it has {', '.join(SPLITS)}")
        count = self.counts[split]
        ids = tuple(f"dishes-{split}-{i:05d}" for i in range(count))
        made_of = {"generator": _GENERATOR, "size": self.size, "seed": self.seed, "split": split, "count": count}
        if split != "test":
            made_of["bias"] = self.bias
        told = f"{(1 + self.bias) / 2:.1%} of the training dishes (bias={self.bias:g}) and for half of the test dishes"
        return Index(
            ids=ids,
            labels=np.arange(count, dtype=np.int64) % 2,
            groups=ids,
            shape=(3, self.size, self.size),
            classes=CLASSES,
            digest=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
            notes=(f"food/dishes: generated; the plate goes with the class for {told}",),
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the pictures named, each also with the other class's toppings and with the other plate.

        The mask [B,H,W] is of the toppings, evidence for the sample's own class; the shortcut [B,H,W] is of the pixels in
        which the plate is seen, if only in part.

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
        labels = np.array([position % 2 for _, position in places], np.int64)
        china = np.array([self.plate(SPLITS[split], position) == 1 for split, position in places], bool)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            pictures = _pictures(self.size, self.seed, places[part], labels[part], china[part])
            image[part], other[part], swapped[part], mask[part], shortcut[part] = pictures
        return Samples(image, mask, mask_class=labels, counterfactual=other, shortcut=shortcut, swapped=swapped)

    def plate(self, split: str, position: int) -> int:
        """Return the position in `PLATES` of a sample's plate; dealt out, not drawn, so that the shares are exact."""
        share = (1 + (0.0 if split == "test" else self.bias)) / 2
        turn = position // 2
        usual = math.floor((turn + 1) * share + 0.5) > math.floor(turn * share + 0.5)
        return position % 2 if usual else 1 - position % 2

    def _place(self, name: str) -> tuple[int, int]:
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) >= self.counts[match[1]]:
            raise XbenchError(f"food/dishes has no sample {name!r}; ids are like 'dishes-test-00012'")
        return SPLITS.index(match[1]), int(match[2])


def _pictures(
    size: int, seed: int, places: Sequence[tuple[int, int]], labels: Ints, china: Bools
) -> tuple[Floats, Floats, Floats, Bools, Bools]:
    """Paint b pictures: as they are, with the other toppings, on the other plate [b,3,H,W]; toppings and plate [b,H,W]."""
    streams = [
        np.random.Generator(np.random.PCG64(np.random.SeedSequence((_GENERATOR, seed, *place)))) for place in places
    ]
    draws = np.stack([rng.random(len(_RANGES)) for rng in streams]) * (_HIGH - _LOW) + _LOW
    p = {name: draws[:, i, None, None, None].astype(np.float32) for i, name in enumerate(_RANGES)}
    # The lattices come before the grain, so that another size shows the same dish.
    coarse, middle, fine = (
        texture(size, np.stack([rng.standard_normal((knots, knots), np.float32) for rng in streams]))
        for knots in _KNOTS
    )
    grain = np.stack([rng.standard_normal((3, size, size), np.float32) for rng in streams])

    scene = kitchen.build(p, size, coarse, middle, fine)
    at = toppings.Place(scene.s, scene.t, scene.cover >= 1, scene.soft, coarse, middle, fine)
    both = [toppings.okonomiyaki(p, at), toppings.pizza(p, at)]
    dressed = [toppings.dress(scene.dish, layers) for layers in both]
    covered = [toppings.covered(layers) for layers in both]

    is_pizza, on_china = (labels == 1)[:, None, None, None], china[:, None, None, None]
    own, others = np.where(is_pizza, dressed[1], dressed[0]), np.where(is_pizza, dressed[0], dressed[1])
    below, swapped = (np.where(on_china, *pair) for pair in (scene.plates[::-1], scene.plates))
    # Weighted so that a dish that covers a pixel leaves no trace of what is below, not even in the last bit.
    bare = 1 - scene.cover
    laid = [plate * bare + dish * scene.cover for plate, dish in ((below, own), (below, others), (swapped, own))]
    image, other, exchanged = kitchen.photograph(p, laid, grain)
    mask = np.where(is_pizza, covered[1], covered[0])[:, 0]
    shortcut = ((scene.on_plate > 0) & (scene.cover < 1))[:, 0]
    return image, other, exchanged, mask, shortcut
