"""Class activation maps: Grad-CAM on logits or probabilities."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the CAM explainers."""
    return [
        ExplainerSpec(
            name="gradcam",
            version=1,
            factory="xbench_cam.gradcam:gradcam",
            params={"score": "logit", "layer": ""},
            choices={"score": ("logit", "prob")},
            polarity="positive",
            needs=("gradients", "conv_layer"),
            summary="feature maps of a layer weighted by their mean gradient",
            citation=(
                "Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM. ICCV 2017; logits against probabilities: "
                "Sakai, Takenaka: Visualization of learning process for convolution neural network. JSAI 2019"
            ),
        ),
    ]
