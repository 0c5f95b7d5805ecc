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
            quick={"iterations": 4, "epochs": 2, "batch": 4},
            known_failures={
                "explains the target": "it translates away from the label's class, whichever is explained",
            },
            meanings=_MEANINGS,
            gives=("attribution", "counterfactual"),
            polarity="positive",
            needs=("two_classes", "conv_layer"),
            cost={"forwards": 0, "backwards": 0},  # its own networks make the map
            summary="attention map and translated image of an attention-guided CycleGAN between the two classes",
            citation=(
                "Tsutsui: A study on explainability of convolutional neural networks using generative adversarial networks; "
                "Mejjati, Richardt, Tompkin, Cosker, Kim: Unsupervised attention-guided image-to-image translation. "
                "NeurIPS 2018"
            ),
            cites=("tsutsui_explainability", "mejjati2018unsupervised"),
        )
    ]


_MEANINGS = {
    "preset": "the other parameters' values: of the published code (paper), or for 64 x 64 on a CPU (small)",
    "share": "what is built on the classifier: nothing, attention, generator too, copies; empty: the preset's",
    "judge": "discriminators: networks of their own or copies of the classifier; empty: the preset's",
    "attn_decoder_kernel": "side of the attention decoder's kernels, in pixels; 0: the preset's",
    "iterations": "training steps in all; 0: the preset's",
    "epochs": "parts of the training, each with a learning rate and a checkpoint; 0: the preset's",
    "batch": "images of each class a step; 0: the preset's",
    "lr": "Adam's learning rate, in the second half of the epochs down to 0; 0: the preset's",
    "generator_width": "channels of the generator at full size; 0: the preset's",
    "discriminator_width": "channels of the discriminators' first layer; 0: the preset's",
    "blocks": "residual blocks of the generator; 0: the preset's",
    "zoom": "enlargement before a random cut back to size, 1 to 4; 0: the preset's",
    "flip": "mirror half of the training images; empty: the preset's",
    "switch": "share of the epochs, 0 to 1, after which the attention is frozen; below 0: the preset's",
    "attention_cost": "weight of the mean attention in the loss; below 0: the preset's",
    "threshold": "after the switch discriminators see pixels from this attention on; 0 to 1",
    "cycle": "weight of the cycle loss; 0 or more",
    "pool": "earlier translations kept of each class, to train the discriminators on; 0 or more",
}
