"""NIH ChestX-ray14 as a data set: one finding against No Finding, with the boxes that were drawn."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from xbench.data import Bools, Dataset, Floats, Index, Ints, Samples
from xbench.errors import XbenchError, did_you_mean
from xbench.folder import FORMATS, refuse_bomb
from xbench.unread import read_each
from xbench_chestxray.nih_splits import SPLITS, divide
from xbench_chestxray.nih_tables import (
    BOXES,
    FINDINGS,
    NO_FINDING,
    SOURCE,
    Box,
    entries_path,
    find_films,
    read_boxes,
    read_entries,
)

BOX_FRAME = 1024
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class _Films:
    """The films of both classes that are here, by name: n paths, labels [n], n patients, and the split of each [n].

    ``side`` is a position in `SPLITS`, or -1 for a film that is in none; ``boxes`` are in `BOX_FRAME` pixels.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Ints
    patients: tuple[str, ...]
    boxes: dict[str, list[Box]]
    side: Ints
    tables: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Nih:
    """A `xbench.data.Dataset`; tables and folders are read once, films when they are asked for."""

    root: Path | None
    size: int
    finding: str
    split: str
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``; groups are patients.

        Raises XbenchError where the folder, the table of findings or all films are missing, or a class has no film.
        """
        films = self._films
        chosen = np.flatnonzero(films.side == SPLITS.index(split))
        labels = films.labels[chosen]
        classes = (NO_FINDING, self.finding)
        for label, name in enumerate(classes):
            if not (labels == label).any():
                raise XbenchError(
                    f"no film of {name} is in the {split} split of {self._folder} "
                    f"({int((films.labels == label).sum())} in all splits); "
                    "more films, another data.seed or another data.split is needed"
                )
        names = tuple(films.names[i] for i in chosen.tolist())
        sizes = (os.stat(films.paths[i]).st_size for i in chosen)
        settings = f"nih 1|{films.tables}|{self.size}|{self.finding}|{self.split}|{self.seed}|{split}"
        manifest = "\n".join((settings, *(f"{name} {size}" for name, size in zip(names, sizes, strict=True))))
        return Index(
            ids=names,
            labels=labels,
            groups=tuple(films.patients[i] for i in chosen),
            shape=(1, self.size, self.size),
            classes=classes,
            digest=hashlib.sha256(manifest.encode()).hexdigest(),
            annotated=np.array([name in films.boxes for name in names]),
            notes=films.notes,
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return films [B,1,size,size] and their boxes as masks [B,size,size], evidence for the finding (class 1).

        A film without a box has an empty mask; one that cannot be decoded is named in ``unread``.
        """
        place = self._place
        paths = [self._films.paths[place[name]] for name in ids]
        boxes = [self._films.boxes.get(name, []) for name in ids]
        shape = (len(ids), self.size, self.size)
        images = np.zeros(shape, np.float32)

        def read(i: int, path: str) -> None:
            images[i] = read_film(path, self.size)

        unread = read_each(paths, read, _THREADS)
        return Samples(
            images[:, None],
            mask=np.array([box_mask(each, self.size) for each in boxes], bool).reshape(shape),
            mask_class=np.array([1 if each else -1 for each in boxes], np.int64),
            unread=unread,
        )

    @cached_property
    def _folder(self) -> Path:
        return nih_folder(self.root)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._films.names)}

    @cached_property
    def _films(self) -> _Films:
        root = self._folder
        table = entries_path(root)
        entries, here = read_entries(table), find_films(root)
        present = [entry for entry in entries if entry.name in here]
        if not present:
            raise XbenchError(
                f"{root} holds none of the {len(entries):,} films of {table.name}: "
                "*.png are looked for in images_*/images, images_*, images and the folder itself"
            )
        kept = sorted(
            (entry for entry in present if self.finding in entry.findings or entry.findings == {NO_FINDING}),
            key=lambda entry: entry.name,
        )
        notes = [f"chestxray/nih: {len(present):,} of the {len(entries):,} films of {table.name} are here"]
        if dropped := len(present) - len(kept):
            notes[0] += f"; {dropped:,} of them show neither {self.finding} nor {NO_FINDING} and are left out"
        read = [table]
        boxes: dict[str, list[Box]] = {}
        if (root / BOXES).is_file():
            boxes = read_boxes(root / BOXES, self.finding)
            read.append(root / BOXES)
        else:
            notes.append(f"{root} has no {BOXES}: no film has a mask")
        labels = np.array([self.finding in entry.findings for entry in kept], np.int64)
        patients = tuple(entry.patient for entry in kept)
        boxed = frozenset(entry.patient for entry in kept if entry.name in boxes)
        names = tuple(entry.name for entry in kept)
        division = divide(root, self.split, self.seed, names, patients, labels, boxed)
        read += division.lists
        tables = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in read))
        return _Films(
            names=names,
            paths=tuple(here[entry.name] for entry in kept),
            labels=labels,
            patients=patients,
            boxes=boxes,
            side=division.side,
            tables=tables.hexdigest(),
            notes=(*notes, *division.notes),
        )


