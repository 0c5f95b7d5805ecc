"""The picture but for its toppings: table, plate of iron or china, the bare dish, light and camera.

``p`` holds a picture's draws [b,1,1,1] by the names and in the units of `MEASURES`; lengths are in half image widths, x
points right, y down. Planes are as in `xbench_food.painting`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xbench_food.painting import Plane, between, direction, edge, hat, lay, ramp, turned
from xbench_food.toppings import Draws

# One uniform draw each. What starts below zero is missing in that share of pictures.
MEASURES: Mapping[str, tuple[float, float]] = {
    "centre_x": (-0.10, 0.10),
    "centre_y": (-0.10, 0.10),
    "tilt": (0.80, 1.0),  # height of a circle over its width
    "plate": (0.84, 1.08),
    "dish": (0.62, 0.76),  # of the plate's radius
    "dish_x": (-0.06, 0.06),
    "dish_y": (-0.06, 0.06),
    "ragged": (0.01, 0.04),
    "thick": (0.03, 0.08),
    "turn": (0.0, 6.28),
    "dough": (0.0, 1.0),
    "baked": (0.0, 1.0),
    "crust": (0.3, 1.0),
    "char": (-0.5, 1.0),
    "grains": (-0.4, 1.0),
    "table": (0.0, 1.0),
    "table_grey": (0.0, 1.0),
    "table_turn": (-0.5, 0.5),
    "iron": (0.0, 1.0),
    "china": (0.0, 1.0),
    "oil": (0.0, 1.0),
    "light_from": (0.0, 6.28),
    "light_fall": (0.05, 0.28),
    "shadow": (0.25, 0.60),
    "exposure": (0.78, 1.12),
    "warmth": (-0.10, 0.10),
    "tint": (-0.05, 0.05),
    "vignette": (0.0, 0.25),
    "noise": (0.008, 0.035),
}


@dataclass(frozen=True)
class Scene:
    """A picture before its toppings.

    Attributes
    ----------
    plates
        Table and plate [b,3,H,W], the plate of iron and of china.
    dish
        The bare dish [b,3,H,W].
    cover
        How far the dish hides what is below [b,1,H,W].
    on_plate
        How much of a pixel is plate, before the dish lies on it [b,1,H,W].
    s, t
        Coordinates on the dish, turned at random; 1 is its radius.
    soft
        Half the width of a sharp edge, in radii of the dish.
    """

    plates: tuple[Plane, Plane]
    dish: Plane
    cover: Plane
    on_plate: Plane
    s: Plane
    t: Plane
    soft: Plane


def build(p: Draws, size: int, coarse: Plane, middle: Plane, fine: Plane) -> Scene:
    """Return the scenes of b pictures; textures [b,1,H,W] of unit variance, features about 1/4, 1/12, 1/32 of a side."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.broadcast_to(axis, (1, 1, size, size)), axis[:, None]
    half_pixel = np.float32(1.3 / size)
    u, v = x - p["centre_x"], (y - p["centre_y"]) / p["tilt"]
    light_x, light_y = direction(p["light_from"])

    radius = p["plate"] * p["dish"]
    s, t = (u - p["dish_x"]) / radius, (v - p["dish_y"]) / radius
    soft = half_pixel / radius
    ragged = p["ragged"] * (coarse + 0.5 * middle)
    top = 1 - np.sqrt(s * s + t * t) + ragged
    # Seen from the side the dish shows its rim below.
    lower = t - p["thick"] * (1 + 4 * (1 - p["tilt"]))
    body = np.maximum(top, 1 - np.sqrt(s * s + lower * lower) + ragged)
    cover = edge(body, soft)
    away_x, away_y = s + 0.10 * light_x, t + 0.10 * light_y
    shade = 1 - p["shadow"] * edge(1.03 - np.sqrt(away_x * away_x + away_y * away_y), 0.14)

    far = np.sqrt(u * u + v * v) / p["plate"]
    on_plate = edge(1 - far, half_pixel / p["plate"])
    facing = (u * light_x + v * light_y) / (p["plate"] * (far + 0.05))
    table = _table(p, x, y, coarse, fine) * (1 - 0.5 * edge(1.04 - far, 0.05))
    plates = []
    for surface in (_iron(p, far, facing, coarse, fine), _china(p, far, facing, coarse)):
        under = np.broadcast_to(table, (len(fine), 3, size, size)).copy()
        lay(under, surface * shade, on_plate)
        plates.append(under)

    dish = _dough(p, top, s * light_x + t * light_y, coarse, middle, fine)
    turned_s, turned_t = turned(s, t, p["turn"])
    return Scene((plates[0], plates[1]), dish, cover, on_plate, turned_s, turned_t, soft)


