"""Metrics, declared: does the prediction survive noise where the map says nothing is?"""

from xbench.specs import UNBOUNDED, MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    source = "xbench.metrics.preservation"
    study = "Ikeno, Hara, Washio: Highlighting non-contributing pixels for visual explanation of CNNs. JSAI 2018"
    return [
        MetricSpec(
            name="preservation",
            version=1,
            factory=f"{source}:preservation",
            params={"draws": 4, "steps": 10, "amplitude": 1.0},
            meanings={
                "draws": "draws of noise a sample; 1 or more",
                "steps": "shares of the pixels that get noise, evenly spread up to all; 1 or more",
                "amplitude": "of the uniform noise, to either side, images lying in [0,1]; above 0",
            },
            sensitive_to=("amplitude",),
            scores=(
                ScoreSpec(name="preservation_auc", higher_is_better=True),
                ScoreSpec(name="preservation_reversed_auc", higher_is_better=False),
                ScoreSpec(name="preservation_gap", higher_is_better=True, bounds=(-1, 1), chance=0.0),
                ScoreSpec(name="preservation_drift", higher_is_better=False),
            ),
            family="preservation",
            needs=("attribution",),
            summary="how long the prediction survives noise on ever more pixels, those of least evidence first",
            citation=study,
            cites=("ikeno2018highlighting",),
        ),
        MetricSpec(
            name="background_precision",
            version=1,
            factory=f"{source}:background_precision",
            scores=(ScoreSpec(name="background_precision", higher_is_better=True, chance="per_sample"),),
            family="preservation",
            needs=("attribution", "mask"),
            summary="share of the k pixels of least evidence outside the mask, k = the number of pixels outside",
            citation=study,
            cites=("ikeno2018highlighting",),
        ),
        MetricSpec(
            name="noise_level",
            version=1,
            factory=f"{source}:noise_level",
            scores=(
                ScoreSpec(name="noise_objective", higher_is_better=False, bounds=UNBOUNDED),
                ScoreSpec(name="noise_coverage", higher_is_better=None),
                ScoreSpec(name="noise_violation", higher_is_better=False),
                ScoreSpec(name="mask_agreement", higher_is_better=None, aggregate="rate"),
                ScoreSpec(name="reference_gap", higher_is_better=None, bounds=UNBOUNDED),
            ),
            family="noise",
            known_failures={
                "has a value for ordinary maps": "only of explainers that optimise a noise level, and say how it ended"
            },
            needs=("attribution",),
            summary="what an explainer that optimises noise reached: objective, coverage, violations, what its masks change",
            citation=study,
            cites=("ikeno2018highlighting",),
        ),
    ]
