"""A suite file: which keys it may have, and the strict reading of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from xbench.errors import XbenchError, did_you_mean
from xbench.forms import Form, misfit
from xbench.reading import clip, read_text

SUITE_KEYS = {
    "suite", "version", "title", "data", "target", "models", "explainers", "metrics", "primary", "seed", "limit", "notes",
    "protocols",
}  # fmt: skip
PROTOCOL_KEYS = SUITE_KEYS - {"suite", "version", "title", "protocols"}
_MOST_YAML, _MOST_NODES = 2**18, 20_000
_SCALAR: Form = (str, int, float, bool)
_SETTINGS: Form = {
    "data?": (str, {...: (*_SCALAR, None)}),
    **dict.fromkeys(("models?", "explainers?", "metrics?", "notes?"), (str, [_SCALAR], None)),
    "target?": _SCALAR,
    "primary?": (str, None),
    "seed?": (int, str, [int]),
    "limit?": (int, str, None),
}
_SUITE: Form = {
    **_SETTINGS,
    "suite?": str,
    "version?": int,
    "title?": _SCALAR,
    "protocols?": ({...: (_SETTINGS, None)}, None),
}


def read_suite(path: Path) -> dict[str, Any]:
    """Return a suite as its file has it (YAML, safe loader). Raises XbenchError naming file and fault."""
    try:
        loader = yaml.SafeLoader(read_text(path, _MOST_YAML))
        try:
            node = loader.get_single_node()
            if node is not None:
                _refuse_unfolding(node)
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise XbenchError(f"cannot read {path}: {why[:300]}") from error
    if not isinstance(value, dict):
        raise XbenchError(f"{path} holds a {type(value).__name__}; a suite is a mapping of keys to values")
    if odd := [key for key in value if not isinstance(key, str)]:
        raise XbenchError(f"{path} has the key {clip(odd[0])}; a text is needed")
    if fault := misfit(value, _SUITE):
        raise XbenchError(f"{path}: {fault}")
    return value


def key_faults(path: Path, suite: Mapping[str, Any]) -> list[str]:
    """Return a line for every key that a suite may not have, or lacks."""
    faults = [f"{path}: unknown key {key!r}{did_you_mean(str(key), SUITE_KEYS)}" for key in suite.keys() - SUITE_KEYS]
    for key in ("version", "data", "models", "explainers", "metrics", "protocols"):
        if not suite.get(key):
            faults.append(f"{path}: the key {key!r} is missing or empty")
    for name, changes in (suite.get("protocols") or {}).items():
        for key in (changes or {}).keys() - PROTOCOL_KEYS:
            faults.append(
                f"{path}: protocol {name!r} has an unknown key {key!r}{did_you_mean(str(key), PROTOCOL_KEYS)}"
            )
    return faults


def _refuse_unfolding(root: yaml.Node) -> None:
    """Raise ValueError where aliases unfold to more than a suite can mean, or to themselves, or a key is there twice."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise ValueError("an alias holds itself")
            return sizes[id(node)]
        sizes[id(node)] = 0
        inner = list(node.value) if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise ValueError(f"the key {clip(next(key for key in keys if keys.count(key) > 1))} stands there twice")
        sizes[id(node)] = 1 + sum(map(size, inner))
        if sizes[id(node)] > _MOST_NODES:
            raise ValueError(f"its aliases unfold to more than {_MOST_NODES:,} values")
        return sizes[id(node)]

    size(root)