def photograph(p: Draws, scenes: Sequence[Plane], grain: Plane) -> list[Plane]:
    """Return pictures [b,3,H,W] in [0,1] in steps of 1/255, of scenes in the same light with the same noise (variance 1)."""
    size = grain.shape[-1]
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = axis, axis[:, None]
    light_x, light_y = direction(p["light_from"])
    light = 1 + p["light_fall"] * (x * light_x + y * light_y)
    light *= p["exposure"] * (1 - p["vignette"] * (0.5 * (x * x + y * y)))
    balance = np.concatenate([1 + p["warmth"], 1 + p["tint"], 1 - p["warmth"]], axis=1)
    light, noise = light * balance, p["noise"] * grain
    pictures = []
    for scene in scenes:
        picture = scene * light
        picture *= 1.25 - 0.25 * picture  # the shoulder of a camera's tone curve
        picture += noise
        np.clip(picture, 0, 1, out=picture)
        picture *= 255
        np.rint(picture, out=picture)
        picture /= np.float32(255)
        pictures.append(picture)
    return pictures


def _table(p: Draws, x: Plane, y: Plane, coarse: Plane, fine: Plane) -> Plane:
    """Return the table: wood to grey cloth, light or dark."""
    wood = between((0.20, 0.12, 0.07), (0.72, 0.52, 0.34), p["table"])
    cloth = between((0.16, 0.18, 0.20), (0.78, 0.76, 0.72), p["table"])
    colour = wood + (cloth - wood) * ramp((p["table_grey"] - 0.4) / 0.3)
    along, across = turned(x, y, p["table_turn"])
    line = across * 7 + 0.35 * coarse + 0.1 * along
    grain = np.abs(line - np.rint(line))
    streaks: Plane = colour * (0.86 + 0.40 * grain * (1 - ramp((p["table_grey"] - 0.4) / 0.3)) + 0.05 * fine)
    return streaks


def _iron(p: Draws, far: Plane, facing: Plane, coarse: Plane, fine: Plane) -> Plane:
    """Return a black iron plate: rough, oily, its rim catching the light."""
    colour = between((0.045, 0.045, 0.05), (0.15, 0.14, 0.135), p["iron"])
    shine = 0.10 * p["oil"] * ramp((coarse - 0.2) / 1.2) + 0.16 * hat(far - 0.965, 0.035) * ramp(0.5 + facing)
    rim = 1 + 0.45 * facing * hat(far - 0.88, 0.05)
    surface: Plane = (colour + shine) * (rim + 0.16 * fine)
    return surface


def _china(p: Draws, far: Plane, facing: Plane, coarse: Plane) -> Plane:
    """Return a white china plate: smooth, with a sloping rim."""
    colour = between((0.80, 0.80, 0.80), (0.94, 0.93, 0.90), p["china"])
    slope = hat(far - 0.84, 0.06) - 0.8 * hat(far - 0.98, 0.04)
    surface: Plane = colour * (1 + 0.16 * facing * slope - 0.05 * hat(far - 0.80, 0.03) + 0.012 * coarse)
    return surface


def _dough(p: Draws, top: Plane, facing: Plane, coarse: Plane, middle: Plane, fine: Plane) -> Plane:
    """Return the dish as it comes from the heat: pale to browned, with a crust, charred spots and coarse grains."""
    pale = between((0.80, 0.62, 0.36), (0.93, 0.80, 0.56), p["dough"])
    brown = between((0.50, 0.28, 0.11), (0.70, 0.44, 0.20), p["dough"])
    baked = 0.65 * p["baked"] * ramp(0.5 + 0.35 * coarse + 0.25 * middle)
    baked = np.maximum(baked, p["crust"] * ramp((0.16 - top) / 0.16))
    dough: Plane = pale + (brown - pale) * baked
    dough *= 1 + 0.05 * fine + 0.14 * facing * ramp((0.30 - top) / 0.30)
    dough *= 1 - 0.55 * ramp(-top / 0.05)  # the side, below the rim
    char = ramp((middle + 0.6 * coarse - 2.6 + 1.3 * p["char"]) / 0.6) * (p["char"] > 0)
    lay(dough, between((0.22, 0.11, 0.05), (0.30, 0.16, 0.07), p["dough"]), 0.7 * char)
    grains = ramp((-fine + 0.3 * middle - 2.3 + 0.9 * p["grains"]) / 0.5) * (p["grains"] > 0)
    lay(dough, between((0.90, 0.80, 0.60), (0.96, 0.90, 0.75), p["dough"]), 0.8 * grains * (top > 0))
    return dough
