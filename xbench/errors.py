"""The one error for what a user can fix, and the "did you mean" that goes with it."""

import difflib
import itertools
from collections.abc import Iterable

_LONGEST, _MOST, _LONGEST_LINE, _END = 200, 10_000, 4_000, 500


class XbenchError(Exception):
    """Something the user can put right: printed line by line without a traceback, exit code 2."""

    def __init__(self, *lines: str) -> None:
        self.lines = tuple(map(_bounded, lines))
        super().__init__("\n".join(self.lines))


class CannotWrite(XbenchError):
    """A folder or a disk that refuses: the one error that ends a run, for no result could be kept."""


class Broken(RuntimeError):
    """A GPU failed, and only another process can use it again."""


class Unsupported(Exception):
    """Raised by a component for what it cannot do by nature; the cell gets status `unsupported` and this reason."""


def _bounded(line: str) -> str:
    """Return a line without its middle where somebody else wrote a page into it: the reason stands at the end."""
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - _END]} [...] {line[-_END:]}"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest option, or an empty string; a word of a page is nobody's slip."""
    if len(word) > _LONGEST:
        return ""
    near = difflib.get_close_matches(word, list(itertools.islice(options, _MOST)), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
