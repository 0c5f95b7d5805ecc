"""Metrics, declared: does the map lie on the object?"""

from typing import Any

from xbench.specs import MetricSpec, ScoreSpec

_CHEXLOCALIZE = (
    "Saporta et al.: Benchmarking saliency methods for chest X-ray interpretation. Nature Machine Intelligence 2022"
)

_MEANINGS = {
    "tolerance": "how near to the mask, in pixels, the highest pixel is still a hit; 0: in it only",
    "threshold": "of the positive evidence: Otsu's, or half of its highest value",
}


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    source = "xbench.metrics.localisation"

    def one(name: str, needs: str, summary: str, citation: str, cite: str, **params: float) -> MetricSpec:
        return MetricSpec(
            name=name,
            version=1,
            factory=f"{source}:{name}",
            params=params,
            meanings={name: _MEANINGS[name] for name in params},
            sensitive_to=tuple(params),
            scores=(ScoreSpec(name=name, higher_is_better=True, chance="per_sample"),),
            family="localisation",
            needs=("attribution", needs),
            summary=summary,
            citation=citation,
            cites=(cite,),
        )

    return [
        one(
            "localisation_precision",
            "mask",
            "share of the k highest pixels inside the mask, k = the mask's area",
            "Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance rank accuracy)",
            "arras2022clevrxai",
        ),
        one(
            "difference_precision",
            "counterfactual",
            "share of the k highest pixels where the exact counterfactual differs, k = the number of those",
            "Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance rank accuracy, of the difference)",
            "arras2022clevrxai",
        ),
        one(
            "pointing_game",
            "mask",
            "whether the highest pixel lies in the mask (or within `tolerance` pixels of it)",
            "Zhang, Lin, Brandt, Shen, Sclaroff: Top-down neural attention by excitation backprop. ECCV 2016",
            "zhang2016topdown",
            tolerance=0.0,
        ),
        one(
            "relevance_mass",
            "mask",
            "share of the positive attribution inside the mask",
            "Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance mass accuracy)",
            "arras2022clevrxai",
        ),
        *_retrieval(),
    ]


def _retrieval() -> list[MetricSpec]:
    def one(name: str, summary: str, chance: Any, citation: str, cite: str, **other: Any) -> MetricSpec:
        return MetricSpec(
            name=name,
            version=1,
            factory=f"xbench.metrics.retrieval:{name}",
            scores=(ScoreSpec(name=name, higher_is_better=True, chance=chance),),
            family="localisation",
            needs=("attribution", "mask"),
            summary=summary,
            citation=citation,
            cites=(cite,),
            **other,
        )

    return [
        one(
            "average_precision",
            "area under precision over recall of the mask's pixels, all thresholds",
            "per_sample",
            "Davis, Goadrich: The relationship between precision-recall and ROC curves. ICML 2006",
            "davis2006relationship",
        ),
        one(
            "mask_auroc",
            "probability that a pixel of the mask is above one outside",
            0.5,
            "Hanley, McNeil: The meaning and use of the area under a ROC curve. Radiology 143, 1982",
            "hanley1982meaning",
        ),
        one(
            "iou",
            "overlap of the mask and the pixels above a threshold; a blank map scores 0",
            None,
            _CHEXLOCALIZE,
            "saporta2022benchmarking",
            params={"threshold": "otsu"},
            choices={"threshold": ("otsu", "half")},
            meanings={"threshold": _MEANINGS["threshold"]},
            sensitive_to=("threshold",),
        ),
        MetricSpec(
            name="iou_tuned",
            version=1,
            factory="xbench.metrics.tuned:iou_tuned",
            scores=(ScoreSpec(name="iou_tuned", higher_is_better=True, aggregate="tuned", width=20),),
            family="localisation",
            needs=("attribution", "mask"),
            summary="overlap at the threshold that is best for the explainer on the other half of the groups",
            citation=_CHEXLOCALIZE,
            cites=("saporta2022benchmarking",),
        ),
    ]
