"""The harness's own metrics, declared through the same hook as a stranger's; the modules behind them import torch."""

import math
from typing import Any

from xbench.hookspecs import hookimpl
from xbench.specs import UNBOUNDED, MetricSpec, ScoreSpec

_RISE = "Petsiuk, Das, Saenko: RISE. BMVC 2018"
_FILLS = {"fill": ("zero", "mean", "blur", "noise")}


@hookimpl
def xbench_metrics() -> list[MetricSpec]:
    """Return the harness's metrics, family by family."""
    return [
        *_classifier(),
        *_faithfulness(),
        *_localisation(),
        *_complexity(),
        *_robustness(),
        *_randomisation(),
        *_preservation(),
        *_shortcut(),
        *_blankness(),
        *_translation(),
    ]


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
        MetricSpec(
            name="srg",
            version=1,
            factory=f"{source}:srg",
            params={"fill": "mean", "steps": 28},
            choices=_FILLS,
            scores=(
                ScoreSpec(name="srg", higher_is_better=True, bounds=(-1, 1), chance=0.0),
                ScoreSpec(name="lerf", higher_is_better=True),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="area while the least relevant pixels go first (LeRF) less that while the most relevant do (MoRF)",
            citation="Bluecher, Vielhaben, Strodthoff: Decoupling pixel flipping and occlusion strategy. TMLR 2024",
        ),
        MetricSpec(
            name="normalised_area",
            version=1,
            factory=f"{source}:normalised_area",
            params={"fill": "mean", "steps": 28, "least": 0.05},
            choices=_FILLS,
            scores=(
                ScoreSpec(name="normalised_deletion", higher_is_better=False, bounds=UNBOUNDED),
                ScoreSpec(name="normalised_insertion", higher_is_better=True, bounds=UNBOUNDED),
                ScoreSpec(name="aopc", higher_is_better=True, bounds=(-1, 1)),
            ),
            family="faithfulness",
            needs=("attribution",),
            summary="deletion and insertion between the fill's probability (0) and the image's (1); mean drop (AOPC)",
            citation="Samek et al.: Evaluating the visualization of what a deep neural network has learned. TNNLS 2017",
        ),
        *_sampled(),
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
            scores=(ScoreSpec(name="faithfulness_correlation", higher_is_better=True, bounds=(-1, 1), chance=0.0),),
            family="faithfulness",
            needs=("attribution",),
            summary="correlation, over random sets of pixels, of their attribution and of what filling them costs",
            citation="Bhatt, Weller, Moura: Evaluating and aggregating feature-based model explanations. IJCAI 2020",
        ),
        MetricSpec(
            name="infidelity",
            version=1,
            factory=f"{source}:infidelity",
            params={"runs": 50, "noise": 0.1, "score": "prob"},
            choices={"score": ("prob", "logit")},
            scores=(ScoreSpec(name="infidelity", higher_is_better=False, chance="per_sample"),),
            family="faithfulness",
            needs=("attribution",),
            summary="what the best multiple of the map leaves unexplained of the changes that noise makes, 0 to 1",
            citation="Yeh, Hsieh, Suggala, Inouye, Ravikumar: (In)fidelity and sensitivity of explanations. NeurIPS 2019",
        ),
    ]


def _robustness() -> list[MetricSpec]:
    source = "xbench.metrics.robustness"
    return [
        MetricSpec(
            name="max_sensitivity",
            version=1,
            factory=f"{source}:max_sensitivity",
            params={"radius": 0.02, "draws": 10},
            scores=(ScoreSpec(name="max_sensitivity", higher_is_better=False, bounds=(0, math.inf)),),
            family="robustness",
            needs=("attribution",),
            summary="how far the map moves, relative to its size, under the worst of `draws` noises of up to `radius`",
            citation="Yeh, Hsieh, Suggala, Inouye, Ravikumar: (In)fidelity and sensitivity of explanations. NeurIPS 2019",
        ),
        MetricSpec(
            name="shift_stability",
            version=1,
            factory=f"{source}:shift_stability",
            params={"pixels": 2},
            scores=(ScoreSpec(name="shift_stability", higher_is_better=True, bounds=(-1, 1)),),
            family="robustness",
            needs=("attribution",),
            summary="whether the map moves with the image: rank correlation, mean over shifts of `pixels` in four directions",
        ),
    ]


