"""``xbench check``: does a component keep the laws of its kind?"""

import argparse
import shutil
import textwrap
from collections import Counter
from pathlib import Path

_MARKS = {"passed": "ok", "failed": "FAILED", "not applicable": "-", "expected failure": "known"}


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "check",
        help="run the conformance kit on components",
        description="Run the checks that every component of a kind passes; exit code 1 where one fails.",
    )
    parser.add_argument(
        "ids",
        nargs="+",
        metavar="ID",
        help="components of any kind: cam/gradcam, 'mine/*', deletion, python:FILE.FUNCTION",
    )
    parser.add_argument("--root", type=Path, help="folder of real data, for data sets that read one")
    parser.add_argument(
        "--data", metavar="ID", help="the data set that models are looked at with; else one that they are for"
    )
    parser.add_argument("--failures", action="store_true", help="show only what fails")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb."""
    import torch

    from xbench.testing import conformance, subjects

    torch.set_num_threads(1)  # small tensors: a second thread would only wait for the first
    total: Counter[str] = Counter()
    for subject in subjects(arguments.ids, root=arguments.root, data=arguments.data):
        print(f"{subject.component.spec.kind} {subject.what}{f' ({subject.looked_at})' * bool(subject.looked_at)}")
        said = ""
        for outcome in conformance(subject):
            total[outcome.status] += 1
            if outcome.status == "failed" or not arguments.failures:
                print(f"  {_MARKS[outcome.status]:<6}  {outcome.check.name}", flush=True)
                _explain(outcome.status, outcome.message if outcome.message != said else "", outcome.check.mend)
                said = outcome.message
    parts = [f"{total[status]} {status}" for status in ("passed", "failed", "expected failure", "not applicable")]
    print(", ".join(part for part in parts if not part.startswith("0 ")))
    return 1 if total["failed"] else 0


def _explain(status: str, message: str, mend: str) -> None:
    lines = [message] if message else []
    if status == "failed":
        lines.append(f"mend: {mend}")
    width = min(120, max(40, shutil.get_terminal_size((120, 24)).columns))
    for line in lines:
        print(textwrap.fill(" ".join(line.split()), width, initial_indent=" " * 10, subsequent_indent=" " * 10))
