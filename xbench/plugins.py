"""Discovery of components by entry points; a broken plugin is recorded, named and skipped, never fatal."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from xbench import hookspecs
from xbench.specs import NAME, DatasetSpec, ExecutorSpec, ExplainerSpec, MetricSpec, ModelSpec, Spec

GROUP = "xbench"
_HOOKS: dict[str, type[Spec]] = {
    "xbench_explainers": ExplainerSpec,
    "xbench_models": ModelSpec,
    "xbench_datasets": DatasetSpec,
    "xbench_metrics": MetricSpec,
    "xbench_executors": ExecutorSpec,
}


@dataclass(frozen=True)
class Plugin:
    """One entry point: what it is called, where it comes from, and why it does not work, if so."""

    name: str
    module: str
    distribution: str
    version: str
    problem: str = ""


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


def discover(points: Iterable[EntryPoint] | None = None) -> Registry:
    """Load every entry point of group ``xbench`` and collect what its hooks return."""
    registry = Registry()
    owners: dict[tuple[str, str], list[str]] = {}
    for point in sorted(entry_points(group=GROUP) if points is None else points, key=lambda p: (p.value, p.name)):
        plugin = Plugin(
            point.name,
            point.value,
            point.dist.name if point.dist else "?",
            point.dist.version if point.dist else "?",
        )
        try:
            found = _components(point)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            registry.plugins.append(replace(plugin, problem=f"{type(error).__name__}: {error}"))
            continue
        registry.plugins.append(plugin)
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


def _components(point: EntryPoint) -> list[tuple[str, str, Any]]:
    module = point.load()
    # A manager of its own: the next plugin is judged without this one's mistakes.
    manager = pluggy.PluginManager("xbench")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=point.name)
    hooks = [
        name for name in vars(module) if name.startswith("xbench_") and hasattr(getattr(module, name), "xbench_impl")
    ]
    manager.check_pending()
    package = point.module.split(".")[0].removeprefix("xbench_")
    found: list[tuple[str, str, Any]] = []
    for hook in hooks:
        returned = getattr(module, hook)()
        if hook == "xbench_suites":
            found += [("suite", Path(path).stem, Path(path)) for path in returned]
            continue
        for spec in returned:
            if not isinstance(spec, _HOOKS[hook]):
                raise TypeError(f"{hook} returned a {type(spec).__name__}; {_HOOKS[hook].__name__} is needed")
            if not re.fullmatch(NAME, spec.name):
                raise ValueError(f"{spec.kind} name {spec.name!r} must be lower-case letters, digits and _")
            if ":" not in spec.factory:
                raise ValueError(f"factory {spec.factory!r} of {spec.kind} {spec.name!r} must be 'module:attr'")
            if isinstance(spec, MetricSpec) and (
                unknown := [name for name in spec.sensitive_to if name not in spec.params]
            ):
                raise ValueError(
                    f"metric {spec.name!r} is sensitive_to {', '.join(unknown)}; its parameters are "
                    f"{', '.join(spec.params) or 'none'}"
                )
            whole = replace(spec, package=package)
            found.append((spec.kind, whole.id, whole))
    return found
