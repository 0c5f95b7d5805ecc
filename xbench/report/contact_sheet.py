"""One picture of a classifier: samples by class, hits before misses, with class probabilities and each explainer's map."""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.report.latex import drawable
from xbench.report.results import Result, gallery_of
from xbench.store import Arrays, Store, write_atomic

# Heading, a value for every sample of the gallery, and how to draw one.
Column = tuple[str, NDArray[Any], Callable[[Any, NDArray[Any]], None]]

_ROWS = 12
_INCH = 1.0
_HEAD = 0.75
_CLASSES_SHOWN = 10
_INK = "#ffb000"


def draw_sheets(store: Store, results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw a contact sheet of every classifier (the first seed; no single epochs); return their paths.

    The first is ``contact_sheet.png``, others are numbered from 2.
    """
    made = []
    for number, cells in enumerate(by_model(results).values(), start=1):
        path = folder / ("contact_sheet.png" if number == 1 else f"contact_sheet_{number}.png")
        if _draw_sheet(store, cells, path):
            made.append(path)
    return made


def by_model(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return the explainers' cells of each classifier's first seed; no single epochs, nothing unsupported."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.explainer and result.record.status != "unsupported" and not result.series:
            found.setdefault(result.model, []).append(result)
    return {model: [each for each in cells if each.seed == cells[0].seed] for model, cells in found.items()}


def _draw_sheet(store: Store, cells: Sequence[Result], path: Path) -> bool:
    """Draw one classifier's sheet; return whether there is a map to show.

    Positive evidence is red, negative blue, each map scaled by its own largest value; an explanation with colours of its
    own is shown in them, grey being zero. The true mask is outlined on the image. Differences: red is brighter, blue darker.
    """
    kept = [cell for cell in cells if "gallery/row" in cell.arrays]
    # Records of different age keep maps of different samples: those that all have are shown.
    rows = [row for row in _rows(kept[0]) if all(row in _rows(cell) for cell in kept)] if kept else []
    pictures = gallery_of(store, kept[0]) if kept else {}
    if "image" not in pictures or not rows:
        return False
    images = {name: np.stack([values[row] for row in rows]) for name, values in pictures.items()}
    _draw(images, [(cell, _at(cell, rows)) for cell in kept], path)
    return True


def _rows(cell: Result) -> list[int]:
    rows: list[int] = cell.arrays["gallery/row"].tolist()
    return rows


def _at(cell: Result, rows: Sequence[int]) -> Arrays:
    """Return what was kept for pictures of the samples in some rows."""
    places = [_rows(cell).index(row) for row in rows]
    kept = {name: values for name, values in cell.arrays.items() if name.startswith("gallery/")}
    return {name: values[places] for name, values in kept.items()}


def _draw(images: Arrays, maps: list[tuple[Result, Arrays]], path: Path) -> None:
    from matplotlib.figure import Figure

    cell, first = maps[0]
    labels = cell.labels[first["gallery/row"]]
    predicted = cell.arrays["predicted"][first["gallery/row"]]
    shown = _chosen(labels, predicted)
    columns = _columns(images, maps)
    rows, wide = len(shown), 2 + len(columns)
    high = rows * _INCH + _HEAD
    figure = Figure(figsize=(wide * _INCH, high))
    grid = figure.subplots(
        rows,
        wide,
        squeeze=False,
        gridspec_kw={
            "left": 0.002,
            "right": 0.998,
            "bottom": 0.002,
            "wspace": 0.03,
            "hspace": 0.03,
            "top": 1 - _HEAD / high,
        },
    )
    figure.text(
        0.06 / wide, 1 - 0.05 / high, drawable(f"{cell.model} on {cell.data}"), fontsize=7.5, va="top", parse_math=False
    )
    for axes, place in zip(grid, shown, strict=True):
        _photo(axes[0], images["image"][place])
        if "mask" in images and images["mask"][place].any():
            axes[0].contour(images["mask"][place], levels=[0.5], colors=[_INK], linewidths=0.8)
        probability = first["gallery/probability"][place]
        _bars(axes[1], probability, cell.classes, int(labels[place]), int(predicted[place]))
        for axis, (_, values, draw) in zip(axes[2:], columns, strict=True):
            draw(axis, values[place])
    names = ["image", "probability", *(name for name, _, _ in columns)]
    for axis, name in zip(grid[0], names, strict=True):
        axis.set_title(_heading(name), fontsize=6.5, pad=3, parse_math=False)
    for axis in grid.flat:
        axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _columns(images: Arrays, maps: list[tuple[Result, Arrays]]) -> list[Column]:
    """Return what stands right of the probabilities: the truth where it is known, then every explainer's pictures."""
    source = images["image"].astype(np.float32) / 255
    found: list[Column] = []
    if "counterfactual" in images and any("gallery/counterfactual" in arrays for _, arrays in maps):
        truth = images["counterfactual"]
        found += [("truth", truth, _photo), ("true difference", truth.astype(np.float32) / 255 - source, _difference)]
    for cell, arrays in maps:
        name = cell.explainer or ""
        if "gallery/colour" in arrays:
            found.append((name, arrays["gallery/colour"].astype(np.float32), _colour))
        elif cell.has_map:
            found.append((name, arrays["gallery/attribution"].astype(np.float32), _map))
        if "gallery/counterfactual" in arrays and not cell.control:
            translated = arrays["gallery/counterfactual"]
            change = translated.astype(np.float32) / 255 - source
            found += [("translated", translated, _photo), ("difference", change, _difference)]
    return found


def _photo(axis: Any, image: NDArray[Any]) -> None:
    picture = np.moveaxis(image, 0, -1)
    axis.imshow(picture if picture.shape[-1] == 3 else picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)


def _map(axis: Any, values: NDArray[Any]) -> None:
    axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def _colour(axis: Any, values: NDArray[Any]) -> None:
    shade = np.clip(0.5 + np.moveaxis(values, 0, -1) / 2, 0, 1)
    axis.imshow(shade.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _difference(axis: Any, values: NDArray[Any]) -> None:
    """Draw a change of brightness; half the range from black to white is full colour, so that pictures compare."""
    axis.imshow(values.mean(axis=0), cmap="RdBu_r", vmin=-0.5, vmax=0.5, interpolation="nearest")


def _chosen(labels: NDArray[Any], predicted: NDArray[Any]) -> list[int]:
    """Return at most `_ROWS` places, class by class, hits before misses, every such group with as many as another."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, (label, guess) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
        groups.setdefault((label, label != guess), []).append(place)
    turns = sorted((turn, name, place) for name, places in groups.items() for turn, place in enumerate(places))
    return [place for _, place in sorted((name, place) for _, name, place in turns[:_ROWS])]


def _bars(axis: Any, probability: NDArray[Any], classes: tuple[str, ...], label: int, guess: int) -> None:
    """Draw the largest class probabilities; the true class is green, a wrong prediction red, without a label all are grey."""
    order = np.argsort(-probability, kind="stable")[: min(len(classes), _CLASSES_SHOWN)]
    order = np.sort(order)
    colours = ["#2a9d4a" if k == label else "#d1495b" if k == guess and label >= 0 else "#b8b8b8" for k in order]
    places = np.arange(len(order))
    axis.barh(places, probability[order], color=colours, height=0.75)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(max(len(order), 3) - 0.4, -0.6)
    size = 5.5 if len(order) <= 5 else 4
    for y, k in zip(places, order, strict=True):
        told = f"{drawable(classes[k])} {probability[k]:.2f}"
        axis.text(0.02, y, told, fontsize=size, va="center", parse_math=False)


def _heading(title: str) -> str:
    """Return a component's name on short lines: the package, then the name broken at underscores."""
    package, slash, name = drawable(title).partition("/")
    words = textwrap.wrap((name or package).replace("_", "_ ").replace("[", " ["), 13)
    lines = [line.replace("_ ", "_") for line in words]
    return "\n".join([package + slash, *lines] if slash else lines)
