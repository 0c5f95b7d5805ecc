"""``xbench ranks``: mean ranks of the explainers, and which of them the data cannot tell apart."""

import argparse
from pathlib import Path

from xbench.errors import XbenchError

_SUFFIXES = (".svg", ".pdf", ".png")


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "ranks",
        help="print mean ranks, and which explainers cannot be told apart",
        description="Rank the explainers, controls included, on every patient (or image) by one score: their mean ranks, "
        "Friedman's test, and Nemenyi's critical difference of two mean ranks.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="runs' folders")
    parser.add_argument("--metric", default="", help="the score to rank by; default the one that orders the tables")
    parser.add_argument(
        "--explainer", default="", metavar="PATTERNS", help="only these, separated by commas: 'cam/*,gradients/*'"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="also draw a critical-difference diagram (svg, pdf, png)"
    )
    parser.set_defaults(call=ranks)


def ranks(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench ranks``."""
    from xbench.cli.tables import refuse_damaged, say, simple_table
    from xbench.friedman import letters
    from xbench.manifest import run_folder
    from xbench.mean_ranks import ranks as ranked
    from xbench.refs import split_outside_brackets
    from xbench.store import Store

    if arguments.to is not None and arguments.to.suffix.lower() not in _SUFFIXES:
        raise XbenchError(f"cannot draw {arguments.to}: its name must end in one of {', '.join(_SUFFIXES)}")
    runs = [run_folder(folder) for folder in arguments.folders]
    keys = [key for own, _, _ in runs for key in own]
    only = split_outside_brackets(arguments.explainer) if arguments.explainer else ()
    stores = [Store(folder) for folder in arguments.folders]
    refuse_damaged(stores)
    found, reasons = ranked(stores, arguments.metric, keys, runs[0][1], only)
    for each in found:
        say("{}, {}", each.board, each.model)
        say("ranks by {} ({} is better), 1 is best", each.metric, "more" if each.higher_is_better else "less")
        shown = zip(each.test.mean_ranks, each.names, each.controls, letters(each.test), strict=True)
        rows = [[f"{rank:.2f}", name + " †" * control, alike] for rank, name, control, alike in shown]
        simple_table(["mean rank", "explainer", "alike"], rows)
        for line in each.sentences():
            say("{}", line)
    for line in reasons:
        say("{}", line)
    if any(any(each.controls) for each in found):
        say("† control: a method that does not beat these shows nothing")
    if arguments.to is not None:
        from xbench.report.critical import draw_critical

        draw_critical(found, arguments.to)
        say("wrote {}", arguments.to)
    return 0
