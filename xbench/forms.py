"""Is a value that was read of the form that is needed? Records are anybody's files: what tables rely on is looked at once."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads settings without NumPy
    from numpy.typing import NDArray

Form = Any
"""A type; a pattern of a text; None; a tuple of forms, of which one will do; a list of one form, for each of a list's values; a
mapping of names, or of ``...`` for all others, to forms: a name that ends with ``?`` may be absent."""

HASH = re.compile("[0-9a-f]{64}")
PATHS = re.compile("(?s).*")
"""A text that may name a path, and so hold what UTF-8 cannot write."""
_LARGEST = 1e300
_PICTURES = {
    "gallery/row": 1,
    "gallery/probability": 2,
    "gallery/attribution": 3,
    "gallery/attribution_scale": 1,
    "gallery/colour": 4,
    "gallery/colour_scale": 1,
    "gallery/counterfactual": 4,
}
"""How many dimensions the arrays for pictures have."""
_MOST_SAMPLES = 10**8
_MOST_CLASSES = 10**6


def _component(depth: int) -> Form:
    """Return the form of a component of a definition, which may wrap another."""
    rest = {"of?": (_component(depth - 1), None)} if depth else {}
    return {"id": str, "params?": {}, **rest}


_COMPONENT = _component(8)
_SCORE: Form = {
    "name": str,
    "family": str,
    "higher_is_better": (bool, None),
    "chance": (None, float, str),
    "aggregate": str,
}
DEFINITION: Form = {
    "suite": str,
    "suite_version": int,
    "protocol": str,
    "data": {**_COMPONENT, "text": str, "digest": str},
    "classes": [str],
    "samples": HASH,
    "n": int,
    "target": (str, None),
    "model": {**_COMPONENT, "text": str, "checkpoint?": (int, None)},
    "model_fit": (str, None),
    "series?": (str, None),
    "explainer": ({**_COMPONENT, "text": str, "control": (bool, str)}, None),
    "seed": int,
    "metrics": [{"id": str, "version": int, "params?": {}, "scores": [_SCORE]}],
    "missing": {...: str},
}
"""What a cell is (`xbench.plan`), as far as tables look at it."""

_FACTS: Form = {
    **dict.fromkeys(("kind?", "id?", "text?", "problem?"), str),
    "citation?": (str, None),
    "bibtex?": [str],
    "params?": {},
}
MANIFEST: Form = {
    "cells": [HASH],
    "primary": str,
    "suite": str,
    "protocol": str,
    "title?": str,
    "data?": str,
    "components?": [_FACTS],
    "settings?": [PATHS],
    "command?": [PATHS],
    "notes?": [str],
    "versions?": {...: str},
    "origins?": {...: {}},
    "xbench?": str,
    "python?": str,
    "machine?": str,
    "cache?": PATHS,
}
"""What ``run.json`` says (`xbench.api`)."""

COST: Form = {"seconds": float, "images": float, "peak_bytes": float, "devices": [str]}


def misfit(value: object, form: Form, place: str = "") -> str:
    """Return where a value is not of a form, and what is needed there; or an empty string."""
    if isinstance(form, tuple):
        faults = [misfit(value, one, place) for one in form]
        return "" if "" in faults else faults[0]
    if isinstance(form, list):
        if not isinstance(value, list):
            return _told(place, "a list")
        if form[0] is str:  # of which there may be a million
            return "" if all(map(_is_text, value)) else _told(place, "a list of texts")
        return next((fault for i, each in enumerate(value) if (fault := misfit(each, form[0], f"{place}[{i}]"))), "")
    if isinstance(form, Mapping):
        return _misfit_of_group(value, form, place)
    if form is None:
        return "" if value is None else _told(place, "null")
    if isinstance(form, re.Pattern):
        return "" if isinstance(value, str) and form.fullmatch(value) else _told(place, f"a text like {form.pattern}")
    if form is float:
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
        return "" if fine else _told(place, "a number")
    fine = _is_text(value) if form is str else isinstance(value, form) and (form is bool or not isinstance(value, bool))
    return "" if fine else _told(place, {str: "a text", int: "a whole number", bool: "true or false"}[form])


def _is_text(value: object) -> bool:
    """Return whether a value is a text that UTF-8 can write."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _misfit_of_group(value: object, form: Mapping[Any, Form], place: str) -> str:
    if not isinstance(value, dict):
        return _told(place, "a group of members")
    for name, inner in form.items():
        key = name if name is ... else name.removesuffix("?")
        if key is ...:
            others = (each for known, each in value.items() if known not in form)
            if fault := next((fault for each in others if (fault := misfit(each, inner, f"{place}.*"))), ""):
                return fault
        elif key in value:
            if fault := misfit(value[key], inner, f"{place}.{key}" if place else key):
                return fault
        elif key == name:
            return f"{place}.{key} is missing" if place else f"{key} is missing"
    return ""


