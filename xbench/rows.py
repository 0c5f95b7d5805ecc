"""A row of a table: one number of one explainer, with its interval, or why there is none."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbench.stats import Bootstrap, Estimate, cross_tuned
from xbench.store import Json, Record, content_key

_GROUPS = 20
"""Below this number of groups of samples a number is called unreliable: the bootstrap's intervals are then too narrow."""


@dataclass(frozen=True)
class Row:
    """One number of one explainer (or, with ``explainer`` None, of the classifier).

    ``mean`` with its 95 % interval over ``n_scored`` of ``n`` values; ``chance`` is what knowing nothing scores; ``rank``
    counts the rows that are better beyond doubt. ``gain`` is how much better the mean is than that of the control that knows
    nothing (below 0: worse), ``scaled`` the same in units of what the control that knows the truth gains: 0 knows nothing,
    1 as much as the truth. ``deviation`` and ``deviation_max`` are the mean and the largest difference of a shortcut's
    scores (coarser steps, less precision) from the full metric's, of samples that have both. None stands wherever there is
    no number; ``status`` and ``reason`` say why.
    ``doubt`` says why a number is to be taken with care: ``unreliable: ...`` or ``reported: ...``.
    A ``#`` and 8 digits behind a name tell apart what is written alike: a model by its weights, the rest by code
    and versions.
    """

    suite: str
    data: str
    protocol: str
    model: str
    explainer: str | None
    metric: str
    family: str
    mean: float | None
    low: float | None
    high: float | None
    n_scored: int
    n: int
    higher_is_better: bool | None
    chance: float | None
    rank: int | None
    status: str
    seconds_per_image: float | None
    reason: str = ""
    control: bool | str = False
    gain: float | None = None
    scaled: float | None = None
    deviation: float | None = None
    deviation_max: float | None = None
    seeds: int = 1
    blank_rate: float | None = None
    target: str | None = None
    device: str | None = None
    version: str = ""
    board: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Measured:
    """A row with what it was estimated from.

    Attributes
    ----------
    row, estimate
        The number, and its values and resamples; None where there is no number.
    contest
        Rows of one model and contest were measured alike on the same samples, and may be compared value by value.
    epochs
        How many epochs of a series the number pools: of n values, n / seeds / epochs samples.
    """

    row: Row
    estimate: Estimate | None
    contest: str
    epochs: int = 1


def worth(row: Row) -> tuple[int, float]:
    """Order rows: those with numbers by their mean, best first (the largest where none is best); then those without."""
    if row.mean is None:
        return 2, 0.0
    return 1, row.mean if row.higher_is_better is False else -row.mean


