"""Metrics, declared: does the map keep what its method promises?"""

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    return [
        MetricSpec(
            name="completeness",
            version=1,
            factory="xbench.metrics.axioms:completeness",
            scores=(ScoreSpec(name="completeness_error", higher_is_better=False),),
            family="axioms",
            needs=("attribution",),
            summary="how far the map's sum is from what its explainer promises to hand out, 0 to 1",
            citation="Sundararajan, Taly, Yan: Axiomatic attribution for deep networks. ICML 2017",
            cites=("sundararajan2017axiomatic",),
        ),
    ]
