"""Tables and figures as a PDF without LaTeX: plain, and the same numbers."""

import io
import textwrap
from collections.abc import Sequence

from matplotlib import style
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from xbench.curves import MeanCurve
from xbench.mean_ranks import Ranking
from xbench.report.critical import critical_figure
from xbench.report.figures import curve_figures, curves_figure, shown
from xbench.report.latex import drawable
from xbench.report.prose import plain_prose
from xbench.report.sheets import Entry, Intervals, Line, Sheet, head
from xbench.report.tex import caption, number
from xbench.tables import ARROWS

_WIDE, _LINE = 8.3, 0.17
_NAME, _TEXT = 44, 140
"""Letters of a name, and of a line as wide as the page."""


def drawn_pdf(
    sheets: Sequence[Sheet], rankings: Sequence[Ranking], curves: Sequence[MeanCurve], intervals: Intervals = "pm"
) -> bytes:
    """Return a page a table and a page a figure; the same input gives the same bytes."""
    buffer = io.BytesIO()
    told = {"CreationDate": None, "Creator": None, "Producer": None}
    with (
        style.context(["default", {"pdf.fonttype": 42}]),
        PdfPages(buffer, metadata=told) as pages,
    ):
        for sheet in sheets:
            for first, last in sheet.panels:
                pages.savefig(_page(sheet, first, last, intervals))
        for ranking in rankings:
            pages.savefig(critical_figure([shown(ranking)]))
        for figure in curve_figures(curves):
            pages.savefig(curves_figure(figure))
    return buffer.getvalue()


def _page(sheet: Sheet, first: int, last: int, intervals: Intervals) -> Figure:
    lines = [*sheet.lines, *sheet.controls]
    columns = sheet.columns[first:last]
    names = [_wrapped(_name(sheet, line), _NAME) for line in lines]
    above = _wrapped(plain_prose(caption(sheet, intervals, daggers=True)), _TEXT)
    below = [part for note in sheet.notes for part in _wrapped(note, _TEXT)]
    chances = [sheet.chance[place] for place in range(first, last)]
    deep = max(len(head(name)) for name, _ in columns)
    high = _LINE * (len(above) + deep + sum(map(len, names)) + len(below) + 4)
    page = Figure(figsize=(_WIDE, high), facecolor="white")
    edges = [0.36 + (place + 1) * 0.61 / len(columns) for place in range(len(columns))]

    def write(x: float, row: float, text: str, across: str = "left", weight: str = "normal") -> None:
        y = 1 - _LINE * (row + 1) / high
        page.text(x, y, drawable(text), fontsize=7, ha=across, weight=weight, parse_math=False)

    for row, text in enumerate(above):
        write(0.02, row, text)
    row = len(above) + deep
    for x, (name, higher) in zip(edges, columns, strict=True):
        for level, part in enumerate(reversed(head(name))):
            write(x, row - level - 0.5, part + ARROWS[higher] * (level == 0), "right")
    row += 1
    for line, parts in zip(lines, names, strict=True):
        write(0.02, row, "" if line.rank is None or first else str(line.rank))
        for step, part in enumerate(parts):
            write(0.05, row + step, part)
        for x, entry in zip(edges, line.entries[first:last], strict=True):
            write(x, row, _entry(entry, intervals), "right", "bold" if entry.best else "normal")
        row += len(parts)
    if any(value is not None for value in chances):
        write(0.05, row, "chance")
        for x, value in zip(edges, chances, strict=True):
            write(x, row, "" if value is None else number(value), "right")
        row += 1
    for step, text in enumerate(below):
        write(0.02, row + step + 0.5, text)
    return page


def _name(sheet: Sheet, line: Line) -> str:
    return line.name + " ‡" * line.doubted + " †" * any(line is control for control in sheet.controls)


def _wrapped(text: str, letters: int) -> list[str]:
    return textwrap.wrap(drawable(text), letters) or [""]


def _entry(entry: Entry, intervals: Intervals) -> str:
    if entry.mean is None:
        return entry.status
    if entry.low is None or entry.high is None:
        return number(entry.mean)
    if intervals == "range":
        return f"{number(entry.mean)} [{number(entry.low)}, {number(entry.high)}]"
    return f"{number(entry.mean)} ±{number((entry.high - entry.low) / 2)}"
