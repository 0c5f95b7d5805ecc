"""``xbench show``: all there is to know of one component or suite."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xbench.errors import XbenchError, did_you_mean
from xbench.names import full_ids, several
from xbench.plugins import Registry, discover
from xbench.refs import matching, parse_ref
from xbench.specs import MetricSpec, Spec
from xbench.user_code import is_own, own_kind, own_spec

if TYPE_CHECKING:
    from rich.text import Text

_KINDS = ("explainer", "model", "dataset", "metric", "suite", "executor")

_MERGED = 120
"""Below this width of the terminal a parameter's values stand in place of its type."""

_NARROW, _WIDE = 22, 34
"""Characters that a column keeps in a narrow terminal, and the last one, which has the longest texts."""


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "show",
        help="show what a component or a suite is",
        description="Show what a component or a suite is: what it needs and gives, its parameters and what each is, where it "
        "comes from, and its rows in a leaderboard.",
    )
    parser.add_argument(
        "id",
        metavar="ID",
        help="an explainer, model, dataset, metric, suite or executor: cam/gradcam, deletion, python:FILE.FUNCTION",
    )
    parser.add_argument(
        "--leaderboard",
        type=Path,
        metavar="DIR",
        help="the tables to look in, DIR/SUITE/table.json; default ./leaderboard",
    )
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb."""
    from xbench.cli.placings import read_rows

    registry = discover()
    rows, folder = read_rows(arguments.leaderboard), arguments.leaderboard or Path("leaderboard")
    if is_own(arguments.id):
        _show(registry, _own(arguments.id), rows, folder)
        return 0
    wanted = arguments.id
    kinds = [kind for kind in _KINDS if wanted in registry.of_kind(kind)]
    if not kinds:
        names = list(dict.fromkeys(name for kind in _KINDS for name in full_ids(kind, wanted, registry)))
        if len(names) != 1:
            raise XbenchError(several("component", wanted, names) if names else _absent(registry, wanted))
        (wanted,) = names
        kinds = [kind for kind in _KINDS if wanted in registry.of_kind(kind)]
    for place, kind in enumerate(kinds):
        if place:
            print()
        if kind == "suite":
            _show_suite(registry, wanted)
        else:
            _show(registry, registry.of_kind(kind)[wanted], rows, folder)
    return 0


def _own(text: str) -> Spec:
    try:
        ref = parse_ref(text)
    except ValueError as error:
        raise XbenchError(str(error)) from error
    return own_spec(own_kind(ref.id), ref.id, ref.params)


def _show(registry: Registry, spec: Spec, rows: Sequence[dict[str, object]], folder: Path) -> None:
    from xbench.cli import described
    from xbench.cli.examples import example
    from xbench.cli.placings import placings
    from xbench.cli.tables import console

    _facts(f"{spec.kind} {spec.id}", spec.summary, described.facts(registry, spec))
    if isinstance(spec, MetricSpec):
        _section("scores", ["score", "better", "range", "chance", "of samples"], described.scores(spec))
    lines = described.parameters(spec)
    if console().width < _MERGED:
        merged = [[name, choices or kind, default, meaning] for name, kind, default, choices, meaning in lines]
        _section("parameters", ["name", "type or values", "default", "what it is"], merged)
    else:
        _section("parameters", ["name", "type", "default", "values", "what it is"], lines)
    if any(line[0].endswith("*") for line in lines):
        _line("* the order of explainers depends on it; the other parameters move scores little")
    _section(f"in {folder}", *placings(registry, spec, rows))
    _try(example(registry, spec))


def _show_suite(registry: Registry, name: str) -> None:
    from xbench.cli.described import suite_facts
    from xbench.suite_files import read_suite

    _facts(f"suite {name}", str(read_suite(registry.suites[name]).get("title", "")), suite_facts(registry, name))
    _try(f"xbench run suite={name}")


def _facts(title: str, summary: str, facts: Sequence[tuple[str, str]]) -> None:
    from rich.table import Table

    from xbench.cli.tables import console

    out = console()
    out.print(_text(title, "bold"))
    if summary:
        out.print(_text(summary))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(_text(label), _text(text))
    out.print(table)


def _section(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines under a header, without the columns that are empty; nothing where there are no lines."""
    from rich.table import Table

    from xbench.cli.tables import console

    if not lines:
        return
    out = console()
    out.print()
    out.print(_text(title, "bold"))
    kept = [place for place in range(len(header)) if any(line[place] for line in lines)]
    columns = [[header[place], *(line[place] for line in lines)] for place in kept]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for cells, width in zip(columns, _widths(columns, out.width - 2 * (len(kept) - 1)), strict=True):
        table.add_column(_text(cells[0]), overflow="fold", width=width)
    for line in lines:
        table.add_row(*(_text(line[place]) for place in kept))
    out.print(table)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return widths that fit into the room: the widest columns give way first, the first one and short words last.

    Rich, left alone, keeps to no column's least width and cuts the last one off.
    """
    widths = [min(room, max(len(line) for cell in cells for line in cell.split("\n"))) for cells in columns]
    least = [
        min(width, _WIDE if place == len(columns) - 1 else _NARROW) if place else width
        for place, width in enumerate(widths)
    ]
    while sum(widths) > max(room, len(widths)):
        over = [place for place, width in enumerate(widths) if width > least[place]]
        over = over or [place for place, width in enumerate(widths) if width > 1 and (place or max(widths[1:]) == 1)]
        widths[max(over, key=widths.__getitem__)] -= 1
    return widths


def _try(command: str) -> None:
    if command:
        _line("")
        _line(command)


def _line(text: str) -> None:
    """Print a line that a terminal wraps but nothing else does, so that a command can be copied."""
    from xbench.cli.tables import console

    console().print(_text(text), soft_wrap=True)


def _text(text: str, style: str = "") -> "Text":
    """Return text as it is: no markup, and no control character reaches the terminal."""
    from rich.text import Text

    return Text("".join(char if char.isprintable() or char == "\n" else "�" for char in str(text)), style=style)


def _absent(registry: Registry, name: str) -> str:
    for kind in _KINDS:
        if reason := registry.disabled.get((kind, name)):
            return reason
    known = [each for kind in _KINDS for each in registry.of_kind(kind)]
    if "*" in name or "?" in name:
        hits = [(kind, each) for kind in _KINDS for each in matching(name, registry.of_kind(kind))]
        kind, near = hits[0] if hits else ("explainer", "")
        hint = f"; did you mean {near!r}? (xbench list {kind}s {name!r})" if near else ", which matches nothing"
        return f"show takes one id, not the pattern {name!r}{hint}"
    bare = name.partition("[")[0].partition("@")[0]
    if bare in known:
        return f"show takes a bare id, without parameters; did you mean {bare!r}?"
    if metric := next((m.id for m in registry.metrics.values() if name in [score.name for score in m.scores]), ""):
        return f"{name!r} is a score of the metric {metric!r}; did you mean {metric!r}?"
    hint = (
        did_you_mean(name, known)
        or "; xbench list explainers|models|datasets|metrics|suites|executors lists what there is"
    )
    return f"nothing that is installed is called {name!r}{hint}"
