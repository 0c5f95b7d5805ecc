"""`key=value` arguments and a suite file become one typed RunConfig; every mistake is reported, all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbench.components import Component, expand, resolve
from xbench.errors import XbenchError, did_you_mean
from xbench.names import full_ids
from xbench.options import KEYS, LISTS, Options, parse_options
from xbench.plugins import Registry
from xbench.refs import convert_scalar, parse_ref, split_outside_brackets, typed_params
from xbench.specs import MetricSpec, Param
from xbench.suite_files import PROTOCOL_KEYS, key_faults, read_suite


@dataclass(frozen=True)
class RunConfig:
    """All that defines a run, resolved and checked."""

    suite: str
    suite_version: int
    title: str
    protocol: str
    data: Component
    data_root: Path | None
    models: tuple[Component, ...]
    explainers: tuple[Component, ...]
    metrics: tuple[Component, ...]
    primary: str
    target: str
    seeds: tuple[int, ...]
    limit: int | None
    batch: int | None
    device: str
    workers: int | None
    threads: int | None
    executor: str
    budget: float
    silence: float
    out: Path
    notes: tuple[str, ...] = ()
    executor_params: dict[str, Param] = field(default_factory=dict)


def make_config(arguments: Sequence[str], registry: Registry) -> RunConfig:
    """Return the run that arguments and suite describe. Raises XbenchError with a line for every mistake."""
    options, mistakes = parse_options(arguments)
    suite, text = _suite(options, registry, arguments, mistakes)
    settings = _merge(options, suite, text, mistakes)

    home = _home(settings)
    data, root = _data(settings, options, registry, mistakes, home)
    found: dict[str, tuple[Component, ...]] = {}
    for kind, name in LISTS.items():
        given = settings.get(name) or []
        named = bool(getattr(options, kind))
        if suite or named:
            found[kind] = expand(kind, given, registry, mistakes, home)
    if options.executor not in registry.executors:
        hint = did_you_mean(options.executor, registry.executors) or f"; one of {', '.join(registry.executors)}"
        mistakes.append(f"executor {options.executor!r} is not installed{hint} (xbench list executors)")
    executor_params = _executor_params(options, registry, mistakes)
    if data is None and not mistakes:
        mistakes.append("no data set is given; data=package/name names one (xbench list datasets)")
    if mistakes:
        raise XbenchError(*dict.fromkeys(mistakes))
    assert options.suite is not None
    assert data is not None
    metrics = found["metric"]
    primary = str(settings.get("primary") or "")
    names = score_names(metrics)
    return RunConfig(
        suite=options.suite,
        suite_version=int(suite["version"]),
        title=str(suite.get("title", options.suite)),
        protocol=options.protocol,
        data=data,
        data_root=root,
        models=found["model"],
        explainers=found["explainer"],
        metrics=metrics,
        primary=primary if primary in names else next(iter(names), ""),
        target=str(settings.get("target", "predicted")),
        seeds=tuple(dict.fromkeys(settings["seed"])),
        limit=settings.get("limit"),
        batch=options.batch,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        executor=options.executor,
        budget=options.budget,
        silence=options.silence,
        out=Path(options.out or f"runs/{options.suite}"),
        notes=tuple(map(str, settings.get("notes") or ())),
        executor_params=executor_params,
    )


def score_names(metrics: Sequence[Component]) -> list[str]:
    """Return the names of the explainer-level scores that metrics give, in order."""
    return [
        name
        for metric in metrics
        if isinstance(metric.spec, MetricSpec) and metric.spec.level == "explainer"
        for name, _ in metric.scores()
    ]


def _suite(
    options: Options, registry: Registry, arguments: Sequence[str], mistakes: list[str]
) -> tuple[dict[str, Any], str]:
    if options.suite is None:
        # A misspelt "suite" has been reported as an unknown key already; saying it is missing too would only add noise.
        if not any(" 'suite'?" in line for line in mistakes):
            mistakes.append(
                f"no suite is given; for example suite={next(iter(registry.suites), 'mnist')} (xbench list suites)"
            )
        return {}, ""
    if options.suite not in registry.suites:
        reason = registry.disabled.get(("suite", options.suite))
        hint = did_you_mean(options.suite, registry.suites) or f"; one of {', '.join(registry.suites)}"
        mistakes.append(reason or f"suite {options.suite!r} is not installed{hint} (xbench list suites)")
        return {}, ""
    path = registry.suites[options.suite]
    suite = read_suite(path)
    mistakes += key_faults(path, suite)
    protocols = suite.get("protocols") or {}
    if options.protocol not in protocols:
        hint = did_you_mean(options.protocol, protocols) or f"; it has {', '.join(protocols)}"
        mistakes.append(f"suite {options.suite!r} has no protocol {options.protocol!r}{hint}")
    return suite, str(path)


def _merge(options: Options, suite: Mapping[str, Any], path: str, mistakes: list[str]) -> dict[str, Any]:
    """Return the suite's settings, then its protocol's, then the user's."""
    settings = {key: suite[key] for key in PROTOCOL_KEYS & suite.keys()}
    settings.update((suite.get("protocols") or {}).get(options.protocol) or {})
    for kind, name in LISTS.items():
        if getattr(options, kind):
            settings[name] = getattr(options, kind)
        elif isinstance(settings.get(name), str):
            settings[name] = split_outside_brackets(settings[name])
    for key in ("target", "seed", "limit"):
        if getattr(options, key) is not None:
            settings[key] = getattr(options, key)
    if options.no_limit:
        settings["limit"] = None
    try:
        if settings.get("limit") is not None:
            settings["limit"] = max(1, int(str(convert_scalar(settings["limit"], int, ""))))
        seeds = settings.get("seed", [0])
        seeds = seeds if isinstance(seeds, list) else [seeds]
        settings["seed"] = [int(str(convert_scalar(seed, int, ""))) for seed in seeds]
    except ValueError as error:
        mistakes.append(f"{path}: {error}")
    return settings


