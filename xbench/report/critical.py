"""Critical-difference diagrams: who ranks where on average, and bars over those that cannot be told apart."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from xbench.mean_ranks import Ranking
from xbench.paired import ALPHA
from xbench.store import write_atomic

# Of the picture, from its top or its left edge; inches.
_AXIS, _EDGE, _STUB, _GAP = 6.0, 0.15, 0.12, 0.06
_TITLE, _NOTE, _ROW, _BAR = 0.22, 0.17, 0.2, 0.085
_INK, _FAINT, _JOINT = "#1a1a1a", "#767676", "#b3202c"

# Whatever the user's matplotlibrc says, the same bytes come out; text is drawn as outlines, which look alike everywhere.
_STYLE = {"svg.hashsalt": "xbench", "svg.fonttype": "path", "pdf.fonttype": 42}
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Name:
    """An explainer's place in a diagram: its mean rank, its side, and its line below the axis, the outermost first."""

    text: str
    rank: float
    control: bool
    left: bool
    line: int


def draw_critical(rankings: Sequence[Ranking], path: Path, axis: float = _AXIS) -> None:
    """Draw the rankings below each other, as Demsar (JMLR 2006) draws them, with the best at the left.

    Controls are grey. The same rankings give the same bytes.

    Parameters
    ----------
    rankings
        At least one.
    path
        The file to write; svg, pdf or png by its suffix.
    axis
        How long the axis is; inches.

    Raises
    ------
    CannotWrite
        The disk or the permissions forbid it.
    """
    kind = path.suffix.lower().removeprefix(".")
    with style.context(["default", _STYLE]):
        figure = critical_figure(rankings, axis)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=200, metadata=_METADATA[kind])
    write_atomic(path, buffer.getvalue())


def names_of(ranking: Ranking) -> list[Name]:
    """Return the explainers' names, best first: the better half at the left, so that no two leader lines cross."""
    k = len(ranking.names)
    half = (k + 1) // 2
    return [
        Name(f"{name} †" if control else name, float(rank), control, i < half, i if i < half else k - 1 - i)
        for i, (name, rank, control) in enumerate(
            zip(ranking.names, ranking.test.mean_ranks, ranking.controls, strict=True)
        )
    ]


def bars_of(ranking: Ranking) -> list[tuple[float, float, int]]:
    """Return each group's bar: its first and last mean rank, and its line; bars that would touch are on lines apart."""
    ranks, room = ranking.test.mean_ranks, 0.03 * (len(ranking.names) - 1)
    ends: list[float] = []
    bars = []
    for group in ranking.test.groups:
        first, last = float(ranks[group[0]]), float(ranks[group[-1]])
        line = next((i for i, end in enumerate(ends) if end + room < first), len(ends))
        ends[line:] = [last, *ends[line + 1 :]]
        bars.append((first, last, line))
    return bars


def critical_figure(rankings: Sequence[Ranking], axis: float = _AXIS) -> Figure:
    """Return the picture, as wide as the longest names need it."""
    sides = [
        [_width(name) for each in rankings for name in names_of(each) if name.left is left] for left in (True, False)
    ]
    left, right = (_EDGE + max(side) + _GAP + _STUB for side in sides)
    texts = [_texts(each) for each in rankings]
    lines = [line for each, some in zip(rankings, texts, strict=True) for line in (*some, _note(each))]
    wide = max(left + axis + right, *(2 * _EDGE + _size(line, 7.5) for line in lines))
    highs = [_height(each, len(some)) for each, some in zip(rankings, texts, strict=True)]
    figure = Figure(figsize=(wide, sum(highs)), facecolor="white")
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(sum(highs), 0))
    canvas.set_axis_off()
    top = 0.0
    for each, some, high in zip(rankings, texts, highs, strict=True):
        _draw(canvas, each, some, top, left, left + axis)
        top += high
    return figure


def _texts(ranking: Ranking) -> list[str]:
    return [
        f"{ranking.board}, {ranking.model}",
        f"mean rank by {ranking.metric} over {ranking.test.n} {ranking.blocks}, 1 is best",
    ]


def _height(ranking: Ranking, lines: int) -> float:
    rows = (len(ranking.names) + 1) // 2
    return 2 * _EDGE + lines * _TITLE + 0.75 + _bars_high(ranking) + rows * _ROW + _NOTE


def _bars_high(ranking: Ranking) -> float:
    return _BAR * (2 + max((line for _, _, line in bars_of(ranking)), default=0))


def _note(ranking: Ranking) -> str:
    p = "< .001" if ranking.test.p < 0.001 else f"= {ranking.test.p:.3f}"
    if ranking.test.p > ALPHA:
        told = f"Friedman's test (p {p}) cannot tell these explainers apart."
    else:
        told = f"A bar joins explainers that cannot be told apart (Nemenyi, 5 %). Friedman's test: p {p}."
    return told + " † and grey: control." * any(ranking.controls)


def _draw(canvas: Axes, ranking: Ranking, lines: list[str], top: float, left: float, right: float) -> None:
    k = len(ranking.names)

    def place(rank: float) -> float:
        return left + (rank - 1) / (k - 1) * (right - left)

    def line(xs: Sequence[float], ys: Sequence[float], colour: str = _INK, width: float = 0.8) -> None:
        canvas.plot(xs, ys, color=colour, linewidth=width, solid_capstyle="butt", solid_joinstyle="miter")

    def write(
        x: float, y: float, text: str, size: float, colour: str = _INK, across: str = "left", up: str = "center"
    ) -> None:
        # Names are the user's: a dollar sign is no formula.
        canvas.text(x, y, text, size=size, color=colour, ha=across, va=up, parse_math=False)

    y = top + _EDGE
    for number, text in enumerate(lines):
        write(_EDGE, y + _TITLE / 2, text, 7.5, _FAINT if number == 0 else _INK)
        y += _TITLE
    y += 0.28
    end = place(1 + ranking.test.critical)
    line([place(1), end], [y, y], _JOINT, 1.6)
    for x in (place(1), end):
        line([x, x], [y - 0.05, y + 0.05], _JOINT, 1.0)
    write((place(1) + end) / 2, y - 0.11, f"CD = {ranking.test.critical:.2f}", 7.5, _JOINT, "center")
    y += 0.42
    line([left, right], [y, y], width=1.0)
    step = max(1, math.ceil((k - 1) / 25))
    for rank in range(1, k + 1):
        major = (rank - 1) % step == 0
        line([place(rank)] * 2, [y - (0.07 if major else 0.04), y])
        if major:
            write(place(rank), y - 0.15, str(rank), 7.5, across="center")
    first = y + _bars_high(ranking) + 0.05
    for name in names_of(ranking):
        level, x, colour = first + name.line * _ROW, place(name.rank), _FAINT if name.control else _INK
        edge = left - _STUB if name.left else right + _STUB
        line([x, x, edge], [y, level, level], colour)
        outside = edge - _GAP if name.left else edge + _GAP
        write(outside, level, name.text, 8, colour, "right" if name.left else "left", "center_baseline")
    for start, stop, row in bars_of(ranking):
        at = y + _BAR * (1.2 + row)
        line([place(start) - 0.03, place(stop) + 0.03], [at, at], _JOINT, 2.6)
    y = first + (k + 1) // 2 * _ROW
    write(_EDGE, y + _NOTE / 2, _note(ranking), 7, _FAINT)


def _width(name: Name) -> float:
    return _size(name.text, 8)


def _size(text: str, points: float) -> float:
    """Return a text's width; inches."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=points), ismath=False)[0]) / 72
