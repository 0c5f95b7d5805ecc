"""The published files of CheXlocalize, read as they come: folders of films, label tables, run-length and contour masks."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from xbench.data import Bools
from xbench.errors import XbenchError
from xbench.reading import parse_json, read_rows, read_text
from xbench_chestxray.rle import MOST_PIXELS, decode, runs

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Lung Lesion",
    "Lung Opacity",
    "Pleural Effusion",
    "Pneumothorax",
    "Support Devices",
)
# The label tables say Lung Opacity, the masks Airspace Opacity.
OTHER_NAMES = {"Airspace Opacity": "Lung Opacity"}
SOURCE = "https://stanfordaimi.azurewebsites.net/datasets/23c56a0d-15de-405b-87c8-99c30138950c"
FILMS = "CheXpert/{}/patient*/study*/view*_frontal.jpg"

_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_TABLES = {"train": ("train.csv",), "val": ("val_labels.csv", "valid.csv"), "test": ("test_labels.csv", "test.csv")}
_FILM = re.compile(r"(patient\d+)[/\\](study\d+)[/\\](view\d+_frontal)\.jpg$")
_STUDY = re.compile(r"(patient\d+)[/\\](study\d+)(?:[/\\]|$)")
_FAR = 1e6  # a contour's coordinates beyond this are no pixels


@dataclass(frozen=True)
class Truth:
    """A mask as published: height, width, and a run-length string or else contours of (x, y) points."""

    height: int
    width: int
    counts: str | None = None
    contours: tuple[tuple[tuple[float, float], ...], ...] = ()

    def pixels(self) -> Bools:
        """Return [height,width]. Contours are outlined and filled, as CheXlocalize's annotation_to_segmentation.py does."""
        if self.counts is not None:
            return decode(self.counts, self.height, self.width)
        drawn = Image.new("1", (self.width, self.height))
        for contour in self.contours:
            ImageDraw.Draw(drawn).polygon(contour, outline=1, fill=1)
        return np.array(drawn, bool)


@dataclass(frozen=True)
class Film:
    """A frontal film; ``truth`` is None where nothing is drawn."""

    path: str
    patient: str
    label: int
    truth: Truth | None


@dataclass(frozen=True)
class Part:
    """A published part (train, val or test): its films by name in order, the tables read, and what to tell."""

    films: Mapping[str, Film]
    tables: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def read_part(root: Path, part: str, finding: str) -> Part:
    """Return the frontal films of ``train``, ``val`` or ``test`` that have a label; none where the folder has no film.

    Labels are those of the part's table; without one, a film shows the finding where its mask is not empty.

    Raises
    ------
    XbenchError
        There are films, but neither labels nor masks, or a table or a mask is not as published. One line.
    """
    paths = find_films(root, part)
    if not paths:
        return Part({}, notes=(f"no film of CheXpert's {part} folder here",))
    truths, read = read_truths(root, part, finding) if part != "train" else ({}, [])
    table = _first(root, _TABLES[part])
    if table is None and part == "train":
        return Part({}, notes=("no train.csv here",))
    if table is None and not read:
        raise XbenchError(
            f"{root} has films of CheXpert's {part} part but neither labels nor masks of them: "
            f"CheXpert/{_TABLES[part][0]} or CheXlocalize/gt_segmentations_{part}.json is needed ({SOURCE})"
        )
    if table is None:
        labels, said = (
            dict.fromkeys(paths, 0) | dict.fromkeys(truths, 1),
            f"from the masks (no {_TABLES[part][0]} here)",
        )
        said += f": a film shows {finding} where its mask is not empty"
    else:
        labels, said = read_labels(table, finding, paths), f"from {table.name}"
        read.append(table)
        if unsure := sum(label < 0 for label in labels.values()):
            said += f"; {unsure:,} films are left out as uncertain"
        if unnamed := len(paths) - len(labels):
            said += f"; {unnamed:,} films are left out, for it does not name them"
    films = {
        name: Film(path, name.partition("_")[0], labels[name], truths.get(name))
        for name, path in paths.items()
        if labels.get(name, -1) >= 0
    }
    drawn = sum(film.truth is not None for film in films.values())
    note = f"chestxray/chexlocalize: {len(films):,} frontal films of {part}, {drawn:,} with a mask; labels {said}"
    return Part(films, tuple(read), (note,))


def find_films(root: Path, part: str) -> dict[str, str]:
    """Return the path of every frontal film of a part by its name, as in patient64622_study1_view1_frontal."""
    films: dict[str, str] = {}
    for folder in _FOLDERS[part]:
        for path in sorted(glob.glob(FILMS.format(folder), root_dir=root)):
            if found := _FILM.search(path):
                films.setdefault("_".join(found.groups()), str(root / path))
    return films


