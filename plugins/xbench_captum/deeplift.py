"""Captum's DeepLIFT and its average over many fills, DeepLIFT SHAP."""

import warnings

import torch
from captum.attr import DeepLift
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_captum.fills import Fill, References, filled, references
from xbench_captum.twin import Twin


def deeplift(model: Model, fill: Fill) -> Explainer:
    """Return DeepLIFT with the rescale rule (Shrikumar et al. 2017), summed over channels.

    Every activation passes on the ratio of its output's difference from the fill's to its input's, in place of its
    slope. The maps add up to s(x) - s(x0), s the target's logit; `Explanation.extras` holds the difference as ``total``
    [B] and what rounding leaves as ``delta`` [B] (the map's sum minus the difference). Two forwards and two backwards an
    image, image and fill in one pass: such a pass holds two images even where ``model.batch_size`` is 1. Captum's hooks
    sit on a `Twin` of the network.

    Parameters
    ----------
    model
        The classifier to explain.
    fill
        x0, see `filled`.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the logit.

    Raises
    ------
    Unsupported
        From the explainer, when the network does something that DeepLIFT has no rule for, or cannot be copied.
    """
    idle: list[Twin] = []

    def explain(batch: Batch) -> Explanation:
        twin, size = idle.pop() if idle else Twin(model, batch.image), max(1, model.batch_size // 2)
        parts = zip(batch.image.split(size), batch.target.split(size), strict=True)
        found = [_rescale(twin, image, filled(fill, image), target) for image, target in parts]
        idle.append(twin)  # after an error it is not used again: hooks may be left on it
        return _explanation(*(torch.cat(part) for part in zip(*found, strict=True)))

    return explain


def deeplift_shap(model: Model, fill: References, n: int) -> Explainer:
    """Return DeepLIFT SHAP: the mean of `deeplift` over n random fills (Lundberg and Lee 2017).

    The maps add up to s(x) minus the mean of s over the fills, s the target's logit; ``total`` and ``delta`` are as in
    `deeplift`. 2 ``n`` forwards and backwards an image.

    Parameters
    ----------
    model
        The classifier to explain.
    fill
        What the fills are, see `references`; they come from ``batch.keys``. ``captum.attr.DeepLiftShap`` knows one set
        of fills for a whole batch; here each sample has its own.
    n
        Fills, 1 or more.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the logit.

    Raises
    ------
    Unsupported
        When ``n`` is out of range; from the explainer, as `deeplift`.
    """
    if n < 1:
        raise Unsupported(f"captum/deeplift_shap: n is {n}; at least 1 fill is needed")

    def explain(batch: Batch) -> Explanation:
        twin, image = Twin(model, batch.image), batch.image
        found = []
        for rows in torch.arange(len(batch) * n, device=image.device).split(max(1, model.batch_size // 2)):
            sample = rows // n
            first, last = int(sample[0]), int(sample[-1])
            fills = references(fill, batch.keys[first : last + 1], image.shape[1:], n, "captum/deeplift_shap")
            chosen = fills.flatten(0, 1)[rows - first * n].to(image.dtype)
            found.append(_rescale(twin, image[sample], chosen, batch.target[sample]))
        means = (torch.cat(part).unflatten(0, (len(batch), n)).mean(dim=1) for part in zip(*found, strict=True))
        return _explanation(*means)

    return explain


def _rescale(twin: Twin, image: Tensor, fill: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return DeepLIFT's maps [N,H,W] of N pairs of image and fill, and what they should add up to, [N]."""
    with warnings.catch_warnings():
        # It announces its hooks at every call.
        warnings.filterwarnings("ignore", r"\s*Setting forward, backward hooks", UserWarning)
        found: Tensor = DeepLift(twin).attribute(image.clone().requires_grad_(True), baselines=fill, target=target)
    score, base = (logits.gather(1, target[:, None]).squeeze(1) for logits in twin.logits.chunk(2))
    return found.detach().sum(dim=1), score - base


def _explanation(maps: Tensor, total: Tensor) -> Explanation:
    return Explanation(maps, extras={"total": total, "delta": maps.sum(dim=(1, 2)) - total})
