"""Sentences that are LaTeX in one place and Markdown in another: plain words, names, and what they cite."""

from collections.abc import Sequence
from dataclasses import dataclass

from xbench.report.latex import escape, markdown_text
from xbench.report.references import References


@dataclass(frozen=True)
class Name:
    """What a component, a setting or a class is called."""

    text: str


@dataclass(frozen=True)
class Cite:
    """References to keys; nothing where there are none."""

    keys: tuple[str, ...]


Prose = Sequence[str | Name | Cite]


def latex_prose(parts: Prose) -> str:
    """Return LaTeX; lines may end inside of names."""
    done = []
    for part in parts:
        if isinstance(part, Name):
            done.append(f"\\texttt{{{escape(part.text, breaks=True)}}}")
        elif isinstance(part, Cite):
            done.append(f"~\\cite{{{','.join(part.keys)}}}" if part.keys else "")
        else:
            # The ends of a part are spaces between words.
            done.append(" " * part.startswith(" ") + escape(part) + " " * (part.endswith(" ") and part != " "))
    return "".join(done)


def markdown_prose(parts: Prose, references: References) -> str:
    """Return Markdown; references are numbers of the list."""
    done = []
    for part in parts:
        if isinstance(part, Name):
            done.append(markdown_text(part.text))
        elif isinstance(part, Cite):
            done.append(f" [{', '.join(map(str, references.numbers(part.keys)))}]" if part.keys else "")
        else:
            done.append(" " * part.startswith(" ") + markdown_text(part) + " " * (part.endswith(" ") and part != " "))
    return "".join(done)


def plain_prose(parts: Prose) -> str:
    """Return the words and names alone."""
    return "".join("" if isinstance(part, Cite) else part.text if isinstance(part, Name) else part for part in parts)


def series(parts: Sequence[Prose], last: str = " and ") -> list[str | Name | Cite]:
    """Return an enumeration: commas, and ``last`` before the last one."""
    joined: list[str | Name | Cite] = []
    for place, part in enumerate(parts):
        joined += [last if place == len(parts) - 1 else ", "] if place else []
        joined += part
    return joined
