"""``xbench verify`` and ``xbench submit``: is a run what it says, and may it stand beside others?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbench.verify import Verdict


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    parser = verbs.add_parser(
        "verify",
        help="compute a random part of a run again and compare",
        description="Check every file of a run (a folder), of a leaderboard (a folder) or of one accepted record (a file) "
        "against its hash, then compute a random part again, on the run's own weights, and compare. "
        "Exit code 0: all agrees; 1: a file was changed, or a number comes out otherwise; 2: what was drawn "
        "cannot be computed again here, and why.",
    )
    parser.add_argument("place", type=Path, metavar="DIR|RECORD")
    parser.add_argument("--cells", type=int, default=3, metavar="K", help="how many records are drawn (default 3)")
    parser.add_argument("--samples", type=int, default=3, metavar="K", help="how many samples of each (default 3)")
    parser.add_argument("--seed", type=int, help="repeat an earlier draw")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:i")
    parser.set_defaults(call=verify)
    parser = verbs.add_parser(
        "submit",
        help="promote a run to accepted records of a leaderboard",
        description="Verify a run and write its records into a leaderboard's folder. Refused, with the reason: editable or "
        "uncommitted code, an explainer without a source or that fails a check of the conformance kit, failed cells, a run "
        "that is not verified.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder")
    parser.add_argument("--to", type=Path, default=Path("leaderboard"), metavar="DIR", help="default leaderboard")
    parser.add_argument(
        "--doubt", default="", metavar="TEXT", help="'reported: ...' or 'unreliable: ...', said of every row"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:i")
    parser.set_defaults(call=submit)


def verify(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench verify``."""
    from xbench.errors import XbenchError

    for name in ("cells", "samples"):
        if getattr(arguments, name) < 1:
            raise XbenchError(f"--{name} {getattr(arguments, name)}: 1 or more is needed")
    verdict = _verified(arguments.place, arguments.device, arguments.cells, arguments.samples, arguments.seed)
    return 1 if verdict.damaged or verdict.mismatches else 0 if verdict.sound else 2


def submit(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench submit``."""
    from xbench.cli.tables import say
    from xbench.errors import XbenchError
    from xbench.plugins import discover
    from xbench.submit import explainers, problems
    from xbench.submit import submit as accept

    registry = discover()
    if found := problems(arguments.folder, registry, arguments.doubt):  # before anything is computed
        raise XbenchError(f"{arguments.folder} cannot be accepted", *found)
    if found := _unlawful(explainers(arguments.folder)):
        raise XbenchError(f"{arguments.folder} cannot be accepted", *found)
    # Of every record, and nobody chooses of which samples.
    verdict = _verified(arguments.folder, arguments.device, cells=sys.maxsize, samples=1, seed=None)
    done = accept(arguments.folder, arguments.to, registry, verdict, arguments.doubt)
    for path in done.removed:
        say("replaced {}", path)
    say("{} files in {}; xbench leaderboard {} --write makes its tables", len(done.written), arguments.to, arguments.to)
    return 0


def _unlawful(ids: Sequence[str]) -> list[str]:
    """Return a line for every check of the conformance kit that an explainer fails."""
    import torch

    from xbench.cli.tables import say
    from xbench.testing import conformance, subjects

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the kit's tensors are small
    found = []
    for name in ids:
        say("checking {}", name)
        for subject in subjects([name]):
            found += [
                f"{name} fails a check, {outcome.check.name!r}: {outcome.message} (xbench check {name})"
                for outcome in conformance(subject)
                if outcome.status == "failed"
            ]
    torch.set_num_threads(threads)
    return found


def _verified(place: Path, device: str, cells: int, samples: int, seed: int | None) -> "Verdict":
    from xbench.cli.tables import say
    from xbench.plugins import discover
    from xbench.verify import verify as verified

    verdict = verified(place, discover(), cells, samples, seed, device, lambda label: say("computing again: {}", label))
    for line in verdict.lines():
        say("{}", line)
    return verdict