def nih(root: Path | None, *, size: int, finding: str, split: str, seed: int) -> Dataset:
    """Return films with ``finding`` (alone or among others) against films of `No Finding`.

    Parameters
    ----------
    root
        The folder with the published tables and films; None takes ``$XBENCH_DATA/nih``.
    size
        Height and width in pixels of the images returned; films that are not square are stretched.
    finding
        One of the fourteen labels.
    split
        ``official``: by the published lists, a tenth of the training patients for validation. ``patient``: 70/10/20 % of
        the patients, those with the finding and those without dealt apart, and all that have a box of the finding in
        test. ``auto``: official where both lists are there, else patient. ``s0``: a random fifth of the films of each
        class for test and a tenth of the others for validation, so that patients are on both sides; for comparison with
        work that split so.
    seed
        Another seed is another random split.

    Raises
    ------
    XbenchError
        No such finding, or a size below 8. What is missing on disk is said by `index`.
    """
    if finding not in FINDINGS:
        hint = did_you_mean(finding, FINDINGS) or f"; one of {', '.join(FINDINGS)}"
        raise XbenchError(f"ChestX-ray14 has no finding '{finding}'{hint}")
    if size < 8:
        raise XbenchError(f"chestxray/nih: size={size} is too small; 8 pixels or more are needed")
    return Nih(root, size, finding, split, seed)


def nih_folder(root: Path | None) -> Path:
    """Return the folder to read; raises XbenchError where it is not given or not there."""
    where = f"fetch them from {SOURCE}; data=chestxray/phantom needs no file"
    above = os.environ.get("XBENCH_DATA")
    if root is None and not above:
        raise XbenchError(
            f"chestxray/nih needs the films: set data.root to their folder, or XBENCH_DATA to that above nih ({where})"
        )
    folder = Path(above or "").expanduser() / "nih" if root is None else root.expanduser()
    if not folder.is_dir():
        said = f"XBENCH_DATA={above}: {folder}" if root is None else f"data.root={root}"
        raise XbenchError(f"{said} is not a folder; chestxray/nih needs the films there ({where})")
    return folder


def read_film(path: str | Path, size: int) -> Floats:
    """Return a film as [size,size] in [0,1].

    Of a film with several channels the first is taken: a few are published as RGBA with equal colours. Films are
    resized by a triangle filter as wide as the reduction asks for (Pillow's BILINEAR): no aliasing, no overshoot.

    Raises
    ------
    XbenchError
        The file is not a whole image.
    """
    try:
        with Image.open(path, formats=FORMATS) as film:
            refuse_bomb(film)
            whole = film.convert("RGB") if film.mode == "P" else film
            grey = whole.getchannel(0) if len(whole.getbands()) > 1 else whole
            deep = grey.mode.startswith("I")
            grey = grey.convert("F" if deep else "L")
            pixels = grey.resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise XbenchError(f"{path} is not a readable image ({error}); fetch it again") from error
    return np.asarray(pixels, np.float32) / np.float32(65535 if deep else 255)


def box_mask(boxes: Sequence[Box], size: int) -> Bools:
    """Return [size,size] bool: the pixels whose centre is in a box, at least one pixel a box.

    Boxes are (left, top, width, height) in a frame of 1024 x 1024 whatever the film's own size, hence scaled by
    size/1024 in both axes.
    """
    mask = np.zeros((size, size), bool)
    scale = size / BOX_FRAME
    for left, top, width, height in boxes:
        mask[_covered(top * scale, height * scale, size), _covered(left * scale, width * scale, size)] = True
    return mask


def _covered(start: float, length: float, size: int) -> slice:
    first = min(max(math.ceil(start - 0.5), 0), size - 1)
    return slice(first, max(math.ceil(start + length - 0.5), first + 1))
