"""How a component is written: ``cam/gradcam[score=prob,layer=3]``, ``mnist/s2@12``, ``controls/blur[of=cam/gradcam]``."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xbench.errors import did_you_mean
from xbench.specs import Param, Spec

_REF = re.compile(r"(?P<id>[^\[\]@,\s]+)(?P<params>\[.*\])?(?:@(?P<checkpoint>\d+|\*))?")


@dataclass(frozen=True)
class Ref:
    """A component as a user wrote it: an id or a glob pattern, raw parameters, a checkpoint or (``@*``) all of them."""

    id: str
    params: tuple[tuple[str, str], ...] = ()
    checkpoint: int | None = None
    series: bool = False


def split_outside_brackets(text: str) -> list[str]:
    """Split on commas that are outside brackets; blanks around parts go, empty parts too."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text + ","):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    if depth:
        parts.append(text[start:].strip())
    return [part for part in parts if part]


def parse_ref(text: str) -> Ref:
    """Read one component. Raises ValueError, its text for the user, where the form is wrong."""
    found = _REF.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not written like package/name[param=value]@checkpoint")
    params: list[tuple[str, str]] = []
    for item in split_outside_brackets((found["params"] or "[]")[1:-1]):
        name, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{item!r} in {text!r} is not written param=value")
        if name.strip() in dict(params):
            raise ValueError(f"{text!r} sets {name.strip()!r} twice")
        params.append((name.strip(), value.strip()))
    place = found["checkpoint"]
    return Ref(found["id"], tuple(params), int(place) if place and place != "*" else None, place == "*")


def is_pattern(ref: Ref) -> bool:
    """Say whether an id holds a wildcard; ``*`` and ``?`` are the only ones."""
    return "*" in ref.id or "?" in ref.id


def matching(pattern: str, ids: Iterable[str]) -> list[str]:
    """Return the ids that a pattern of ``*`` and ``?`` matches, in order."""
    return sorted(name for name in ids if fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")))


def typed_params(spec: Spec, given: Sequence[tuple[str, object]]) -> tuple[dict[str, Param], list[str]]:
    """Return a component's parameters with the given ones set, and a line for every mistake.

    Values are texts of the command line or values of a YAML file; a default's type decides what is accepted.
    """
    params: dict[str, Param] = dict(spec.params)
    mistakes = []
    for name, raw in given:
        if name not in spec.params:
            known = ", ".join(spec.params) or "none"
            hint = did_you_mean(name, spec.params) or f"; its parameters: {known}"
            mistakes.append(f"{spec.kind} {spec.id!r} has no parameter {name!r}{hint}")
            continue
        try:
            params[name] = _convert(raw, spec.params[name])
        except ValueError as error:
            mistakes.append(f"{spec.id}[{name}={raw}]: {error}")
            continue
        if name in spec.choices and params[name] not in spec.choices[name]:
            options = [str(option) for option in spec.choices[name]]
            hint = did_you_mean(str(raw), options) or f"; one of {', '.join(options)}"
            mistakes.append(f"{spec.id}[{name}={raw}] is not possible{hint}")
    return params, mistakes


def param_text(spec: Spec, params: Mapping[str, Param]) -> str:
    """Return ``[name=value,...]`` of the parameters that differ from the defaults, or nothing."""
    changed = [f"{name}={_written(value)}" for name, value in params.items() if value != spec.params.get(name)]
    return f"[{','.join(changed)}]" if changed else ""


def convert_scalar(raw: object, like: type, what: str) -> Param:
    """Return ``raw`` as bool, int, float or str. Raises ValueError saying what would be right."""
    if like is str:
        if isinstance(raw, (dict, list)):
            raise ValueError(f"{raw!r} is not a single value")
        return _written(raw)
    text = str(raw).strip().lower()
    try:
        if like is bool:
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[text]
        if like is int:
            return int(text.replace("_", ""))
        value = float(text)
    except (ValueError, KeyError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        raise ValueError(f"{raw!r} is not {kinds[like]}{what}") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{raw!r} is not a finite number{what}")
    return value


def _convert(raw: object, default: Param) -> Param:
    if default is not None:
        return convert_scalar(raw, type(default), f" (its default is {default})")
    if raw is None or str(raw).lower() in ("none", "null"):
        return None
    for like in (int, float):
        try:
            return convert_scalar(raw, like, "")
        except ValueError:
            continue
    return _written(raw)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
