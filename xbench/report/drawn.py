"""Tables and figures as a PDF without LaTeX: plain, and the same numbers."""

import io
from collections.abc import Iterator, Sequence

from matplotlib import style
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from xbench.curves import MeanCurve
from xbench.friedman import Ranking
from xbench.report.critical import critical_figure
from xbench.report.figures import curve_figures, curves_figure, shown
from xbench.report.latex import drawable
from xbench.report.sheets import Entry, Sheet, head
from xbench.report.tex import number

_WIDE, _LINE = 8.3, 0.17
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def drawn_pdf(sheets: Sequence[Sheet], rankings: Sequence[Ranking], curves: Sequence[MeanCurve]) -> bytes:
    """Return a page a table and a page a figure; the same input gives the same bytes."""
    buffer = io.BytesIO()
    told = {"CreationDate": None, "Creator": None, "Producer": None}
    with (
        style.context(["default", {"pdf.fonttype": 42}]),
        PdfPages(buffer, metadata=told) as pages,
    ):
        for sheet in sheets:
            for first, last in sheet.panels:
                pages.savefig(_page(sheet, first, last))
        for ranking in rankings:
            pages.savefig(critical_figure([shown(ranking)]))
        for figure in curve_figures(curves):
            pages.savefig(curves_figure(figure))
    return buffer.getvalue()


def _page(sheet: Sheet, first: int, last: int) -> Figure:
    lines = [*sheet.lines, *sheet.controls]
    columns = sheet.columns[first:last]
    deep = max(len(head(name)) for name, _ in columns)
    high = _LINE * (len(lines) + deep + 5)
    page = Figure(figsize=(_WIDE, high), facecolor="white")
    edges = [0.36 + (place + 1) * 0.61 / len(columns) for place in range(len(columns))]

    def write(x: float, row: float, text: str, across: str = "left", weight: str = "normal") -> None:
        y = 1 - _LINE * (row + 1) / high
        page.text(x, y, drawable(text), fontsize=7, ha=across, weight=weight, parse_math=False)

    write(0.02, 0, f"{sheet.board}, {sheet.model}", weight="bold")
    for x, (name, higher) in zip(edges, columns, strict=True):
        for level, part in enumerate(reversed(head(name))):
            write(x, deep - level + 0.5, part + _ARROWS[higher] * (level == 0), "right")
    for row, line in enumerate(lines, start=deep + 2):
        control = row - deep - 2 >= len(sheet.lines)
        write(0.02, row, f"{'' if line.rank is None else line.rank}")
        write(0.05, row, line.name + " †" * control)
        for x, entry in zip(edges, line.entries[first:last], strict=True):
            write(x, row, _entry(entry), "right", "bold" if entry.best else "normal")
    for row, text in enumerate(_legend(sheet), start=deep + 2 + len(lines)):
        write(0.02, row + 0.3, text)
    return page


def _entry(entry: Entry) -> str:
    if entry.mean is None:
        return entry.status
    if entry.low is None or entry.high is None:
        return number(entry.mean)
    return f"{number(entry.mean)} ±{number((entry.high - entry.low) / 2)}"


def _legend(sheet: Sheet) -> Iterator[str]:
    yield f"± half the width of the 95 % interval, n = {sheet.n}; bold: the best, and what cannot be told from it"
    if sheet.controls:
        yield "† control"
