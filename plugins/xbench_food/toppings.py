"""What decides the class: the toppings of an okonomiyaki and of a pizza.

Coordinates s, t are those of the dish: 1 is its radius. ``p`` holds the dishes' draws [b,1,1,1] by the names and in the
units of `MEASURES`; planes are as in `xbench_food.painting`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from xbench_food.painting import Plane, between, direction, edge, hat, lay, ramp, rgb, turned, zigzag

Draws = Mapping[str, Plane]
Layer = tuple[Plane, Plane]
"""A colour, and how far it covers [b,1,H,W]."""

# The sectors of the dish that pieces lie in, in the order in which they come: the first few are spread out too.
_SLICES, _LEAVES = (0, 2, 4, 1, 3, 5), (0, 2, 1, 3)


def _pieces(kind: str, sectors: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    each = {"apart": (-0.35, 0.35), "reach": (0.20, 0.62), "turn": (0.0, 6.28)}
    return {f"{kind}_{i}_{what}": reach for i in range(len(sectors)) for what, reach in each.items()}


MEASURES: Mapping[str, tuple[float, float]] = {
    "sauce": (-0.10, 0.95),  # how much of the dish it covers; both kinds are spread alike
    "sauce_tone": (0.0, 1.0),
    "sauce_depth": (0.55, 0.95),
    "mayo": (-0.35, 1.0),
    "mayo_turns": (1.3, 2.6),
    "mayo_reach": (0.50, 0.75),
    "mayo_width": (0.025, 0.055),
    "mayo_phase": (0.0, 1.0),
    "aonori": (-0.35, 1.0),
    "bonito": (-0.6, 1.0),
    "ginger": (-0.6, 1.0),
    "cheese": (-0.35, 1.0),
    "cheese_tone": (0.0, 1.0),
    "slice_count": (-2.0, len(_SLICES)),  # rounded up
    "slice_size": (0.13, 0.22),
    "slice_tone": (0.0, 1.0),
    "leaf_count": (-2.0, len(_LEAVES)),
    "leaf_size": (0.15, 0.25),
    **_pieces("slice", _SLICES),
    **_pieces("leaf", _LEAVES),
}
"""One uniform draw each; what starts below zero is missing in that share of dishes."""


@dataclass(frozen=True)
class Place:
    """Where toppings go.

    Attributes
    ----------
    s, t
        Coordinates on the dish [b,1,H,W].
    whole
        Which pixels the dish fills [b,1,H,W] bool; nothing lies anywhere else.
    soft
        Half the width of a sharp edge.
    coarse, middle, fine
        Textures [b,1,H,W] of unit variance.
    """

    s: Plane
    t: Plane
    whole: Plane
    soft: Plane
    coarse: Plane
    middle: Plane
    fine: Plane


def okonomiyaki(p: Draws, at: Place) -> list[Layer]:
    """Return brown sauce, flakes of bonito, red ginger, a zigzag of mayonnaise and green aonori, from below upwards.

    Ginger is as red as tomato and aonori as green as basil: the source suspects its network of mistaking them.
    """
    inside = edge(0.82 - _far(at.s, at.t), 0.04)
    # Without mayonnaise there is sauce enough to tell what it is.
    layers = [_sauce(p, at, p["mayo"] <= 0, between((0.24, 0.11, 0.05), (0.54, 0.25, 0.12), p["sauce_tone"]))]

    curl = hat(at.middle + 0.4 * at.fine, 0.42) * ramp((at.coarse - 0.9 + p["bonito"]) / 0.3)
    flakes = 0.9 * ramp((curl - 0.25) / 0.4) * inside * (p["bonito"] > 0)
    layers.append((rgb(0.88, 0.68, 0.52) * (1 + 0.10 * at.fine), _seen(at, flakes)))

    strand = hat(at.fine + 0.5 * at.middle, 0.55) * ramp((p["ginger"] - 0.9 - at.coarse) / 0.3)
    strands = 0.9 * ramp((strand - 0.25) / 0.4) * inside * (p["ginger"] > 0)
    layers.append((rgb(0.80, 0.22, 0.18) * (1 + 0.10 * at.middle), _seen(at, strands)))

    away = at.t - p["mayo_reach"] * zigzag(p["mayo_turns"] * at.s + p["mayo_phase"] + 0.03 * at.coarse)
    # Measured across the stroke, not along the axis.
    away *= 1 / np.sqrt(1 + (4 * p["mayo_turns"] * p["mayo_reach"]) ** 2)
    stroke = p["mayo_width"] - np.abs(away) + 0.008 * at.middle
    cream = rgb(0.98, 0.94, 0.78) * (0.84 + 0.16 * ramp(stroke / p["mayo_width"]))
    layers.append((cream, _seen(at, edge(stroke, at.soft) * inside * (p["mayo"] > 0))))

    flecks = 0.92 * ramp((at.fine + 0.5 * at.coarse - 2.1 + p["aonori"]) / 0.35) * inside * (p["aonori"] > 0)
    layers.append((rgb(0.13, 0.33, 0.09) * (1 + 0.15 * at.middle), _seen(at, flecks)))
    return layers


def pizza(p: Draws, at: Place) -> list[Layer]:
    """Return tomato sauce, melted cheese, slices of salami and leaves of basil, from below upwards."""
    inside = edge(0.82 - _far(at.s, at.t), 0.04)
    layers = [_sauce(p, at, p["slice_count"] <= 0, between((0.50, 0.12, 0.06), (0.78, 0.27, 0.12), p["sauce_tone"]))]

    melted = edge(0.35 * (at.middle + 0.3 * at.coarse - 1.3 + 1.1 * p["cheese"]), 0.09) * inside
    pale = between((0.92, 0.78, 0.42), (0.98, 0.91, 0.68), p["cheese_tone"])
    layers.append((pale * (1 + 0.05 * at.fine), _seen(at, 0.94 * melted * (p["cheese"] > 0))))

    depth = p["slice_size"] - np.sqrt(_least(s * s + t * t for s, t in _around(p, at, "slice", _SLICES)))
    red = between((0.48, 0.10, 0.07), (0.74, 0.26, 0.18), p["slice_tone"])
    red = red * (0.70 + 0.30 * ramp(depth / 0.07)) + 0.22 * ramp((at.fine - 0.8) / 0.5)
    layers.append((red, _seen(at, edge(depth, at.soft))))

    # The lens of two circles is a leaf; their middles are `beside` its own.
    width = 0.45 * p["leaf_size"]
    beside = (p["leaf_size"] * p["leaf_size"] - width * width) / (2 * width)
    leaves = ((s, np.abs(t) + beside) for s, t in _around(p, at, "leaf", _LEAVES))
    depth = beside + width - np.sqrt(_least(s * s + t * t for s, t in leaves))
    green = rgb(0.17, 0.42, 0.10) * (0.70 + 0.45 * ramp(depth / width))
    layers.append((green, _seen(at, edge(depth, at.soft))))
    return layers


def covered(layers: list[Layer]) -> Plane:
    """Return [b,1,H,W] bool: where any of the layers is."""
    total = layers[0][1].copy()
    for _, coverage in layers[1:]:
        total += coverage
    found: Plane = total > 0
    return found


def dress(dish: Plane, layers: list[Layer]) -> Plane:
    """Return the dish [b,3,H,W] with the layers on it; where none is, it is the same to the last bit."""
    dressed = dish.copy()
    for colour, coverage in layers:
        lay(dressed, colour, coverage)
    return dressed


def _sauce(p: Draws, at: Place, alone: Plane, colour: Plane) -> Layer:
    """Return a sauce brushed on in patches, never a little where it is ``alone``; it shines where it is thick."""
    much = np.where(alone, np.maximum(p["sauce"], 0.65), p["sauce"])
    thick = 0.34 * np.where(alone, np.abs(at.coarse), at.coarse) + 0.10 * at.middle
    spread = thick + 1.5 * much - 0.55 - 0.75 * _far(at.s, at.t)
    rim = edge(0.84 - _far(at.s, at.t) + 0.03 * at.middle, 0.03 + at.soft)
    coverage = edge(spread, 0.10 + at.soft) * rim * p["sauce_depth"]
    shine = 0.16 * ramp((at.middle + 0.4 * at.fine - 0.9) / 0.8)
    return colour * (1 + 0.10 * at.coarse) + shine, _seen(at, coverage)


def _around(p: Draws, at: Place, kind: str, sectors: tuple[int, ...]) -> Iterator[tuple[Plane, Plane]]:
    """Yield (s, t) from the middle of each piece and along its axes; of a missing piece, from far away."""
    for i, sector in enumerate(sectors):
        cos, sin = direction(p[f"{kind}_0_turn"] + 6.2832 * sector / len(sectors) + p[f"{kind}_{i}_apart"])
        reach = np.where(p[f"{kind}_count"] > i, p[f"{kind}_{i}_reach"], np.float32(9))
        yield turned(at.s - reach * cos, at.t - reach * sin, p[f"{kind}_{i}_turn"])


def _least(planes: Iterator[Plane]) -> Plane:
    least = next(planes)
    for plane in planes:
        np.minimum(least, plane, out=least)
    return least


def _far(s: Plane, t: Plane) -> Plane:
    distance: Plane = np.sqrt(s * s + t * t)
    return distance


def _seen(at: Place, coverage: Plane) -> Plane:
    """Return the coverage without its faintest rim, so that a topping's pixels are those that it is seen in."""
    kept: Plane = coverage * ((coverage > 0.15) & at.whole)
    return kept
