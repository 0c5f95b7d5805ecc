"""Lizards in the leaves: generated camouflage with exact truth, class folders, and the networks of the source."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ModelSpec

_SOURCE = "Tomono, Nobuhara, Kawai: Deep learning based on GAIN for mimesis (in Japanese)"


@hookimpl
def xbench_datasets() -> list[DatasetSpec]:
    """Return the anole data sets."""
    return [
        DatasetSpec(
            name="camouflage",
            version=1,
            factory="xbench_anole.camouflage:camouflage",
            params={"size": 64, "train": 1200, "valid": 200, "test": 400, "bias": 0.8, "seed": 0},
            has=("mask", "counterfactual", "shortcut", "swapped"),
            summary="generated foliage with or without a lizard; in training, and only there, a perch goes with the class",
        ),
        DatasetSpec(
            name="folder",
            version=1,
            factory="xbench_anole.folder:folder",
            params={"size": 224, "fit": "crop", "seed": 0},
            choices={"fit": ("crop", "squash")},
            has=("mask",),
            summary="photographs in folders negative and positive, with or without splits; masks where there are some",
            citation=_SOURCE,
            cites=("tomono_mimesis",),
        ),
    ]


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the anole classifiers."""
    return [
        ModelSpec(
            name="slim",
            version=1,
            factory="xbench_anole.models:slim",
            fit="xbench_anole.models:fit_slim",
            params={"width": 16, "epochs": 25, "batch": 32, "lr": 5e-3, "augment": True},
            datasets=("anole/*",),
            link="sigmoid",
            summary="a small VGG with batch normalisation, trained from scratch in a minute or two on one CPU core",
        ),
        ModelSpec(
            name="vgg16",
            version=1,
            factory="xbench_anole.models:vgg16",
            fit="xbench_anole.models:fit_vgg16",
            params={
                "epochs": 50,
                "batch": 32,
                "lr": 1e-7,
                "early_stop": 10,
                "augment": True,
                "copies": 11,
                "frozen": 7,
                "weights": "none",
                "input": "rgb",
            },
            choices={"input": ("rgb", "bgr")},
            datasets=("anole/*",),
            link="sigmoid",
            summary="VGG16's convolutions, the first seven frozen, and two dense layers; weights=imagenet or a file",
            citation=_SOURCE,
            cites=("tomono_mimesis", "simonyan2015very"),
        ),
    ]
