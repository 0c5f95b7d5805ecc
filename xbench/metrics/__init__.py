"""The harness's own metrics, declared through the same hook as a stranger's; the modules behind them import torch."""

from xbench.hookspecs import hookimpl
from xbench.metrics.declared import (
    axioms,
    blankness,
    classifier,
    complexity,
    faithfulness,
    localisation,
    preservation,
    randomisation,
    robustness,
    shortcut,
    translation,
)
from xbench.specs import MetricSpec

FAMILIES = (
    classifier,
    faithfulness,
    localisation,
    complexity,
    axioms,
    robustness,
    randomisation,
    preservation,
    shortcut,
    blankness,
    translation,
)


@hookimpl
def xbench_metrics() -> list[MetricSpec]:
    """Return the harness's metrics, family by family."""
    return [spec for family in FAMILIES for spec in family.specs()]
