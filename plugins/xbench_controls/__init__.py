"""Controls: the explainers every table must contain, because a method that does not beat them shows nothing."""

from typing import Any

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the controls."""

    def control(name: str, summary: str, **other: Any) -> ExplainerSpec:
        return ExplainerSpec(
            name=name,
            version=2,
            factory=f"xbench_controls.controls:{name}",
            summary=summary,
            cost={"forwards": 0, "backwards": 0},
            **{"control": True, **other},
        )

    return [
        control("random", "independent uniform noise: what knowing nothing scores", stochastic=True, control="chance"),
        control("constant", "the same value everywhere; must be flagged blank"),
        control(
            "centre",
            "a Gaussian in the middle of the image: the photographer's prior",
            params={"sigma": 0.25},
            meanings={"sigma": "standard deviation, as a share of the image's shorter side; above 0"},
        ),
        control("sobel", "edge strength of the luminance: an explanation that never looks at the model"),
        control("intensity", "the luminance itself"),
        control("oracle", "the true mask: the best localisation there is", needs=("mask",), control="truth"),
        control(
            "oracle_difference",
            "where the exact counterfactual differs, and that image: the truth about what the class changes",
            needs=("counterfactual",),
            gives=("attribution", "counterfactual"),
            control="truth",
        ),
        control("identity", "translates every image to itself: what doing nothing scores", gives=("counterfactual",)),
        control(
            "blur",
            "another explainer's map, blurred: what smoothness alone does to its scores",
            params={"of": None, "sigma": 0.05},
            meanings={
                "of": "the explainer whose map is blurred, for example cam/gradcam",
                "sigma": "standard deviation of the blur, as a share of the image's shorter side; above 0",
            },
            wraps=True,
        ),
    ]
