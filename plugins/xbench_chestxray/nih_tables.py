"""The published files of NIH ChestX-ray14, read as they come: findings, boxes, official lists, folders of films."""

import os
from dataclasses import dataclass
from pathlib import Path

from xbench.errors import XbenchError
from xbench.reading import clip, read_rows, read_text

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
NO_FINDING = "No Finding"
ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
LISTS = ("train_val_list.txt", "test_list.txt")
SOURCE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"

Box = tuple[float, float, float, float]
_FAR = 1e6  # a box beyond this, or at infinity, is on no film
_OTHER_NAMES = {"Infiltrate": "Infiltration"}


@dataclass(frozen=True)
class Entry:
    """A row of the table of findings."""

    name: str
    findings: frozenset[str]
    patient: str


def entries_path(root: Path) -> Path:
    """Return the table of findings; raises XbenchError where there is none."""
    for name in ENTRIES:
        if (root / name).is_file():
            return root / name
    raise XbenchError(
        f"{root} has no {ENTRIES[0]} (nor {ENTRIES[1]}): chestxray/nih needs the table of findings beside the films; "
        f"it comes with them from {SOURCE}"
    )


def read_entries(path: Path) -> list[Entry]:
    """Return the rows of the table of findings, in either published form.

    Columns are found by how their names begin: the header has names with commas in brackets, and the older form an
    empty column at the end. Raises XbenchError where a column is missing, a row is short or a film comes twice.
    """
    rows = read_rows(path)
    _, header = next(rows, (0, [""]))
    known = [" ".join(name.split()).lower() for name in header]
    places = []
    for wanted in ("Image Index", "Finding Labels", "Patient ID"):
        place = next((i for i, name in enumerate(known) if name.startswith(wanted.lower())), None)
        if place is None:
            raise XbenchError(f"{path} has no column '{wanted}'; its first line reads: {','.join(header)[:80]}")
        places.append(place)
    entries: dict[str, Entry] = {}
    for line, row in rows:
        if len(row) <= max(places):
            raise XbenchError(f"{path}, line {line}: {len(row)} fields are too few")
        name, findings, patient = (row[place].strip() for place in places)
        if name in entries:
            raise XbenchError(f"{path}, line {line}: {clip(name)} comes twice")
        entries[name] = Entry(name, frozenset(findings.split("|")), patient)
    return list(entries.values())


def read_boxes(path: Path, finding: str) -> dict[str, list[Box]]:
    """Return the boxes of a finding by film: (left, top, width, height) in pixels of a film 1024 wide and high.

    The header names nine columns and the rows have six fields, so they are read by place; the table says `Infiltrate`
    for Infiltration. Raises XbenchError where a row is short or no number.
    """
    boxes: dict[str, list[Box]] = {}
    rows = read_rows(path)
    next(rows, None)
    for line, row in rows:
        try:
            name, label = row[0].strip(), row[1].strip()
            left, top, width, height = map(float, row[2:6])
            if not all(abs(side) < _FAR for side in (left, top, width, height)):
                raise ValueError
        except (IndexError, ValueError):
            raise XbenchError(
                f"{path}, line {line}: image, finding and four numbers are needed, not {','.join(row)[:80]!r}"
            ) from None
        if _OTHER_NAMES.get(label, label) == finding:
            boxes.setdefault(name, []).append((left, top, width, height))
    return boxes


def read_list(path: Path) -> frozenset[str]:
    """Return the film names of an official list, one a line."""
    return frozenset(read_text(path).split())


def find_films(root: Path) -> dict[str, str]:
    """Return the path of every .png in ``images_*/images``, ``images_*``, ``images`` and ``root`` itself, by its name."""
    archives = sorted(path for path in root.glob("images_*") if path.is_dir())
    folders = [*(archive / "images" for archive in archives), *archives, root / "images", root]
    films: dict[str, str] = {}
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as found:
                for item in found:
                    if item.name.endswith(".png") and item.is_file():
                        films.setdefault(item.name, item.path)
    return films
