"""Images beside every explainer's map of them, small enough that a report holds them all."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.report.contact_sheet import by_model
from xbench.report.pictures import Quality, diverging, outline, photo, shaded
from xbench.report.results import Result, gallery_of
from xbench.store import Store

IMAGES = 32
"""How many images of a classifier are shown at most."""

BUDGET = 2_500_000
"""How many characters all galleries of a report may take."""

_CELL = 170
"""Characters around a picture."""

# Tried in this order until everything fits.
_QUALITIES = [
    Quality(*each)
    for each in ((112, 63), (80, 63), (64, 63), (64, 31), (48, 31), (48, 15), (32, 31), (32, 15), (24, 15), (16, 15))
]

Draw = Callable[[NDArray[Any], Quality], str]


@dataclass(frozen=True)
class Picture:
    """A column of a gallery: ``who`` explains, ``what`` is seen; a picture a sample, or None where there is none."""

    who: str
    what: str
    control: bool
    scored: int | None
    values: list[NDArray[Any] | None] = field(repr=False)
    draw: Draw = field(repr=False)


@dataclass(frozen=True)
class Sample:
    """An image and what the classifier takes it for: the three likeliest classes first, with their probabilities."""

    name: str
    label: str
    predicted: str
    hit: bool | None
    likely: list[tuple[str, str]]
    outline: str
    size: tuple[int, int]
    picture: NDArray[Any] = field(repr=False)


@dataclass(frozen=True)
class Gallery:
    """A classifier's images and maps; ``scores`` are each explainer's own, by sample, for who asks for them."""

    title: str
    samples: list[Sample]
    columns: list[Picture]
    scores: list[dict[str, Any]]
    outlined: bool


@dataclass(frozen=True)
class Drawn:
    """A gallery with its pictures made: data URIs by sample and column."""

    gallery: Gallery
    photos: list[str]
    pictures: list[list[str]]
    side: int


def galleries(store: Store, results: Sequence[Result], order: Sequence[str]) -> list[Drawn]:
    """Return every classifier's gallery (first seed, no single epochs), all of them together within `BUDGET`.

    Explainers stand in the order given, controls after all others.
    """
    place = {name: number for number, name in enumerate(order)}
    found = []
    for model, cells in by_model(results).items():
        shown = [cell for cell in cells if "gallery/row" in cell.arrays]
        shown.sort(key=lambda cell: (cell.control, place.get(cell.explainer or "", len(place))))
        if made := _gallery(store, model, shown):
            found.append(made)
    kept = IMAGES
    while found and kept:
        for quality in _QUALITIES:
            if _promises(found, quality) and (drawn := _drawn(found, quality, BUDGET)):
                return drawn
        kept //= 2
        found = [_first(gallery, kept) for gallery in found]
    return []


def _promises(found: Sequence[Gallery], quality: Quality) -> bool:
    """Say whether a tenth of the samples lets hope that all of them fit: drawing takes time."""
    few = [_first(gallery, -(-len(gallery.samples) // 10)) for gallery in found]
    share = sum(len(gallery.samples) for gallery in few) / sum(len(gallery.samples) for gallery in found)
    return _drawn(few, quality, round(1.2 * share * BUDGET)) is not None


def _gallery(store: Store, model: str, cells: Sequence[Result]) -> Gallery | None:
    pictures: dict[str, dict[int, NDArray[Any]]] = {}
    for cell in cells:
        for name, by_row in gallery_of(store, cell).items():
            pictures.setdefault(name, {}).update(by_row)
    # A row of probabilities stands beside the maps of every record; the first that has the sample tells them.
    seen = {row: cell for cell in reversed(cells) for row in cell.arrays["gallery/row"].tolist()}
    rows = sorted(set(seen) & set(pictures.get("image", {})))[:IMAGES]
    if not rows:
        return None
    samples = [_sample(seen[row], row, pictures) for row in rows]
    columns = _columns(cells, rows, pictures)
    scores = [_scores(cell, rows) for cell in cells]
    return Gallery(f"{model} on {cells[0].data}", samples, columns, scores, any(one.outline for one in samples))


def _sample(cell: Result, row: int, pictures: dict[str, dict[int, NDArray[Any]]]) -> Sample:
    place = cell.arrays["gallery/row"].tolist().index(row)
    probability = cell.arrays["gallery/probability"][place]
    likely = np.argsort(-probability, kind="stable")[:3]
    label, guess = int(cell.labels[row]), int(cell.arrays["predicted"][row])
    image, mask = pictures["image"][row], pictures.get("mask", {}).get(row)
    return Sample(
        name=str(cell.samples["ids"][row]),
        label=cell.classes[label] if label >= 0 else "no label",
        predicted=cell.classes[guess],
        hit=label == guess if label >= 0 else None,
        likely=[(cell.classes[k], f"{probability[k]:.2f}") for k in likely],
        outline="" if mask is None else outline(mask),
        size=(image.shape[-1], image.shape[-2]),
        picture=image,
    )


def _columns(
    cells: Sequence[Result], rows: Sequence[int], pictures: dict[str, dict[int, NDArray[Any]]]
) -> list[Picture]:
    """Return the truth where it is known, then every explainer's pictures."""
    source = [pictures["image"][row].astype(np.float32) / 255 for row in rows]
    found: list[Picture] = []
    if "counterfactual" in pictures and any("gallery/counterfactual" in cell.arrays for cell in cells):
        truth = [pictures["counterfactual"].get(row) for row in rows]
        found.append(Picture("truth", "image", False, None, truth, photo))
        found.append(Picture("truth", "difference", False, None, _changes(truth, source), _difference))
    for number, cell in enumerate(cells):
        who, control = cell.explainer or "", cell.control
        if "gallery/colour" in cell.arrays:
            found.append(Picture(who, "map", control, number, _of(cell, "colour", rows), shaded))
        elif cell.has_map:
            found.append(Picture(who, "map", control, number, _of(cell, "attribution", rows), diverging))
        if "gallery/counterfactual" in cell.arrays and not control:
            made = _of(cell, "counterfactual", rows)
            found.append(Picture(who, "translated", control, number, made, photo))
            found.append(Picture(who, "difference", control, number, _changes(made, source), _difference))
    return found


