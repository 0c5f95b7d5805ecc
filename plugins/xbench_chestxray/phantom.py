"""Generated chest films whose heart can be exchanged: every patient exists with a normal and with an enlarged heart."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xbench.data import Index, Samples
from xbench.errors import XbenchError

# Float64, though films are 8-bit: rounding then hides what exp() and matrix products differ in between processors.
Array = NDArray[np.float64]

CLASSES = ("normal", "enlarged")
RATIOS = ((0.40, 0.48), (0.56, 0.68))
SPLITS = ("train", "valid", "test")

_GENERATOR = 1
_CHUNK_PIXELS = 2**13  # temporaries of 64 KiB stay in the processor's cache
_NAME = re.compile(r"phantom-(train|valid|test)-(\d{5,})")

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
    "heart_density": (0.35, 0.90),
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
    "gamma": (0.85, 1.45),
    "noise": (0.006, 0.045),
}
_LATTICES = (7, 27)


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


def _draw(rng: np.random.Generator) -> Array:
    low, high = np.array(list(_RANGES.values())).T
    return low + (high - low) * rng.random(len(low))


def _films(size: int, seed: int, places: Sequence[tuple[int, int]]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Render b patients: the film [b,H,W] in steps of 1/255, the film with the other heart, the shown heart's mask."""
    streams = [_stream(seed, *place) for place in places]
    draws = np.stack([_draw(rng) for rng in streams])
    p = {name: draws[:, i, None, None] for i, name in enumerate(_RANGES)}
    coarse, fine = (
        up @ np.stack([rng.standard_normal((len(up[0]), len(up[0]))) for rng in streams]) @ up.T
        for up in (_spline(size, knots) for knots in _LATTICES)
    )
    grain = np.stack([rng.standard_normal((size, size)) for rng in streams]) * p["noise"]

    axis = (np.arange(size) + 0.5) / size * 2 - 1
    across, down = (axis - p["shift_x"]) / p["zoom"], (axis[:, None] - p["shift_y"]) / p["zoom"]
    cos, sin = np.cos(p["tilt"]), np.sin(p["tilt"])
    x, y = across * cos + down * sin, down * cos - across * sin
    soft = 1.5 / size  # no edge is sharper than a pixel or so

    tissue, air = _chest(p, x, y, soft, coarse, fine)
    inside = [_heart(p, x, y, p[name]) for name in ("ratio_normal", "ratio_enlarged")]
    films = []
    for distance in inside:
        # The heart displaces lung: where there is no lung (below the diaphragm, behind fluid) its border cannot be seen.
        left = air * (1 - p["heart_density"] * _edge(distance, p["heart_blur"] + soft))
        film = np.clip(p["exposure"] + p["contrast"] * np.clip(tissue - left, 0, None), 0, 1) ** p["gamma"]
        films.append(np.rint(np.clip(film + grain, 0, 1) * 255) / 255)
    enlarged = np.array([position % 2 for _, position in places], bool)[:, None, None]
    shown = np.where(enlarged, films[1], films[0])
    return shown, np.where(enlarged, films[0], films[1]), np.where(enlarged, inside[1], inside[0]) > 0


def _heart(p: Mapping[str, Array], x: Array, y: Array, ratio: Array) -> Array:
    """Return the distance [b,H,W] inside (positive) the heart that is ``ratio`` of the chest wide; it stands on the diaphragm."""
    width, height = 2 * p["chest"] * ratio, p["chest"] * (0.50 + ratio)
    length, breadth = p["heart_length"], p["heart_breadth"]
    cos, sin = np.cos(p["heart_axis"]), np.sin(p["heart_axis"])
    half_wide, half_high = np.hypot(length * cos, breadth * sin), np.hypot(length * sin, breadth * cos)
    bottom = p["diaphragm"] + p["dome_step"] + p["heart_sink"]
    # The left ventricle reaches its share of the width to the image's right, the right atrium the rest to the left.
    u, v = x / width, (y - bottom) / height + half_high
    w = u - (1 - p["heart_share"] - half_wide)
    ventricle = _ellipse(w * cos + v * sin, v * cos - w * sin, length, breadth)
    atrium = _ellipse(u + p["heart_share"] - 0.30, v - 0.02, 0.30, 0.41)
    return np.maximum(ventricle, atrium) * np.sqrt(width * height)


