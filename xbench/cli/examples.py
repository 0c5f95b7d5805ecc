"""Which suites a component is part of, and the command that tries it with a parameter other than its default."""

import functools
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xbench.errors import XbenchError
from xbench.plugins import Registry
from xbench.refs import is_pattern, matching, param_text, parse_ref, split_outside_brackets
from xbench.specs import DatasetSpec, ExecutorSpec, ExplainerSpec, MetricSpec, ModelSpec, Param, Spec
from xbench.suite_files import read_suite

Settings = Mapping[str, Any]


def settings_of(registry: Registry, suite: str) -> dict[str, Settings]:
    """Return a suite's settings under each of its protocols, by name; none where its file cannot be read."""
    try:
        path = registry.suites[suite]
        return _settings(path, path.stat().st_mtime_ns)
    except (XbenchError, OSError):
        return {}


@functools.cache
def _settings(path: Path, stamp: int) -> dict[str, Settings]:
    whole = read_suite(path)
    protocols = whole.get("protocols")
    named = protocols.items() if isinstance(protocols, dict) else []
    return {str(name): {**whole, **(changes if isinstance(changes, dict) else {})} for name, changes in named}


def listed(settings: Settings, key: str) -> list[str]:
    """Return what a suite lists under ``models``, ``explainers`` or ``metrics``, as it is written there."""
    given = settings.get(key) or []
    return split_outside_brackets(given) if isinstance(given, str) else [str(each) for each in given]


def data_of(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Return the id of a suite's data set and the parameters that the suite gives it."""
    given = settings.get("data")
    rest = dict(given) if isinstance(given, dict) else {"id": given}
    return str(rest.pop("id", "") or ""), rest


def suites_with(registry: Registry, spec: Spec) -> dict[str, list[str]]:
    """Return the suites that a component is part of, each with those of its protocols."""
    found = {
        suite: [name for name, settings in settings_of(registry, suite).items() if _names(settings, spec)]
        for suite in registry.suites
    }
    return {suite: protocols for suite, protocols in found.items() if protocols}


def example(registry: Registry, spec: Spec) -> str:
    """Return a command that runs a component, its first parameter that can be set otherwise set so.

    The suite is the first one whose data and models it fits, if there is one that has it anyway. Empty where no suite
    is installed.
    """
    suite = min(registry.suites, key=lambda name: (*_fitness(registry, name, spec), name), default="")
    if not suite:
        return ""
    changed = _changed(registry, spec)
    words = ["xbench", "run", f"suite={suite}"]
    if isinstance(spec, DatasetSpec):
        words += [f"data={spec.id}", *(f"data.{name}={_written(value)}" for name, value in changed.items())]
    elif isinstance(spec, ExecutorSpec):
        words += [f"executor={spec.id}", *(f"{spec.id}.{name}={_written(value)}" for name, value in changed.items())]
    else:
        words.append(f"{spec.kind}={spec.id}{param_text(spec, {**spec.params, **changed})}")
    return shlex.join(words)


def _names(settings: Settings, spec: Spec) -> bool:
    if isinstance(spec, DatasetSpec):
        return data_of(settings)[0] == spec.id
    return spec.id in set(_ids(listed(settings, spec.kind + "s"), spec))


def _ids(texts: list[str], spec: Spec) -> Iterator[str]:
    """Yield the ids that are written out, what wrappers wrap among them, and the spec's own where a pattern means it."""
    for text in texts:
        try:
            ref = parse_ref(text)
        except ValueError:
            continue
        if is_pattern(ref):
            yield from [] if getattr(spec, "wraps", False) else matching(ref.id, [spec.id])
        else:
            yield ref.id
        yield from _ids([value for name, value in ref.params if name == "of"], spec)


def _fitness(registry: Registry, suite: str, spec: Spec) -> tuple[bool, bool]:
    """Return whether a suite does not have the component by default, and whether the component does not fit it."""
    protocols = settings_of(registry, suite)
    settings = next(iter(protocols.values()), {})
    data = registry.datasets.get(data_of(settings)[0])
    fits = data is not None
    if data and isinstance(spec, ModelSpec):
        fits = any(matching(pattern, [data.id]) for pattern in spec.datasets)
    elif data and isinstance(spec, (ExplainerSpec, MetricSpec)):
        wanted = {need for need in spec.needs if need in ("mask", "counterfactual", "shortcut", "swapped")}
        fits = wanted <= set(data.has) and (
            "attribution" in getattr(spec, "gives", ("attribution",)) or _translates(registry, settings)
        )
    elif isinstance(spec, DatasetSpec):
        models = [registry.models.get(text.partition("[")[0].partition("@")[0]) for text in listed(settings, "models")]
        fits = any(matching(p, [spec.id]) for model in models if model and not model.wraps for p in model.datasets)
    return not _names(settings, spec), not fits


def _translates(registry: Registry, settings: Settings) -> bool:
    """Whether a suite measures translated images alone, so that an explainer without a map has a number."""
    metrics = [registry.metrics.get(text.partition("[")[0]) for text in listed(settings, "metrics")]
    return any("translation" in metric.needs and "attribution" not in metric.needs for metric in metrics if metric)


def _changed(registry: Registry, spec: Spec) -> dict[str, Param]:
    """Return what a wrapper wraps, if it is one, and the first parameter that can be set to another value."""
    found: dict[str, Param] = {}
    if getattr(spec, "wraps", False):
        others = registry.of_kind(spec.kind).values()
        found["of"] = next((other.id for other in others if _can_be_wrapped(other)), None)
    if getattr(spec, "stored", False):
        return {"maps": "DIR"}
    for name, value in spec.params.items():
        if name not in found and (other := _other(value, spec.choices.get(name, ()))) is not None:
            return {**found, name: other}
    return found


def _can_be_wrapped(spec: Spec) -> bool:
    if isinstance(spec, ExplainerSpec):
        return not (spec.wraps or spec.control or spec.fit or spec.stored or spec.needs == ("mask",))
    return isinstance(spec, ModelSpec) and not spec.wraps and spec.fit is not None


def _other(value: Param, choices: tuple[Param, ...]) -> Param:
    """Return another value that is allowed, or None where none is known: half a number is in every range that holds it."""
    if choices:
        return next((choice for choice in choices if choice != value and choice != ""), None)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value // 2 or None
    if isinstance(value, float) and value > 0:
        return float(f"{value / 2:.2g}")
    return None


def _written(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
