"""What a run, a leaderboard or an accepted record says: its records, each with what is needed to make it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xbench.errors import XbenchError
from xbench.evidence import Changed, Evidence, suites
from xbench.manifest import run_folder
from xbench.record import for_tables
from xbench.store import Json, Record, Store


@dataclass(frozen=True)
class Claim:
    """A record and what is needed to make it again.

    Attributes
    ----------
    label
        What it is, for a reader.
    path
        The file, or the folder, that holds it.
    record, table
        What is said, and of which samples.
    settings
        The run's settings as ``key=value``.
    """

    label: str
    path: Path
    record: Record
    table: Json
    settings: tuple[str, ...]


def read_claims(place: Path) -> tuple[list[Claim], list[Path]]:
    """Return the records in a place, and its damaged files; where there are such, no records.

    Raises XbenchError where the place is neither a run's folder nor a file of accepted records that can be read.
    """
    if (place / "run.json").exists():
        store = Store(place)
        if damaged := store.check():
            return [], damaged
        keys, _, manifest = run_folder(place)
        settings = manifest.get("settings")
        if manifest.get("suite") == "evaluate":
            raise XbenchError(f"{place} holds scores of maps made elsewhere, which cannot be computed again")
        if not isinstance(settings, list):
            raise XbenchError(
                f"{place} was made by an older xbench, which did not write down its settings; run it again"
            )
        return [_claim(store.folder(key), store.read(key), store, settings) for key in keys], []
    if not place.is_file() and not (place / "records").is_dir():
        raise XbenchError(f"{place} is neither a run's folder, nor a leaderboard's, nor a file of accepted records")
    try:
        accepted = [Evidence(place.parent, place)] if place.is_file() else suites(place)
        return [
            _claim(path, evidence.read(key), evidence, evidence.content(key)["run"]["settings"])
            for evidence in accepted
            for key, path in evidence.paths.items()
        ], []
    except Changed as error:
        return [], error.paths


def _claim(path: Path, record: Record, records: "Store | Evidence", settings: Sequence[str]) -> Claim:
    cell = for_tables(record).definition
    who = cell["explainer"]["text"] if cell["explainer"] else "classifier"
    label = f"{who} on {cell['model']['text']} (seed {cell['seed']}), {cell['data']['text']}"
    return Claim(label, path, record, records.samples(cell["samples"]), tuple(settings))
