"""The one training loop of classifiers: seeded by epoch, so that a training killed and resumed ends in the same weights."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xbench.data import Dataset, Index
from xbench.fits import FitContext
from xbench.seeds import stable_int

Augment = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
_PRELOAD_BYTES = 2 * 2**30


def train_classifier(
    context: FitContext,
    *,
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float = 0.0,
    samples_per_epoch: int | None = None,
    schedule: Literal["constant", "one_cycle"] = "one_cycle",
    balance: bool = False,
    augment: Augment | None = None,
    loss: Loss | None = None,
    mixup: float = 0.0,
    average: float = 0.0,
    early_stop: int = 0,
) -> dict[str, Tensor]:
    """Train ``context.module`` with Adam on cross-entropy, or on ``context.objective``, and return its weights.

    Parameters
    ----------
    context
        Module, data, seed, device; checkpoints are written after every epoch.
    epochs, batch, lr, weight_decay
        As usual; ``lr`` is the peak where the schedule is one-cycle. Weight decay is decoupled (AdamW).
    samples_per_epoch
        Draw that many training samples at random each epoch, none twice before all were drawn once; None takes all.
    balance
        Weight the loss so that every class counts the same.
    augment
        ``augment(image [B,C,H,W], generator) -> image``, its randomness drawn from the generator (on the CPU).
    loss
        ``loss(logits [B,K], label [B]) -> scalar`` where it is not the cross-entropy; ``balance`` does not reach it.
    mixup
        Blend every image with another of its batch, and their losses likewise, in a proportion drawn from
        Beta(mixup, mixup) for each batch (Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018); 0 does not.
    average
        Return, instead of the last weights, their exponential moving average with this decay a step; 0 does not.
    early_stop
        End after that many epochs without a better accuracy on the validation split (or as good a one with less
        cross-entropy), and return the weights of the best epoch; 0 does not. ``context.notes["best_epoch"]`` says which.

    Raises
    ------
    ValueError
        There is no training sample, or no validation sample to stop by.
    """
    module, device, n = context.module, context.device, len(context.train)
    assert module is not None, "a model's fit gets its module from the harness"
    if not n:
        raise ValueError("the training split is empty")
    if early_stop and not len(context.valid):
        raise ValueError("the validation split is empty, by which the training would stop")
    labels = torch.as_tensor(context.train.labels)
    n_classes = len(context.train.classes)
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    weights = (n / (n_classes * counts)).float().to(device) if balance else None
    per_epoch = samples_per_epoch or n
    steps = -(-per_epoch // batch)
    optimiser = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
    averaged = copy.deepcopy(module) if average else module
    first = 0
    best = _Best()
    notes: list[dict[str, float]] = []
    if state := context.resume():
        module.load_state_dict(state["module"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        best, notes = _Best(**state["best"]), state["notes"]
        first = state["epoch"]
    objective = context.objective
    read = _Reader(context.dataset, context.train, masks=objective is not None and objective.needs_masks)
    unseen = _Reader(context.dataset, context.valid) if early_stop else None

    def criterion(logits: Tensor, label: Tensor) -> Tensor:
        return loss(logits, label) if loss else classification_loss(logits, label, weights)

    for epoch in range(first, epochs):
        if early_stop and epoch - best.epoch >= early_stop and best.state:
            break
        # Everything random in an epoch comes from (seed, epoch): a resumed training repeats the uninterrupted one.
        word = stable_int("epoch", context.seed, epoch)
        generator = torch.Generator().manual_seed(word)
        torch.manual_seed(word)
        passes = [torch.randperm(n, generator=generator) for _ in range(-(-per_epoch // n))]
        order = torch.cat(passes)[:per_epoch]
        module.train()
        total = torch.zeros((), device=device)
        monitors: dict[str, Tensor] = {}
        for step, (chosen, image, mask) in enumerate(read.batches(order, batch)):
            if augment:
                image, mask = _augmented(augment, image, mask, generator)
            if schedule == "one_cycle":
                _set_lr(optimiser, lr * _one_cycle((epoch * steps + step + 0.5) / (epochs * steps)))
            image, label = image.to(device), labels[chosen].to(device)
            mask = None if mask is None else mask.to(device)
            share, other = _blend(mixup, len(image), word, step) if mixup else (1.0, None)
            if other is not None:
                image = share * image + (1 - share) * image[other]

            def classification(
                logits: Tensor, label: Tensor = label, share: float = share, other: Any = other
            ) -> Tensor:
                if other is None:
                    return criterion(logits, label)
                return share * criterion(logits, label) + (1 - share) * criterion(logits, label[other])

            if objective:
                if other is not None and share < 0.5:
                    label, mask = label[other], None if mask is None else mask[other]
                objective.progress = (epoch * steps + step) / (epochs * steps)
                value = objective(module, image, label, mask, classification)
                for name, seen in objective.monitors.items():
                    monitors[name] = monitors.get(name, torch.zeros((), device=device)) + seen.detach() / steps
            else:
                value = classification(module(image))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            if average:
                _average(averaged, module, average, epoch * steps + step)
            total += value.detach()
            context.report(epoch * steps + step + 1, epochs * steps, f"epoch {epoch + 1}/{epochs}")
        context.report(
            (epoch + 1) * steps, epochs * steps, f"epoch {epoch + 1}/{epochs}, loss {total.item() / steps:.3f}"
        )
        context.keep(epoch + 1, averaged.state_dict())
        line = {name: round(float(value), 5) for name, value in monitors.items()}
        if unseen:
            accuracy, value_loss = _validated(averaged, unseen, context.valid, device)
            line |= {"valid_accuracy": round(accuracy, 5), "valid_loss": round(value_loss, 5)}
            if objective is None or objective.ready:
                best.seen(epoch + 1, averaged, accuracy, value_loss)
        if line:
            notes.append(line)
        now = {"module": module.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict()}
        context.checkpoint({"epoch": epoch + 1, **now, "best": vars(best), "notes": notes})
    if notes:
        context.notes["epochs"] = notes
    if best.state:
        context.notes["best_epoch"] = best.epoch
        return best.state
    return averaged.state_dict()


@dataclass
class _Best:
    """The epoch (1, 2, ...) of the best validation so far, and its weights on the CPU."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    state: dict[str, Tensor] = field(default_factory=dict)

    def seen(self, epoch: int, module: nn.Module, accuracy: float, loss: float) -> None:
        """Keep the weights where they are better."""
        if (accuracy, -loss) > (self.accuracy, -self.loss):
            state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
            self.epoch, self.accuracy, self.loss, self.state = epoch, accuracy, loss, state


