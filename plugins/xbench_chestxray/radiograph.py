"""The exposure of a generated chest: what a ray meets on its way, and how dark the film gets.

A ray's attenuation is that of a body without air, less what the lungs' air takes away; the heart displaces air. All planes
are float32 [b,H,W] and, but for the texture, made with + - * / and square roots alone: these are the same to the last bit
on every processor (exp, pow and sin are not), and fast. ``p`` holds a patient's measures [b,1,1], by the names and in the
units of `xbench_chestxray.phantom`; x points to the patient's left, y down, both from -1 to 1 across the image.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
Patients = Mapping[str, Plane]


def expose(p: Patients, coarse: Plane, fine: Plane, grain: Plane) -> tuple[list[Plane], list[Plane]]:
    """Return the films of b patients, and how far each pixel lies inside the heart, with either heart.

    Parameters
    ----------
    p
        The patients' measures.
    coarse, fine
        Texture [b,H,W] of about unit variance.
    grain
        White noise [b,H,W] of unit variance.

    Returns
    -------
    Two lists, of the normal heart and the enlarged one: films [b,H,W] in [0,1] in steps of 1/255, and distances [b,H,W] in
    half image widths, positive inside the heart. Where the hearts do not differ, the films are equal to the last bit.
    """
    size = grain.shape[-1]
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    across, down = (axis - p["shift_x"]) / p["zoom"], (axis[:, None] - p["shift_y"]) / p["zoom"]
    cos, sin = _turn(p["tilt"])
    x, y = across * cos + down * sin, down * cos - across * sin
    soft = 1.5 / size  # no edge is sharper than a pixel or so

    body = _outline(p, x, y)
    lung, cage, above = _lungs(p, x, y, soft)
    air = lung * _findings(p, x, y, soft, coarse, fine) * p["lung_air"] * (1 + p["haze"] * (coarse + 0.5 * fine))
    tissue = _flesh(p, x, y, soft, body, above) + _bones(p, x, y, soft, lung, cage) * _edge(body - 0.04, 0.04)
    tissue *= 1 + 0.03 * coarse

    films = []
    inside = [_heart(p, x, y, p[ratio]) for ratio in ("ratio_normal", "ratio_enlarged")]
    for distance in inside:
        # Where there is no air (below the diaphragm, behind fluid) the heart displaces none, and its border is not seen.
        left = air * (1 - p["heart_density"] * _edge(distance, p["heart_blur"] + soft))
        dose = np.clip(p["exposure"] + p["contrast"] * np.maximum(tissue - left, 0), 0, 1)
        film = dose / (dose + p["tone"] * (1 - dose)) + p["noise"] * grain
        films.append(np.rint(np.clip(film, 0, 1) * 255) / 255)
    return films, inside


def texture(size: int, knots: Plane) -> Plane:
    """Return [b,size,size] float32: cubic B-splines through a lattice [b,n,n], so that every size shows the same texture."""
    up = _spline(size, knots.shape[-1])
    smooth: Plane = (up @ knots @ up.T).astype(np.float32)
    return smooth


def _heart(p: Patients, x: Plane, y: Plane, ratio: Plane) -> Plane:
    """Return the distance inside the heart that is ``ratio`` of the chest wide; it stands on the left dome."""
    width, height = 2 * p["chest"] * ratio, p["chest"] * (0.50 + ratio)
    length, breadth = p["heart_length"], p["heart_breadth"]
    cos, sin = _turn(p["heart_axis"])
    half_wide = np.sqrt((length * cos) ** 2 + (breadth * sin) ** 2)
    half_high = np.sqrt((length * sin) ** 2 + (breadth * cos) ** 2)
    bottom = p["diaphragm"] + p["dome_step"] + p["heart_sink"]
    # The left ventricle reaches its share of the width to the image's right, the right atrium the rest to the left.
    u, v = x / width, (y - bottom) / height + half_high
    w = u - (1 - p["heart_share"] - half_wide)
    ventricle = _ellipse(w * cos + v * sin, v * cos - w * sin, length, breadth)
    atrium = _ellipse(u + p["heart_share"] - 0.30, v - 0.02, 0.30, 0.41)
    distance: Plane = np.maximum(ventricle, atrium) * np.sqrt(width * height)
    return distance


def _outline(p: Patients, x: Plane, y: Plane) -> Plane:
    """Return the distance inside the body: trunk with the shoulders, and neck."""
    side = np.abs(x)
    shoulder = p["shoulder"] + 0.30 * side * side
    flank = p["chest"] + p["wall"] + 0.50 * _ramp((p["axilla"] - y) / 0.75)
    neck = 0.27 + 0.25 * (y + 0.8) - side
    inside: Plane = np.maximum(np.minimum(flank - side, y - shoulder), np.minimum(neck, 0.6 - y))
    return inside


def _lungs(p: Patients, x: Plane, y: Plane, soft: float) -> tuple[Plane, Plane, Plane]:
    """Return the lungs' depth (1 at most), the distance inside the rib cage and the distance above the diaphragm."""
    side, chest = np.abs(x), p["chest"]
    left, q = (x > 0).astype(np.float32), side / chest
    outer = (q > 0.45).astype(np.float32)
    # Each lung is an egg about q = 0.45, cut by its dome of the diaphragm and by the mediastinum.
    rise = np.maximum((0.30 - y) / (0.30 - p["apex"]), 0)
    bulge, steep = (q - 0.45) / (0.62 - 0.07 * outer), rise * np.sqrt(rise)
    cage = (1 - bulge * bulge - steep * rise) / np.sqrt((3.4 * bulge / chest) ** 2 + (2.5 * steep) ** 2 + 0.3)
    bend = (q - 0.45) / (0.90 - 0.35 * outer)
    dome = p["diaphragm"] + p["dome_step"] * left + p["dome_drop"] * bend * bend * (0.45 + 0.55 * bend * bend)
    above = (dome - y) / np.sqrt(1 + (2.2 * bend * p["dome_drop"] / chest) ** 2)
    vessels = _ellipse(x - 0.02, y + 0.12, p["mediastinum"] + 0.05, 0.42)
    knob = _ellipse(x - 0.09, y - p["knob_y"], p["knob"], p["knob"])
    middle = np.maximum(np.maximum(p["mediastinum"] * (0.85 + 0.25 * y) - side, vessels), knob)
    depth = _edge(cage, 0.015 + soft) * (0.62 + 0.38 * _ramp(cage / 0.30))
    depth *= _edge(above, 0.012 + soft) * 0.92 + 0.08 * _ramp(above / 0.15 + 1)
    depth *= 1 - _edge(middle, 0.03 + soft)
    return depth, cage, above


