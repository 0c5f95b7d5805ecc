"""Rows as an interactive table shows them: a number with what it is sorted by, and its interval on the column's scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xbench.leaderboard import Board
from xbench.rows import Row
from xbench.tables import ARROWS, Pivot, views

WIDTH = 100.0
"""Units of a whisker's scale: 0 is the smallest value of a column's intervals, `WIDTH` the largest."""


@dataclass(frozen=True)
class Whisker:
    """Where an interval, its mean and chance lie on a column's scale."""

    low: float
    high: float
    mean: float
    chance: float | None


@dataclass(frozen=True)
class Cell:
    """A number, or why there is none.

    Attributes
    ----------
    text, spread
        The mean and its interval, as printed.
    value
        What it is sorted by, or None: such cells stay last.
    title
        All that is known of it.
    coverage
        ``19/20`` where samples have no value, or an empty string.
    """

    text: str
    spread: str = ""
    value: float | None = None
    title: str = ""
    coverage: str = ""
    whisker: Whisker | None = None
    doubt: str = ""


@dataclass(frozen=True)
class Column:
    """A score: ``arrow`` points to where it is better."""

    metric: str
    arrow: str
    family: str
    title: str
    chance: str
    descending: bool


@dataclass(frozen=True)
class Line:
    """An explainer; ``new`` where its rank differs from the one above, ``tied`` where it shares one."""

    explainer: str
    package: str
    rank: int | None
    tied: bool
    new: bool
    control: bool
    cells: list[Cell]
    seconds: Cell | None


@dataclass(frozen=True)
class Table:
    """One table of a model."""

    columns: list[Column]
    lines: list[Line]
    footnotes: list[str]
    with_seconds: bool


@dataclass(frozen=True)
class Section:
    """A model's tables, and what it scores itself."""

    board: str
    model: str
    classifier: list[str]
    tables: list[Table]


def sections(boards: Iterable[Board], primary: str = "", costs: bool = True) -> list[Section]:
    """Return every model's tables, board by board; without ``costs``, nothing that was timed."""
    found = []
    for board in boards:
        rows = [row if costs else replace(row, seconds_per_image=None, device=None) for row in board.rows]
        for model in dict.fromkeys(row.model for row in rows):
            own = [row for row in rows if row.model == model]
            pivots = views(own, primary)
            tables = [_table(pivot, own) for pivot in pivots if pivot.body]
            classifier = [line for pivot in pivots for line in pivot.classifier]
            found.append(Section(board.title, model, classifier, tables))
    return found


def _table(pivot: Pivot, rows: Sequence[Row]) -> Table:
    """Return a pivot's order of explainers and metrics, filled with the rows themselves."""
    of = {(row.explainer, row.metric): row for row in rows if row.explainer}
    shown, names = pivot.metrics, pivot.explainers
    columns = [_column(metric, [of[name, metric] for name in names if (name, metric) in of]) for metric in shown]
    scales = [_scale([of[name, metric] for name in names if (name, metric) in of]) for metric in shown]
    ranks = [of[name, shown[0]].rank if shown and (name, shown[0]) in of else None for name in names]
    seconds = {row.explainer: row.seconds_per_image for row in rows if row.seconds_per_image is not None}
    lines = []
    for place, name in enumerate(names):
        mine = [row for row in rows if row.explainer == name]
        rank = ranks[place]
        cells = [
            _cell(of.get((name, metric)), scale, first=k == 0)
            for k, (metric, scale) in enumerate(zip(shown, scales, strict=True))
        ]
        lines.append(
            Line(
                explainer=name,
                package=name.partition("/")[0],
                rank=rank,
                tied=rank is not None and ranks.count(rank) > 1,
                new=place == 0 or rank != ranks[place - 1],
                control=bool(mine[0].control),
                cells=cells,
                seconds=_seconds(seconds.get(name)),
            )
        )
    return Table(columns, lines, pivot.footnotes, any(name in seconds for name in names))


def _column(metric: str, rows: Sequence[Row]) -> Column:
    better = next((row.higher_is_better for row in rows if row.higher_is_better is not None), None)
    family = next((row.family for row in rows if row.family), "")
    chance = next((row.chance for row in rows if row.chance is not None), None)
    version = next((row.version for row in rows if row.version), "")
    way = {True: "larger is better", False: "smaller is better", None: "neither side is better"}[better]
    title = "; ".join(part for part in (family, way, version) if part)
    told = "" if chance is None else f"{chance:.3f}"
    return Column(metric, ARROWS[better].strip(), family, title, told, descending=better is not False)


def _scale(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the smallest and the largest end of a column's intervals, chance among them."""
    ends = [value for row in rows if row.mean is not None for value in (row.low, row.high, row.mean, row.chance)]
    known = [value for value in ends if value is not None]
    return (min(known), max(known)) if known and max(known) > min(known) else None


def _cell(row: Row | None, scale: tuple[float, float] | None, first: bool) -> Cell:
    if row is None:
        return Cell("–")
    if row.mean is None:
        return Cell(row.status if row.status != "ok" else "–", title=row.reason)
    told = [f"{row.metric} of {row.explainer}: {row.mean:.4f}"]
    spread, whisker = "", None
    if row.low is not None and row.high is not None:
        told.append(f"95 % interval {row.low:.4f} to {row.high:.4f}")
        spread = (
            f"[{signed(f'{row.low:.3f}')}, {signed(f'{row.high:.3f}')}]"
            if first
            else f"±{(row.high - row.low) / 2:.3f}"
        )
        if scale:
            whisker = Whisker(
                _place(row.low, scale),
                _place(row.high, scale),
                _place(row.mean, scale),
                None if row.chance is None else _place(row.chance, scale),
            )
    told.append(f"{row.n_scored} of {row.n} {'samples' if row.seeds == 1 else 'values'}")
    if row.chance is not None:
        told.append(f"chance {row.chance:.4f}")
    if row.rank is not None:
        told.append(f"rank {row.rank} by this score")
    if row.gain is not None:
        told.append(f"{row.gain:+.4f} against the control that knows nothing")
    if row.scaled is not None:
        told.append(f"{row.scaled:+.2f} on a scale from 0, knowing nothing, to 1, the truth")
    coverage = f"{row.n_scored}/{row.n}" if row.n_scored < row.n else ""
    return Cell(signed(f"{row.mean:.3f}"), spread, row.mean, "\n".join(told), coverage, whisker, row.doubt)


def signed(text: str) -> str:
    """Return a printed number without the sign of a zero."""
    return text.removeprefix("-") if text.startswith("-") and not text.strip("-0.") else text


def _place(value: float, scale: tuple[float, float]) -> float:
    return round(WIDTH * (value - scale[0]) / (scale[1] - scale[0]), 1)


def _seconds(value: float | None) -> Cell | None:
    return None if value is None else Cell(duration(value), value=value, title=f"{value:.4g} s an image")


def duration(seconds: float) -> str:
    """Return a time in two digits and the unit that suits it."""
    unit, size = next((each for each in (("s", 1.0), ("ms", 1e-3)) if seconds >= 0.995 * each[1]), ("µs", 1e-6))
    return f"{float(f'{seconds / size:.2g}'):g} {unit}"
