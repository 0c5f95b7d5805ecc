"""The lizard: a bent body with head, tail and four legs, in a skin that copies what is around it.

Coordinates u, v are the body's: u runs from the tip of the tail (-1) to the snout (1), v across. ``p`` holds a picture's
draws [b,1,1,1] by the names and in the units of `MEASURES`; planes are as in `xbench_food.painting`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xbench_food.painting import Plane, direction, edge, hat, ramp, turned

Draws = Mapping[str, Plane]

_LEGS = ("front_left", "front_right", "hind_left", "hind_right")

MEASURES: Mapping[str, tuple[float, float]] = {
    "lizard_x": (-0.40, 0.40),
    "lizard_y": (-0.40, 0.40),
    "lizard_turn": (0.0, 6.28),
    "lizard_length": (0.60, 0.90),  # half of snout to tail, in half image widths
    "plump": (1.20, 1.55),
    "bend": (-0.30, 0.30),
    "sway": (-0.45, 0.45),
    **{f"{leg}_{what}": (0.0, 1.0) for leg in _LEGS for what in ("knee", "foot", "spread")},
    "borrow_turn": (0.0, 6.28),
    "borrow_far": (0.45, 0.70),
    "pattern": (0.10, 0.40),  # how strong the borrowed pattern is on the skin
    "contrast": (-0.30, 0.30),
    "contrast_tint": (-0.08, 0.08),
    "relief": (0.60, 1.00),  # how round the body looks
}

# Half the width along the body; beyond the ends below zero. In half lengths.
_AT = (-1.2, -1.0, -0.5, -0.10, 0.04, 0.35, 0.58, 0.66, 0.78, 0.90, 1.0, 1.2)
_WIDE = (-0.03, 0.008, 0.026, 0.046, 0.074, 0.090, 0.056, 0.054, 0.082, 0.055, 0.012, -0.2)


@dataclass(frozen=True)
class Shape:
    """Where the lizard is, planes [b,1,H,W].

    Attributes
    ----------
    cover
        How far it hides what is below.
    inside
        How far inside the outline a pixel lies, in half lengths.
    u, v
        The body's coordinates.
    wide
        Half the body's width there, without the legs.
    """

    cover: Plane
    inside: Plane
    u: Plane
    v: Plane
    wide: Plane


def outline(p: Draws, size: int) -> Shape:
    """Return the lizard's shape in b pictures [b,1,H,W]."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    length = p["lizard_length"]
    u, v = turned(axis - p["lizard_x"], axis[:, None] - p["lizard_y"], p["lizard_turn"])
    u, v = u / length, v / length
    v = v - p["bend"] * (u * u - 0.2) - p["sway"] * u * (1 - u) * ramp(-u)
    slope = 2 * p["bend"] * u
    v = v / np.sqrt(1 + slope * slope)

    wide = np.interp(u, _AT, _WIDE).astype(np.float32) * p["plump"]
    inside = wide - np.abs(v)
    for leg in _LEGS:
        np.maximum(inside, _leg(p, leg, u, -v if leg.endswith("left") else v), out=inside)
    cover = edge(inside, np.float32(1.3 / size) / length)
    # Without its faintest rim, so that its pixels are those that it is seen in.
    cover *= cover > 0.15
    return Shape(cover, inside, u, v, wide)


def _leg(p: Draws, leg: str, u: Plane, v: Plane) -> Plane:
    """Return how far inside a leg a pixel lies: hip to knee to foot, the fore foot ahead and the hind foot behind."""
    bent, reach, spread = (p[f"{leg}_{what}"] for what in ("knee", "foot", "spread"))
    front = leg.startswith("front")
    hip = (0.50 if front else 0.09) + 0 * bent, 0.05 + 0 * bent
    knee = hip[0] + (0.12 * bent - 0.10 if front else 0.16 * bent), hip[1] + 0.10 + 0.06 * spread
    foot = knee[0] + (0.20 if front else -0.22) * reach, knee[1] + 0.05 + 0.08 * spread
    thigh, shin = 0.034 - _apart(u, v, hip, knee), 0.026 - _apart(u, v, knee, foot)
    inside: Plane = np.maximum(thigh, shin)
    return inside


def _apart(u: Plane, v: Plane, start: tuple[Plane, Plane], end: tuple[Plane, Plane]) -> Plane:
    """Return the distance from the line between two points."""
    along_u, along_v = end[0] - start[0], end[1] - start[1]
    du, dv = u - start[0], v - start[1]
    t = np.clip((du * along_u + dv * along_v) / (along_u * along_u + along_v * along_v), 0, 1)
    du, dv = du - t * along_u, dv - t * along_v
    distance: Plane = np.sqrt(du * du + dv * dv)
    return distance


def skin(p: Draws, shape: Shape, around: Plane) -> Plane:
    """Return the lizard's colours [b,3,H,W], valid where it covers.

    The pattern is a piece of the same foliage from nearby. The mean is that of the foliage in a band about the body, but
    for a small contrast. So neither colour nor texture tells the lizard; its outline and its relief do.
    """
    pattern = _nearby(p, around)
    band = _mean(around, edge(shape.inside + 0.15, 0.10) * (1 - shape.cover))
    colour = np.maximum(band + p["pattern"] * (pattern - _mean(pattern, shape.cover)), 0.25 * band)

    light = direction(p["light_from"] - p["lizard_turn"])[1]
    across = np.clip(shape.v / np.maximum(shape.wide, 0.02), -1, 1) * (np.abs(shape.v) < shape.wide)
    relief = 1 + p["relief"] * (ramp(shape.inside / 0.06) - 0.5 + 0.8 * light * across)
    eye_u, eye_v = shape.u - 0.80, np.abs(shape.v) - 0.05
    eye = hat(np.sqrt(eye_u * eye_u + eye_v * eye_v), 0.035)
    colour = colour * (np.maximum(relief, 0.2) * (1 - 0.6 * eye))

    tint = np.concatenate([p["contrast_tint"], -p["contrast_tint"], p["contrast_tint"]], axis=1)
    wanted = band * (1 + p["contrast"] + tint)
    matched: Plane = colour * (wanted / np.maximum(_mean(colour, shape.cover), 1 / 4096))
    return matched


def _nearby(p: Draws, around: Plane) -> Plane:
    """Return the foliage moved by whole pixels, mirrored at the border."""
    size = around.shape[-1]
    cos, sin = direction(p["borrow_turn"])

    def places(part: Plane) -> Plane:
        by = np.rint(part * p["borrow_far"] * (size / 2)).astype(np.int64)[:, 0, 0]
        place = (np.arange(size) + by) % (2 * size)
        moved: Plane = np.minimum(place, 2 * size - 1 - place)
        return moved

    batch = np.arange(len(around))[:, None, None]
    picked = around[batch, :, places(sin)[:, :, None], places(cos)[:, None, :]]
    return np.moveaxis(picked, -1, 1)


def _mean(plane: Plane, weight: Plane) -> Plane:
    """Return the weighted mean colour [b,3,1,1], rounded so that the order of summation does not show."""
    total = (plane * weight).sum(axis=(2, 3), keepdims=True, dtype=np.float64)
    mean = total / np.maximum(weight.sum(axis=(2, 3), keepdims=True, dtype=np.float64), 1e-6)
    rounded: Plane = (np.rint(mean * 4096) / 4096).astype(np.float32)
    return rounded
