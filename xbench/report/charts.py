"""Curves and quality against cost as geometry for inline SVG: the page's own type and colours, no names that need escaping."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xbench.curves import MeanCurve, mean_curves
from xbench.report.ranking import Section, duration
from xbench.rows import Row
from xbench.store import Store

WIDE, HIGH = 620, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 40
_SHOWN = 4
"""How many explainers' curves are drawn at first; the others wait for a click."""

COLOURS, DASHES = 6, 4
"""Colours and dash patterns of lines, every pair of which is one explainer's."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """An explainer's mean curve and its 95 % band (an empty path where it is not known)."""

    name: str
    line: str
    band: str
    style: int
    shown: bool
    control: bool
    area: str


@dataclass(frozen=True)
class CurveChart:
    """All explainers' curves of one score on one model."""

    metric: str
    model: str
    board: str
    n: str
    banded: bool
    x: list[Tick]
    y: list[Tick]
    curves: list[Curve]


@dataclass(frozen=True)
class Label:
    """Where a name stands: ``anchor`` as SVG calls it."""

    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Dot:
    """An explainer's cost and quality; ``front`` where nothing is both cheaper and better."""

    name: str
    x: float
    y: float
    front: bool
    control: bool
    title: str
    label: Label | None


@dataclass(frozen=True)
class Pareto:
    """Quality against seconds an image, on a logarithmic axis."""

    board: str
    model: str
    metric: str
    better: str
    x: list[Tick]
    y: list[Tick]
    dots: list[Dot]
    front: str


def curve_charts(store: Store, keys: Sequence[str], found: Sequence[Section]) -> list[CurveChart]:
    """Return a chart for every score with curves on every model; explainers in the order of its tables."""
    charts = []
    every = mean_curves((store, key) for key in keys)
    for section in found:
        lines = [line for table in section.tables for line in table.lines]
        order = {line.explainer.partition("#")[0]: place for place, line in reversed([*enumerate(lines)])}
        columns = list(dict.fromkeys(column.metric for table in section.tables for column in table.columns))
        places = {metric.partition("#")[0]: place for place, metric in reversed([*enumerate(columns)])}
        kinds: dict[tuple[str, str], list[MeanCurve]] = {}
        for one in every:
            if _is_of(one, section) and one.explainer.partition("#")[0] in order and np.isfinite(one.y).any():
                kinds.setdefault((one.metric, one.kind), []).append(one)
        for (metric, _), own in sorted(kinds.items(), key=lambda each: places.get(each[0][0], len(places))):
            own.sort(key=lambda one: order[one.explainer.partition("#")[0]])
            charts.append(_chart(metric, section, own))
    return charts


def _is_of(curve: MeanCurve, section: Section) -> bool:
    """Say whether a section's tables show a curve's cells: the title of a board names its samples and its target."""
    cell = curve.definition
    return curve.model.partition("#")[0] == section.model.partition("#")[0] and section.board.endswith(
        f"({cell['samples'][:8]}), target={cell['target']}"
    )


