"""A run becomes accepted records: only what anyone can make again, of code that anyone can get, with its source named."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbench.errors import XbenchError
from xbench.evidence import Evidence, pack
from xbench.forms import is_path_part
from xbench.manifest import run_folder
from xbench.origin import LOCAL
from xbench.plugins import Registry
from xbench.reading import clip
from xbench.record import for_tables
from xbench.store import Json, Store, write_atomic
from xbench.verify import Verdict

DOUBTS = ("reported", "unreliable")
_KEPT = ("primary", "title", "xbench", "python", "machine", "versions", "origins", "components")


@dataclass(frozen=True)
class Submitted:
    """What a submission wrote and what it took the place of."""

    written: tuple[Path, ...]
    removed: tuple[Path, ...]


def problems(folder: Path, registry: Registry, doubt: str = "") -> list[str]:
    """Return every reason, a line each, why a run cannot be accepted; its numbers are `xbench.verify.verify`'s to judge."""
    keys, _, manifest = run_folder(folder)
    store = Store(folder)
    found = _origin_problems(manifest.get("origins"))
    if doubt and not any(doubt.startswith(f"{name}: ") for name in DOUBTS):
        found.append(
            f"doubt {doubt!r} must begin with {' or '.join(f'{name!r}' for name in [f'{one}: ' for one in DOUBTS])}"
        )
    for key in keys:
        record = for_tables(store.read(key))
        cell = record.definition
        explainer = cell["explainer"]
        who = f"{explainer['text'] if explainer else 'classifier'} on {cell['model']['text']} (seed {cell['seed']})"
        found += [
            f"{part['text']} is code or a file of your own, which nobody else has; make it a plugin"
            for part in (cell["model"], explainer)
            if part and _private(part, reported=doubt.startswith("reported"))
        ]
        if record.status not in ("ok", "unsupported"):
            found.append(f"{who}: {record.status}: {record.reason}")
        elif explainer and record.status == "ok" and not explainer["control"]:
            spec = registry.explainers.get(explainer["id"])
            if spec is None or not spec.citation:
                what = "is not installed" if spec is None else "names no source"
                found.append(
                    f"{explainer['id']} {what}; a row of a leaderboard must be citable (citation=... in its spec)"
                )
    return list(dict.fromkeys(found))


def explainers(folder: Path) -> list[str]:
    """Return the ids of the explainers of a run that have scores and are no controls; what is wrapped, too."""
    store, found = Store(folder), dict[str, None]()
    for key in run_folder(folder)[0]:
        record = for_tables(store.read(key))
        part = record.definition["explainer"]
        if part and record.status == "ok" and not part["control"]:
            while part:
                found[part["id"]] = None
                part = part.get("of")
    return list(found)


def _private(part: Json, reported: bool) -> bool:
    """Return whether a component rests on a file that only the submitter has; maps may, where the row says so."""
    if str(part["id"]).startswith("python:") or ("of" in part and _private(part["of"], reported)):
        return True
    return "weights" in part or ("maps" in part.get("params", ()) and not reported)


def _origin_problems(origins: Any) -> list[str]:
    if not origins:
        return ["the run does not say where its code came from: it was made by an older xbench; run it again"]
    found = []
    for name, origin in origins.items():
        if origin.get("editable"):
            found.append(
                f"{name} was installed in editable mode: its files can change under a run; "
                "install it with pip install DIR, without -e, and run again"
            )
        elif origin.get("dirty"):
            found.append(
                f"{name} was installed from a folder with uncommitted changes; commit them, install and run again"
            )
        elif origin.get("source") == LOCAL and not origin.get("commit"):
            found.append(f"{name} was installed from a folder without version control; nobody else could get that code")
        elif origin.get("version") == "not installed":
            found.append(f"{name} was run without being installed; install it and run again")
    return found


def submit(folder: Path, to: Path, registry: Registry, verdict: Verdict, doubt: str = "") -> Submitted:
    """Write a run's records into a leaderboard's folder; those of the same explainer, model, data, target and seed give way.

    Parameters
    ----------
    folder
        The run.
    to
        The leaderboard's folder; its tables are made again by ``xbench leaderboard DIR --write``.
    registry
        What is installed.
    verdict
        What `xbench.verify.verify` found in the run.
    doubt
        ``reported: why`` or ``unreliable: why``, which the tables then say of every row.

    Raises
    ------
    XbenchError
        A line for every reason why the run cannot be accepted.
    """
    found = problems(folder, registry, doubt)
    if not verdict.sound:
        found += verdict.lines() if verdict.damaged else verdict.lines()[:-1]
    if found:
        raise XbenchError(f"{folder} cannot be accepted", *found)
    keys, _, manifest = run_folder(folder)
    kept = {name: manifest[name] for name in ("settings", *_KEPT) if name in manifest}
    kept["settings"] = [text for text in kept["settings"] if not text.startswith("data.root=")]
    # Nobody else has these folders, and nobody needs to know them.
    run = json.loads(re.sub(r'\bmaps=[^,\]"]*', "maps=...", json.dumps(kept)))
    run["verified"] = {"seed": verdict.seed, "records": verdict.records, "samples": verdict.samples}
    if not is_path_part(suite := str(manifest["suite"])):
        raise XbenchError(f"{folder} is of the suite {clip(suite)}, which can name no folder of records")
    store, target = Store(folder), to / "records" / suite
    files = {name: content for key in keys for name, content in pack(store, key, run, doubt).items()}
    old = Evidence(target)
    claimed = {_place(for_tables(store.read(key)).definition) for key in keys}
    replaced = [path for key, path in old.paths.items() if _place(old.content(key)["definition"]) in claimed]
    for name, content in files.items():
        write_atomic(target / name, content)
    gone = [path for path in replaced if path.name not in files]
    for path in gone:
        path.unlink()
    gone += _sweep(target)
    return Submitted(tuple(target / name for name in sorted(files)), tuple(gone))


def _place(cell: Json) -> tuple[object, ...]:
    """Return what one record of a leaderboard stands for, whatever the code of the day."""
    explainer = cell["explainer"]["text"] if cell["explainer"] else None
    return cell["protocol"], cell["data"]["digest"], cell["target"], cell["model"]["text"], explainer, cell["seed"]


def _sweep(target: Path) -> list[Path]:
    """Remove the tables of samples that no record speaks of any more."""
    evidence = Evidence(target)
    used = {evidence.content(key)["definition"]["samples"][:12] for key in evidence}
    stale = [path for path in target.glob("samples-*.json") if path.stem.removeprefix("samples-") not in used]
    for path in stale:
        path.unlink()
    return stale
