"""What the harness demands of an explainer before its maps are scored: sound maps, and a model left as it was."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from xbench.tensors import Batch, Explanation


class InvalidMap(Exception):
    """The explanation cannot be scored; the cell gets status `invalid_map` and this reason."""


class ModelTouched(Exception):
    """The explainer left the model changed; the cell fails and the model is loaded anew."""


def checked(found: object, batch: Batch) -> Explanation:
    """Return an explanation whose tensors are as promised, maps float32 and 0 where undefined or not finite.

    Raises InvalidMap saying what is wrong and what would be right.
    """
    explanation = Explanation(found) if isinstance(found, Tensor) else found
    if not isinstance(explanation, Explanation):
        raise InvalidMap(
            f"the explainer returned a {type(found).__name__}; an Explanation or a tensor [B,H,W] is needed"
        )
    size, _, height, width = batch.image.shape
    maps = explanation.attribution
    if not isinstance(maps, Tensor):
        raise InvalidMap(f"attribution is a {type(maps).__name__}; a tensor [B,H,W] is needed")
    maps = maps.detach()
    if tuple(maps.shape) != (size, height, width):
        raise InvalidMap(f"attribution has shape {tuple(maps.shape)}; {(size, height, width)} is needed")
    if not maps.dtype.is_floating_point:
        raise InvalidMap(f"attribution has dtype {maps.dtype}; a floating-point one is needed")
    maps = maps.to(batch.image.device, torch.float32)
    if explanation.defined is not None:
        if tuple(explanation.defined.shape) != (size,):
            raise InvalidMap(f"defined has shape {tuple(explanation.defined.shape)}; ({size},) is needed")
        defined = explanation.defined.to(maps.device, torch.bool)
        maps = torch.where(defined[:, None, None], maps, torch.zeros_like(maps))
    # A method that fails on one image in a thousand loses that one, and the table counts it.
    low, high = maps.flatten(1).aminmax(dim=1)  # which a NaN passes through, and in less time than a look at each value
    nonfinite = ~(low.isfinite() & high.isfinite())
    if nonfinite.any():
        maps = maps.masked_fill(nonfinite[:, None, None], 0)
    image = explanation.counterfactual
    if image is not None:
        image = image.detach().to(batch.image)
        if image.shape != batch.image.shape:
            raise InvalidMap(f"counterfactual has shape {tuple(image.shape)}; {tuple(batch.image.shape)} is needed")
        if explanation.defined is not None:
            image = torch.where(defined[:, None, None, None], image, batch.image)
        if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
            raise InvalidMap("counterfactual leaves [0,1]")
    return replace(explanation, attribution=maps, counterfactual=image, nonfinite=nonfinite)


def fingerprint(module: nn.Module) -> dict[str, object]:
    """Return what an explainer must leave alone: weights and buffers (a checksum), modes, hooks, gradients."""
    state: dict[str, object] = {}
    values = [*module.named_parameters(), *module.named_buffers()]
    sums = [_checksum(value) for _, value in values]
    # Read all at once: each look at a GPU's numbers waits for all that it was given.
    read = torch.stack([each.to(sums[0].device) for each in sums]).tolist() if sums else []
    for (name, value), checksum in zip(values, read, strict=True):
        state[f"the weights of {name}"] = (checksum, value.dtype, tuple(value.shape))
        state[f"requires_grad of {name}"] = value.requires_grad
        state[f"a gradient left in {name}"] = value.grad is not None
    for name, part in module.named_modules():
        state[f"the mode of {name or 'the model'}"] = part.training
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        state[f"the hooks of {name or 'the model'}"] = tuple(len(hook) for hook in hooks)
    return state


def compare(before: dict[str, object], module: nn.Module) -> None:
    """Raise ModelTouched, naming what changed, unless the model is as its fingerprint says."""
    after = fingerprint(module)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ModelTouched(f"the explainer changed {changed[0]}{more}; it must leave the model as it was")


def _checksum(value: Tensor) -> Tensor:
    """Return [] int64: a wrapping sum of the raw bits weighted by place: exact, order-sensitive, one pass on the device."""
    raw = value.detach().reshape(-1).contiguous().view(torch.uint8)
    padded = torch.nn.functional.pad(raw, (0, -len(raw) % 4)).view(torch.int32)
    place = torch.arange(1, len(padded) + 1, dtype=torch.int32, device=raw.device)
    return place.mul_(0x1E3779B1).bitwise_or_(1).mul_(padded).sum(dtype=torch.int64)
