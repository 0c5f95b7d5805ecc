"""Photographs in class folders, with and without the animal, as the source collected them."""

from pathlib import Path

from xbench.data import Dataset
from xbench.folder import Fit, image_folder


def folder(root: Path | None, *, size: int, fit: Fit, seed: int) -> Dataset:
    """Return the photographs at ``size`` x ``size`` of ``negative`` and ``positive``; see `xbench.folder.image_folder`.

    The source took 839, 226 and 378 photographs a class for train, valid and test, at 224 x 224 pixels. Masks of the
    animal at ``masks/<split>/positive/*.png`` are read where there are some.

    Parameters
    ----------
    root
        The folder; None takes ``$XBENCH_DATA/anole``.
    size
        Height and width in pixels.
    fit
        ``crop`` keeps the middle square, ``squash`` the whole picture; the source does not say which.
    seed
        Another seed is another split where the folder has none of its own.

    Raises
    ------
    XbenchError
        The size is out of range.
    """
    return image_folder(
        "anole/folder",
        root,
        home="anole",
        size=size,
        classes=("negative", "positive"),
        fit=fit,
        seed=seed,
        hint="; data=anole/camouflage needs no file",
    )