def _told(place: str, needed: str) -> str:
    return f"{place or 'it'} is not {needed}"


def cell_fault(definition: Mapping[str, Any]) -> str:
    """Return what a cell's definition lacks for its slices and samples to be found, or an empty string."""
    if fault := misfit(definition, {"n": int, "samples?": HASH, "classes?": [str]}):
        return fault
    return "" if 1 <= definition["n"] <= _MOST_SAMPLES else f"n is not a number of samples, 1 to {_MOST_SAMPLES:,}"


def definition_fault(definition: Mapping[str, Any]) -> str:
    """Return what a cell's definition lacks for tables, or an empty string."""
    if fault := cell_fault(definition) or misfit(definition, DEFINITION):
        return fault
    if abs(definition["seed"]) >= 2**63 or abs(definition["suite_version"]) >= 2**63:
        return "seed or suite_version is too large a number"
    return ""


def samples_fault(table: object, n: int | None = None) -> str:
    """Return what a table of samples lacks, or an empty string."""
    if fault := misfit(table, {"ids": [str], "labels": [int], "groups": [str]}):
        return fault
    assert isinstance(table, dict)
    sizes = {len(table[name]) for name in ("ids", "labels", "groups")}
    if len(sizes) > 1 or (n is not None and sizes != {n}):
        return "ids, labels and groups are not one for each sample"
    if any(not -1 <= label < _MOST_CLASSES for label in table["labels"]):
        return "a label is no place of a class"
    return ""


def arrays_fault(arrays: "Mapping[str, NDArray[Any]]", n_classes: int | None, rows: int = 0) -> str:
    """Return what arrays of a record are not as they are written (`xbench.columns`), or an empty string.

    ``n_classes`` is None where it is not known; ``rows`` is the number of samples of the slice that holds the pictures.
    """
    for name, values in arrays.items():
        group = name.partition("/")[0]
        if group == "curve":
            fine = values.dtype.kind == "f" and values.ndim == 2 and len(values) in (3, 4)
        elif group == "gallery":
            fine = values.dtype.kind in "fiub" and values.ndim == _PICTURES.get(name, values.ndim)
        elif group in ("score", "chance", "deviation", "probability", "tied"):
            fine = values.dtype.kind == "f" and values.ndim in (1, 2)
        else:
            fine = values.dtype.kind in "iub" and values.ndim == 1
        if fine and n_classes is not None and group in ("predicted", "target", "translated"):
            fine = bool(((values >= -1) & (values < n_classes)).all())
        if name == "gallery/row":
            fine = fine and values.dtype.kind in "iu" and bool(((values >= 0) & (values < rows)).all())
        if name == "gallery/probability":
            fine = fine and n_classes in (None, values.shape[-1])
        if not fine:
            return f"{name} holds {values.dtype} of shape {list(values.shape)}, or what is no class"
    if {"gallery/row", "gallery/probability"} - arrays.keys() and arrays.keys() & _PICTURES.keys() - {
        "gallery/attribution"
    }:
        return "there are pictures, and it is not said of which samples"
    shown = {len(values) for name, values in arrays.items() if name.startswith("gallery/")}
    return "the pictures are not one for each sample shown" if len(shown) > 1 else ""


def is_path_part(name: str) -> bool:
    """Return whether a text can name a file in a folder, and no other place."""
    return name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\") and len(name) < 200
