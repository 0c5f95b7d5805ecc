"""``xbench work``: one share of a run that has been planned, for an array of jobs without an engine."""

import argparse
import sys
import time
from pathlib import Path

from xbench.events import Event
from xbench.options import HOW
from xbench.plugins import discover
from xbench.signals import CtrlC


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "work",
        help="do one share of a run that was planned",
        description="Do one share of a run that `xbench run ... --plan` wrote down. Shares may work at the same time, on "
        "machines that see the same DIR, XBENCH_CACHE and data; the same command again goes on. At the end `xbench run ...` "
        "does what is missing and writes the tables.",
        epilog="example: xbench work runs/mnist --shard 2/8 device=cuda",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run's folder")
    # argparse gives no positional argument what comes after an option: the option takes it.
    words = ("I/N", "key=value")
    parser.add_argument("--shard", required=True, nargs="+", metavar=words, help="which share of how many, from 1")
    parser.add_argument("settings", nargs="*", metavar="key=value", help=f"how: {', '.join(HOW)}")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="print failures and the last line only")
    loudness.add_argument("-v", "--verbose", action="store_true", help="print a line for every slice")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb; exit code 0 where all of the share is done, 1 where cells of it failed."""
    start = time.monotonic()
    from xbench.api import execute, missing_fits
    from xbench.cli.progress import Progress
    from xbench.shards import open_share, parse_shard

    registry = discover()
    shard = parse_shard(arguments.shard[0])
    plan, share = open_share(arguments.folder, shard, [*arguments.settings, *arguments.shard[1:]], registry)
    progress = Progress(plan, share, missing_fits(plan, share), quiet=arguments.quiet, verbose=arguments.verbose)
    with progress, CtrlC(progress.say) as stopping:

        def hear(event: Event) -> None:
            stopping.hear(event)
            progress.hear(event)

        outcome = execute(plan, registry, hear, stopping, share)
    if stopping():
        raise KeyboardInterrupt
    for cell, status, reason in outcome.failures:
        print(f"xbench: {cell.label}: {status}: {reason}", file=sys.stderr)
    done = f"{outcome.computed} slices computed" if outcome.computed else "nothing new to compute"
    if outcome.failures:
        done += f", {len(outcome.failures)} cells failed"
    if share.failed:
        done += f", {len(share.failed)} cells left out that had failed before (`xbench run` tries them again)"
    print(f"share {shard} of {arguments.folder}: {done} in {time.monotonic() - start:.0f} s")
    return 1 if outcome.failures or share.failed else 0
