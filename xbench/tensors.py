"""The types that pass between harness and plugins: batches, explanations and the callables' Protocols."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from xbench.data import Samples
from xbench.seeds import sample_keys

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples to explain.

    Attributes
    ----------
    image
        [B,C,H,W] float32 in [0,1].
    sample_id
        B strings.
    label, target
        [B] int64: the true class, and the class whose score is explained.
    keys
        [B,2] int64: where all noise of a sample comes from (`xbench.seeds`); already holds the run's seed.
    counter_target
        [B] int64 or None: with two classes, the one that is not the label; translation goes there.
    mask
        [B,H,W] bool or None: the object; all False where a sample has no mask.
    mask_class
        [B] int64 or None: the class the mask is evidence for, -1 for whichever is explained.
    counterfactual
        [B,C,H,W] in [0,1] or None: the exact image of the other class.
    shortcut
        [B,H,W] bool or None: a planted feature that should not decide.
    swapped
        [B,C,H,W] in [0,1] or None: the same samples with the shortcut that goes with another class.
    """

    image: Tensor
    sample_id: tuple[str, ...]
    label: Tensor
    target: Tensor
    keys: Tensor
    counter_target: Tensor | None = None
    mask: Tensor | None = None
    mask_class: Tensor | None = None
    counterfactual: Tensor | None = None
    shortcut: Tensor | None = None
    swapped: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def difference(self) -> Tensor | None:
        """[B,H,W] bool: where the exact counterfactual differs by more than one grey level of 255 in any channel (the ring)."""
        if self.counterfactual is None:
            return None
        # Between one and two levels of an 8-bit image: at 1/255 itself, rounding would decide.
        return ((self.counterfactual - self.image).abs() > 1.5 / 255).any(dim=1)

    def take(self, part: slice) -> "Batch":
        """Return a view of some samples."""
        return self._map(lambda tensor: tensor[part], sample_id=self.sample_id[part])

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def clone(self) -> "Batch":
        """Return a deep copy, which an explainer may change as it likes."""
        return self._map(torch.Tensor.clone)

    def with_target(self, target: Tensor) -> "Batch":
        """Return the batch with another class to explain, [B] int64."""
        return replace(self, target=target)

    def _map(self, change: Callable[[Tensor], Tensor], **other: object) -> "Batch":
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors, **other)  # type: ignore[arg-type]


def make_batch(samples: Samples, ids: tuple[str, ...], labels: Tensor, seed: int, n_classes: int) -> Batch:
    """Return samples as a CPU batch whose target is still the label."""

    def tensor(array: object, dtype: torch.dtype) -> Tensor | None:
        return None if array is None else torch.as_tensor(array, dtype=dtype)

    image = torch.as_tensor(samples.image, dtype=torch.float32)
    return Batch(
        image=image,
        sample_id=ids,
        label=labels,
        target=labels,
        keys=sample_keys(seed, ids),
        counter_target=1 - labels if n_classes == 2 else None,
        mask=tensor(samples.mask, torch.bool),
        mask_class=tensor(samples.mask_class, torch.int64),
        counterfactual=tensor(samples.counterfactual, torch.float32),
        shortcut=tensor(samples.shortcut, torch.bool),
        swapped=tensor(samples.swapped, torch.float32),
    )


@dataclass(frozen=True, eq=False)
class Explanation:
    """What an explainer says of a batch.

    Attributes
    ----------
    attribution
        [B,H,W] float32, raw (never normalised): larger is more evidence for the target.
    counterfactual
        [B,C,H,W] float32 in [0,1] or None: the translated image.
    defined
        [B] bool or None: False where the method has no answer for a sample; its scores are undefined, not wrong.
    extras
        Other tensors [B,...], for galleries and for metrics that know their names.
    nonfinite
        [B] bool, set by the harness: where the map held NaN or infinite values; it is 0 there now, and scored by nobody.
    """

    attribution: Tensor
    counterfactual: Tensor | None = None
    defined: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    nonfinite: Tensor | None = None

    @property
    def answered(self) -> Tensor:
        """[B] bool: where the method has an answer, and a finite one."""
        known = torch.ones(len(self.attribution), dtype=torch.bool, device=self.attribution.device)
        if self.defined is not None:
            known = known & self.defined.to(known)
        return known if self.nonfinite is None else known & ~self.nonfinite


class Explainer(Protocol):
    """What an explainer factory returns."""

    def __call__(self, batch: Batch) -> Explanation | Tensor:
        """Explain ``batch.target`` of every image; a bare tensor [B,H,W] stands for an `Explanation` of it."""
