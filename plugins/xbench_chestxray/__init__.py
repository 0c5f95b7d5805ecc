"""Chest films: a generated phantom with exact truth, NIH ChestX-ray14, and the classifiers for them."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ModelSpec

_NETWORKS = {
    "resnet18": ("He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016", "he2016deep"),
    "resnet50": ("He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016", "he2016deep"),
    "densenet121": (
        "Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks. CVPR 2017",
        "huang2017densely",
    ),
}


@hookimpl
def xbench_datasets() -> list[DatasetSpec]:
    """Return the chest film data sets."""
    return [
        DatasetSpec(
            name="phantom",
            version=1,
            factory="xbench_chestxray.phantom:phantom",
            params={"size": 64, "train": 1600, "valid": 200, "test": 300, "seed": 0},
            quick={"size": 48, "train": 48, "valid": 16, "test": 24},
            meanings={
                "size": "height and width of a film, in pixels; 16 or more",
                "train": "films to train on",
                "valid": "films to validate on",
                "test": "films to test on",
                "seed": "any whole number from 0 on; another one gives other films",
            },
            has=("mask", "counterfactual"),
            summary="generated films; class = cardiothoracic ratio; heart mask and exact counterfactual known",
        ),
        DatasetSpec(
            name="nih",
            version=1,
            factory="xbench_chestxray.nih:nih",
            params={"size": 256, "finding": "Cardiomegaly", "split": "auto", "seed": 0},
            choices={"split": ("auto", "official", "patient", "s0")},
            meanings={
                "size": _SIZE,
                "finding": "one of the fourteen labels, set against No Finding",
                "split": "the published lists, by patient, by film (s0), or the lists if they are there (auto)",
                "seed": "another one gives another random split",
            },
            has=("mask",),
            summary="NIH ChestX-ray14: one finding against No Finding; boxes where they were drawn",
            citation="Wang, Peng, Lu, Lu, Bagheri, Summers: ChestX-ray8. CVPR 2017",
            cites=("wang2017chestxray8",),
        ),
        DatasetSpec(
            name="chexlocalize",
            version=1,
            factory="xbench_chestxray.chexlocalize:chexlocalize",
            params={"size": 256, "finding": "Cardiomegaly", "seed": 0},
            meanings={
                "size": _SIZE,
                "finding": "one of the ten findings that radiologists drew",
                "seed": "another one halves the published validation films otherwise, where they are halved",
            },
            has=("mask",),
            summary="CheXpert films: one finding against its absence; masks drawn by radiologists",
            citation="Saporta et al.: Benchmarking saliency methods for chest X-ray interpretation. Nat Mach Intell 2022",
            cites=("saporta2022benchmarking", "irvin2019chexpert"),
        ),
    ]


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the chest film classifiers."""
    small = ModelSpec(
        name="small",
        version=2,
        factory="xbench_chestxray.models:small",
        fit="xbench_chestxray.models:fit_chest",
        params={"width": 16, "epochs": 16, "batch": 32, "lr": 3e-3, "augment": True},
        quick={"epochs": 1},
        meanings={**_TRAINING, "width": "channels of the first convolution; the blocks have twice as many"},
        datasets=("chestxray/*",),
        summary="a small residual network, trained from scratch in a minute or two on two CPU cores",
    )
    full = [
        ModelSpec(
            name=name,
            version=2,
            factory=f"xbench_chestxray.models:{name}",
            fit="xbench_chestxray.models:fit_chest",
            params={"epochs": 20, "batch": 32, "lr": 3e-4, "augment": True, "weights": "none"},
            quick={"epochs": 1},
            meanings={**_TRAINING, "weights": "where training starts: none, imagenet (torchvision's), or a file"},
            datasets=("chestxray/*",),
            summary=f"torchvision's {name}, trained from scratch or from weights=imagenet or a file",
            citation=citation,
            cites=(key,),
        )
        for name, (citation, key) in _NETWORKS.items()
    ]
    xrv = ModelSpec(
        name="xrv",
        version=1,
        factory="xbench_chestxray.xrv:xrv",
        params={"weights": "none", "finding": "Cardiomegaly", "threshold": 0.5},
        meanings={
            "weights": "a file with the state dict of TorchXRayVision's DenseNet, or none: random weights",
            "finding": "which of the network's eighteen outputs is taken",
            "threshold": "the output, between 0 and 1, from which on the finding is called",
        },
        datasets=("chestxray/*",),
        link="sigmoid",
        summary="TorchXRayVision's DenseNet-121, one of its 18 findings, from a local file of weights (extra [xrv])",
        citation="Cohen et al.: TorchXRayVision: a library of chest X-ray datasets and models. MIDL 2022",
        cites=("cohen2022torchxrayvision",),
    )
    return [small, *full, xrv]


_SIZE = "height and width of a film, in pixels; 8 or more; one that is not square is stretched"
_TRAINING = {
    "epochs": "training epochs; 0: none, the weights as they are at the start",
    "batch": "films a training step",
    "lr": "AdamW's learning rate at its peak, under a one-cycle schedule",
    "augment": "train on films moved, turned, scaled, exposed otherwise and with grain",
}
