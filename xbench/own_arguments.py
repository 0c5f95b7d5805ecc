"""What a user hands to `xbench.explain` and `xbench.evaluate`, checked: of the right shape and range, or one clear error."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xbench.data import Floats
from xbench.errors import XbenchError, did_you_mean
from xbench.scoring import evenly, mean_colour
from xbench.specs import Polarity


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Return an array, a tensor or nested lists as an array. Raises XbenchError, which says ``what``, where they are none."""
    try:
        if isinstance(value, Tensor):
            plain = value.detach().cpu()
            return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of several lengths, say
        raise XbenchError(f"{what} cannot be read as an array: {' '.join(str(error).split())}") from error


def numbers(value: Any, what: str) -> Floats:
    """Return real numbers of any shape as float32. Raises XbenchError, which says ``what``, where they are none."""
    array = as_array(value, what)
    if array.dtype.kind not in "fiu":
        raise XbenchError(f"{what}={value!r:.60}: numbers are needed")
    return array.astype(np.float32)


def checked_whole(value: Any, what: str, least: int | None = None) -> int:
    """Return a whole number. Raises XbenchError, which says ``what``, where it is none, or less than ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise XbenchError(f"{what}={value!r:.60}: a whole number is needed") from None
    if least is not None and number < least:
        raise XbenchError(f"{what}={number}: {least} or more is needed")
    return number


def checked_names(given: Any, what: str) -> tuple[str, ...]:
    """Return names as texts. Raises XbenchError, which says ``what``, for one text alone, and for what no file can hold."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise XbenchError(f"{what}={given!r:.60}: a list of names is needed")
    names = tuple(map(str, given))
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise XbenchError(f"{what} hold {name!r:.60}; texts that UTF-8 can write are needed") from None
    return names


def checked_images(images: Any) -> Floats:
    """Return images as a float32 array [n,C,H,W]. Raises XbenchError unless they are floating point in [0,1]."""
    array = as_array(images, "the images")
    if array.ndim != 4 or 0 in array.shape:
        raise XbenchError(f"the images have shape {list(array.shape)}; [B,C,H,W], or [C,H,W] of one image, is needed")
    if array.dtype.kind != "f":
        raise XbenchError(f"the images are {array.dtype}; floating point in [0,1] is needed (of bytes: image / 255)")
    pixels: Floats = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise XbenchError("the images hold NaN or infinite values")
    if pixels.min() < 0 or pixels.max() > 1:
        raise XbenchError(
            f"the images hold values from {pixels.min():.3g} to {pixels.max():.3g}; give them in [0,1], and what the network "
            "wants them normalised by as mean= and std="
        )
    return pixels


