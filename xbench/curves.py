"""Mean curves as a flat table: how a score changes along the path from an image to its fill."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xbench.stats import Bootstrap
from xbench.store import Record, Records

if TYPE_CHECKING:
    import pandas as pd

_Z = 1.959964


def curve_frame(store: Records, keys: Iterable[str]) -> "pd.DataFrame":
    """Return explainer, model, seed, metric, share, mean, low, high, n: a line a point of a curve.

    ``share`` is the fraction of pixels changed, ``mean`` the mean over ``n`` samples of the target's probability there, ``low``
    and ``high`` its 95 % interval at this one point: that of independent samples, widened by as much as the bootstrap over
    groups widens the interval of the curve's area. NaN where a record of an earlier version has no squares of its curves,
    or there are fewer than two samples.
    """
    import pandas as pd

    parts = []
    for key in keys:
        record = store.read(key)
        names = [name.removeprefix("curve/") for name in record.arrays if name.startswith("curve/")]
        if record.status != "ok":
            continue
        cell = record.definition
        groups = store.samples(cell["samples"])["groups"] if names else []
        for name in names:
            points = _points(record, name, groups)
            who = cell["explainer"]["text"] if cell["explainer"] else None
            parts.append(
                pd.DataFrame(
                    {"explainer": who, "model": cell["model"]["text"], "seed": cell["seed"], "metric": name, **points}
                )
            )
    if not parts:
        return pd.DataFrame(columns=["explainer", "model", "seed", "metric", "share", "mean", "low", "high", "n"])
    found = pd.concat(parts, ignore_index=True)
    return found.astype(dict.fromkeys(("explainer", "model", "metric"), "category"))


def _points(record: Record, name: str, groups: list[str]) -> dict[str, Any]:
    sums = record.arrays[f"curve/{name}"].astype(np.float64)
    n = sums[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        share, mean = sums[0] / n, sums[1] / n
        spread = np.full(len(n), np.nan)
        if len(sums) > 3:
            variance = np.maximum(sums[3] / n - mean**2, 0) * n / (n - 1)
            spread = _Z * np.sqrt(variance / n) * _widening(record.arrays.get(f"score/{name}"), groups)
            spread[n < 2] = np.nan
    return {"share": share, "mean": mean, "low": mean - spread, "high": mean + spread, "n": n.round().astype(np.int64)}


def _widening(values: Any, groups: list[str]) -> float:
    """Return how much wider groups make the interval of a mean than independent samples would; 1 where each has its own."""
    if values is None or values.ndim > 1 or len(set(groups)) == len(groups):
        return 1.0
    known = values[~np.isnan(values)]
    plain = known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else 0.0
    if not plain > 0:
        return 1.0
    found = Bootstrap(groups).estimate([values])
    return max(1.0, float(np.nanstd(found.draws)) / float(plain))
