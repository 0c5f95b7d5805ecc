"""``xbench leaderboard`` and ``xbench export``: tables of folders, and every sample's scores."""

import argparse
import sys
from pathlib import Path

from xbench.errors import XbenchError


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs."""
    parser = verbs.add_parser(
        "leaderboard",
        help="print the tables of one or several runs, or of a leaderboard",
        description="Print the tables of all records in the folders; records that may not be compared get tables of their own. "
        "The folder of a leaderboard (accepted records, see xbench submit) gets its tables and its page with --write.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="runs' folders, or a leaderboard's")
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DIR",
        help="also write table.json, table.csv and table.md there; of a leaderboard, its tables and index.html",
    )
    parser.add_argument(
        "--check", action="store_true", help="of a leaderboard: say which of its tables are not what its records make"
    )
    parser.set_defaults(call=leaderboard)
    parser = verbs.add_parser(
        "export",
        help="write every sample's scores as CSV or Parquet",
        description="Write one line a sample, explainer and score, for statistics of your own. In CSV a text that a "
        "spreadsheet would take for a formula (it begins with = + - or @ and is no number) gets an apostrophe in front.",
    )
    parser.add_argument("folder", type=Path, help="a run's folder")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="a .csv or .parquet file; default: CSV to standard output"
    )
    parser.set_defaults(call=export)


def leaderboard(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench leaderboard``."""
    from xbench.cli.tables import print_boards, refuse_damaged
    from xbench.leaderboard import read_boards
    from xbench.manifest import run_folder
    from xbench.store import Store
    from xbench.tables import write_tables

    first = arguments.folders[0]
    if boards := [one for one in arguments.folders if (one / "records").is_dir() and not (one / "run.json").exists()]:
        if len(arguments.folders) > 1:
            raise XbenchError(f"{boards[0]} is a leaderboard; its tables stand alone, name no other folder beside it")
        return _accepted(first, arguments)
    if arguments.check:
        raise XbenchError(f"--check is for a leaderboard's folder; {first} is a run's")
    primaries = [run_folder(folder)[1] for folder in arguments.folders]
    stores = [Store(folder) for folder in arguments.folders]
    refuse_damaged(stores)
    found, primary = read_boards(stores), primaries[0]
    print_boards(found, primary)
    if arguments.write:
        to = arguments.write if arguments.write != Path() else first / "leaderboard"
        paths = write_tables(found, to, primary)
        print(f"wrote {', '.join(map(str, paths))}")
    return 0


def _accepted(folder: Path, arguments: argparse.Namespace) -> int:
    from xbench.cli.tables import print_boards
    from xbench.report.accepted import accepted_boards, differing, leaderboard_files
    from xbench.store import write_atomic

    if arguments.check:
        wrong = differing(folder)
        for path in wrong:
            print(f"{path} is not what the records make; xbench leaderboard {folder} --write makes it again")
        return 1 if wrong else 0
    if arguments.write:
        if arguments.write not in (Path(), folder):
            raise XbenchError(
                f"the tables of a leaderboard lie beside its records; write --write without {arguments.write}"
            )
        made = leaderboard_files(folder)
        for path in differing(folder):
            if path not in made:
                path.unlink()
        for path, content in made.items():
            write_atomic(path, content)
        print(f"wrote {', '.join(map(str, made))}")
        return 0
    for _, boards, primary in accepted_boards(folder):
        print_boards(boards, primary)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench export``."""
    from xbench.cli.tables import refuse_damaged
    from xbench.export import blocks, write_csv, write_scores
    from xbench.manifest import run_folder
    from xbench.store import Store

    keys, _, _ = run_folder(arguments.folder)
    store = Store(arguments.folder)
    refuse_damaged([store])
    if arguments.to is None:
        write_csv(blocks(store, keys), sys.stdout)
        return 0
    count = write_scores(store, keys, arguments.to)
    print(f"wrote {count} scores to {arguments.to}")
    return 0
