"""A hash of the syntax a component is made of, so that an edited explainer never shows its old rows."""

import ast
import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

_WORDS = ("summary", "citation", "cites", "meanings", "quick", "known_failures", "cost")
"""Fields of a spec that are for readers and for checks."""

_LATER = ("cost",)
"""Those of them that came when records were kept already: that a spec has such a field moves no hash either."""


def code_hash(factory: str) -> str:
    """Return a hash over the syntax trees of a factory's module and of the modules that it imports from its own package.

    Modules of other plugins (packages named ``xbench_...``) count likewise, and so do those that lie beside a single file in
    a folder of a user's own. Comments, layout, docstrings and what a spec says in words do not count; neither does code
    of other packages, which versions speak for.

    Parameters
    ----------
    factory
        ``"module:attr"``.

    Returns
    -------
    16 hex digits, or ``"none"`` where the module has no Python source.
    """
    module = factory.partition(":")[0]
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or (source := _source(name)) is None:
            continue
        stamp = source.stat().st_mtime_ns  # an author edits while a session goes on
        seen[name] = _digest(source, stamp)
        waiting += _siblings(source, stamp, name)
    if not seen:
        return "none"
    return hashlib.sha256("\n".join(f"{name} {seen[name]}" for name in sorted(seen)).encode()).hexdigest()[:16]


@functools.cache
def _source(module: str) -> Path | None:
    """Return a module's file without importing more than its top-level package (a light one, or it was imported already)."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *rest)
        for candidate in (path.with_suffix(".py") if rest else path / "__init__.py", path / "__init__.py"):
            if candidate.is_file():
                return candidate
    if not rest and spec and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    return None


@functools.cache
def _tree(source: Path, stamp: int) -> ast.Module:
    return ast.parse(source.read_bytes())


@functools.cache
def _digest(source: Path, stamp: int) -> str:
    return hashlib.sha256("".join(_shape(_tree(source, stamp))).encode()).hexdigest()


def _shape(node: object) -> Iterator[str]:
    """Yield a form of the tree that does not change with the Python version: empty fields and docstrings are left out."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list) and _is_docstring(value[:1]):
                value = value[1:]
            if name == "body" and isinstance(node, ast.ClassDef) and node.name.endswith("Spec"):
                value = [each for each in value if getattr(getattr(each, "target", None), "id", "") not in _LATER]
            if name == "keywords" and _declares(node):
                value = [each for each in value if each.arg not in _WORDS]
            if value is not None and value != [] and name not in ("ctx", "type_comment", "kind"):
                yield f" {name}="
                yield from _shape(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _shape(item)
    else:
        yield repr(node)


def _declares(call: ast.AST) -> bool:
    """Return whether a call makes a spec."""
    called = getattr(call, "func", None)
    return str(getattr(called, "attr", getattr(called, "id", ""))).endswith("Spec")


def _is_docstring(first: list[ast.AST]) -> bool:
    return bool(
        first
        and isinstance(first[0], ast.Expr)
        and isinstance(first[0].value, ast.Constant)
        and isinstance(first[0].value.value, str)
    )


@functools.cache
def _siblings(source: Path, stamp: int, module: str) -> tuple[str, ...]:
    """Return the names imported by a module that may be modules of its own top-level package, or of another plugin's."""
    top, is_package = module.partition(".")[0], source.name == "__init__.py"
    found: list[str] = []
    for node in ast.walk(_tree(source, stamp)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    beside = _beside(source) if source.stem == module else set()
    return tuple(
        name
        for name in dict.fromkeys(found)
        if (other := name.partition(".")[0]) == top or _is_plugin(other) or other in beside
    )


def _beside(source: Path) -> set[str]:
    """Return the modules and packages that lie beside a file; of an installed one none, for they are other people's."""
    folder = source.parent
    if {"site-packages", "dist-packages"} & set(folder.parts) or folder == Path(os.__file__).parent:
        return set()
    return {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}


def _is_plugin(package: str) -> bool:
    return package.startswith("xbench_")
