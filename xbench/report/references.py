"""What a run rests on, and where it is published: facts of its components, and the references that they cite."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xbench.bibliography import facts_of, parse_entries
from xbench.errors import XbenchError
from xbench.plugins import discover
from xbench.report.latex import ascii_tex, escape, plain
from xbench.store import Json

_VENUES = ("journal", "booktitle", "howpublished", "publisher", "school", "institution")
_FIELD = re.compile(r"\s*([A-Za-z][A-Za-z_-]*)\s*=\s*")


@dataclass(frozen=True)
class References:
    """The entries of all components of a report.

    Attributes
    ----------
    entries
        BibTeX in ASCII by key, in the order of the keys.
    lines
        Each entry as a reader of plain text looks it up, by key.
    keys
        The keys that a component cites, by (kind, id).
    problems
        Why entries or citations of a component are not here, a line each.
    """

    entries: Mapping[str, str]
    lines: Mapping[str, str]
    keys: Mapping[tuple[str, str], tuple[str, ...]]
    problems: tuple[str, ...]

    def bibtex(self) -> str:
        """Return the whole file."""
        return "\n\n".join(self.entries.values()) + "\n" * bool(self.entries)

    def numbers(self, keys: Iterable[str]) -> list[int]:
        """Return the places, from 1, of keys in the list of references."""
        order = list(self.entries)
        return sorted({order.index(key) + 1 for key in keys})


def components(definitions: Iterable[Json]) -> dict[tuple[str, str], Json]:
    """Return the components of some cells by (kind, id): their definitions, of one with several settings the first."""
    found: dict[tuple[str, str], Json] = {}
    for cell in definitions:
        parts = [("dataset", cell["data"]), ("model", cell["model"]), ("explainer", cell["explainer"])]
        for kind, part in [*parts, *(("metric", metric) for metric in cell["metrics"])]:
            while part:
                found.setdefault((kind, str(part["id"])), part)
                part = part.get("of")
    return found


def gather(cells: Sequence[Json], manifests: Sequence[Json]) -> References:
    """Return what the components of some cells cite: as their runs wrote it down, else as it is installed here."""
    wanted = components(cells)
    known: dict[tuple[str, str], Json] = {}
    for manifest in manifests:
        for fact in manifest.get("components") or []:
            known.setdefault((str(fact.get("kind")), str(fact.get("id"))), fact)
    if not wanted.keys() <= known.keys():
        registry = discover()
        for kind, name in wanted.keys() - known.keys():
            if (spec := registry.of_kind(kind).get(name)) is not None:
                known[kind, name] = facts_of(spec, registry.plugins)
    return _collect({place: known.get(place) for place in wanted})


def _collect(facts: Mapping[tuple[str, str], Json | None]) -> References:
    entries: dict[str, str] = {}
    keys: dict[tuple[str, str], tuple[str, ...]] = {}
    problems, unknown = [], []
    for place, fact in sorted(facts.items()):
        name = " ".join(place)
        if fact is None:
            unknown.append(name)
            continue
        if fact.get("problem"):
            problems.append(str(fact["problem"]))
        try:
            own = {key: text for text in fact.get("bibtex") or [] for key, text in parse_entries(text, name).items()}
        except XbenchError as error:
            problems.append(str(error))
            own = {}
        if not own and fact.get("citation"):
            own = generated(place[1], str(fact["citation"]))
        keys[place] = tuple(_add(entries, key, ascii_tex(text)) for key, text in own.items())
    if unknown:
        problems.append(f"no citation recorded of {', '.join(unknown)}")
    ordered = dict(sorted(entries.items(), key=lambda pair: (pair[0].lower(), pair[0])))
    return References(ordered, {key: line(text) for key, text in ordered.items()}, keys, tuple(problems))


def _add(entries: dict[str, str], key: str, text: str) -> str:
    """Add an entry; another package's of the same key and another text gets a key of its own, which is returned."""
    name, number = key, 1
    # The entry's type, too, may hold the key: @misc{misc, ...}.
    head, brace, rest = text.partition("{")
    head, rest = head + brace + rest[: rest.index(key)], rest[rest.index(key) + len(key) :]
    while True:
        own = head + name + rest
        # BibTeX takes keys that differ in their case for one.
        if entries.get(name) == own or name.lower() not in map(str.lower, entries):
            entries[name] = own
            return name
        number += 1
        name = f"{key}-{number}"


def generated(name: str, citation: str) -> dict[str, str]:
    """Return the entry of a component that has a line for readers only."""
    key = "xbench-" + re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return {key: f"@misc{{{key},\n  key = {{{escape(name)}}},\n  note = {{{escape(citation)}}}\n}}"}


def fields(entry: str) -> dict[str, str]:
    """Return the fields of a BibTeX entry by their names in small letters, as they are written."""
    found: dict[str, str] = {}
    place = entry.index(",") + 1
    while head := _FIELD.match(entry, place):
        place, depth, quoted = head.end(), 0, False
        start = place
        while place < len(entry) and (depth or quoted or entry[place] not in ",}"):
            depth += {"{": 1, "}": -1}.get(entry[place], 0)
            quoted ^= entry[place] == '"' and depth == 0
            place += 1
        value = entry[start:place].strip()
        found[head[1].lower()] = value[1:-1] if value[:1] in ('"', "{") else value
        place += 1
    return found


def line(entry: str) -> str:
    """Return an entry as plain text: authors, title, where, when."""
    known = {name: plain(value) for name, value in fields(entry).items()}
    place = ", ".join(known[name] for name in _VENUES if known.get(name))
    place += "".join(f" {known[name]}" for name in ("volume",) if known.get(name))
    place += f"({known['number']})" if known.get("number") else ""
    pages = f":{known.get('pages')}" if known.get("journal") else f", pp. {known.get('pages')}"
    place += pages if known.get("pages") else ""
    when = ", ".join(part for part in (place, known.get("year", "")) if part)
    authors = _authors(known.get("author", ""))
    parts = [authors, known.get("title", ""), when, known.get("note", "")]
    return " ".join(part if part.endswith((".", "?", "!", "”")) else part + "." for part in parts if part)


def _authors(text: str) -> str:
    names = [" ".join(reversed([part.strip() for part in name.split(",", 1)])) for name in text.split(" and ") if name]
    if len(names) > 6:
        return f"{names[0]} et al"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
