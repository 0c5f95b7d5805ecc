"""How the films of ChestX-ray14 are divided into train, valid and test."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xbench.data import Ints
from xbench.errors import XbenchError
from xbench_chestxray.nih_tables import LISTS, read_list

SPLITS = ("train", "valid", "test")
_VALID, _TEST = 0.1, 0.2


@dataclass(frozen=True)
class Division:
    """The split of each film, [n] positions in `SPLITS` or -1 for none; the lists it was read from; what to tell."""

    side: Ints
    lists: tuple[Path, ...]
    notes: tuple[str, ...]


def divide(
    root: Path,
    split: str,
    seed: int,
    names: Sequence[str],
    patients: Sequence[str],
    labels: Ints,
    boxed: frozenset[str],
) -> Division:
    """Divide n films as `data.split` says.

    Parameters
    ----------
    root
        The folder that may hold the official lists.
    split, seed
        ``auto``, ``official``, ``patient`` or ``s0``, and what moves its random part (`xbench_chestxray.nih.nih`).
    names, patients, labels
        Of each film; label 1 is the finding.
    boxed
        The patients with a box of the finding.

    Raises
    ------
    XbenchError
        The split is ``official`` and a list is missing.
    """
    lists = tuple(root / name for name in LISTS)
    absent = " and no ".join(path.name for path in lists if not path.is_file())
    if split == "s0":
        side = _by_film(names, labels, f"nih s0 {seed}")
        return Division(side, (), (f"split=s0 is random by film, not by patient: {_overlap(patients, side)}",))
    if split == "official" and absent:
        raise XbenchError(
            f"data.split=official needs {' and '.join(LISTS)}; {root} has no {absent} "
            "(data.split=patient makes a split of its own)"
        )
    if split == "patient" or absent:
        side = _by_patient(patients, labels, _TEST, f"nih patient {seed}", boxed)
        why = f"no {absent} here, hence " if split == "auto" else ""
        note = f"split=patient ({why}random by patient, all with a box in test): {_overlap(patients, side)}"
        return Division(side, (), (note,))
    learning, test = (np.array([name in listed for name in names], bool) for listed in map(read_list, lists))
    side = np.where(test, 2, -1)
    rest = np.flatnonzero(learning & ~test)
    side[rest] = _by_patient([patients[int(i)] for i in rest], labels[rest], 0.0, f"nih official {seed}")
    notes = [f"split=official, a tenth of its training patients for validation: {_overlap(patients, side)}"]
    if outside := int((side < 0).sum()):
        notes.append(f"{outside:,} films are in neither official list and are left out")
    return Division(side, lists, tuple(notes))


def _by_film(names: Sequence[str], labels: Ints, salt: str) -> Ints:
    """Return the split of each film [n]: of each class a fifth in test, rounded up, then a tenth of the rest in valid.

    Rounded up because S0's counts, 12,073 and 556, are so the fifths of all 60,361 and 2,776 films.
    """
    side = np.zeros(len(names), np.int64)
    for label in (0, 1):
        films = np.flatnonzero(labels == label)
        n_test = math.ceil(_TEST * len(films))
        side[films] = _deal([names[int(i)] for i in films], n_test, (len(films) - n_test) // 10, salt)
    return side


def _by_patient(
    patients: Sequence[str], labels: Ints, test: float, salt: str, first: frozenset[str] = frozenset()
) -> Ints:
    """Return the split of each film [n], whole patients at a time; ``first`` are dealt to test before any other.

    Patients with the finding and patients without are dealt apart: those with it are so few that chance alone would
    double or halve their share of the validation films from seed to seed.
    """
    ill = {patient for patient, label in zip(patients, labels, strict=True) if label}
    dealt: dict[str, int] = {}
    for members in (sorted(ill), sorted(set(patients) - ill)):
        n_test = max(round(test * len(members)), len(first.intersection(members)))
        dealt |= zip(members, _deal(members, n_test, round(_VALID * len(members)), salt, first), strict=True)
    return np.array([dealt[patient] for patient in patients], np.int64)


def _deal(names: Sequence[str], n_test: int, n_valid: int, salt: str, first: frozenset[str] = frozenset()) -> list[int]:
    """Return for each name 2 (test), 1 (valid) or 0 (train), in an order that hangs on the names and ``salt`` alone."""

    def key(name: str) -> tuple[bool, bytes]:
        return name not in first, hashlib.blake2b((salt + name).encode(), digest_size=8).digest()

    rank = {name: i for i, name in enumerate(sorted(names, key=key))}
    return [2 if rank[name] < n_test else 1 if rank[name] < n_test + n_valid else 0 for name in names]


def _overlap(patients: Sequence[str], side: Ints) -> str:
    tested = {patient for patient, where in zip(patients, side, strict=True) if where == 2}
    seen = {patient for patient, where in zip(patients, side, strict=True) if where in (0, 1)}
    return f"{len(tested & seen):,} of {len(tested):,} test patients have films in train or valid too"
