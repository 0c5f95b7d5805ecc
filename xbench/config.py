"""`key=value` arguments and a suite file become one typed RunConfig; every mistake is reported, all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xbench.components import Component, expand, resolve
from xbench.errors import XbenchError, did_you_mean
from xbench.forms import Form, misfit
from xbench.names import full_ids
from xbench.plugins import Registry
from xbench.reading import clip, read_text
from xbench.refs import convert_scalar, parse_ref, split_outside_brackets, typed_params
from xbench.specs import MetricSpec, Param

_TARGETS = ("predicted", "label", "annotated")
_LISTS = {"model": "models", "explainer": "explainers", "metric": "metrics"}
_SUITE_KEYS = {
    "suite", "version", "title", "data", "target", "models", "explainers", "metrics", "primary", "seed", "limit", "notes",
    "protocols",
}  # fmt: skip
_MOST_OF_A_MACHINE = 1024
_EXAMPLES = {"workers": "2 or workers=auto", "threads": 2}
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
_PROTOCOL_KEYS = _SUITE_KEYS - {"suite", "version", "title", "protocols"}


@dataclass
class Options:
    """What a user may write as ``key=value``; None means: as the suite says."""

    suite: str | None = None
    protocol: str = "quick"
    data: str | None = None
    data_params: dict[str, str] = field(default_factory=dict)
    model: list[str] | None = None
    explainer: list[str] | None = None
    metric: list[str] | None = None
    target: str | None = None
    seed: list[int] | None = None
    limit: int | None = None
    no_limit: bool = False
    batch: int | None = None
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
    executor: str = "local"
    executor_params: dict[str, str] = field(default_factory=dict)
    budget: float = 600.0
    silence: float = 300.0
    out: str | None = None


KEYS = {
    "suite": ("NAME", "which suite to run (xbench list suites)"),
    "protocol": ("quick|paper", "the suite's settings: minutes on two cores, or the papers' own"),
    "data": (
        "ID",
        "another data set, its last part is enough; data.NAME=VALUE sets its parameters, data.root=PATH where real files lie",
    ),
    "model": (
        "ID,...",
        "classifiers; * and ? match, [name=value] sets parameters, @N takes epoch N's weights; python:FILE.FUNCTION your own",
    ),
    "explainer": (
        "ID,...",
        "explanation methods, written likewise: 'cam/*,gradients/smoothgrad[n=20],python:mine.explain'",
    ),
    "metric": ("NAME,...", "metrics: 'deletion,insertion[fill=zero]'"),
    "target": ("predicted|label|annotated|CLASS", "the class whose score is explained"),
    "seed": ("N,...", "training and noise seeds; a row pools them"),
    "limit": ("N|none", "how many test samples to score"),
    "batch": ("N", "images in a forward pass; never changes a result"),
    "device": ("auto|cpu|cuda[:i]", "where to compute; auto takes CUDA when there is one"),
    "workers": ("auto|N", "processes; auto: one a GPU, or on the CPU up to four that share the cores"),
    "threads": ("N", "CPU threads of a worker while it explains and scores; its share of the cores unless given"),
    "executor": (
        "local|inline|...",
        "what carries the work (xbench list executors); EXECUTOR.NAME=VALUE sets its parameters (xbench show EXECUTOR)",
    ),
    "budget": ("SECONDS", "the longest an explainer may take for one slice of samples"),
    "silence": (
        "SECONDS",
        "how long a worker may give no sign of life (stopped, or in a call that lets no Python run); 300 unless given",
    ),
    "out": ("DIR", "where records and tables go; default runs/SUITE"),
}

HOW = ("device", "workers", "threads", "batch", "budget", "silence", "executor")
"""The keys that say how a run is carried out, and change no number."""


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


def parse_options(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Read ``key=value`` arguments; return what could be read and a line for every mistake."""
    options, mistakes, seen = Options(), [], set()
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not key or not value:
            mistakes.append(f"{argument!r} is not written key=value, for example suite=chestxray")
            continue
        if key in seen:
            mistakes.append(f"{key!r} is given twice; say it once, with commas between several values")
            continue
        seen.add(key)
        if key.startswith("data.") and len(key) > 5:
            options.data_params[key[5:]] = value
        elif all(key.partition(".")):
            options.executor_params[key] = value
        elif key not in KEYS:
            hint = did_you_mean(key, KEYS) or f"; the keys are {', '.join(KEYS)}"
            mistakes.append(f"unknown key {key!r}{hint}")
        else:
            try:
                _set(options, key, value)
            except ValueError as error:
                mistakes.append(f"{key}={value}: {error}")
    return options, mistakes