def _findings(p: Patients, x: Plane, y: Plane, soft: float, coarse: Plane, fine: Plane) -> Plane:
    """Return the share of air that vessels, an opacity in either lung and fluid on one side leave."""
    side, left = np.abs(x), (x > 0).astype(np.float32)
    hila = _blob(((side - 0.20) * 4.5) ** 2 + ((y + 0.02) * 3) ** 2)
    slope = (y + 0.05) / (np.abs(side - 0.17) + 0.05)  # vessels run out from the hila, at slopes that texture bends
    wave = _wave(2.2 * slope / (1 + np.abs(slope)) + 0.27 * fine + 0.3 * left)
    air = 1 - np.minimum(p["vessels"] * hila * (1.6 * _ramp((wave - 0.3) / 0.6) + 0.5), 0.6)
    for spot in ("opacity_right", "opacity_left"):
        apart = (x - p[spot + "_q"] * p["chest"]) ** 2 + (y - p[spot + "_y"]) ** 2
        patch = _blob(apart / (p[spot + "_size"] * p[spot + "_size"])) * np.clip(1 + 0.25 * coarse, 0, 1.1)
        air *= 1 - np.maximum(p[spot], 0) * patch
    here = np.where(p["effusion_side"] > 0, left, 1 - left) * (p["effusion"] > 0)
    q = side / p["chest"]
    level = p["diaphragm"] + 0.12 - p["effusion"] * (0.7 + 0.6 * q * q)  # fluid climbs towards the chest wall
    rest: Plane = air * (1 - 0.9 * here * _edge(y - level, 0.05 + soft))
    return rest


def _flesh(p: Patients, x: Plane, y: Plane, soft: float, body: Plane, above: Plane) -> Plane:
    """Return the attenuation of a body without air and bones, 1 where it is thick: trunk, belly, breasts, bubble, windpipe."""
    tissue: Plane = _edge(body, 0.02 + soft) * (1 - 0.5 / (1 + np.maximum(body, 0) * (5 + 18 * body)))
    tissue += 0.10 * _ramp(-above / 0.25) * _edge(body, 0.1)
    breast = _ellipse(np.abs(x) - p["breast_q"] * p["chest"], y - 0.28, 0.44 * p["chest"], 0.30)
    tissue += np.maximum(p["breast"], 0) * _edge(breast, 0.05 + soft)
    bubble = _ellipse(x - p["bubble_x"], y - p["diaphragm"] - p["dome_step"] - 0.16, 0.12, 0.08)
    tissue -= np.maximum(p["bubble"], 0) * _edge(bubble, 0.03 + soft)
    tissue -= 0.10 * _edge(0.045 - np.abs(x + 0.01), 0.02 + soft) * _ramp((-0.28 - y) / 0.08)
    return tissue


