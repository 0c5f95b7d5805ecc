"""What holds for every metric of explanations: company, order and scale change no score, bounds hold, chance is chance."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

from xbench.checks import checked
from xbench.components import import_attr
from xbench.metrics import xbench_metrics
from xbench.models import Model
from xbench.scene import Backdrop, Curve, Scene
from xbench.seeds import sample_keys, uniform
from xbench.tensors import Batch, Explanation

GIVEN = {"attribution", "mask", "counterfactual", "shortcut"}
METRICS = {spec.name: spec for spec in xbench_metrics() if spec.level == "explainer" and set(spec.needs) <= GIVEN}
COUNT = 48
every_metric = pytest.mark.parametrize("name", METRICS)


@functools.cache
def classifier():
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 30, 3))
    net[-1].weight.data.mul_(20)
    return net


@functools.cache
def samples():
    """Images of a blob each, 10 x 12 pixels: blob, ring where a counterfactual differs, and a shortcut are known."""
    torch.manual_seed(2)
    row, column = torch.arange(10)[:, None], torch.arange(12)
    place = torch.stack([torch.randint(2, 8, (COUNT,)), torch.randint(2, 10, (COUNT,))], dim=1)
    far = (row - place[:, :1, None]) ** 2 + (column - place[:, 1:, None]) ** 2
    image = (0.6 * torch.exp(-far / 6)[:, None] + 0.3 * torch.rand(COUNT, 3, 10, 12)).contiguous()
    ids = tuple(map(str, range(COUNT)))
    with torch.no_grad():
        target = classifier()(image).argmax(dim=1)
    mask, ring = far <= 4, (far > 1) & (far <= 6)
    other = torch.where(ring[:, None], 1 - image, image)
    keys = sample_keys(0, ids)
    return Batch(image, ids, target, target, keys, mask=mask, counterfactual=other, shortcut=far > 40, swapped=other)


def slope(model, batch):
    with torch.enable_grad():
        leaf = batch.image.clone().requires_grad_()
        gradient = torch.autograd.grad(model.score(leaf, batch.target).sum(), leaf)[0]
    return (gradient * batch.image).sum(dim=1)


def chaos(model, batch):
    return uniform(batch.keys, "a map of noise", batch.image.shape[2:])


def pick(batch, rows):
    parts = {
        name: getattr(batch, name)[rows] for name in ("image", "label", "target", "keys", "mask", "counterfactual")
    }
    parts |= {name: getattr(batch, name)[rows] for name in ("shortcut", "swapped")}
    return replace(batch, sample_id=tuple(batch.sample_id[row] for row in rows), **parts)


def scored(name, maps=slope, rows=range(COUNT), factor=1.0, size=64):
    """Return {score or chance: [B]} of a metric with its defaults."""
    spec = METRICS[name]
    batch, model = pick(samples(), list(rows)), Model(classifier(), batch_size=size)

    def rebind(model):
        def explain(batch):
            found = factor * maps(model, batch)
            return checked(Explanation(found, extras={"total": found.flatten(1).sum(dim=1) * 0.9}), batch)

        return explain

    scene = Scene(Backdrop(model, batch, torch.full((3,), 0.3)), rebind(model)(batch.clone()), rebind=rebind)
    found = import_attr(spec.factory)(**spec.params)(scene)
    return {key: value for key, value in found.items() if not isinstance(value, Curve)}


def same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key].double(), other[key].double(), atol=2e-6, rtol=1e-5, equal_nan=True)


@every_metric
def test_company_order_and_the_size_of_a_pass_change_no_score(name):
    whole = scored(name)
    backwards = scored(name, rows=reversed(range(COUNT)), size=5)
    same(whole, {key: value.flip(0) for key, value in backwards.items()})
    parts = [scored(name, rows=part) for part in (range(1), range(1, 30), range(30, COUNT))]
    same(whole, {key: torch.cat([part[key] for part in parts]) for key in whole})


@every_metric
def test_a_positive_factor_changes_no_score(name):
    same(scored(name), scored(name, factor=0.125))


@every_metric
def test_scores_lie_in_their_bounds_and_some_are_defined(name):
    found = scored(name)
    for score in METRICS[name].scores:
        known = found[score.name][~found[score.name].isnan()]
        assert len(known) or METRICS[name].family == "noise"
        low, high = score.bounds
        assert ((known >= low - 1e-6) & (known <= high + 1e-6)).all()


@every_metric
def test_a_map_of_noise_lands_at_the_chance_declared(name):
    spec, found = METRICS[name], scored(name, maps=chaos)
    for score in spec.scores:
        if score.chance is None or name in ("efficient_mprt", "random_logit"):
            continue  # what survives forgetting is no map of noise's to say
        away = found[score.name] - (found[f"{score.name}.chance"] if score.chance == "per_sample" else score.chance)
        away = away[~away.isnan()].double()
        error = float(away.std()) / len(away) ** 0.5
        assert abs(float(away.mean())) < 4 * error + 1e-9, (
            f"{score.name}: {away.mean():+.4f}, standard error {error:.4f}"
        )
