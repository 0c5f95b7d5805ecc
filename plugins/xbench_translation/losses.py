"""What the networks of AG-CycleGAN are trained on: the translations of a pair of batches, their losses, the image pool."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xbench_translation.translator import Translator


@dataclass(frozen=True)
class Round:
    """A pair of batches there and back again; images [B,C,H,W] in [-1,1], attention [B,1,H,W] in (0,1).

    Attributes
    ----------
    a, b
        Real images of either domain.
    fake_b, fake_a
        a translated to b, and b translated to a.
    mask_a, mask_b
        The attention of the translation, A_a(a) and A_b(b).
    cycle_a, cycle_b
        fake_b translated to a again, and fake_a to b.
    """

    a: Tensor
    b: Tensor
    fake_b: Tensor
    fake_a: Tensor
    mask_a: Tensor
    mask_b: Tensor
    cycle_a: Tensor
    cycle_b: Tensor


def go_round(translator: Translator, a: Tensor, b: Tensor) -> Round:
    """Return both translations and both cycles: two passes of every generator and attention network."""
    fake_b, mask_a = translator.ab(a)
    fake_a, mask_b = translator.ba(b)
    return Round(a, b, fake_b, fake_a, mask_a, mask_b, translator.ba(fake_b)[0], translator.ab(fake_a)[0])


def masked(image: Tensor, attention: Tensor, threshold: float) -> Tensor:
    """Return what a discriminator sees: the image [B,C,H,W] in [-1,1] where its attention [B,1,H,W] reaches the threshold.

    Elsewhere it is 0; with threshold 0 it is the whole image. No gradient reaches the attention.
    """
    return image * (attention.detach() >= threshold)


def adversarial_loss(
    discriminator: nn.Module, fake: Tensor, attention: Tensor, threshold: float, normalise: bool
) -> Tensor:
    """Return mean (D(fake) - 1)^2, the least-squares loss of a generator (Mao et al., ICCV 2017)."""
    scores: Tensor = discriminator(masked(fake, attention, threshold), normalise)
    return (scores - 1).square().mean()


def cycle_loss(images: Round) -> Tensor:
    """Return the mean of |a^^ - a| plus the mean of |b^^ - b|, in units of [-1,1]."""
    return (images.cycle_a - images.a).abs().mean() + (images.cycle_b - images.b).abs().mean()


def discriminator_loss(
    discriminator: nn.Module,
    real: tuple[Tensor, Tensor],
    fake: tuple[Tensor, Tensor],
    threshold: float,
    normalise: bool,
) -> Tensor:
    """Return half of mean (D(real) - 1)^2 + mean D(fake)^2.

    Parameters
    ----------
    discriminator
        D of the domain of ``real``.
    real
        Images [B,C,H,W] and their own domain's attention [B,1,H,W].
    fake
        Images from the pool and the attention they were translated with.
    threshold, normalise
        Of `masked` and of `Discriminator`.
    """
    seen = torch.cat([masked(*real, threshold), masked(*fake, threshold)]).detach()
    scores_real, scores_fake = discriminator(seen, normalise).split([len(real[0]), len(fake[0])])
    loss: Tensor = ((scores_real - 1).square().mean() + scores_fake.square().mean()) / 2
    return loss


class Pool:
    """Fakes of the past, each with its mask, among which a discriminator's next ones are drawn.

    Until ``size`` pairs are held, each that comes is kept and handed on. Then with probability .5 it is handed on, else it
    takes the place of one that is held, which is handed on instead (Shrivastava et al., CVPR 2017).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def exchange(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return as many images [B,C,H,W] with their masks [B,1,H,W] as came; draws are from ``generator``, on the CPU."""
        if not self.size:
            return images.detach(), masks.detach()
        out = []
        for pair in zip(images.detach(), masks.detach(), strict=True):
            if len(self.pairs) < self.size:
                self.pairs.append(pair)
                out.append(pair)
            elif torch.rand((), generator=generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=generator))
                out.append(self.pairs[place])
                self.pairs[place] = pair
            else:
                out.append(pair)
        return torch.stack([image for image, _ in out]), torch.stack([mask for _, mask in out])

    def state(self) -> list[list[Tensor]]:
        """Return the pairs held, as `restore` takes them."""
        return [[image.cpu().clone(), mask.cpu().clone()] for image, mask in self.pairs]

    def restore(self, state: list[list[Tensor]], device: torch.device) -> None:
        """Hold these pairs."""
        self.pairs = [(image.to(device), mask.to(device)) for image, mask in state]


def update(loss: Tensor, *optimisers: torch.optim.Optimizer) -> None:
    """Take one step of each; parameters of others, and frozen ones, get no gradient."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward(
        inputs=[
            parameter
            for optimiser in optimisers
            for group in optimiser.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        ]
    )
    for optimiser in optimisers:
        optimiser.step()
