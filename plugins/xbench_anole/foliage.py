"""The picture but for the lizard: leaves over leaves in a chosen light, and the perch that crosses them, branch or reed.

``p`` holds a picture's draws [b,1,1,1] by the names and in the units of `MEASURES`; lengths are in half image widths, x
points right, y down. Planes are as in `xbench_food.painting`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xbench_food.painting import Plane, between, direction, edge, hat, ramp, rgb, turned, zigzag

Draws = Mapping[str, Plane]

# One uniform draw each.
MEASURES: Mapping[str, tuple[float, float]] = {
    "lush": (0.0, 1.0),  # from yellowish to bluish green
    "bright": (0.75, 1.15),
    "withered": (0.02, 0.35),  # the share of brown leaves
    "heading": (0.0, 6.28),  # about which most leaves point
    "blur": (0.0, 0.030),  # of the leaves' edges, the farther the more
    "depth": (0.25, 0.55),  # how dark the shadows between leaves are
    "perch_turn": (0.0, 3.14),
    "perch_off": (-0.60, 0.60),
    "perch_bend": (-0.18, 0.18),
    "perch_thick": (0.06, 0.10),  # half of it
    "perch_tone": (0.0, 1.0),
    "perch_phase": (0.0, 1.0),
    "light_from": (0.0, 6.28),
    "light_fall": (0.05, 0.30),
    "exposure": (1.00, 1.50),
    "warmth": (-0.10, 0.10),
    "tint": (-0.05, 0.05),
    "vignette": (0.0, 0.25),
    "noise": (0.008, 0.030),
}


@dataclass(frozen=True)
class Layer:
    """Leaves equally far away: how many, how light, the ranges of half their length and of width over length."""

    count: int
    light: float
    blur: float
    length: tuple[float, float]
    width: tuple[float, float]


LAYERS = (
    Layer(12, 0.50, 2.0, (0.32, 0.48), (0.36, 0.60)),
    Layer(12, 0.75, 1.0, (0.28, 0.46), (0.28, 0.50)),
    Layer(3, 0.85, 0.7, (0.50, 0.80), (0.04, 0.07)),
    Layer(12, 1.00, 0.5, (0.24, 0.44), (0.24, 0.48)),
)


@dataclass(frozen=True)
class Perch:
    """A perch of either kind, of the same course and thickness, so that one can be exchanged for the other.

    Attributes
    ----------
    branch, reed
        Its colours as either kind [b,3,H,W].
    cover
        How far it hides what is behind [b,1,H,W].
    shadow
        What is left of the light behind it [b,1,H,W].
    """

    branch: Plane
    reed: Plane
    cover: Plane
    shadow: Plane


LEAF = ("x", "y", "turn", "length", "width", "tone", "brown", "lit")
"""What is drawn for every leaf, each uniform on [0,1)."""

LEAVES = sum(layer.count for layer in LAYERS)
_SHADOW = 0.12  # how much farther than the leaf its shadow reaches, in half its lengths; blur comes on top


def grow(p: Draws, leaves: Plane, size: int, coarse: Plane, middle: Plane, fine: Plane) -> Plane:
    """Return the foliage [b,3,H,W] of b pictures.

    Parameters
    ----------
    p
        The pictures' measures.
    leaves
        The leaves' draws [b,LEAVES,len(LEAF)] in [0,1), the farthest first.
    size
        H and W.
    coarse, middle, fine
        Textures [b,1,H,W] of unit variance, features about 1/4, 1/12, 1/32 of a side.
    """
    ground = between((0.05, 0.08, 0.03), (0.11, 0.13, 0.06), p["lush"]) * (1 + 0.3 * coarse + 0.2 * middle)
    # Channels first: a window is then picked for all at once.
    canvas = np.moveaxis(np.broadcast_to(ground, (len(leaves), 3, size, size)), 1, 0).copy()
    done = 0
    for layer in LAYERS:
        for i in range(done, done + layer.count):
            _leaf(p, dict(zip(LEAF, leaves[:, i].T[:, :, None, None], strict=True)), layer, canvas)
        done += layer.count
    foliage = np.ascontiguousarray(np.moveaxis(canvas, 0, 1))
    foliage *= 1 + 0.05 * middle + 0.04 * fine
    return foliage


def _leaf(p: Draws, leaf: Draws, layer: Layer, canvas: Plane) -> None:
    """Lay one leaf of every picture on the canvases [3,b,H,W], in place, each in a window that holds it whole."""
    size = canvas.shape[-1]
    own = {name: p[name][:, 0] for name in ("heading", "blur", "depth", "bright")}
    longest = 1.03 * layer.length[1] * (1 + _SHADOW) + layer.blur * MEASURES["blur"][1] + 1.3 / size
    side = min(size, math.ceil(longest * size) + 2)

    def window(middle: Plane) -> tuple[Plane, Plane]:
        start = np.clip(np.floor((middle + 1 - longest) * (size / 2)), 0, size - side).astype(np.int64)
        pixels = start[:, 0] + np.arange(side)
        return pixels, ((pixels + 0.5) * (2 / size) - 1).astype(np.float32)

    x, y = leaf["x"] * 2.3 - 1.15, leaf["y"] * 2.3 - 1.15
    (rows, down), (columns, across) = window(y), window(x)
    length = layer.length[0] + (layer.length[1] - layer.length[0]) * leaf["length"]
    width = layer.width[0] + (layer.width[1] - layer.width[0]) * leaf["width"]
    lit = leaf["lit"]
    turn = own["heading"] + 3.1 * (leaf["turn"] - 0.5) + 3.1416 * (lit > 0.8)

    u, v = turned((across[:, None, :] - x) / length, (down[:, :, None] - y) / length, turn)
    beside = np.abs(v)
    # Beyond the tips a narrow leaf's outline alone would fall off too slowly.
    rim = np.minimum(width * (1 - u * u) * np.maximum(1 + 0.35 * u, 0.5) - beside, 1 - np.abs(u))
    soft = (np.float32(1.3 / size) + layer.blur * own["blur"]) / length
    cover = edge(rim, soft)
    shadow = 1 - own["depth"] * edge(rim + 0.05, soft + (_SHADOW - 0.05))

    shade = 0.72 + 0.30 * lit - 0.10 * u + (0.20 * lit - 0.10) * np.clip(v / (0.05 + soft), -1, 1)
    shade += 0.25 * hat(v, 0.035 + 0.3 * soft) + 0.08 * hat(zigzag(2.5 * (u + 0.8 * beside)) - 1, 0.5)
    shade *= own["bright"] * layer.light
    under = canvas[:, np.arange(len(u))[:, None, None], rows[:, :, None], columns[:, None, :]]
    under *= shadow
    over = _tint(p, leaf["tone"], leaf["brown"]) * shade
    over -= under
    over *= cover
    under += over
    canvas[:, np.arange(len(u))[:, None, None], rows[:, :, None], columns[:, None, :]] = under


def _tint(p: Draws, tone: Plane, brown: Plane) -> Plane:
    """Return a leaf's colour [3,b,1,1]; ``tone`` and ``brown`` [b,1,1]."""
    tone, brown = tone[:, None], brown[:, None]
    low = between((0.20, 0.30, 0.08), (0.10, 0.26, 0.10), p["lush"])
    high = between((0.52, 0.60, 0.20), (0.34, 0.54, 0.22), p["lush"])
    dead = between((0.30, 0.19, 0.09), (0.58, 0.42, 0.22), tone)
    return np.moveaxis(np.where(brown < p["withered"], dead, low + (high - low) * tone), 1, 0)


