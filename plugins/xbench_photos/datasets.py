"""Photographs as they are, and in mosaics of four, of which one quarter shows the class explained."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from xbench.class_lists import read_classes
from xbench.data import Dataset, Index, Samples
from xbench.errors import XbenchError
from xbench.folder import MASKS, Fit, ImageFolder, image_folder

Split = Literal["auto", "none"]

_IMAGENET = Path(__file__).parent / "imagenet.txt"
_MAKER = 1  # raised when the same photographs would give other mosaics


def folder(root: Path | None, *, size: int, classes: str, masks: str, split: Split, fit: Fit, seed: int) -> Dataset:
    """Return photographs at ``size`` x ``size``; see `xbench.folder.image_folder` for what a folder may look like.

    Parameters
    ----------
    root
        The folder; None takes ``$XBENCH_DATA/photos``.
    size
        Height and width in pixels.
    classes
        A file of all classes in the order of a network's outputs (`xbench.class_lists`), of which the folder shows some;
        ``imagenet`` for torchvision's thousand. Empty: those that the folder shows.
    masks
        The name of the folder of masks.
    split
        ``auto``: train, valid and test as the folder has them, or dealt by a hash. ``none``: everything is the test, for
        a network that needs no training.
    fit
        ``crop`` keeps the middle square, ``imagenet`` the middle 7/8 of it, ``squash`` the whole picture.
    seed
        Another seed is another split where the folder has none of its own.

    Raises
    ------
    XbenchError
        The size is out of range, or the file of classes cannot be read.
    """
    return _photographs("photos/folder", root, size, classes, masks, split, fit, seed)


def grid(root: Path | None, *, size: int, n: int, classes: str, split: Split, fit: Fit, seed: int) -> Dataset:
    """Return mosaics of ``size`` x ``size`` pixels; see `Grid`. Other parameters as those of `folder`.

    Parameters
    ----------
    n
        How many mosaics the test has; the first of more are those of fewer.

    Raises
    ------
    XbenchError
        The size is odd or out of range, there is to be no mosaic, or the file of classes cannot be read.
    """
    if size % 2 or not 16 <= size <= 4096:
        raise XbenchError(
            f"photos/grid: size={size} does not do for four photographs; an even number, 16 to 4096, does"
        )
    if n < 1:
        raise XbenchError(f"photos/grid: n={n}; one mosaic or more is needed")
    return Grid(_photographs("photos/grid", root, size // 2, classes, MASKS, split, fit, seed), n, seed)


@dataclass(frozen=True)
class Grid:
    """Mosaics of 2 x 2 photographs: any classifier's maps have an exact truth on them, whatever the photographs.

    A test sample shows four photographs of four classes. One of the four is its label; the mask is that quarter, and speaks
    of that class. A map that knows nothing has a quarter of its mass there. Each class is the label of as many mosaics, give
    or take one; the quarter, the other three classes and all photographs are drawn. Samples with the same photograph as
    label share a group.

    A training or validation sample shows four photographs of one class, its label: a network learns to recognise classes at
    the size they have in the test, and never that four come together. There is one for each photograph, which is in it.

    Source: the grid pointing game of Böhle, Fritz, Schiele (CVPR 2021); Rao, Böhle, Schiele (CVPR 2022),
    where the mosaics are of photographs that the classifier is most sure of; these are not chosen.
    """

    photographs: ImageFolder
    n: int
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``. Raises XbenchError where fewer than four classes are shown."""
        cells, mosaics = self.photographs.index(split), self._mosaics[split]
        made_of = {"maker": _MAKER, "photographs": cells.digest, "mosaics": [each.parts for each in mosaics.values()]}
        notes = list(cells.notes[1:])  # the first counts masks of photographs, which have no say here
        if split == "test":
            notes.append(
                "photos/grid: one of four photographs is a mosaic's label, so that no classifier is right in many more than a "
                "quarter of them"
            )
        return Index(
            ids=tuple(mosaics),
            labels=np.array([each.label for each in mosaics.values()], np.int64),
            groups=tuple(each.parts[each.place] for each in mosaics.values()),
            shape=(3, 2 * self.photographs.size, 2 * self.photographs.size),
            classes=cells.classes,
            digest=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
            notes=tuple(notes),
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return mosaics [B,3,H,W], and as masks [B,H,W] the quarters that show the label; of a training sample, everything.

        A mosaic of which one photograph cannot be read is named in ``unread``.
        """
        known = {name: (split, each) for split, held in self._mosaics.items() for name, each in held.items()}
        if unknown := [name for name in ids if name not in known]:
            raise XbenchError(f"photos/grid has no mosaic {unknown[0]!r}")
        chosen = [known[name] for name in ids]
        names = sorted({part for _, each in chosen for part in each.parts})
        found = self.photographs.load(names)
        pixels, damaged = dict(zip(names, found.image, strict=True)), {names[i]: why for i, why in found.unread.items()}
        side = self.photographs.size
        image = np.empty((len(ids), 3, 2 * side, 2 * side), np.float32)
        mask = np.zeros((len(ids), 2 * side, 2 * side), bool)
        for i, (split, each) in enumerate(chosen):
            for place, part in enumerate(each.parts):
                rows, columns = _quarter(place, side)
                image[i, :, rows, columns] = pixels[part]
                mask[i, rows, columns] = split != "test" or place == each.place
        unread = {
            i: damaged[part] for i, (_, each) in enumerate(chosen) for part in reversed(each.parts) if part in damaged
        }
        labels = np.array([each.label for _, each in chosen], np.int64)
        return Samples(image, mask=mask, mask_class=labels, unread=unread)

    @cached_property
    def _mosaics(self) -> dict[str, dict[str, "_Mosaic"]]:
        return {
            split: (_four_classes if split == "test" else _one_class)(self, split)
            for split in ("train", "valid", "test")
        }


@dataclass(frozen=True)
class _Mosaic:
    """Four photographs, above from the left and then below; which of them is the label, and the label."""

    parts: tuple[str, ...]
    place: int
    label: int


def _four_classes(data: Grid, split: str) -> dict[str, _Mosaic]:
    index = data.photographs.index(split)
    of = _by_class(index)
    if len(of) < 4:
        raise XbenchError(
            f"photos/grid needs photographs of four classes to test on; {len(of)} are there (data=photos/folder takes any)"
        )
    shown = sorted(of)
    mosaics = {}
    for i in range(data.n):
        turn, place_in_turn = divmod(i, len(shown))
        label = shown[_rng(data.seed, "turn", turn).permutation(len(shown))[place_in_turn]]
        rng = _rng(data.seed, "mosaic", i)
        others = [shown[k] for k in rng.permutation(len(shown)) if shown[k] != label][:3]
        place = int(rng.integers(4))
        classes = [*others[:place], label, *others[place:]]
        parts = tuple(of[one][int(rng.integers(len(of[one])))] for one in classes)
        mosaics[f"{split}-{i:05}"] = _Mosaic(parts, place, label)
    return mosaics


def _one_class(data: Grid, split: str) -> dict[str, _Mosaic]:
    index = data.photographs.index(split)
    of = _by_class(index)
    mosaics = {}
    for i, (name, label) in enumerate(zip(index.ids, index.labels.tolist(), strict=True)):
        rng = _rng(data.seed, split, i)
        parts = [of[label][int(k)] for k in rng.integers(len(of[label]), size=4)]
        place = int(rng.integers(4))
        parts[place] = name
        mosaics[f"{split}-{i:05}"] = _Mosaic(tuple(parts), place, label)
    return mosaics


def _by_class(index: Index) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, label in zip(index.ids, index.labels.tolist(), strict=True):
        found.setdefault(label, []).append(name)
    return found


def _quarter(place: int, side: int) -> tuple[slice, slice]:
    row, column = divmod(place, 2)
    return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


def _rng(seed: int, what: str, i: int) -> np.random.Generator:
    word = hashlib.sha256(f"{seed}|{what}|{i}".encode()).digest()[:16]
    return np.random.default_rng(int.from_bytes(word, "big"))


def _photographs(
    id: str, root: Path | None, size: int, classes: str, masks: str, split: Split, fit: Fit, seed: int
) -> ImageFolder:
    known: tuple[str, ...] = ()
    if classes:
        known = read_classes(_IMAGENET if classes == "imagenet" else Path(classes))
    return image_folder(
        id,
        root,
        home="photos",
        size=size,
        layout="whole" if split == "none" else "auto",
        fit=fit,
        seed=seed,
        hint=", or <root>/images with a labels.csv beside it",
        known=known,
        masks=masks,
    )