def make_config(arguments: Sequence[str], registry: Registry) -> RunConfig:
    """Return the run that arguments and suite describe. Raises XbenchError with a line for every mistake."""
    options, mistakes = parse_options(arguments)
    suite, text = _suite(options, registry, arguments, mistakes)
    settings = _merge(options, suite, text, mistakes)

    home = _home(settings)
    data, root = _data(settings, options, registry, mistakes, home)
    found: dict[str, tuple[Component, ...]] = {}
    for kind, name in _LISTS.items():
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML mapping (safe loader). Raises XbenchError naming file and fault."""
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


def _set(options: Options, key: str, value: str) -> None:
    if key == "limit" and value.lower() in ("none", "null", "all"):
        options.no_limit = True
    elif key == "workers" and value == "auto":
        options.workers = None
    elif key in ("limit", "batch", "workers", "threads"):
        number = convert_scalar(value, int, f", for example {key}={_EXAMPLES.get(key, 200)}")
        assert isinstance(number, int)
        if number < 1:
            raise ValueError("must be 1 or more")
        if key in ("workers", "threads") and number > _MOST_OF_A_MACHINE:
            raise ValueError(f"must be {_MOST_OF_A_MACHINE} or fewer")
        setattr(options, key, number)
    elif key in ("budget", "silence"):
        seconds = convert_scalar(value, float, f", for example {key}=600")
        assert isinstance(seconds, float)
        if seconds <= 0:
            raise ValueError("must be more than 0 seconds")
        if key == "silence" and seconds < 2:
            raise ValueError("must be 2 seconds or more: a worker speaks a few times in that time")
        setattr(options, key, seconds)
    elif key == "seed":
        options.seed = [int(str(convert_scalar(part, int, ", for example seed=0,1"))) for part in value.split(",")]
    elif key == "device":
        kind, _, number = value.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
            raise ValueError("a device is auto, cpu, cuda or cuda:0")
        options.device = value
    elif key in _LISTS:
        setattr(options, key, split_outside_brackets(value))
    else:
        setattr(options, key, value)


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
    suite = read_yaml(path)
    for key in suite.keys() - _SUITE_KEYS:
        mistakes.append(f"{path}: unknown key {key!r}{did_you_mean(str(key), _SUITE_KEYS)}")
    for key in ("version", "data", "models", "explainers", "metrics", "protocols"):
        if not suite.get(key):
            mistakes.append(f"{path}: the key {key!r} is missing or empty")
    protocols = suite.get("protocols") or {}
    for name, changes in protocols.items():
        for key in (changes or {}).keys() - _PROTOCOL_KEYS:
            mistakes.append(
                f"{path}: protocol {name!r} has an unknown key {key!r}{did_you_mean(str(key), _PROTOCOL_KEYS)}"
            )
    if options.protocol not in protocols:
        hint = did_you_mean(options.protocol, protocols) or f"; it has {', '.join(protocols)}"
        mistakes.append(f"suite {options.suite!r} has no protocol {options.protocol!r}{hint}")
    return suite, str(path)


def _merge(options: Options, suite: Mapping[str, Any], path: str, mistakes: list[str]) -> dict[str, Any]:
    """Return the suite's settings, then its protocol's, then the user's."""
    settings = {key: suite[key] for key in _PROTOCOL_KEYS & suite.keys()}
    settings.update((suite.get("protocols") or {}).get(options.protocol) or {})
    for kind, name in _LISTS.items():
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
        named = parse_ref_or_none(options.data)
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


def parse_ref_or_none(text: str) -> str | None:
    """Return the id of a written component, or None where it is not well-formed."""
    try:
        return parse_ref(text).id
    except ValueError:
        return None
