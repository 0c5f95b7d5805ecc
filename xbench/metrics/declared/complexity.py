"""Metrics, declared: how simple is the map?"""

from xbench.specs import MetricSpec, ScoreSpec


def specs() -> list[MetricSpec]:
    """Return the family's metrics."""
    return [
        MetricSpec(
            name="complexity",
            version=1,
            factory="xbench.metrics.complexity:complexity",
            params={"share": 0.05},
            meanings={"share": "a pixel counts above this share of the highest; from 0, below 1"},
            sensitive_to=("share",),
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
            cites=("chalasani2020concise", "bhatt2020evaluating", "nguyen2020quantitative"),
        ),
    ]
