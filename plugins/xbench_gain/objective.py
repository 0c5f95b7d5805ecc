"""GAIN's loss: what the network looks at, and what it still sees where that has been erased."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from xbench.errors import Unsupported

_EPS = 1e-8


@dataclass(frozen=True)
class Settings:
    """The numbers of a GAIN training; what each is for says `xbench_gain.models.gain`."""

    alpha: float = 1.0
    sigma: float = 0.5
    omega: float = 10.0
    am: Literal["prob", "logit"] = "prob"
    normalise: Literal["sample", "none"] = "sample"
    detach_weights: bool = False
    classes: Literal["label", "positive"] = "label"
    warmup: float = 0.0
    blanks: Literal["skip", "keep"] = "skip"
    tolerance: float = 0.0
    omega_ext: float = 0.0


class Attention(NamedTuple):
    """Where a network looks, at the layer's own size.

    Attributes
    ----------
    map
        [B,h,w]: A^c, in [0,1] where it is normalised; 0 where it is blank.
    blank
        [B] bool: the map shows nothing, so its soft mask is constant and has no gradient.
    """

    map: Tensor
    blank: Tensor


class Gain:
    """L_cl + alpha L_am + omega_ext L_e of a batch (Li et al. 2018, eq. 5 and 7), an `xbench.fits.Objective`.

    Parameters
    ----------
    settings
        The numbers.
    layer
        Dotted name of the module whose output f is the attention's; of one that runs several times the last run counts.
    colour
        [C]: what erased pixels become, in [0,1].

    Attributes
    ----------
    progress
        The share of the training that is behind; below ``settings.warmup`` the loss is L_cl alone.
    needs_masks
        Whether there is an L_e.
    ready
        Whether the warm-up is over: a plain epoch must not pass for one of GAIN's.
    monitors
        Of the last step, scalars: ``loss_cl``, ``loss_am``, ``loss_ext`` (before alpha and omega_ext); ``blank_rate``, the
        share of blank maps, and ``attention_area``, the mean of the soft mask, both over the classes that L_am counts.
    """

    def __init__(self, settings: Settings, layer: str, colour: Tensor) -> None:
        self.settings, self.layer, self.colour = settings, layer, colour
        self.progress = 0.0
        self.needs_masks = settings.omega_ext > 0
        self.monitors: Mapping[str, Tensor] = {}

    @property
    def ready(self) -> bool:
        """Whether the last step had GAIN's loss."""
        return self.progress >= self.settings.warmup

    def __call__(
        self,
        module: nn.Module,
        image: Tensor,
        label: Tensor,
        mask: Tensor | None,
        classification: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the scalar loss of a step; two forward passes, the second one of those samples that L_am counts.

        Raises
        ------
        Unsupported
            The layer gives no feature maps, or L_e is wanted and the data have no masks.
        """
        numbers = self.settings
        features, logits = tapped(module, image, self.layer)
        loss = loss_cl = classification(logits)
        warm = not self.ready
        found = attention(features, score(module, logits, label, "logit"), numbers, follow=not warm)
        soft = soft_mask(found.map, numbers.sigma, numbers.omega)
        wanted = label > 0 if numbers.classes == "positive" else torch.ones_like(label, dtype=torch.bool)
        loss_am = loss_ext = torch.zeros_like(loss_cl)
        if numbers.alpha and not warm:
            counted = wanted & ~found.blank if numbers.blanks == "skip" else wanted
            loss_am = self._mining(module, image, label, soft, counted)
            loss = loss + numbers.alpha * loss_am
        if numbers.omega_ext and not warm:
            loss_ext = supervision(found.map, mask)
            loss = loss + numbers.omega_ext * loss_ext
        share = wanted.to(soft) / wanted.sum().clamp(min=1)
        self.monitors = {
            "loss_cl": loss_cl.detach(),
            "loss_am": loss_am.detach(),
            "loss_ext": loss_ext.detach(),
            "blank_rate": (found.blank * share).sum(),
            "attention_area": (soft.detach().mean(dim=(1, 2)) * share).sum(),
        }
        return loss

    def _mining(self, module: nn.Module, image: Tensor, label: Tensor, soft: Tensor, counted: Tensor) -> Tensor:
        """Return L_am: the sum over the samples counted [B] of s^c(I*), over B (eq. 4), so that no sample weighs on another."""
        rows = counted.nonzero()[:, 0]
        if not len(rows):
            return soft.new_zeros(())
        # Batch normalisation needs the statistics of a whole batch, and fails on one of a single sample.
        if len(rows) == len(counted) or _normalises_batches(module):
            rows = torch.arange(len(counted), device=rows.device)
        logits = once_more(module, erased(image[rows], soft[rows], self.colour))
        left = score(module, logits, label[rows], self.settings.am)
        return torch.where(counted[rows], left, 0).sum() / len(image)


def tapped(module: nn.Module, image: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return a layer's output f [B,F,h,w] and the logits [B,K] that follow from it, both part of one graph.

    Raises
    ------
    Unsupported
        When the layer gives no maps of more than one pixel.
    """
    kept: list[Tensor] = []

    def keep(part: nn.Module, inputs: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[2:].numel() == 1:
            return None
        # Behind frozen layers there is no graph yet.
        kept.append(output if output.requires_grad else output.detach().requires_grad_())
        # An in-place operation behind it changes the copy.
        return kept[-1].clone()

    with _hooked(module.get_submodule(layer), keep):
        logits = module(image)
    if not kept:
        raise Unsupported(f"the model's layer {layer!r} gives no feature maps of more than one pixel")
    return kept[-1], logits


def attention(features: Tensor, scores: Tensor, settings: Settings, follow: bool = True) -> Attention:
    """Return A^c = relu(sum_k w_k f_k), w_k the spatial mean of d s^c / d f_k (Li et al. 2018, eq. 1 and 2), normalised.

    Parameters
    ----------
    features
        f [B,F,h,w].
    scores
        s^c [B], a function of f.
    settings
        As for `normalised`; ``detach_weights`` takes w as constants.
    follow
        Whether the map's gradient is wanted at all.
    """
    through = follow and not settings.detach_weights
    (gradient,) = torch.autograd.grad(scores.sum(), features, create_graph=through, retain_graph=True)
    if not follow:
        features = features.detach()
    return normalised((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1), settings)


def normalised(signed: Tensor, settings: Settings) -> Attention:
    """Return the attention of sum_k w_k f_k [B,h,w].

    ``normalise="sample"`` brings each map A to (A - min) / (max - min + 1e-8), minimum and maximum being part of the
    function; a map is blank where max - min is not above ``tolerance`` times max|sum_k w_k f_k|. With ``none`` it stays A,
    blank where max A is not above that.
    """
    positive = signed.relu()
    low = positive.amin(dim=(1, 2), keepdim=True)
    if settings.normalise == "none":
        low = torch.zeros_like(low)
    extent = positive.amax(dim=(1, 2), keepdim=True) - low
    blank = extent <= settings.tolerance * signed.abs().amax(dim=(1, 2), keepdim=True)
    if settings.normalise == "sample":
        positive = (positive - low) / (extent + _EPS)
    return Attention(torch.where(blank, 0, positive), blank.detach()[:, 0, 0])


def soft_mask(attention: Tensor, sigma: float, omega: float) -> Tensor:
    """Return T(A) = 1 / (1 + exp(-omega (A - sigma))) in [0,1], of the shape of A."""
    return torch.sigmoid(omega * (attention - sigma))


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """Return maps [B,h,w] at [B,height,width]: bilinear, corners not aligned.

    As two matrix products, whose gradient is the same at every run; that of the interpolation on CUDA is not.
    """
    down, across = (
        F.interpolate(torch.eye(small, dtype=maps.dtype, device=maps.device)[None], large, mode="linear")[0]
        for small, large in zip(maps.shape[1:], (height, width), strict=True)
    )
    return down.T @ maps @ across


def erased(image: Tensor, soft: Tensor, colour: Tensor) -> Tensor:
    """Return I* = I - T (I - colour) [B,C,H,W], T enlarged to the image; black as the colour gives eq. 3 of Li et al. 2018."""
    mask = enlarged(soft, *image.shape[2:])[:, None]
    return image - mask * (image - colour.to(image)[None, :, None, None])


def supervision(attention: Tensor, mask: Tensor | None) -> Tensor:
    """Return L_e: the mean of (A^c - H)^2 over pixels and over the samples that have a mask (Li et al. 2018, eq. 6).

    Parameters
    ----------
    attention
        A^c [B,h,w] of the samples' own labels.
    mask
        [B,H,W] bool; H is its mean over each cell of the layer. A sample without a true pixel has none.

    Raises
    ------
    Unsupported
        There are no masks at all.
    """
    if mask is None:
        raise Unsupported(
            "gain/ext needs data with masks in the training split; these have none (gain/self needs none)"
        )
    height, width = attention.shape[1:]
    truth = F.adaptive_avg_pool2d(mask[:, None].to(attention), (height, width))[:, 0]
    has = mask.flatten(1).any(dim=1)
    each = ((attention - truth) ** 2).mean(dim=(1, 2))
    return torch.where(has, each, 0).sum() / has.sum().clamp(min=1)


def score(module: nn.Module, logits: Tensor, label: Tensor, kind: Literal["logit", "prob"]) -> Tensor:
    """Return s^c [B] of logits [B,K]; of one logit z, s^1 = z and s^0 = -z.

    Its probability is that of the module's own ``prob``, else the sigmoid of one logit or the softmax of several.
    """
    single = logits.shape[1] == 1
    if single:
        logits = torch.cat([-logits, logits], dim=1)
    if kind == "prob":
        own: Callable[[Tensor], Tensor] | None = getattr(module, "prob", None)
        logits = own(logits) if own else logits.sigmoid() if single else logits.softmax(dim=1)
    return logits.gather(1, label[:, None])[:, 0]


def once_more(module: nn.Module, image: Tensor) -> Tensor:
    """Return the logits of a second pass in a step; running statistics stay as the first pass left them."""
    copies = {name: value.clone() for name, value in module.named_buffers()}
    logits: Tensor = functional_call(module, copies, (image,))
    return logits


def _normalises_batches(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training for part in module.modules())


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: Callable[[nn.Module, object, object], Tensor | None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
