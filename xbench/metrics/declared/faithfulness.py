"""Metrics, declared: does the output follow the pixels that the map calls relevant?"""

from xbench.specs import UNBOUNDED, MetricSpec, ScoreSpec

STEPS = 28
"""Of the full curve, in float32: what coarser or less precise ones are held against."""

_RISE = "Petsiuk, Das, Saenko: RISE. BMVC 2018"
_FILLS = {"fill": ("zero", "mean", "blur", "noise")}
_CURVES = {**_FILLS, "precision": ("float32", "bf16")}
_FILLED = "what removed pixels become: black, the data's mean colour, the image blurred, or noise"
_MEANINGS = {
    "fill": _FILLED,
    "steps": f"steps of the curve; fewer than {STEPS} are a shortcut, checked on one sample in 16",
    "precision": "of the passes on the way; bf16 is a shortcut, checked on one sample in 16",
}
_SCORED = "the target's score that is measured: its probability or its logit"


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    source = "xbench.metrics.faithfulness"
    return [
        MetricSpec(
            name="deletion",
            version=1,
            factory=f"{source}:deletion",
            params={"fill": "mean", "steps": STEPS, "precision": "float32"},
            choices=_CURVES,
            meanings=_MEANINGS,
            sensitive_to=("fill",),
            scores=(ScoreSpec(name="deletion", higher_is_better=False),),
            family="faithfulness",
            needs=("attribution",),
            summary="area under the target's probability while the most relevant pixels go first (MoRF)",
            citation=_RISE,
            cites=("petsiuk2018rise",),
        ),
        MetricSpec(
            name="insertion",
            version=1,
            factory=f"{source}:insertion",
            params={"fill": "blur", "steps": STEPS, "precision": "float32"},
            choices=_CURVES,
            meanings=_MEANINGS,
            sensitive_to=("fill",),
            scores=(ScoreSpec(name="insertion", higher_is_better=True),),
            family="faithfulness",
            needs=("attribution",),
            summary="area under the target's probability while the most relevant pixels come first (LeRF backwards)",
            citation=_RISE,
            cites=("petsiuk2018rise",),
        ),
        MetricSpec(
            name="srg",
            version=1,
            factory=f"{source}:srg",
            params={"fill": "mean", "steps": STEPS, "precision": "float32"},
            choices=_CURVES,
            meanings=_MEANINGS,
            sensitive_to=("fill",),
            scores=(
                ScoreSpec(name="srg", higher_is_better=True, bounds=(-1, 1), chance=0.0),
                ScoreSpec(name="lerf", higher_is_better=True),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="area while the least relevant pixels go first (LeRF) less that while the most relevant do (MoRF)",
            citation="Bluecher, Vielhaben, Strodthoff: Decoupling pixel flipping and occlusion strategy. TMLR 2024",
            cites=("bluecher2024decoupling",),
        ),
        MetricSpec(
            name="normalised_area",
            version=1,
            factory=f"{source}:normalised_area",
            params={"fill": "mean", "steps": STEPS, "least": 0.05, "precision": "float32"},
            choices=_CURVES,
            meanings={**_MEANINGS, "least": "least gap of the image's probability over the fill's; above 0, up to 1"},
            sensitive_to=("fill", "least"),
            scores=(
                ScoreSpec(name="normalised_deletion", higher_is_better=False, bounds=UNBOUNDED),
                ScoreSpec(name="normalised_insertion", higher_is_better=True, bounds=UNBOUNDED),
                ScoreSpec(name="aopc", higher_is_better=True, bounds=(-1, 1)),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="deletion and insertion between the fill's probability (0) and the image's (1); mean drop (AOPC)",
            citation="Samek et al.: Evaluating the visualization of what a deep neural network has learned. TNNLS 2017",
            cites=("samek2017evaluating", "petsiuk2018rise"),
        ),
        *_sampled(),
        *_imputed(),
    ]


def _imputed() -> list[MetricSpec]:
    source, paper = "xbench.metrics.road", "Rong et al.: A consistent and efficient evaluation strategy. ICML 2022"
    meanings = {
        "steps": "shares of the pixels that are replaced, evenly spread; 9: from 10 % to 90 %",
        "noise": "standard deviation of the noise on replaced pixels, images lying in [0,1]; 0 or more",
    }
    return [
        MetricSpec(
            name="road",
            version=1,
            factory=f"{source}:road",
            params={"steps": 9, "noise": 0.01},
            meanings=meanings,
            sensitive_to=("noise",),
            scores=(
                ScoreSpec(name="road", higher_is_better=False),
                ScoreSpec(name="road_prob", higher_is_better=False),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="accuracy, and probability, with the most relevant pixels replaced by their neighbours' means (MoRF)",
            citation=paper,
            cites=("rong2022consistent",),
        ),
        MetricSpec(
            name="road_lerf",
            version=1,
            factory=f"{source}:road_lerf",
            params={"steps": 9, "noise": 0.01},
            meanings=meanings,
            sensitive_to=("noise",),
            scores=(
                ScoreSpec(name="road_lerf", higher_is_better=True),
                ScoreSpec(name="road_lerf_prob", higher_is_better=True),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="accuracy, and probability, with the least relevant pixels replaced by their neighbours' means (LeRF)",
            citation=paper,
            cites=("rong2022consistent",),
        ),
    ]


def _sampled() -> list[MetricSpec]:
    source = "xbench.metrics.sampling"
    return [
        MetricSpec(
            name="faithfulness_correlation",
            version=1,
            factory=f"{source}:faithfulness_correlation",
            params={"runs": 50, "share": 0.15, "fill": "mean", "score": "prob"},
            choices={**_FILLS, "score": ("prob", "logit")},
            meanings={
                "runs": "random sets of pixels, each a forward pass; 3 or more",
                "share": "share of the pixels that a set holds; between 0 and 1",
                "fill": _FILLED,
                "score": _SCORED,
            },
            sensitive_to=("share", "fill", "score"),
            scores=(ScoreSpec(name="faithfulness_correlation", higher_is_better=True, bounds=(-1, 1), chance=0.0),),
            family="faithfulness",
            needs=("attribution",),
            summary="correlation, over random sets of pixels, of their attribution and of what filling them costs",
            citation="Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations. IJCAI 2020",
            cites=("bhatt2020evaluating",),
        ),
        MetricSpec(
            name="infidelity",
            version=1,
            factory=f"{source}:infidelity",
            params={"runs": 50, "noise": 0.1, "score": "prob"},
            choices={"score": ("prob", "logit")},
            meanings={
                "runs": "draws of noise, each a forward pass; 2 or more",
                "noise": "standard deviation of the noise, images lying in [0,1]; above 0",
                "score": _SCORED,
            },
            sensitive_to=("noise", "score"),
            scores=(ScoreSpec(name="infidelity", higher_is_better=False),),
            family="faithfulness",
            needs=("attribution",),
            summary="what the best multiple of the map leaves unexplained of the changes that noise makes, 0 to 1",
            citation="Yeh, Hsieh, Suggala, Inouye, Ravikumar: (In)fidelity and sensitivity of explanations. NeurIPS 2019",
            cites=("yeh2019infidelity",),
        ),
    ]