def _randomisation() -> list[MetricSpec]:
    source = "xbench.metrics.randomisation"
    return [
        MetricSpec(
            name="mprt",
            version=1,
            factory=f"{source}:mprt",
            params={"steps": 0, "absolute": True},
            scores=(
                ScoreSpec(name="mprt", higher_is_better=False, bounds=(-1, 1), chance=0.0),
                ScoreSpec(name="mprt_last", higher_is_better=False, bounds=(-1, 1), chance=0.0),
            ),
            family="randomisation",
            needs=("attribution",),
            summary="how like itself the map stays while layer after layer, the last first, forgets what it learnt",
            citation="Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim: Sanity checks for saliency maps. NeurIPS 2018",
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
        ),
        MetricSpec(
            name="random_logit",
            version=1,
            factory=f"{source}:random_logit",
            params={"absolute": False},
            scores=(ScoreSpec(name="random_logit", higher_is_better=False, bounds=(-1, 1)),),
            family="randomisation",
            needs=("attribution",),
            summary="rank correlation of the map for the target and the map for another class",
            citation="Sixt, Granz, Landgraf: When explanations lie. ICML 2020",
        ),
    ]


def _complexity() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="complexity",
            version=1,
            factory="xbench.metrics.complexity:complexity",
            params={"share": 0.05},
            scores=(
                ScoreSpec(name="sparseness", higher_is_better=True),
                ScoreSpec(name="entropy", higher_is_better=False),
                ScoreSpec(name="effective_complexity", higher_is_better=False),
            ),
            family="complexity",
            needs=("attribution",),
            summary="how few pixels hold the positive evidence: Gini index, entropy, share of pixels above `share` of the top",
            citation=(
                "Chalasani, Chen, Chowdhury, Wu, Jha: Concise explanations of neural networks using adversarial training. "
                "ICML 2020; Bhatt, Weller, Moura. IJCAI 2020; Nguyen, Martinez. arXiv 2007.07584"
            ),
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
        *_retrieval(),
    ]


def _retrieval() -> list[MetricSpec]:
    def one(name: str, summary: str, chance: Any, citation: str = "", **other: Any) -> MetricSpec:
        return MetricSpec(
            name=name,
            version=1,
            factory=f"xbench.metrics.retrieval:{name}",
            scores=(ScoreSpec(name=name, higher_is_better=True, chance=chance),),
            family="localisation",
            needs=("attribution", "mask"),
            summary=summary,
            citation=citation,
            **other,
        )

    return [
        one("average_precision", "area under precision over recall of the mask's pixels, all thresholds", "per_sample"),
        one("mask_auroc", "probability that a pixel of the mask is above one outside", 0.5),
        one(
            "iou",
            "overlap of the mask and the pixels above a threshold; a blank map scores 0",
            None,
            "Saporta et al.: Benchmarking saliency methods for chest X-ray interpretation. Nature Machine Intelligence 2022",
            params={"threshold": "otsu"},
            choices={"threshold": ("otsu", "half")},
        ),
    ]


def _preservation() -> list[MetricSpec]:
    source = "xbench.metrics.preservation"
    study = "Ikeno, Hara, Washio: Highlighting non-contributing pixels for visual explanation of CNNs. JSAI 2018"
    return [
        MetricSpec(
            name="preservation",
            version=1,
            factory=f"{source}:preservation",
            params={"draws": 4, "steps": 10, "amplitude": 1.0},
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
            family="preservation",
            needs=("attribution",),
            summary="what an explainer that optimises noise reached: objective, coverage, violations, what its masks change",
            citation=study,
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
