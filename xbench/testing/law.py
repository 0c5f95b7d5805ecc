"""What a check is: a law in one sentence, how to mend what breaks it, and the function that looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "not applicable", "expected failure"]


class Failed(Exception):
    """What was seen that must not be: the value, and where."""


class NotApplicable(Exception):
    """Why a law says nothing of a component, from its declarations."""


@dataclass(frozen=True)
class Check:
    """One law that every component of a kind keeps.

    Attributes
    ----------
    name
        What people call it: a short clause, unique within its kind.
    kind
        explainer, metric, dataset or model.
    law
        One sentence: what must hold.
    mend
        One sentence: how to mend a component that breaks it.
    run
        Looks at a subject; raises `Failed` or `NotApplicable`.
    gate
        Whether the checks behind it mean nothing where this one fails.
    """

    name: str
    kind: str
    law: str
    mend: str
    run: Callable[[Any], None]
    gate: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a check; ``message`` is empty where it passed."""

    check: Check
    status: Status
    message: str = ""
