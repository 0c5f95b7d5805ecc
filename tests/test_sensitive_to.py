"""What a metric does not call sensitive hardly moves a score; a fill, which it does, changes the order of maps."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from xbench.checks import checked
from xbench.components import import_attr
from xbench.metrics import xbench_metrics
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys, uniform
from xbench.tensors import Batch, Explanation

METRICS = {spec.name: spec for spec in xbench_metrics() if spec.params and spec.level == "explainer"}
PRECISION = [(name, param) for name, spec in METRICS.items() for param in spec.params if param not in spec.sensitive_to]
FILLED = [name for name, spec in METRICS.items() if "fill" in spec.params]
BOUND = 0.05


def scene_of(maps):
    """Return what a metric sees of 32 images of a blob on a net of two classes, explained by one of `MAPS`."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 36, 2))
    place, column = torch.randint(2, 10, (32, 2)), torch.arange(12)
    far = (column[:, None] - place[:, :1, None]) ** 2 + (column - place[:, 1:, None]) ** 2
    image = (0.6 * torch.exp(-far / 6) + 0.3 * torch.rand(32, 12, 12))[:, None]
    model, ids = Model(net), tuple(map(str, range(32)))
    net[-1].weight.mul_(40)
    net[-1].bias.sub_(model.logits(image).median(dim=0).values)
    target = model.logits(image).argmax(dim=1)
    batch = Batch(image, ids, target, target, sample_keys(0, ids), counter_target=1 - target)
    backdrop = Backdrop(model, batch, image.mean(dim=(0, 2, 3)), classes=("no", "yes"))

    def rebind(model):
        return lambda batch: checked(Explanation(maps(model, batch), counterfactual=1 - batch.image), batch)

    return Scene(backdrop, rebind(model)(batch), rebind=rebind)


def slope(model, batch):
    with torch.enable_grad():
        leaf = batch.image.clone().requires_grad_()
        return torch.autograd.grad(model.score(leaf, batch.target).sum(), leaf)[0]


MAPS = {
    "gradient": lambda model, batch: slope(model, batch).abs()[:, 0],
    "product": lambda model, batch: (batch.image * slope(model, batch))[:, 0],
    "intensity": lambda model, batch: batch.image[:, 0],
    "random": lambda model, batch: uniform(batch.keys, "map", batch.image.shape[2:]),
}


@functools.cache
def scores(name, **params):
    """Return [scores, maps]: means over the images that have a value under each of the maps."""
    spec = METRICS[name]
    metric = import_attr(spec.factory)(**{**spec.params, **params})
    found = [metric(scene_of(maps)) for maps in MAPS.values()]
    return np.array([[float(each[score.name].nanmean()) for each in found] for score in spec.scores])


def moved(before, after):
    """Return how far the score that moves most does; all of those here have a range of 1 or 2."""
    return np.abs(after - before).max()


@pytest.mark.parametrize(("name", "param"), PRECISION)
def test_what_a_metric_is_not_sensitive_to_hardly_moves_a_score(name, param):
    spec = METRICS[name]
    value = spec.params[param]
    others = [2 * value or 2] if not isinstance(value, bool | str) else [not value]  # mprt: 0 is every layer
    others = [other for other in spec.choices[param] if other != value] if param in spec.choices else others
    before = scores(name)
    for other in others:
        assert moved(before, scores(name, **{param: other})) < BOUND


@pytest.mark.parametrize("name", FILLED)
def test_another_fill_changes_the_order_of_maps(name):
    assert "fill" in METRICS[name].sensitive_to
    before = scores(name)
    others = [scores(name, fill=fill) for fill in METRICS[name].choices["fill"] if fill != METRICS[name].params["fill"]]
    assert max(moved(before, after) for after in others) > 2 * BOUND
    assert any((after.argsort(axis=1) != before.argsort(axis=1)).any() for after in others)
