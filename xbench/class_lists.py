"""Tables beside pictures: all classes in the order of a network's outputs, and which picture is of which class."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xbench.errors import XbenchError, did_you_mean
from xbench.reading import clip, read_rows, read_text

LABELS, IMAGES = "labels.csv", "images"
_NAMES = ("class", "name", "label")


@dataclass(frozen=True)
class Labelled:
    """A picture of ``labels.csv``: its path under ``images/``, and what the table says of it ("" and None: nothing).

    ``index`` is the place of its class in a network's outputs, ``mask`` the name of its mask.
    """

    file: str
    name: str
    index: int | None
    mask: str
    split: str


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names that a file lists, in order.

    A text file has one a line. One ending in .csv has a header and a column ``class``, ``name`` or ``label``; where there is a
    column ``index`` too, that is the order.

    Raises
    ------
    XbenchError
        There is no such file, it has no such column or fewer than two names, one is there twice or an index is missing.
    """
    if path.suffix.lower() == ".csv":
        rows = _rows(path)
        column = _column(path, rows)
        if "index" in rows[0]:
            places = {_index(path, row): row[column].strip() for row in rows}
            if gap := next((place for place in range(len(rows)) if place not in places), None):
                raise XbenchError(f"{path} lists {len(rows)} classes, and none has the index {gap}")
            names = [places[place] for place in sorted(places)]
        else:
            names = [row[column].strip() for row in rows]
    else:
        names = [line.strip() for line in read_text(path.expanduser()).splitlines() if line.strip()]
    if len(names) < 2:
        raise XbenchError(f"{path} lists {len(names)} classes; two or more are needed, one a line")
    if twice := _twice(names):
        raise XbenchError(f"{path} lists the class {clip(twice)} twice")
    return tuple(names)


def read_labels(path: Path) -> list[Labelled]:
    """Return the rows of ``labels.csv``: a column ``file``, one of ``class``, ``name``, ``label`` and ``index``, and, where
    there are some, ``mask`` and ``split``.

    Raises
    ------
    XbenchError
        The file cannot be read, a column is missing, an index is no number or a picture is there twice.
    """
    rows = _rows(path)
    if "file" not in rows[0]:
        raise XbenchError(f"{path} has no column 'file'; it has {', '.join(rows[0])[:120]}")
    column = "" if "index" in rows[0] and not set(_NAMES) & set(rows[0]) else _column(path, rows)
    found = [
        Labelled(
            file=row["file"].strip(),
            name=row.get(column, "").strip(),
            index=_index(path, row) if "index" in row else None,
            mask=row.get("mask", "").strip(),
            split=row.get("split", "").strip(),
        )
        for row in rows
    ]
    if twice := _twice([row.file for row in found]):
        raise XbenchError(f"{path} lists the picture {clip(twice)} twice")
    return found


def place_of(name: str, classes: Sequence[str], where: object) -> int:
    """Return the place of a class; capitals and _ for blanks make no difference. Raises XbenchError where it is not there."""
    if name in classes:
        return list(classes).index(name)
    plain = [_plain(each) for each in classes]
    if plain.count(_plain(name)) == 1:
        return plain.index(_plain(name))
    hint = did_you_mean(name, classes) or f"; it lists {len(classes)}, the first of them {classes[0]!r}"
    raise XbenchError(f"{where} has the class {clip(name)}, which the list of classes has not{hint}")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _twice(names: Sequence[str]) -> str:
    """Return the first name that is there more than once, or an empty string."""
    return next((name for name, count in Counter(names).items() if count > 1), "")


def _rows(path: Path) -> list[dict[str, str]]:
    lines = read_rows(path.expanduser())
    header = [name.strip() for name in next(lines, (0, []))[1]]
    if not header:
        raise XbenchError(f"{path} holds no header")
    empty = dict.fromkeys(header, "")
    rows = [empty | dict(zip(header, fields, strict=False)) for _, fields in lines]
    if not rows:
        raise XbenchError(f"{path} holds no rows under its header")
    return rows


def _column(path: Path, rows: Sequence[dict[str, str]]) -> str:
    for name in _NAMES:
        if name in rows[0]:
            return name
    raise XbenchError(
        f"{path} has no column {', '.join(_NAMES[:-1])} or {_NAMES[-1]}; it has {', '.join(rows[0])[:120]}"
    )


def _index(path: Path, row: dict[str, str]) -> int:
    try:
        place = int(row["index"])
    except ValueError:
        place = -1
    if place < 0:
        raise XbenchError(f"{path}: the index {clip(row['index'])} is no whole number from 0 on")
    return place
