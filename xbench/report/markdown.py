"""A paper's table as Markdown."""

from xbench.report.latex import markdown_text
from xbench.report.prose import markdown_prose
from xbench.report.references import References
from xbench.report.sheets import Entry, Intervals, Line, Sheet
from xbench.report.tex import caption, number
from xbench.tables import ARROWS


def markdown_sheet(sheet: Sheet, references: References, intervals: Intervals = "pm") -> str:
    """Return caption, table and notes; controls are below the explainers and have a dagger."""
    head = ["", "explainer", *(markdown_text(name) + ARROWS[higher] for name, higher in sheet.columns)]
    rows = [_row(line, "", intervals) for line in sheet.lines]
    rows += [_row(line, " †", intervals) for line in sheet.controls]
    if any(value is not None for value in sheet.chance):
        rows.append(["", "*chance*", *("" if value is None else number(value) for value in sheet.chance)])
    lines = [head, ["---:", "---", *("---:" for _ in sheet.columns)], *rows]
    parts = [markdown_prose(caption(sheet, intervals, daggers=True), references)]
    parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    notes = [markdown_text(note) for note in sheet.notes]
    return "\n\n".join([*parts, *(["\n".join(f"- {note}" for note in notes)] if notes else [])])


def _row(line: Line, mark: str, intervals: Intervals) -> list[str]:
    name = markdown_text(line.name) + " ‡" * line.doubted + mark
    return ["" if line.rank is None else str(line.rank), name, *(_entry(entry, intervals) for entry in line.entries)]


def _entry(entry: Entry, intervals: Intervals) -> str:
    if entry.mean is None:
        return markdown_text(entry.status)
    shown = f"**{number(entry.mean)}**" if entry.best else number(entry.mean)
    if entry.low is None or entry.high is None:
        return shown
    if intervals == "pm":
        return f"{shown} ±{number((entry.high - entry.low) / 2)}"
    return f"{shown} \\[{number(entry.low)}, {number(entry.high)}\\]"
