"""Photographs of one's own: class folders, mosaics of four with exact truth, and two networks to begin with."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ModelSpec

_READ: dict[str, str | int] = {"classes": "", "split": "auto", "fit": "crop", "seed": 0}
_CHOICES = {"fit": ("crop", "squash", "imagenet"), "split": ("auto", "none")}
_MEANINGS = {
    "classes": "a file of all classes in the order of a network's outputs (text or csv), or imagenet; empty: those shown",
    "split": "auto: as the folder has it, else 60, 20 and 20 % of each class; none: all pictures are scored",
    "fit": "keep the middle square (crop) or 7/8 of it, as ImageNet is tested (imagenet), or stretch the whole (squash)",
}
_GRID = (
    "Böhle, Fritz, Schiele: Convolutional dynamic alignment networks for interpretable classifications. CVPR 2021; "
    "Rao, Böhle, Schiele: Towards better understanding attribution methods. CVPR 2022"
)
_RESNET = "He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016"
_TRAINING = {
    "epochs": "training epochs",
    "batch": "pictures a training step",
    "lr": "AdamW's learning rate at its peak, under a one-cycle schedule",
}


@hookimpl
def xbench_datasets() -> list[DatasetSpec]:
    """Return the two ways to look at a folder of photographs."""
    return [
        DatasetSpec(
            name="folder",
            version=1,
            factory="xbench_photos.datasets:folder",
            params={"size": 224, "masks": "masks", **_READ},
            choices=_CHOICES,
            meanings={
                "size": "height and width to which a photograph is brought, in pixels; 8 to 4096",
                "masks": "the name of the folder of masks",
                **_MEANINGS,
                "seed": "another one gives another split, where the folder has none of its own",
            },
            has=("mask",),
            summary="photographs in class folders, or beside a labels.csv; masks where there are some",
        ),
        DatasetSpec(
            name="grid",
            version=1,
            factory="xbench_photos.datasets:grid",
            params={"size": 224, "n": 200, **_READ},
            choices=_CHOICES,
            meanings={
                "size": "height and width of a mosaic, in pixels; even, 16 to 4096; a photograph has half of it",
                "n": "mosaics to test on",
                **_MEANINGS,
                "seed": "another one gives other mosaics",
            },
            has=("mask",),
            summary="mosaics of four photographs of four classes; the truth is the quarter that shows the class explained",
            citation=_GRID,
            cites=("boehle2021codanets", "rao2022towards"),
        ),
    ]


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the networks for photographs of whatever classes."""
    return [
        ModelSpec(
            name="small",
            version=1,
            factory="xbench_photos.models:small",
            fit="xbench_photos.models:fit",
            params={"width": 16, "epochs": 10, "batch": 32, "lr": 3e-3},
            quick={"epochs": 1},
            meanings={"width": "channels of the first convolution; the last has four times as many", **_TRAINING},
            summary="four convolutions and a mean over the maps; trained in seconds on a CPU",
        ),
        ModelSpec(
            name="resnet18",
            version=1,
            factory="xbench_photos.models:resnet18",
            fit="xbench_photos.models:fit",
            params={"weights": "none", "epochs": 5, "batch": 32, "lr": 1e-3},
            quick={"epochs": 1},
            meanings={
                "weights": "imagenet (downloaded), a file with a state dict, or none; epochs=0 takes them as they are",
                **_TRAINING,
            },
            summary="torchvision's ResNet-18; weights=imagenet or a file",
            citation=_RESNET,
            cites=("he2016deep",),
        ),
    ]
