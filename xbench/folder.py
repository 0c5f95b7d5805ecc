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
from PIL import Image, ImageOps, UnidentifiedImageError

from xbench.class_lists import IMAGES, LABELS, place_of, read_labels
from xbench.data import Bools, Floats, Index, Samples
from xbench.errors import XbenchError, did_you_mean
from xbench.reading import clip
from xbench.unread import read_each

Layout = Literal["auto", "splits", "flat", "whole"]
Fit = Literal["crop", "squash", "imagenet"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")
SPLITS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
MASKS = "masks"

_READER = 1  # raised when the same files would give other pixels
_THREADS = min(8, os.cpu_count() or 1)
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class _File:
    """A picture: its path under the root, its label, its size in bytes; its mask's path ("" for none) and size."""

    name: str
    label: int
    size: int
    mask: str
    mask_size: int


@dataclass(frozen=True)
class _Found:
    classes: tuple[str, ...]
    splits: dict[str, list[_File]]
    flat: bool
    notes: tuple[str, ...]
    told: bool = False


_Held = tuple[tuple[str, ...], dict[str, list[list[_File]]], list[str]]
"""Classes; split (or "") -> label -> pictures; the paths of other files."""


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

        def read(i: int, file: _File) -> None:
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
    def _files(self) -> dict[str, _File]:
        return {file.name: file for files in self._found.splits.values() for file in files}

    @cached_property
    def _found(self) -> _Found:
        root, inner = self._root, _folders(self._root)
        table = root / LABELS if IMAGES in inner and os.path.isfile(root / LABELS) else None
        named = any(name in inner for names in SPLITS.values() for name in names)
        flat = self.layout in ("flat", "whole") or (self.layout == "auto" and not named)
        masks = _masks(root, self.masks)
        if table:
            classes, held, strange = self._listed(table, masks)
            flat = self.layout == "flat" or set(held) == {""}
        else:
            parts = {"": root} if flat else {split: root / _split_folder(root, split, inner) for split in SPLITS}
            classes, held, strange = self._foldered(root, parts, masks)
        if self.layout == "whole":
            every = [file for part in held.values() for of_class in part for file in of_class]
            splits: dict[str, list[_File]] = {
                "train": [],
                "valid": [],
                "test": sorted(every, key=lambda file: file.name),
            }
            flat = False
        elif flat:
            splits = _dealt(
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

    def _foldered(self, root: Path, parts: dict[str, Path], masks: dict[str, int]) -> _Held:
        """Return the classes, the pictures of each split's class folders by label, and the paths of other files."""
        held: dict[str, list[list[_File]]] = {}
        strange: list[str] = []
        if self.known:
            classes = self.known
            folders = {split: [name for name in _folders(part) if name != self.masks] for split, part in parts.items()}
            if empty := next((parts[split] for split, names in folders.items() if not names), None):
                raise XbenchError(f"{empty} holds no folder; {self.id} needs one for each class that is shown")
        else:
            classes = self._shared_classes(list(parts.values()))
            folders = {split: list(classes) for split in parts}
        for split, part in parts.items():
            held[split] = [[] for _ in classes]
            for name in folders[split]:
                label = place_of(name, classes, part) if self.known else classes.index(name)
                files, others = _pictures(root, part / name, label, masks, self.masks)
                held[split][label] += files
                strange += others
        return classes, held, strange

    def _listed(self, table: Path, masks: dict[str, int]) -> _Held:
        """Return the same of a folder of images and a table of what is on them."""
        rows = read_labels(table)
        named = all(row.name for row in rows)
        if not self.known and not named:
            raise XbenchError(f"{table} has no names of classes; {self.id} needs them, there or by data.classes=FILE")
        classes = self.known or tuple(sorted({row.name for row in rows}))
        held: dict[str, list[list[_File]]] = {}
        for row in rows:
            if self.known and row.index is not None:
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
            mask = f"{self.masks}/{row.mask or os.path.splitext(row.file)[0] + '.png'}"
            if row.mask and masks and mask not in masks:
                raise XbenchError(
                    f"{table} lists the mask {clip(row.mask)}, which is not in {table.parent / self.masks}; "
                    "data.masks=NAME says in which folder the masks are"
                )
            of_split = held.setdefault(split, [[] for _ in classes])
            size = path.stat().st_size
            of_split[label].append(_File(name, label, size, mask if mask in masks else "", masks.get(mask, 0)))
        if "" in held and len(held) > 1:
            raise XbenchError(f"{table} names a split for some pictures; it must for all, or for none")
        return classes, held, []

    def _shared_classes(self, parts: Sequence[Path]) -> tuple[str, ...]:
        """Return the classes, of which every part has a folder."""
        has = {part: [name for name in _folders(part) if name != self.masks] for part in parts}
        classes = self.classes or tuple(has[parts[0]])
        if len(classes) < 2:
            what = f"only the folder {classes[0]!r}" if classes else "no folder"
            raise XbenchError(f"{parts[0]} holds {what}; {self.id} needs one for each of two classes or more")
        for part, names in has.items():
            if missing := [name for name in classes if name not in names]:
                hint = did_you_mean(missing[0], names) or f"; the classes are {', '.join(classes)}"
                raise XbenchError(f"{part} has no folder of the class {missing[0]!r}{hint}")
            if not self.classes and (more := [name for name in names if name not in classes]):
                raise XbenchError(f"{part} has a class {more[0]!r} and {parts[0]} has not; all splits need the same")
        return classes


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


def read_picture(path: Path, size: int, fit: Fit) -> tuple[Floats, tuple[int, int]]:
    """Return a picture [3,size,size] in [0,1] and the width and height of the whole in the file, both upright.

    Turned as its EXIF says; a grey one gets three equal channels, a transparent one a white ground. Resized by a triangle
    filter as wide as the reduction asks for (Pillow's BILINEAR): no aliasing, no overshoot. A large JPEG is decoded at a
    half, a quarter or an eighth of its size, never below twice what is asked for.

    Raises
    ------
    XbenchError
        The file is no whole JPEG, PNG or WebP picture, or Pillow's guard against decompression bombs refuses it.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            refuse_bomb(opened)
            wide, high = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
            opened.draft(None, (2 * size, 2 * size))
            pixels = _resized(_colour(ImageOps.exif_transpose(opened)), size, fit)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise _unreadable(path, error) from error
    return pixels.transpose(2, 0, 1) / np.float32(255), (high, wide) if turned else (wide, high)


def read_mask(path: Path, size: int, fit: Fit, upright: tuple[int, int]) -> Bools:
    """Return [size,size]: the pixels of which half or more is the object. ``upright``: its picture's width and height.

    Raises
    ------
    XbenchError
        The file is no whole picture, or not as large as the picture that it is of.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            refuse_bomb(opened)
            there = np.asarray(opened.convert("RGB")).any(axis=2)
    except Exception as error:
        raise _unreadable(path, error) from error
    if there.shape[::-1] != upright:
        sizes = " x ".join(map(str, there.shape[::-1])), " x ".join(map(str, upright))
        raise XbenchError(f"the mask {path} has {sizes[0]} pixels, its picture {sizes[1]}; it must be as large")
    return _resized(Image.fromarray(there.astype(np.float32)), size, fit) >= 0.5


def _colour(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # grey in 16 bits
        picture = Image.fromarray((np.asarray(picture, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _resized(picture: Image.Image, size: int, fit: Fit) -> Floats:
    left = top = 0.0
    wide, high = picture.size
    if fit == "crop":
        wide = high = side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
    elif fit == "imagenet":
        # Whole pixels: half a pixel aside, a crop that is not resized is blurred, and MobileNetV2 knew 255 of 301 photographs
        # in place of 265.
        wide = high = side = round(min(picture.size) * 7 / 8)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + wide, top + high)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box), np.float32)


def refuse_bomb(opened: Image.Image) -> None:
    """Raise Pillow's own error for a picture of more than its limit, of which it only warns up to twice that."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and opened.width * opened.height > most:
        raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels, {most:,} in all are let through")


def _unreadable(path: Path, error: Exception) -> XbenchError:
    if isinstance(error, Image.DecompressionBombError):
        return XbenchError(f"{path} is too large a picture ({error}); make it smaller or remove it")
    # Pillow's own words for this repeat the path.
    why = "it is another kind of file" if isinstance(error, UnidentifiedImageError) else error
    return XbenchError(f"{path} is not a whole JPEG, PNG or WebP picture ({why}); replace or remove it")


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(root) if entry.is_dir())


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


def _split_folder(root: Path, split: str, inner: Sequence[str]) -> str:
    found = [name for name in SPLITS[split] if name in inner]
    if len(found) > 1:
        raise XbenchError(f"{root} has both {' and '.join(found)}; one folder for the {split} split is needed")
    if not found:
        names = " or ".join(SPLITS[split])
        raise XbenchError(f"{root} has no folder {names}; train, valid and test are needed, or none but class folders")
    return found[0]


def _masks(root: Path, folder: str) -> dict[str, int]:
    """Return the masks' sizes in bytes by their paths under the root."""
    paths = (Path(above, name) for above, _, names in os.walk(root / folder) for name in names if name.endswith(".png"))
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def _pictures(root: Path, folder: Path, label: int, masks: dict[str, int], where: str) -> tuple[list[_File], list[str]]:
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
        files.append(_File(name, label, entry.stat().st_size, mask if mask in masks else "", masks.get(mask, 0)))
    if not files:
        raise XbenchError(f"{folder} holds no picture; files ending in {', '.join(SUFFIXES)} are looked for there")
    return files, others


def _dealt(id: str, classes: Sequence[Sequence[_File]], seed: int) -> dict[str, list[_File]]:
    """Return the splits of classes that have none; each class in an order that hangs on the seed and its file names."""
    splits: dict[str, list[_File]] = {split: [] for split in SPLITS}
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
