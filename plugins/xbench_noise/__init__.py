"""Non-contributing pixels: the noise that every pixel bears before the network's outputs move."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the explainer that optimises noise."""
    return [
        ExplainerSpec(
            name="noncontributing",
            version=1,
            factory="xbench_noise.explainer:noncontributing",
            params={
                "preset": "draft",
                "score": "logit",
                "reference": "masked",
                "tolerance": 0.0,
                "theta": "0.2:0:0",
                "steps": 0,
                "draws": 0,
                "lr": 0.0,
                "w0": 0.5,
                "clamp": False,
            },
            choices={
                "preset": ("draft", "fast", "paper"),
                "score": ("logit", "prob"),
                "reference": ("masked", "original"),
            },
            quick={"steps": 5, "draws": 4},
            known_failures={
                "explains the target": "no output may move, of whatever class: the map is one of the image",
            },
            meanings=_MEANINGS,
            polarity="non_contributing",
            needs=("gradients",),
            stochastic=True,
            cost="xbench_noise.costs:noncontributing",
            summary="the noise level that each pixel bears before the outputs move; high = does not contribute",
            citation="Ikeno, Hara, Washio: Highlighting non-contributing pixels for visual explanation of CNNs. JSAI 2018",
            cites=("ikeno2018highlighting",),
        ),
    ]


_MEANINGS = {
    "preset": "way down and budget: paper 15,000 steps of 100 draws, fast 250 of 100, draft 100 of 12",
    "score": "the outputs that should not move: logits or probabilities",
    "reference": "whose outputs should not move: the network's with its mask units, or the untouched network's",
    "tolerance": "how far an output may move, in the score's units; 0: .45 of the gap of the largest two",
    "theta": "thresholds of the mask units, one a ReLU, the last for all that follow; off: no such units",
    "steps": "steps down; 0: the preset's",
    "draws": "draws of noise a step; 0: the preset's",
    "lr": "learning rate; 0: the preset's",
    "w0": "the noise level that every pixel starts from; above 0 (preset=paper: from 0) to 1",
    "clamp": "keep noisy images in [0,1]",
}