def _chart(metric: str, section: Section, own: Sequence[MeanCurve]) -> CurveChart:
    ends = [one.y + sign * np.nan_to_num(one.half) for one in own for sign in (-1, 1)]
    values = np.concatenate(ends)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    pad = (high - low) * 0.03 or 0.05
    low, high = low - pad, high + pad
    methods, controls = ([one for one in own if bool(one.control) is control] for control in (False, True))
    # What knows nothing and what knows the truth are the two ends of a scale; where there are controls only, all are shown.
    ends_of_scale = [one for one in controls if one.control in ("chance", "truth")]
    at_first = [*methods[:_SHOWN], *ends_of_scale] if methods else own
    curves = []
    # Colours and dashes are dealt to methods first, so that those shown at first differ by colour; controls are grey.
    dealt = {id(one): place for group in (methods, controls) for place, one in enumerate(group)}
    for one in own:
        xs = LEFT + one.x * (WIDE - LEFT - RIGHT)
        finite = np.isfinite(one.y)
        ys = _height(one.y, low, high)
        banded = finite & np.isfinite(one.half)
        area = float(np.trapezoid(one.y[finite], one.x[finite])) if finite.any() else float("nan")
        curves.append(
            Curve(
                name=one.explainer,
                line=_path(xs[finite], ys[finite]),
                band=_band(
                    xs[banded],
                    _height((one.y - one.half)[banded], low, high),
                    _height((one.y + one.half)[banded], low, high),
                ),
                style=dealt[id(one)] * (COLOURS if one.control else 1) % (COLOURS * DASHES),
                shown=any(one is shown for shown in at_first),
                control=bool(one.control),
                area=f"{area:.3f}",
            )
        )
    ticks = [Tick(LEFT + share * (WIDE - LEFT - RIGHT), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    heights = [Tick(float(_height(np.array(at), low, high)), f"{at:g}") for at in _linear(low, high)]
    least, most = min(one.n for one in own), max(one.n for one in own)
    return CurveChart(
        metric=metric,
        model=section.model,
        board=section.board,
        n=str(most) if least == most else f"{least} to {most}",
        banded=any(curve.band for curve in curves),
        x=ticks,
        y=heights,
        curves=curves,
    )


def _height(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return HIGH - BOTTOM - (values - low) / (high - low) * (HIGH - TOP - BOTTOM)


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)) if len(xs) else ""


def _band(xs: NDArray[np.float64], lows: NDArray[np.float64], highs: NDArray[np.float64]) -> str:
    if len(xs) < 2:
        return ""
    return _path(np.concatenate([xs, xs[::-1]]), np.concatenate([lows, highs[::-1]])) + "Z"


def _linear(low: float, high: float) -> list[float]:
    """Return about five round values between two."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(times for times in (1, 2, 2.5, 5, 10) if (high - low) / (step * times) <= 5.5)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def paretos(rows: Sequence[Row], found: Sequence[Section]) -> list[Pareto]:
    """Return a chart for every model of which three explainers or more were timed and scored, by its first score."""
    charts = []
    for section in found:
        if not section.tables or not section.tables[0].columns:
            continue
        table, lead = section.tables[0], section.tables[0].columns[0]
        own = {
            row.explainer: row
            for row in rows
            if (row.board, row.model, row.metric) == (section.board, section.model, lead.metric)
        }
        scored = [
            (line.explainer, line.control, line.seconds.value, row)
            for line in table.lines
            if (row := own.get(line.explainer)) and row.mean is not None and line.seconds and line.seconds.value
        ]
        if lead.arrow and len([one for one in scored if not one[1]]) > 2:
            charts.append(_pareto(section, lead.metric, lead.descending, scored))
    return charts


def _pareto(section: Section, metric: str, up: bool, scored: Sequence[tuple[str, bool, float, Row]]) -> Pareto:
    seconds = [cost for _, _, cost, _ in scored]
    means = [row.mean or 0.0 for _, _, _, row in scored]
    first, last = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    last = max(last, first + 1)
    pad = (max(means) - min(means)) * 0.06 or 0.05
    low, high = min(means) - pad, max(means) + pad

    def across(cost: float) -> float:
        return LEFT + (math.log10(cost) - first) / (last - first) * (WIDE - LEFT - RIGHT)

    best = {
        name
        for name, control, cost, row in scored
        if not control and not any(_beats(other, (name, control, cost, row), up) for other in scored if not other[1])
    }
    places = [(across(cost), float(_height(np.array(row.mean), low, high))) for _, _, cost, row in scored]
    labels = _labels({name: place for (name, *_), place in zip(scored, places, strict=True) if name in best}, places)
    dots = [
        Dot(
            name,
            round(x, 1),
            round(y, 1),
            name in best,
            control,
            f"{name}: {metric} {row.mean:.3f}, {duration(cost)} an image",
            labels.get(name),
        )
        for (name, control, cost, row), (x, y) in zip(scored, places, strict=True)
    ]
    dots.sort(key=lambda dot: (dot.x, dot.name))
    steps = [dot for dot in dots if dot.front]
    front = "".join(
        f"{'M' if not k else f'H{dot.x}V'}{f'{dot.x} ' if not k else ''}{dot.y}" for k, dot in enumerate(steps)
    )
    exponents = range(first, last + 1)
    return Pareto(
        section.board,
        section.model,
        metric,
        "larger is better" if up else "smaller is better",
        [Tick(round(across(10.0**k), 1), duration(10.0**k)) for k in exponents],
        [Tick(float(_height(np.array(at), low, high)), f"{at:g}") for at in _linear(low, high)],
        dots,
        front,
    )


_LETTER, _LINE = 6.1, 13.0
"""A letter's width and a line's height, near enough to keep names apart."""


def _labels(named: Mapping[str, tuple[float, float]], dots: Sequence[tuple[float, float]]) -> dict[str, Label]:
    """Place each name beside its dot where it covers least: no other name, then as few dots as can be."""
    taken: list[tuple[float, float, float, float]] = []
    made = {}
    for name, (x, y) in sorted(named.items(), key=lambda one: one[1]):
        wide = len(name) * _LETTER
        options = [
            (dx, dy, anchor)
            for dy in (-10, 18, 4, -24, 32, -38, 46, -52, 60)
            for dx, anchor in ((0, "middle"), (8, "start"), (-8, "end"))
            if not (dy == 4 and anchor == "middle")
        ]

        def box(option: tuple[int, int, str], x: float = x, y: float = y, wide: float = wide) -> tuple[float, ...]:
            left = x + option[0] - {"start": 0.0, "middle": wide / 2, "end": wide}[option[2]]
            return left, left + wide, y + option[1] - _LINE + 3, y + option[1] + 3

        def cost(option: tuple[int, int, str]) -> float:
            left, right, top, bottom = box(option)
            out = left < LEFT or right > WIDE or top < 0 or bottom > HIGH - BOTTOM
            names = sum(left < r and right > m and top < b and bottom > t for m, r, t, b in taken)
            covered = sum(left - 4 < dx < right + 4 and top - 3 < dy < bottom + 3 for dx, dy in dots)
            return 1000 * out + 100 * names + 10 * covered + abs(option[1]) / 10

        best = min(options, key=cost)
        left, right, top, bottom = box(best)
        taken.append((left, right, top, bottom))
        made[name] = Label(round(x + best[0], 1), round(y + best[1], 1), best[2])
    return made


def _beats(one: tuple[str, bool, float, Row], other: tuple[str, bool, float, Row], up: bool) -> bool:
    """Say whether one is as cheap and as good as another, and better in one of the two."""
    sign = 1 if up else -1
    quality, cheap = sign * (one[3].mean or 0), -one[2]
    against, dear = sign * (other[3].mean or 0), -other[2]
    return quality >= against and cheap >= dear and (quality > against or cheap > dear)
