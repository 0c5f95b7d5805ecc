"""``xbench compare``: are two explainers, or two classifiers, really different?"""

import argparse
from itertools import groupby
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "compare",
        help="say whether two explainers, or two classifiers, are really different",
        description="Compare two explainers (or two classifiers) of a run score by score, on the samples that both were "
        "measured on: the difference with its 95 % interval, a sign-flip test over patients corrected for the number of "
        "scores, and how many images it would take.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="runs' folders")
    parser.add_argument("a", metavar="A", help="a name as the tables write it")
    parser.add_argument("b", metavar="B", help="another of the same kind")
    parser.add_argument("--metric", help="only these scores, separated by commas")
    parser.set_defaults(call=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench compare``."""
    from xbench.api import run_folder
    from xbench.cli.tables import say
    from xbench.comparison import compare as compared
    from xbench.refs import split_outside_brackets
    from xbench.store import Store

    keys = [key for folder in arguments.folders for key in run_folder(folder)[0]]
    wanted = split_outside_brackets(arguments.metric) if arguments.metric else None
    stores = [Store(folder) for folder in arguments.folders]
    found = compared(stores, arguments.a, arguments.b, wanted, keys)
    for (board, place), rows in groupby(found, key=lambda one: (one.board, one.place)):
        say("{}, {}", board, place or "the classifiers alone")
        for one in rows:
            sign = {True: "more is better", False: "less is better", None: "describes"}[one.higher_is_better]
            say("  {}: {:.3f} and {:.3f} ({})", one.metric, one.mean_a, one.mean_b, sign)
            say("    {}", one.sentence(arguments.a, arguments.b))
    return 0
