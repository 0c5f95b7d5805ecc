"""Pictures in class folders, or beside a table, as a data set: ready splits or none, masks where there are some."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from xbench.class_lists import IMAGES, LABELS, read_labels
from xbench.data import Index, Samples
from xbench.errors import XbenchError, did_you_mean
from xbench.folder_layouts import (
    SPLITS,
    SUFFIXES,
    File,
    dealt,
    folder_names,
    held_by_table,
    held_in_folders,
    masks_below,
    split_folder,
)
from xbench.picture_files import FORMATS, Fit, read_mask, read_picture, refuse_bomb
from xbench.unread import read_each

# What plugins import from here: an import from elsewhere is another hash of their code, and their records are made anew.
__all__ = ["FORMATS", "MASKS", "Fit", "ImageFolder", "Layout", "image_folder", "refuse_bomb"]

Layout = Literal["auto", "splits", "flat", "whole"]

MASKS = "masks"

_READER = 1  # raised when `xbench.picture_files` would give other pixels for the same files
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Found:
    classes: tuple[str, ...]
    splits: dict[str, list[File]]
    flat: bool
    notes: tuple[str, ...]
    told: bool = False


@dataclass(frozen=True)
class ImageFolder:
    """A `xbench.data.Dataset`; folders are listed once, pictures read when they are asked for. See `image_folder`."""

    id: str
    root: Path | None
    home: str
    size: int
    classes: tuple[str, ...]
    layout: Layout
    fit: Fit
    seed: int
    hint: str
    known: tuple[str, ...] = ()
    masks: str = MASKS

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``; ids are paths under the root, every picture is a group.

        Raises XbenchError where the root, a split or a class is missing, empty or there twice.
        """
        if split not in SPLITS:
            raise XbenchError(f"{self.id} has no split {split!r}; it has {', '.join(SPLITS)}")
        found = self._found
        files = found.splits[split]
        made_of: dict[str, object] = {
            "reader": _READER,
            "size": self.size,
            "fit": self.fit,
            "split": split,
            "seed": self.seed if found.flat else None,
            "classes": found.classes,
            "files": [(file.name, file.size, file.mask_size) for file in files],
        }
        if found.told:  # else a picture's path tells its class
            made_of |= {"labels": [file.label for file in files], "masks": self.masks}
        return Index(
            ids=tuple(file.name for file in files),
            labels=np.array([file.label for file in files], np.int64),
            groups=tuple(file.name for file in files),
            shape=(3, self.size, self.size),
            classes=found.classes,
            digest=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
            annotated=np.array([bool(file.mask) for file in files]),
            notes=found.notes,
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return pictures [B,3,size,size] and masks [B,size,size], each evidence for the class of its picture.

        A picture without a mask has an empty one. One that is no whole picture, or whose mask is none, is named in ``unread``.
        """
        if unknown := [name for name in ids if name not in self._files]:
            raise XbenchError(f"{self.id} has no picture {unknown[0]!r}{did_you_mean(unknown[0], self._files)}")
        files = [self._files[name] for name in ids]
        image = np.zeros((len(files), 3, self.size, self.size), np.float32)
        mask = np.zeros((len(files), self.size, self.size), bool)

        def read(i: int, file: File) -> None:
            image[i], upright = read_picture(self._root / file.name, self.size, self.fit)
            if file.mask:
                mask[i] = read_mask(self._root / file.mask, self.size, self.fit, upright)

        unread = read_each(files, read, _THREADS)
        labels = np.array([file.label if file.mask else -1 for file in files], np.int64)
        return Samples(image, mask=mask, mask_class=labels, unread=unread)

    @cached_property
    def _root(self) -> Path:
        above = os.environ.get("XBENCH_DATA")
        where = f"<root>/train/<class>/*.jpg (valid and test beside train) or <root>/<class>/*.jpg{self.hint}"
        if self.root is None and not above:
            raise XbenchError(
                f"{self.id} needs pictures: set data.root to their folder, or XBENCH_DATA to that above {self.home} ({where})"
            )
        root = Path(above or "").expanduser() / self.home if self.root is None else self.root.expanduser()
        if not root.is_dir():
            said = f"XBENCH_DATA={above}: {root}" if self.root is None else f"data.root={root}"
            raise XbenchError(f"{said} is not a folder; {self.id} needs pictures there ({where})")
        return root

    @cached_property
    def _files(self) -> dict[str, File]:
        return {file.name: file for files in self._found.splits.values() for file in files}

    @cached_property
    def _found(self) -> _Found:
        root, inner = self._root, folder_names(self._root)
        table = root / LABELS if IMAGES in inner and os.path.isfile(root / LABELS) else None
        named = any(name in inner for names in SPLITS.values() for name in names)
        flat = self.layout in ("flat", "whole") or (self.layout == "auto" and not named)
        masks = masks_below(root, self.masks)
        if table:
            classes, held, strange = held_by_table(self.id, table, masks, self.masks, self.known)
            flat = self.layout == "flat" or set(held) == {""}
        else:
            parts = {"": root} if flat else {split: root / split_folder(root, split, inner) for split in SPLITS}
            classes, held, strange = held_in_folders(self.id, root, parts, masks, self.masks, self.classes, self.known)
        if self.layout == "whole":
            every = [file for part in held.values() for of_class in part for file in of_class]
            splits: dict[str, list[File]] = {
                "train": [],
                "valid": [],
                "test": sorted(every, key=lambda file: file.name),
            }
            flat = False
        elif flat:
            splits = dealt(
                self.id, [list(chain(*of_class)) for of_class in zip(*held.values(), strict=True)], self.seed
            )
        else:
            splits = {split: list(chain(*held.get(split, []))) for split in SPLITS}
        files = [file for split in splits.values() for file in split]
        masked = {file.mask for file in files if file.mask}
        notes = [f"{self.id}: {len(masked):,} of the {len(files):,} pictures have a mask"]
        if table and not masks and any(row.mask for row in read_labels(table)):
            notes[0] += f", for {LABELS} names masks but there is no folder {self.masks!r} (data.masks=NAME says which)"
        if self.known:
            shown = len({file.label for file in files})
            notes.append(f"{self.id}: the pictures are of {shown:,} of the {len(classes):,} classes listed")
        if self.layout == "whole":
            notes.append(f"{self.id}: all {len(files):,} pictures are scored, and none is left to train on")
        if flat:
            notes.append(
                f"{self.id}: no train, valid and test here; 60, 20 and 20 % of each class by a hash of file names and "
                f"data.seed={self.seed}"
            )
        if strange:
            ends = ", ".join(SUFFIXES)
            notes.append(f"{self.id}: {len(strange):,} files do not end in {ends} and are left out, as {strange[0]}")
        if idle := sorted(set(masks) - masked):
            notes.append(f"{self.id}: {len(idle):,} masks belong to no picture, as {idle[0]!a}")
        return _Found(classes, splits, flat, tuple(notes), told=bool(table or self.known or self.masks != MASKS))


def image_folder(
    id: str,
    root: Path | None,
    *,
    home: str,
    size: int,
    classes: Sequence[str] = (),
    layout: Layout = "auto",
    fit: Fit = "crop",
    seed: int = 0,
    hint: str = "",
    known: Sequence[str] = (),
    masks: str = MASKS,
) -> ImageFolder:
    """Return the data set of ``<root>/{train,valid,test}/<class>/*``, or of ``<root>/<class>/*`` without splits.

    Pictures are .jpg, .jpeg, .png and .webp files right in a class folder; ``val`` does for ``valid``. The mask of
    ``<split>/<class>/a.jpg`` may lie at ``<root>/masks/<split>/<class>/a.png``, where anything but black is the object.

    Or a root with a table ``labels.csv`` beside ``images/`` (`xbench.class_lists`): the classes are those it names, and the
    mask of ``images/a.jpg`` is ``masks/a.png`` or what its column ``mask`` says.

    Parameters
    ----------
    id
        The data set's id, for messages.
    root
        The folder; None takes ``$XBENCH_DATA/<home>``.
    home
        The folder's usual name under ``$XBENCH_DATA``.
    size
        Height and width in pixels of the images returned, 8 to 4096.
    classes
        The class folders to read, in label order; none given takes those that are there, by the alphabet.
    layout
        ``splits``, ``flat`` (60, 20 and 20 % of each class are train, valid and test by a hash of seed and file name), or
        ``auto``: splits where a folder has the name of one. ``whole``: all pictures are the test, and nothing is left to
        train on.
    fit
        ``crop``: the shorter side becomes ``size`` and of the longer one the middle stays, so that round things stay
        round. ``squash``: the whole picture, its sides stretched to a square. ``imagenet``: the middle 7/8 of the square
        that ``crop`` keeps, as networks for ImageNet are tested (256 pixels, of which 224 are shown).
    seed
        Another seed is another split of a flat layout; ready splits stay.
    hint
        How an error about missing files ends: what else would do.
    known
        All classes in the order of a network's outputs, of which the pictures show some; a class needs no folder then.
    masks
        The name of the folder of masks.

    Raises
    ------
    XbenchError
        The size is out of range. What is missing on disk is said by `ImageFolder.index`.
    """
    if not 8 <= size <= 4096:
        raise XbenchError(f"{id}: size={size} does not do for a picture; 8 to 4096 pixels do")
    if not masks or "\0" in masks or Path(masks).is_absolute() or ".." in Path(masks).parts:
        raise XbenchError(f"{id}: masks={masks!r} is no folder beside the pictures; a name such as {MASKS} is needed")
    return ImageFolder(id, root, home, size, tuple(classes), layout, fit, seed, hint, tuple(known), masks)
