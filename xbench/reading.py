"""Files from elsewhere, read with a bound: what is no plain file, too large or no text is one clear error, never a hang."""

import csv
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xbench.errors import XbenchError

MOST_BYTES = 256 * 2**20
"""The most that is read of a table, a list or a JSON file: ten times the largest that is published."""
_SHOWN = 120


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a plain file of at most ``most`` bytes.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    XbenchError
        It is a pipe, a device or a folder, or larger.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))  # a pipe would wait
    with open(handle, "rb") as file:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise XbenchError(f"{path} is no plain file")
        if state.st_size > most:
            raise XbenchError(f"{path} has {state.st_size:,} bytes; {most:,} are the most that is read of such a file")
        return file.read(most)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return a text in UTF-8, without its byte-order mark. Raises XbenchError where it cannot be read or is none."""
    try:
        raw = read_bytes(path, most)
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        raise XbenchError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise XbenchError(f"{path} cannot be read (it is UTF-16; save it as UTF-8)")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise XbenchError(f"{path} cannot be read ({error}; save it as UTF-8)") from error
    if "\0" in text:
        raise XbenchError(f"{path} cannot be read (it holds zero bytes, so that it is no text)")
    return text


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of the rows of a .csv that are not empty. Raises XbenchError where it cannot be read."""
    reader = csv.reader(read_text(path).splitlines())
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise XbenchError(f"{path}, line {reader.line_num}: {error}") from error


def parse_json(raw: bytes | str) -> Any:
    """Return the value of a JSON text. Raises ValueError for whatever is wrong with it, nesting without end included."""
    try:
        return json.loads(raw)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def clip(value: object) -> str:
    """Return a value as Python writes it, of a long one its beginning: for messages about what somebody else wrote."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
