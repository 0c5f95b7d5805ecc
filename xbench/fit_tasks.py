"""Which trainings a run rests on: classifiers, independently trained ones beside them, and explainers that are trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbench.codehash import code_hash
from xbench.components import Component, import_attr
from xbench.config import RunConfig
from xbench.data import Dataset, Index
from xbench.errors import XbenchError
from xbench.store import Json, content_key

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

    def classifier(self, model: Component, seed: int) -> str | None:
        """Return the fit key of a classifier, or None where it has no training."""
        return self._add(model, seed, {}) if getattr(model.spec, "fit", None) else None

    def explainer(self, explainer: Component, seed: int, model: Component, model_fit: str | None) -> str:
        """Return the fit key of an explainer that is trained for a classifier."""
        return self._add(explainer, seed, {"model": model, "model_fit": model_fit})

    def _split(self, name: str) -> Index:
        if name not in self.splits:
            self.splits[name] = self.dataset.index(name)
        return self.splits[name]

    def _add(self, component: Component, seed: int, uses: Mapping[str, Any]) -> str:
        train, valid, data = self._split("train"), self._split("valid"), self.config.data
        if not len(train):
            raise XbenchError(f"{component.text} must be trained, but the training split of {data.text} is empty")
        model, model_fit = uses.get("model"), uses.get("model_fit")
        definition: Json = {
            "schema": CONTENT_SCHEMA,
            "component": {name: value for name, value in component.definition().items() if name != "checkpoint"},
            "data": {name: value for name, value in data.definition().items() if name != "params"},
            "training": code_hash("xbench.training:train_classifier"),
            "train": train.digest,
            "valid": valid.digest,
            "classes": list(self.test.classes),
            "shape": list(self.test.shape),
            "seed": seed,
            "uses": [{**model.definition(), "fit": model_fit}] if model else [],
        }
        key = content_key(definition)
        if key not in self.tasks:
            self.tasks[key] = FitTask(
                key=key,
                definition=definition,
                component=component.trained,
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
