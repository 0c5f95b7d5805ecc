"""``xbench leaderboard`` and ``xbench export``: tables of folders, and every sample's scores."""

import argparse
import csv
import sys
from pathlib import Path

from xbench.errors import CannotWrite


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    parser = verbs.add_parser(
        "leaderboard",
        help="print the tables of one or several runs",
        description="Print the tables of all records in the folders; records that may not be compared get tables of their own.",
    )
    parser.add_argument("folders", type=Path, nargs="+", help="runs' folders")
    parser.add_argument("--write", type=Path, metavar="DIR", help="also write table.json, table.csv and table.md there")
    parser.set_defaults(call=leaderboard)
    parser = verbs.add_parser(
        "export",
        help="write every sample's scores as CSV",
        description="Write one line a sample, explainer and score as CSV, for statistics of your own.",
    )
    parser.add_argument("folder", type=Path, help="a run's folder")
    parser.add_argument("--to", type=Path, metavar="FILE", help="where to; default standard output")
    parser.set_defaults(call=export)


def leaderboard(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench leaderboard``."""
    from xbench.api import run_folder
    from xbench.cli.tables import print_boards
    from xbench.leaderboard import read_boards
    from xbench.store import Store
    from xbench.tables import write_tables

    primary = run_folder(arguments.folders[0])[1]
    boards = read_boards([Store(folder) for folder in arguments.folders])
    print_boards(boards, primary)
    if arguments.write:
        paths = write_tables(boards, arguments.write, primary)
        print(f"wrote {', '.join(map(str, paths))}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench export``."""
    from xbench.api import run_folder
    from xbench.export import HEADER, score_lines
    from xbench.store import Store

    keys, _, _ = run_folder(arguments.folder)
    lines = score_lines(Store(arguments.folder), keys)
    if arguments.to is None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(lines)
        return 0
    try:
        with arguments.to.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            count = sum(1 for line in lines if writer.writerow(line))
    except OSError as error:
        raise CannotWrite(f"cannot write {arguments.to}: {error.strerror or error}") from error
    print(f"wrote {count} scores to {arguments.to}")
    return 0
