"""What the tables of a leaderboard say of one component: its rank in every suite, or who is best by it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xbench.cli.examples import settings_of
from xbench.errors import XbenchError
from xbench.plugins import Registry
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, Spec

Line = dict[str, Any]
"""A row of a table.json: the members of `xbench.rows.Row`."""

_BEST = 3


def read_rows(folder: Path | None) -> list[Line]:
    """Return the rows of all ``DIR/*/table.json``; of ``./leaderboard`` where no folder is named, none if there is none.

    Raises XbenchError where the folder that is named has no tables, or a file is no table.
    """
    paths = sorted((folder or Path("leaderboard")).glob("*/table.json"))
    if folder and not paths:
        raise XbenchError(f"{folder} holds no leaderboard: there is no {folder / 'SUITE' / 'table.json'}")
    rows: list[Line] = []
    for path in paths:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise XbenchError(f"cannot read {path}: {' '.join(str(error).split())}") from error
        if not isinstance(found, list) or not all(
            isinstance(row, dict) and {"suite", "metric"} <= set(row) for row in found
        ):
            raise XbenchError(f"{path} is no table of a leaderboard; a list of rows with suite and metric is needed")
        rows += found
    return rows


def placings(registry: Registry, spec: Spec, rows: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Return a header and the lines of a component in a leaderboard; no lines where it is in none."""
    if isinstance(spec, ExplainerSpec):
        return ["suite", "data, model", "rank", "mean [95 %]"], _of_explainer(registry, spec, rows)
    if isinstance(spec, MetricSpec):
        best = "best three, † control" if spec.level == "explainer" else "mean [95 %]"
        return ["suite", "data, model", "score", best], _of_metric(spec, rows)
    if not isinstance(spec, (ModelSpec, DatasetSpec)):
        return [], []
    named = "model" if isinstance(spec, ModelSpec) else "data"
    lines = [
        [str(row["suite"]), _place(row), str(row.get("protocol"))] for row in rows if _id(row.get(named)) == spec.id
    ]
    return ["suite", "data, model", "protocol"], [list(line) for line in dict.fromkeys(map(tuple, lines))]


def _of_explainer(registry: Registry, spec: ExplainerSpec, rows: Sequence[Line]) -> list[list[str]]:
    lines = []
    for board in _boards([row for row in rows if row.get("explainer")]):
        primary = _primary(registry, board)
        for written in dict.fromkeys(row["explainer"] for row in board if _id(row["explainer"]) == spec.id):
            own = [row for row in board if row["explainer"] == written]
            # What only translates has no number by a metric of maps.
            row = min(own, key=lambda one: (one.get("rank") is None, one["metric"] != primary))
            ranked = sum(one.get("rank") is not None for one in board if one["metric"] == row["metric"])
            rank = f"{row['rank']} of {ranked} by" if row.get("rank") is not None else "none by"
            place = _place(row) + f", as {written}" * (written != spec.id)
            lines.append([str(row["suite"]), place, f"{rank} {row['metric']}", _value(row)])
    return lines


def _of_metric(spec: MetricSpec, rows: Sequence[Line]) -> list[list[str]]:
    lines = []
    scores = {score.name: score for score in spec.scores}
    for board in _boards(rows):
        for metric in dict.fromkeys(row["metric"] for row in board):
            score = scores.get(_id(metric))
            if score is None:
                continue
            own = [row for row in board if row["metric"] == metric and isinstance(row.get("mean"), (int, float))]
            best = [row for row in own if not row.get("explainer")]
            if score.higher_is_better is not None and not best:
                sign = -1 if score.higher_is_better else 1
                # Who knows the answer is no method.
                methods = [row for row in own if row.get("control") != "truth"]
                best = sorted(methods, key=lambda row: (sign * row["mean"], str(row["explainer"])))[:_BEST]
            told = "\n".join(_value(row) + _named(row) for row in best)
            if told:
                lines.append([str(board[0]["suite"]), _place(board[0]), str(metric), told])
    return lines


def _boards(rows: Sequence[Line]) -> list[list[Line]]:
    """Return rows that stand in one table: of one board and one model."""
    found: dict[tuple[str, ...], list[Line]] = {}
    for row in rows:
        place = tuple(str(row.get(name)) for name in ("suite", "board", "data", "protocol", "model"))
        found.setdefault(place, []).append(row)
    return list(found.values())


def _primary(registry: Registry, board: Sequence[Line]) -> str:
    """Return the metric that a suite ranks by: as its file says, or the first with ranks where that one has no number."""
    suite, protocol = str(board[0]["suite"]), str(board[0].get("protocol"))
    settings = settings_of(registry, suite).get(protocol, {}) if suite in registry.suites else {}
    measured = [str(row["metric"]) for row in board if row.get("mean") is not None]
    named = str(settings.get("primary") or "")
    ranked = [str(row["metric"]) for row in board if row.get("rank") is not None]
    return named if named in measured else next(iter([*ranked, *measured]), str(board[0]["metric"]))


def _named(row: Line) -> str:
    return f" {row['explainer']}{' †' * bool(row.get('control'))}" if row.get("explainer") else ""


def _place(row: Line) -> str:
    return f"{row.get('data')}, {row.get('model')}"


def _id(text: object) -> str:
    """Return the id, or the score, that a table's text begins with."""
    return re.split(r"[\[@#]", str(text), maxsplit=1)[0]


def _value(row: Line) -> str:
    mean, low, high = (row.get(name) for name in ("mean", "low", "high"))
    if not isinstance(mean, (int, float)):
        return ": ".join(str(part) for part in (row.get("status"), row.get("reason")) if part)
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return f"{mean:.3f}"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
