"""Generated chest films whose heart can be exchanged: every patient exists with a normal and with an enlarged heart."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xbench.data import Bools, Floats, Index, Samples
from xbench.errors import XbenchError
from xbench_chestxray.radiograph import expose, texture

CLASSES = ("normal", "enlarged")
RATIOS = ((0.40, 0.48), (0.56, 0.68))
SPLITS = ("train", "valid", "test")

_GENERATOR = 1
_CHUNK_PIXELS = 2**14  # temporaries of 64 KiB stay in the processor's cache
_NAME = re.compile(r"phantom-(train|valid|test)-(\d{5}|[1-9]\d{5,})")

# One uniform draw each, in this order. Lengths are in half image widths and y points down; "q" lengths are in half chest
# widths. A finding that starts below zero is absent in that share of patients.
_RANGES: Mapping[str, tuple[float, float]] = {
    "ratio_normal": RATIOS[0],
    "ratio_enlarged": RATIOS[1],
    "chest": (0.56, 0.74),  # half the inner width of the chest
    "zoom": (0.94, 1.06),
    "shift_x": (-0.06, 0.06),
    "shift_y": (-0.05, 0.05),
    "tilt": (-0.06, 0.06),  # radians
    "apex": (-0.84, -0.70),
    "diaphragm": (0.28, 0.50),  # top of the right dome
    "dome_step": (-0.02, 0.10),  # how much lower the left dome is
    "dome_drop": (0.26, 0.44),
    "wall": (0.10, 0.24),
    "axilla": (0.00, 0.45),
    "shoulder": (-1.02, -0.88),
    "heart_share": (0.22, 0.40),  # of its width, to the patient's right of the midline
    "heart_length": (0.50, 0.56),
    "heart_breadth": (0.34, 0.38),
    "heart_axis": (0.75, 1.0),  # radians below the horizontal
    "heart_sink": (0.05, 0.10),
    "heart_density": (0.28, 0.90),
    "heart_blur": (0.012, 0.080),
    "mediastinum": (0.10, 0.15),
    "knob": (0.06, 0.11),
    "knob_y": (-0.46, -0.34),
    "lung_air": (0.38, 0.64),
    "spine": (0.05, 0.13),
    "vertebra": (0.105, 0.135),
    "rib_gap": (0.150, 0.200),
    "rib_phase": (0.0, 1.0),
    "rib_density": (0.03, 0.10),
    "clavicle": (0.06, 0.14),
    "clavicle_y": (-0.68, -0.56),
    "clavicle_slope": (-0.05, 0.22),
    "breast": (-0.10, 0.12),
    "breast_q": (0.45, 0.60),
    "bubble": (-0.20, 0.35),
    "bubble_x": (0.30, 0.50),
    "vessels": (0.04, 0.14),
    "haze": (0.02, 0.15),
    "opacity_right": (-0.45, 0.95),
    "opacity_right_q": (-0.70, -0.10),
    "opacity_right_y": (-0.10, 0.45),
    "opacity_right_size": (0.12, 0.36),
    "opacity_left": (-0.45, 0.95),
    "opacity_left_q": (0.20, 0.85),
    "opacity_left_y": (-0.10, 0.45),
    "opacity_left_size": (0.12, 0.36),
    "effusion": (-0.75, 0.50),  # how far above the dome the fluid stands
    "effusion_side": (-1.0, 1.0),
    "exposure": (-0.04, 0.08),
    "contrast": (0.62, 0.84),
    "tone": (0.80, 1.70),
    "noise": (0.006, 0.050),
}
_KNOTS = (7, 27)


def phantom(root: Path | None, *, size: int, train: int, valid: int, test: int, seed: int) -> "Phantom":
    """Return the phantom: ``size`` x ``size`` films, so many a split; ``root`` is not used, for there are no files.

    Raises
    ------
    XbenchError
        The size is below 16, or a count or the seed is negative.
    """
    if size < 16:
        raise XbenchError(f"chestxray/phantom: size={size} is too small for a chest; 16 is the least")
    for name, value in {"train": train, "valid": valid, "test": test, "seed": seed}.items():
        if value < 0:
            raise XbenchError(f"chestxray/phantom: {name}={value} is negative; 0 is the least")
    return Phantom(size, {"train": train, "valid": valid, "test": test}, seed)


@dataclass(frozen=True)
class Phantom:
    """The data set: a film hangs on (seed, split, position, size) alone, never on what is loaded beside it."""

    size: int
    counts: Mapping[str, int]
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of a split; every patient is a group of its own, and the classes alternate."""
        if split not in SPLITS:
            raise XbenchError(f"chestxray/phantom has no split {split!r}; it has {', '.join(SPLITS)}")
        count = self.counts[split]
        ids = tuple(f"phantom-{split}-{i:05d}" for i in range(count))
        made_of = {"generator": _GENERATOR, "size": self.size, "seed": self.seed, "split": split, "count": count}
        return Index(
            ids=ids,
            labels=np.arange(count, dtype=np.int64) % 2,
            groups=ids,
            shape=(1, self.size, self.size),
            classes=CLASSES,
            digest=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return the films named, each with its heart's silhouette and as it would be with the other heart.

        Raises
        ------
        XbenchError
            An id is not of this data set.
        """
        places = [self._place(name) for name in ids]
        shape = (len(ids), self.size, self.size)
        image, other, mask = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, bool)
        step = max(1, _CHUNK_PIXELS // self.size**2)
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            image[part], other[part], mask[part] = _films(self.size, self.seed, places[part])
        return Samples(
            image=image[:, None],
            mask=mask,
            mask_class=np.full(len(ids), -1, np.int64),
            counterfactual=other[:, None],
        )

    def _place(self, name: str) -> tuple[int, int]:
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) >= self.counts[match[1]]:
            raise XbenchError(f"chestxray/phantom has no sample {name!r}; ids are like 'phantom-test-00012'")
        return SPLITS.index(match[1]), int(match[2])


def patient(seed: int, split: str, position: int) -> dict[str, float]:
    """Return what was drawn for a patient: `chest` is half the inner chest width in half image widths, `ratio_normal` and
    `ratio_enlarged` are the cardiothoracic ratios of the two hearts.
    """
    return dict(zip(_RANGES, _draw(_stream(seed, SPLITS.index(split), position)).tolist(), strict=True))


def _stream(seed: int, split: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((_GENERATOR, seed, split, position))))


def _draw(rng: np.random.Generator) -> NDArray[np.float64]:
    low, high = np.array(list(_RANGES.values())).T
    drawn: NDArray[np.float64] = low + (high - low) * rng.random(len(low))
    return drawn


def _films(size: int, seed: int, places: Sequence[tuple[int, int]]) -> tuple[Floats, Floats, Bools]:
    """Render b patients: the film [b,H,W] in steps of 1/255, the film with the other heart, the shown heart's mask."""
    streams = [_stream(seed, *place) for place in places]
    draws = np.stack([_draw(rng) for rng in streams])
    coarse, fine = (
        texture(size, np.stack([rng.standard_normal((knots, knots)) for rng in streams])) for knots in _KNOTS
    )
    grain = np.stack([rng.standard_normal((size, size), np.float32) for rng in streams])
    patients = {name: draws[:, i, None, None].astype(np.float32) for i, name in enumerate(_RANGES)}
    films, inside = expose(patients, coarse, fine, grain)
    enlarged = np.array([position % 2 for _, position in places], bool)[:, None, None]
    shown = np.where(enlarged, films[1], films[0])
    return shown, np.where(enlarged, films[0], films[1]), np.where(enlarged, inside[1], inside[0]) > 0
