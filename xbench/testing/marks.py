"""The kit under pytest: ``@conforms("mine/explainer")`` makes one test a check."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xbench.testing.kit import CHECKS, judge, subjects
from xbench.testing.law import Check, Outcome
from xbench.testing.subjects import Subject


@dataclass
class Bound:
    """One check of one component; calling it passes, fails, skips or xfails the test it is called in."""

    check: Check
    subject: Subject
    gates: list["Bound"] = field(default_factory=list)
    outcome: Outcome | None = None

    def judged(self) -> Outcome:
        """Return what comes of it, looking once; behind a gate that stays shut it is not applicable."""
        if self.outcome is None:
            shut = next(filter(None, (gate.judged().shuts for gate in self.gates)), "")
            self.outcome = Outcome(self.check, "not applicable", shut) if shut else judge(self.check, self.subject)
        return self.outcome

    def __call__(self) -> None:
        """Let pytest know."""
        import pytest

        outcome = self.judged()
        if outcome.status == "failed":
            pytest.fail(f"{self.subject.what}: {outcome.message}\nmend: {self.check.mend}", pytrace=False)
        if outcome.status == "not applicable":
            pytest.skip(outcome.message)
        if outcome.status == "expected failure":
            pytest.xfail(outcome.message)


def conforms(*ids: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a test with an argument ``check`` one test for every check of the components named.

    Parameters
    ----------
    ids
        As for ``xbench check``: ids, with parameters or not, and patterns.

    Examples
    --------
    >>> from xbench.testing import conforms
    >>> @conforms("cam/gradcam")
    ... def test_gradcam(check):
    ...     check()
    """
    import pytest

    made = [(f"{one.what}: {bound.check.name}", bound) for one in subjects(ids) for bound in bound_checks(one)]
    return pytest.mark.parametrize("check", [pytest.param(bound, id=name) for name, bound in made])


def bound_checks(subject: Subject) -> list[Bound]:
    """Return the checks of a component, each with the gates before it."""
    made: list[Bound] = []
    for check in CHECKS[subject.component.spec.kind]:
        made.append(Bound(check, subject, [one for one in made if one.check.gate]))
    return made
