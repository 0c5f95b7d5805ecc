"""Class activation maps: Grad-CAM on logits or probabilities, Grad-CAM++, LayerCAM, Score-CAM, Guided Grad-CAM."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec

_SCORE = ("logit", "prob")
_MEANINGS = {
    "score": "the target's score that is explained: its logit or its probability",
    "layer": "dotted name of the module whose feature maps are taken; empty: the last that has any",
}


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the CAM explainers."""
    return [
        ExplainerSpec(
            name="gradcam",
            version=2,
            factory="xbench_cam.gradcam:gradcam",
            params={"score": "logit", "layer": ""},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            polarity="positive",
            needs=("gradients", "conv_layer"),
            cost={"forwards": 1, "backwards": 1},
            summary="feature maps of a layer weighted by their mean gradient",
            citation=(
                "Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM. ICCV 2017; logits against probabilities: "
                "Sakai, Takenaka: Visualization of learning process for convolution neural network. JSAI 2019"
            ),
            cites=("selvaraju2017gradcam", "sakai2019visualization"),
        ),
        ExplainerSpec(
            name="gradcam_pp",
            version=1,
            factory="xbench_cam.gradcam:gradcam_pp",
            params={"layer": "", "normalise_alpha": False},
            meanings={
                "layer": _MEANINGS["layer"],
                "normalise_alpha": "divide alpha by its sum over each feature map, as the authors' code does",
            },
            polarity="positive",
            needs=("gradients", "conv_layer"),
            cost={"forwards": 1, "backwards": 1},
            summary="Grad-CAM++: feature maps weighted by their positive gradients, the less the more they hold",
            citation="Chattopadhyay, Sarkar, Howlader, Balasubramanian: Grad-CAM++. WACV 2018",
            cites=("chattopadhay2018gradcampp",),
        ),
        ExplainerSpec(
            name="layercam",
            version=1,
            factory="xbench_cam.gradcam:layercam",
            params={"score": "logit", "layer": ""},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            polarity="positive",
            needs=("gradients", "conv_layer"),
            cost={"forwards": 1, "backwards": 1},
            summary="feature maps of a layer weighted place by place by their positive gradient",
            citation="Jiang, Zhang, Hou, Cheng, Wei: LayerCAM. IEEE Transactions on Image Processing 30, 2021",
            cites=("jiang2021layercam",),
        ),
        ExplainerSpec(
            name="scorecam",
            version=1,
            factory="xbench_cam.scorecam:scorecam",
            params={"score": "logit", "layer": "", "variant": "cic"},
            choices={"score": _SCORE, "variant": ("cic", "softmax", "score")},
            meanings={
                **_MEANINGS,
                "variant": "weight of a map: gain in score over black (cic), its softmax over maps, or the bare score",
            },
            polarity="positive",
            needs=("conv_layer",),
            cost={"backwards": 0},  # a forward for each feature map of the layer
            summary="feature maps weighted by the score of the image seen through each of them",
            citation="Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu: Score-CAM. CVPR workshops 2020",
            cites=("wang2020scorecam",),
        ),
        ExplainerSpec(
            name="guided_gradcam",
            version=1,
            factory="xbench_cam.guided:guided_gradcam",
            params={"score": "logit", "layer": ""},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            polarity="positive",
            needs=("gradients", "conv_layer"),
            cost={"forwards": 2, "backwards": 2},
            summary="guided backpropagation times Grad-CAM",
            citation="Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM. ICCV 2017",
            cites=("selvaraju2017gradcam",),
        ),
    ]