def checked_ids(ids: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return n names, by default the places. Raises XbenchError where they are not n different ones."""
    names = checked_names(range(n) if ids is None else ids, "ids")
    if len(names) != n or len(set(names)) != n:
        raise XbenchError(
            f"there are {len(names)} ids, {len(set(names))} of them different; one for each of {n} is needed"
        )
    return names


def checked_targets(target: Any, logits: Tensor) -> Tensor:
    """Return the classes to explain [n] int64: those given, or those predicted. Raises XbenchError where they are none."""
    n, n_classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    given = as_array(target, "target")
    if given.dtype.kind not in "iu" or given.shape not in ((), (n,)):
        raise XbenchError(
            f"target is {given.dtype} of shape {list(given.shape)}; a class number, or one for each of {n} images, is needed"
        )
    if given.min() < 0 or given.max() >= n_classes:
        raise XbenchError(
            f"target holds {given.min()} to {given.max()}; the network's classes are 0 to {n_classes - 1}"
        )
    return torch.from_numpy(np.broadcast_to(given, (n,)).astype(np.int64))


def checked_maps(explanations: Any, n: int, size: tuple[int, ...]) -> dict[str, Floats]:
    """Return maps as float32 [n,H,W] by their names. Raises XbenchError where they are of another shape or not finite."""
    named = explanations if isinstance(explanations, Mapping) else {"maps": explanations}
    if not named:
        raise XbenchError("there is no explanation; {name: maps [n,H,W]} is needed")
    found = {}
    for name, given in named.items():
        if not isinstance(name, str) or not name.strip():
            raise XbenchError(f"{name!r} is no name for maps; a text is needed")
        checked_names([name], "the names of maps")
        array = as_array(given, f"the maps of {name!r}")
        if array.shape != (n, *size):
            raise XbenchError(f"the maps of {name!r} have shape {list(array.shape)}; {[n, *size]} is needed")
        if array.dtype.kind not in "fiu":
            raise XbenchError(f"the maps of {name!r} are {array.dtype}; numbers are needed")
        if not (finite := np.isfinite(array).all(axis=(1, 2))).all():
            raise XbenchError(
                f"{int((~finite).sum())} of the {n} maps of {name!r} hold NaN or infinite values, the first at place "
                f"{int(np.argmin(finite))}; score the others without these samples"
            )
        found[name] = np.ascontiguousarray(array, dtype=np.float32)
    return found


def checked_labels(labels: Any, n: int, n_classes: int) -> NDArray[np.int64] | None:
    """Return classes [n] int64, or None where none are given. Raises XbenchError where one is no class."""
    if labels is None:
        return None
    array = as_array(labels, "labels")
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise XbenchError(
            f"labels are {array.dtype} of shape {list(array.shape)}; a class number for each of {n} is needed"
        )
    if array.min() < 0 or array.max() >= n_classes:
        raise XbenchError(f"labels hold {array.min()} to {array.max()}; the network's classes are 0 to {n_classes - 1}")
    return array.astype(np.int64)


def checked_masks(masks: Any, n: int, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return masks [n,H,W] bool; None where none are given. Raises XbenchError where shape or values are of another kind."""
    if masks is None:
        return None
    array = as_array(masks, "masks")
    if array.shape != (n, *size):
        raise XbenchError(f"masks have shape {list(array.shape)}; {[n, *size]} is needed")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise XbenchError(
            f"masks are {array.dtype} with values other than 0 and 1; true where the object is, is needed"
        )
    return array.astype(bool)


def checked_n_names(given: Sequence[object], what: str, n: int) -> tuple[str, ...]:
    """Return n names, which need not differ. Raises XbenchError, which says ``what``, where there are more or fewer."""
    names = checked_names(given, what)
    if len(names) != n:
        raise XbenchError(f"there are {len(names)} {what}; {n} are needed")
    return names


def checked_classes(classes: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    """Return the names of the classes, by default their numbers. Raises XbenchError unless they are as many different ones."""
    names = checked_n_names(range(n_classes) if classes is None else classes, "classes", n_classes)
    if len(set(names)) < n_classes:
        raise XbenchError(f"classes {', '.join(names)} are not {n_classes} different names")
    return names


def checked_colour(colour: Any, pixels: Floats) -> Tensor:
    """Return a colour [C], by default the mean one of the images. Raises XbenchError where a channel has none in [0,1]."""
    values = mean_colour(pixels[evenly(len(pixels))]) if colour is None else numbers(colour, "colour")
    found = torch.tensor(np.asarray(values), dtype=torch.float32)
    if found.shape != (pixels.shape[1],) or not ((found >= 0) & (found <= 1)).all():
        raise XbenchError(f"colour={colour}: a number in [0,1] for each of {pixels.shape[1]} channels is needed")
    return found


def checked_polarity(polarity: Polarity | Mapping[str, Polarity], maps: Mapping[str, Floats]) -> dict[str, Polarity]:
    """Return how the maps of each name are to be read. Raises XbenchError for a name or a polarity that there is not."""
    each: dict[str, Polarity] = {}
    named = polarity if isinstance(polarity, Mapping) else dict.fromkeys(maps, polarity)
    for name in named:
        if name not in maps:
            raise XbenchError(f"polarity names maps {name!r:.60}, and there are none{did_you_mean(str(name), maps)}")
    for name in maps:
        one = named.get(name, "signed")
        if not isinstance(one, str) or one not in get_args(Polarity):
            raise XbenchError(f"polarity {one!r:.60} of {name!r} is not one of {', '.join(get_args(Polarity))}")
        each[name] = one
    return each
