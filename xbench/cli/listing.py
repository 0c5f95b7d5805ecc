"""``xbench list``: what is installed."""

import argparse
from collections.abc import Sequence

from xbench.errors import XbenchError, did_you_mean
from xbench.names import full_ids
from xbench.plugins import Registry, discover
from xbench.refs import matching
from xbench.specs import MetricSpec, Spec

_KINDS = ("explainers", "models", "datasets", "metrics", "suites", "executors", "plugins")

_ROOM = 60


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser("list", help="list what is installed", description="List what is installed.")
    parser.add_argument("kind", nargs="?", choices=_KINDS, type=_plural, help="without it, how many there are of each")
    parser.add_argument(
        "pattern", nargs="?", default="*", help="ids to show; * and ? match, the last part alone is enough"
    )
    parser.set_defaults(call=run)


def _plural(kind: str) -> str:
    return f"{kind}s" if f"{kind}s" in _KINDS else kind


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb."""
    from xbench.cli.tables import simple_table

    registry = discover()
    if arguments.kind is None:
        counts = [[kind, str(len(getattr(registry, kind))), f"xbench list {kind}"] for kind in _KINDS]
        simple_table(["", "installed", "which"], counts)
        return 0
    if arguments.kind == "plugins":
        names = matching(arguments.pattern, {p.name: p for p in registry.plugins})
        rows = [
            [p.name, p.module, f"{p.distribution} {p.version}", p.problem or _counted(p.components), p.path]
            for p in registry.plugins
            if p.name in names
        ]
        simple_table(["name", "module", "distribution", "components, or why it does not work", "file"], rows)
        for reason in registry.disabled.values():
            print(f"disabled: {reason}")
        return 0
    kind = arguments.kind.removesuffix("s") if arguments.kind != "metrics" else "metric"
    found = registry.of_kind(kind)
    names = matching(arguments.pattern, found) or full_ids(kind, arguments.pattern, registry)
    if not names and arguments.pattern != "*":
        hint = did_you_mean(arguments.pattern, found)
        raise XbenchError(f"no {kind} matches {arguments.pattern!r}{hint} (xbench list {arguments.kind})")
    if kind == "suite":
        simple_table(["suite", "title", "explainers", "file"], [_suite_row(registry, name) for name in names])
    elif kind == "metric":
        header = ["metric", "family", "score", "better", "range", "chance", "parameters", ""]
        simple_table(header, [row for name in names for row in _metric_rows(found[name])])
        if any(found[name].sensitive_to for name in names):
            print("* the order of explainers depends on it; the other parameters move scores little")
    else:
        simple_table([kind, "parameters", ""], [[name, _params(found[name]), found[name].summary] for name in names])
    for (of_kind, _), reason in registry.disabled.items():
        if of_kind == kind:
            print(f"disabled: {reason}")
    return 0


def _counted(components: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in components) or "none"


def _params(spec: Spec) -> str:
    """Return the parameters with their defaults, as many as a line has room for; ``xbench show`` has them all."""
    marked = spec.sensitive_to if isinstance(spec, MetricSpec) else ()
    parts = [
        f"{name}{'*' * (name in marked)}={'none' if value is None else value}" for name, value in spec.params.items()
    ]
    room = [part for place, part in enumerate(parts) if len(", ".join(parts[: place + 1])) <= _ROOM]
    return ", ".join(room + ["..."] * (len(room) < len(parts)))


def _metric_rows(spec: Spec) -> list[list[str]]:
    """Return a line a score; what is true of the whole metric stands in the first."""
    assert isinstance(spec, MetricSpec)
    rows: list[list[str]] = []
    for score in spec.scores:
        low, high = (f"{end:g}" for end in score.bounds)
        better = {True: "more", False: "less", None: ""}[score.higher_is_better]
        known = isinstance(score.chance, (int, float))
        chance = f"{score.chance:g}" if known else "by sample" if score.chance else ""
        whole = ["", ""] if rows else [spec.name, spec.family]
        tail = ["", ""] if rows else [_params(spec), spec.summary]
        rows.append([*whole, score.name, better, f"{low}..{high}", chance, *tail])
    return rows


def _suite_row(registry: Registry, name: str) -> list[str]:
    from xbench.suite_files import read_suite

    path = registry.suites[name]
    suite = read_suite(path)
    return [name, str(suite.get("title", "")), ", ".join(map(str, suite.get("explainers", []))), str(path)]
