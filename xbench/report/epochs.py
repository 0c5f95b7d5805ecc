"""One picture of a network's learning: a class a row, an epoch a column, a block for each explainer."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xbench.plan import Cell, Plan
from xbench.store import Arrays, Store, gallery_key, write_atomic

_COLUMNS = 20
_INCH = 0.42
_LEGEND = "v vanished, n all negative, c constant, x not finite"
_MARKS = {"vanished": "v", "all_negative": "n", "constant": "c", "nonfinite": "x"}


def draw_epochs(store: Store, plan: Plan, path: Path) -> Path | None:
    """Draw the maps of a series of checkpoints (``@*``), of the first such model and seed; return the path, or None.

    Each map is scaled by its own largest value. What is blank by the primary metric (or without a tolerance, where that is
    another one) is grey, with a letter for the cause: v vanished, n all negative, c constant, x not finite. Of more than
    20 epochs, 20 are shown, evenly spread.
    """
    cells = [cell for cell in plan.cells if cell.explainer and not cell.unsupported and cell.model.series]
    if not cells:
        return None
    first = cells[0]
    blocks: dict[str, dict[int, Arrays]] = {}
    for cell in cells:
        if (cell.model.series_text, cell.seed) == (first.model.series_text, first.seed):
            record = store.read(cell.key)
            arrays = record.arrays
            if record.status == "ok" and "gallery/row" in arrays:
                blocks.setdefault(_name(cell), {})[cell.model.checkpoint or 0] = arrays
    if not blocks:
        return None
    epochs = sorted(set().union(*blocks.values()))
    shown = [epochs[i] for i in np.unique(np.linspace(0, len(epochs) - 1, _COLUMNS).round().astype(int))]
    primary = plan.config.primary
    tail = primary.removeprefix("blank_rate") if primary.startswith("blank_rate") else ""
    labels = np.asarray(first.selection.labels)
    samples = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    images = _images(store, first, next(iter(next(iter(blocks.values())).values())), samples)
    classes = [plan.test.classes[labels[sample]] for sample in samples]
    _draw(blocks, shown, samples, classes, images, f"{first.model.series_text} on {plan.config.data.text}", tail, path)
    return path


def _name(cell: Cell) -> str:
    assert cell.explainer is not None
    return cell.explainer.text


def _images(store: Store, cell: Cell, arrays: Arrays, samples: list[int]) -> dict[int, np.ndarray]:
    rows = arrays["gallery/row"].tolist()
    images = store.gallery(gallery_key(cell.selection.digest, rows))
    if "image" not in images:
        return {}
    return {row: np.moveaxis(image, 0, -1) for row, image in zip(rows, images["image"], strict=True) if row in samples}


def _draw(
    blocks: dict[str, dict[int, Arrays]],
    shown: list[int],
    samples: list[int],
    classes: list[str],
    images: dict[int, np.ndarray],
    title: str,
    tail: str,
    path: Path,
) -> None:
    wide, high = 1 + len(shown), len(blocks) * (len(samples) + 1)
    figure = Figure(figsize=(wide * _INCH + 0.5, high * _INCH + 0.3))
    figure.text(0.01, 1 - 0.06 / (high * _INCH + 0.3), f"{title}; grey: blank, {_LEGEND}", fontsize=6.5, va="top")
    left, top = 0.5 / (wide * _INCH + 0.5), 0.3 / (high * _INCH + 0.3)
    width, height = (1 - left) / wide, (1 - top) / high
    for b, (explainer, by_epoch) in enumerate(blocks.items()):
        base = b * (len(samples) + 1)
        figure.text(left / 4, 1 - top - (base + 0.55) * height, explainer, fontsize=7.5, weight="bold", va="center")
        for column, epoch in enumerate(shown, start=1):
            x = left + (column + 0.5) * width
            figure.text(x, 1 - top - (base + 0.9) * height, str(epoch), fontsize=6, ha="center", va="center")
        for r, sample in enumerate(samples):
            y = 1 - top - (base + 2 + r) * height
            figure.text(left / 2, y + height / 2, classes[r], fontsize=7, ha="center", va="center")
            for column in range(wide):
                axis = figure.add_axes((left + column * width, y, width * 0.95, height * 0.95))
                axis.set_axis_off()
                if column == 0:
                    if sample in images:
                        picture = images[sample]
                        axis.imshow(
                            picture if picture.shape[-1] == 3 else picture.mean(-1), cmap="gray", vmin=0, vmax=255
                        )
                elif (arrays := by_epoch.get(shown[column - 1])) is not None:
                    values, mark = _map(arrays, sample, tail)
                    if mark:
                        axis.imshow(np.full((1, 1), 0.85), cmap="gray", vmin=0, vmax=1)
                        axis.text(0, 0, mark, fontsize=6, ha="center", va="center", color="#555555")
                    elif values is not None:
                        axis.imshow(values, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def _map(arrays: Arrays, sample: int, tail: str) -> tuple[np.ndarray | None, str]:
    """Return a sample's map, its maximum 1, or None where it was not kept; and the letter of its blankness or nothing.

    ``tail`` is how the scores of the blankness metric that decides end: its parameters.
    """
    causes = {cause: arrays.get(f"score/{cause}_rate{tail}") for cause in _MARKS}
    mark = next((_MARKS[cause] for cause, found in causes.items() if found is not None and found[sample] > 0), "")
    place = np.flatnonzero(arrays["gallery/row"] == sample)
    if not len(place):
        return None, mark
    values = arrays["gallery/attribution"][place[0]].astype(np.float32)
    return values / max(float(values.max()), 1e-30), mark
