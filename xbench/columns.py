"""What is stored of a slice: per-sample columns, curves summed over samples, and the maps of a few samples for pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xbench.checks import InvalidMap
from xbench.components import Component
from xbench.errors import did_you_mean
from xbench.scene import Curve, Scene
from xbench.specs import UNBOUNDED, MetricSpec, ScoreSpec
from xbench.store import Arrays
from xbench.tensors import Batch

GALLERY = 32
"""How many samples of a run keep their maps for pictures."""


def gallery_rows(labels: Sequence[int], predicted: Sequence[int]) -> list[int]:
    """Return the positions of at most `GALLERY` samples worth a picture, in order.

    First comes the first sample of every class; then, in turn, a miss and a hit of every class.
    """
    groups: dict[tuple[bool, int], list[int]] = {}
    first: dict[int, int] = {}
    for place, (label, guess) in enumerate(zip(labels, predicted, strict=True)):
        if first.setdefault(label, place) != place:
            groups.setdefault((label == guess, label), []).append(place)
    chosen = [first[label] for label in sorted(first)]
    queues = [groups[name] for name in sorted(groups)]
    for turn in range(max(map(len, queues), default=0)):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
    return sorted(chosen[:GALLERY])


def gallery_images(batch: Batch, rows: Sequence[int]) -> Arrays:
    """Return images [m,C,H,W] and exact counterfactuals as uint8, and masks [m,H,W], of the samples chosen."""
    found = {"image": batch.image, "counterfactual": batch.counterfactual}
    images = {name: (value[list(rows)] * 255).round() for name, value in found.items() if value is not None}
    if batch.mask is not None:
        images["mask"] = batch.mask[list(rows)]
    return {name: value.to(torch.uint8).cpu().numpy() for name, value in images.items()}


class Columns:
    """The per-sample columns, curves and maps of one slice while its batches go by.

    Parameters
    ----------
    rows
        Positions in the slice of the samples whose maps are kept for pictures.

    Attributes
    ----------
    unmeasured
        Why a metric had no answer, by score; of samples that could not be read, see `xbench.unread.as_unmeasured`.
    """

    def __init__(self, rows: Sequence[int] = ()) -> None:
        self._rows, self._seen, self._finite = list(rows), 0, False
        self._parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._sums: Arrays = {}
        self.unmeasured: dict[str, str] = {}

    def add_predictions(self, scene: Scene) -> None:
        """Add the class predicted, the class explained, its probability, and what a translated image is taken for."""
        unread = scene.backdrop.unread
        self._add("predicted", _without(scene.backdrop.clean_logits.argmax(dim=1), unread, -1))
        if not scene.has_explanation:
            return  # the classifier alone explains no class
        self._add("target", _without(scene.batch.target, unread, -1))
        self._add("probability", _without(scene.backdrop.clean_score.double(), unread, float("nan")))
        if scene.explanation.counterfactual is not None:
            self._add("translated", _without(scene.translated_logits.argmax(dim=1), unread, -1))

    def add_maps(self, scene: Scene) -> None:
        """Add what is known of a map beside its scores, and the maps themselves for pictures."""
        explanation, unread = scene.explanation, scene.backdrop.unread
        self._add("blank", _without(scene.blank.to(torch.uint8), unread, 0))
        self._add("tied", _without(scene.tied, unread, float("nan")))
        self._finite |= explanation.nonfinite is not None and not bool(explanation.nonfinite.all())
        self._add("defined", _without(explanation.answered, unread, False))
        rows = [row - self._seen for row in self._rows if 0 <= row - self._seen < len(scene.batch)]
        self._seen += len(scene.batch)
        if rows:
            self._add_pictures(scene, rows)

    def _add_pictures(self, scene: Scene, rows: list[int]) -> None:
        explanation = scene.explanation
        self._add("gallery/row", torch.tensor(rows) + self._seen - len(scene.batch))
        self._add("gallery/probability", scene.model.prob(scene.backdrop.clean_logits[rows]))
        for name, maps in (("attribution", explanation.attribution), ("colour", explanation.extras.get("colour"))):
            if maps is not None:
                chosen = maps[rows].float()
                scale = chosen.abs().flatten(1).amax(dim=1)
                whole = scale.clamp(min=1e-30).view(-1, *[1] * (chosen.ndim - 1))
                self._add(f"gallery/{name}", (chosen / whole).half())
                self._add(f"gallery/{name}_scale", scale)
        if explanation.counterfactual is not None:
            self._add("gallery/counterfactual", (explanation.counterfactual[rows] * 255).round().to(torch.uint8))

    def extend(self, later: "Columns") -> None:
        """Add the columns of the samples that follow."""
        for name, parts in later._parts.items():
            self._parts.setdefault(name, []).extend(parts)
        for name, rows in later._sums.items():
            self._sums[name] = self._sums.get(name, 0) + rows
        self._seen += later._seen
        self._finite |= later._finite
        self.unmeasured |= later.unmeasured

    def check(self) -> None:
        """Raise InvalidMap where there were several maps and none of them was finite."""
        if self._seen > 1 and not self._finite:
            raise InvalidMap(f"every one of {self._seen} maps holds NaN or infinite values")

    def add_scores(self, component: Component, found: dict[str, Tensor | Curve], scene: Scene) -> None:
        """Add a metric's results; samples without an explanation get NaN."""
        named = {score.name: shown for shown, score in component.scores()}
        shapes = {score.name: _shape(len(scene.batch), score) for _, score in component.scores()}
        bounds = {score.name: score.bounds for _, score in component.scores() if score.aggregate in ("mean", "tuned")}
        promised = [
            name
            for shown, score in component.scores()
            for name in ([score.name, f"{score.name}.chance"] if score.chance == "per_sample" else [score.name])
        ]
        if absent := [name for name in promised if name not in found]:
            raise ValueError(f"it did not return {', '.join(absent)}")
        undefined = _unscored(component, scene)
        for key, value in found.items():
            base, _, part = key.partition(".")
            if base not in named:
                raise ValueError(f"it returned {key!r}, which it does not declare{did_you_mean(base, named)}")
            if part not in (("curve",) if isinstance(value, Curve) else ("", "chance", "deviation")):
                raise ValueError(
                    f"it returned {key!r}; what follows the dot is curve (of a Curve), chance or deviation"
                )
            if isinstance(value, Curve):
                keep = slice(None) if undefined is None else ~undefined.to(value.y.device)
                y = value.y[keep]
                y = y[~y.isnan().any(dim=1)]
                rows = torch.stack(
                    [value.x * len(y), y.sum(dim=0), torch.full_like(value.x, len(y)), (y**2).sum(dim=0)]
                )
                name = f"curve/{named[base]}"
                self._sums[name] = self._sums.get(name, 0) + rows.cpu().numpy()
                continue
            if value.shape != shapes[base]:
                raise ValueError(f"{key!r} has shape {tuple(value.shape)}; {shapes[base]} is needed")
            value = value.to(torch.float64, copy=True)
            if value.isinf().any():
                raise ValueError(f"it gave an infinite {key!r}; NaN stands for undefined")
            low, high = bounds.get(base, UNBOUNDED)
            if not part and ((value < low - 1e-6) | (value > high + 1e-6)).any():
                raise ValueError(f"it gave a {key!r} outside its bounds {low:g} to {high:g}")
            if undefined is not None:
                value[undefined.to(value.device)] = float("nan")
            self._add(f"{part or 'score'}/{named[base]}", value)

    def add_nothing(self, component: Component, scene: Scene, why: str) -> None:
        """Add NaN for every score of a metric that has no answer for these samples, and why."""
        self.unmeasured |= {shown: why for shown, _ in component.scores()}
        for shown, score in component.scores():
            nothing = torch.full(_shape(len(scene.batch), score), float("nan"), dtype=torch.float64)
            for kind in ("score", "chance")[: 1 + (score.chance == "per_sample")]:
                self._add(f"{kind}/{shown}", nothing)

    def arrays(self) -> Arrays:
        """Return everything as NumPy arrays."""
        return {**self._sums, **{name: np.concatenate(parts) for name, parts in self._parts.items()}}

    def _add(self, name: str, value: Tensor) -> None:
        self._parts.setdefault(name, []).append(value.detach().cpu().numpy())


def _shape(samples: int, score: ScoreSpec) -> tuple[int, ...]:
    return (samples, score.width) if score.aggregate == "tuned" else (samples,)


def _without(value: Tensor, unread: Tensor | None, nothing: float) -> Tensor:
    """Return a column [B] with ``nothing`` for the samples that could not be read."""
    return value if unread is None else value.masked_fill(unread.to(value.device), nothing)


def _unscored(component: Component, scene: Scene) -> Tensor | None:
    """Return [B] bool: the samples whose score is undefined because there is no map, or no sample, or None."""
    if not scene.has_explanation:
        return scene.backdrop.unread
    explanation, device = scene.explanation, scene.batch.image.device
    without = torch.zeros(len(scene.batch), dtype=torch.bool, device=device)
    if scene.backdrop.unread is not None:
        without |= scene.backdrop.unread.to(device)
    if explanation.defined is not None:
        without |= ~explanation.defined.to(device, torch.bool)
    assert isinstance(component.spec, MetricSpec)
    # A map that is not finite is the very thing that blankness counts.
    if explanation.nonfinite is not None and component.spec.family != "blankness":
        without |= explanation.nonfinite
    return without if without.any() else None
