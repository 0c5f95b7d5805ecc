"""What a folder of pictures holds, in class folders or by a table: the class, the split and the mask of each picture."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xbench.class_lists import IMAGES, place_of, read_labels
from xbench.errors import XbenchError, did_you_mean
from xbench.reading import clip

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}


@dataclass(frozen=True)
class File:
    """A picture: its path under the root, its label, its size in bytes; its mask's path ("" for none) and size."""

    name: str
    label: int
    size: int
    mask: str
    mask_size: int


Held = tuple[tuple[str, ...], dict[str, list[list[File]]], list[str]]
"""Classes; split (or "") -> label -> pictures; the paths of other files."""


def held_in_folders(
    id: str,
    root: Path,
    parts: dict[str, Path],
    masks: dict[str, int],
    where: str,
    classes: tuple[str, ...],
    known: tuple[str, ...],
) -> Held:
    """Return the classes, the pictures of each split's class folders by label, and the paths of other files.

    The ``masks`` lie in the folder ``where``. Every part must have a folder of each of ``classes``, by default those that the
    first part has; where classes are ``known``, of any of these. Raises XbenchError where one is missing or is no class.
    """
    held: dict[str, list[list[File]]] = {}
    strange: list[str] = []
    if known:
        classes = known
        folders = {split: [name for name in folder_names(part) if name != where] for split, part in parts.items()}
        if empty := next((parts[split] for split, names in folders.items() if not names), None):
            raise XbenchError(f"{empty} holds no folder; {id} needs one for each class that is shown")
    else:
        classes = _shared_classes(id, list(parts.values()), where, classes)
        folders = {split: list(classes) for split in parts}
    for split, part in parts.items():
        held[split] = [[] for _ in classes]
        for name in folders[split]:
            label = place_of(name, classes, part) if known else classes.index(name)
            files, others = _pictures(root, part / name, label, masks, where)
            held[split][label] += files
            strange += others
    return classes, held, strange


def held_by_table(id: str, table: Path, masks: dict[str, int], where: str, known: tuple[str, ...]) -> Held:
    """Return the classes, pictures and other files, as `held_in_folders` does, of a folder of images beside a table of classes.

    Raises XbenchError where the table does not say which class a picture has, or names one that is not known.
    """
    rows = read_labels(table)
    named = all(row.name for row in rows)
    if not known and not named:
        raise XbenchError(f"{table} has no names of classes; {id} needs them, there or by data.classes=FILE")
    classes = known or tuple(sorted({row.name for row in rows}))
    held: dict[str, list[list[File]]] = {}
    for row in rows:
        if known and row.index is not None:
            if row.index >= len(classes):
                raise XbenchError(f"{table} has the index {row.index}; the list has {len(classes)} classes")
            label = row.index
        else:
            label = place_of(row.name, classes, table)
        split = next((split for split, names in SPLITS.items() if row.split in names), "") if row.split else ""
        if row.split and not split:
            raise XbenchError(f"{table} has the split {clip(row.split)}; train, valid and test are known")
        name = f"{IMAGES}/{row.file}"
        path = table.parent / name
        if not row.file.isprintable() or ".." in Path(row.file).parts or not os.path.isfile(path):
            raise XbenchError(f"{table} lists {clip(row.file)}, which is not in {table.parent / IMAGES}")
        mask = f"{where}/{row.mask or os.path.splitext(row.file)[0] + '.png'}"
        if row.mask and masks and mask not in masks:
            raise XbenchError(
                f"{table} lists the mask {clip(row.mask)}, which is not in {table.parent / where}; "
                "data.masks=NAME says in which folder the masks are"
            )
        of_split = held.setdefault(split, [[] for _ in classes])
        size = path.stat().st_size
        of_split[label].append(File(name, label, size, mask if mask in masks else "", masks.get(mask, 0)))
    if "" in held and len(held) > 1:
        raise XbenchError(f"{table} names a split for some pictures; it must for all, or for none")
    return classes, held, []


