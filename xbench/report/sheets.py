"""The tables of a paper: explainers above, controls below, the best of each score by the statistics and not by eye."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from xbench.report.latex import drawable
from xbench.rows import Measured, Row, worth
from xbench.stats import rank_groups
from xbench.tables import coverage, pooling, qualities

PAGE = 465.0
"""How wide a page's text is; points. In 8-point type, a letter, the room between columns, a number with its interval:"""
_LETTER, _GAP = 3.9, 7.0
_NUMBERS = {"pm": 47.0, "range": 82.0}
LONGEST = 34
"""Letters of a name that stand on one line."""

_NAMED = 4

Place = tuple[str, str, str]
Intervals = Literal["pm", "range"]


@dataclass(frozen=True)
class Entry:
    """A number with its interval, or why there is none; ``best`` where nobody is better beyond doubt."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    status: str = ""


@dataclass(frozen=True)
class Line:
    """An explainer, its place among those that are no controls, and its numbers; ``doubted`` where one is unreliable."""

    name: str
    rank: int | None
    doubted: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Sheet:
    """A table of one classifier, as wide as a page.

    Attributes
    ----------
    board, model, families, lead
        What it is of, and the score that orders it.
    columns
        (score, whether more is better).
    panels
        The columns, first and behind the last, that stand side by side; more than one where a page is too narrow.
    turned
        Whether a page shows it better with a column an explainer: they are few, and there is more than one panel.
    lines, controls
        Best first.
    chance
        What knowing nothing scores, by column.
    notes
        What a reader would stumble over.
    n, n_groups, seeds, epochs
        Samples of an explainer, the groups that are independent of each other, and how many seeds (of different rows more
        than one number) and epochs are pooled.
    """

    board: str
    model: str
    families: tuple[str, ...]
    lead: str
    columns: tuple[tuple[str, bool | None], ...]
    panels: tuple[tuple[int, int], ...]
    turned: bool
    lines: tuple[Line, ...]
    controls: tuple[Line, ...]
    chance: tuple[float | None, ...]
    notes: tuple[str, ...]
    n: int
    n_groups: int
    seeds: tuple[int, ...]
    epochs: int


def best_ranks(measured: Sequence[Measured]) -> dict[Place, int]:
    """Return the rank of (classifier, explainer, score) among explainers that are no controls.

    Of rows that may not be compared value by value, those of the largest group have a rank. One alone has none, nor has any
    where all samples are of one group.
    """
    found: dict[Place, int] = {}
    for (model, metric), contests in _contests(measured).items():
        estimates = [one.estimate for one in contests[0] if one.estimate]
        if len(estimates) > 1 and estimates[0].source.n_groups > 1:
            ranks = rank_groups(estimates, bool(contests[0][0].row.higher_is_better))
            pairs = zip(contests[0], ranks, strict=True)
            found |= {(model, str(one.row.explainer), metric): rank for one, rank in pairs}
    return found


def _contests(measured: Sequence[Measured]) -> dict[tuple[str, str], list[list[Measured]]]:
    """Return who may be compared value by value, by classifier and score, the largest group first; controls left out."""
    columns: dict[tuple[str, str], dict[str, list[Measured]]] = {}
    for each in measured:
        row = each.row
        if row.explainer and not row.control and each.estimate is not None and row.higher_is_better is not None:
            columns.setdefault((row.model, row.metric), {}).setdefault(each.contest, []).append(each)
    return {place: sorted(contests.values(), key=len, reverse=True) for place, contests in columns.items()}


def sheets(title: str, measured: Sequence[Measured], primary: str = "", intervals: Intervals = "pm") -> Iterator[Sheet]:
    """Yield a board's tables: a classifier after the other, its scores family by family, split where they are too wide."""
    wide = _NUMBERS[intervals]
    ranks = best_ranks(measured)
    for model in dict.fromkeys(each.row.model for each in measured):
        own = [each for each in measured if each.row.model == model and each.row.explainer]
        scored = [each.row for each in own if each.row.mean is not None]
        families: dict[str, list[str]] = {}
        for row in scored:
            if row.metric not in families.setdefault(row.family, []):
                families[row.family].append(row.metric)
        metrics = [name for names in families.values() for name in names]
        if not metrics:
            continue
        lead = primary if primary in metrics else metrics[0]
        # The score that orders the tables comes first, and its family with it.
        first = next(family for family, names in families.items() if lead in names)
        order = [first, *(family for family in families if family != first)]
        families[first].sort(key=lambda name: name != lead)
        room = PAGE - 3 * _GAP - _LETTER * min(LONGEST, max(len(drawable(row.explainer or "")) for row in scored))
        for held in _packed([(family, families[family]) for family in order], room, wide):
            yield _sheet(title, model, held, own, ranks, (room, wide))


def _packed(families: Sequence[tuple[str, list[str]]], room: float, wide: float) -> Iterator[dict[str, list[str]]]:
    """Yield scores by family, as many families as fit side by side; one that is too wide stands alone."""
    held: dict[str, list[str]] = {}
    left = room
    for family, names in families:
        need = sum(width(name, wide) for name in names)
        if held and need > left:
            yield held
            held, left = {}, room
        held[family], left = names, left - need
    yield held


def _panels(names: Sequence[str], room: float, wide: float) -> Iterator[tuple[int, int]]:
    first, left = 0, room
    for place, name in enumerate(names):
        if place > first and width(name, wide) > left:
            yield first, place
            first, left = place, room
        left -= width(name, wide)
    yield first, len(names)


