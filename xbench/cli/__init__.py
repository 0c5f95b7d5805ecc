"""The command line: one small module a verb or two; nothing here imports torch."""

import argparse
import os
import sys
from collections.abc import Sequence

from xbench import __version__
from xbench.errors import XbenchError
from xbench.signals import Terminated, terminating
from xbench.weights import only_tensors


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done, 1 some cells failed, 2 the user can fix it, 130 interrupted by Ctrl-C, 143 ended by SIGTERM.
    """
    from xbench.cli import boards, check, compare, evidence, listing, new, ranks, report, run, show, status, work

    parser = argparse.ArgumentParser(
        prog="xbench",
        description="Evaluate explanation methods of image classifiers.",
        epilog="Start with: xbench run suite=chestxray",
    )
    parser.add_argument("--version", action="version", version=f"xbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in (run, work, listing, show, check, status, boards, compare, ranks, report, evidence, new):
        module.add_verbs(verbs)
    arguments = parser.parse_args(argv)
    try:
        with terminating(), only_tensors():
            return int(arguments.call(arguments))
    except XbenchError as error:
        for line in error.lines:
            print(f"xbench: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        # A path of the user's: too long, forbidden, of another kind. Every other one has a line of its own.
        print(f"xbench: {str(error.filename)[:300]}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print("xbench: stopped; what was committed stays, run the same command again to go on", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
