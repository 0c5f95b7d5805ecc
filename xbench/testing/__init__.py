"""The conformance kit: laws that every component keeps, ours and yours, as data; ``xbench check`` and pytest run them."""

from xbench.testing.kit import CHECKS, conformance, judge, subjects
from xbench.testing.law import Check, Failed, NotApplicable, Outcome
from xbench.testing.marks import conforms

__all__ = ["CHECKS", "Check", "Failed", "NotApplicable", "Outcome", "conformance", "conforms", "judge", "subjects"]
