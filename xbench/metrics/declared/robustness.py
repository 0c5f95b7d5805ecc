"""Metrics, declared: does the map stay where nothing of meaning changes?"""

import math

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    source = "xbench.metrics.robustness"
    return [
        MetricSpec(
            name="max_sensitivity",
            version=1,
            factory=f"{source}:max_sensitivity",
            params={"radius": 0.02, "draws": 10},
            meanings={
                "radius": "the most a pixel changes by, images lying in [0,1]; above 0",
                "draws": "random changes, each an explanation; 1 or more",
            },
            sensitive_to=("radius",),
            scores=(ScoreSpec(name="max_sensitivity", higher_is_better=False, bounds=(0, math.inf)),),
            family="robustness",
            needs=("attribution",),
            summary="how far the map moves, relative to its size, under the worst of `draws` noises of up to `radius`",
            citation="Yeh, Hsieh, Suggala, Inouye, Ravikumar: (In)fidelity and sensitivity of explanations. NeurIPS 2019",
            cites=("yeh2019infidelity",),
        ),
        MetricSpec(
            name="shift_stability",
            version=1,
            factory=f"{source}:shift_stability",
            params={"pixels": 2},
            meanings={"pixels": "how far the image is moved, in pixels; from 1 to half of its shorter side"},
            sensitive_to=("pixels",),
            scores=(ScoreSpec(name="shift_stability", higher_is_better=True, bounds=(-1, 1)),),
            family="robustness",
            needs=("attribution",),
            summary="whether the map moves with the image: rank correlation, mean over shifts of `pixels` in four directions",
            citation=(
                "Crabbé, van der Schaar: Evaluating the robustness of interpretability methods through explanation "
                "invariance and equivariance. NeurIPS 2023"
            ),
            cites=("crabbe2023evaluating",),
        ),
    ]