def rows_of(
    runs: list[list[Record]], bootstrap: Bootstrap, labels: Any, names: Json, meanings: Mapping[str, int]
) -> Iterable[Measured]:
    """Yield the rows of one pool of records, a row a score; what is missing has one too, with its reason.

    Parameters
    ----------
    runs
        The records of each seed, in the order of their epochs.
    bootstrap, labels
        The resamples and the labels of their samples, over all epochs.
    names
        What the rows call the model and the explainer.
    meanings
        How many definitions each score's name has on the board.
    """
    members = [record for run in runs for record in run]
    cell = members[0].definition
    broken = next((record for record in members if record.status != "ok"), None)
    cost = [record.cost for record in members]
    images = sum(part["images"] for part in cost)
    blanks = [_of_defined("blank", record) for record in members if "blank" in record.arrays]
    blank = np.concatenate(blanks) if blanks else np.empty(0)
    common: Json = {
        "suite": cell["suite"],
        "data": cell["data"]["text"],
        "protocol": cell["protocol"],
        **names,
        "control": cell["explainer"]["control"] if cell["explainer"] else False,
        "seconds_per_image": sum(part["seconds"] for part in cost) / images if images else None,
        "device": "; ".join(sorted({name for part in cost for name in part["devices"]})) or None,
        "seeds": len(runs),
        "n": cell["n"] * len(members),
        "target": cell["target"],
        "blank_rate": float(blank.mean()) if len(blank) else None,
    }
    doubt = "; ".join(dict.fromkeys(record.doubt for record in members if record.doubt))
    same_samples = [cell["samples"], cell["target"], [run[0].definition["seed"] for run in runs], len(runs[0])]
    for metric in cell["metrics"]:
        for score in metric["scores"]:
            mark = f"#{content_key(metric)[:8]}" if meanings[score["name"]] > 1 else ""
            facts = {
                **common,
                "metric": score["name"] + mark,
                "family": score["family"],
                "higher_is_better": score["higher_is_better"],
                "version": f"{metric['id']} v{metric['version']}",
            }
            chance = score["chance"] if isinstance(score["chance"], (int, float)) else None
            if broken:
                yield Measured(_without(facts, broken.status, broken.reason, chance), None, "")
                continue
            wanted = [f"score/{score['name']}"] + [f"chance/{score['name']}"] * (score["chance"] == "per_sample")
            if absent := [name for name in wanted for record in members if name not in record.arrays]:
                yield Measured(_without(facts, "error", f"the records hold no {absent[0]}", chance), None, "")
                continue
            columns = _columns(runs, f"score/{score['name']}", bootstrap.groups)
            if score["aggregate"] == "auroc":
                found = bootstrap.auroc(columns, labels)
            elif score["aggregate"] == "rate":
                found = bootstrap.rate(columns)
            else:
                found = bootstrap.estimate(columns)
            if score["chance"] == "per_sample":
                chance = _number(bootstrap.estimate(_columns(runs, f"chance/{score['name']}", bootstrap.groups)).mean)
            if np.isnan(found.mean):
                reason = "no sample has a value"
                if found.n_scored:
                    reason = (
                        f"{found.n_scored} of {found.n} values are defined, but those of a seed, or of a class, are not"
                    )
                told = next(
                    (each.unmeasured[score["name"]] for each in members if score["name"] in each.unmeasured), ""
                )
                status = "unsupported" if told and not found.n_scored else "undefined"
                yield Measured(_without(facts, status, told or reason, chance), None, "")
                continue
            away = _deviation(runs, score["name"])
            row = Row(
                **facts,
                mean=_number(found.mean),
                low=_number(found.low),
                high=_number(found.high),
                n_scored=found.n_scored,
                chance=chance,
                rank=None,
                status="ok",
                deviation=away[0],
                deviation_max=away[1],
                doubt=doubt or _doubt(found, bootstrap.groups),
            )
            # Only scores of one definition on the same samples are ranked against each other.
            contest = json.dumps([*same_samples, metric, score["name"]], sort_keys=True)
            yield Measured(row, found, contest, len(runs[0]))
    for name, reason in cell["missing"].items():
        facts = {**common, "metric": name, "family": "", "higher_is_better": None}
        whole = broken is not None and broken.status == "unsupported"
        yield Measured(_without(facts, "unsupported", broken.reason if broken and whole else reason, None), None, "")


def _columns(runs: Sequence[Sequence[Record]], name: str, groups: Sequence[str]) -> list[Any]:
    """Return a score's values [epochs * n] of each seed; of a tuned one those of the settings chosen for that record."""

    def column(record: Record) -> Any:
        values = record.arrays[name]
        return cross_tuned(values, groups[: len(values)]) if values.ndim > 1 else values

    return [np.concatenate([column(record) for record in run]) for run in runs]


def _doubt(found: Estimate, groups: Sequence[str]) -> str:
    """Return why an estimate is to be taken with care, or an empty string."""
    if (several := min(len(set(groups)), found.n_scored)) < _GROUPS:
        return f"unreliable: {several} independent samples are too few for an interval"
    return ""


def _deviation(runs: Sequence[Sequence[Record]], name: str) -> tuple[float, float] | tuple[None, None]:
    """Return the mean and the largest difference of a shortcut's scores from the full metric's, where some are known."""
    held = [record.arrays.get(f"deviation/{name}", np.empty(0)) for run in runs for record in run]
    known = np.concatenate([column[~np.isnan(column)] for column in held])
    return (float(known.mean()), float(np.abs(known).max())) if len(known) else (None, None)


def _of_defined(column: str, record: Record) -> Any:
    """Return a column [m] of the samples that the explainer has an answer for."""
    values = record.arrays[column]
    return values[record.arrays["defined"].astype(bool)] if "defined" in record.arrays else values


def _without(facts: Json, status: str, reason: str, chance: float | None) -> Row:
    return Row(
        **facts, mean=None, low=None, high=None, n_scored=0, chance=chance, rank=None, status=status, reason=reason
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