def _bones(p: Patients, x: Plane, y: Plane, soft: float, lung: Plane, cage: Plane) -> Plane:
    """Return what spine, ribs, collar bones, shoulder blades and upper arms add to the attenuation."""
    side, q = np.abs(x), np.abs(x) / p["chest"]
    bones = p["spine"] * _edge(0.075 - side, 0.025 + soft) * (1 + 0.22 * _wave(y / p["vertebra"]))

    near = _edge(cage + 0.05, 0.04) * (0.35 + 0.65 * lung)
    back = (y - 0.10 * q * (q - 0.6) - 0.16 * (q * q) ** 2) / p["rib_gap"] + p["rib_phase"]
    front = (y + 0.42 * q + 0.10 * q * q) / (p["rib_gap"] * 1.08) - p["rib_phase"] * 3
    for phase, weight in ((back, _ramp((side - 0.05) / 0.1)), (front, 0.6 * _ramp((q - 0.25) / 0.3))):
        wave = _wave(phase)
        marrow = 0.35 * _ramp((wave - 0.35) / 0.5)
        bones += p["rib_density"] * weight * near * (_ramp((wave + 0.25) / 0.7) - marrow)

    collar = p["clavicle_y"] - p["clavicle_slope"] * (side - 0.07) + side * (0.52 - side) * (1.04 - side)
    shaft = np.minimum(0.035 - np.abs(y - collar), side - 0.06)
    bones += p["clavicle"] * _edge(shaft, 0.012 + soft) * (1 - _ramp((side - 0.72) / 0.15))
    u, v = side - p["chest"] * 1.02, y + 0.36
    blade = _ellipse(u * 0.9 + v * 0.43, v * 0.9 - u * 0.43, 0.10, 0.30)
    arm = _ellipse(side - p["chest"] - 0.26, y + 0.62, 0.13, 0.13)
    bones += 0.6 * p["clavicle"] * (_edge(blade, 0.03 + soft) + 1.2 * _edge(arm, 0.02 + soft))
    return bones


def _ellipse(u: Plane, v: Plane, a: Plane | float, b: Plane | float) -> Plane:
    """Return the distance inside an ellipse of half axes ``a`` and ``b``, exact to first order at its border."""
    s, t = u * (1 / a), v * (1 / b)
    excess, slope = s * s + t * t - 1, (s * (1 / a)) ** 2 + (t * (1 / b)) ** 2
    distance: Plane = -0.5 * excess / np.sqrt(slope + 1e-6)
    return distance


def _edge(distance: Plane, half: Plane | float) -> Plane:
    """Return 0 outside, 1 inside, and a smooth rise of width 2 x ``half`` across the border."""
    return _ramp(0.5 + distance * (0.5 / half))


def _ramp(t: Plane) -> Plane:
    t = np.clip(t, 0, 1)
    rise: Plane = 3 - 2 * t
    rise *= t
    rise *= t
    return rise


def _wave(turns: Plane) -> Plane:
    """Return what is within 0.02 of cos(2 pi turns)."""
    wave: Plane = 1 - 2 * _ramp(2 * np.abs(turns - np.rint(turns)))
    return wave


def _blob(square: Plane) -> Plane:
    """Return what is within 0.06 of exp(-square), but 0 from 4 on."""
    rest: Plane = np.maximum(1 - 0.25 * square, 0)
    rest *= rest
    rest *= rest
    return rest


def _turn(angle: Plane) -> tuple[Plane, Plane]:
    """Return cosine and sine, in double precision first so that rounding hides what processors differ in."""
    wide = angle.astype(np.float64)
    return np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32)


@lru_cache(maxsize=8)
def _spline(size: int, knots: int) -> Plane:
    """Return the matrix [size, knots] of cubic B-splines, its rows scaled to give unit variance."""
    at = (np.arange(size) + 0.5) / size * (knots - 3) + 1
    t = np.abs(at[:, None] - np.arange(knots))
    weights = np.where(t < 1, (4 - 6 * t**2 + 3 * t**3) / 6, np.maximum(2 - t, 0) ** 3 / 6)
    unit: Plane = weights / np.sqrt((weights**2).sum(1, keepdims=True))
    return unit
