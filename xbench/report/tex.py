"""Tables and the small document around them as LaTeX."""

from collections.abc import Iterator, Sequence

from xbench.report.latex import drawable, escape
from xbench.report.prose import Name, Prose, latex_prose
from xbench.report.sheets import LONGEST, Entry, Intervals, Line, Sheet, head
from xbench.stats import LEVEL, RESAMPLES

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
\renewcommand{\topfraction}{.95}
\renewcommand{\bottomfraction}{.95}
\renewcommand{\textfraction}{.05}
\renewcommand{\floatpagefraction}{.85}
\setcounter{topnumber}{4}
\setcounter{totalnumber}{6}
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
    if sheet.turned:
        yield _float(sheet, _turned(sheet, intervals), caption(sheet, intervals), sheet.notes)
        return
    high = len(sheet.lines) + len(sheet.controls) + 6
    at_once = max(1, _LINES // high)
    for start in range(0, len(sheet.panels), at_once):
        panels = sheet.panels[start : start + at_once]
        inner = "\n\n\\medskip\n".join(_tabular(sheet, first, last, intervals) for first, last in panels)
        last_one = start + at_once >= len(sheet.panels)
        told = caption(sheet, intervals, continued=start > 0)
        yield _float(sheet, inner, told, sheet.notes if last_one else (), again=start > 0)


def _float(sheet: Sheet, inner: str, told: Prose, notes: Sequence[str], again: bool = False) -> str:
    """Return a table environment; ``again`` where it goes on with the one before."""
    below = "\\par\n".join(map(escape, notes))
    below = f"\n\\par\\smallskip\n\\parbox{{\\linewidth}}{{\\scriptsize\\raggedright\n{below}\\par}}" if notes else ""
    return (
        "\\begin{table}[htbp]\n\\setlength{\\abovecaptionskip}{0pt}\n\\setlength{\\belowcaptionskip}{6pt}\n"
        + "\\addtocounter{table}{-1}\n" * again
        + f"\\caption{{{latex_prose(told)}}}\n\\centering\n\\footnotesize\n\\setlength{{\\tabcolsep}}{{3pt}}\n"
        f"{inner}{below}\n\\end{{table}}"
    )


def _turned(sheet: Sheet, intervals: Intervals) -> str:
    """Return a table of few explainers and many scores: a column an explainer."""
    lines = [*sheet.lines, *sheet.controls]
    heads = []
    for place, line in enumerate(lines):
        package, sign, name = line.name.partition("/")
        marks = r"\,\ddag" * line.doubted + r"\,\dag" * (place >= len(sheet.lines))
        heads.append(
            (escape(package + sign), escape(name, breaks=True) + marks) if sign else ("", escape(package) + marks)
        )
    some = any(value is not None for value in sheet.chance)
    rows = [" & ".join(["", *(top for top, _ in heads), *([""] if some else [])]) + r" \\"]
    rows.append(" & ".join(["score", *(low for _, low in heads), *([r"\emph{chance}"] if some else [])]) + r" \\")
    rows.append(r"\midrule")
    for place, (name, higher) in enumerate(sheet.columns):
        cells = [_entry(line.entries[place], intervals) for line in lines]
        value = sheet.chance[place]
        cells += ["" if value is None else f"${number(value)}$"] if some else []
        rows.append(
            " & ".join([r"\relax " + escape(name) + (" " + _ARROWS[higher]) * (higher is not None), *cells]) + r" \\"
        )
    columns = "r" * (len(lines) + some)
    parts = [f"\\begin{{tabular}}{{@{{}}l{columns}@{{}}}}", r"\toprule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(parts)


def _tabular(sheet: Sheet, first: int, last: int, intervals: Intervals) -> str:
    columns = sheet.columns[first:last]
    heads = [head(name) for name, _ in columns]
    deep = max(map(len, heads))
    rows = []
    # Ranks are by the lead: they stand where it does.
    ranked = ["r"] * _ranked(sheet, first)
    for level in range(deep):
        cells = []
        for (_, higher), lines in zip(columns, heads, strict=True):
            padded = [""] * (deep - len(lines)) + lines
            cells.append(escape(padded[level]) + (" " + _ARROWS[higher]) * (level == deep - 1 and higher is not None))
        rows.append(" & ".join([*([""] * len(ranked)), "explainer" if level == deep - 1 else "", *cells]) + r" \\")
    body = [_line(line, first, last, intervals, bool(ranked)) for line in sheet.lines]
    controls = [_line(line, first, last, intervals, bool(ranked)) for line in sheet.controls]
    if any(value is not None for value in sheet.chance[first:last]):
        chances = ["" if value is None else f"${number(value)}$" for value in sheet.chance[first:last]]
        controls.append(" & ".join([*([r"\relax"] * len(ranked)), r"\emph{chance}", *chances]) + r" \\")
    parts = [r"\toprule", *rows, r"\midrule", *body, *([r"\midrule"] if body and controls else []), *controls]
    longest = max(len(drawable(line.name)) for line in (*sheet.lines, *sheet.controls))
    names = "p{133pt}" if longest > LONGEST else "l"
    return "\n".join(
        [
            f"\\begin{{tabular}}{{@{{}}{''.join(ranked)}{names}{'r' * len(columns)}@{{}}}}",
            *parts,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _ranked(sheet: Sheet, first: int) -> bool:
    """Say whether a panel from some column on shows the score that ranks, and there are ranks."""
    return first == 0 and any(line.rank for line in sheet.lines)


def _line(line: Line, first: int, last: int, intervals: Intervals, ranked: bool) -> str:
    name = escape(line.name, breaks=True) + r"\,\ddag" * line.doubted
    long = len(drawable(line.name)) > LONGEST
    shown = f"\\raggedright\\hangindent 1em {name}" if long else name
    cells = [_entry(entry, intervals) for entry in line.entries[first:last]]
    # Behind the end of a line, a bracket or a star of the first cell would be its argument.
    rank = [r"\relax" if line.rank is None else str(line.rank)] * ranked
    return " & ".join([*rank, shown if ranked else r"\relax " + shown, *cells]) + r" \\"


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
    shown = f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 1e5 else f"{value:.3g}"
    return "0.000" if shown == "-0.000" else shown


def caption(sheet: Sheet, intervals: Intervals, continued: bool = False, daggers: bool = False) -> Prose:
    """Return what a table shows and how its numbers were made; ``daggers`` of a line an explainer that marks controls so."""
    turned = sheet.turned and not daggers
    data = f"n = {sheet.n} {'sample' if sheet.n == 1 else 'samples'}"
    data += f" of {sheet.n_groups} {'group' if sheet.n_groups == 1 else 'groups'}" if sheet.n_groups != sheet.n else ""
    data += f", in {sheet.epochs} epochs" if sheet.epochs > 1 else ""
    least, most = sheet.seeds[0], sheet.seeds[-1]
    data += ", one seed" if most == 1 else f", {most} seeds" if least == most else f", {least} to {most} seeds"
    families = " and ".join(sheet.families)
    families = families[:1].upper() + families[1:]
    if continued:
        return [f"(continued) {families}: explanations of ", Name(sheet.model), "."]
    level = f"{LEVEL:.0%}".replace("%", "\u00a0%")
    spread = f"half the width of the {level} interval" if intervals == "pm" else f"{level} interval"
    drawn = "groups" if sheet.n_groups != sheet.n else "samples"
    told: list[str | Name] = [f"{families}: explanations of ", Name(sheet.model), f" ({sheet.board}; {data}). "]
    if sheet.n_groups > 1:
        told += [
            f"Mean and {spread} from {RESAMPLES:,} bootstrap resamples of {drawn}{' and seeds' if most > 1 else ''}. "
        ]
    else:
        told += ["Mean; of one group of samples (patient, specimen) there is no interval. "]
    told += ["Ordered by ", Name(sheet.lead)]
    what = ["ranks"] if any(line.rank for line in sheet.lines) and not turned else []
    if any(entry.best for line in sheet.lines for entry in line.entries):
        what += ["bold for the best and all that cannot be told from it"]
    if what:
        told += [
            f"; {', and '.join(what)}, by paired bootstrap intervals of the differences ({level}, not corrected for "
        ]
        told += ["the number of comparisons), controls left out"]
    below = ". Daggers: controls." if turned or daggers else ". Below the line: controls."
    told += [below if sheet.controls and (sheet.lines or daggers) else "."]
    return told
