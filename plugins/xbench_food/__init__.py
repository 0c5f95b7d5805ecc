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
            quick={"size": 48, "train": 48, "valid": 16, "test": 24},
            meanings={
                "size": "height and width of a picture, in pixels; 24 to 2048",
                "train": "pictures to train on",
                "valid": "pictures to validate on",
                "test": "pictures to test on",
                "bias": "how far the plate tells the class, except in the test: 0 not at all, 1 always",
                "seed": "any whole number from 0 on; another one gives other pictures",
            },
            has=("mask", "counterfactual", "shortcut", "swapped"),
            summary="generated pictures; class = toppings; the plate goes with the class in training, not in the test",
        ),
        DatasetSpec(
            name="folder",
            version=1,
            factory="xbench_food.folder:folder",
            params={"size": 160, "fit": "crop", "seed": 0},
            choices={"fit": ("crop", "squash")},
            meanings={
                "size": "height and width to which a photograph is brought, in pixels; 8 to 4096",
                "fit": "keep the middle square (crop), or stretch the whole to a square (squash)",
                "seed": "another one gives another split, where the folder has none of its own",
            },
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
            quick={"epochs": 1},
            meanings={
                "epochs": "training epochs",
                "batch": "pictures a training step",
                "lr": "AdamW's learning rate at its peak, under a one-cycle schedule",
                "augment": "train on pictures mirrored, shifted, scaled, lit otherwise and blended (mixup)",
                "plates": "the plates trained on: as the data have them, or dealt anew, whatever the class",
            },
            datasets=("food/*",),
            summary="four convolutions and two dense layers; plates=random: trained on plates that say nothing of the class",
            citation=_SOURCE,
            cites=("ito2017gradcam",),
        ),
    ]
