"""Food photographs: generated dishes with exact truth, class folders, and the network of the source."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ModelSpec

_SOURCE = "Ito: Grad-CAM, on okonomiyaki and pizza. BrainPad engineers' blog (in Japanese), 2017"


@hookimpl
def xbench_datasets() -> list[DatasetSpec]:
    """Return the food data sets."""
    return [
        DatasetSpec(
            name="dishes",
            version=1,
            factory="xbench_food.dishes:dishes",
            params={"size": 64, "train": 800, "valid": 100, "test": 400, "bias": 0.9, "seed": 0},
            has=("mask", "counterfactual", "shortcut", "swapped"),
            summary="generated pictures; class = toppings; the plate goes with the class in training, not in the test",
        ),
        DatasetSpec(
            name="folder",
            version=1,
            factory="xbench_food.folder:folder",
            params={"size": 160, "fit": "crop", "seed": 0},
            choices={"fit": ("crop", "squash")},
            has=("mask",),
            summary="photographs in class folders, with or without splits; masks where there are some",
            citation=_SOURCE,
            cites=("ito2017gradcam",),
        ),
    ]


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the food classifiers."""
    return [
        ModelSpec(
            name="s3",
            version=1,
            factory="xbench_food.models:s3",
            fit="xbench_food.models:fit_s3",
            params={"epochs": 15, "batch": 25, "lr": 1e-3, "augment": True, "plates": "biased"},
            choices={"plates": ("biased", "random")},
            datasets=("food/*",),
            summary="four convolutions and two dense layers; plates=random: trained on plates that say nothing of the class",
            citation=_SOURCE,
            cites=("ito2017gradcam",),
        ),
    ]