def _home(settings: Mapping[str, Any]) -> str:
    """Return the package of a suite's own data set, in which names that are written short are looked for first."""
    given = settings.get("data") or ""
    return str(given.get("id") if isinstance(given, dict) else given).partition("/")[0]


def _data(
    settings: Mapping[str, Any], options: Options, registry: Registry, mistakes: list[str], home: str
) -> tuple[Component | None, Path | None]:
    given = settings.get("data") or {}
    given = dict(given) if isinstance(given, dict) else {"id": given}
    text, params = given.pop("id", None), given
    if options.data is not None:
        # Another data set has other parameters: the suite's stay behind unless it is the same one again.
        named = _id_of(options.data)
        if named is None or text not in (named, *full_ids("dataset", named, registry, home)):
            params = {}
        text = options.data
    if text is None:
        if settings.get("data"):
            mistakes.append("the suite's data has no id; for example data: {id: package/name}")
        return None, None
    extra = {**params, **options.data_params}
    root = extra.pop("root", None)
    data = resolve("dataset", str(text), registry, mistakes, home=home)
    if data is None:
        return None, None
    resolved, faults = typed_params(data.spec, [*data.params.items(), *extra.items()])
    mistakes += faults
    return Component(data.spec, resolved), Path(str(root)).expanduser() if root is not None else None


def _executor_params(options: Options, registry: Registry, mistakes: list[str]) -> dict[str, Param]:
    """Return the parameters of the run's executor, written ``EXECUTOR.NAME=VALUE``."""
    given = []
    for key, value in options.executor_params.items():
        owner, _, name = key.partition(".")
        if owner == options.executor:
            given.append((name, value))
        elif owner in registry.executors:
            mistakes.append(f"{key} is a parameter of executor={owner}, and this run has executor={options.executor}")
        else:
            hint = did_you_mean(key, [*KEYS, "data.root"]) or f"; the keys are {', '.join(KEYS)}"
            mistakes.append(f"unknown key {key!r}{hint}")
    spec = registry.executors.get(options.executor)
    params, faults = typed_params(spec, given) if spec else ({}, [])
    mistakes += faults
    return params


def _id_of(text: str) -> str | None:
    """Return the id of a written component, or None where it is not well-formed."""
    try:
        return parse_ref(text).id
    except ValueError:
        return None
