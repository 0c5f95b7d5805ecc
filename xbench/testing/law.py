"""What a check is: a law in one sentence, how to mend what breaks it, and the function that looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "not applicable", "expected failure"]


class Failed(Exception):
    """What was seen that must not be: the value, and where."""


class NotApplicable(Exception):
    """Why a law says nothing of a component, from its declarations."""


class CannotTell(NotApplicable):
    """Why nothing can be told of a component here: its data or a library are not there, or it refuses."""


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
    """What came of a check.

    Attributes
    ----------
    check, status
        Which, and what.
    message
        What was seen, or why there was nothing to see; empty where it passed.
    silent
        Whether nothing can be told of the component here.
    """

    check: Check
    status: Status
    message: str = ""
    silent: bool = False

    @property
    def shuts(self) -> str:
        """Why the checks behind this one are not tried, or an empty string."""
        if not self.check.gate or not (self.silent or self.status in ("failed", "expected failure")):
            return ""
        return self.message if self.silent else f"{self.check.name!r} failed, without which nothing can be told"
