"""The figures of a paper as PDF: critical differences of mean ranks, and curves of scores over steps."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from xbench.curves import MeanCurve
from xbench.mean_ranks import Ranking
from xbench.report.critical import draw_critical
from xbench.report.latex import drawable
from xbench.store import write_atomic

_STYLE = {"pdf.fonttype": 42, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
_DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_ACROSS = 3
_AXIS = 3.6  # shorter than on a screen: the names at its sides stay legible when the whole is as wide as a page


@dataclass(frozen=True, eq=False)
class CurveFigure:
    """The curves of one classifier on one set of samples, by score."""

    data: str
    model: str
    panels: dict[str, list[MeanCurve]]


def curve_figures(curves: Sequence[MeanCurve]) -> list[CurveFigure]:
    """Return the pictures of some curves; those of other steps or another definition of a score have a panel of their own."""
    found: dict[tuple[str, str], CurveFigure] = {}
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for one in curves:
        if np.isfinite(one.y).any():
            place = one.place, one.model
            figure = found.setdefault(place, CurveFigure(str(one.definition["data"]["text"]), one.model, {}))
            known = kinds.setdefault((*place, one.metric), [])
            if one.kind not in known:
                known.append(one.kind)
            number = known.index(one.kind)
            figure.panels.setdefault(one.metric + (f" ({number + 1})" if number else ""), []).append(one)
    return list(found.values())


def draw_curves(figure: CurveFigure, path: Path) -> None:
    """Draw a panel a score: explainers in colour, controls in grey. The same curves give the same bytes."""
    with style.context(["default", _STYLE]):
        buffer = io.BytesIO()
        curves_figure(figure).savefig(
            buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
        )
    write_atomic(path, buffer.getvalue())


def curves_figure(figure: CurveFigure) -> Figure:
    """Return the picture: at most three panels side by side, one legend for all."""
    names = sorted({each.explainer for panel in figure.panels.values() for each in panel if not each.control})
    looks = {
        name: (_COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]) for i, name in enumerate(names)
    }
    across = min(_ACROSS, len(figure.panels))
    down = -(-len(figure.panels) // across)
    controls = any(each.control for panel in figure.panels.values() for each in panel)
    columns = 3
    legend = 0.16 * -(-(len(names) + controls) // columns) + 0.1
    wide = 7.0 if across > 1 else 4.5
    high = 2.1 * down + legend + 0.1
    picture = Figure(figsize=(wide, high), facecolor="white")
    lines = {}
    for place, (score, panel) in enumerate(figure.panels.items()):
        row, column = divmod(place, across)
        left, bottom = (column + 0.2) / across, (high - 2.1 * (row + 1) + 0.4) / high
        axes = picture.add_axes((left, bottom, 0.76 / across, 1.42 / high))
        for each in sorted(panel, key=lambda each: (not each.control, each.explainer)):
            if each.control:
                (line,) = axes.plot(each.x, each.y, color="#b8b8b8", linewidth=0.7, zorder=1)
                lines["controls"] = line
            else:
                colour, dashes = looks[each.explainer]
                (line,) = axes.plot(each.x, each.y, color=colour, linestyle=dashes, linewidth=1.1, zorder=2)
                lines[each.explainer] = line
        axes.set_title(drawable(score), fontsize=8, parse_math=False)
        axes.set_xlabel("share of the path", fontsize=7.5)
        axes.set_ylabel("mean", fontsize=7.5)
        axes.tick_params(labelsize=7)
    order = [*(name for name in names if name in lines), *(["controls"] if "controls" in lines else [])]
    made = picture.legend(
        [lines[name] for name in order],
        [drawable(name) for name in order],
        loc="lower center", ncols=columns, fontsize=7, frameon=False, handlelength=2.6,
    )  # fmt: skip
    for text in made.get_texts():
        text.set_parse_math(False)
    return picture


def shown(ranking: Ranking) -> Ranking:
    """Return a ranking with names that matplotlib's font has pictures of."""
    return replace(
        ranking,
        names=tuple(map(drawable, ranking.names)),
        board=drawable(ranking.board),
        model=drawable(ranking.model),
        metric=drawable(ranking.metric),
    )


def draw_ranking(ranking: Ranking, path: Path) -> None:
    """Draw a critical-difference diagram."""
    draw_critical([shown(ranking)], path, axis=_AXIS)
