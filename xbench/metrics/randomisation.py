"""Does the map depend on what the network has learnt, and on the class that is explained?"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from xbench.errors import Unsupported
from xbench.metrics.ranks import centred_ranks, correlation, spearman
from xbench.models import Model
from xbench.perturb import levels
from xbench.scene import Curve, Scene
from xbench.seeds import integers, stable_int
from xbench.tensors import Batch, Explanation

Scores = dict[str, Tensor | Curve]
Metric = Callable[[Scene], Scores]
_BINS = 100


def random_logit(absolute: bool) -> Metric:
    """Return the metric: [B] Spearman's correlation in [-1,1] of the map for the target and for another class; less is better.

    The other class is drawn from the sample's key. ``absolute``: of the maps' absolute values. NaN where a map is the same
    everywhere, or the method has no answer for the other class. One explanation an image.

    Source: Sixt, Granz, Landgraf, "When explanations lie", ICML 2020.
    """

    def measure(scene: Scene) -> Scores:
        batch, classes = scene.batch, scene.backdrop.clean_logits.shape[1]
        step = integers(batch.keys, "random_logit", ()) % max(1, classes - 1)
        other = scene.explain(batch.with_target((batch.target + 1 + step) % classes))
        similar = spearman(*(_levels(each, absolute)[0] for each in (scene.explanation, other)))
        return {"random_logit": similar.masked_fill(~other.answered, float("nan"))}

    return measure


def mprt(steps: int, absolute: bool) -> Metric:
    """Return the metric: how like the map stays to itself while layer after layer, the last first, gets fresh weights.

    ``mprt`` [B] is the mean over the stages of Spearman's correlation in [-1,1] of the map with that of the untouched
    network, whose own correlation of 1 does not count; ``mprt_last`` that when all layers are fresh; ``mprt.curve`` by
    the share of layers. Less is better: a map that stays the same does not show what was learnt. A blank map of a fresh
    network is like nothing: its correlation counts 0. A stage at which the method has no answer does not count. NaN where the
    map of the untouched network is blank, or there is no answer at any stage.

    Parameters
    ----------
    steps
        Stages at which the map is looked at, evenly spread over the layers; 0: after every layer.
    absolute
        Compare the maps' absolute values (Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, NeurIPS 2018, do both).

    Notes
    -----
    A layer is a module with ``reset_parameters`` (torch's attention: ``_reset_parameters``) and weights or statistics of its
    own; batch normalisation forgets its statistics. Fresh weights are drawn
    from the layer's name, so that they are the same for every explainer, batch and device; intervals leave their spread
    out. The explainer's own noise is drawn anew, as it would be for another network.

    Raises
    ------
    ValueError
        There are fewer than 0 steps.
    Unsupported
        Raised by the metric: the network has weights that no layer could draw afresh.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}: 0 or more are needed")

    def measure(scene: Scene) -> Scores:
        level, flat = _levels(scene.explanation, absolute)
        clean, found, shares = centred_ranks(level), [], []
        for share, model in _cascade(scene.model, steps):
            other = scene.rebind(model)(_other_noise(scene.batch))
            level, blank = _levels(other, absolute)
            similar = correlation(clean, centred_ranks(level)).masked_fill(blank, 0)
            found.append(similar.masked_fill(~other.answered, float("nan")))
            shares.append(share)
        like = torch.stack(found, dim=1).masked_fill(flat[:, None], float("nan"))
        whole = torch.cat([torch.ones_like(like[:, :1]), like], dim=1)
        x = torch.tensor([0.0, *shares], dtype=torch.float64, device=like.device)
        return {"mprt": like.nanmean(dim=1), "mprt_last": like[:, -1], "mprt.curve": Curve(x, whole)}

    return measure


def efficient_mprt() -> Metric:
    """Return the metric: [B] how much more complex the map is under fresh weights, (H(fresh) - H) / H; more is better.

    H is the entropy of a histogram of the map's absolute values, of 100 bins from the least to the highest. What is learnt
    should show as order: a score of 0 or less is a map as ordered without. NaN where the map is blank, or the method has no
    answer for the fresh network.

    Source: Hedstroem, Weber, Lapuschkin, Hoehne, "Sanity checks revisited", arXiv 2401.06465.
    """

    def measure(scene: Scene) -> Scores:
        *_, (_, model) = _cascade(scene.model, 1)
        other = scene.rebind(model)(_other_noise(scene.batch))
        fresh, own = (_histogram_entropy(each.attribution) for each in (other, scene.explanation))
        return {"efficient_mprt": ((fresh - own) / own).masked_fill((own <= 0) | ~other.answered, float("nan"))}

    return measure


