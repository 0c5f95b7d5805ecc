"""``xbench status``: how far the run in a folder is."""

import argparse
from pathlib import Path


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser("status", help="how far a run is", description="Say how far the run in a folder is.")
    parser.add_argument("folder", type=Path, help="a run's folder, for example runs/chestxray")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb; exit code 0 where everything is done, 1 otherwise."""
    from xbench.cli.tables import simple_table
    from xbench.manifest import run_folder
    from xbench.store import Store

    keys, _, manifest = run_folder(arguments.folder)
    store = Store(arguments.folder)
    rows, counts = [], dict[str, int]()
    for key in keys:
        record = store.read(key)
        counts[record.status] = counts.get(record.status, 0) + 1
        if record.status != "ok":
            cell = record.definition
            who = cell["explainer"]["text"] if cell["explainer"] else "classifier"
            rows.append([who, cell["model"]["text"], str(cell["seed"]), record.status, record.reason])
    print(
        f"{manifest['suite']} ({manifest['protocol']}): " + ", ".join(f"{n} {status}" for status, n in counts.items())
    )
    if rows:
        simple_table(["explainer", "model", "seed", "status", "reason"], rows)
    for path in store.damaged:
        print(f"damaged: {path}; the next run computes it again")
    return 0 if counts.keys() <= {"ok", "unsupported"} else 1
