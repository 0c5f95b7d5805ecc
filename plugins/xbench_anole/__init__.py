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
            quick={"size": 48, "train": 48, "valid": 16, "test": 24},
            meanings={
                "size": "height and width of a picture, in pixels; 24 to 2048",
                "train": "pictures to train on",
                "valid": "pictures to validate on",
                "test": "pictures to test on",
                "bias": "how far the perch tells the class in training: 0 not at all, 1 always",
                "seed": "any whole number from 0 on; another one gives other pictures",
            },
            has=("mask", "counterfactual", "shortcut", "swapped"),
            summary="generated foliage with or without a lizard; in training, and only there, a perch goes with the class",
        ),
        DatasetSpec(
            name="folder",
            version=1,
            factory="xbench_anole.folder:folder",
            params={"size": 224, "fit": "crop", "seed": 0},
            choices={"fit": ("crop", "squash")},
            meanings={
                "size": "height and width to which a photograph is brought, in pixels; 8 to 4096",
                "fit": "keep the middle square (crop), or stretch the whole to a square (squash)",
                "seed": "another one gives another split, where the folder has none of its own",
            },
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
            quick={"width": 4, "epochs": 1},
            meanings={
                "width": "channels of the first convolution; the others have 2, 4 and 4 times as many",
                "epochs": "training epochs",
                "batch": "pictures a training step",
                "lr": "AdamW's learning rate at its peak, under a one-cycle schedule",
                "augment": "train on pictures shifted, mirrored and turned by a quarter",
            },
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
            quick={"epochs": 1, "copies": 0},
            meanings=_VGG16,
            datasets=("anole/*",),
            link="sigmoid",
            summary="VGG16's convolutions, the first seven frozen, and two dense layers; weights=imagenet or a file",
            citation=_SOURCE,
            cites=("tomono_mimesis", "simonyan2015very"),
        ),
    ]


_VGG16 = {
    "epochs": "the most training epochs; 0: none, the weights as they are at the start",
    "batch": "photographs a training step",
    "lr": "Adam's learning rate, constant",
    "early_stop": "epochs without a better validation accuracy after which training ends; 0: it goes on",
    "augment": "train on photographs shifted by up to an eighth of their sides",
    "copies": "how often an epoch shows each photograph; 0: once",
    "frozen": "convolutions, from the image on, that keep their weights; 0 to 13",
    "weights": "where training starts: none, imagenet (torchvision's), or a file",
    "input": "what the weights were trained for: torchvision's normalisation, or the authors' (bgr)",
}
