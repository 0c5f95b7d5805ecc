"""What every data set keeps: the checks of its index and its samples."""

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xbench.data import Samples
from xbench.testing.common import common_checks, found_factory
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.subjects import DatasetSubject

_SPLITS = ("train", "valid", "test")
_TRUTHS = ("mask", "counterfactual", "shortcut", "swapped")
_REACH = 2


def opened(subject: DatasetSubject) -> None:
    """Open it and read the index of the test split."""
    found_factory(subject)
    if not len(subject.index("test")):
        raise Failed("the test split is empty")


def index(subject: DatasetSubject) -> None:
    """Look at the columns of every split's index."""
    for split in _SPLITS:
        found = subject.index(split)
        sizes = {len(found.ids), len(found.labels), len(found.groups)}
        if len(sizes) > 1:
            raise Failed(f"{split}: {len(found.ids)} ids, {len(found.labels)} labels and {len(found.groups)} groups")
        if strangers := [one for one in (*found.ids, *found.groups) if not isinstance(one, str)]:
            raise Failed(f"{split}: {strangers[0]!r} is a {type(strangers[0]).__name__}; ids and groups are strings")
        labels = np.asarray(found.labels)
        if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(found.classes)):
            raise Failed(
                f"{split}: labels are {labels.dtype} up to {labels.max()}; there are {len(found.classes)} classes"
            )
        if len(set(found.ids)) < len(found.ids):
            twice = next(one for one in found.ids if list(found.ids).count(one) > 1)
            raise Failed(f"{split}: the id {twice!r} is there twice")


def splits(subject: DatasetSubject) -> None:
    """Compare ids and groups of the splits."""
    for place, one in enumerate(_SPLITS):
        for other in _SPLITS[place + 1 :]:
            for what in ("ids", "groups"):
                if both := set(getattr(subject.index(one), what)) & set(getattr(subject.index(other), what)):
                    raise Failed(f"{len(both)} {what} are in {one} and in {other}, {min(both)!r} for one")


def repeated(subject: DatasetSubject) -> None:
    """Open it a second time."""
    again = subject.opened()
    for split in _SPLITS:
        one, other = subject.index(split), again.index(split)
        for what in ("digest", "ids", "labels", "groups"):
            if not np.array_equal(np.asarray(getattr(one, what)), np.asarray(getattr(other, what))):
                raise Failed(f"opened again, {what} of {split} is another one")
    ids = subject.some(most=6)
    one_image, other_image = _samples(subject).image[: len(ids)], again.load(subject.some()).image[: len(ids)]
    if not np.array_equal(one_image, other_image):
        raise Failed("opened again, the same ids load other pixels")


def images(subject: DatasetSubject) -> None:
    """Look at up to 24 images of each split."""
    for split in _SPLITS:
        if not len(subject.index(split)):
            continue
        ids = subject.some(split)
        image, shape = subject.data.load(ids).image, (len(ids), *subject.index(split).shape)
        if image.shape != shape or image.dtype != np.float32:
            raise Failed(f"{split}: images are {image.dtype} {image.shape}; float32 {shape} is needed")
        _in_range(image, f"{split}: images")


