"""CheXlocalize as a data set: CheXpert films with one finding or without it, and the masks that radiologists drew."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from xbench.data import Bools, Dataset, Index, Samples
from xbench.errors import XbenchError, did_you_mean
from xbench.unread import read_each
from xbench_chestxray.chexlocalize_tables import FILMS, FINDINGS, OTHER_NAMES, SOURCE, Film, Part, read_part
from xbench_chestxray.nih import read_film

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Chexlocalize:
    """A `xbench.data.Dataset`; a published part is read once, when it is needed, films when they are asked for."""

    root: Path | None
    size: int
    finding: str
    seed: int

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``; groups are patients.

        Raises XbenchError where the folder or the films are missing, a table cannot be read, or a class has no film.
        """
        part, films, notes = self._chosen(split)
        labels = np.array([film.label for film in films.values()], np.int64)
        classes = (f"No {self.finding}", self.finding)
        for label, name in enumerate(classes):
            if not (labels == label).any():
                raise XbenchError(
                    f"no film of {name} is in the {split} split of {self._folder} ({len(films):,} films in all); "
                    f"{FILMS.format('*')} are looked for; {'; '.join(notes)}"
                )
        tables = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in part.tables)
        settings = f"chexlocalize 1|{tables}|{self.size}|{self.finding}|{self.seed}|{split}"
        sizes = (f"{name} {os.stat(film.path).st_size}" for name, film in films.items())
        return Index(
            ids=tuple(films),
            labels=labels,
            groups=tuple(film.patient for film in films.values()),
            shape=(1, self.size, self.size),
            classes=classes,
            digest=hashlib.sha256("\n".join((settings, *sizes)).encode()).hexdigest(),
            annotated=np.array([film.truth is not None for film in films.values()]),
            notes=notes,
        )

    def load(self, ids: Sequence[str]) -> Samples:
        """Return films [B,1,size,size] and masks [B,size,size], evidence for the finding (class 1).

        A film on which nothing is drawn has an empty mask; one that cannot be decoded is named in ``unread``.
        """
        films = [self._find(name) for name in ids]
        shape = (len(ids), self.size, self.size)
        image, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)

        def read(i: int, film: Film) -> None:
            image[i] = read_film(film.path, self.size)
            if film.truth:
                mask[i] = shrink(film.truth.pixels(), self.size)

        unread = read_each(films, read, _THREADS)
        labels = np.array([1 if film.truth else -1 for film in films], np.int64)
        return Samples(image[:, None], mask=mask, mask_class=labels, unread=unread)

    def _chosen(self, split: str) -> tuple[Part, dict[str, Film], tuple[str, ...]]:
        """Return the part that a split comes from, its films by name, and the notes; no patient is in two splits."""
        if split == "test":
            return self._test, dict(self._test.films), self._test.notes
        others = _patients(self._test.films.values())
        part = self._val
        if split == "train" and self._train.films:
            part, others = self._train, others | _patients(self._val.films.values())
        films = {name: film for name, film in part.films.items() if film.patient not in others}
        notes = list(part.notes)
        if gone := len(part.films) - len(films):
            notes.append(f"{gone:,} films are left out, for their patients are in a later split too")
        if not self._train.films:
            half = _half(films.values(), f"chexlocalize {self.seed}")
            films = {name: film for name, film in films.items() if (film.patient in half) == (split == "train")}
            notes.append(
                f"{self._train.notes[0]}: train is half of the patients of val, drawn by seed; valid the others"
            )
        return part, films, tuple(notes)

    def _find(self, name: str) -> Film:
        # The training part, which may be 200,000 films to look for, comes last: runs load test films.
        for part in ("_test", "_val", "_train"):
            films: Mapping[str, Film] = getattr(self, part).films
            if name in films:
                return films[name]
        raise XbenchError(f"chestxray/chexlocalize has no film {name} in {self._folder}")

    @cached_property
    def _folder(self) -> Path:
        where = f"CheXpert and CheXlocalize, side by side, fetched from {SOURCE}; data=chestxray/phantom needs no file"
        above = os.environ.get("XBENCH_DATA")
        if self.root is None and not above:
            raise XbenchError(
                "chestxray/chexlocalize needs the films: set data.root to their folder, or XBENCH_DATA to that above "
                f"chexlocalize ({where})"
            )
        folder = Path(above or "").expanduser() / "chexlocalize" if self.root is None else self.root.expanduser()
        if not folder.is_dir():
            said = f"XBENCH_DATA={above}: {folder}" if self.root is None else f"data.root={self.root}"
            raise XbenchError(f"{said} is not a folder; chestxray/chexlocalize needs one with {where}")
        return folder

    @cached_property
    def _test(self) -> Part:
        return read_part(self._folder, "test", self.finding)

    @cached_property
    def _val(self) -> Part:
        return read_part(self._folder, "val", self.finding)

    @cached_property
    def _train(self) -> Part:
        return read_part(self._folder, "train", self.finding)


def chexlocalize(root: Path | None, *, size: int, finding: str, seed: int) -> Dataset:
    """Return frontal films with ``finding`` against films without it, which may show others.

    CheXpert's val and test parts are valid and test; train is CheXpert's own where the folder has it with ``train.csv``,
    else half of the patients of val. Films whose label is uncertain (-1) are left out, and an empty label counts as 0.

    Parameters
    ----------
    root
        The folder with ``CheXpert`` and ``CheXlocalize`` in it; None takes ``$XBENCH_DATA/chexlocalize``.
    size
        Height and width in pixels of the images returned; films that are not square are stretched, their masks with them.
    finding
        One of the ten that were drawn; ``Airspace Opacity`` is another name of ``Lung Opacity``.
    seed
        Another seed is another half of val, where it is halved; it moves nothing else.

    Raises
    ------
    XbenchError
        No such finding, or a size below 8. What is missing on disk is said by `index`.
    """
    finding = OTHER_NAMES.get(finding, finding)
    if finding not in FINDINGS:
        hint = did_you_mean(finding, FINDINGS) or f"; one of {', '.join(FINDINGS)}"
        raise XbenchError(f"CheXlocalize has no finding '{finding}'{hint}")
    if size < 8:
        raise XbenchError(f"chestxray/chexlocalize: size={size} is too small; 8 pixels or more are needed")
    return Chexlocalize(root, size, finding, seed)


def shrink(mask: Bools, size: int) -> Bools:
    """Return a mask [H,W] as [size,size]: the pixels that it fills by half; of one that fills none so far, the fullest.

    A pixel is filled by the share of the mask's own pixels with their centre in it that are true.
    """
    if not mask.any():
        return np.zeros((size, size), bool)
    filled = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX))
    return filled >= min(0.5, float(filled.max()))


def _patients(films: Collection[Film]) -> set[str]:
    return {film.patient for film in films}


def _half(films: Collection[Film], salt: str) -> set[str]:
    """Return half of the patients, those with the finding and those without dealt apart, as their names and salt fall."""

    def key(patient: str) -> bytes:
        return hashlib.blake2b((salt + patient).encode(), digest_size=8).digest()

    ill = {film.patient for film in films if film.label}
    halves = (sorted(group, key=key) for group in (ill, _patients(films) - ill))
    return {patient for group in halves for patient in group[: (len(group) + 1) // 2]}
