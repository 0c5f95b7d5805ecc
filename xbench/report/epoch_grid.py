"""A network's learning as a table of small maps: a class a row, an epoch a column, blank maps as letters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xbench.report.epochs import LEGEND, map_of, read_every_series
from xbench.report.pictures import Quality, photo, rising
from xbench.report.results import Result
from xbench.store import Store

BUDGET = 400_000
"""How many characters all maps and images may take."""

_QUALITIES = [Quality(*each) for each in [(64, 31), (32, 31), (28, 15), (20, 15), (14, 7)]]


@dataclass(frozen=True)
class GridRow:
    """A class: its image and, by epoch, a map as a data URI, or the letter of its blankness, or neither."""

    name: str
    image: str
    maps: list[tuple[str, str]]


@dataclass(frozen=True)
class Grid:
    """An explainer's maps of one classifier's checkpoints; ``blank`` counts the blank ones of each epoch."""

    title: str
    explainer: str
    epochs: list[int]
    rows: list[GridRow]
    blank: list[str]
    legend: str


def epoch_grids(store: Store, results: Sequence[Result], primary: str) -> list[Grid]:
    """Return the grids of every series of checkpoints (its first seed), all of them within `BUDGET`."""
    for quality in _QUALITIES:
        made = _grids(store, results, primary, quality)
        rows = [row for grid in made for row in grid.rows]
        if sum(len(row.image) + sum(len(uri) for uri, _ in row.maps) for row in rows) <= BUDGET:
            return made
    return made


def _grids(store: Store, results: Sequence[Result], primary: str, quality: Quality) -> list[Grid]:
    found = []
    for series in read_every_series(store, results, primary):
        for explainer, by_epoch in series.blocks.items():
            rows, blank = [], np.zeros(len(series.epochs), dtype=int)
            for name, sample in zip(series.classes, series.samples, strict=True):
                maps = []
                for place, epoch in enumerate(series.epochs):
                    values, mark = map_of(by_epoch[epoch], sample, series.tail) if epoch in by_epoch else (None, "")
                    blank[place] += bool(mark)
                    maps.append(("" if mark or values is None else rising(np.clip(values, 0, 1), quality), mark))
                image = series.images.get(sample)
                rows.append(GridRow(name, "" if image is None else photo(np.moveaxis(image, -1, 0), quality), maps))
            counts = [
                f"{n}/{len(rows)}" if epoch in by_epoch else "" for n, epoch in zip(blank, series.epochs, strict=True)
            ]
            found.append(Grid(series.told, explainer, series.epochs, rows, counts, LEGEND))
    return found
