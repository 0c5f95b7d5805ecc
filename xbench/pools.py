"""Which records make one row together: those that differ in their seed only, or in the epoch of one series."""

from collections import Counter
from collections.abc import Sequence

from xbench.store import Record, Records, content_key

Found = tuple[Records, Record]

# What differs between the seeds of one row.
_OF_A_SEED = ("seed", "model_fit", "explainer_fit", "oracle_fit")


def pools_of(records: Sequence[Found]) -> dict[tuple[str, str, str], list[Found]]:
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


def by_seed(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each seed, in the order of their epochs."""
    runs: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.definition["model"].get("checkpoint") or 0):
        runs.setdefault(record.definition["seed"], []).append(record)
    return [runs[seed] for seed in sorted(runs)]
