"""GAIN around a recipe: what it hands on, what it refuses, the same weights after an interruption; and its attention."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from xbench.data import Index, Samples
from xbench.errors import Unsupported
from xbench.fits import FitContext
from xbench.models import Model
from xbench.plugins import discover
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench.training import train_classifier
from xbench_cam.gradcam import gradcam
from xbench_gain import models, xbench_explainers, xbench_models
from xbench_gain.explainer import attention
from xbench_gain.objective import Settings, enlarged, normalised, soft_mask

SELF, EXT = (dict(spec.params) for spec in xbench_models())
SHAPE = (3, 9, 12)


class Squares:
    """Images of noise on a coloured ground; those of class 1 have a bright square, which is their mask."""

    def __init__(self, masks=True):
        self.masks = masks

    def index(self, split):
        labels = np.arange(20) % 2
        ids = tuple(map(str, range(20)))
        return Index(ids, labels, ids, SHAPE, ("without", "with"), "squares")

    def load(self, ids):
        places = [int(name) for name in ids]
        ground = np.array([0.1, 0.3, 0.5], np.float32)[None, :, None, None]
        image = ground + 0.1 * np.random.default_rng(0).random((20, *SHAPE), dtype=np.float32)
        mask = np.zeros((20, *SHAPE[1:]), bool)
        for i in range(1, 20, 2):
            mask[i, i % 6 : i % 6 + 3, i % 8 : i % 8 + 3] = True
        image = np.where(mask[:, None], 0.9, image).astype(np.float32)
        return Samples(image[places], mask[places] if self.masks else None)


def build(classes=2):
    torch.manual_seed(0)
    trunk = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(24, classes)]
    return nn.Sequential(*trunk, *head)


def recipe(context):
    settings = {"epochs": 4, "batch": 7, "lr": 0.01, "mixup": 0.2, "average": 0.5}
    return train_classifier(context, **settings)


def context(folder, params, *, wrapped_fit=recipe, dataset=None, killed_after=None, classes=2):
    folder.mkdir(exist_ok=True)
    data = dataset or Squares()
    index = data.index("train")

    def report(done, total, text):
        if killed_after is not None and done > killed_after * total / 4:
            raise KeyboardInterrupt

    return FitContext(
        data,
        index,
        index,
        params,
        0,
        torch.device("cpu"),
        folder,
        report=report,
        module=build(classes),
        wrapped_fit=wrapped_fit,
    )


def fit(folder, params, **options):
    made = context(folder, params, **options)
    state = {name: value.clone() for name, value in models.fit_gain(made).items()}
    return state, made.notes


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_network_is_the_wrapped_one():
    module = build()
    for spec, params in zip(xbench_models(), (SELF, EXT), strict=True):
        assert models.gain(SHAPE, ("a", "b"), **{**params, "of": module}) is module
        assert spec.wraps
        assert params["of"] is None


@pytest.mark.parametrize(
    ("name", "value", "need"),
    [
        ("alpha", -1.0, "a weight of 0 or more"),
        ("alpha", float("nan"), "a weight"),
        ("sigma", float("nan"), "a number"),
        ("omega", 0.0, "a slope above 0"),
        ("omega", float("inf"), "a slope above 0"),
        ("warmup", 1.5, "a share from 0 to 1"),
        ("tolerance", 1.0, "a share from 0"),
        ("omega_ext", -0.1, "a weight"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(name, value, need):
    params = EXT if name == "omega_ext" else SELF
    component = "gain/ext" if name == "omega_ext" else "gain/self"
    with pytest.raises(Unsupported, match=rf"{component}\[{name}={value}\]: {need}"):
        models.gain(SHAPE, ("a", "b"), **{**params, "of": build(), name: value})


@pytest.mark.parametrize("params", [SELF | {"warmup": 0.4}, EXT | {"warmup": 0.0}], ids=["self", "ext"])
@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_a_training_that_is_killed_and_resumed_ends_in_the_same_weights(tmp_path, params, epochs):
    whole, notes = fit(tmp_path / "whole", params)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", params, killed_after=epochs - 0.01)
    resumed, again = fit(tmp_path / "killed", params)
    assert equal(resumed, whole)
    assert again == notes


def test_without_its_terms_it_is_the_plain_training(tmp_path):
    plain = recipe(context(tmp_path / "plain", {}))
    nothing, notes = fit(tmp_path / "nothing", SELF | {"alpha": 0.0})
    always, _ = fit(tmp_path / "always", SELF | {"warmup": 1.0})
    assert equal(nothing, plain)
    assert equal(always, plain)
    assert len(notes["epochs"]) == 4
    assert not equal(fit(tmp_path / "all", SELF)[0], plain)


def test_every_epoch_notes_its_monitors_and_the_warm_up_has_no_l_am(tmp_path):
    _, notes = fit(tmp_path, EXT | {"warmup": 0.25})
    names = {"loss_cl", "loss_am", "loss_ext", "blank_rate", "attention_area"}
    assert all(set(line) == names for line in notes["epochs"])
    first, *others = notes["epochs"]
    assert first["loss_am"] == first["loss_ext"] == 0 < first["attention_area"]
    assert all(line["loss_am"] > 0 and line["loss_ext"] > 0 for line in others)


@pytest.mark.parametrize("classes", [1, 2])
def test_ext_moves_the_attention_to_the_masks(tmp_path, classes):
    def long(context):
        # Some evidence for the class in every feature, for a map that is blank has no gradient.
        nn.init.uniform_(context.module[-1].weight[-1], 0, 0.2)
        return train_classifier(context, epochs=20, batch=10, lr=0.02)

    data, chosen = Squares(), range(1, 20, 2)
    samples = data.load([str(i) for i in chosen])
    image, label = torch.as_tensor(samples.image), torch.ones(10, dtype=torch.long)
    some = Batch(image, tuple("abcdefghij"), label, label, sample_keys(0, "abcdefghij"))
    mass = {}
    for weight in (0.0, 10.0):
        params = EXT | {"omega_ext": weight, "classes": "positive"}
        state, _ = fit(tmp_path / str(weight), params, wrapped_fit=long, classes=classes)
        module = build(classes)
        module.load_state_dict(state)
        maps = attention(Model(module, "softmax" if classes > 1 else "sigmoid"), 0.5, 10.0, "")(some).attribution
        mass[weight] = ((maps * torch.as_tensor(samples.mask)).sum() / maps.sum()).item()
    assert mass[10.0] > mass[0.0] + 0.05, mass


def test_layer_and_fill_are_noted_and_the_module_is_handed_on_as_it_came(tmp_path):
    given = {}

    def keep(context):
        given.update(objective=context.objective, module=context.module, params=context.params)
        assert all(p.requires_grad for p in context.module.parameters())
        return recipe(context)

    _, notes = fit(tmp_path / "mean", SELF, wrapped_fit=keep)
    mean = Squares().load(Squares().index("train").ids).image.mean(axis=(0, 2, 3))
    assert notes["gain"]["fill"] == pytest.approx(mean.tolist(), abs=1e-4)
    assert notes["gain"]["layer"] == given["objective"].layer == "4"
    torch.testing.assert_close(given["objective"].colour, torch.as_tensor(mean))
    assert given["objective"].settings == Settings(warmup=0.2)
    assert given["module"].training
    changed = SELF | {"fill": "black", "layer": "2", "sigma": 0.3, "blanks": "keep"}
    _, notes = fit(tmp_path / "black", changed, wrapped_fit=keep)
    assert notes["gain"] == {"layer": "2", "fill": [0, 0, 0]}
    assert not given["objective"].colour.any()
    assert given["objective"].settings == Settings(sigma=0.3, blanks="keep", warmup=0.2)


def test_a_recipe_may_change_the_context_on_its_way(tmp_path):
    def other(context):
        return recipe(dataclasses.replace(context, dataset=Squares(masks=False)))

    assert equal(
        fit(tmp_path / "a", SELF | {"warmup": 0.25}, wrapped_fit=other)[0],
        fit(tmp_path / "b", SELF | {"warmup": 0.25})[0],
    )


def test_data_without_masks_are_refused_by_ext_alone(tmp_path):
    fit(tmp_path / "self", SELF, dataset=Squares(masks=False))
    with pytest.raises(Unsupported, match="gain/ext needs data with masks"):
        fit(tmp_path / "ext", EXT, dataset=Squares(masks=False))


def test_a_recipe_of_its_own_and_a_layer_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(Unsupported, match=r"does not train on context\.objective"):
        fit(tmp_path / "own", SELF, wrapped_fit=lambda context: context.module.state_dict())
    with pytest.raises(ValueError, match="no layer 'relu'"):
        fit(tmp_path / "layer", SELF | {"layer": "relu"})


def test_gain_around_gain_is_refused(tmp_path):
    def inner(context):
        return models.fit_gain(dataclasses.replace(context, params=SELF, wrapped_fit=recipe))

    with pytest.raises(Unsupported, match="another objective steers already"):
        fit(tmp_path, EXT, wrapped_fit=inner)


def test_both_are_installed_with_every_setting():
    registry = discover()
    settings = {field.name for field in dataclasses.fields(Settings)}
    for name, extra in (("self", set()), ("ext", {"omega_ext"})):
        params = registry.models[f"gain/{name}"].params
        assert set(params) == (settings - {"omega_ext"}) | {"of", "layer", "fill"} | extra
        assert next(iter(params)) == "of"


def batch(count=5, channels=3, dtype=torch.float32):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % 2
    image = torch.rand(count, channels, 9, 12, generator=torch.Generator().manual_seed(1)).to(dtype)
    return Batch(image, ids, target, target, sample_keys(0, ids))


def classifier(classes=2, channels=3, batch_size=64, inplace=True):
    torch.manual_seed(0)
    trunk = [nn.Conv2d(channels, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(inplace)]
    module = nn.Sequential(*trunk, nn.Flatten(), nn.Linear(5 * 3 * 4, classes))
    return Model(module, "softmax" if classes > 1 else "sigmoid", batch_size)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("layer", ["", "1"])
def test_attention_is_gradcam_and_its_colour_what_the_soft_mask_cuts_out(classes, channels, count, layer):
    some, model = batch(count, channels), classifier(classes, channels)
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    found, expected = attention(model, 0.4, 8.0, layer)(some), gradcam(model, "logit", layer)(some)
    assert torch.equal(found.attribution, expected.attribution)
    assert found.attribution.dtype == torch.float32
    colour = found.extras["colour"]
    assert set(found.extras) == {*expected.extras, "colour"}
    for name, value in expected.extras.items():
        assert torch.equal(found.extras[name], value)
    for i in range(count):
        one = some.take(slice(i, i + 1))
        features, logits = model.tap(one.image, layer)
        (slope,) = torch.autograd.grad(model.pick(logits, one.target).sum(), features)
        signed = (slope.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).detach()
        mask = enlarged(soft_mask(normalised(signed, Settings()).map, 0.4, 8.0), 9, 12) * bool(signed.max() > 0)
        apart = one.image - one.image.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(colour[i], (mask[:, None] * apart)[0], atol=1e-6, rtol=1e-5)
    assert all(torch.equal(value, weights[name]) for name, value in model.module.state_dict().items())
    assert not any(part._forward_hooks for part in model.module.modules())
    assert all(p.grad is None for p in model.module.parameters())


def test_attention_does_not_depend_on_the_chunk():
    some = batch()
    whole, parts = (attention(classifier(batch_size=size), 0.5, 10.0, "")(some) for size in (64, 2))
    torch.testing.assert_close(parts.attribution, whole.attribution)
    torch.testing.assert_close(parts.extras["colour"], whole.extras["colour"])
    assert whole.attribution.any()


def test_attention_refuses_a_slope_that_is_none():
    assert {"gradients", "conv_layer"} == set(xbench_explainers()[0].needs)
    for omega in (0.0, -1.0, float("inf")):
        with pytest.raises(Unsupported, match="a slope above 0"):
            attention(classifier(), 0.5, omega, "")
