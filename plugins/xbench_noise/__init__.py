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
            polarity="non_contributing",
            needs=("gradients",),
            stochastic=True,
            summary="the noise level that each pixel bears before the outputs move; high = does not contribute",
            citation="Ikeno, Hara, Washio: Highlighting non-contributing pixels for visual explanation of CNNs. JSAI 2018",
            cites=("ikeno2018highlighting",),
        ),
    ]
