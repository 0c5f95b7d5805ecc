"""How an AG-CycleGAN is trained: steps, schedule, checkpoints, monitors of a degenerate attention."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.data import Dataset
from xbench.fits import FitContext
from xbench.seeds import stable_int
from xbench_translation.losses import (
    Pool,
    Round,
    adversarial_loss,
    cycle_loss,
    discriminator_loss,
    go_round,
    update,
)
from xbench_translation.recipe import Recipe, recipe
from xbench_translation.translator import Translator, build_translator, judge_of, to_image_range, to_network_range

BANK = 32
"""Differences kept of each class, for the control that puts another image's on an image."""
_PRELOAD_BYTES = 2 * 2**30


class Players:
    """The six networks, their optimisers and pools, and the step that trains them (Mejjati et al. 2018)."""

    def __init__(
        self, translator: Translator, judge: Callable[[], nn.Module], numbers: Recipe, device: torch.device
    ) -> None:
        self.numbers, self.device = numbers, device
        self.translator = translator.to(device)
        self.judges = {domain: judge().to(device) for domain in "ab"}
        self.pools = {domain: Pool(numbers.pool) for domain in "ab"}
        # Weights that a frozen backbone shares are not among the parameters.
        parts = {"ab": translator.ab, "ba": translator.ba, **self.judges}
        self.optimisers = {
            name: torch.optim.Adam(part.parameters(), lr=numbers.lr, betas=(0.5, 0.999)) for name, part in parts.items()
        }

    def start_epoch(self, epoch: int) -> None:
        """Set the learning rate, and from the switch on freeze the attention."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self.numbers.lr_at(epoch)
        for parameter in self.translator.attentions():
            parameter.requires_grad_(epoch < self.numbers.switch)
            if epoch >= self.numbers.switch:
                parameter.grad = None

    def step(self, a: Tensor, b: Tensor, epoch: int, generator: torch.Generator) -> Round:
        """Train all networks on a pair of batches [B,C,H,W] in [-1,1]; return the translations they were trained on."""
        directions = (("ab",), ("ba",))
        for names in (("ab", "ba"),) if self.numbers.joint else directions:
            images = go_round(self.translator, a, b)
            # Each direction's own loss counts both cycles, and neither adversarial loss has a gradient for the other
            # direction: the sum of the two losses with the cycles once gives every network its own loss's gradient.
            loss = self.numbers.cycle * cycle_loss(images)
            if self.numbers.attention_cost:
                loss = loss + self.numbers.attention_cost * (images.mask_a.mean() + images.mask_b.mean())
            for name in names:
                loss = loss + self.adversarial(images, name[1], epoch)
            update(loss, *(self.optimisers[name] for name in names))
            for name in names:
                self._judge(images, name[1], epoch, generator)
        return images

    def adversarial(self, images: Round, domain: str, epoch: int) -> Tensor:
        """Return how far the fakes of a domain are from fooling its discriminator."""
        fake, mask = (images.fake_b, images.mask_a) if domain == "b" else (images.fake_a, images.mask_b)
        return adversarial_loss(self.judges[domain], fake, mask, *self._sight(epoch))

    def _judge(self, images: Round, domain: str, epoch: int, generator: torch.Generator) -> None:
        if domain == "b":
            real, fake = (images.b, images.mask_b), (images.fake_b, images.mask_a)
        else:
            real, fake = (images.a, images.mask_a), (images.fake_a, images.mask_b)
        pooled = self.pools[domain].exchange(*fake, generator)
        update(discriminator_loss(self.judges[domain], real, pooled, *self._sight(epoch)), self.optimisers[domain])

    def _sight(self, epoch: int) -> tuple[float, bool]:
        switched = epoch >= self.numbers.switch
        return (self.numbers.threshold, False) if switched else (0.0, True)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, besides data and generator."""
        return {
            "translator": self.translator.state_dict(),
            "judges": {domain: judge.state_dict() for domain, judge in self.judges.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "pools": {domain: pool.state() for domain, pool in self.pools.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up where `state` was taken."""
        self.translator.load_state_dict(state["translator"])
        for domain in "ab":
            self.judges[domain].load_state_dict(state["judges"][domain])
            self.pools[domain].restore(state["pools"][domain], self.device)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])


def fit_ag_cyclegan(context: FitContext) -> dict[str, Tensor]:
    """Train on the two classes of the training split and return both directions and a bank of differences.

    Domains are sampled evenly whatever their sizes. All draws of an epoch come from (seed, epoch): a training that was
    killed and resumed ends in the weights of one that was not. ``context.notes["epochs"]`` gets a line of monitors an
    epoch, see `_monitor`.

    Returns
    -------
    ``ab.*`` and ``ba.*``, the weights of the two directions, and ``bank`` [2,n,C,H,W] float32 in [-1,1]: differences
    x^ - x of at most 32 training images of class 0 and as many of class 1.

    Raises
    ------
    ValueError
        There are not two classes, or a class has no training image.
    """
    params, device, index = context.params, context.device, context.train
    assert context.model is not None, "an explainer's fit gets the classifier from the harness"
    labels = np.asarray(index.labels)
    domains = [np.flatnonzero(labels == label) for label in (0, 1)]
    if len(index.classes) != 2 or not all(map(len, domains)):
        counts = ", ".join(f"{name}: {int((labels == i).sum())}" for i, name in enumerate(index.classes))
        raise ValueError(f"two classes with training images are needed; there are {counts}")
    numbers = recipe(params, max(map(len, domains)))
    torch.manual_seed(stable_int("translation/ag_cyclegan", context.seed))
    translator = build_translator(context.model, index.shape, numbers.sizes, numbers.share, numbers.attn_decoder_kernel)
    players = Players(translator, judge_of(context.model, index.shape, numbers.sizes, numbers.judge), numbers, device)
    notes: list[dict[str, float]] = []
    first = 0
    if state := context.resume():
        players.restore(state["players"])
        first, notes = state["epoch"], state["notes"]
    films = [_Films(context.dataset, [index.ids[i] for i in places.tolist()], index.shape) for places in domains]
    for epoch in range(first, numbers.epochs):
        generator = torch.Generator().manual_seed(stable_int("epoch", context.seed, epoch))
        players.start_epoch(epoch)
        seen: list[Tensor] = []
        steps = numbers.steps(epoch)
        batches = zip(*(each.batches(len(steps), numbers, generator) for each in films), strict=True)
        for step, (a, b) in zip(steps, batches, strict=True):
            images = players.step(a.to(device), b.to(device), epoch, generator)
            seen.append(_monitor(images, numbers.threshold))
            context.report(step + 1, numbers.iterations, f"epoch {epoch + 1}/{numbers.epochs}")
        means = torch.stack(seen).mean(dim=0).tolist()
        notes.append({name: round(value, 5) for name, value in zip(MONITORS, means, strict=True)})
        text = ", ".join(f"{name} {value:.3f}" for name, value in notes[-1].items())
        context.report(steps.stop, numbers.iterations, f"epoch {epoch + 1}/{numbers.epochs}, {text}")
        context.checkpoint({"epoch": epoch + 1, "players": players.state(), "notes": notes})
    context.notes["epochs"] = notes
    bank = [_differences(translator, label, films[label], device) for label in (0, 1)]
    most = min(map(len, bank))
    return {**translator.state_dict(), "bank": torch.stack([each[:most] for each in bank])}


MONITORS = ("attention", "attention_share", "attention_entropy", "change", "cycle_error")


def _monitor(images: Round, threshold: float) -> Tensor:
    """Return [5] means over both directions that show a degenerate attention, in the order of `MONITORS`.

    The mean of A and the share of pixels where it reaches the threshold (1: an ordinary CycleGAN; 0: nothing is translated);
    its entropy in bits a pixel; mean |x^ - x| and mean |x^^ - x| in units of [0,1].
    """
    with torch.no_grad():
        mask = torch.cat([images.mask_a, images.mask_b])
        share = mask.clamp(1e-6, 1 - 1e-6)
        entropy = -(share * share.log2() + (1 - share) * (1 - share).log2())
        change = (images.fake_b - images.a).abs().mean() + (images.fake_a - images.b).abs().mean()
        return torch.stack(
            [mask.mean(), (mask >= threshold).float().mean(), entropy.mean(), change / 4, cycle_loss(images) / 4]
        )


def _differences(translator: Translator, label: int, films: "_Films", device: torch.device) -> Tensor:
    """Return [n,C,H,W]: x^ - x of at most `BANK` training images of a class, evenly spread, in units of [0,1]."""
    places = np.unique(np.linspace(0, len(films.ids) - 1, BANK).round().astype(int))
    image = films.take(places.tolist()).to(device)
    with torch.no_grad():
        return to_image_range(translator.direction(label)(to_network_range(image))[0]) - image


class _Films:
    """The training images of one domain, in memory where they fit."""

    def __init__(self, dataset: Dataset, ids: Sequence[str], shape: tuple[int, int, int]) -> None:
        self.dataset, self.ids = dataset, ids
        fits = len(ids) * 4 * int(np.prod(shape)) <= _PRELOAD_BYTES
        self.images = self._load(range(len(ids))) if fits else None

    def take(self, places: Sequence[int]) -> Tensor:
        """Return images [n,C,H,W] in [0,1]."""
        return self._load(places) if self.images is None else self.images[torch.as_tensor(places)]

    def batches(self, count: int, numbers: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield batches [B,C,H,W] in [-1,1]; no image comes twice before every other came."""
        wanted = count * numbers.batch
        passes = -(-wanted // len(self.ids))
        order = torch.cat([torch.randperm(len(self.ids), generator=generator) for _ in range(passes)])
        for part in itertools.islice(order.split(numbers.batch), count):
            yield to_network_range(augment(self.take(part.tolist()), numbers.zoom, numbers.flip, generator))

    def _load(self, places: Sequence[int]) -> Tensor:
        chunks = [
            self.dataset.load([self.ids[i] for i in places[start : start + 256]]).image
            for start in range(0, len(places), 256)
        ]
        return torch.as_tensor(np.concatenate(chunks))


def augment(image: Tensor, zoom: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Return images [B,C,H,W] enlarged by ``zoom`` and each cut at random to its size; mirrored in half of the draws."""
    height, width = image.shape[2:]
    if zoom > 1:
        sides = (round(height * zoom), round(width * zoom))
        large = F.interpolate(image, sides, mode="bilinear", align_corners=False)
        tops = torch.randint(sides[0] - height + 1, (len(image),), generator=generator).tolist()
        lefts = torch.randint(sides[1] - width + 1, (len(image),), generator=generator).tolist()
        image = torch.stack(
            [
                each[:, top : top + height, left : left + width]
                for each, top, left in zip(large, tops, lefts, strict=True)
            ]
        )
    if flip:
        mirrored = torch.rand(len(image), generator=generator) < 0.5
        image = torch.where(mirrored[:, None, None, None], image.flip(3), image)
    return image
