"""Rows as people read them: a line an explainer, a column a metric; and the same rows as files."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from xbench.export import harmless
from xbench.leaderboard import Board
from xbench.rows import Row, worth
from xbench.store import write_atomic

_DIGITS = 8
"""Significant digits of numbers in files: processors differ in the last ones, and a table made again must be the same bytes."""


def write_tables(boards: Sequence[Board], folder: Path, primary: str = "") -> list[Path]:
    """Write table.json, table.csv and table.md (ordered by the primary metric); return their paths."""
    contents = table_files(boards, primary)
    for name, content in contents.items():
        write_atomic(folder / name, content.encode())
    return [folder / name for name in contents]


def table_files(boards: Sequence[Board], primary: str = "") -> dict[str, str]:
    """Return the contents of table.json, table.csv and table.md by name."""
    rows = [values_of(row) for board in boards for row in board.rows]
    return {
        "table.json": json.dumps(rows, indent=1, allow_nan=False) + "\n",
        "table.csv": rows_csv([item.name for item in fields(Row)], rows),
        "table.md": "\n\n".join(markdown(board, primary) for board in boards) + "\n",
    }


def values_of(row: Row) -> dict[str, object]:
    """Return a row's values by name, as files hold them."""
    return {name: short(value) if isinstance(value, float) else value for name, value in asdict(row).items()}


def short(value: float) -> float:
    """Return a number with as many digits as files hold."""
    return float(f"{value:.{_DIGITS}g}")


