"""``xbench status``: how far the run in a folder is."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbench.store import Json, Store


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser("status", help="how far a run is", description="Say how far the run in a folder is.")
    parser.add_argument("folder", type=Path, help="a run's folder, for example runs/chestxray")
    parser.add_argument(
        "--check", action="store_true", help="read every file too, and say which are not what their hashes say"
    )
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb; exit code 0 where everything is done, 1 otherwise."""
    from xbench.cli.tables import simple_table
    from xbench.manifest import run_folder
    from xbench.record import checked_definition
    from xbench.store import Store

    keys, _, manifest = run_folder(arguments.folder)
    store = Store(arguments.folder)
    rows, counts = [], dict[str, int]()
    for key, n_slices in zip(keys, _slices(keys, manifest, store), strict=True):
        if arguments.check:
            record = store.read(key)
            status, reason = record.status, record.reason
        else:
            status, reason = store.glance(key, n_slices)
        counts[status] = counts.get(status, 0) + 1
        if status != "ok":
            cell = checked_definition(key, store.definition(key))
            who = cell["explainer"]["text"] if cell["explainer"] else "classifier"
            rows.append([who, cell["model"]["text"], str(cell["seed"]), status, reason])
    print(
        f"{manifest['suite']} ({manifest['protocol']}): " + ", ".join(f"{n} {status}" for status, n in counts.items())
    )
    if rows:
        simple_table(["explainer", "model", "seed", "status", "reason"], rows)
    for path in store.damaged:
        print(f"damaged: {path}; the next run computes it again")
    if not arguments.check:
        print("told by which files are there; with --check every one is read and compared with its hash")
    return 0 if counts.keys() <= {"ok", "unsupported"} else 1


def _slices(keys: Sequence[str], manifest: "Json", store: "Store") -> Iterator[int]:
    """Yield the number of slices of each cell; earlier versions did not write it down for all at once."""
    from xbench.store import slice_size

    told = manifest.get("slices")
    if (
        isinstance(told, list)
        and len(told) == len(keys)
        and all(type(each) is int and 0 < each < 10**5 for each in told)
    ):
        yield from told
        return
    for key in keys:
        n = store.definition(key)["n"]
        yield -(-n // slice_size(n))
