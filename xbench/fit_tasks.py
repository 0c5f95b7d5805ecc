"""Which trainings a run rests on: classifiers, independently trained ones beside them, and explainers that are trained."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xbench.codehash import code_hash
from xbench.components import Component, import_attr
from xbench.config import RunConfig
from xbench.data import Dataset, Index
from xbench.errors import XbenchError
from xbench.keys import Json, canonical_text, encoded

# Raised whenever the harness's own part in a number changes: choice of targets, mean colour, what is stored (columns.py).
CONTENT_SCHEMA = 3

ORACLE_SEED = 1_000_003
"""What is added to a fit seed for the classifier that is trained independently of the one explained."""


@dataclass(frozen=True)
class FitTask:
    """One artifact to train, and the fits it needs first."""

    key: str
    definition: Json
    component: Component
    seed: int
    data: Component
    data_root: Path | None
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    model: Component | None = None
    model_fit: str | None = None
    after: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.component.text} (seed {self.seed})"


def open_dataset(component: Component, root: Path | None) -> Dataset:
    """Return the data set that a component names."""
    return import_attr(component.spec.factory)(root, **component.params)


@dataclass
class FitPlanner:
    """Collects the fits of a run, each once.

    Attributes
    ----------
    config, dataset, test
        The run, its data set and the index of the test split.
    tasks
        Fit key -> task, those that others rest on first.
    splits
        The indices read so far.
    """

    config: RunConfig
    dataset: Dataset
    test: Index
    tasks: dict[str, FitTask] = field(default_factory=dict)
    splits: dict[str, Index] = field(default_factory=dict)
    _known: dict[tuple[int, int, int, str | None], tuple[str, Component, Component | None]] = field(
        default_factory=dict
    )
    _parts: dict[int, "_Part"] = field(default_factory=dict)
    _uses: dict[tuple[int, str | None], tuple[list[Json], str]] = field(default_factory=dict)

    def classifier(self, model: Component, seed: int) -> str | None:
        """Return the fit key of a classifier, or None where it has no training."""
        return self._fit(model, seed) if getattr(model.spec, "fit", None) else None

    def explainer(self, explainer: Component, seed: int, model: Component, model_fit: str | None) -> str:
        """Return the fit key of an explainer that is trained for a classifier."""
        return self._fit(explainer, seed, model, model_fit)

    def _split(self, name: str) -> Index:
        if name not in self.splits:
            self.splits[name] = self.dataset.index(name)
        return self.splits[name]

    def _fit(
        self, component: Component, seed: int, model: Component | None = None, model_fit: str | None = None
    ) -> str:
        place = id(component), seed, id(model), model_fit
        if place not in self._known:
            # With the components, which must not go while their identities stand for them.
            self._known[place] = self._add(component, seed, model, model_fit), component, model
        return self._known[place][0]

    def _add(self, component: Component, seed: int, model: Component | None, model_fit: str | None) -> str:
        train, data = self._split("train"), self.config.data
        if not len(train):
            raise XbenchError(f"{component.text} must be trained, but the training split of {data.text} is empty")
        if id(component) not in self._parts:
            self._parts[id(component)] = self._part(component)
        part, used = self._parts[id(component)], (id(model), model_fit)
        if used not in self._uses:
            uses = [{**model.definition(), "fit": model_fit}] if model else []
            self._uses[used] = uses, canonical_text(uses)
        uses, written = self._uses[used]
        before, between, after = part.pieces
        key = hashlib.sha256(encoded(f"{before}{seed}{between}{written}{after}")).hexdigest()
        if key not in self.tasks:
            self.tasks[key] = FitTask(
                key=key,
                definition={**part.values, "seed": seed, "uses": uses},
                component=part.trained,
                seed=seed,
                data=data,
                data_root=self.config.data_root,
                shape=self.test.shape,
                classes=self.test.classes,
                model=model,
                model_fit=model_fit,
                after=(model_fit,) if model_fit else (),
            )
        return key

    def _part(self, component: Component) -> "_Part":
        train, valid = self._split("train").digest, self._split("valid").digest
        values: Json = {
            "schema": CONTENT_SCHEMA,
            "component": {name: value for name, value in component.definition().items() if name != "checkpoint"},
            "data": {name: value for name, value in self.config.data.definition().items() if name != "params"},
            "training": code_hash("xbench.training:train_classifier"),
            "train": train,
            "valid": valid,
            "classes": list(self.test.classes),
            "shape": list(self.test.shape),
        }
        # Canonical JSON is in the order of names.
        ends = ("", "seed"), ("seed", "uses"), ("uses", "~")
        pieces = [{name: value for name, value in values.items() if low < name < high} for low, high in ends]
        first, second, third = (canonical_text(piece)[1:-1] for piece in pieces)
        return _Part(values, (f'{{{first},"seed":', f',{second},"uses":', f",{third}}}"), component.trained)


class _Part(NamedTuple):
    """What the fits of one component have in common: the definition but for ``seed`` and ``uses``, and its canonical JSON
    around these two.
    """

    values: Json
    pieces: tuple[str, str, str]
    trained: Component