def _chest(p: Mapping[str, Array], x: Array, y: Array, soft: float, coarse: Array, fine: Array) -> tuple[Array, Array]:
    """Return how much a ray is attenuated without air [b,H,W] (soft tissue 1), and how much of that the lungs' air takes away."""
    side, chest = np.abs(x), p["chest"]
    q = side / chest
    left = x > 0  # the patient's left

    shoulder = p["shoulder"] + 0.30 * side * side
    flank = chest + p["wall"] + 0.50 * _ramp((p["axilla"] - y) / 0.75)
    neck = 0.27 + 0.25 * (y + 0.8) - side
    body = np.maximum(np.minimum(flank - side, y - shoulder), np.minimum(neck, 0.6 - y))
    tissue = _edge(body, 0.02 + soft) * (1.0 - 0.50 * np.exp(-np.maximum(body, 0) / 0.18))

    # Each lung is an egg about q = 0.45, cut by the diaphragm's dome and by the mediastinum.
    rise = np.clip((0.30 - y) / (0.30 - p["apex"]), 0, None)
    bulge = (q - 0.45) / np.where(q > 0.45, 0.55, 0.62)
    steep = rise * np.sqrt(rise)
    cage = (1 - bulge * bulge - steep * rise) / np.sqrt((3.4 * bulge / chest) ** 2 + (2.5 * steep) ** 2 + 0.3)
    bend = (q - 0.45) / np.where(q > 0.45, 0.55, 0.9)
    dome = (
        p["diaphragm"] + np.where(left, p["dome_step"], 0) + p["dome_drop"] * bend * bend * (0.45 + 0.55 * bend * bend)
    )
    above = (dome - y) / np.sqrt(1 + (2.2 * bend * p["dome_drop"] / chest) ** 2)
    vessels = _ellipse(x - 0.02, y + 0.12, p["mediastinum"] + 0.05, 0.42 + 0 * chest)
    knob = _ellipse(x - 0.09, y - p["knob_y"], p["knob"], p["knob"])
    middle = np.maximum(np.maximum(p["mediastinum"] * (0.85 + 0.25 * y) - side, vessels), knob)
    air = _edge(cage, 0.015 + soft) * (0.62 + 0.38 * _ramp(cage / 0.30))
    air *= (_edge(above, 0.012 + soft) * 0.92 + 0.08 * _ramp(above / 0.15 + 1)) * (1 - _edge(middle, 0.03 + soft))
    lung = air.copy()

    hila = np.exp(-(((side - 0.20) / 0.22) ** 2 + ((y + 0.02) / 0.34) ** 2))
    slope = (y + 0.05) / (np.abs(side - 0.17) + 0.05)  # vessels run out from the hila, at slopes that texture bends
    wave = np.cos(14 * slope / (1 + np.abs(slope)) + 1.7 * fine + 2 * left)
    strands = (_ramp((wave - 0.3) / 0.6) * 1.6 + 0.5) * hila
    fluid_side = np.where(p["effusion_side"] > 0, left, ~left)
    fluid = y - (p["diaphragm"] + 0.12 - p["effusion"] * (0.7 + 0.6 * q * q))
    air *= 1 - np.clip(p["vessels"] * strands, 0, 0.6)
    for spot in ("opacity_right", "opacity_left"):
        apart = (x - p[spot + "_q"] * chest) ** 2 + (y - p[spot + "_y"]) ** 2
        patch = np.exp(-apart / p[spot + "_size"] ** 2) * np.clip(1 + 0.25 * coarse, 0, 1.1)
        air *= 1 - np.clip(p[spot], 0, None) * patch
    air *= 1 - 0.9 * fluid_side * (p["effusion"] > 0) * _edge(fluid, 0.05 + soft)
    air *= p["lung_air"] * (1 + p["haze"] * (coarse + 0.5 * fine))

    tissue += _bones(p, x, y, q, soft, lung, cage) * _edge(body - 0.04, 0.04)
    tissue += 0.10 * _ramp(-above / 0.25) * _edge(body, 0.1)
    breast = _ellipse(side - p["breast_q"] * chest, y - 0.28, 0.44 * chest, 0.30 + 0 * chest)
    tissue += np.clip(p["breast"], 0, None) * _edge(breast, 0.05 + soft)
    bubble = _ellipse(x - p["bubble_x"], y - p["diaphragm"] - p["dome_step"] - 0.16, 0.12, 0.08)
    tissue -= np.clip(p["bubble"], 0, None) * _edge(bubble, 0.03 + soft)
    windpipe = (0.045 - np.abs(x + 0.01)) * 1.0
    tissue -= 0.10 * _edge(windpipe, 0.02 + soft) * _ramp((-0.28 - y) / 0.08)
    tissue *= 1 + 0.03 * coarse
    return tissue, air


