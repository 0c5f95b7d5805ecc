"""``xbench run``: plan, carry out, print the tables."""

import argparse
import sys
import time

from xbench.config import make_config
from xbench.events import Event
from xbench.options import KEYS
from xbench.plugins import discover
from xbench.signals import CtrlC


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    width = max(map(len, KEYS)) + 2
    keys = "\n".join(f"  {name + '=':<{width}}{what}  ({form})" for name, (form, what) in KEYS.items())
    parser = verbs.add_parser(
        "run",
        help="run a suite: explain, score, rank",
        description="Run a suite. Running the same command again continues where it stopped. Ctrl-C finishes the slices in "
        "flight; a second one, or SIGTERM, stops at once.",
        epilog=f"keys:\n{keys}\n\nexample: xbench run suite=mnist explainer='cam/*,gradients/*' limit=100",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="suite=NAME and whatever should differ from it"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="print the tables' path and failures only")
    loudness.add_argument("-v", "--verbose", action="store_true", help="print a line for every slice")
    parser.add_argument(
        "--estimate", action="store_true", help="try a little of everything, say how long the run would take, and stop"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="write down what is to be done, for `xbench work` on many machines, and stop",
    )
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb."""
    start = time.monotonic()
    registry = discover()
    config = make_config(arguments.settings, registry)
    # Everything above answers mistakes in a fraction of a second; what follows reads data and needs pandas and NumPy.
    from xbench.api import execute, missing_fits
    from xbench.cli.progress import Progress
    from xbench.cli.tables import print_boards, say
    from xbench.leaderboard import ranked_boards, read_measured
    from xbench.plan import make_plan
    from xbench.report import draw_pictures, write_counts
    from xbench.report.html import write_report
    from xbench.report.results import read_results, unread_line
    from xbench.store import Store
    from xbench.tables import write_tables

    for plugin in registry.plugins:
        if plugin.problem:
            print(f"xbench: plugin {plugin.module!r} is skipped: {plugin.problem}", file=sys.stderr)
    plan = make_plan(config)
    store = Store(config.out)
    if not arguments.quiet:
        for note in plan.notes:
            say("{}", note)
    if arguments.estimate:
        from xbench.estimate import estimate

        say("{}", estimate(plan, store).line())
        return 0
    if arguments.plan:
        from xbench.api import prepare
        from xbench.shards import Shard, Share
        from xbench.shared import cache_mark

        prepare(plan, registry, store, cache_mark())
        shared_out = Share(plan, Shard(1, 1)).units
        say("{} units planned; xbench work {} --shard 1/N does the first of N shares", shared_out, config.out)
        return 0
    progress = Progress(plan, store, missing_fits(plan, store), quiet=arguments.quiet, verbose=arguments.verbose)
    with progress, CtrlC(progress.say) as stopping:

        def hear(event: Event) -> None:
            stopping.hear(event)
            progress.hear(event)

        outcome = execute(plan, registry, hear, stopping, store=store)
    if stopping():
        raise KeyboardInterrupt
    keys = [cell.key for cell in plan.cells]
    measured = list(read_measured([store], keys))
    boards = ranked_boards(measured)
    paths = write_tables(boards, config.out / "leaderboard", config.primary)
    folder = config.out / "leaderboard"
    results = read_results(store, keys)
    counted, lines = write_counts(results, folder)
    pictures = draw_pictures(store, results, folder, config.primary)
    if not arguments.quiet:
        print_boards(boards, config.primary)
        for line in lines:
            say("{}", line)
    for path in dict.fromkeys([*outcome.damaged, *store.damaged, *store.without_cost]):
        print(f"xbench: {path} was damaged and has been made again", file=sys.stderr)
    if told := unread_line(results):
        print(f"xbench: {told}", file=sys.stderr)
    for cell, status, reason in outcome.failures:
        print(f"xbench: {cell.label}: {status}: {reason}", file=sys.stderr)
    done = f"{outcome.computed} slices computed" if outcome.computed else "nothing new to compute"
    if outcome.failures:
        where = f"the reasons in full: records/*/*/status.json and logs/ under {config.out}"
        done = f"{outcome.computed} slices computed, {len(outcome.failures)} cells failed ({where})"
    if outcome.device_busy is not None:
        done += f", {outcome.device_busy:.0%} of the time inside network passes,"
    where = ", ".join(path.name for path in [*paths, *counted, *pictures])
    say("{} in {:.0f} s; {}/ holds {}", done, time.monotonic() - start, paths[0].parent, where)
    # Last: whatever goes wrong here, the numbers and tables are written and told.
    say("report: {}", write_report(config.out, measured=measured))
    return 1 if outcome.failures else 0
