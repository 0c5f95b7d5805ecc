"""Records -> tables: a pure view. Rows of different suites, data, protocols or metric versions never meet."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xbench.pools import Found, by_seed, pools_of
from xbench.record import for_tables
from xbench.rows import Measured, Row, rows_of, worth
from xbench.stats import Bootstrap, rank_groups
from xbench.store import Record, Records, content_key


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
    pools = pools_of(records)
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
        runs = by_seed([record for _, record in members])
        epochs = len(runs[0])
        place = (first.definition["samples"], len(runs), epochs)
        table = store.samples(place[0])
        if place not in bootstraps:
            # A sample keeps its group in every epoch: a resample takes it with all its epochs or not at all.
            bootstraps[place] = Bootstrap(list(table["groups"]) * epochs, seeds=len(runs))
        labels = np.tile(np.asarray(table["labels"]), epochs)
        made += rows_of(runs, bootstraps[place], labels, names, meanings)
    return made


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
