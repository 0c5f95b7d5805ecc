"""A component made ready to be looked at: built with its quick parameters, trained where it is trained, asked for maps."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbench.building import build_module, recipe_of
from xbench.checks import checked
from xbench.components import Component, import_attr
from xbench.data import Dataset, Index
from xbench.errors import XbenchError
from xbench.fit_tasks import open_dataset
from xbench.fits import FitContext
from xbench.map_writer import write_maps
from xbench.models import Model
from xbench.plugins import Plugin, Registry
from xbench.refs import matching
from xbench.scoring import ask, build_explainer
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec
from xbench.tensors import Batch, Explanation
from xbench.testing.law import CannotTell
from xbench.testing.toys import TOY_DATA, Setting, toy_component
from xbench.user_code import is_own


@dataclass
class Subject:
    """What a check looks at.

    Attributes
    ----------
    component
        The component with its quick parameters; a wrapper wraps a toy.
    plugin
        Where it comes from, or None where that is not known.
    names
        The names of all checks of its kind.
    registry, root
        What is installed, and the folder of real data, or None.
    chosen_data
        The data set with which a model is to be looked at, or None where that is left to it.
    """

    component: Component
    plugin: Plugin | None
    names: tuple[str, ...]
    registry: Registry
    root: Path | None = None
    chosen_data: Component | None = None
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """How the component is written."""
        return self.component.text

    @property
    def looked_at(self) -> str:
        """With what a model is looked at, where that is nobody's choice."""
        return ""

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """Return what several checks share; an error is not kept."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    @contextlib.contextmanager
    def training(self, dataset: Dataset, component: Component | None = None, seed: int = 0) -> Iterator[FitContext]:
        """Lend what a training recipe gets, its folder gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            yield FitContext(
                dataset=dataset,
                train=dataset.index("train"),
                valid=dataset.index("valid"),
                params=(component or self.component).params,
                seed=seed,
                device=torch.device("cpu"),
                folder=Path(folder),
            )


class ExplainerSubject(Subject):
    """An explainer."""

    @property
    def spec(self) -> ExplainerSpec:
        """The declaration."""
        assert isinstance(self.component.spec, ExplainerSpec)
        return self.component.spec

    @cached_property
    def setting(self) -> Setting:
        """The network and the images in which it is asked where nothing else is said."""
        return Setting(classes=2 if "two_classes" in self.spec.needs else 3)

    def asked(self, setting: Setting | None = None, model: Model | None = None, seed: int = 0) -> "Asked":
        """Return the explainer of a toy network, or of ``model``."""
        setting = setting or self.setting
        return Asked(self.build(setting, model or setting.model()), f"{self.what} {seed}")

    def build(self, setting: Setting, model: Model) -> "Built":
        """Return the explainer of a network, trained where it is trained."""
        component = self.component
        if self.spec.stored:
            component = replace(component, params={**component.params, "maps": str(self._stored(setting))})
        state = self.state(setting) if self.spec.fit else None
        if state is not None:
            state = {name: value.to(model.device, copy=True) for name, value in state.items()}
        return Built(build_explainer(component, model, state), model)

    def state(self, setting: Setting) -> Mapping[str, Tensor]:
        """Return what its training gives for a toy network; one that only overwrites in place is the same network."""
        plain = replace(setting, inplace=False)
        return self.once(("state", plain), lambda: self.train(plain, plain.model()))

    def train(self, setting: Setting, model: Model) -> dict[str, Tensor]:
        """Train it for a network."""
        assert self.spec.fit
        with self.training(setting.data()) as context:
            context.model = model
            torch.manual_seed(0)
            return dict(recipe_of(self.component)(context))

    def _stored(self, setting: Setting) -> Path:
        def write() -> tuple[Any, Path]:
            folder = tempfile.TemporaryDirectory()
            ids = list(setting.data().index("test").ids)
            rng = np.random.default_rng(0)
            maps = rng.normal(size=(len(ids), setting.height, setting.width)).astype(np.float32)
            known = {"model": "toy/net", "seed": 0, "data_digest": "toy", "target": "label"}
            return folder, write_maps(Path(folder.name) / "maps", ids, maps, name="toy", **known)  # type: ignore[arg-type]

        return self.once(("stored", setting.shape), write)[1]


@dataclass
class Built:
    """An explainer and the classifier it was built on."""

    explain: Callable[[Batch], object]
    model: Model


class Asked:
    """An explainer that finds its network as it was at first, whatever it did to it the last time.

    What one check is for, leftovers on the network, must not show as another's failure.
    """

    def __init__(self, built: Built, key: str) -> None:
        self.built, self.key = built, key
        module = built.model.module
        self._state = {name: value.clone() for name, value in module.state_dict().items()}
        self._hooks = [(part, _hooks(part), [hook.copy() for hook in _hooks(part)]) for part in module.modules()]

    def __call__(self, batch: Batch) -> Explanation:
        """Return what it says of a batch, checked as the harness does."""
        try:
            return checked(ask(self.built.explain, batch, self.key), batch)
        finally:
            self.restore()

    def maps(self, batch: Batch) -> Tensor:
        """Return the maps [B,H,W], or the change of the image [B,H,W] where only a translation is given."""
        return shown(self(batch), batch)

    def restore(self) -> None:
        """Put the network back as it was."""
        module: nn.Module = self.built.model.module
        module.load_state_dict(self._state)
        module.eval().requires_grad_(False).zero_grad(set_to_none=True)
        for _, now, before in self._hooks:
            for hooks, kept in zip(now, before, strict=True):
                hooks.clear()
                hooks.update(kept)


