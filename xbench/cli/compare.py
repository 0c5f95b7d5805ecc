"""``xbench compare`` and ``xbench trust``: are two explainers really different, and which metric is to be believed?"""

import argparse
from itertools import groupby
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
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
    parser = verbs.add_parser(
        "trust",
        help="say which metric to believe: whose order of the explainers is the truth's",
        description="Compare the order in which each metric puts the explainers with the order by a metric that knows the "
        "truth, and with each other's.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="runs' folders")
    parser.add_argument(
        "--truth", metavar="METRIC", default="", help="the score that knows the truth; default one of localisation"
    )
    parser.set_defaults(call=trust)


def compare(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench compare``."""
    from xbench.cli.tables import refuse_damaged, say
    from xbench.comparison import compare as compared
    from xbench.manifest import run_folder
    from xbench.refs import split_outside_brackets
    from xbench.store import Store

    keys = [key for folder in arguments.folders for key in run_folder(folder)[0]]
    wanted = split_outside_brackets(arguments.metric) if arguments.metric else None
    stores = [Store(folder) for folder in arguments.folders]
    refuse_damaged(stores)
    found = compared(stores, arguments.a, arguments.b, wanted, keys)
    for (board, place), rows in groupby(found, key=lambda one: (one.board, one.place)):
        say("{}, {}", board, place or "the classifiers alone")
        for one in rows:
            sign = {True: "more is better", False: "less is better", None: "describes"}[one.higher_is_better]
            say("  {}: {:.3f} and {:.3f} ({})", one.metric, one.mean_a, one.mean_b, sign)
            say("    {}", one.sentence(arguments.a, arguments.b))
    return 0


def trust(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench trust``."""
    from xbench.cli.tables import refuse_damaged, say, simple_table
    from xbench.manifest import run_folder
    from xbench.store import Store
    from xbench.trust import trust as trusted

    runs = [run_folder(folder) for folder in arguments.folders]
    keys = [key for own, _, _ in runs for key in own]
    stores = [Store(folder) for folder in arguments.folders]
    refuse_damaged(stores)
    found = trusted(stores, arguments.truth, keys, runs[0][1])
    for each in found:
        say("{}, {}", each.board, each.model)
        say("agreement with {} (Spearman's rho over explainers, controls left out)", each.truth)
        rows = [
            [pair.one, _signed(pair.rho), f"[{_signed(pair.low)}, {_signed(pair.high)}]", str(pair.explainers)]
            for pair in each.with_truth
        ]
        simple_table(["score", "rho", "95 %", "explainers"], rows)
        if each.between:
            names = list(dict.fromkeys(name for pair in each.between for name in (pair.one, pair.other)))
            value = {frozenset((pair.one, pair.other)): pair.rho for pair in each.between}
            say("agreement between the others")
            body = [
                [
                    name,
                    *(
                        _signed(value.get(frozenset((name, other)), float("nan"))) if name != other else ""
                        for other in names
                    ),
                ]
                for name in names
            ]
            simple_table(["", *names], body)
    return 0


def _signed(value: float) -> str:
    return "" if value != value else f"{value:+.2f}"
