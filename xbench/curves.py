"""Mean curves: how a score changes along the path of a metric, pooled as tables pool scores, and as a flat table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xbench.stats import Array, Bootstrap
from xbench.store import Json, Record, Records, content_key

if TYPE_CHECKING:
    import pandas as pd

_Z = 1.959964
_PLACE = ("suite", "suite_version", "protocol", "data", "samples", "target")
_COLUMNS = (
    *("explainer", "model", "series", "epoch", "seed", "target", "samples", "metric"),
    *("share", "mean", "low", "high", "n"),
)
_TEXTS = ("explainer", "model", "series", "target", "samples", "metric")


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """The mean curve of a score of an explainer.

    Attributes
    ----------
    place
        The hash of the suite, data, protocol, samples and target: curves of one place may be compared.
    model, explainer, metric
        Names as tables write them; of checkpoints the model is their series.
    kind
        The hash of the metric's definition and the number of its steps: only curves of one kind share an axis.
    control
        Whether the explainer is a control, or which kind of one.
    definition
        That of its first cell.
    x, y, half
        [S]: where on the metric's path, the mean there, and half the width of its 95 % interval at this one point. NaN where
        nothing is known.
    n
        How many curves it is the mean of, over all seeds and epochs.
    """

    place: str
    model: str
    explainer: str
    metric: str
    kind: str
    control: bool | str
    definition: Json
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    half: NDArray[np.float64]
    n: int


def mean_curves(cells: Iterable[tuple[Records, str]]) -> list[MeanCurve]:
    """Return the curves of all finished cells, those of several seeds and of the epochs of one series pooled.

    A mean is taken within each seed, then over seeds. Curves of other steps, or of another definition of the metric, are
    curves of their own. A cell is a folder and its key; of a cell in several folders the first that is whole counts.
    """
    pools: dict[tuple[str, ...], list[Record]] = {}
    groups: dict[str, Sequence[str]] = {}
    done: set[str] = set()
    for store, key in cells:
        record = store.read(key)
        cell = record.definition
        if record.status != "ok" or not cell["explainer"] or key in done:
            continue
        done.add(key)
        if cell["samples"] not in groups:
            groups[cell["samples"]] = store.samples(cell["samples"])["groups"]
        place = content_key([cell.get(name) for name in _PLACE])
        model = str(cell.get("series") or cell["model"]["text"])
        for array, values in record.arrays.items():
            if array.startswith("curve/"):
                name = array.removeprefix("curve/")
                kind = content_key([values.shape[1], _metric(cell, name)])
                pools.setdefault((place, model, str(cell["explainer"]["text"]), name, kind), []).append(record)
    made = []
    for (place, model, explainer, name, kind), records in pools.items():
        seeds: dict[int, list[Record]] = {}
        for record in records:
            seeds.setdefault(record.definition["seed"], []).append(record)
        cell = records[0].definition
        x, y, half, n = _pooled([*seeds.values()], name, groups[cell["samples"]])
        control = cell["explainer"].get("control", False)
        made.append(MeanCurve(place, model, explainer, name, kind, control, cell, x, y, half, int(n.max())))
    return made


def curve_frame(store: Records, keys: Iterable[str]) -> "pd.DataFrame":
    """Return a line a point of every cell's curves: which cell, the metric, and share, mean, low, high, n.

    ``share`` is where on the metric's path the point is, 0 to 1 (what changes along it and what the value is, the metric
    says), ``mean`` the mean over ``n`` samples there, ``low`` and ``high`` its 95 % interval at this one point: that of
    independent samples, widened by as much as the bootstrap over groups widens the interval of the curve's area. NaN where
    a record of an earlier version has no squares of its curves, or there are fewer than two samples or groups. ``epoch`` is
    0 where the weights are the last ones, ``samples`` the digest of the sample set.
    """
    import pandas as pd

    parts = []
    for key in keys:
        record = store.read(key)
        names = [name.removeprefix("curve/") for name in record.arrays if name.startswith("curve/")]
        if record.status != "ok" or not names:
            continue
        cell = record.definition
        groups = store.samples(cell["samples"])["groups"]
        own = {
            "explainer": cell["explainer"]["text"] if cell["explainer"] else None,
            "model": cell["model"]["text"],
            "series": cell.get("series") or "",
            "epoch": int(cell["model"].get("checkpoint") or 0),
            "seed": cell["seed"],
            "target": cell.get("target"),
            "samples": cell["samples"],
        }
        for name in names:
            x, y, half, n = _pooled([[record]], name, groups)
            points = {"share": x, "mean": y, "low": y - half, "high": y + half, "n": n.round().astype(np.int64)}
            parts.append(pd.DataFrame({**own, "metric": name, **points}))
    if not parts:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(parts, ignore_index=True).astype(dict.fromkeys(_TEXTS, "category"))


def _metric(cell: Json, name: str) -> Any:
    """Return the definition of the metric that a curve is of."""
    own = (metric for metric in cell.get("metrics", []) if name in (score["name"] for score in metric["scores"]))
    return next(own, None)


def _pooled(runs: Sequence[Sequence[Record]], name: str, groups: Sequence[str]) -> tuple[Array, Array, Array, Array]:
    """Return x, y, half and n [S] of the records of each seed."""
    every = [[np.asarray(record.arrays[f"curve/{name}"], dtype=np.float64) for record in run] for run in runs]
    # Records of an earlier version have no fourth row, the sums of squares.
    rows = min(len(one) for run in every for one in run)
    sums = np.stack([np.stack([one[:rows] for one in run]).sum(axis=0) for run in every])
    n = sums[:, 2]
    half = np.full(n.shape[1], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[:, :2] / n[:, None]
        if rows > 3:
            errors = np.maximum(sums[:, 3] / n - means[:, 1] ** 2, 0) / (n - 1)
            half = np.sqrt(errors.mean(axis=0)) * _Z * _widening(runs, name, groups)
            half[n.min(axis=0) < 2] = np.nan
    return means[:, 0].mean(axis=0), means[:, 1].mean(axis=0), half, n.sum(axis=0)


def _widening(runs: Sequence[Sequence[Record]], name: str, groups: Sequence[str]) -> float:
    """Return how much wider the interval of the curve's area is than that of one seed's independent samples.

    All seeds score the same samples, so pooling them narrows an interval by less than the root of their number: the
    bootstrap over groups and seeds says by how much. NaN where there is one group: nothing is known of another.
    """
    whose = [*groups] * len(runs[0])
    several = len(set(whose))
    if several < 2:
        return math.nan
    held = [[record.arrays.get(f"score/{name}") for record in run] for run in runs]
    if (len(runs) == 1 and several == len(whose)) or any(one is None or one.ndim > 1 for run in held for one in run):
        return 1.0
    columns = [np.concatenate([np.asarray(one, dtype=np.float64) for one in run]) for run in held]
    known = [column[~np.isnan(column)] for column in columns]
    if any(len(column) != len(whose) for column in columns) or any(len(column) < 2 for column in known):
        return 1.0
    plain = math.sqrt(float(np.mean([column.var(ddof=1) / len(column) for column in known])))
    if not plain > 0:
        return 1.0
    draws = Bootstrap(whose, seeds=len(runs)).estimate(columns).draws
    return max(1 / math.sqrt(len(runs)), float(np.nanstd(draws)) / plain)
