"""Two ways down E(w): projected Adam, as the paper has it, and a descent that also learns from draws near the tolerance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xbench_noise.objective import NoiseObjective

_BETAS = (0.9, 0.999)
_EPS = 1e-8

# Of `boundary`: half the band, or twice, or a memory of .9 hardly move E.
_BAND = 0.1
_FIRST_SHARE = 0.1
_MEMORY = 0.8


@dataclass(eq=False)
class Adam:
    """A descent by Adam that can be left and taken up again.

    Adam (Kingma, Ba: Adam, ICLR 2015) on every pixel by itself; after each step w is clamped to [0,1] and the moments are
    left alone. A batch therefore goes the ways that its images would go alone.

    Attributes
    ----------
    w
        [B,H,W] in [0,1].
    mean, square
        [B,H,W]: the running moments of the slope.
    step
        How many steps were taken.
    """

    w: Tensor
    mean: Tensor
    square: Tensor
    step: int = 0

    @classmethod
    def start(cls, w: Tensor) -> "Adam":
        """Return a descent that begins at w."""
        return cls(w, torch.zeros_like(w), torch.zeros_like(w))

    def advance(self, objective: NoiseObjective, draws: int, lr: float) -> None:
        """Take a step of size ``lr`` along the slope of E that ``draws`` fresh draws of noise show."""
        slope = objective.measure(self.w, draws, "descent", self.step, slopes=True).slope - 1 / self.w[0].numel()
        self.step += 1
        self.mean = self.mean.lerp(slope, 1 - _BETAS[0])
        self.square = self.square.lerp(slope.square(), 1 - _BETAS[1])
        mean, square = (
            moment / (1 - beta**self.step) for moment, beta in zip((self.mean, self.square), _BETAS, strict=True)
        )
        self.w = (self.w - lr * mean / (square.sqrt() + _EPS)).clamp(0, 1)


def adam(objective: NoiseObjective, w: Tensor, steps: int, draws: int, lr: float) -> Tensor:
    """Return w [B,H,W] after that many steps of `Adam`, the last iterate."""
    descent = Adam.start(w)
    for _ in range(steps):
        descent.advance(objective, draws, lr)
    return descent.w


def boundary(objective: NoiseObjective, w: Tensor, steps: int, draws: int, lr: float, share: float) -> Tensor:
    """Return w [B,H,W] after a descent that learns from the draws near the tolerance too.

    Near the optimum few draws move an output beyond its tolerance, and only those have a slope,
    sign(d) J_i U_i with d = y'_k - y_k and J_i = dy'_k / dx'_i, whose sign is a matter of chance: U_i is but one of
    hundreds of pixels that moved d. Integrated over U_i by parts (E[U g(U)] = E[(1 - U^2) / 2 g'(U)] for U uniform on
    [-1,1]) the same derivative is

        w_i E[(1 - U_i^2) / 2 J_i^2 delta(|d| - a)]

    but for what the kinks of the network add: every draw near the tolerance then says the same of the pixel, "it widens
    d". With delta as a box of half-width .1 a, both are estimated from the same draws and mixed: at first a tenth of the
    first and nine tenths of the second, which is biased and steady; at last ``share`` of the first, the more the more draws
    there are to steady it. A step multiplies w by exp(lr s), s the running mean of 1 - HW d excess/dw, at most 1 in
    absolute value: pixels of small w take small steps. ``lr`` falls linearly to 0, and the mean of the second half of the
    iterates is returned.

    The derivation and its schedule are ours.
    """
    trend, total, kept = torch.zeros_like(w), torch.zeros_like(w), range(steps // 2, steps)
    for step in range(steps):
        done = step / steps
        found = objective.measure(w, draws, "descent", step, slopes=True, band=_BAND)
        mixed = torch.lerp(found.bend, found.slope, _FIRST_SHARE + (share - _FIRST_SHARE) * done)
        gain = 1 - w[0].numel() * mixed
        trend = trend.lerp(gain, 1 - _MEMORY)
        pull = (trend / (1 - _MEMORY ** (step + 1))).clamp(-1, 1)
        w = (w * torch.exp(lr * (1 - done) * pull)).clamp(max=1)
        if step in kept:
            total += w
    return total / len(kept)
