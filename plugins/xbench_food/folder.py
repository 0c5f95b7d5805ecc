"""Photographs of food in class folders, as the source collected them."""

from pathlib import Path

from xbench.data import Dataset
from xbench.folder import Fit, image_folder


def folder(root: Path | None, *, size: int, fit: Fit, seed: int) -> Dataset:
    """Return the photographs at ``size`` x ``size`` of any two or more classes; see `xbench.folder.image_folder`.

    The source took 250, 100 and 100 photographs a class for train, valid and test, at 160 x 160 pixels.

    Parameters
    ----------
    root
        The folder; None takes ``$XBENCH_DATA/food``.
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
    hint = "; data=food/dishes needs no file"
    return image_folder("food/folder", root, home="food", size=size, fit=fit, seed=seed, hint=hint)
