"""Metrics, declared: of the classifier alone."""

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
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
            citation="Hanley, McNeil: The meaning and use of the area under a ROC curve. Radiology 143, 1982",
            cites=("hanley1982meaning",),
        ),
    ]