def _hooks(part: nn.Module) -> list[Any]:
    return [part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks]


def shown(found: Explanation, batch: Batch) -> Tensor:
    """Return an explanation's maps and, behind them, its change of the image, [B,H,W] or [B,2H,W]."""
    if found.counterfactual is None:
        return found.attribution
    return torch.cat([found.attribution, (found.counterfactual - batch.image).sum(dim=1)], dim=1)


class MetricSubject(Subject):
    """A metric."""

    @property
    def spec(self) -> MetricSpec:
        """The declaration."""
        assert isinstance(self.component.spec, MetricSpec)
        return self.component.spec


class DatasetSubject(Subject):
    """A data set."""

    @property
    def spec(self) -> DatasetSpec:
        """The declaration."""
        assert isinstance(self.component.spec, DatasetSpec)
        return self.component.spec

    def opened(self) -> Dataset:
        """Return the data set, opened anew."""
        return open_dataset(self.component, self.root)

    @cached_property
    def data(self) -> Dataset:
        """The data set."""
        return self.opened()

    def index(self, split: str) -> Index:
        """Return the index of a split."""
        return self.once(("index", split), lambda: self.data.index(split))

    def some(self, split: str = "test", most: int = 24) -> tuple[str, ...]:
        """Return ids of a split, evenly spread."""
        ids = self.index(split).ids
        places = np.unique(np.linspace(0, len(ids) - 1, most).round().astype(int)).tolist() if len(ids) else []
        return tuple(ids[place] for place in places)


class ModelSubject(Subject):
    """A classifier, and the data set it is looked at with: the first installed that it is for and that opens, or a toy."""

    @property
    def spec(self) -> ModelSpec:
        """The declaration."""
        assert isinstance(self.component.spec, ModelSpec)
        return self.component.spec

    @cached_property
    def dataset(self) -> DatasetSubject:
        """The data set."""
        if self.chosen_data:
            return DatasetSubject(self.chosen_data, None, (), self.registry, self.root)
        if is_own(self.spec.id):
            return DatasetSubject(self._toys(), None, (), self.registry)
        patterns = self.component.network.spec
        assert isinstance(patterns, ModelSpec)
        for pattern in patterns.datasets if not self.component.of else ():
            for name in matching(pattern, self.registry.datasets):
                spec = self.registry.datasets[name]
                found = DatasetSubject(
                    Component(spec, {**spec.params, **spec.quick}), None, (), self.registry, self.root
                )
                with contextlib.suppress(XbenchError, OSError):
                    if (spec.quick or not spec.params) and len(found.index("test")):
                        return found
        if not self.component.of and "*" not in patterns.datasets:
            wanted = ", ".join(patterns.datasets)
            raise CannotTell(f"no data set that it is for ({wanted}) is here with quick parameters and its data")
        return DatasetSubject(toy_component(TOY_DATA), None, (), self.registry)

    def _toys(self) -> Component:
        """Return toys for a network of one's own: of as many classes as it has outputs, where it is not told how many."""
        toys = Component(TOY_DATA, {**TOY_DATA.params, "size": 64})
        index = open_dataset(toys, None).index("test")
        net = build_module(self.component, index.shape, index.classes, 0)
        with contextlib.suppress(Exception), torch.no_grad():
            outputs = net.eval()(torch.zeros(2, *index.shape)).shape[1]
            return Component(TOY_DATA, {**toys.params, "classes": max(2, outputs)})
        return toys

    @property
    def looked_at(self) -> str:
        """With what a model is looked at, where that is nobody's choice."""
        return (
            "" if self.chosen_data or not is_own(self.spec.id) else "toy images of 3 x 64 x 64; --data ID takes others"
        )

    @property
    def images(self) -> Tensor:
        """[B,C,H,W] test images of the data set."""
        return self.once("images", lambda: torch.from_numpy(self.dataset.data.load(self.dataset.some()).image))

    def fresh(self, seed: int = 0) -> nn.Module:
        """Return the network as its factory makes it."""
        index = self.dataset.index("test")
        return build_module(self.component, index.shape, index.classes, seed)

    def trained(self) -> dict[str, Tensor]:
        """Train it with its quick parameters; return the weights."""
        with self.training(self.dataset.data) as context:
            context.module = self.fresh()
            return dict(recipe_of(self.component)(context))

    @property
    def model(self) -> Model:
        """The classifier, trained where it has a recipe; made anew each time."""
        module = self.fresh()
        if self.spec.fit:
            module.load_state_dict(self.once("trained", self.trained))
        link = self.component.network.spec
        assert isinstance(link, ModelSpec)
        return Model(module, link.link)


def factory_of(subject: Subject) -> Any:
    """Return what the factory's path names."""
    return import_attr(subject.component.spec.factory)
