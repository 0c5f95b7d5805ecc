"""One picture of a run: its first images down the side, each explainer's maps across."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.plan import Cell, Plan
from xbench.store import Arrays, Store, write_atomic

_ROWS = 8
_INCH = 1.0


def draw_sheet(store: Store, plan: Plan, path: Path) -> Path | None:
    """Draw the contact sheet of a run's first model and seed; return its path, or None where there is no map to show.

    Positive evidence is red, negative blue, each map scaled by its own largest value; the true mask is outlined on the image.
    """
    cells = [cell for cell in plan.cells if cell.explainer and not cell.unsupported]
    if not cells:
        return None
    first = cells[0]
    mine = [cell for cell in cells if (cell.model, cell.seed) == (first.model, first.seed)]
    images = store.gallery(first.selection.digest)
    maps = [(cell, store.read(cell.key).arrays) for cell in mine]
    maps = [(cell, arrays) for cell, arrays in maps if "gallery/attribution" in arrays]
    if not maps or "image" not in images:
        return None
    _draw(images, maps, plan, path)
    return path


def _draw(images: Arrays, maps: list[tuple[Cell, Arrays]], plan: Plan, path: Path) -> None:
    import io

    from matplotlib.figure import Figure

    rows = min(_ROWS, len(images["image"]))
    columns = 1 + len(maps)
    top = 1 - 0.6 / (rows * _INCH + 0.6)
    figure = Figure(figsize=(columns * _INCH, rows * _INCH + 0.6))
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={"left": 0.002, "right": 0.998, "bottom": 0.002, "top": top, "wspace": 0.03, "hspace": 0.03},
    )
    classes = plan.test.classes
    for row in range(rows):
        picture = np.moveaxis(images["image"][row], 0, -1)
        _image(grid[row][0], picture)
        if "mask" in images and images["mask"][row].any():
            grid[row][0].contour(images["mask"][row], levels=[0.5], colors=["#ffb000"], linewidths=0.8)
        for column, (_, arrays) in enumerate(maps, start=1):
            values = arrays["gallery/attribution"][row].astype(np.float32)
            grid[row][column].imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        label = classes[maps[0][0].selection.labels[row]]
        predicted = classes[int(maps[0][1]["predicted"][row])]
        text = label if predicted == label else f"{label}\n(seen as {predicted})"
        grid[row][0].text(
            0.03, 0.03, text, transform=grid[row][0].transAxes, fontsize=5.5, color="#ffb000", va="bottom"
        )
    titles = ["image", *(cell.explainer.text if cell.explainer else "" for cell, _ in maps)]
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(_heading(title), fontsize=6.5, pad=3)
    for axis in grid.flat:
        axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _heading(title: str) -> str:
    """Return a component's name on short lines: the package, then the name broken at underscores."""
    package, slash, name = title.partition("/")
    words = textwrap.wrap((name or package).replace("_", "_ ").replace("[", " ["), 13)
    lines = [line.replace("_ ", "_") for line in words]
    return "\n".join([package + slash, *lines] if slash else lines)


def _image(axis: Any, picture: NDArray[Any]) -> None:
    if picture.shape[-1] != 3:
        axis.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    else:
        axis.imshow(picture)
