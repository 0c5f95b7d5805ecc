"""Translation as explanation: an attention-guided CycleGAN that shows what would have to change for the other class."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the translating explainers."""
    return [
        ExplainerSpec(
            name="ag_cyclegan",
            version=2,
            factory="xbench_translation.explainer:ag_cyclegan",
            fit="xbench_translation.training:fit_ag_cyclegan",
            params={
                "preset": "small",
                "share": "",
                "judge": "",
                "attn_decoder_kernel": 0,
                "iterations": 0,
                "epochs": 0,
                "batch": 0,
                "lr": 0.0,
                "generator_width": 0,
                "discriminator_width": 0,
                "blocks": 0,
                "zoom": 0.0,
                "flip": "",
                "switch": -1.0,
                "attention_cost": -1.0,
                "threshold": 0.1,
                "cycle": 10.0,
                "pool": 50,
            },
            choices={
                "preset": ("small", "paper"),
                "share": ("", "none", "attention", "attention+generator", "init_only"),
                "judge": ("", "own", "classifier"),
                "attn_decoder_kernel": (0, 1, 3),
                "flip": ("", "yes", "no"),
            },
            gives=("attribution", "counterfactual"),
            polarity="positive",
            needs=("two_classes", "conv_layer"),
            summary="attention map and translated image of an attention-guided CycleGAN between the two classes",
            citation=(
                "Tsutsui: A study on explainability of convolutional neural networks using generative adversarial networks; "
                "Mejjati, Richardt, Tompkin, Cosker, Kim: Unsupervised attention-guided image-to-image translation. "
                "NeurIPS 2018"
            ),
            cites=("tsutsui_explainability", "mejjati2018unsupervised"),
        )
    ]
