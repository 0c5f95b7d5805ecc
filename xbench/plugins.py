"""Discovery of components by entry points; a broken plugin is recorded, named and skipped, never fatal."""

import inspect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from xbench import hookspecs
from xbench.errors import did_you_mean
from xbench.specs import NAME, DatasetSpec, ExecutorSpec, ExplainerSpec, MetricSpec, ModelSpec, Spec

GROUP = "xbench"
PASSES = ("forwards", "backwards")
"""What an explainer's ``cost`` is counted in."""
_HOOKS: dict[str, type[Spec]] = {
    "xbench_explainers": ExplainerSpec,
    "xbench_models": ModelSpec,
    "xbench_datasets": DatasetSpec,
    "xbench_metrics": MetricSpec,
    "xbench_executors": ExecutorSpec,
}


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes
    ----------
    name, module, distribution, version
        What it is called and where it comes from.
    problem
        Why it does not work, or an empty string.
    path
        The file that was loaded.
    components
        How many it has, by kind.
    """

    name: str
    module: str
    distribution: str
    version: str
    problem: str = ""
    path: str = ""
    components: tuple[tuple[str, int], ...] = ()


@dataclass
class Registry:
    """All that is installed, by kind and id.

    ``disabled`` maps (kind, id) to the reason why a component that exists cannot be used.
    """

    explainers: dict[str, ExplainerSpec] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    datasets: dict[str, DatasetSpec] = field(default_factory=dict)
    metrics: dict[str, MetricSpec] = field(default_factory=dict)
    executors: dict[str, ExecutorSpec] = field(default_factory=dict)
    suites: dict[str, Path] = field(default_factory=dict)
    plugins: list[Plugin] = field(default_factory=list)
    disabled: dict[tuple[str, str], str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> dict[str, Any]:
        """Return the components of a kind: ``explainer``, ``model``, ``dataset``, ``metric``, ``executor`` or ``suite``."""
        return getattr(self, kind + "s")


def discover(points: Iterable[EntryPoint] | None = None, only: Sequence[str] | None = None) -> Registry:
    """Load every entry point of group ``xbench`` and collect what its hooks return.

    Parameters
    ----------
    points
        The entry points; None takes those installed.
    only
        Names or modules of the plugins to load, beside the harness's own metrics, executors and suites; None takes those of
        ``$XBENCH_PLUGINS`` (separated by commas), or all where it is not set.
    """
    registry = Registry()
    owners: dict[tuple[str, str], list[str]] = {}
    if only is None and (given := os.environ.get("XBENCH_PLUGINS")) is not None:
        only = [name.strip() for name in given.split(",") if name.strip()]
    found_points = sorted(entry_points(group=GROUP) if points is None else points, key=lambda p: (p.value, p.name))
    for point in _chosen(found_points, only, registry):
        plugin = Plugin(
            point.name,
            point.value,
            point.dist.name if point.dist else "?",
            point.dist.version if point.dist else "?",
        )
        try:
            module = point.load()
            found = _components(point, module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            told = str(error) if isinstance(error, _Faulty) else f"{type(error).__name__}: {error}"
            registry.plugins.append(replace(plugin, problem=" ".join(told.split())))
            continue
        kinds = [kind for kind, _, _ in found]
        counts = tuple((kind, kinds.count(kind)) for kind in dict.fromkeys(kinds))
        registry.plugins.append(replace(plugin, path=str(getattr(module, "__file__", "")), components=counts))
        for kind, name, item in found:
            owners.setdefault((kind, name), []).append(point.value)
            registry.of_kind(kind)[name] = item
    for (kind, name), modules in owners.items():
        if len(modules) > 1:
            del registry.of_kind(kind)[name]
            registry.disabled[kind, name] = (
                f"{kind} {name!r} is defined twice, by {' and by '.join(modules)}; remove one"
            )
    return registry


class _Faulty(Exception):
    """What a plugin's author must mend: the text names the hook or the spec, what is wrong and what would be right."""


def _chosen(points: Sequence[EntryPoint], only: Sequence[str] | None, registry: Registry) -> list[EntryPoint]:
    """Return the entry points to load; a name that fits none is noted as a plugin that does not work."""
    if only is None:
        return list(points)
    names = {point.name for point in points} | {point.value for point in points}
    for name in only:
        if name not in names:
            problem = f"XBENCH_PLUGINS names it, but no such plugin is installed{did_you_mean(name, sorted(names))}"
            registry.plugins.append(Plugin(name, name, "?", "?", problem))
    own = "xbench."
    return [point for point in points if point.name in only or point.value in only or point.value.startswith(own)]


