"""Records -> tables: a pure view. Rows of different suites, data, protocols or metric versions never meet."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xbench.record import for_tables
from xbench.stats import Bootstrap, Estimate, cross_tuned, rank_groups
from xbench.store import Json, Record, Records, content_key

Found = tuple[Records, Record]

_GROUPS = 20
"""Below this number of groups of samples a number is called unreliable: the bootstrap's intervals are then too narrow."""

# What differs between the seeds of one row.
_OF_A_SEED = ("seed", "model_fit", "explainer_fit", "oracle_fit")


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
class Board:
    """The rows that may be compared: one suite, data set, sample set, protocol and target.

    Attributes
    ----------
    title
        What sets the board apart.
    rows
        Ordered by model, then metric as asked for, then rank.
    """

    title: str
    suite: str
    rows: tuple[Row, ...]


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


def read_boards(stores: Sequence[Records], keys: Iterable[str] | None = None) -> list[Board]:
    """Return one board for each group of comparable records in the folders, or for the cells named."""
    return ranked_boards(read_measured(stores, keys))


def ranked_boards(measured: Iterable[tuple[str, str, list[Measured]]]) -> list[Board]:
    """Return the boards of what `read_measured` yields."""
    boards = []
    for title, suite, rows in measured:
        boards.append(Board(title, suite, tuple(replace(row, board=title) for row in _ranked(rows))))
    return boards


def read_measured(
    stores: Sequence[Records], keys: Iterable[str] | None = None
) -> Iterator[tuple[str, str, list[Measured]]]:
    """Yield what `read_boards` ranks: each board's title, its suite, and its rows with their values."""
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for pair in sorted(_whole_first(stores, keys), key=lambda pair: _place(pair[1])):
        cell = pair[1].definition
        title = f"{cell['suite']} v{cell['suite_version']}, {cell['data']['text']}, {cell['protocol']}"
        samples = f"{cell['n']} samples ({cell['samples'][:8]}), target={cell['target']}" if cell["explainer"] else ""
        groups.setdefault((title, content_key(cell["data"]), samples), []).append(pair)
    for (title, data, samples), found in groups.items():
        several = sum(place[:2] == (title, data) and place[2] != "" for place in groups)
        if samples or not several:
            # A classifier is measured on samples of its own: its records go to every board of its data and protocol.
            own = [*groups.get((title, data, ""), []), *found] if samples else found
            twins = {place[1] for place in groups if place[0] == title}
            title += f", data {data[:8]}" if len(twins) > 1 else ""
            title += f", {samples}" if samples else ""
            yield title, found[0][1].definition["suite"], _measured(own)


def _whole_first(stores: Sequence[Records], keys: Iterable[str] | None) -> Iterator[Found]:
    """Yield each cell's record; of one in several folders those that are whole, once for each set of weights."""
    wanted = None if keys is None else list(dict.fromkeys(keys))
    copies: dict[str, list[Found]] = {}
    if wanted is None:
        places = [(key, store) for store in stores for key in store]
    else:
        # Of several runs each holds its own cells; one that nobody holds is missing from the first.
        places = [(key, store) for key in wanted for store in [one for one in stores if key in one] or stores[:1]]
    for key, store in places:
        copies.setdefault(key, []).append((store, for_tables(store.read(key))))
    for found in copies.values():
        whole = {record.weights: (store, record) for store, record in reversed(found) if record.status == "ok"}
        yield from whole.values() or found[:1]


def _place(record: Record) -> tuple[str, str, int, str, str]:
    """Order records by what they are, so that a table does not depend on the order in which they were made."""
    cell = record.definition
    explainer = cell["explainer"]["text"] if cell["explainer"] else ""
    return cell["model"]["text"], explainer, cell["seed"], record.key, record.weights or ""


def _measured(records: Sequence[Found]) -> list[Measured]:
    """Pool seeds and estimate."""
    pools = _pools(records)
    shown = Counter((model, explainer) for model, explainer, _ in pools)
    metrics = [metric for _, record in records for metric in record.definition["metrics"]]
    measured = {(score["name"], content_key(metric)) for metric in metrics for score in metric["scores"]}
    meanings = Counter(name for name, _ in measured)
    bootstraps: dict[tuple[str, int, int], Bootstrap] = {}
    made: list[Measured] = []
    for (model, explainer, identity), members in pools.items():
        mark = f"#{identity[:8]}" if shown[model, explainer] > 1 else ""
        names = {
            "model": model if explainer else model + mark,
            "explainer": explainer + mark if explainer else None,
        }
        store, first = members[0]
        runs = _by_seed([record for _, record in members])
        epochs = len(runs[0])
        place = (first.definition["samples"], len(runs), epochs)
        table = store.samples(place[0])
        if place not in bootstraps:
            # A sample keeps its group in every epoch: a resample takes it with all its epochs or not at all.
            bootstraps[place] = Bootstrap(list(table["groups"]) * epochs, seeds=len(runs))
        labels = np.tile(np.asarray(table["labels"]), epochs)
        made += _cell_rows(runs, bootstraps[place], labels, names, meanings)
    return made


