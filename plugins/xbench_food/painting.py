"""What pictures are painted with: soft edges, textures, distances to simple shapes, one colour laid over another.

All planes are float32 [b,1,H,W], colours [b,3,1,1] or [b,3,H,W], measures [b,1,1,1]. They are made with + - * / and square
roots alone, but for the texture: these are the same to the last bit on every processor (exp, pow and sin are not).
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]


def lay(under: Plane, colour: Plane, coverage: Plane) -> None:
    """Lay a colour over ``under`` [b,3,H,W], in place; a coverage [b,1,H,W] of 1 hides what is below."""
    over = colour - under
    over *= coverage
    under += over


def edge(distance: Plane, half: Plane | float) -> Plane:
    """Return 0 outside, 1 inside, and a smooth rise of width 2 x ``half`` across the border."""
    return ramp(0.5 + distance * (0.5 / half))


def ramp(t: Plane) -> Plane:
    """Return 0 below 0, 1 above 1, and the smooth step 3t^2 - 2t^3 between."""
    t = np.clip(t, 0, 1)
    rise: Plane = 3 - 2 * t
    rise *= t
    rise *= t
    return rise


def hat(distance: Plane, half: Plane | float) -> Plane:
    """Return 1 at distance 0, falling straight to 0 at ``half``."""
    peak: Plane = np.maximum(1 - np.abs(distance) * (1 / half), 0)
    return peak


def zigzag(turns: Plane) -> Plane:
    """Return the triangle wave of period 1 between -1 and 1; 1 at whole turns."""
    wave: Plane = 1 - 4 * np.abs(turns - np.rint(turns))
    return wave


def turned(x: Plane, y: Plane, angle: Plane) -> tuple[Plane, Plane]:
    """Return the coordinates along axes turned by ``angle`` radians."""
    cos, sin = direction(angle)
    return x * cos + y * sin, y * cos - x * sin


def direction(angle: Plane) -> tuple[Plane, Plane]:
    """Return cosine and sine, in double precision first so that rounding hides what processors differ in."""
    wide = angle.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)


def texture(size: int, knots: Plane) -> Plane:
    """Return [b,1,size,size] of unit variance, cubic B-splines through lattices [b,n,n]: every size shows the same texture."""
    up = _spline(size, knots.shape[-1])
    smooth: Plane = (up @ knots @ up.T).astype(np.float32)
    return smooth[:, None]


@lru_cache(maxsize=16)
def _spline(size: int, knots: int) -> Plane:
    """Return the matrix [size, knots] of cubic B-splines, its rows scaled to give unit variance."""
    at = (np.arange(size) + 0.5) / size * (knots - 3) + 1
    t = np.abs(at[:, None] - np.arange(knots))
    weights = np.where(t < 1, (4 - 6 * t**2 + 3 * t**3) / 6, np.maximum(2 - t, 0) ** 3 / 6)
    unit: Plane = (weights / np.sqrt((weights**2).sum(1, keepdims=True))).astype(np.float32)
    return unit


def rgb(red: float, green: float, blue: float) -> Plane:
    """Return a colour [1,3,1,1]."""
    return np.array([red, green, blue], np.float32).reshape(1, 3, 1, 1)


def between(low: tuple[float, float, float], high: tuple[float, float, float], tone: Plane) -> Plane:
    """Return the colour [b,3,1,1] so far (0 to 1) from one to another."""
    colour: Plane = rgb(*low) + (rgb(*high) - rgb(*low)) * tone
    return colour
