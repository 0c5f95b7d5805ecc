"""Metrics, declared: does a translated image change the prediction, and what of the image?"""

from typing import Any

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
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
            known_failures={"has a value for ordinary maps": "unflip_rate is of wrong predictions only"},
            summary="share of predictions that a translation changes, which way, and how far the probability moves",
            citation=study,
            cites=("tsutsui_explainability",),
        ),
        one(
            "validity",
            flips,
            rate("validity", True),
            needs="two_classes",
            params={"from": ""},
            meanings={"from": "name of the class whose samples count, by their label; empty: all"},
            sensitive_to=("from",),
            summary="share of translated images that are predicted as the other class (`from`: of one class's samples)",
            citation=study,
            cites=("tsutsui_explainability",),
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
            cites=("hvilshoj2021quantitative",),
        ),
        one(
            "translation_controls",
            flips,
            *(rate(name, False) for name in ("cycle_flip_rate", "noise_flip_rate", "swapped_flip_rate")),
            summary="predictions changed by what must not: a round trip, noise of equal size, another image's change",
            citation=study,
            cites=("tsutsui_explainability",),
        ),
        one(
            "proximity",
            images,
            *(ScoreSpec(name=name, higher_is_better=False) for name in ("l1", "l2", "changed_share")),
            summary="how far the translated image is from the image, and on how many pixels",
            citation="Mothilal, Sharma, Tan: Diverse counterfactual explanations. FAT* 2020 (proximity, sparsity)",
            cites=("mothilal2020explaining",),
        ),
        one(
            "difference_mass",
            images,
            ScoreSpec(name="difference_mass", higher_is_better=True, chance="per_sample"),
            needs="mask",
            params={"margin": 0.1},
            meanings={"margin": "border of the object that counts, as a share of the image's shorter side; 0 to 1"},
            sensitive_to=("margin",),
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
            meanings={
                "tau": "attention from which on a pixel counts in attention_mass and _area; 0 to 1",
                "top": "share of the highest pixels that attention_iou compares; above 0, up to 1",
            },
            sensitive_to=("tau", "top"),
            summary="whether the attribution says where the translation changes the image",
            citation=study,
            cites=("tsutsui_explainability",),
        ),
        one(
            "cout",
            images,
            ScoreSpec(name="cout", higher_is_better=True, bounds=(-1, 1)),
            needs="two_classes",
            params={"steps": 50},
            meanings={"steps": "steps in which the changed pixels come; 1 or more"},
            summary="how soon the class turns when the pixels that change most come first",
            citation="Khorram, Li: Cycle-consistent counterfactuals by latent transformations. CVPR 2022",
            cites=("khorram2022cycle",),
        ),
    ]
