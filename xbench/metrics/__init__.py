"""The harness's own metrics, declared through the same hook as a stranger's; the modules behind them import torch."""

from xbench.hookspecs import hookimpl
from xbench.specs import MetricSpec, ScoreSpec

_RISE = "Petsiuk, Das, Saenko: RISE. BMVC 2018"
_FILLS = {"fill": ("zero", "mean", "blur", "noise")}


@hookimpl
def xbench_metrics() -> list[MetricSpec]:
    """Return the harness's metrics, family by family."""
    return [*_classifier(), *_faithfulness(), *_localisation(), *_shortcut(), *_blankness()]


def _classifier() -> list[MetricSpec]:
    source = "xbench.metrics.classifier"
    return [
        MetricSpec(
            name="accuracy",
            version=1,
            factory=f"{source}:accuracy",
            scores=(ScoreSpec(name="accuracy", higher_is_better=True),),
            family="classifier",
            level="model",
            summary="share of test samples classified correctly",
        ),
        MetricSpec(
            name="auroc",
            version=1,
            factory=f"{source}:auroc",
            scores=(ScoreSpec(name="auroc", higher_is_better=True, chance=0.5, aggregate="auroc"),),
            family="classifier",
            level="model",
            needs=("two_classes",),
            summary="area under the ROC curve of the second class's probability",
        ),
    ]


def _faithfulness() -> list[MetricSpec]:
    source = "xbench.metrics.faithfulness"
    return [
        MetricSpec(
            name="deletion",
            version=1,
            factory=f"{source}:deletion",
            params={"fill": "mean", "steps": 28},
            choices=_FILLS,
            scores=(ScoreSpec(name="deletion", higher_is_better=False),),
            family="faithfulness",
            needs=("attribution",),
            summary="area under the target's probability while the most relevant pixels go first (MoRF)",
            citation=_RISE,
        ),
        MetricSpec(
            name="insertion",
            version=1,
            factory=f"{source}:insertion",
            params={"fill": "blur", "steps": 28},
            choices=_FILLS,
            scores=(ScoreSpec(name="insertion", higher_is_better=True),),
            family="faithfulness",
            needs=("attribution",),
            summary="area under the target's probability while the most relevant pixels come first (LeRF backwards)",
            citation=_RISE,
        ),
    ]


def _localisation() -> list[MetricSpec]:
    source = "xbench.metrics.localisation"

    def one(name: str, needs: str, summary: str, citation: str = "", **params: float) -> MetricSpec:
        return MetricSpec(
            name=name,
            version=1,
            factory=f"{source}:{name}",
            params=params,
            scores=(ScoreSpec(name=name, higher_is_better=True, chance="per_sample"),),
            family="localisation",
            needs=("attribution", needs),
            summary=summary,
            citation=citation,
        )

    return [
        one(
            "localisation_precision",
            "mask",
            "share of the k highest pixels inside the mask, k = the mask's area",
            "Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance rank accuracy)",
        ),
        one(
            "difference_precision",
            "counterfactual",
            "share of the k highest pixels where the exact counterfactual differs, k = the number of those",
        ),
        one(
            "pointing_game",
            "mask",
            "whether the highest pixel lies in the mask (or within `tolerance` pixels of it)",
            "Zhang, Lin, Brandt, Shen, Sclaroff: Top-down neural attention by excitation backprop. ECCV 2016",
            tolerance=0.0,
        ),
        one(
            "relevance_mass",
            "mask",
            "share of the positive attribution inside the mask",
            "Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance mass accuracy)",
        ),
    ]


def _shortcut() -> list[MetricSpec]:
    source = "xbench.metrics.shortcut"
    return [
        MetricSpec(
            name="shortcut_share",
            version=1,
            factory=f"{source}:shortcut_share",
            scores=(ScoreSpec(name="shortcut_share", higher_is_better=None, chance="per_sample"),),
            family="shortcut",
            needs=("attribution", "shortcut"),
            summary="share of the positive attribution on a planted shortcut",
        ),
        MetricSpec(
            name="swap_accuracy",
            version=1,
            factory=f"{source}:swap_accuracy",
            scores=(
                ScoreSpec(name="swap_accuracy", higher_is_better=True),
                ScoreSpec(name="swap_flip_rate", higher_is_better=False),
            ),
            family="shortcut",
            level="model",
            needs=("swapped",),
            summary="the classifier's accuracy, and its changed predictions, when the shortcut is swapped",
        ),
    ]


def _blankness() -> list[MetricSpec]:
    names = ("blank_rate", "vanished_rate", "all_negative_rate", "constant_rate", "nonfinite_rate")
    return [
        MetricSpec(
            name="blankness",
            version=1,
            factory="xbench.metrics.blankness:blankness",
            params={"tolerance": 0.0},
            scores=tuple(ScoreSpec(name=name, higher_is_better=False, aggregate="rate") for name in names),
            family="blankness",
            needs=("attribution",),
            summary="share of maps that show nothing, and why: vanished, all negative, constant or not finite",
            citation="Sakai, Takenaka: Visualization of learning process for convolution neural network. JSAI 2019",
        ),
    ]