def _in_range(image: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(image).all():
        raise Failed(f"{what} hold NaN or infinite values")
    if image.min() < 0 or image.max() > 1:
        raise Failed(f"{what} go from {image.min():.3g} to {image.max():.3g}; 0 to 1 is needed")


def order(subject: DatasetSubject) -> None:
    """Load samples backwards, and one alone."""
    ids, samples = subject.some(), _samples(subject)
    back = subject.data.load(ids[::-1])
    if not np.array_equal(back.image[::-1], samples.image):
        raise Failed(f"{len(ids)} ids in the other order do not load the same images in the other order")
    if not np.array_equal(subject.data.load(ids[-1:]).image[0], samples.image[-1]):
        raise Failed(f"{ids[-1]!r} alone loads another image than among {len(ids)}")


def truths(subject: DatasetSubject) -> None:
    """Compare what samples hold with what is declared."""
    samples = _samples(subject)
    count, _, height, width = samples.image.shape
    for name in _TRUTHS:
        found = getattr(samples, name)
        if (found is not None) != (name in subject.spec.has):
            held = "hold" if found is not None else "hold no"
            raise Failed(f"samples {held} {name}; has is {subject.spec.has}")
        if found is None:
            continue
        if name in ("mask", "shortcut"):
            if found.dtype != np.bool_ or found.shape != (count, height, width):
                raise Failed(f"{name} is {found.dtype} {found.shape}; bool {(count, height, width)} is needed")
            annotated = subject.index("test").annotated
            if name == "mask" and annotated is not None and not annotated.any():
                continue  # a folder of one's own may be without any
            if not found.any():
                raise Failed(f"no sample's {name} has a single pixel")
            if name == "mask" and found.all(axis=(1, 2)).any():
                raise Failed("a mask covers the whole image")
        else:
            if found.shape != samples.image.shape:
                raise Failed(f"{name} has shape {found.shape}; that of the images, {samples.image.shape}, is needed")
            _in_range(found, name)


def aligned(subject: DatasetSubject) -> None:
    """Move masks by up to two pixels: nowhere may their borders lie better on the edges of what changes."""
    if not {"mask", "counterfactual"} <= set(subject.spec.has):
        raise NotApplicable("only an exact counterfactual tells where a mask must lie")
    down, right = best_shift(_samples(subject))
    if down or right:
        raise Failed(f"moved {down} pixels down and {right} right, masks lie better on what the counterfactuals change")


def best_shift(samples: Samples) -> tuple[int, int]:
    """Return by how many pixels (down, right) masks would have to move to lie best on the edges of the change."""
    assert samples.mask is not None
    assert samples.counterfactual is not None
    mask, change = samples.mask.astype(np.float32), np.abs(samples.counterfactual - samples.image).mean(axis=1)
    borders = [np.diff(mask, axis=axis) != 0 for axis in (1, 2)]
    edges = [np.abs(np.diff(change, axis=axis)) for axis in (1, 2)]
    reach = range(-_REACH, _REACH + 1)

    def agreement(shift: tuple[int, int]) -> float:
        moved = [np.roll(border, shift, axis=(1, 2)) for border in borders]
        return float(sum((one * edge).sum() for one, edge in zip(moved, edges, strict=True)))

    return max(product(reach, reach), key=lambda shift: (agreement(shift), shift == (0, 0)))


def _samples(subject: DatasetSubject) -> Samples:
    return subject.once("samples", lambda: subject.data.load(subject.some()))


def _check(name: str, law: str, mend: str, run: Callable[[DatasetSubject], None], gate: bool = False) -> Check:
    return Check(name, "dataset", law, mend, run, gate)


DATASET_CHECKS: tuple[Check, ...] = (
    *common_checks("dataset"),
    _check(
        "can be opened",
        "The factory takes a root and the declared parameters, and the test split has samples.",
        "Let factory= name a function (root, **params) that returns an object with index(split) and load(ids).",
        opened,
        gate=True,
    ),
    _check(
        "has a sound index",
        "An index holds an id, a label and a group for each sample: unique strings, class numbers, strings.",
        "Name each sample once, by a string; number the classes from 0 on in the order of classes=.",
        index,
    ),
    _check(
        "keeps its splits apart",
        "No sample and no group (patient, specimen) is in two splits.",
        "Split by group: xbench.data.group_split does.",
        splits,
    ),
    _check(
        "is the same every time",
        "Opened again with the same parameters it has the same digest, ids, labels, groups and pixels.",
        "Draw from the seed and the sample id alone; sort what a folder lists; hash names and sizes, not times.",
        repeated,
    ),
    _check(
        "gives images in [0,1]",
        "Images are float32 [B,C,H,W] in [0,1], of the shape that the index says.",
        "Divide bytes by 255, and leave normalisation to the classifier.",
        images,
    ),
    _check(
        "loads in the order asked",
        "load(ids) returns the samples of these ids in that order, each the same in any company.",
        "Build the arrays by going through ids, never through the files.",
        order,
    ),
    _check(
        "holds what it declares",
        "Samples hold the truths that has= names and no other: masks boolean [B,H,W], images of the images' shape in [0,1].",
        "Correct has=, or the array's dtype and shape; a mask of a few samples is all False for the others.",
        truths,
    ),
    _check(
        "masks lie where the truth is",
        "Where an exact counterfactual is known, the mask's border lies on the edges of what it changes, and no pixel beside.",
        "Draw the mask on the grid of the image: the same rounding, the same resize, the same crop.",
        aligned,
    ),
)
