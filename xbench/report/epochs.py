"""One picture of a network's learning: a class a row, an epoch a column, a block for each explainer."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.report.latex import drawable
from xbench.report.results import Result, gallery_of
from xbench.store import Arrays, Store, write_atomic

_COLUMNS = 20
_INCH = 0.42
ROWS = 20
"""How many classes are shown at most."""
LEGEND = "v vanished, n all negative, c constant, x not finite"
MARKS = {"vanished": "v", "all_negative": "n", "constant": "c", "nonfinite": "x"}


@dataclass(frozen=True)
class Series:
    """The maps of one classifier's checkpoints.

    Attributes
    ----------
    title
        The classifier and the data.
    blocks
        Explainer -> epoch -> arrays of its record.
    epochs
        Those shown.
    samples, classes
        A sample of each class, as a row of the sample set, and the classes' names.
    images
        Sample -> [H,W,C] uint8.
    tail
        How the scores of the blankness metric that decides end: its parameters.
    left_out
        How many classes are not shown, for there are too many.
    """

    title: str
    blocks: dict[str, dict[int, Arrays]]
    epochs: list[int]
    samples: list[int]
    classes: list[str]
    images: dict[int, np.ndarray]
    tail: str
    left_out: int = 0

    @property
    def told(self) -> str:
        """What is shown, in words: of more than `ROWS` classes, the first."""
        return self.title + (f"; the first {ROWS} classes of {ROWS + self.left_out}" if self.left_out else "")


def read_series(store: Store, results: Sequence[Result], primary: str) -> Series | None:
    """Return the first series of checkpoints (``@*``) that has maps, or None."""
    return next(iter(read_every_series(store, results, primary)), None)


def read_every_series(store: Store, results: Sequence[Result], primary: str) -> Iterator[Series]:
    """Yield every classifier's series of checkpoints that has maps, of its first seed.

    Of more than 20 epochs, 20 are shown, evenly spread.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.explainer and result.series:
            found.setdefault(result.series, []).append(result)
    for cells in found.values():
        kept = [one for one in cells if one.seed == cells[0].seed and one.ok and "gallery/row" in one.arrays]
        if kept:
            yield _series(store, kept, primary)


def _series(store: Store, kept: Sequence[Result], primary: str) -> Series:
    blocks: dict[str, dict[int, Arrays]] = {}
    for result in kept:
        blocks.setdefault(result.explainer or "", {})[result.checkpoint] = result.arrays
    first = kept[0]
    epochs = sorted(set().union(*blocks.values()))
    shown = [epochs[i] for i in np.unique(np.linspace(0, len(epochs) - 1, _COLUMNS).round().astype(int))]
    labels = np.unique(first.labels)  # -1 is no label
    shown_labels = labels[labels >= 0][:ROWS] if (labels >= 0).any() else labels[:1]
    samples = [int(np.flatnonzero(first.labels == label)[0]) for label in shown_labels]
    pictures = gallery_of(store, first).get("image", {})
    return Series(
        title=f"{first.series} on {first.data}",
        blocks=blocks,
        epochs=shown,
        samples=samples,
        classes=[
            first.classes[first.labels[sample]] if first.labels[sample] >= 0 else "no label" for sample in samples
        ],
        left_out=max(0, int((labels >= 0).sum()) - ROWS),
        images={row: np.moveaxis(pictures[row], 0, -1) for row in samples if row in pictures},
        tail=primary.removeprefix("blank_rate") if primary.startswith("blank_rate") else "",
    )


def draw_epochs(series: Series | None, path: Path) -> Path | None:
    """Draw the maps of a series; return the path, or None where there is none.

    Each map is scaled by its own largest value. What is blank by the primary metric (or without a tolerance, where that is
    another one) is grey, with a letter for the cause: v vanished, n all negative, c constant, x not finite.
    """
    if series is None:
        return None
    _draw(series, path)
    return path


def _draw(series: Series, path: Path) -> None:
    blocks, shown, samples = series.blocks, series.epochs, series.samples
    classes, images, title, tail = series.classes, series.images, drawable(series.told), series.tail
    # Matplotlib takes most of a second to import: only who draws pays.
    from matplotlib.figure import Figure

    wide, high = 1 + len(shown), len(blocks) * (len(samples) + 1)
    figure = Figure(figsize=(wide * _INCH + 0.5, high * _INCH + 0.3))
    told = f"{title}; grey: blank, {LEGEND}"
    figure.text(0.01, 1 - 0.06 / (high * _INCH + 0.3), told, fontsize=6.5, va="top", parse_math=False)
    left, top = 0.5 / (wide * _INCH + 0.5), 0.3 / (high * _INCH + 0.3)
    width, height = (1 - left) / wide, (1 - top) / high
    for b, (explainer, by_epoch) in enumerate(blocks.items()):
        base = b * (len(samples) + 1)
        name, line = drawable(explainer), 1 - top - (base + 0.55) * height
        figure.text(left / 4, line, name, fontsize=7.5, weight="bold", va="center", parse_math=False)
        for column, epoch in enumerate(shown, start=1):
            x = left + (column + 0.5) * width
            figure.text(x, 1 - top - (base + 0.9) * height, str(epoch), fontsize=6, ha="center", va="center")
        for r, sample in enumerate(samples):
            y = 1 - top - (base + 2 + r) * height
            label = drawable(classes[r])
            figure.text(left / 2, y + height / 2, label, fontsize=7, ha="center", va="center", parse_math=False)
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
                    values, mark = map_of(arrays, sample, tail)
                    if mark:
                        axis.imshow(np.full((1, 1), 0.85), cmap="gray", vmin=0, vmax=1)
                        axis.text(0, 0, mark, fontsize=6, ha="center", va="center", color="#555555")
                    elif values is not None:
                        axis.imshow(values, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())


def map_of(arrays: Arrays, sample: int, tail: str) -> tuple[np.ndarray | None, str]:
    """Return a sample's map, its maximum 1, or None where it was not kept; and the letter of its blankness or nothing.

    ``tail`` is how the scores of the blankness metric that decides end: its parameters.
    """
    causes = {cause: arrays.get(f"score/{cause}_rate{tail}") for cause in MARKS}
    mark = next((MARKS[cause] for cause, found in causes.items() if found is not None and found[sample] > 0), "")
    place = np.flatnonzero(arrays["gallery/row"] == sample)
    if not len(place):
        return None, mark
    values = arrays["gallery/attribution"][place[0]].astype(np.float32)
    return values / max(float(values.max()), 1e-30), mark
