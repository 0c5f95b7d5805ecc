"""What a metric sees of one batch: model, samples, explanation, and what several metrics share, computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

import xbench.perturb as perturb
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import uniform
from xbench.specs import Polarity as Polarity
from xbench.tensors import Batch, Explanation

Order = Literal["morf", "lerf"]
Precision = Literal["float32", "bf16"]
Explain = Callable[[Batch], Explanation]

_KEPT_BYTES = 2**18
"""Bytes an image that `Backdrop.drawn` keeps; a worker holds the backdrops of a whole slice, up to 1,024 images."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A value along a path from an image to its fill, or along another path that a metric defines.

    Attributes
    ----------
    x
        [S+1] float64: how far along the path, 0 to 1; of deletion the true fraction of changed pixels, of insertion that of
        restored ones.
    y
        [B,S+1] float64: what the metric measures there: mostly the target's probability, of others a difference, a hit rate
        or a correlation.
    """

    x: Tensor
    y: Tensor

    def area(self) -> Tensor:
        """Return [B]: the area under each curve by the trapezoid rule on the true fractions."""
        return torch.trapezoid(self.y, self.x, dim=1)

    def reversed(self) -> "Curve":
        """Return the curve read from the fill to the image."""
        return Curve(1 - self.x.flip(0), self.y.flip(1))


class Backdrop:
    """What every explanation of one batch shares: clean and filled predictions, the order of ties.

    Parameters
    ----------
    model
        The classifier.
    batch
        The samples, on the model's device.
    mean
        [C]: the data set's mean colour in [0,1].
    clean_logits
        [B,K], where they are known already.
    classes
        Class names in label order.
    oracle
        A classifier trained independently of the one explained, for metrics that declare ``uses=("oracle",)``.
    unread
        [B] bool or None: samples that could not be read, in whose place others stand; nothing is recorded of them.

    Attributes
    ----------
    memo
        What a metric computed of these samples whatever the explanation, under a name of its own with all parameters.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        mean: Tensor,
        clean_logits: Tensor | None = None,
        classes: Sequence[str] = (),
        oracle: Model | None = None,
        unread: Tensor | None = None,
    ) -> None:
        self.model, self.batch, self.mean, self.unread = model, batch, mean, unread
        self.classes, self.oracle = tuple(classes), oracle
        self._clean = clean_logits
        self._fills: dict[str, Tensor] = {}
        self._filled: dict[str, Tensor] = {}
        self.memo: dict[str, Tensor] = {}
        self._kept = 0

    def drawn(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what every explanation shares and can be made again, such as noise; kept in ``memo`` where there is room."""
        if (found := self.memo.get(name)) is None:
            found = make()
            if self._kept + found.nbytes <= _KEPT_BYTES * len(self.batch):
                self._kept += found.nbytes
                self.memo[name] = found
        return found

    def uniform(self, stream: str, draw: int) -> Tensor:
        """Return noise [B,C,H,W] float32, uniform on [-1,1), of a metric's own stream; the same for every explainer."""
        keys, shape = self.batch.keys, self.batch.image.shape[1:]
        return self.drawn(f"{stream}/{draw}", lambda: uniform(keys, stream, shape, draw) * 2 - 1)

    @property
    def clean_logits(self) -> Tensor:
        """[B,K]: the logits of the untouched images."""
        if self._clean is None:
            with torch.no_grad():
                self._clean = self.model.logits(self.batch.image)
        return self._clean

    @cached_property
    def oracle_logits(self) -> Tensor:
        """[B,K]: the independently trained classifier's logits of the untouched images."""
        if self.oracle is None:
            raise ValueError('there is no second classifier; a metric that wants one declares uses=("oracle",)')
        with torch.no_grad():
            return torch.cat([self.oracle.logits(part) for part in self.batch.image.split(self.oracle.batch_size)])

    @property
    def clean_score(self) -> Tensor:
        """[B]: the target's probability on the untouched images."""
        return self.model.pick(self.clean_logits, self.batch.target, "prob")

    @cached_property
    def ties(self) -> Tensor:
        """[B,n] int64: the order in which ties are broken."""
        return perturb.tie_order(self.batch.keys, self.batch.image[0, 0].numel())

    def fill(self, name: str) -> Tensor:
        """Return the fill [B,C,H,W]."""
        if name not in self._fills:
            self._fills[name] = perturb.fill_image(name, self.batch.image, self.mean, self.batch.keys)
        return self._fills[name]

    def filled_score(self, name: str) -> Tensor:
        """[B]: the target's probability when every pixel is filled."""
        if name not in self._filled:
            with torch.no_grad():
                self._filled[name] = self.model.score(self.fill(name), self.batch.target, "prob")
        return self._filled[name]


class Scene:
    """One explanation of one batch, before the metrics.

    Parameters
    ----------
    backdrop
        The batch's shared part.
    explanation
        What is scored; None for a metric of the classifier alone.
    polarity
        How the attribution is to be read.
    rebind
        Builds the explainer on a model, for metrics that explain again.

    Attributes
    ----------
    memo
        What metrics computed of this explanation and share, under a name of its own.
    """

    def __init__(
        self,
        backdrop: Backdrop,
        explanation: Explanation | None = None,
        polarity: Polarity = "signed",
        rebind: Callable[[Model], Explain] | None = None,
    ) -> None:
        self.backdrop = backdrop
        self.model, self.batch = backdrop.model, backdrop.batch
        self.polarity = polarity
        self._explanation = explanation
        self._curves: dict[tuple[Order, str, int, Precision, bool], Curve] = {}
        self._rebind = rebind
        self.memo: dict[str, Any] = {}

    def rebind(self, model: Model) -> Explain:
        """Return the explainer built on another model; it explains batches as the scene's own were explained."""
        if self._rebind is None:
            raise Unsupported("there is no explainer to ask again, only its maps")
        return self._rebind(model)

    @cached_property
    def explain(self) -> Explain:
        """The explainer on the scene's own model."""
        return self.rebind(self.model)

    @property
    def explanation(self) -> Explanation:
        """The explanation that is scored."""
        if self._explanation is None:
            raise ValueError("a metric of the classifier alone has no explanation to look at")
        return self._explanation

    @property
    def has_explanation(self) -> bool:
        """Whether there is an explanation, or the classifier alone is measured."""
        return self._explanation is not None

    @cached_property
    def translated_logits(self) -> Tensor:
        """[B,K]: the logits of the translated images."""
        image = self.explanation.counterfactual
        if image is None:
            raise ValueError("the explanation holds no translated image")
        with torch.no_grad():
            return self.model.logits(image)

    @cached_property
    def levels(self) -> Tensor:
        """[B,n] int32: the evidence in whole steps, larger = earlier in MoRF order; a non-contributing map is negated."""
        level = perturb.levels(self.explanation.attribution)
        return -level if self.polarity == "non_contributing" else level

    @cached_property
    def positive(self) -> Tensor:
        """[B,n] float64 >= 0: the evidence as a mass; a non-contributing map enters by its inverted rank in [0,1]."""
        if self.polarity == "non_contributing":
            n = self.levels.shape[1]
            return 1 - self.ranks.double() / max(n - 1, 1)
        return self.explanation.attribution.flatten(1).double().clamp(min=0)

    @cached_property
    def ranks(self) -> Tensor:
        """[B,n] int32: each pixel's place in MoRF order, ties broken by the sample's seeded order."""
        return perturb.ranks(self.levels, self.backdrop.ties)

    @cached_property
    def ordered(self) -> Tensor:
        """[B,n] int32: the levels of each map, the lowest first."""
        return perturb.sort_rows(self.levels)

    @cached_property
    def blank(self) -> Tensor:
        """[B] bool: whether the map, as ranked, is the same everywhere."""
        return (self.levels == self.levels[:, :1]).all(dim=1)

    @cached_property
    def tied(self) -> Tensor:
        """[B] float64: the share of pixels whose level another pixel has too."""
        same = self.ordered[:, 1:] == self.ordered[:, :-1]
        edge = torch.zeros_like(same[:, :1])
        return (torch.cat([same, edge], dim=1) | torch.cat([edge, same], dim=1)).double().mean(dim=1)

    @cached_property
    def watched(self) -> Tensor:
        """[m] int64: one sample in 16, chosen by its key, on which shortcuts are held against the full metric."""
        return (self.batch.keys[:, 0] % 16 == 0).nonzero()[:, 0]

    def curve(
        self, order: Order, fill: str, steps: int, precision: Precision = "float32", *, watched: bool = False
    ) -> Curve:
        """Return the target's probability while pixels are replaced by a fill, most relevant first or least first.

        Insertion in MoRF order is deletion in LeRF order with the same fill, read backwards: both are one path. With
        ``precision="bf16"`` the passes between both ends run in bfloat16. ``watched`` takes these samples only.
        """
        path = order, fill, steps, precision
        if watched and (whole := self._curves.get((*path, False))) is not None:
            return Curve(whole.x, whole.y[self.watched])
        if (*path, watched) not in self._curves:
            self._curves[*path, watched] = self._walk(*path, self.watched if watched else slice(None))
        return self._curves[*path, watched]

    def _walk(self, order: Order, fill: str, steps: int, precision: Precision, rows: Tensor | slice) -> Curve:
        ranks = self.ranks[rows]
        n = ranks.shape[1]
        rank = ranks if order == "morf" else n - 1 - ranks
        counts = perturb.step_counts(n, steps)
        target, device = self.batch.target[rows], self.batch.image.device

        def logits(images: Tensor, copies: int) -> Tensor:
            if precision == "float32":
                return self.model.logits(images)
            with torch.autocast(device.type, dtype=torch.bfloat16):
                return self.model.logits(images).to(images.dtype)

        with torch.no_grad():
            inner = perturb.perturbed_scores(
                logits,
                self.batch.image[rows],
                self.backdrop.fill(fill)[rows],
                rank,
                counts[1:-1],
                self.model.batch_size,
            )
        if len(counts) > 2:
            each = target.repeat_interleave(len(counts) - 2)
            inner = self.model.pick(inner.flatten(0, 1), each, "prob").view(inner.shape[:2])
        ends = self.backdrop.clean_score[rows, None], self.backdrop.filled_score(fill)[rows, None]
        x = torch.tensor([count / n for count in counts], dtype=torch.float64, device=inner.device)
        return Curve(x, torch.cat([ends[0], inner, ends[1]], dim=1).double())
