"""Checks that components of every kind share, and the words in which maps are said to differ."""

import functools
import os
import subprocess
import sys

from torch import Tensor

from xbench.errors import did_you_mean
from xbench.specs import ExplainerSpec
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.subjects import Subject, factory_of
from xbench.user_code import is_own

TOLERANCE = 1e-3
"""Of a map's largest value: float noise of another batch size stays far below, a real difference does not."""


def common_checks(kind: str) -> tuple[Check, ...]:
    """Return the first checks of a kind."""
    return (
        Check(
            "declares what is true of it",
            kind,
            "A declaration names only checks that exist as known failures, and an explainer that is no control its source.",
            "Set citation= to the paper as a reader would look it up; correct the names in known_failures=.",
            _declaration,
        ),
        Check(
            "imports without torch",
            kind,
            "The plugin's own module, which holds the declarations, is imported in a fresh process without importing torch.",
            "Leave only declarations in the package's __init__, and put the code behind them in modules that factory= names.",
            _light,
        ),
    )


def _declaration(subject: Subject) -> None:
    spec = subject.component.spec
    if is_own(spec.id):
        raise NotApplicable("a function declares nothing")
    for name, reason in spec.known_failures.items():
        if name not in subject.names:
            hint = did_you_mean(name, subject.names) or f"; the checks are {', '.join(subject.names)}"
            raise Failed(f"known_failures names {name!r}, which is no check of a {spec.kind}{hint}")
        if not reason.strip():
            raise Failed(f"known_failures gives no reason for {name!r}")
    if isinstance(spec, ExplainerSpec) and not (spec.citation.strip() or spec.control or spec.stored):
        raise Failed("citation is empty")


def _light(subject: Subject) -> None:
    if subject.plugin is None:
        raise NotApplicable("it is known without a plugin")
    if said := _imported(subject.plugin.module, tuple(sys.path)):
        raise Failed(said)


@functools.cache
def _imported(module: str, path: tuple[str, ...]) -> str:
    """Return what is wrong with an import in a process of its own, or an empty string."""
    code = f"import sys, {module}; sys.exit(3 if 'torch' in sys.modules else 0)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        return f"importing {module} imports torch"
    if done.returncode:
        return f"importing {module} fails: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return ""


def found_factory(subject: Subject) -> None:
    """Fail unless the factory can be imported and called."""
    path = subject.component.spec.factory
    try:
        factory = factory_of(subject)
    except (ImportError, AttributeError) as error:
        raise Failed(f"factory {path!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise Failed(f"factory {path!r} is a {type(factory).__name__}; a callable is needed")


def differing(one: Tensor, other: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Return [B] bool: which rows differ by more than a share of their largest value."""
    return apart(one, other) > tolerance


def apart(one: Tensor, other: Tensor) -> Tensor:
    """Return [B] float64: the largest difference of each row, as a share of its largest value."""
    one, other = one.flatten(1).double(), other.flatten(1).double()
    size = one.abs().amax(dim=1).maximum(other.abs().amax(dim=1))
    return (one - other).abs().amax(dim=1) / size.where(size > 0, size + 1)


def must_agree(one: Tensor, other: Tensor, ids: tuple[str, ...], what: str) -> None:
    """Raise Failed, naming the sample that differs most, unless all rows are the same but for float noise."""
    far = apart(one, other)
    if (far > TOLERANCE).any():
        place = int(far.argmax())
        raise Failed(f"{what}: sample {ids[place]!r} differs by {float(far[place]):.2g} of its largest value")
