"""Tables and the small document around them as LaTeX."""

from collections.abc import Iterator, Sequence
from typing import Literal

from xbench.report.latex import escape
from xbench.report.prose import Name, Prose, latex_prose, series
from xbench.report.sheets import Entry, Line, Sheet, head
from xbench.stats import LEVEL, RESAMPLES

Intervals = Literal["pm", "range"]

_LINES = 44
_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}

DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{textcomp}
% The same input gives the same bytes.
\ifdefined\pdftrailerid\pdftrailerid{}\fi
\ifdefined\pdfsuppressptexinfo\pdfsuppressptexinfo-1\fi
\ifdefined\pdfinfoomitdate\pdfinfoomitdate1\fi
\emergencystretch 3em
\begin{document}
\section*{<title>}
\input{methods}
<figures>
\clearpage
\input{table}
\clearpage
<bibliography>
\end{document}
"""


def document(title: str, figures: Sequence[tuple[str, Prose]], cited: bool) -> str:
    """Return the document: methods, figures (path, caption), tables, references."""
    drawn = "\n".join(
        f"\\begin{{figure}}[htbp]\n\\centering\n\\includegraphics[width=\\linewidth,height=.8\\textheight,keepaspectratio]"
        f"{{{path}}}\n\\caption{{{latex_prose(caption)}}}\n\\end{{figure}}"
        for path, caption in figures
    )
    bibliography = "\\nocite{*}\n\\bibliographystyle{plain}\n\\bibliography{references}" if cited else ""
    return (
        DOCUMENT.replace("<bibliography>", bibliography).replace("<figures>", drawn).replace("<title>", escape(title))
    )


def tables(sheets: Sequence[Sheet], intervals: Intervals = "pm") -> str:
    """Return a fragment for any document that loads booktabs: a table environment a sheet, more where it is too high."""
    return "\n\n".join(part for sheet in sheets for part in _floats(sheet, intervals)) + "\n"


def _floats(sheet: Sheet, intervals: Intervals) -> Iterator[str]:
    high = len(sheet.lines) + len(sheet.controls) + 6
    at_once = max(1, _LINES // high)
    for start in range(0, len(sheet.panels), at_once):
        panels = sheet.panels[start : start + at_once]
        inner = "\n\n\\medskip\n".join(_tabular(sheet, first, last, intervals) for first, last in panels)
        told = latex_prose(caption(sheet, intervals, continued=start > 0))
        notes = "".join(
            f"\n\\par\\smallskip\\parbox{{\\linewidth}}{{\\scriptsize\\raggedright {escape(note)}}}"
            for note in (sheet.notes if start + at_once >= len(sheet.panels) else ())
        )
        yield (
            f"\\begin{{table}}[htbp]\n\\caption{{{told}}}\n\\centering\n\\footnotesize\n\\setlength{{\\tabcolsep}}{{3pt}}\n"
            f"{inner}{notes}\n\\end{{table}}"
        )


def _tabular(sheet: Sheet, first: int, last: int, intervals: Intervals) -> str:
    columns = sheet.columns[first:last]
    heads = [head(name) for name, _ in columns]
    deep = max(map(len, heads))
    rows = []
    for level in range(deep):
        cells = []
        for (_, higher), lines in zip(columns, heads, strict=True):
            padded = [""] * (deep - len(lines)) + lines
            cells.append(escape(padded[level]) + (" " + _ARROWS[higher]) * (level == deep - 1 and higher is not None))
        rows.append(" & ".join(["", "explainer" if level == deep - 1 else "", *cells]) + r" \\")
    body = [_line(line, first, last, intervals) for line in sheet.lines]
    controls = [_line(line, first, last, intervals) for line in sheet.controls]
    if any(value is not None for value in sheet.chance[first:last]):
        chances = ["" if value is None else f"${number(value)}$" for value in sheet.chance[first:last]]
        controls.append(" & ".join([r"\relax", r"\emph{chance}", *chances]) + r" \\")
    parts = [r"\toprule", *rows, r"\midrule", *body, *([r"\midrule"] if body and controls else []), *controls]
    longest = max(len(line.name) for line in (*sheet.lines, *sheet.controls))
    names = "p{133pt}" if longest > 34 else "l"
    return "\n".join(
        [f"\\begin{{tabular}}{{@{{}}r{names}{'r' * len(columns)}@{{}}}}", *parts, r"\bottomrule", r"\end{tabular}"]
    )


def _line(line: Line, first: int, last: int, intervals: Intervals) -> str:
    name = escape(line.name, breaks=True) + r"\,\ddag" * line.doubted
    long = len(line.name) > 34
    shown = f"\\raggedright\\hangindent 1em {name}" if long else name
    cells = [_entry(entry, intervals) for entry in line.entries[first:last]]
    # Behind the end of a line, a bracket or a star of the first cell would be its argument.
    return " & ".join([r"\relax" if line.rank is None else str(line.rank), shown, *cells]) + r" \\"


def _entry(entry: Entry, intervals: Intervals) -> str:
    if entry.mean is None:
        return "--" if entry.status == "-" else f"\\emph{{{escape(entry.status)}}}"
    mean = number(entry.mean)
    shown = f"\\mathbf{{{mean}}}" if entry.best else mean
    if entry.low is None or entry.high is None:
        return f"${shown}$"
    if intervals == "pm":
        return f"${shown}\\,{{\\scriptstyle\\pm {number((entry.high - entry.low) / 2)}}}$"
    return f"${shown}\\,{{\\scriptstyle[{number(entry.low)},\\,{number(entry.high)}]}}$"


def number(value: float) -> str:
    """Return a number with three decimals, a large one with fewer."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 1e5 else f"{value:.3g}"


def caption(sheet: Sheet, intervals: Intervals, continued: bool = False) -> Prose:
    """Return what a table shows and how its numbers were made."""
    data = f"n = {sheet.n} samples"
    data += f" of {sheet.n_groups} groups" if sheet.n_groups not in (0, sheet.n) else ""
    data += f", {sheet.seeds} seeds" if sheet.seeds > 1 else ", one seed"
    families = series([[Name(family)] for family in sheet.families])
    if continued:
        return ["Continued: ", *families, " scores of explanations of ", Name(sheet.model), "."]
    level = f"{LEVEL:.0%}".replace("%", " %")
    what = f"half the width of the {level} interval" if intervals == "pm" else f"{level} interval"
    drawn = "groups" if sheet.n_groups != sheet.n else "samples"
    ranked = any(line.rank for line in sheet.lines)
    told: list[str | Name] = [
        " scores of explanations of ", Name(sheet.model), f" ({sheet.board}; {data}): mean and {what} from {RESAMPLES:,} ",
        f"bootstrap resamples of {drawn}{' and seeds' if sheet.seeds > 1 else ''}. Ordered by ", Name(sheet.lead),
    ]  # fmt: skip
    if ranked:
        told += [
            "; ranks, and bold for the best and all that cannot be told from it, by paired bootstrap intervals of the "
        ]
        told += [f"differences ({level}, not corrected for the number of comparisons), controls left out"]
    told += [". Below the line: controls." if sheet.controls and sheet.lines else "."]
    return [*families, *told]
