"""What a worker tells the process that started it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkOptions:
    """How work is carried out; none of it can change a result.

    Attributes
    ----------
    out
        The run's folder.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    batch
        Images in a forward pass; None chooses by device and image size.
    threads
        CPU threads of a worker while it explains and scores; None: its share of the cores. Trainings take all cores.
    budget
        Seconds a job may take.
    workers
        Processes.
    silence
        Seconds that a worker's process may give no sign of life.
    own_choice
        Whether ``workers`` is what fits this machine, and nobody asked for it: an executor on others takes what fits them.
    """

    out: Path
    device: str = "auto"
    batch: int | None = None
    threads: int | None = None
    budget: float = 600.0
    workers: int = 1
    silence: float = 300.0
    own_choice: bool = False


@dataclass(frozen=True)
class Ready:
    """A worker is up; ``device`` as people read it."""

    device: str


@dataclass(frozen=True)
class UnitGiven:
    """A unit has been given to the executor: the cells in it, and the slice."""

    keys: tuple[str, ...]
    part: int


@dataclass(frozen=True)
class JobStarted:
    """A cell's slice is being worked on."""

    key: str
    part: int


@dataclass(frozen=True)
class JobDone:
    """A cell's slice is committed (status ``ok``), or the cell failed; ``network_seconds`` of it were passes.

    ``found`` says that another run had committed it meanwhile.
    """

    key: str
    part: int
    n: int
    status: str = "ok"
    reason: str = ""
    network_seconds: float = 0.0
    found: bool = False


@dataclass(frozen=True)
class FitProgress:
    """A training goes on; ``total`` 0 where it is not known."""

    key: str
    done: int
    total: int
    text: str


@dataclass(frozen=True)
class FitDone:
    """A training has ended; ``problem`` is empty where it went well."""

    key: str
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Note:
    """A line for the user."""

    text: str


@dataclass(frozen=True)
class Fatal:
    """The run cannot go on at all, and it is nobody's fault but the machine's: no such device, a full disk."""

    text: str


@dataclass(frozen=True)
class TaskDone:
    """A worker is free again; ``seconds`` is what it spent on the task."""

    seconds: float = 0.0


Event = Ready | UnitGiven | JobStarted | JobDone | FitProgress | FitDone | Note | Fatal | TaskDone
