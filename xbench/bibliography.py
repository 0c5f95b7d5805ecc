"""What to cite: the BibTeX entries that components bring along, kept with a run so that a report needs no plugin."""

import importlib.util
import re
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from xbench.components import Component
from xbench.errors import XbenchError, did_you_mean
from xbench.plan import Plan
from xbench.plugins import Plugin, Registry
from xbench.specs import Spec
from xbench.store import Json

FILE = "references.bib"
_HEAD = re.compile(r"@([A-Za-z]+)\s*\{\s*([A-Za-z0-9_:.+/-]+)\s*,")


def parse_entries(text: str, where: object = FILE) -> dict[str, str]:
    """Return the entries of a BibTeX file, verbatim, by key; what stands between them is a comment.

    Raises XbenchError where an entry has no end or no key, or a key is there twice.
    """
    found: dict[str, str] = {}
    place = text.find("@")
    while place >= 0:
        line = text.count("\n", 0, place) + 1
        head = _HEAD.match(text, place)
        if head is None:
            raise XbenchError(
                f"{where}, line {line}: an entry is written @article{{key, ...}}, with a key of plain ASCII"
            )
        end = _closed(text, place)
        if end is None:
            raise XbenchError(f"{where}, line {line}: the braces of the entry {head[2]!r} are not balanced")
        if head[2] in found:
            raise XbenchError(f"{where}, line {line}: the key {head[2]!r} is there twice")
        found[head[2]] = text[place:end]
        place = text.find("@", end)
    return found


def _closed(text: str, start: int) -> int | None:
    """Return the place behind the brace that closes the first one, or None. As for BibTeX, a backslash hides no brace."""
    depth = 0
    for place in range(text.index("{", start), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return None


def entries_of(spec: Spec, plugins: Iterable[Plugin]) -> list[str]:
    """Return the entries that a component cites, from ``references.bib`` of its plugin's package.

    Raises XbenchError where the file or a key is missing, or the file is not well-formed.
    """
    if not spec.cites:
        return []
    files = [file for module in _modules(spec, plugins) if (file := _file(module)) is not None]
    known: dict[str, str] = {}
    for file in files:
        known |= parse_entries(file.read_text(encoding="utf-8"), f"{FILE} of {spec.package}")
    if absent := [key for key in spec.cites if key not in known]:
        hint = did_you_mean(absent[0], known) if files else f"; its package holds no {FILE}"
        raise XbenchError(
            f"{spec.kind} {spec.id!r} cites {absent[0]!r}, which is not in {FILE} of {spec.package}{hint}"
        )
    return [known[key] for key in spec.cites]


def _modules(spec: Spec, plugins: Iterable[Plugin]) -> list[str]:
    modules = [plugin.module.partition(":")[0] for plugin in plugins if not plugin.problem]
    return [module for module in modules if module.split(".")[0].removeprefix("xbench_") == spec.package]


def _file(module: str) -> Traversable | None:
    """Return the file in a module's own package (of a package: in itself), or None."""
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations is None:
        found = importlib.util.find_spec(found.parent) if found.parent else None
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    return None


def component_facts(plan: Plan, registry: Registry) -> list[Json]:
    """Return what a report must know of a run's components: see `facts_of`; each once, what a wrapper wraps too."""
    config = plan.config
    chosen: list[Component] = []
    for component in (config.data, *config.models, *config.explainers, *config.metrics):
        inner: Component | None = component
        while inner:
            chosen.append(inner)
            inner = inner.of
    made = {(each.spec.kind, each.text): facts_of(each.spec, registry.plugins) | {"text": each.text, "params": each.params}
            for each in chosen}  # fmt: skip
    return list(made.values())


def facts_of(spec: Spec, plugins: Sequence[Plugin]) -> Json:
    """Return kind, id, version, defaults, citation and BibTeX entries of a component, and the distribution it came from.

    A ``references.bib`` that cannot be used is no reason to stop a run: ``problem`` says what is wrong with it.
    """
    problem = ""
    try:
        entries = entries_of(spec, plugins)
    except (XbenchError, OSError, UnicodeDecodeError) as error:
        entries, problem = [], " ".join(str(error).split())
    names = _modules(spec, plugins)
    home = next((plugin for plugin in plugins if plugin.module.partition(":")[0] in names), None)
    return {
        "kind": spec.kind,
        "id": spec.id,
        "version": spec.version,
        "defaults": dict(spec.params),
        "citation": spec.citation,
        "bibtex": entries,
        "distribution": {"name": home.distribution, "version": home.version} if home else None,
        **({"problem": problem} if problem else {}),
    }