def _of(cell: Result, name: str, rows: Sequence[int]) -> list[NDArray[Any] | None]:
    places = {row: place for place, row in enumerate(cell.arrays["gallery/row"].tolist())}
    return [cell.arrays[f"gallery/{name}"][places[row]] if row in places else None for row in rows]


def _changes(images: Sequence[NDArray[Any] | None], source: Sequence[NDArray[Any]]) -> list[NDArray[Any] | None]:
    return [
        None if image is None else (image.astype(np.float32) / 255 - before).mean(axis=0)
        for image, before in zip(images, source, strict=True)
    ]


def _difference(values: NDArray[Any], quality: Quality) -> str:
    """Draw a change of brightness; half the range from black to white is full colour, so that pictures compare."""
    return diverging(np.clip(values * 2, -1, 1), quality)


def _scores(cell: Result, rows: Sequence[int]) -> dict[str, Any]:
    """Return an explainer's scores of the samples shown, as short texts."""
    names = [score["name"] for metric in cell.definition["metrics"] for score in metric["scores"]]
    columns = {name: cell.arrays.get(f"score/{name}") for name in names}
    known = {name: values for name, values in columns.items() if values is not None and values.ndim == 1}
    texts = [
        [None if np.isnan(values[row]) else float(f"{values[row]:.3g}") + 0.0 for values in known.values()]
        for row in rows
    ]
    return {"explainer": cell.explainer, "names": list(known), "values": texts}


def _drawn(found: Sequence[Gallery], quality: Quality, budget: int) -> list[Drawn] | None:
    """Draw all galleries, or return None as soon as they take too much."""
    spent, made = 0, []
    for gallery in found:
        photos = [photo(sample.picture, quality) for sample in gallery.samples]
        spent += sum(map(len, photos)) + sum(len(sample.outline) for sample in gallery.samples)
        spent += len(json.dumps(gallery.scores)) + _CELL * len(gallery.samples) * len(gallery.columns)
        pictures = []
        for place in range(len(gallery.samples)):
            values = [(column, column.values[place]) for column in gallery.columns]
            pictures.append(["" if value is None else column.draw(value, quality) for column, value in values])
            spent += sum(map(len, pictures[-1]))
            if spent > budget:
                return None
        largest = max(max(sample.size) for sample in gallery.samples)
        made.append(Drawn(gallery, photos, pictures, min(largest, quality.side)))
    return made


def _first(gallery: Gallery, kept: int) -> Gallery:
    columns = [
        Picture(one.who, one.what, one.control, one.scored, one.values[:kept], one.draw) for one in gallery.columns
    ]
    scores = [{**one, "values": one["values"][:kept]} for one in gallery.scores]
    return Gallery(gallery.title, gallery.samples[:kept], columns, scores, gallery.outlined)
