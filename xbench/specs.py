"""What a component declares about itself: light, frozen, free of torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Param = bool | int | float | str | None
Polarity = Literal["signed", "positive", "non_contributing"]
NAME = r"[a-z][a-z0-9_]*"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every component declares.

    Parameters
    ----------
    name
        ``[a-z][a-z0-9_]*``, unique within its package and kind.
    version
        Raised whenever the component's numbers can change; part of every content key.
    factory
        ``"module:attr"``, imported only by the worker that needs it.
    params
        Parameters and their defaults; a default's type is enforced, ``None`` accepts any scalar.
    choices
        The allowed values of those parameters that have a closed set of them.
    meanings
        What each parameter is, for ``xbench show``: one short clause with its unit and range.
    quick
        Parameters for a trial: with them an explanation, or a training, takes moments (`xbench.testing`).
    known_failures
        Name of a check that the component does not pass (``xbench check``) -> the reason, for people. Strict: one that it
        passes is a failure.
    summary
        One line for ``xbench list``.
    citation
        The source, as a reader would look it up.
    cites
        Keys of its BibTeX entries in ``references.bib`` of the plugin's own package.
    package
        Filled at discovery: the plugin's import package without ``xbench_``.
    """

    kind: ClassVar[str] = "component"

    name: str
    version: int
    factory: str
    params: Mapping[str, Param] = field(default_factory=dict)
    choices: Mapping[str, tuple[Param, ...]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    quick: Mapping[str, Param] = field(default_factory=dict)
    known_failures: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    citation: str = ""
    cites: tuple[str, ...] = ()
    package: str = ""

    @property
    def id(self) -> str:
        """The name a user types: ``package/name``, or the bare name of what is in no package."""
        return f"{self.package}/{self.name}" if self.package else self.name


@dataclass(frozen=True, kw_only=True)
class ExplainerSpec(Spec):
    """An explanation method.

    ``factory(model, **params)`` (``state=...`` too where ``fit`` is set, ``of=explainer`` where ``wraps`` is) returns a
    callable ``Batch -> Explanation``. ``polarity`` says what a large value means: `signed` evidence for the target,
    `positive` evidence of any sign, or `non_contributing` (then the harness ranks the map backwards). ``needs`` may name
    ``gradients``, ``conv_layer`` (of the model), ``mask``, ``counterfactual`` (of the data) and ``two_classes``.
    ``control`` marks what a method must beat; ``chance`` is the one that knows nothing, 0 on a table's scale, and ``truth``
    one that knows the answer, 1 on it. ``stored``: the maps were made elsewhere and lie in the folder that the parameter
    ``maps`` names (`xbench.stored_maps`); its content is part of every key, its path is not, and metrics that ask about other
    images or networks have no answer. ``adapter``: ``"module:attr"`` of what makes a factory of this kind out of the plain
    function that ``factory`` names (`xbench.user_code`). ``cost`` is the most that a map takes, in passes of its image through
    the network: ``{"forwards": 50, "backwards": 50}``, where a word left out sets no limit; or, where parameters or the image
    decide, ``"module:attr"`` of a function ``(shape, classes, **params)`` that returns such a mapping: shape (C, H, W), and
    the number of classes. A wrapper's comes on top of what it wraps (`xbench.costs`).
    """

    kind: ClassVar[str] = "explainer"

    gives: tuple[Literal["attribution", "counterfactual"], ...] = ("attribution",)
    polarity: Polarity = "signed"
    needs: tuple[str, ...] = ()
    stochastic: bool = False
    control: bool | Literal["chance", "truth"] = False
    wraps: bool = False
    fit: str | None = None
    stored: bool = False
    adapter: str | None = None
    cost: Mapping[str, float] | str = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A classifier.

    ``factory(shape, classes, **params)`` returns an ``nn.Module`` from images [B,C,H,W] in [0,1] to logits [B,K], or [B,1]
    for two classes under ``link="sigmoid"``; normalisation lives inside. ``fit(context)`` trains it and returns its state
    dict. ``datasets`` are glob patterns of the datasets it is for. ``checkpoints`` keeps the weights of every epoch, which
    a user then names ``mnist/s2@12``. A parameter ``weights`` names pre-trained weights (`xbench.weights`): a local file's
    content is part of every key.

    ``wraps`` is for another way of training a classifier, written ``gain/self[of=anole/slim]``: the factory gets the wrapped
    one's net too, as ``of``, the recipe gets its recipe as ``context.wrapped_fit``, and link, datasets and what the net has
    are those of the wrapped one. ``adapter``: as of explainers.
    """

    kind: ClassVar[str] = "model"

    datasets: tuple[str, ...] = ("*",)
    link: Literal["softmax", "sigmoid"] = "softmax"
    has: tuple[str, ...] = ("gradients", "conv_layer")
    fit: str | None = None
    checkpoints: bool = False
    wraps: bool = False
    adapter: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """A data set: ``factory(root, **params)`` returns an `xbench.data.Dataset`.

    ``has`` may name mask, counterfactual, shortcut, swapped: what its `Samples` hold.
    """

    kind: ClassVar[str] = "dataset"

    has: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScoreSpec:
    """One number of a metric and how to read it.

    ``chance`` is what an explainer that knows nothing scores on average: a number, ``"per_sample"`` (the metric returns a
    column ``<name>.chance``) or None where there is none. ``higher_is_better`` None: the number describes, and ranks nobody.
    ``aggregate`` is how per-sample values [n] become one number: their mean; the mean of zeros and ones with a Wilson
    interval (``rate``); the area under the ROC curve of the values against ``label == 1``; or ``tuned``: the metric returns
    [B,width], one value for each of ``width`` settings, a sample's value is that under the setting which does best on the
    other half of the groups (`xbench.stats.cross_tuned`), and of these the mean is taken.
    """

    name: str
    higher_is_better: bool | None
    bounds: tuple[float, float] = (0.0, 1.0)
    chance: float | Literal["per_sample"] | None = None
    aggregate: Literal["mean", "rate", "auroc", "tuned"] = "mean"
    width: int = 1

    def __post_init__(self) -> None:
        if (self.width > 1) is not (self.aggregate == "tuned"):
            raise ValueError(
                f"score {self.name!r} has width {self.width} and aggregate {self.aggregate!r}; "
                "a tuned score needs a width of 2 or more, any other has width 1"
            )
        if self.aggregate == "tuned" and (not self.higher_is_better or self.chance == "per_sample"):
            raise ValueError(
                f"tuned score {self.name!r}: higher_is_better=True and a chance known beforehand are needed"
            )


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Spec):
    """A metric: ``factory(**params)`` returns a callable ``Scene -> {score name: [B]}``.

    ``level="model"`` measures the classifier alone, without an explainer. ``needs`` may name ``mask``, ``counterfactual``,
    ``shortcut``, ``swapped`` (of the data), ``attribution``, ``translation`` (of the explainer) and ``two_classes``.
    ``uses=("oracle",)`` asks for a classifier trained independently of the one explained (``scene.backdrop.oracle``). A
    parameter ``from`` names a class; where the data have no such class, the metric is unsupported. ``sensitive_to`` names
    the parameters whose choice can change the order of explainers, and not just how precisely it is known.
    """

    kind: ClassVar[str] = "metric"

    scores: tuple[ScoreSpec, ...]
    family: str
    level: Literal["explainer", "model"] = "explainer"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    sensitive_to: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Metrics go by their bare names."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(Spec):
    """What carries units to processors: ``factory(options)`` returns an `xbench.plan.Executor`."""

    kind: ClassVar[str] = "executor"

    @property
    def id(self) -> str:
        """Executors go by their bare names."""
        return self.name


UNBOUNDED = (-math.inf, math.inf)