def dealt(id: str, classes: Sequence[Sequence[File]], seed: int) -> dict[str, list[File]]:
    """Return the splits of classes that have none; each class in an order that hangs on the seed and its file names.

    Raises XbenchError where a class has fewer than 3 pictures.
    """
    splits: dict[str, list[File]] = {split: [] for split in SPLITS}
    for files in filter(None, classes):
        if len(files) < 3:
            raise XbenchError(
                f"{id} cannot split a class of {len(files)} pictures, as {files[0].name}; 3 are the least"
            )
        order = sorted(files, key=lambda file: hashlib.sha256(f"{seed}|{file.name}".encode()).digest())
        fifth = max(1, round(len(files) / 5))
        parts = order[2 * fifth :], order[:fifth], order[fifth : 2 * fifth]
        for split, part in zip(SPLITS, parts, strict=True):
            splits[split] += sorted(part, key=lambda file: file.name)
    return splits


def folder_names(root: Path) -> list[str]:
    """Return the names of the folders right in another, by the alphabet. Raises XbenchError where it cannot be listed."""
    return sorted(entry.name for entry in _entries(root) if entry.is_dir())


def split_folder(root: Path, split: str, inner: Sequence[str]) -> str:
    """Return the name that a split's folder has among those ``inner``. Raises XbenchError unless there is one."""
    found = [name for name in SPLITS[split] if name in inner]
    if len(found) > 1:
        raise XbenchError(f"{root} has both {' and '.join(found)}; one folder for the {split} split is needed")
    if not found:
        names = " or ".join(SPLITS[split])
        raise XbenchError(f"{root} has no folder {names}; train, valid and test are needed, or none but class folders")
    return found[0]


def masks_below(root: Path, folder: str) -> dict[str, int]:
    """Return the masks' sizes in bytes by their paths under the root."""
    paths = (Path(above, name) for above, _, names in os.walk(root / folder) for name in names if name.endswith(".png"))
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def _shared_classes(id: str, parts: Sequence[Path], where: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes, of which every part has a folder."""
    has = {part: [name for name in folder_names(part) if name != where] for part in parts}
    classes = given or tuple(has[parts[0]])
    if len(classes) < 2:
        what = f"only the folder {classes[0]!r}" if classes else "no folder"
        raise XbenchError(f"{parts[0]} holds {what}; {id} needs one for each of two classes or more")
    for part, names in has.items():
        if missing := [name for name in classes if name not in names]:
            hint = did_you_mean(missing[0], names) or f"; the classes are {', '.join(classes)}"
            raise XbenchError(f"{part} has no folder of the class {missing[0]!r}{hint}")
        if not given and (more := [name for name in names if name not in classes]):
            raise XbenchError(f"{part} has a class {more[0]!r} and {parts[0]} has not; all splits need the same")
    return classes


def _pictures(root: Path, folder: Path, label: int, masks: dict[str, int], where: str) -> tuple[list[File], list[str]]:
    """Return a class folder's pictures by name, and the paths of its other files."""
    files, others = [], []
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        name = Path(entry.path).relative_to(root).as_posix()
        if not entry.is_file():
            continue
        if not name.lower().endswith(SUFFIXES):
            others.append(name)
            continue
        mask = f"{where}/{os.path.splitext(name)[0]}.png"
        files.append(File(name, label, entry.stat().st_size, mask if mask in masks else "", masks.get(mask, 0)))
    if not files:
        raise XbenchError(f"{folder} holds no picture; files ending in {', '.join(SUFFIXES)} are looked for there")
    return files, others


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise XbenchError(f"{folder} cannot be listed ({error.strerror})") from error
    for entry in found:
        if not entry.name.isprintable():  # bytes that are no UTF-8 are not either, and no hash takes them
            raise XbenchError(f"{folder} holds the name {entry.name!a} with odd characters; rename it")
    return found
