"""TorchXRayVision's DenseNet as a two-class model: one finding of its eighteen, from films in [0,1] to one logit."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.errors import XbenchError, did_you_mean
from xbench.weights import load_weights

_SIDE, _REACH = 224, 1024.0
# What CheXpert and CheXlocalize call them.
_OTHER_NAMES = {"Pleural Effusion": "Effusion", "Airspace Opacity": "Lung Opacity"}


def xrv(
    shape: tuple[int, int, int], classes: Sequence[str], *, weights: str, finding: str, threshold: float
) -> nn.Module:
    """Return a network of TorchXRayVision for data of two classes, the second of which is the finding.

    Its own ``forward`` gives sigmoids, bent so that an operating point of each finding becomes .5 (piecewise linear, hence
    with other gradients on either side). Here the output is the logit in front of them.

    Parameters
    ----------
    shape
        (C, H, W) of the images, C = 1 or 3; resized to 224 x 224, whatever their shape.
    classes
        Two names, without and with the finding.
    weights
        A file with the state dict of a ``torchxrayvision.models.DenseNet`` (see `load_weights`), or ``none`` for random
        weights. The files that the project publishes are pickles of whole networks, which are refused:
        ``torch.save(DenseNet(weights=...).state_dict(), PATH)`` makes one that is read.
    finding
        One of the eighteen outputs, e.g. Cardiomegaly.
    threshold
        The sigmoid in (0,1) from which on the finding is called: the logit is shifted by a constant to be 0 there. With .5
        it is as trained; TorchXRayVision publishes much lower operating points as ``op_threshs``, .0503 for Cardiomegaly
        in densenet121-res224-all.

    Raises
    ------
    XbenchError
        TorchXRayVision is not installed, the weights cannot be read or do not fit, there is no such finding or the data
        are about another one, they have not two classes or not 1 or 3 channels, or the threshold is not in (0,1).
    """
    library = _library()
    targets = [str(name) for name in library.models.DenseNet.targets]
    finding = _OTHER_NAMES.get(finding, finding)
    if finding not in targets:
        hint = did_you_mean(finding, targets) or f"; one of {', '.join(targets)}"
        raise XbenchError(f"chestxray/xrv has no finding '{finding}'{hint}")
    if len(classes) != 2 or shape[0] not in (1, 3):
        raise XbenchError(
            f"chestxray/xrv is for images of 1 or 3 channels in two classes, without and with {finding}; "
            f"these have {shape[0]} and {len(classes)}"
        )
    shown = _OTHER_NAMES.get(classes[1], classes[1])
    if shown in targets and shown != finding:
        raise XbenchError(f"chestxray/xrv: the data are about {classes[1]}, the model's finding is {finding}")
    if not 0 < threshold < 1:
        raise XbenchError(f"chestxray/xrv: threshold={threshold} is no sigmoid; a number between 0 and 1 is needed")
    network = library.models.DenseNet(weights=None, num_classes=len(targets))
    # State dicts of networks with operating points hold them, NaN for findings that were not trained. A tensor that fits
    # none makes the reader leave them out, as it does with a head for other classes.
    network.register_buffer("op_threshs", torch.empty(0))
    load_weights(network, weights, head=("op_threshs",))
    return _Xrv(network, targets.index(finding), threshold)


class _Xrv(nn.Module):
    """The network's layers in a row, the last ReLU among them as a module, where CAM methods can open it."""

    cam_layer = "network.relu"

    def __init__(self, network: nn.Module, output: int, threshold: float) -> None:
        super().__init__()
        layers: dict[str, Any] = dict(network.named_children())
        every = layers["classifier"]
        one = nn.Linear(every.in_features, 1)
        with torch.no_grad():
            one.weight.copy_(every.weight[output : output + 1])
            one.bias.copy_(every.bias[output : output + 1] - math.log(threshold / (1 - threshold)))
        self.network = nn.Sequential(
            OrderedDict(
                features=layers["features"],
                relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=one,
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B,1] of images [B,1 or 3,H,W] in [0,1]; of three channels the mean is taken."""
        film = image.mean(dim=1, keepdim=True) if image.shape[1] == 3 else image
        if film.shape[2:] != (_SIDE, _SIDE):
            film = F.interpolate(film, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
        logits: Tensor = self.network((film * 2 - 1) * _REACH)
        return logits


def _library() -> Any:
    try:
        with warnings.catch_warnings():  # on import it silences every warning of the process
            import torchxrayvision
    except ImportError as error:
        raise XbenchError(
            f"chestxray/xrv needs torchxrayvision ({error}); pip install xbench-xai[xrv] installs it"
        ) from error
    return torchxrayvision
