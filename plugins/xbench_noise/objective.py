"""E(w): how far uniform noise of amplitude w moves a network's outputs beyond a tolerance, less the mean of w."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import uniform
from xbench.tensors import Batch
from xbench_noise.masks import Masked, Recorded

Score = Literal["logit", "prob"]
Reference = Literal["masked", "original"]

# Numbers an image that one call of the noise generator makes: several draws of a small image share the cost of a call,
# while a large one takes little memory. Part of the noise's definition: another value is other noise.
_BLOCK = 2**16

# Of the gap between the two largest outputs: with a tolerance below one half, outputs within it cannot change places.
GAP_SHARE = 0.45


@dataclass(frozen=True, eq=False)
class Measured:
    """What draws of noise say of w.

    Attributes
    ----------
    excess
        [B]: the mean over draws of sum_k max(|y_k - y'_k| - a, 0).
    violated
        [B]: the share of draws in which some |y_k - y'_k| > a.
    slope
        [B,H,W]: d excess / d w, unbiased, from the draws beyond the tolerance; 0 where it was not asked for.
    bend
        [B,H,W]: d excess / d w again, of less variance and with a bias, from the draws near the tolerance (`boundary` in
        `xbench_noise.descent`); 0 where it was not asked for.
    """

    excess: Tensor
    violated: Tensor
    slope: Tensor
    bend: Tensor


class NoiseObjective:
    """The objective of S1 (section 3.2) for every image of a batch, each on its own.

    E(w) = (1/N) sum_n sum_k max(|y_k - y'_k| - a, 0) - (1/HW) sum w, where y' are the outputs for x + U * w, U uniform on
    [-1,1], drawn anew for each channel; a pixel's channels share its w. Noisy copies go through the network with its mask
    units; ``y`` too, or through the network as it is.

    Source: Ikeno, Hara, Washio, "Highlighting non-contributing pixels for visual explanation of CNNs", JSAI 2018.

    Parameters
    ----------
    model
        The classifier; at most ``model.batch_size`` images go through it at a time.
    batch
        At most ``model.batch_size`` images; ``batch.keys`` is where the noise comes from.
    score
        Whether y are logits or probabilities.
    reference
        Whose outputs y are: ``masked`` (then E(0) = 0) or ``original``.
    tolerance
        a; 0 takes `GAP_SHARE` of the gap between the two largest y of each image.
    theta
        Thresholds of the mask units (`Recorded`); none at all leave the network as it is.
    clamp
        Keep x + U * w in [0,1].

    Attributes
    ----------
    y
        [B,K]: the outputs that should not move.
    tolerance
        [B].
    reference_gap
        [B]: max_k |y_masked(x) - y(x)|.
    agrees
        [B] bool: whether the mask units leave the prediction for x itself as it was.

    Raises
    ------
    Unsupported
        Mask units are wanted and the network has no ReLU.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        score: Score,
        reference: Reference,
        tolerance: float,
        theta: tuple[float, ...],
        clamp: bool,
    ) -> None:
        self.model, self.image, self.keys = model, batch.image, batch.keys
        self.score, self.clamp = score, clamp
        self._masks: list[Tensor] | None = None
        with torch.no_grad():
            original = masked = self.outputs(batch.image)
            if theta:
                recorded = Recorded(theta)
                with recorded:
                    original = self.outputs(batch.image)
                if not recorded.masks:
                    raise Unsupported(
                        "no ReLU was met in the model's forward pass; mask units stand behind ReLUs (theta=off does without)"
                    )
                self._masks = recorded.masks
                masked = self.outputs(batch.image)
        self.y = masked if reference == "masked" else original
        top = self.y.topk(2, dim=1).values
        self.tolerance = torch.full_like(top[:, 0], tolerance) if tolerance else GAP_SHARE * (top[:, 0] - top[:, 1])
        self.reference_gap = (masked - original).abs().amax(dim=1)
        self.agrees = masked.argmax(dim=1) == original.argmax(dim=1)

    def outputs(self, image: Tensor, row: Tensor | None = None) -> Tensor:
        """Return y [N,K] of N variants of the batch's images, through the mask units where there are some.

        Parameters
        ----------
        image
            [N,C,H,W].
        row
            [N] int64: whose variant each is; None: N = c * B, copy by copy, the first B are the first copies.
        """
        with contextlib.nullcontext() if self._masks is None else Masked(self._masks, row):
            logits = self.model.logits(image)
        return logits if self.score == "logit" else self.model.prob(logits)

    def noise(self, draws: int, stream: str, number: int = 0) -> Iterator[Tensor]:
        """Yield U [B,m,C,H,W] on [-1,1), some draws at a time; it depends on samples, ``stream`` and ``number`` alone."""
        block = max(1, min(draws, _BLOCK // self.image[0].numel()))
        for first in range(0, draws, block):
            shape = (min(block, draws - first), *self.image.shape[1:])
            drawn = uniform(self.keys, f"noise/{stream}", shape, draw=number * draws + first)
            yield drawn.to(self.image.dtype) * 2 - 1

    def measure(
        self, w: Tensor, draws: int, stream: str, number: int = 0, slopes: bool = False, band: float = 0.0
    ) -> Measured:
        """Return what ``draws`` draws of noise say of w [B,H,W] in [0,1].

        Costs 1 forward a draw; with ``slopes``, 1 forward and 1 backward more for every output k of a draw that is beyond
        its tolerance, or short of it by less than the fraction ``band`` of it. Elsewhere there is no slope to look for.

        Parameters
        ----------
        w, draws
            The amplitudes and how many draws.
        stream, number
            Which draws: other values are independent ones.
        slopes
            Whether the derivatives are wanted.
        band
            Half the width of the strip around the tolerance from which ``bend`` is taken, as a fraction of the tolerance.
        """
        copies = max(1, self.model.batch_size // len(w))
        measured = Measured(w.new_zeros(len(w)), w.new_zeros(len(w)), torch.zeros_like(w), torch.zeros_like(w))
        for noise in self.noise(draws, stream, number):
            with torch.no_grad():
                beyond = torch.cat([self._beyond(part.transpose(0, 1), w) for part in noise.split(copies, dim=1)])
            measured.excess.add_(beyond.clamp(min=0).sum(dim=(0, 2)) / draws)
            measured.violated.add_((beyond > 0).any(dim=2).sum(dim=0) / draws)
            if slopes:
                for case in (beyond > -band * self.tolerance[:, None]).nonzero().split(self.model.batch_size):
                    slope, bend = self._slopes(case, noise, w, band)
                    measured.slope.add_(slope / draws)
                    measured.bend.add_(bend / draws)
        return measured

    def _beyond(self, u: Tensor, w: Tensor) -> Tensor:
        """Return [c,B,K]: |y_k - y'_k| - a under noise u [c,B,C,H,W]."""
        moved = self._moved((self.image + u * w[:, None]).flatten(0, 1))
        return moved.abs().view(-1, *self.y.shape) - self.tolerance[:, None]

    def _slopes(self, case: Tensor, noise: Tensor, w: Tensor, band: float) -> tuple[Tensor, Tensor]:
        """Return slope and bend [B,H,W], summed over cases [P,3] (draw, image, output) of the noise [B,m,C,H,W]."""
        draw, row, output = case.T
        u, tolerance = noise[row, draw], self.tolerance[row]
        x = (self.image[row] + u * w[row, None]).requires_grad_(True)
        with torch.enable_grad():
            moved = self._moved(x, row).gather(1, output[:, None]).squeeze(1)
            slope = torch.autograd.grad(moved.sum(), x)[0]
        moved = moved.detach()
        beyond = moved.abs() - tolerance
        # A product rather than a scatter: sums in the same order on any device.
        whose = F.one_hot(row, len(w)).to(w.dtype)
        outside = whose * (moved.sign() * (beyond > 0))[:, None]
        first = (outside.T @ (slope * u).sum(dim=1).flatten(1)).view_as(w)
        if not band:
            return first, torch.zeros_like(w)
        width = band * tolerance
        near = whose * ((beyond.abs() < width) / (2 * width).clamp(min=1e-30))[:, None]
        curved = (slope.square() * (1 - u.square()) / 2).sum(dim=1).flatten(1)
        return first, w * (near.T @ curved).view_as(w)

    def _moved(self, noisy: Tensor, row: Tensor | None = None) -> Tensor:
        """Return y' - y [N,K] of noisy images [N,C,H,W]; ``row`` as in `outputs`."""
        outputs = self.outputs(noisy.clamp(0, 1) if self.clamp else noisy, row)
        return outputs - (self.y.repeat(len(noisy) // len(self.y), 1) if row is None else self.y[row])
