"""Metrics, declared: does the map show anything?"""

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    names = ("blank_rate", "vanished_rate", "all_negative_rate", "constant_rate", "nonfinite_rate")
    return [
        MetricSpec(
            name="blankness",
            version=1,
            factory="xbench.metrics.blankness:blankness",
            params={"tolerance": 0.0},
            meanings={"tolerance": "extent up to which a map is blank, as a share of the most that a full map reaches"},
            sensitive_to=("tolerance",),
            scores=tuple(ScoreSpec(name=name, higher_is_better=False, aggregate="rate") for name in names),
            family="blankness",
            needs=("attribution",),
            summary="share of maps that show nothing, and why: vanished, all negative, constant or not finite",
            citation="Sakai, Takenaka: Visualization of learning process for convolution neural network. JSAI 2019",
            cites=("sakai2019visualization",),
        ),
    ]
