"""The harness's own metrics, declared through the same hook as a stranger's; the modules behind them import torch."""

from typing import Any

from xbench.hookspecs import hookimpl
from xbench.specs import MetricSpec, ScoreSpec

_RISE = "Petsiuk, Das, Saenko: RISE. BMVC 2018"
_FILLS = {"fill": ("zero", "mean", "blur", "noise")}


@hookimpl
def xbench_metrics() -> list[MetricSpec]:
    """Return the harness's metrics, family by family."""
    return [*_classifier(), *_faithfulness(), *_localisation(), *_shortcut(), *_blankness(), *_translation()]


def _classifier() -> list[MetricSpec]:
    source = "xbench.metrics.classifier"
    return [
        MetricSpec(
            name="accuracy",
            version=1,
            factory=f"{source}:accuracy",
            scores=(ScoreSpec(name="accuracy", higher_is_better=True, aggregate="rate"),),
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
                ScoreSpec(name="swap_accuracy", higher_is_better=True, aggregate="rate"),
                ScoreSpec(name="swap_flip_rate", higher_is_better=False, aggregate="rate"),
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


def _translation() -> list[MetricSpec]:
    flips, images = "xbench.metrics.translation", "xbench.metrics.counterfactual"
    study = "Tsutsui: A study on explainability of convolutional neural networks using generative adversarial networks"

    def one(name: str, factory: str, *scores: ScoreSpec, needs: str = "", **other: Any) -> MetricSpec:
        needed = ("translation", *needs.split())
        return MetricSpec(
            name=name,
            version=1,
            factory=f"{factory}:{name}",
            scores=scores,
            family="translation",
            needs=needed,
            **other,
        )

    def rate(name: str, higher_is_better: bool | None) -> ScoreSpec:
        return ScoreSpec(name=name, higher_is_better=higher_is_better, aggregate="rate")

    return [
        one(
            "translation_flip_rate",
            flips,
            rate("translation_flip_rate", True),
            rate("corrected_flip_rate", True),
            rate("unflip_rate", False),
            ScoreSpec(name="net_shift", higher_is_better=True, bounds=(-1, 1)),
            ScoreSpec(name="confidence_gain", higher_is_better=True, bounds=(-1, 1)),
            needs="two_classes",
            summary="share of predictions that a translation changes, which way, and how far the probability moves",
            citation=study,
        ),
        one(
            "validity",
            flips,
            rate("validity", True),
            needs="two_classes",
            params={"from": ""},
            summary="share of translated images that are predicted as the other class (`from`: of one class's samples)",
            citation=study,
        ),
        one(
            "oracle_flip_rate",
            flips,
            rate("oracle_flip_rate", True),
            rate("oracle_validity", True),
            rate("oracle_agreement", None),
            needs="two_classes",
            uses=("oracle",),
            summary="what an independently trained classifier says of the translated images",
            citation="Hvilshoj, Iosifidis, Assent: On quantitative evaluations of counterfactuals. arXiv 2111.00177 (2021)",
        ),
        one(
            "translation_controls",
            flips,
            *(rate(name, False) for name in ("cycle_flip_rate", "noise_flip_rate", "swapped_flip_rate")),
            summary="predictions changed by what must not: a round trip, noise of equal size, another image's change",
        ),
        one(
            "proximity",
            images,
            *(ScoreSpec(name=name, higher_is_better=False) for name in ("l1", "l2", "changed_share")),
            summary="how far the translated image is from the image, and on how many pixels",
        ),
        one(
            "difference_mass",
            images,
            ScoreSpec(name="difference_mass", higher_is_better=True, chance="per_sample"),
            needs="mask",
            params={"margin": 0.1},
            summary="share of the change on the object, or within `margin` image sides of it",
        ),
        one(
            "counterfactual_distance",
            images,
            ScoreSpec(name="counterfactual_distance", higher_is_better=False, chance="per_sample"),
            ScoreSpec(name="ring_mass", higher_is_better=True, chance="per_sample"),
            needs="counterfactual",
            summary="distance to the exact counterfactual (chance: of doing nothing), and share of the change where it lies",
        ),
        one(
            "attention_agreement",
            images,
            ScoreSpec(name="attention_agreement", higher_is_better=True, bounds=(-1, 1), chance=0.0),
            ScoreSpec(name="attention_mass", higher_is_better=True),
            ScoreSpec(name="attention_area", higher_is_better=None),
            ScoreSpec(name="attention_iou", higher_is_better=True, chance="per_sample"),
            needs="attribution",
            params={"tau": 0.1, "top": 0.1},
            summary="whether the attribution says where the translation changes the image",
        ),
        one(
            "cout",
            images,
            ScoreSpec(name="cout", higher_is_better=True, bounds=(-1, 1)),
            needs="two_classes",
            params={"steps": 50},
            summary="how soon the class turns when the pixels that change most come first",
            citation="Khorram, Li: Cycle-consistent counterfactuals by latent transformations. CVPR 2022",
        ),
    ]
