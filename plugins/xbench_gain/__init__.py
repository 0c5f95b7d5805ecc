"""GAIN: classifiers trained to look at all that speaks for a class, and their attention as an explanation."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec, ModelSpec, Param

_PAPER = "Li, Wu, Peng, Ernst, Fu: Tell me where to look: guided attention inference network. CVPR 2018"
_SOURCE = f"{_PAPER}; Tomono, Nobuhara, Kawai: Deep learning based on GAIN for mimesis (in Japanese)"
_PARAMS: dict[str, Param] = {
    "of": None,
    "alpha": 1.0,
    "sigma": 0.5,
    "omega": 10.0,
    "am": "prob",
    "normalise": "sample",
    "detach_weights": False,
    "layer": "",
    "fill": "mean",
    "classes": "label",
    "warmup": 0.2,
    "blanks": "skip",
    "tolerance": 0.0,
}
_CHOICES: dict[str, tuple[Param, ...]] = {
    "am": ("prob", "logit"),
    "normalise": ("sample", "none"),
    "fill": ("mean", "black"),
    "classes": ("label", "positive"),
    "blanks": ("skip", "keep"),
}


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the two ways of training."""
    factory, fit = "xbench_gain.models:gain", "xbench_gain.models:fit_gain"
    return [
        ModelSpec(
            name="self",
            version=1,
            factory=factory,
            fit=fit,
            params=_PARAMS,
            choices=_CHOICES,
            meanings=_MEANINGS,
            wraps=True,
            summary="another classifier, trained so that nothing of the class is left where its own attention is erased",
            citation=_SOURCE,
            cites=("li2018tell", "tomono_mimesis"),
        ),
        ModelSpec(
            name="ext",
            version=1,
            factory=factory,
            fit=fit,
            params={**_PARAMS, "omega_ext": 10.0},
            choices=_CHOICES,
            meanings={**_MEANINGS, "omega_ext": "weight of the attention's squared distance from the mask; 0 or more"},
            wraps=True,
            summary="the same, and so that its attention is the mask where a sample has one",
            citation=_PAPER,
            cites=("li2018tell",),
        ),
    ]


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the attention."""
    return [
        ExplainerSpec(
            name="attention",
            version=1,
            factory="xbench_gain.explainer:attention",
            params={"sigma": 0.5, "omega": 10.0, "layer": ""},
            meanings={name: _MEANINGS[name] for name in ("sigma", "omega", "layer")},
            polarity="positive",
            needs=("gradients", "conv_layer"),
            cost={"forwards": 1, "backwards": 1},
            summary="the map that GAIN trains, which is Grad-CAM's; on contact sheets what its soft mask cuts out",
            citation=_PAPER,
            cites=("li2018tell",),
        ),
    ]


_MEANINGS = {
    "of": "the model whose network and training are taken, for example anole/slim",
    "alpha": "weight of the loss of the erased image; 0 or more",
    "sigma": "attention at which the soft mask is one half",
    "omega": "slope of the soft mask; above 0",
    "am": "what the loss of the erased image is: the class's probability or its logit",
    "normalise": "bring each map to 0 .. 1 by its own extremes (sample), or take it as it comes (none)",
    "detach_weights": "take the feature maps' weights as constants in the gradient",
    "layer": "dotted name of the module whose feature maps are taken; empty: the last that has any",
    "fill": "what erased pixels become: the training images' mean colour, or black",
    "classes": "labels whose attention is erased: all (label), or all but class 0 (positive)",
    "warmup": "share of the training, 0 to 1, that is plain",
    "blanks": "samples whose map is blank: leave them out of the loss of the erased image, or keep them",
    "tolerance": "extent up to which a map is blank, as a share of its largest value; from 0, below 1",
}
