"""Metrics, declared: does the map depend on what was learnt?"""

from xbench.specs import UNBOUNDED, MetricSpec, ScoreSpec

_ABSOLUTE = "compare the maps' absolute values"


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    source = "xbench.metrics.randomisation"
    return [
        MetricSpec(
            name="mprt",
            version=1,
            factory=f"{source}:mprt",
            params={"steps": 0, "absolute": True},
            meanings={
                "steps": "stages at which the map is looked at, evenly over the layers; 0: after every layer",
                "absolute": _ABSOLUTE,
            },
            sensitive_to=("absolute",),
            scores=(
                ScoreSpec(name="mprt", higher_is_better=False, bounds=(-1, 1), chance=0.0),
                ScoreSpec(name="mprt_last", higher_is_better=False, bounds=(-1, 1), chance=0.0),
            ),
            family="randomisation",
            needs=("attribution",),
            summary="how like itself the map stays while layer after layer, the last first, forgets what it learnt",
            citation="Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps. NeurIPS 2018",
            cites=("adebayo2018sanity",),
        ),
        MetricSpec(
            name="efficient_mprt",
            version=1,
            factory=f"{source}:efficient_mprt",
            scores=(ScoreSpec(name="efficient_mprt", higher_is_better=True, bounds=UNBOUNDED, chance=0.0),),
            family="randomisation",
            needs=("attribution",),
            summary="how much more complex the map is when the whole network has forgotten what it learnt",
            citation="Hedstroem, Weber, Lapuschkin, Hoehne: Sanity checks revisited. arXiv 2401.06465",
            cites=("hedstroem2024sanity",),
        ),
        MetricSpec(
            name="random_logit",
            version=1,
            factory=f"{source}:random_logit",
            params={"absolute": False},
            meanings={"absolute": _ABSOLUTE},
            sensitive_to=("absolute",),
            scores=(ScoreSpec(name="random_logit", higher_is_better=False, bounds=(-1, 1)),),
            family="randomisation",
            needs=("attribution",),
            summary="rank correlation of the map for the target and the map for another class",
            citation="Sixt, Granz, Landgraf: When explanations lie. ICML 2020",
            cites=("sixt2020when",),
        ),
    ]
