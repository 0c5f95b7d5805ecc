"""Laws of the chest film classifiers: any size of film, a layer for CAM methods, training that repeats itself."""

import numpy as np
import pytest
import torch

from xbench.errors import XbenchError
from xbench.fits import FitContext
from xbench.models import Model
from xbench.training import classification_loss
from xbench_chestxray import models, xbench_models
from xbench_chestxray.phantom import phantom

SIZES = [(48, 48), (64, 64), (33, 57)]
PARAMS = {
    spec.name: dict(spec.params) for spec in xbench_models() if spec.factory.startswith("xbench_chestxray.models:")
}


def build(name, shape=(1, 64, 64), classes=("a", "b"), **params):
    torch.manual_seed(0)
    return getattr(models, name)(shape, classes, **(PARAMS[name] | params))


def films(channels, height, width, count=2):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PARAMS)
def test_network_takes_any_size_and_gives_a_logit_a_class(name, channels):
    module = build(name, (channels, 64, 64), ("a", "b", "c")).eval()
    for height, width in SIZES:
        with torch.no_grad():
            logits = module(films(channels, height, width))
            alone = module(films(channels, height, width)[:1])
        assert logits.shape == (2, 3)
        assert torch.isfinite(logits).all()
        assert torch.allclose(alone, logits[:1], atol=1e-4)


@pytest.mark.parametrize("name", PARAMS)
def test_default_layer_gives_a_map_behind_its_relu(name):
    model = Model(build(name))
    image = films(1, 64, 64)
    activation, logits = model.tap(image)
    assert model.default_layer(image) == model.module.cam_layer
    assert activation.shape[2] == activation.shape[3] == (16 if name == "small" else 2)
    assert (activation >= 0).all()
    assert (activation > 0).any()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), activation)
    # Global average pooling and one linear layer: each channel's gradient is the same at every pixel.
    assert torch.allclose(gradient, gradient.mean(dim=(2, 3), keepdim=True).expand_as(gradient))


@pytest.mark.parametrize("name", PARAMS)
def test_every_relu_is_a_module(name, monkeypatch):
    module = build(name).eval()
    seen = []
    for part in module.modules():
        if isinstance(part, torch.nn.ReLU):
            part.register_forward_hook(lambda *_: seen.append(1))
    calls = []
    relu = torch.nn.functional.relu
    monkeypatch.setattr(torch.nn.functional, "relu", lambda *args, **kwargs: calls.append(1) or relu(*args, **kwargs))
    with torch.no_grad():
        module(films(1, 64, 64))
    assert len(calls) == len(seen) > 0


def test_densenet_in_a_row_equals_torchvisions():
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(weights=None, num_classes=2).eval()
    ours = models._open_densenet(theirs).eval()
    image = films(3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))


def test_networks_refuse_channels_they_cannot_take():
    with pytest.raises(ValueError, match="not 2"):
        build("resnet18", (2, 64, 64))


def test_small_grows_with_its_width():
    count = [sum(p.numel() for p in build("small", width=width).parameters()) for width in (4, 16)]
    assert count[0] < count[1] < 100_000