def _pools(records: Sequence[Found]) -> dict[tuple[str, str, str], list[Found]]:
    """Return records that differ in their seed only, or in the epoch of one series, by model, explainer and all else."""

    def training(record: Record) -> tuple[str, str]:
        return record.definition["model"]["text"], str(record.definition["model_fit"])

    trained = {(training(record), record.weights) for _, record in records if record.weights}
    copies = Counter(place for place, _ in trained)
    alike: dict[tuple[str, str, str], list[Found]] = {}
    for store, record in records:
        cell = record.definition
        model, explainer = cell["model"]["text"], cell["explainer"]["text"] if cell["explainer"] else ""
        if cell.get("series"):
            model = cell["series"]
            epoch = {name: value for name, value in cell["model"].items() if name not in ("checkpoint", "text")}
            cell = {**cell, "model": epoch}
        if record.weights and copies[training(record)] > 1:
            # One training that gave other weights on another machine: never one row.
            model += f"#{record.weights[:8]}"
        own = {name: value for name, value in cell.items() if name not in _OF_A_SEED}
        alike.setdefault((model, explainer, content_key(own)), []).append((store, record))
    pools: dict[tuple[str, str, str], list[Found]] = {}
    for (model, explainer, identity), members in alike.items():
        places = [(record.definition["seed"], record.definition["model"].get("checkpoint")) for _, record in members]
        seeds, epochs = ({place[i] for place in places} for i in (0, 1))
        if len(set(places)) == len(members) == len(seeds) * len(epochs):
            pools[model, explainer, identity] = members
        else:  # a seed that was trained on other data too: which seeds belong together is not written down
            pools |= {(model, explainer, record.key): [(store, record)] for store, record in members}
    return pools


def _by_seed(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each seed, in the order of their epochs."""
    runs: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.definition["model"].get("checkpoint") or 0):
        runs.setdefault(record.definition["seed"], []).append(record)
    return [runs[seed] for seed in sorted(runs)]


def _columns(runs: Sequence[Sequence[Record]], name: str, groups: Sequence[str]) -> list[Any]:
    """Return a score's values [epochs * n] of each seed; of a tuned one those of the settings chosen for that record."""

    def column(record: Record) -> Any:
        values = record.arrays[name]
        return cross_tuned(values, groups[: len(values)]) if values.ndim > 1 else values

    return [np.concatenate([column(record) for record in run]) for run in runs]


def _cell_rows(
    runs: list[list[Record]], bootstrap: Bootstrap, labels: Any, names: Json, meanings: Mapping[str, int]
) -> Iterable[Measured]:
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


def _ranked(made: Sequence[Measured]) -> tuple[Row, ...]:
    """Rank within each contest and put the rows in order."""
    contests: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(made):
        row = each.row
        if each.estimate is not None and row.explainer is not None and row.higher_is_better is not None:
            contests.setdefault((row.model, each.contest), []).append(place)
    rank: dict[int, int] = {}
    largest: dict[tuple[str, str], list[int]] = {}
    for (model, _), places in contests.items():
        column = model, made[places[0]].row.metric
        largest[column] = max(largest.get(column, []), places, key=len)
    # Rows with other seeds than most cannot be paired with these; a rank among themselves would mislead.
    for places in largest.values():
        estimates = [found for place in places if (found := made[place].estimate)]
        higher = bool(made[places[0]].row.higher_is_better)
        rank |= dict(zip(places, rank_groups(estimates, higher), strict=True))
    scale = {place: found for places in contests.values() for place, found in _scale(made, places).items()}
    nothing = None, None
    rows = [
        replace(each.row, rank=rank.get(place), gain=scale.get(place, nothing)[0], scaled=scale.get(place, nothing)[1])
        for place, each in enumerate(made)
    ]
    # What is missing is written down by name; the order in which metrics were asked for stands with what is measured.
    asked = list(dict.fromkeys([row.metric for row in rows if row.family] + [row.metric for row in rows]))
    return tuple(sorted(rows, key=lambda row: (row.model, asked.index(row.metric), worth(row), row.explainer or "")))


def _scale(made: Sequence[Measured], places: Sequence[int]) -> dict[int, tuple[float, float | None]]:
    """Return each row's gain over chance and its place between chance and truth, where the contest has these controls."""
    sign = 1 if made[places[0]].row.higher_is_better else -1
    means = {place: sign * found.mean for place in places if (found := made[place].estimate)}
    zeros = [means[place] for place in places if made[place].row.control == "chance"]
    if not zeros:
        return {}
    truth = max((means[place] for place in places if made[place].row.control == "truth"), default=zeros[0])
    whole = truth - zeros[0]
    return {place: (mean - zeros[0], (mean - zeros[0]) / whole if whole > 0 else None) for place, mean in means.items()}


def worth(row: Row) -> tuple[int, float]:
    """Order rows: those with numbers by their mean, best first (the largest where none is best); then those without."""
    if row.mean is None:
        return 2, 0.0
    return 1, row.mean if row.higher_is_better is False else -row.mean


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
