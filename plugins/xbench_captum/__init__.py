"""Explainers of the Captum library behind the harness's types."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec

_SCORE = ("logit", "prob")
_FILL = ("zero", "grey", "white", "mean")
_REFERENCES = ("grey", "noise")
_SCORED = "the target's score that is explained: its logit or its probability"
_FILLED = "what the image is compared with: black, grey (.5), white, or its own mean colour"
_REFERRED = "random images that it is compared with: plain greys, or uniform noise"
_CELLS = "rows of the grid, and columns; from 1 to the pixels of the image's shorter side"
_CAPTUM = "Kokhlikyan et al.: Captum. arXiv 2009.07896, 2020"


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return Captum's explainers."""
    return [
        ExplainerSpec(
            name="integrated_gradients",
            version=1,
            factory="xbench_captum.paths:integrated_gradients",
            params={"score": "logit", "fill": "zero", "steps": 50},
            choices={"score": _SCORE, "fill": _FILL},
            quick={"steps": 8},
            meanings={
                "score": _SCORED,
                "fill": _FILLED,
                "steps": "points on the path from the fill to the image; 1 or more",
            },
            needs=("gradients",),
            cost="xbench_captum.costs:integrated_gradients",
            summary="gradients averaged on the straight path from a fill to the image, times their difference",
            citation=f"Sundararajan, Taly, Yan: Axiomatic attribution for deep networks. ICML 2017; {_CAPTUM}",
            cites=("sundararajan2017axiomatic", "kokhlikyan2020captum"),
        ),
        ExplainerSpec(
            name="gradient_shap",
            version=1,
            factory="xbench_captum.paths:gradient_shap",
            params={"score": "logit", "fill": "grey", "n": 50},
            choices={"score": _SCORE, "fill": _REFERENCES},
            quick={"n": 4},
            meanings={"score": _SCORED, "fill": _REFERRED, "n": "random fills, and places on the paths; 1 or more"},
            needs=("gradients",),
            stochastic=True,
            cost="xbench_captum.costs:gradient_shap",
            summary="integrated gradients at random places of the paths from many random fills",
            citation=f"Lundberg, Lee: A unified approach to interpreting model predictions. NIPS 2017; {_CAPTUM}",
            cites=("lundberg2017unified", "kokhlikyan2020captum"),
        ),
        ExplainerSpec(
            name="deeplift",
            version=1,
            factory="xbench_captum.deeplift:deeplift",
            params={"fill": "zero"},
            choices={"fill": _FILL},
            meanings={"fill": _FILLED},
            needs=("gradients",),
            cost={"forwards": 5, "backwards": 2},
            summary="differences of activation from those of a fill, carried back by the rescale rule",
            citation=f"Shrikumar, Greenside, Kundaje: Learning important features. ICML 2017; {_CAPTUM}",
            cites=("shrikumar2017learning", "kokhlikyan2020captum"),
        ),
        ExplainerSpec(
            name="deeplift_shap",
            version=1,
            factory="xbench_captum.deeplift:deeplift_shap",
            params={"fill": "grey", "n": 16},
            choices={"fill": _REFERENCES},
            quick={"n": 4},
            meanings={"fill": _REFERRED, "n": "random fills; 1 or more"},
            needs=("gradients",),
            stochastic=True,
            cost="xbench_captum.costs:deeplift_shap",
            summary="deeplift averaged over many random fills",
            citation=f"Lundberg, Lee: A unified approach to interpreting model predictions. NIPS 2017; {_CAPTUM}",
            cites=("lundberg2017unified", "kokhlikyan2020captum"),
        ),
        ExplainerSpec(
            name="feature_ablation",
            version=1,
            factory="xbench_captum.cells:feature_ablation",
            params={"score": "logit", "fill": "zero", "cells": 7},
            choices={"score": _SCORE, "fill": _FILL},
            quick={"cells": 3},
            meanings={
                "score": _SCORED,
                "fill": "what takes a cell's place: black, grey (.5), white, or the image's mean colour",
                "cells": _CELLS,
            },
            cost="xbench_captum.costs:feature_ablation",
            summary="the drop of the score when one cell of a grid is filled",
            citation=f"Zeiler, Fergus: Visualizing and understanding convolutional networks. ECCV 2014; {_CAPTUM}",
            cites=("zeiler2014visualizing", "kokhlikyan2020captum"),
        ),
        ExplainerSpec(
            name="shapley_sampling",
            version=1,
            factory="xbench_captum.cells:shapley_sampling",
            params={"score": "logit", "fill": "zero", "cells": 7, "n": 26},
            choices={"score": _SCORE, "fill": _FILL},
            quick={"cells": 3, "n": 3},
            meanings={
                "score": _SCORED,
                "fill": "what stands where a cell is missing: black, grey (.5), white, or the image's mean colour",
                "cells": _CELLS,
                "n": "random orders of the cells; 1 or more",
            },
            stochastic=True,
            cost="xbench_captum.costs:shapley_sampling",
            summary="a grid cell's gain in score when it joins the cells before it, averaged over random orders",
            citation=f"Castro, Gómez, Tejada: Polynomial calculation of the Shapley value. 2009; {_CAPTUM}",
            cites=("castro2009polynomial", "kokhlikyan2020captum"),
        ),
    ]