def width(name: str, number: float = _NUMBERS["pm"]) -> float:
    """Return how wide a score's column is; points."""
    return max(number, *(_LETTER * len(drawable(part)) for part in head(name))) + _GAP


def _turned_width(names: Sequence[str], scores: Sequence[str], number: float) -> float:
    parts = [part for name in names for part in name.split("/", 1)]
    columns = max(number, _LETTER * max(len(drawable(part)) for part in parts)) + _GAP
    return _LETTER * max(len(drawable(score)) for score in scores) + (len(names) + 1) * columns


def head(name: str) -> list[str]:
    """Return a score's name on several lines, none much longer than a number with its interval."""
    made: list[str] = []
    for part in name.replace("[", "_[").split("_"):
        if made and len(made[-1]) + len(part) < 13 and not part.startswith("["):
            made[-1] += "_" + part
        else:
            made.append(part)
    return made


def _sheet(
    title: str,
    model: str,
    held: dict[str, list[str]],
    own: Sequence[Measured],
    ranks: dict[Place, int],
    layout: tuple[float, float],
) -> Sheet:
    metrics = [name for names in held.values() for name in names]
    lead = metrics[0]
    rows = {(str(each.row.explainer), each.row.metric): each.row for each in own}
    inside = [row for row in rows.values() if row.metric in metrics]
    able = {row.explainer for row in inside if row.status not in ("unsupported", "undefined")}
    leading = {row.explainer: row for row in rows.values() if row.metric == lead}
    names = sorted(
        (name for name in dict.fromkeys(row.explainer or "" for row in inside) if name in able),
        key=lambda name: (worth(leading[name]), name) if name in leading else ((3, 0.0), name),
    )
    shown: dict[bool, list[Line]] = {False: [], True: []}
    for name in names:
        found = [rows.get((name, metric)) for metric in metrics]
        entries = tuple(
            Entry(None, status="-" if row is None else row.status)
            if row is None or row.mean is None
            else Entry(row.mean, row.low, row.high, ranks.get((model, name, row.metric)) == 1)
            for row in found
        )
        doubted = any(row is not None and row.doubt for row in found)
        control = any(row is not None and bool(row.control) for row in found)
        shown[control].append(Line(name, ranks.get((model, name, lead)), doubted, entries))
    direction = {row.metric: row.higher_is_better for row in inside if row.family}
    chances = {row.metric: row.chance for row in inside if row.chance is not None}
    samples = [each for each in own if each.row.metric in metrics and each.estimate is not None]
    panels = tuple(_panels(metrics, *layout))
    largest = max(samples, key=lambda each: each.row.n)
    source = largest.estimate.source if largest.estimate else None
    return Sheet(
        board=title,
        model=model,
        families=tuple(held),
        lead=lead,
        columns=tuple((metric, direction.get(metric)) for metric in metrics),
        panels=panels,
        turned=len(panels) > 1 and _turned_width(names, metrics, layout[1]) <= PAGE,
        lines=tuple(shown[False]),
        controls=tuple(shown[True]),
        chance=tuple(chances.get(metric) for metric in metrics),
        notes=tuple(_notes([each for each in own if each.row.metric in metrics], names, len(metrics))),
        # With several seeds or epochs, a row's n counts every one of them.
        n=largest.row.n // largest.row.seeds // largest.epochs,
        n_groups=source.n_groups if source else 0,
        seeds=tuple(sorted({each.row.seeds for each in samples})),
        epochs=largest.epochs,
    )


def _notes(measured: Sequence[Measured], names: Sequence[str], columns: int) -> Iterator[str]:
    rows = [each.row for each in measured]

    def told(found: Iterable[tuple[str, Row]], among: int) -> Iterator[str]:
        """Join rows of the same reason: the scores of an explainer, then the explainers of the same scores."""
        by_name: dict[tuple[str, str], list[str]] = {}
        for why, row in found:
            by_name.setdefault((why, row.explainer or ""), []).append(row.metric)
        joined: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for (why, name), metrics in by_name.items():
            joined.setdefault((why, tuple(metrics)), []).append(name)
        for (why, scores), whose in joined.items():
            what = "" if len(scores) == columns else f"{', '.join(scores)} of "
            who = f"{len(whose)} explainers" if len(whose) > _NAMED else ", ".join(whose)
            yield f"{what}{'all explainers' if len(whose) == among > 1 else who}: {why}"

    missing = [row for row in rows if row.status != "ok"]
    absent = [row for row in missing if row.explainer not in names]
    yield from (f"Not shown, {line}" for line in told(((row.reason, row) for row in absent), 0))
    here = [row for row in missing if row.explainer in names]
    yield from told(((f"{row.status}, {row.reason}", row) for row in here), len(names))
    short = [each for each in measured if each.row.n_scored < each.row.n and each.row.mean is not None]
    undoubted = ((coverage(each.row, each.epochs), each.row) for each in short if not each.row.doubt)
    yield from told(undoubted, len(names))
    yield from (f"‡ {line}" for line in told(((row.doubt, row) for row in rows if row.doubt), len(names)))
    yield from qualities(rows, names)
    smaller = [each.row for contests in _contests(measured).values() for contest in contests[1:] for each in contest]
    yield from pooling([row for row in rows if row.mean is not None], names, smaller)
