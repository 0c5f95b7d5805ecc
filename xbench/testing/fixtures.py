"""Fixtures for tests of one's own components: a toy network, toy samples, and a cell of a run in this process."""

from collections.abc import Callable, Sequence

import pytest
import torch

from xbench.checks import checked, fingerprint
from xbench.components import explainer_unmet, metric_unmet
from xbench.errors import XbenchError
from xbench.metrics.cost import Meter
from xbench.models import Model
from xbench.plugins import discover
from xbench.scene import Backdrop, Explain, Scene
from xbench.scoring import Stage, ask, score
from xbench.specs import ExplainerSpec, MetricSpec
from xbench.store import Arrays
from xbench.tensors import Batch
from xbench.testing.kit import subjects
from xbench.testing.subjects import ExplainerSubject, Subject
from xbench.testing.toys import TOY_DATA, TOY_EXPLAINER, TOY_MODEL, Setting, toy_component

RunCell = Callable[..., Arrays]

_SETTING = Setting(classes=2)


@pytest.fixture
def toy_model() -> Model:
    """Return an `xbench.models.Model` of two classes for images [B,3,16,16]: two convolutions and a dense layer."""
    return _SETTING.model()


@pytest.fixture
def toy_batch() -> Batch:
    """Return an `xbench.tensors.Batch` of six images [3,16,16], a bright square each, with all truth; target = label."""
    return _SETTING.batch()


@pytest.fixture
def run_cell() -> RunCell:
    """Return ``run_cell(id, metrics=(), samples=24)``: one explainer, or one metric of a toy explainer, on toy samples.

    It explains, checks and scores as a run does, with the component's quick parameters, and returns what a record holds:
    ``score/<name>`` [n], ``chance/<name>`` [n] and what else (`xbench.columns`). Raises XbenchError where the component is
    not installed or cannot work on the toys.
    """
    return _run_cell


def _run_cell(component: str, metrics: Sequence[str] = (), samples: int = 24) -> Arrays:
    registry = discover()
    (subject,) = _one(subjects([component], registry), component)
    scored = [one for name in metrics for one in subjects([name], registry)]
    if isinstance(subject.component.spec, MetricSpec):
        scored.insert(0, subject)
        subject = _slope(subject)
    assert isinstance(subject, ExplainerSubject)
    if why := explainer_unmet(subject.component, TOY_MODEL, TOY_DATA, _SETTING.classes):
        raise XbenchError(f"{subject.what} cannot explain the toys: it {why}")
    for one in scored:
        assert isinstance(one.component.spec, MetricSpec)
        if why := metric_unmet(one.component.spec, TOY_MODEL, TOY_DATA, subject.spec.gives, _SETTING.classes):
            raise XbenchError(f"{one.what} cannot measure {subject.what} on the toys: it {why}")
    model, batch = _SETTING.model(), _SETTING.batch(samples)
    with torch.no_grad():
        logits = model.logits(batch.image)
    classes = _SETTING.data().index("test").classes
    mean = batch.image.mean(dim=(0, 2, 3))
    stage = Stage(model, None, batch, logits, mean, fingerprint(model.module), classes, _SETTING.model())
    explain = subject.build(_SETTING, model).explain

    def explained(backdrop: Backdrop, meter: Meter) -> Scene:
        def rebind(other: Model) -> Explain:
            known = explain if other is model else subject.build(_SETTING, other).explain
            return lambda part: checked(ask(known, part, subject.what), part)

        with meter.explaining(len(backdrop.batch)):
            found = ask(explain, backdrop.batch, subject.what)
        return Scene(backdrop, checked(found, backdrop.batch), subject.component.polarity, rebind)

    columns, _ = score(stage, 8, [one.component for one in scored], explained)
    return columns.arrays()


def _one(found: list[Subject], text: str) -> list[Subject]:
    usable = [one for one in found if isinstance(one.component.spec, (ExplainerSpec, MetricSpec))]
    if len(usable) != 1:
        raise XbenchError(f"run_cell({text!r}) takes one explainer or one metric; there are {len(usable)} of that name")
    return usable


def _slope(metric: Subject) -> ExplainerSubject:
    return ExplainerSubject(toy_component(TOY_EXPLAINER), None, (), metric.registry)
