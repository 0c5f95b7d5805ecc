"""Relevance propagation: deep Taylor decomposition and LRP."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the explainers."""
    return [
        ExplainerSpec(
            name="deep_taylor",
            version=1,
            factory="xbench_relevance.explainers:deep_taylor",
            params={"input_rule": "z_b"},
            choices={"input_rule": ("z_b", "w_square", "z_plus")},
            meanings={
                "input_rule": "rule of the first layer: for pixels in [0,1] (z_b), without bounds (w_square), or z+"
            },
            polarity="positive",
            needs=("gradients",),
            cost={"forwards": 1, "backwards": 1},
            summary="the logit handed back layer by layer to what raised it; nothing is lost to biases",
            citation=(
                "Montavon, Lapuschkin, Binder, Samek, Müller: Explaining nonlinear classification decisions with deep Taylor "
                "decomposition. Pattern Recognition 65, 2017"
            ),
            cites=("montavon2017explaining",),
        ),
        ExplainerSpec(
            name="lrp",
            version=1,
            factory="xbench_relevance.explainers:lrp",
            params={"rule": "gamma", "gamma": 0.25, "eps": 0.25},
            choices={"rule": ("gamma", "epsilon")},
            meanings={
                "rule": "gamma: z^B first, gamma in convolutions, epsilon in dense layers; epsilon: that everywhere",
                "gamma": "how much more contributions of the output's sign count in convolutions; 0 or more",
                "eps": "stabiliser of the epsilon rule, as a share of the RMS of a layer's outputs; 0 or more",
            },
            needs=("gradients",),
            cost={"forwards": 1, "backwards": 1},
            summary="the logit handed back layer by layer, with its sign",
            citation=(
                "Bach, Binder, Montavon, Klauschen, Müller, Samek: On pixel-wise explanations for non-linear classifier "
                "decisions by layer-wise relevance propagation. PLOS ONE 10(7), 2015; rules: Montavon, Binder, Lapuschkin, "
                "Samek, Müller: Layer-wise relevance propagation: an overview. 2019"
            ),
            cites=("bach2015pixelwise", "montavon2019layerwise"),
        ),
    ]
