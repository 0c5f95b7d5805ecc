"""``xbench new``: a plugin package that works before a line of it is changed."""

import argparse
import shlex
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    from xbench.scaffold import KINDS

    parser = verbs.add_parser(
        "new",
        help="write a plugin package to start from",
        description="Write a plugin package of five files, with a component that works, a README and a test.",
        epilog="example: xbench new explainer mine && pip install -e xbench-mine && xbench check mine/mine",
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name", help="lower-case letters, digits and _")
    parser.add_argument("--to", type=Path, metavar="DIR", help="the new folder; default xbench-NAME")
    parser.set_defaults(call=new)


def new(arguments: argparse.Namespace) -> int:
    """Carry out the verb."""
    from xbench.scaffold import id_of, trial, write_package

    folder = arguments.to or Path("xbench-" + arguments.name.replace("_", "-"))
    paths = write_package(arguments.kind, arguments.name, folder)
    print("wrote")
    for path in paths:
        print(f"    {path}")
    print(f"next (the README in it says more):\n    pip install -e {shlex.quote(str(folder))}")
    print(f"    xbench check {id_of(arguments.kind, arguments.name)}\n    {trial(arguments.kind, arguments.name)}")
    return 0
