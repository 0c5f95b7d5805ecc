"""Explainers that only look at outputs of perturbed images: RISE, occlusion, LIME, KernelSHAP."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec

_SCORE = ("logit", "prob")
_SUPERPIXELS = ("slic", "grid")
_HIDE = ("segment", "zero", "mean")
_SCORED = "the target's score that is explained: its logit or its probability"
_MEANINGS = {
    "score": _SCORED,
    "superpixels": "how an image is cut: k-means on colour and place (slic), or equal rectangles (grid)",
    "segments": "the most superpixels of an image; 1 or more",
    "fill": "what a hidden superpixel shows: its own mean colour (segment), black, or the image's mean colour",
}


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the explainers."""
    return [
        ExplainerSpec(
            name="rise",
            version=1,
            factory="xbench_perturbation.rise:rise",
            params={"score": "prob", "n": 1000, "cells": 7, "p": 0.5, "fill": "zero", "draw": 0},
            choices={"score": _SCORE, "fill": ("zero", "mean")},
            quick={"n": 40},
            meanings={
                "score": _SCORED,
                "n": "masks, each a forward pass an image; 1 or more",
                "cells": "cells along each side of the grid behind a mask; 1 or more",
                "p": "odds that a cell is shown; between 0 and 1",
                "fill": "what shows where a mask hides: black, or the image's mean colour",
                "draw": "any whole number; another one gives other masks",
            },
            polarity="positive",
            cost="xbench_perturbation.costs:rise",
            summary="mean score of randomly masked images, over the masks that show the pixel",
            citation="Petsiuk, Das, Saenko: RISE: Randomized input sampling for explanation. BMVC 2018",
            cites=("petsiuk2018rise",),
        ),
        ExplainerSpec(
            name="occlusion",
            version=1,
            factory="xbench_perturbation.occlusion:occlusion",
            params={"score": "logit", "window": 0, "stride": 0, "fill": "mean"},
            choices={"score": _SCORE, "fill": ("zero", "mean")},
            meanings={
                "score": _SCORED,
                "window": "side of the square window, in pixels; 0: a seventh of the image's shorter side",
                "stride": "pixels from one window to the next, at most the window; 0: half of it",
                "fill": "what covers: black, or the image's mean colour",
            },
            cost="xbench_perturbation.costs:occlusion",
            summary="how far the score falls when a sliding window is covered",
            citation="Zeiler, Fergus: Visualizing and understanding convolutional networks. ECCV 2014",
            cites=("zeiler2014visualizing",),
        ),
        ExplainerSpec(
            name="lime",
            version=1,
            factory="xbench_perturbation.surrogate:lime",
            params={
                "score": "logit",
                "n": 500,
                "superpixels": "slic",
                "segments": 49,
                "fill": "mean",
                "kernel_width": 0.25,
                "ridge": 1.0,
                "draw": 0,
            },
            choices={"score": _SCORE, "superpixels": _SUPERPIXELS, "fill": _HIDE},
            quick={"n": 40, "segments": 9},
            meanings={
                **_MEANINGS,
                "n": "samples that show about half of the superpixels, each a forward pass; 2 or more",
                "kernel_width": "reach of the kernel that weighs samples by cosine distance; above 0",
                "ridge": "penalty on squared coefficients; above 0",
                "draw": "any whole number; another one gives other samples",
            },
            cost="xbench_perturbation.costs:lime",
            summary="coefficients of a local ridge regression on hidden superpixels",
            citation="Ribeiro, Singh, Guestrin: Why should I trust you? Explaining any classifier's predictions. KDD 2016",
            cites=("ribeiro2016why",),
        ),
        ExplainerSpec(
            name="kernel_shap",
            version=1,
            factory="xbench_perturbation.surrogate:kernel_shap",
            params={
                "score": "logit",
                "n": 500,
                "superpixels": "slic",
                "segments": 49,
                "fill": "mean",
                "draw": 0,
            },
            choices={"score": _SCORE, "superpixels": _SUPERPIXELS, "fill": _HIDE},
            quick={"n": 40, "segments": 9},
            meanings={
                **_MEANINGS,
                "n": "the most coalitions, each a forward pass; two for each of the segments and two more, or above",
                "draw": "any whole number; another one gives other coalitions",
            },
            cost="xbench_perturbation.costs:kernel_shap",
            summary="Shapley values of superpixels by weighted least squares",
            citation="Lundberg, Lee: A unified approach to interpreting model predictions. NeurIPS 2017",
            cites=("lundberg2017unified",),
        ),
    ]