def rows_csv(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV under a header of names; no text in it is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: harmless(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def markdown(board: Board, primary: str = "") -> str:
    """Return a board as Markdown: a table a model, a row an explainer, a column a metric."""
    parts = [f"## {_plain(board.title)}"]
    for model in dict.fromkeys(row.model for row in board.rows):
        for view in views([row for row in board.rows if row.model == model], primary):
            parts.append(f"**{_plain(model)}**" + "".join(f"; {_plain(line)}" for line in view.classifier))
            lines = [_line(view.header), "|" + " --- |" * len(view.header), *map(_line, view.body)]
            parts.append("\n".join(lines))
            if view.footnotes:
                parts.append("\n".join(f"- {_plain(line)}" for line in view.footnotes))
    return "\n\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is: no cell ends early, no tag begins."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


@dataclass(frozen=True)
class Pivot:
    """A model's rows as people read them: a line an explainer, a column a metric.

    ``explainers`` and ``metrics`` are what the first lines of ``body`` and the middle columns are of, as rows write them.
    """

    classifier: list[str]
    header: list[str]
    body: list[list[str]]
    footnotes: list[str]
    explainers: list[str]
    metrics: list[str]


ARROWS = {True: " ↑", False: " ↓", None: ""}
"""What stands behind a score: to where it is better."""

APART = ("translation", "noise")
"""Families that measure explainers of one kind only: each has a table of its own."""


def views(rows: Sequence[Row], primary: str = "") -> list[Pivot]:
    """Return a model's tables: every explainer's, and beside it what only explainers of one kind are measured by."""
    # What is unsupported has no family.
    families = {family: {row.metric for row in rows if row.family == family} for family in APART}
    apart = set().union(*families.values())
    rest = [row for row in rows if row.metric not in apart]
    own: list[Pivot] = []
    for metrics in families.values():
        measured = [row for row in rows if row.metric in metrics]
        able = {row.explainer for row in measured if row.family and row.status not in ("undefined", "unsupported")}
        # Whether the map beside a translation is blank, the first table says.
        kept = [replace(row, blank_rate=None) for row in measured if row.explainer in able]
        mapless = able - {row.explainer for row in rest if row.status != "unsupported"}
        rest = [row for row in rest if row.explainer not in mapless]
        own += [pivot(kept)] if kept else []
    return [pivot(rest, primary), *own]


def pivot(rows: Sequence[Row], primary: str = "") -> Pivot:
    """Arrange rows, ordered by the primary metric (the first one with numbers if none is named)."""
    own = [row for row in rows if row.explainer is None]
    classifier = [f"{row.metric} {_cell(row, True)} on {each_seed(row)}" for row in own if row.mean is not None]
    classifier += [f"{row.metric}: {row.status} ({row.reason})" for row in own if row.mean is None]
    rest = [row for row in rows if row.explainer is not None]
    metrics = list(dict.fromkeys(row.metric for row in rest))
    scored = [name for name in metrics if any(row.mean is not None for row in rest if row.metric == name)]
    lead = primary if primary in scored else next(iter(scored), "")
    shown = [lead, *(name for name in scored if name != lead)] if lead else []
    by_place = {(row.explainer, row.metric): row for row in rest}
    first = {row.explainer: row for row in rest if row.metric == (lead or row.metric)}
    names = sorted(
        dict.fromkeys(row.explainer for row in rest if row.explainer),
        key=lambda name: (worth(first[name]), name) if name in first else ((3, 0.0), name),
    )
    direction = {row.metric: row.higher_is_better for row in rest if row.higher_is_better is not None}
    header = ["rank", "explainer", *(name + ARROWS[direction.get(name)] for name in shown), "s/image"]
    body, footnotes = [], []
    for name in names:
        row = first.get(name)
        cells = [str(row.rank) if row and row.rank else "-", name + (" †" if row and row.control else "")]
        cells += [_cell(by_place.get((name, metric)), metric == lead) for metric in shown]
        seconds = next(
            (r.seconds_per_image for r in rest if r.explainer == name and r.seconds_per_image is not None), None
        )
        body.append([*cells, "-" if seconds is None else f"{seconds:.2g}"])
    if any(row.chance is not None for row in rest):
        chances = [next((r.chance for r in rest if r.metric == name and r.chance is not None), None) for name in shown]
        body.append(["", "chance", *("" if value is None else f"{value:.3f}" for value in chances), ""])
    footnotes += _footnotes(rest, names)
    return Pivot(classifier, header, body, footnotes, names, shown)


def _cell(row: Row | None, with_interval: bool) -> str:
    if row is None or row.mean is None:
        return row.status if row and row.status != "ok" else "-"
    doubt = " ‡" if row.doubt else ""
    if row.low is None or row.high is None:
        return f"{row.mean:.3f}{doubt}"
    if with_interval:
        return f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]{doubt}"
    return f"{row.mean:.3f} ±{(row.high - row.low) / 2:.3f}{doubt}"


def _footnotes(rest: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return a line for everything that a reader would stumble over, once for all explainers that share it."""
    lines = []
    if any(row.rank for row in rest):
        lines.append(
            "rank: by the first score; 1 + the explainers that are better with a paired 95 % interval above zero"
        )
    if any(row.control for row in rest):
        lines.append("† control: a method that does not beat these shows nothing")
    doubted = [row for row in rest if row.doubt]
    lines += [f"‡ {line}" for line in _shared(doubted, names, lambda row: row.doubt)]
    whole = {name: {(row.status, row.reason) for row in rest if row.explainer == name} for name in names}
    for name in names:
        if len(whole[name]) == 1 and (state := next(iter(whole[name])))[0] != "ok":
            lines.append(f"{name}: {': '.join(state)}")
    partly = [row for row in rest if row.status != "ok" and len(whole[row.explainer or ""]) > 1]
    lines += _shared(partly, names, lambda row: f"{row.status}: {row.reason}")
    short = [row for row in rest if row.mean is not None and row.n_scored < row.n]
    lines += _shared(short, names, coverage)
    lines += qualities(rest, names)
    devices = sorted({row.device for row in rest if row.device})
    if devices:
        lines.append(f"s/image: the explanation alone, on {'; '.join(devices)}")
    unranked = [row for row in rest if row.mean is not None and not row.rank and row.higher_is_better is not None]
    return lines + pooling(rest, names, unranked)


def coverage(row: Row, epochs: int = 1) -> str:
    """Return how many samples have a value, as words; of several seeds or epochs, how many values there are."""
    if row.seeds == epochs == 1:
        return f"{row.n_scored} of {row.n} samples have a value"
    told = [f"{several} {what}" for several, what in ((row.seeds, "seeds"), (epochs, "epochs")) if several > 1]
    return (
        f"{row.n_scored} of {row.n} values are defined ({row.n // row.seeds // epochs} samples in {' and '.join(told)})"
    )


def each_seed(row: Row) -> str:
    """Return how many samples a number is of: ``60``, or ``60 in each of 3 seeds``."""
    if row.seeds == 1:
        return str(row.n_scored)
    each, over = divmod(row.n_scored, row.seeds)
    return f"{row.n_scored} values of {row.seeds} seeds" if over else f"{each} in each of {row.seeds} seeds"


def qualities(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return a line on each explainer's blank maps, and one on what the shortcuts of scores cost."""
    blanks = {row.explainer: row.blank_rate for row in reversed(rows) if row.blank_rate}
    lines = [
        f"{name}: {blanks[name]:.1%} of its maps are blank (the same value everywhere)"
        for name in names
        if name in blanks
    ]
    return lines + shortcuts(rows)


def pooling(rows: Sequence[Row], names: Sequence[str], unranked: Iterable[Row]) -> list[str]:
    """Return a line on explainers that could not be ranked with the others, and on whose seeds are pooled."""
    lines = []
    if apart := list(dict.fromkeys(row.explainer or "" for row in unranked)):
        lines.append(f"{', '.join(apart)}: no rank, for the seeds are others than those of most rows")
    for seeds in sorted({row.seeds for row in rows} - {1}):
        who = [name for name in names if any(row.explainer == name and row.seeds == seeds for row in rows)]
        whose = "" if len(who) == len(names) else f" of {', '.join(who)}"
        lines.append(f"{seeds} seeds{whose} pooled; intervals draw seeds, then samples within them")
    return lines


def shortcuts(rest: Sequence[Row]) -> list[str]:
    """Return a line on how far the shortcuts of metrics are from the full ones, the largest over explainers."""
    far: dict[str, tuple[float, float]] = {}
    for row in rest:
        if row.deviation is not None and row.deviation_max is not None:
            mean, most = far.get(row.metric, (0.0, 0.0))
            far[row.metric] = max(mean, abs(row.deviation)), max(most, row.deviation_max)
    each = [f"{metric} {mean:.4f} and {most:.4f}" for metric, (mean, most) in far.items()]
    what = "shortcuts, by how much an explainer's mean and a sample differ at most from the full curve in float32"
    return [f"{what} (known of one sample in 16): {', '.join(each)}"] if each else []


def _shared(rows: Sequence[Row], names: Sequence[str], text: Callable[[Row], str]) -> list[str]:
    """Return "metrics: text" lines, naming explainers where it is not true of most of them."""
    whose: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        whose.setdefault((row.metric, text(row)), []).append(row.explainer or "")
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (metric, what), who in whose.items():
        merged.setdefault((what, tuple(sorted(who)) if len(who) <= len(names) // 2 else ()), []).append(metric)
    return [
        f"{', '.join(metrics)}{' of ' + ', '.join(who) if who else ''}: {what}"
        for (what, who), metrics in merged.items()
    ]