def bump(height=40, width=56):
    """Return films with one bright spot left of and above the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.exp(-((x + 0.5) ** 2 + (y + 0.4) ** 2) / 0.02).expand(64, 1, height, width).clone()


def test_jitter_moves_a_little_and_never_mirrors():
    moved = models.jitter(bump(), torch.Generator().manual_seed(0))
    assert moved.shape == (64, 1, 40, 56)
    assert 0 <= moved.min() <= moved.max() <= 1
    place = moved.flatten(1).argmax(dim=1)
    x, y = place % 56 / 55 * 2 - 1, place // 56 / 39 * 2 - 1
    assert (x + 0.5).abs().max() < 0.25
    assert (y + 0.4).abs().max() < 0.25
    assert x.std() > 0.03
    assert y.std() > 0.03


def test_jitter_keeps_a_disc_round_on_films_that_are_not_square():
    y, x = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    disc = (x**2 + y**2 < 12**2).float().expand(32, 1, 40, 80)
    moved = models.jitter(disc, torch.Generator().manual_seed(0))
    inside = (moved - moved.amin((2, 3), keepdim=True)) > 0.5 * (
        moved.amax((2, 3), keepdim=True) - moved.amin((2, 3), keepdim=True)
    )
    wide, high = inside.any(dim=2).sum(dim=2), inside.any(dim=3).sum(dim=2)
    assert (wide - high).abs().max() <= 2
    assert wide.max() > wide.min()


def test_grain_is_normal_noise_of_a_size_of_each_films_own():
    film = torch.full((400, 1, 16, 16), 0.5)
    size = (models.grain(film, torch.Generator().manual_seed(0)) - film).std(dim=(1, 2, 3))
    assert size.min() < 0.01
    assert 0.09 < size.max() < 0.115
    assert size.mean() == pytest.approx(0.05, abs=0.005)
    again = models.augment(bump(), torch.Generator().manual_seed(1))
    assert torch.equal(again, models.augment(bump(), torch.Generator().manual_seed(1)))


def test_jitter_draws_from_its_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (models.jitter(bump(), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


class Killed(Exception):
    pass


def train(folder, *, killed_after=None, epochs=3):
    """Train a narrow network on 64 small films; ``killed_after`` ends it in the first step after that epoch."""
    folder.mkdir(exist_ok=True)
    dataset = phantom(None, size=32, train=64, valid=8, test=8, seed=0)
    params = PARAMS["small"] | {"width": 4, "epochs": epochs, "batch": 16}

    def report(done, total, text):
        if killed_after is not None and done > killed_after * total / epochs:
            raise Killed

    module = build("small", (1, 32, 32), **params)
    index = dataset.index("train")
    context = FitContext(
        dataset, index, dataset.index("valid"), params, 0, torch.device("cpu"), folder, report=report, module=module
    )
    image, label = torch.as_tensor(dataset.load(index.ids).image), torch.as_tensor(index.labels)

    def loss():
        with torch.no_grad():
            return classification_loss(module.train()(image), label).item()

    before = loss()
    module.load_state_dict(build("small", (1, 32, 32), **params).state_dict())
    state = models.fit_chest(context)
    return {name: value.clone() for name, value in state.items()}, before, loss()


def test_fit_lowers_the_loss_and_repeats_itself_bit_by_bit(tmp_path):
    first, before, after = train(tmp_path / "a")
    again, *_ = train(tmp_path / "b")
    assert after < before
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_killed_fit_resumes_to_the_same_weights(tmp_path):
    whole, *_ = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", killed_after=1)
    resumed, *_ = train(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def untrained(name, folder, weights, classes=("a", "b")):
    """Return a network's weights as built, those after a fit of no epoch, and the fit's notes."""
    dataset = phantom(None, size=32, train=8, valid=8, test=8, seed=0)
    params = PARAMS[name] | {"epochs": 0, "weights": weights}
    module = build(name, (1, 32, 32), classes, weights=weights)
    built = {key: value.clone() for key, value in module.state_dict().items()}
    said = []
    context = FitContext(
        dataset,
        dataset.index("train"),
        dataset.index("valid"),
        params,
        0,
        torch.device("cpu"),
        folder,
        report=lambda done, total, text: said.append(text),
        module=module,
    )
    return built, models.fit_chest(context), context.notes, said


def torchvisions(name, classes):
    import torchvision

    torch.manual_seed(5)
    return getattr(torchvision.models, name)(weights=None, num_classes=classes)


def as_published(state):
    """Return a state dict under the names that torchvision's DenseNet files have."""
    import re

    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name): value for name, value in state.items()}


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("classes", [2, 7])
def test_a_fit_starts_at_the_weights_of_torchvisions_own_file(name, classes, tmp_path):
    theirs, path = torchvisions(name, classes).state_dict(), tmp_path / "w.pt"
    torch.save(as_published(theirs), path)
    built, state, notes, said = untrained(name, tmp_path, str(path))
    head = ("network.fc.", "network.classifier.")
    for key, value in theirs.items():
        key = f"network.{key}"
        kept = classes != 2 and key.startswith(head)
        assert torch.equal(state[key], built[key] if kept else value), key
    assert len(state) == len(theirs)
    assert notes["weights"]["source"] == str(path)
    assert len(notes["weights"]["sha256"]) == 64
    assert len(notes["weights"]["kept"]) == (0 if classes == 2 else 2)
    assert len(said) == 1
    assert ("left as built" in said[0]) == (classes != 2)


def test_a_fit_starts_at_weights_that_another_fit_wrote(tmp_path):
    from safetensors.torch import save_file

    theirs, path = build("resnet18", (1, 32, 32)).state_dict(), tmp_path / "weights.safetensors"
    theirs = {key: value + 1 if value.is_floating_point() else value for key, value in theirs.items()}
    save_file(theirs, path)
    _, state, notes, _ = untrained("resnet18", tmp_path, str(path))
    assert all(torch.equal(state[key], value) for key, value in theirs.items())
    assert notes["weights"]["kept"] == ()


def test_imagenet_is_torchvisions_first_release_and_only_the_fit_fetches_it(tmp_path, monkeypatch):
    import torchvision

    theirs, asked = torchvisions("resnet18", 1000), []
    make = torchvision.models.resnet18

    def resnet18(weights=None, **how):
        if weights is None:
            return make(weights=None, **how)
        asked.append(weights)
        return theirs

    monkeypatch.setattr(torchvision.models, "resnet18", resnet18)
    build("resnet18", weights="imagenet")
    assert not asked
    _, state, notes, said = untrained("resnet18", tmp_path, "imagenet")
    assert asked == ["IMAGENET1K_V1"]
    assert torch.equal(state["network.layer4.1.conv2.weight"], theirs.layer4[1].conv2.weight)
    assert notes["weights"]["source"] == "imagenet"
    assert "network.fc.weight" not in said[0]
    assert said[0].endswith("fc.weight, fc.bias left as built")


def test_imagenet_without_a_network_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    import torchvision

    make = torchvision.models.resnet18

    def resnet18(weights=None, **how):
        if weights is not None:
            raise OSError("<urlopen error [Errno -2] Name or service not known>")
        return make(weights=None, **how)

    monkeypatch.setattr(torchvision.models, "resnet18", resnet18)
    with pytest.raises(XbenchError, match=r"could not be fetched \(<urlopen.*weights=PATH takes a local file"):
        untrained("resnet18", tmp_path, "imagenet")


def test_a_network_is_built_without_its_weights_file_once_it_is_trained():
    build("resnet18", weights="gone.pt")


@pytest.mark.slow
def test_small_tells_the_phantoms_hearts_apart(tmp_path):
    dataset = phantom(None, size=64, train=600, valid=8, test=200, seed=0)
    params = PARAMS["small"] | {"epochs": 10}
    index, test = dataset.index("train"), dataset.index("test")
    module = build("small", **params)
    context = FitContext(
        dataset, index, dataset.index("valid"), params, 0, torch.device("cpu"), tmp_path, module=module
    )
    models.fit_chest(context)
    with torch.no_grad():
        found = module.eval()(torch.as_tensor(dataset.load(test.ids).image)).argmax(dim=1).numpy()
    assert np.mean(found == test.labels) > 0.8
