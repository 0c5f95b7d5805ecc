"""Handwritten digits: MNIST, scikit-learn's bundled digits, and the networks that papers train on them."""

from xbench.hookspecs import hookimpl
from xbench.specs import DatasetSpec, ModelSpec


@hookimpl
def xbench_datasets() -> list[DatasetSpec]:
    """Return the digit data sets."""
    return [
        DatasetSpec(
            name="mnist",
            version=1,
            factory="xbench_mnist.datasets:mnist",
            has=("mask",),
            summary="MNIST: 60,000 + 10,000 digits, read from idx files or downloaded; mask = stroke",
            citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. 1998",
            cites=("lecun1998gradient",),
        ),
        DatasetSpec(
            name="digits",
            version=1,
            factory="xbench_mnist.datasets:digits",
            has=("mask",),
            summary="scikit-learn's 1,797 real handwritten digits, resized to 28x28; mask = stroke",
            citation="Alpaydin, Kaynak: Optical recognition of handwritten digits. UCI repository, 1998",
            cites=("alpaydin1998optical",),
        ),
    ]


@hookimpl
def xbench_models() -> list[ModelSpec]:
    """Return the digit classifiers."""
    return [
        ModelSpec(
            name="s2",
            version=2,
            factory="xbench_mnist.models:s2",
            fit="xbench_mnist.models:fit_s2",
            params={"epochs": 12, "samples_per_epoch": 10_000, "head": "fc_sigmoid_softmax"},
            choices={"head": ("fc_sigmoid_softmax", "sigmoid_only", "sigmoid_softmax", "relu")},
            quick={"epochs": 1, "samples_per_epoch": 64},
            meanings={
                **_MEANINGS,
                "head": "where the paper's sigmoid is: in the dense layer, at the outputs, or nowhere",
            },
            datasets=("mnist/*",),
            checkpoints=True,
            summary="two convolutions and two dense layers (table 1 of the source)",
            citation="Sakai, Takenaka: Visualization of learning process for convolution neural network. JSAI 2019",
            cites=("sakai2019visualization",),
        ),
        ModelSpec(
            name="s1",
            version=1,
            factory="xbench_mnist.models:s1",
            fit="xbench_mnist.models:fit_s1",
            params={"epochs": 24, "samples_per_epoch": 10_000},
            quick={"epochs": 1, "samples_per_epoch": 64},
            meanings=_MEANINGS,
            datasets=("mnist/*",),
            summary="two convolutions and a dense layer, each with its ReLU (the source's three-layer network; sizes are ours)",
            citation="Ikeno, Hara, Washio: Highlighting non-contributing pixels for visual explanation of CNNs. JSAI 2018",
            cites=("ikeno2018highlighting",),
        ),
    ]


_MEANINGS = {
    "epochs": "training epochs",
    "samples_per_epoch": "training images drawn at random each epoch; at most twice as many as there are",
}