def _cascade(model: Model, steps: int) -> Iterator[tuple[float, Model]]:
    """Yield (share of fresh layers, network), the last layers first; the network given is left alone."""
    module = copy.deepcopy(model.module)
    layers = [(name, layer) for name, layer in module.named_modules() if _own_weights(layer)][::-1]
    if not layers:
        raise Unsupported("the network has no layer whose weights could be drawn afresh")
    fresh = {id(weight) for _, layer in layers for weight in _learnt(layer)}
    if kept := [name for name, weight in module.named_parameters() if id(weight) not in fresh]:
        raise Unsupported(
            f"the network's {kept[0]!r} belongs to no layer with a reset_parameters; it would stay as learnt"
        )
    stages = set(range(1, len(layers) + 1))
    if steps:
        stages = set(np.unique(np.linspace(0, len(layers), steps + 1).round().astype(int))[1:].tolist())
    for count, (name, layer) in enumerate(layers, start=1):
        if (key := f"mprt/{name}") not in model.memo:
            model.memo[key] = _fresh(name, layer, model.device)
        weights = _weights(layer)
        for weight, values in zip(weights, model.memo[key].split([each.numel() for each in weights]), strict=True):
            weight.copy_(values.view_as(weight))
        if count in stages:
            yield count / len(layers), Model(module, model.link, model.batch_size, model.passes)


@torch.no_grad()
def _fresh(name: str, layer: nn.Module, device: torch.device) -> Tensor:
    """Return a layer's weights and statistics, drawn afresh from its name and strung together."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stable_int("mprt", name))
        reset = _reset(layer.cpu())  # on the GPU it would draw other numbers
        assert reset is not None
        reset()
    return torch.cat([weight.flatten() for weight in _weights(layer.to(device))])


def _weights(layer: nn.Module) -> list[Tensor]:
    """Return all that a layer's ``reset_parameters`` may change, its children's too (torch's attention does so)."""
    return [*layer.parameters(), *layer.buffers()]


def _other_noise(batch: Batch) -> Batch:
    """Return the batch with other keys: a map of noise must not pass for one that survives."""
    return replace(batch, keys=integers(batch.keys, "mprt", (2,)))


def _own_weights(layer: nn.Module) -> bool:
    return _reset(layer) is not None and bool(_learnt(layer))


def _learnt(layer: nn.Module) -> list[Tensor]:
    """Return a layer's own weights and statistics, those in its lists of parameters too."""
    lists = [child for child in layer.children() if isinstance(child, nn.ParameterList | nn.ParameterDict)]
    return [
        *layer.buffers(recurse=False),
        *(weight for one in (layer, *lists) for weight in one.parameters(recurse=False)),
    ]


def _reset(layer: nn.Module) -> Callable[[], None] | None:
    """Return what draws a layer's weights afresh, or None; torch's attention layers hide it behind an underscore."""
    found = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
    return found if callable(found) else None


def _levels(explanation: Explanation, absolute: bool) -> tuple[Tensor, Tensor]:
    """Return the levels [B,n] of maps, or of their absolute values, and [B] bool: which maps are the same everywhere."""
    level = levels(explanation.attribution)
    low, high = level.aminmax(dim=1)
    return level.abs() if absolute else level, low == high


def _histogram_entropy(maps: Tensor) -> Tensor:
    """Return [B] float64: the entropy in nats of 100 equal bins of |map|; 0 for a blank one."""
    value = maps.flatten(1).abs().double()
    low, high = value.amin(dim=1, keepdim=True), value.amax(dim=1, keepdim=True)
    extent = high - low
    place = ((value - low) / extent.where(extent > 0, torch.ones_like(extent)) * _BINS).long().clamp(max=_BINS - 1)
    counts = torch.zeros(len(value), _BINS, dtype=torch.float64, device=value.device)
    counts.scatter_add_(1, place, torch.ones_like(value))
    share = counts / value.shape[1]
    return -torch.where(share > 0, share * share.log(), 0.0).sum(dim=1)
