"""Explainers that only look at outputs of perturbed images: RISE, occlusion, LIME, KernelSHAP."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec

_SCORE = ("logit", "prob")
_SUPERPIXELS = ("slic", "grid")
_HIDE = ("segment", "zero", "mean")


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
            polarity="positive",
            stochastic=True,
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
            stochastic=True,
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
            stochastic=True,
            summary="Shapley values of superpixels by weighted least squares",
            citation="Lundberg, Lee: A unified approach to interpreting model predictions. NeurIPS 2017",
            cites=("lundberg2017unified",),
        ),
    ]