def _bones(p: Mapping[str, Array], x: Array, y: Array, q: Array, soft: float, lung: Array, cage: Array) -> Array:
    """Return what spine, ribs, collar bones and shoulder blades add to the attenuation [b,H,W]."""
    side = np.abs(x)
    discs = 1 + 0.22 * np.cos(2 * np.pi * y / p["vertebra"])
    bones = p["spine"] * _edge(0.075 - side, 0.025 + soft) * discs

    near = _edge(cage + 0.05, 0.04) * (0.35 + 0.65 * lung)
    back = (y - 0.10 * q * (q - 0.6) - 0.16 * (q * q) ** 2) / p["rib_gap"] + p["rib_phase"]
    front = (y + 0.42 * q + 0.10 * q * q) / (p["rib_gap"] * 1.08) - p["rib_phase"] * 3
    for phase, weight in ((back, _ramp((side - 0.05) / 0.1)), (front, 0.6 * _ramp((q - 0.25) / 0.3))):
        wave = np.cos(2 * np.pi * phase)
        band = _ramp((wave + 0.25) / 0.7)
        bones += p["rib_density"] * weight * near * (band - 0.35 * _ramp((wave - 0.35) / 0.5))

    collar = p["clavicle_y"] - p["clavicle_slope"] * (side - 0.07) + 0.05 * np.sin(6 * side)
    shaft = np.minimum(0.035 - np.abs(y - collar), side - 0.06)
    bones += p["clavicle"] * _edge(shaft, 0.012 + soft) * (1 - _ramp((side - 0.72) / 0.15))
    u, v = side - p["chest"] * 1.02, y + 0.36
    blade = _ellipse(u * 0.9 + v * 0.43, v * 0.9 - u * 0.43, 0.10, 0.30)
    head = _ellipse(side - p["chest"] - 0.26, y + 0.62, 0.13, 0.13)
    return bones + 0.6 * p["clavicle"] * (_edge(blade, 0.03 + soft) + 1.2 * _edge(head, 0.02 + soft))


def _ellipse(u: Array, v: Array, a: Array | float, b: Array | float) -> Array:
    """Return the distance inside (positive) an ellipse of half axes ``a`` and ``b``, exact to first order at its border."""
    s, t = u * (1 / a), v * (1 / b)
    excess, slope = s * s + t * t - 1, (s * (1 / a)) ** 2 + (t * (1 / b)) ** 2
    return -0.5 * excess / np.sqrt(slope + 1e-6)


def _edge(distance: Array, half: Array | float) -> Array:
    """Return 0 outside, 1 inside, and a smooth rise of width 2 x ``half`` across the border."""
    return _ramp(0.5 + distance * (0.5 / half))


def _ramp(t: Array) -> Array:
    t = np.clip(t, 0, 1)
    rise = 3 - 2 * t
    rise *= t
    rise *= t
    return rise


@lru_cache(maxsize=8)
def _spline(size: int, knots: int) -> Array:
    """Return the matrix [size, knots] that makes a smooth function of unit-variance knots (cubic B-splines)."""
    at = (np.arange(size) + 0.5) / size * (knots - 3) + 1
    t = np.abs(at[:, None] - np.arange(knots))
    weights = np.where(t < 1, (4 - 6 * t**2 + 3 * t**3) / 6, np.clip(2 - t, 0, None) ** 3 / 6)
    return weights / np.sqrt((weights**2).sum(1, keepdims=True))
