"""Every sample's scores as flat lines."""

from collections.abc import Iterable, Iterator

import numpy as np

from xbench.stats import cross_tuned
from xbench.store import Store

HEADER = (
    *("suite", "protocol", "data", "model", "explainer", "seed"),
    *("sample", "group", "label", "predicted", "target", "metric", "value"),
)


def score_lines(store: Store, keys: Iterable[str]) -> Iterator[tuple[object, ...]]:
    """Yield one line a sample and score, in the order of `HEADER`; an undefined value is an empty text."""
    for key in keys:
        record = store.read(key)
        if record.status != "ok":
            continue
        cell, table = record.definition, store.samples(record.definition["samples"])
        who = cell["explainer"]["text"] if cell["explainer"] else ""
        place = (cell["suite"], cell["protocol"], cell["data"]["text"], cell["model"]["text"], who, cell["seed"])
        classes = cell["classes"]
        for name in (name for name in record.arrays if name.startswith("score/")):
            values = record.arrays[name]
            if values.ndim > 1:  # a tuned score, as tables show it
                values = cross_tuned(values, table["groups"])
            for row, sample in enumerate(table["ids"]):
                explained = classes[record.arrays["target"][row]] if "target" in record.arrays else ""
                named = (classes[table["labels"][row]], classes[record.arrays["predicted"][row]], explained)
                value = "" if np.isnan(values[row]) else repr(float(values[row]))
                yield (*place, sample, table["groups"][row], *named, name.removeprefix("score/"), value)