@torch.no_grad()
def _validated(module: nn.Module, read: "_Reader", index: Index, device: torch.device) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy on a split."""
    labels = torch.as_tensor(index.labels)
    module.eval()
    parts = read.batches(torch.arange(len(index)), 256)
    logits = torch.cat([module(image.to(device)).cpu() for _, image, _ in parts])
    module.train()
    predicted = logits.argmax(dim=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return float((predicted == labels).double().mean()), float(classification_loss(logits.double(), labels))


def _augmented(
    augment: Augment, image: Tensor, mask: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return images and their masks after the same augmentation: a mask goes as a picture of zeros and ones."""
    if mask is None:
        return augment(image, generator), None
    again = torch.Generator().set_state(generator.get_state())
    moved = augment(mask[:, None].expand(image.shape).to(image.dtype).contiguous(), again)
    return augment(image, generator), moved.mean(dim=1) > 0.5


def classification_loss(logits: Tensor, label: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy; logits [B,1] of a one-logit net get the binary form. ``weights``: [K] or None."""
    if logits.shape[1] > 1:
        return F.cross_entropy(logits, label, weight=weights)
    each = None if weights is None else weights[label]
    return F.binary_cross_entropy_with_logits(logits[:, 0], label.to(logits.dtype), weight=each)


def _blend(alpha: float, size: int, word: int, step: int) -> tuple[float, Tensor]:
    """Return a share from Beta(alpha, alpha) and the position of every image's partner."""
    rng = np.random.default_rng((word, step))
    return float(rng.beta(alpha, alpha)), torch.as_tensor(rng.permutation(size))


@torch.no_grad()
def _average(averaged: torch.nn.Module, module: torch.nn.Module, decay: float, step: int) -> None:
    """Move the average towards the weights; the first steps move it further, so that the start is soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    now = module.state_dict()
    for name, mean in averaged.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(now[name], 1 - decay)
        else:
            mean.copy_(now[name])


def _one_cycle(t: float) -> float:
    """Return the learning rate at t in [0,1] over its peak: linear up for a fifth, then a cosine to zero."""
    return t / 0.2 if t < 0.2 else float(0.5 + 0.5 * np.cos(np.pi * (t - 0.2) / 0.8))


def _set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


class _Reader:
    """Training images by position: held in memory where they fit, else read ahead by one batch in a thread."""

    def __init__(self, dataset: Dataset, index: Index, masks: bool = False) -> None:
        self.dataset, self.ids, self.masks = dataset, index.ids, masks
        size = len(index) * 4 * int(np.prod(index.shape))
        self.held = self._load(range(len(index))) if size <= _PRELOAD_BYTES else None

    def batches(self, order: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield (positions [b], images [b,C,H,W], masks [b,H,W] bool where wanted and there are some) in the order given."""
        parts = order.split(batch)
        if self.held is not None:
            images, masks = self.held
            for part in parts:
                yield part, images[part], None if masks is None else masks[part]
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self._load, parts[0].tolist())
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                image, mask = ahead.result()
                if following is not None:
                    ahead = pool.submit(self._load, following.tolist())
                yield part, image, mask

    def _load(self, positions: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        chunks = [
            self.dataset.load([self.ids[i] for i in positions[start : start + 256]])
            for start in range(0, len(positions), 256)
        ]
        image = torch.as_tensor(np.concatenate([each.image for each in chunks]))
        masks = [each.mask for each in chunks if each.mask is not None] if self.masks else []
        return image, torch.as_tensor(np.concatenate(masks)) if masks else None
