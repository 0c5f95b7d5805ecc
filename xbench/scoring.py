"""One explainer's maps, or the classifier alone, on one slice of samples, scored by all metrics in shared passes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xbench.checks import compare
from xbench.columns import Columns
from xbench.components import Component, factory_of, import_attr
from xbench.data import Floats
from xbench.devices import halving
from xbench.errors import Unsupported
from xbench.memory import out_of_memory
from xbench.metrics.cost import Meter
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import stable_int
from xbench.tensors import Batch

_LONGEST = 2000
"""Characters of an error that are told: a message may hold a whole array."""


@dataclass
class Stage:
    """A model and a slice of samples on the device, kept between the jobs that share them.

    ``unread`` says, by place, why a sample could not be read; another stands there (`xbench.unread`).
    """

    model: Model
    weights: str | None
    batch: Batch
    logits: Tensor
    mean: Tensor
    untouched: dict[str, object]
    classes: tuple[str, ...]
    oracle: Model | None
    oracle_weights: str | None = None
    unread: Mapping[int, str] = field(default_factory=dict)
    backdrops: dict[int, list[Backdrop]] = field(default_factory=dict)

    def parts(self, size: int) -> list[Backdrop]:
        """Return the slice in batches of at most ``size`` images, each with what its scenes share."""
        if size not in self.backdrops:
            rows = [slice(start, start + size) for start in range(0, len(self.batch), size)]
            unread = torch.tensor([place in self.unread for place in range(len(self.batch))])
            made = [
                Backdrop(
                    *(self.model, self.batch.take(part), self.mean, self.logits[part], self.classes, self.oracle),
                    unread=unread[part] if unread[part].any() else None,
                )
                for part in rows
            ]
            self.backdrops = {size: made}
        return self.backdrops[size]


def score(
    stage: Stage,
    size: int,
    metrics: Sequence[Component],
    explained: Callable[[Backdrop, Meter], Scene] | None,
    rows: Sequence[int] = (),
    note: Callable[[str], None] = lambda text: None,
) -> tuple[Columns, dict[str, Any]]:
    """Return the columns of a slice, and what they cost.

    Parameters
    ----------
    stage
        The model and the samples.
    size
        The most images of a pass.
    metrics
        What to measure.
    explained
        Returns the scene of a batch with its maps; None for metrics of the classifier alone.
    rows
        The samples whose maps are kept for pictures.
    note
        Hears why a metric has no answer.
    """
    stage.model.batch_size = size
    made = [(metric, import_attr(metric.spec.factory)(**metric.params)) for metric in metrics]
    meter = Meter(stage.model)
    start, passed = time.perf_counter(), stage.model.passes.seconds
    columns, images = Columns(rows), stage.batch.image._version
    for backdrop in stage.parts(size):
        scene = explained(backdrop, meter) if explained else Scene(backdrop)
        if explained:
            columns.add_maps(scene)
        columns.add_predictions(scene)
        for component, metric in made:
            try:
                columns.add_scores(component, metric(scene), scene)
            except Unsupported as error:
                why = one_line(error, name=False)
                columns.add_nothing(component, scene, why)
                note(f"{component.text} has no value: {why}")
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise RuntimeError(f"metric {component.text}: {one_line(error)}") from error
    compare(stage.untouched, stage.model.module)
    if stage.batch.image._version != images:
        raise RuntimeError("a metric changed the images in place; it must leave them as they were")
    network = stage.model.passes.seconds - passed
    scoring = time.perf_counter() - start - meter.seconds
    return columns, {
        **meter.total(),
        "scoring_seconds": scoring,
        "network_seconds": network,
        "images_a_pass": size,
    }


def build_explainer(
    component: Component, model: Model, state: Mapping[str, Tensor] | None = None
) -> Callable[[Batch], object]:
    """Return an explainer of a model, and those that it wraps; ``state`` is what its training gave."""
    extra: dict[str, Any] = {name: value for name, value in component.params.items() if name != "of"}
    if component.of:
        extra["of"] = build_explainer(component.of, model)
    if state is not None:
        extra["state"] = state
    return factory_of(component.spec)(model, **extra)


def ask(explainer: Callable[[Batch], object], batch: Batch, key: str) -> object:
    """Return what an explainer says of a batch, which it may change as it likes.

    Explainers that draw from torch's own generator draw the same for the same ``key`` and first sample.
    """
    # `torch.manual_seed` notes down where it was called from, for a GPU not yet in use: .7 ms of an explanation on a CPU.
    draw = torch.manual_seed if batch.image.is_cuda else torch.default_generator.manual_seed
    draw(stable_int("explainer", key, batch.sample_id[0]))
    with torch.enable_grad():
        return explainer(batch.clone())


def clean_logits(model: Model, batch: Batch, n_classes: int, device: torch.device, listed: bool = False) -> Tensor:
    """Return the logits [B,K] of untouched images. Raises ValueError where K is another number than that of the classes.

    ``listed``: the data set has a parameter ``classes``, which makes them as many as a network has outputs.
    """

    def forward(size: int) -> Tensor:
        with torch.no_grad():
            return torch.cat([model.logits(part) for part in batch.image.split(size)])

    logits = halving(forward, model.batch_size, device)
    if logits.shape[1] != n_classes:
        more = listed and logits.shape[1] > n_classes
        remedy = "; name all of them, in the order of its outputs, by data.classes=FILE" if more else ""
        raise ValueError(f"the model gives {logits.shape[1]} classes; the data set has {n_classes}{remedy}")
    return logits


def evenly(count: int) -> list[int]:
    """Return at most 256 places of ``count``, evenly spread: where the mean colour is taken from."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, 256).round().astype(int))]


def mean_colour(image: Floats) -> list[float]:
    """Return the mean colour [C] of images [n,C,H,W] in [0,1], to six digits."""
    return [round(float(value), 6) for value in image.mean(axis=(0, 2, 3), dtype=np.float64)]


def one_line(error: BaseException, name: bool = True) -> str:
    """Return an error as one line, its type in front."""
    text = " ".join(str(error).split()) or "no message"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} [...]"
    return f"{type(error).__name__}: {text}" if name else text