def _hooks(module: Any) -> list[str]:
    """Return the names of a plugin's hooks; a misspelt, unmarked or wrongly written one is a mistake, never ignored."""
    known = [name for name in vars(hookspecs) if name.startswith("xbench_")]
    found = []
    for name, value in vars(module).items():
        if not name.startswith("xbench_") or not callable(value):
            continue
        if name not in known:
            hint = did_you_mean(name, known) or f"; the hooks are {', '.join(known)}"
            raise _Faulty(f"unknown hook {name!r}{hint}")
        if not hasattr(value, "xbench_impl"):
            raise _Faulty(
                f"hook {name!r} is not marked; write @hookimpl above it (from xbench.hookspecs import hookimpl)"
            )
        if taken := list(inspect.signature(value).parameters):
            raise _Faulty(f"hook {name!r} takes {', '.join(taken)}; hooks take nothing: def {name}():")
        found.append(name)
    if not found:
        raise _Faulty(f"it has no hook; define one of {', '.join(known)}")
    return found


def _components(point: EntryPoint, module: Any) -> list[tuple[str, str, Any]]:
    hooks = _hooks(module)
    # A manager of its own: the next plugin is judged without this one's mistakes.
    manager = pluggy.PluginManager("xbench")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=point.name)
    manager.check_pending()
    package = point.module.split(".")[0].removeprefix("xbench_")
    found: list[tuple[str, str, Any]] = []
    for hook in hooks:
        returned = getattr(module, hook)()
        needed = "paths" if hook == "xbench_suites" else f"{_HOOKS[hook].__name__}s"
        if not isinstance(returned, (list, tuple)):
            raise _Faulty(f"{hook} returned a {type(returned).__name__}; a list of {needed} is needed")
        if hook == "xbench_suites":
            found += [("suite", Path(path).stem, Path(path)) for path in returned]
            continue
        for spec in returned:
            if not isinstance(spec, _HOOKS[hook]):
                raise _Faulty(f"{hook} returned a {type(spec).__name__}; {_HOOKS[hook].__name__} is needed")
            if fault := _fault(spec):
                raise _Faulty(f"{hook}: {fault}")
            whole = replace(spec, package=package)
            found.append((spec.kind, whole.id, whole))
    return found


def _fault(spec: Spec) -> str:
    """Return what is wrong with a declaration and what would be right, or an empty string."""
    who = f"{spec.kind} {spec.name!r}"
    if not isinstance(spec.name, str) or not re.fullmatch(NAME, spec.name):
        return f"{spec.kind} name {spec.name!r} must be lower-case letters, digits and _, and begin with a letter"
    if not isinstance(spec.version, int) or isinstance(spec.version, bool) or spec.version < 1:
        return f"version {spec.version!r} of {who} must be a whole number from 1 on"
    if not isinstance(spec.factory, str) or not re.fullmatch(r"[\w.]+:[\w.]+", spec.factory):
        return f"factory {spec.factory!r} of {who} must be 'module:attr'"
    for name, value in spec.params.items():
        if not isinstance(value, (bool, int, float, str, type(None))):
            return f"parameter {name} of {who} is a {type(value).__name__}; a number, a text, True, False or None is needed"
    known = ", ".join(spec.params) or "none"
    if unknown := [name for name in spec.choices if name not in spec.params]:
        return f"{who} has choices for {', '.join(unknown)}; its parameters are {known}"
    if unknown := [name for name in spec.meanings if name not in spec.params]:
        return f"{who} has meanings of {', '.join(unknown)}; its parameters are {known}"
    if unknown := [name for name in spec.quick if name not in spec.params]:
        return f"{who} has quick values of {', '.join(unknown)}; its parameters are {known}"
    if isinstance(spec, ExplainerSpec) and (fault := _cost_fault(spec.cost)):
        return f"cost {spec.cost!r} of {who} {fault}"
    if isinstance(spec, MetricSpec) and (unknown := [name for name in spec.sensitive_to if name not in spec.params]):
        return f"{who} is sensitive_to {', '.join(unknown)}; its parameters are {known}"
    return ""


def _cost_fault(cost: object) -> str:
    if isinstance(cost, str):
        return "" if re.fullmatch(r"[\w.]+:[\w.]+", cost) else "must be a mapping, or 'module:attr' of a function"
    words = " and ".join(PASSES)
    if not isinstance(cost, Mapping) or set(cost) - set(PASSES):
        return f"must be a mapping of {words} to numbers"
    numbers = [value for value in cost.values() if isinstance(value, (int, float)) and value >= 0]
    return "" if len(numbers) == len(cost) else f"must give {words} as numbers from 0 on"