def perch(p: Draws, size: int, coarse: Plane, fine: Plane) -> Perch:
    """Return the perches of b pictures."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    along, across = turned(axis, axis[:, None], p["perch_turn"])
    half = p["perch_thick"]
    slope = 2 * p["perch_bend"] * along
    across = (across - p["perch_off"] - p["perch_bend"] * along * along) / np.sqrt(1 + slope * slope)
    rim = half - np.abs(across)
    cover = edge(rim, 1.3 / size)
    cover *= cover > 0.15
    shadow = 1 - 0.5 * edge(rim + 0.03, 0.05)

    c = across / half
    light_x, light_y = direction(p["light_from"])
    cos, sin = direction(p["perch_turn"])
    facing = light_y * cos - light_x * sin
    round_ = 1 - 0.42 * c * c + 0.22 * facing * c

    bark = between((0.28, 0.22, 0.11), (0.50, 0.41, 0.24), p["perch_tone"])
    cracks = ramp((0.35 - np.abs(zigzag(1.4 * c + 0.25 * coarse + 0.1 * fine + along))) / 0.3)
    branch = bark * round_ * (1 + 0.16 * fine - 0.35 * cracks)

    pale = between((0.27, 0.33, 0.14), (0.48, 0.55, 0.28), p["perch_tone"])
    node = hat(zigzag(1.1 * along + p["perch_phase"]) - 1, 0.16)
    reed = pale * round_ * (1 + 0.05 * zigzag(1.7 * c) - 0.30 * node) + rgb(0.03, 0.02, 0.0) * node
    return Perch(branch, reed, cover, shadow)
