"""Metrics, declared: planted features that should not decide."""

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
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
            citation="Arras, Osman, Samek: CLEVR-XAI. Information Fusion 2022 (relevance mass accuracy, of the shortcut)",
            cites=("arras2022clevrxai",),
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
            citation="Xiao, Engstrom, Ilyas, Madry: Noise or signal: the role of image backgrounds. ICLR 2021",
            cites=("xiao2021noise",),
        ),
    ]