def read_labels(path: Path, finding: str, films: Mapping[str, str]) -> dict[str, int]:
    """Return 1 (shown), 0 (not) or -1 (uncertain) of the films named that the table has.

    A table names films (``Path``) or whole studies (``Study``). An empty field means that the report does not mention the
    finding, which counts as 0. Raises XbenchError where a column is missing or a field is no such number.
    """
    rows = read_rows(path)
    header = next(rows, (0, [""]))[1]
    key = next((name for name in ("Path", "Study") if name in header), None)
    column = next((name for name in (finding, *_others(finding)) if name in header), None)
    if key is None or column is None:
        wanted = f"'{finding}'" if key else "'Path' or 'Study'"
        raise XbenchError(f"{path} has no column {wanted}; its first line reads: {','.join(header)[:80]}")
    named, value = header.index(key), header.index(column)
    by_film, by_study = {}, {}
    for line, row in rows:
        try:
            label = {"": 0, "0": 0, "1": 1, "-1": -1}[row[value].strip().removesuffix(".0")]
            where = row[named].strip()
        except (IndexError, KeyError):
            raise XbenchError(
                f"{path}, line {line}: {column} is 0, 1, -1 or empty, not {','.join(row)[:80]!r}"
            ) from None
        if film := _FILM.search(where):
            by_film["_".join(film.groups())] = label
        elif key == "Study" and (study := _STUDY.search(where)):
            by_study["_".join(study.groups())] = label
    every = {name: by_film.get(name, by_study.get(name.rpartition("_view")[0])) for name in films}
    return {name: label for name, label in every.items() if label is not None}


def read_truths(root: Path, part: str, finding: str) -> tuple[dict[str, Truth], list[Path]]:
    """Return the masks of a finding that are not empty, by film, and the files that were read.

    Contours count only for films that have no run-length mask. Raises XbenchError for a mask that is not as published.
    """
    truths: dict[str, Truth | None] = {}
    read = []
    for kind, parse in (("segmentations", _segmentation), ("annotations", _annotation)):
        path = _first(root, (f"gt_{kind}_{part}.json",))
        if path is None:
            continue
        read.append(path)
        for name, tasks in _films_of(path):
            task = next((each for each in (finding, *_others(finding)) if each in tasks), None)
            if task is None or name in truths:
                continue
            try:
                truths[name] = parse(tasks, task)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                why = error if isinstance(error, ValueError) else "it is not as published"
                raise XbenchError(f"{path}, {name}, {task}: {why}") from None
    return {name: truth for name, truth in truths.items() if truth is not None}, read


def _segmentation(tasks: Mapping[str, Any], task: str) -> Truth | None:
    height, width = _size(tasks[task]["size"])
    counts = tasks[task]["counts"]
    if not isinstance(counts, str):
        raise ValueError("counts is no run-length string")
    return Truth(height, width, counts) if runs(counts, height, width)[1::2].any() else None


def _annotation(tasks: Mapping[str, Any], task: str) -> Truth | None:
    height, width = _size(tasks["img_size"])
    contours = tuple(tuple((float(x), float(y)) for x, y in contour) for contour in tasks[task])
    if any(len(contour) < 2 for contour in contours):
        raise ValueError("a contour has fewer than two points")
    if not all(abs(value) <= _FAR for contour in contours for point in contour for value in point):
        raise ValueError("a contour has a point far outside any film")
    truth = Truth(height, width, contours=contours)
    return truth if contours and truth.pixels().any() else None


def _size(size: Any) -> tuple[int, int]:
    height, width = size
    if type(height) is not int or type(width) is not int or min(size) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"its size is {str(size)[:40]}; height and width, {MOST_PIXELS:,} pixels at most, are needed")
    return height, width


def _films_of(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        films = parse_json(read_text(path))
    except ValueError as error:
        raise XbenchError(f"{path} is no JSON file, or damaged ({error})") from error
    if not isinstance(films, dict) or not all(isinstance(tasks, dict) for tasks in films.values()):
        raise XbenchError(f"{path} is not as published: films by name, and of each its findings by name, are needed")
    yield from films.items()


def _others(finding: str) -> tuple[str, ...]:
    return tuple(other for other, name in OTHER_NAMES.items() if name == finding)


def _first(root: Path, names: Sequence[str]) -> Path | None:
    places = (root / folder / name for folder in ("CheXpert", "CheXlocalize", ".") for name in names)
    return next((path for path in places if path.is_file()), None)
