"""Scenes with known truth on which metrics are checked: true, reversed, random and blank maps of a linear classifier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xbench.checks import checked
from xbench.components import import_attr
from xbench.models import Model
from xbench.scene import Backdrop, Curve, Scene
from xbench.seeds import uniform
from xbench.tensors import Batch, Explanation, make_batch
from xbench.testing.subjects import MetricSubject
from xbench.testing.toys import Squares, linear

Explain = Callable[[Model, Batch], Explanation]
DATA = Squares((1, 12, 12), 2, count=48, lift=(0.2, 0.25), grain=(0.345, 0.355))
_GRAIN = 0.35


def toy_samples() -> Batch:
    """Return 48 test samples with all truth."""
    index = DATA.index("test")
    return make_batch(DATA.load(index.ids), tuple(index.ids), torch.from_numpy(index.labels), 0, DATA.classes)


def truth(model: Model, batch: Batch) -> Explanation:
    """Return what each pixel adds to the linear model's logit, and the exact counterfactual."""
    return _told(model, batch, 1.0)


def reversed_truth(model: Model, batch: Batch) -> Explanation:
    """Return the opposite of the truth: each sign turned around, and the image changed the other way."""
    return _told(model, batch, -1.0)


def _told(model: Model, batch: Batch, sign: float) -> Explanation:
    image = batch.image.detach().requires_grad_(True)
    with torch.enable_grad():
        gradient = torch.autograd.grad(model.score(image, batch.target).sum(), image)[0]
    maps = sign * (gradient * (batch.image - _GRAIN)).sum(dim=1)
    assert batch.counterfactual is not None
    other = batch.image + sign * (batch.counterfactual - batch.image)
    return Explanation(maps, counterfactual=other, extras=_extras(maps, other, batch, sign))


def _extras(maps: Tensor, other: Tensor, batch: Batch, sign: float) -> dict[str, Tensor]:
    return {
        "total": sign * maps.flatten(1).sum(dim=1),
        "cycle": batch.image,
        "swapped": batch.image,
        "noised": batch.image,
    }


def noise(draw: int) -> Explain:
    """Return an explainer that knows nothing."""

    def explain(model: Model, batch: Batch) -> Explanation:
        maps = uniform(batch.keys, f"kit/{draw}", batch.image.shape[2:])
        found = truth(model, batch)
        return replace(found, attribution=maps, extras={**found.extras, "total": maps.flatten(1).sum(dim=1)})

    return explain


def nothing(model: Model, batch: Batch) -> Explanation:
    """Return blank maps and the images themselves."""
    maps = torch.zeros_like(batch.image[:, 0])
    return Explanation(maps, counterfactual=batch.image, extras=_extras(maps, batch.image, batch, 1.0))


@dataclass
class Looked:
    """A metric's results on a scene, and the scene."""

    found: Mapping[str, Any]
    scene: Scene

    @property
    def columns(self) -> dict[str, Tensor]:
        """The per-sample values and chances, without the curves."""
        return {name: value for name, value in self.found.items() if not isinstance(value, Curve)}


def look(subject: MetricSubject, explain: Explain = truth, batch: Batch | None = None) -> Looked:
    """Measure one explanation of toy samples."""
    batch = batch or toy_samples()
    model = linear(DATA)
    index = DATA.index("test")
    oracle = linear(DATA) if "oracle" in subject.spec.uses else None
    backdrop = Backdrop(model, batch, torch.full((1,), 0.37), classes=index.classes, oracle=oracle)
    if subject.spec.level == "model":
        scene = Scene(backdrop)
    else:

        def rebind(other: Model) -> Callable[[Batch], Explanation]:
            return lambda part: checked(explain(other, part), part)

        scene = Scene(backdrop, rebind(model)(batch.clone()), rebind=rebind)
    return Looked(import_attr(subject.spec.factory)(**subject.component.params)(scene), scene)
