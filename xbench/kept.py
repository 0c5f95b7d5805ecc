"""What a worker keeps from one task to the next: networks, data and what was trained."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from xbench.building import build_module
from xbench.components import Component
from xbench.data import Dataset
from xbench.devices import images_a_pass
from xbench.fit_tasks import open_dataset
from xbench.fits import Fit, load_fit
from xbench.keys import canonical, read_sealed, sealed
from xbench.models import Model
from xbench.plan import Unit
from xbench.scoring import build_explainer, evenly, mean_colour
from xbench.specs import ModelSpec
from xbench.store import cache_folder, content_key, fit_folder, write_atomic
from xbench.tensors import Batch
from xbench.unread import readable

Weighted: TypeAlias = tuple[Model, str | None]
"""A classifier and the SHA-256 of the weights it was given, if it was trained here."""


class Kept:
    """Opens what tasks ask for, and keeps what the next one is likely to ask for too.

    Of networks the last is kept, of their oracles too, each with the explainers that were built on it; data and what was
    trained are kept to the end.

    Parameters
    ----------
    device
        Where networks live.
    batch
        Images a pass, or None: as many as suit the device.
    note
        Called with one line of whatever had to be made again.
    """

    def __init__(self, device: torch.device, batch: int | None, note: Callable[[str], None]) -> None:
        self.device, self.batch, self.note = device, batch, note
        self.explainers: dict[str, Callable[[Batch], object]] = {}
        """Those that were built on the network at hand, by their cell's key."""
        self._models: dict[str, Weighted] = {}
        self._oracles: dict[str, Weighted] = {}
        self._datasets: dict[str, Dataset] = {}
        # Of trained explainers, which are built again for every network that forgets.
        self._trained: dict[str, Fit] = {}

    def forget(self) -> None:
        """Let go of the networks and of what was built on them."""
        self.explainers.clear()
        self._models.clear()

    def images_a_pass(self, shape: tuple[int, int, int]) -> int:
        """Return how many images of a shape go through a network at once."""
        return self.batch or images_a_pass(self.device, shape)

    def dataset(self, component: Component, root: Path | None) -> Dataset:
        """Return a data set."""
        key = f"{component.text} {root}"
        if key not in self._datasets:
            self._datasets[key] = open_dataset(component, root)
        return self._datasets[key]

    def model(
        self, component: Component, fit: str | None, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
    ) -> Weighted:
        """Return a network, with its trained weights if ``fit`` names them. Raises FileNotFoundError where those are gone."""
        key = content_key([component.definition(), fit, list(shape), list(classes), seed])
        if key not in self._models:
            self.forget()
            self._models[key] = self._loaded(component, fit, shape, classes, seed)
        return self._models[key]

    def oracle(self, unit: Unit) -> tuple[Model | None, str | None]:
        """Return the other training of a unit's network that its metrics ask, if they ask one."""
        if not unit.oracle_fit:
            return None, None
        if unit.oracle_fit not in self._oracles:
            made = self._loaded(unit.model.trained, unit.oracle_fit, unit.shape, unit.classes, unit.seed)
            self._oracles = {unit.oracle_fit: made}
        return self._oracles[unit.oracle_fit]

    def explainer(self, component: Component, fit: str | None, model: Model) -> Callable[[Batch], object]:
        """Return an explainer built on a network, its trained state with it. Raises FileNotFoundError where that is gone."""
        if not fit:
            return build_explainer(component, model)
        found = self._trained.get(fit) or load_fit(fit)
        if found is None:
            raise FileNotFoundError(f"the fit of {component.text} is not in {fit_folder(fit)}")
        self._trained[fit] = found
        state = {name: value.to(self.device, copy=True) for name, value in found.state.items()}
        return build_explainer(component, model, state)

    def explained_by(self, fit: str | None) -> str | None:
        """Return the SHA-256 of a trained explainer's state; None of an explainer that is not trained, or not yet built."""
        found = self._trained.get(fit or "")
        return found.sha256 if found else None

    def mean_colour(self, dataset: Dataset, unit: Unit) -> Tensor:
        """Return [C]: the mean colour over at most 256 test samples, evenly spread; kept in the cache."""
        path = cache_folder() / "colours" / f"{content_key([unit.data.definition(), unit.data_digest])}.json"
        found = read_sealed(path)
        if found is None:
            if os.path.lexists(path):
                self.note(remade(path))
            ids = dataset.index("test").ids
            found = {"mean": mean_colour(readable(dataset.load([ids[i] for i in evenly(len(ids))])).image)}
            write_atomic(path, canonical(sealed(found)), own=True)
        return torch.tensor(found["mean"], dtype=torch.float32, device=self.device)

    def _loaded(
        self, component: Component, fit: str | None, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
    ) -> Weighted:
        module, weights = build_module(component, shape, classes, seed), None
        if fit:
            found = load_fit(fit, component.checkpoint)
            if found is None:
                what = "weights" if component.checkpoint is None else f"weights of epoch {component.checkpoint}"
                raise FileNotFoundError(f"the {what} of {component.text} are not in {fit_folder(fit)}")
            module.load_state_dict(found.state)
            weights = found.sha256
        spec = component.network.spec
        assert isinstance(spec, ModelSpec)
        return Model(module.to(self.device), spec.link, self.images_a_pass(shape)), weights


def remade(path: Path) -> str:
    """Return what to tell of a damaged file that is only a help."""
    return f"{path} was damaged and is made again"
