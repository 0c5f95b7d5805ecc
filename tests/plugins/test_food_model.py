"""Laws of the food classifier: the shapes of the source, any size of image, training that repeats itself, random plates."""

import numpy as np
import pytest
import torch
from torch import nn

from xbench.data import Samples
from xbench.errors import Unsupported
from xbench.fits import FitContext
from xbench.models import Model
from xbench.training import classification_loss
from xbench_food import models, xbench_models
from xbench_food.dishes import dishes
from xbench_food.models import RandomPlates

PARAMS = dict(xbench_models()[0].params)


def build(shape=(3, 64, 64), classes=("a", "b")):
    torch.manual_seed(0)
    return models.s3(shape, classes, **PARAMS)


def pictures(channels, height, width, count=2):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_at_160_pixels_the_layers_have_the_sizes_of_the_listing():
    module = build((3, 160, 160)).eval()
    shapes = {}
    for name, part in module.named_children():
        part.register_forward_hook(lambda _, inputs, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with torch.no_grad():
        module(pictures(3, 160, 160, 1))
    assert shapes["relu1"] == (64, 158, 158)
    assert shapes["pool2"] == (64, 78, 78)
    assert shapes["pool3"] == (128, 38, 38)
    assert shapes["relu4"] == (128, 36, 36)
    assert shapes["flatten"] == (18 * 18 * 128,)
    assert shapes["dense1"] == (64,)
    assert module.dropout.p == 0.5
    kinds = [type(part).__name__ for part in module]
    convolution, dense = ["Conv2d", "ReLU"], ["Linear", "ReLU", "Dropout", "Linear"]
    assert kinds == [*convolution, *3 * [*convolution, "MaxPool2d"], "Flatten", *dense]


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 64, 64), (1, 24, 24), (3, 40, 57), (3, 24, 160)])
def test_network_takes_any_size_it_is_built_for_and_gives_a_logit_a_class(channels, height, width):
    module = build((channels, height, width), ("a", "b", "c")).eval()
    images = pictures(channels, height, width)
    with torch.no_grad():
        logits, alone = module(images), module(images[:1])
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert torch.allclose(alone, logits[:1], atol=1e-5)


def test_images_below_24_pixels_are_refused_and_24_are_the_least_that_work():
    build((3, 24, 24))(pictures(3, 24, 24))
    with pytest.raises(ValueError, match="at least 24 x 24 pixels; these have 23 x 64"):
        build((3, 23, 64))


def test_default_layer_is_the_last_convolution_behind_its_relu():
    model = Model(build((3, 64, 48)))
    image = pictures(3, 64, 48)
    activation, logits = model.tap(image)
    assert model.default_layer(image) == "relu4"
    assert activation.shape == (2, 128, 12, 8)
    assert (activation >= 0).all()
    assert (activation > 0).any()
    assert torch.equal(logits, model.logits(image))


def test_first_weights_are_those_of_keras():
    module = build()
    for part in module:
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            assert not part.bias.any()
    # Glorot: uniform within sqrt(6 / (inputs + outputs)); the last layer's listing says uniform, which is +-.05 there.
    bound = (6 / (9 * 64 + 9 * 128)) ** 0.5
    assert 0.99 * bound < module.conv3.weight.abs().max() <= bound
    assert 0.04 < module.dense2.weight.abs().max() <= 0.05


def spots(height=40, width=56):
    """Return pictures with one bright spot left of and above the middle."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.exp(-((x + 0.5) ** 2 + (y + 0.4) ** 2) / 0.02).expand(200, 3, height, width).clone()


def test_jitter_mirrors_half_sideways_none_upside_down_and_moves_a_little():
    moved = models.jitter(spots(), torch.Generator().manual_seed(0))
    assert moved.shape == (200, 3, 40, 56)
    assert 0 <= moved.min() <= moved.max() <= 1
    place = moved.mean(dim=1).flatten(1).argmax(dim=1)
    x, y = place % 56 / 55 * 2 - 1, place // 56 / 39 * 2 - 1
    assert (x.abs() - 0.5).abs().max() < 0.4
    assert 0.4 < (x > 0).float().mean() < 0.6
    assert (y + 0.4).abs().max() < 0.4
    assert y.std() > 0.05


def test_jitter_changes_light_and_keeps_grey_grey():
    grey = torch.full((50, 3, 24, 24), 0.5)
    lit = models.jitter(grey, torch.Generator().manual_seed(0)).mean(dim=(2, 3))
    assert torch.allclose(lit[:, 0], lit[:, 2], atol=1e-5)
    assert 0.39 < lit.min() < 0.45
    assert 0.55 < lit.max() < 0.61


def test_jitter_draws_from_its_generator_alone():
    state = torch.get_rng_state()
    first, again, other = (models.jitter(spots(), torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_plates_say_nothing_of_the_class_and_leave_the_dish():
    data = dishes(None, size=24, train=400, valid=8, test=8, bias=1.0, seed=0)
    index = data.index("train")
    free = RandomPlates(data, seed=0)
    samples, dealt = data.load(index.ids), free.load(index.ids).image
    exchanged = (dealt != samples.image).any(axis=(1, 2, 3))
    assert np.array_equal(dealt[exchanged], samples.swapped[exchanged])
    china = np.array([data.plate("train", i) for i in range(400)]) ^ exchanged
    for label in (0, 1):
        assert abs(china[index.labels == label].mean() - 0.5) < 3 * 0.5 / np.sqrt(200)
    # A sample's plate hangs on seed and id: not on what is loaded beside it, and another seed deals anew.
    assert np.array_equal(free.load(index.ids[7:9]).image, dealt[7:9])
    again = (RandomPlates(data, seed=1).load(index.ids).image != samples.image).any(axis=(1, 2, 3))
    assert 0.3 < (again != exchanged).mean() < 0.7
    assert free.index("train").digest == index.digest


class Killed(Exception):
    pass


class Fixed:
    """Images of noise, without plates."""

    def load(self, ids):
        rng = np.random.default_rng(0)
        return Samples(rng.random((len(ids), 3, 24, 24), dtype=np.float32))


def train(folder, *, killed_after=None, epochs=2, dataset=None, **params):
    """Train on 32 small dishes; ``killed_after`` ends it in the first step after that epoch."""
    folder.mkdir(exist_ok=True)
    data = dishes(None, size=24, train=32, valid=4, test=4, bias=0.9, seed=0)
    params = PARAMS | {"epochs": epochs, "batch": 8} | params

    def report(done, total, text):
        if killed_after is not None and done > killed_after * total / epochs:
            raise Killed

    index, module = data.index("train"), build((3, 24, 24))
    context = FitContext(
        dataset or data,
        index,
        data.index("valid"),
        params,
        0,
        torch.device("cpu"),
        folder,
        report=report,
        module=module,
    )
    image, label = torch.as_tensor(data.load(index.ids).image), torch.as_tensor(index.labels)

    def loss():
        with torch.no_grad():
            return classification_loss(module.eval()(image), label).item()

    before = loss()
    state = {name: value.clone() for name, value in models.fit_s3(context).items()}
    return state, before, loss()


@pytest.mark.parametrize("plates", ["biased", "random"])
def test_fit_lowers_the_loss_and_repeats_itself_bit_by_bit(tmp_path, plates):
    first, before, after = train(tmp_path / "a", plates=plates, epochs=4)
    again, *_ = train(tmp_path / "b", plates=plates, epochs=4)
    assert after < before
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_killed_fit_resumes_to_the_same_weights(tmp_path):
    whole, *_ = train(tmp_path / "whole", plates="random")
    with pytest.raises(Killed):
        train(tmp_path / "killed", plates="random", killed_after=1)
    resumed, *_ = train(tmp_path / "killed", plates="random")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_plates_and_augmentation_change_what_is_trained(tmp_path):
    weights = [
        train(tmp_path / str(i), epochs=1, **params)[0]["conv1.weight"]
        for i, params in enumerate([{}, {"plates": "random"}, {"augment": False}])
    ]
    assert not any(torch.equal(a, b) for a, b in ((weights[0], weights[1]), (weights[0], weights[2])))


def test_random_plates_on_data_without_plates_are_refused(tmp_path):
    with pytest.raises(Unsupported, match=r"food/s3\[plates=random\] needs data whose plates can be exchanged"):
        train(tmp_path, dataset=Fixed(), plates="random")


@pytest.mark.slow
def test_biased_network_looks_at_the_plate_and_the_other_does_not(tmp_path):
    data = dishes(None, size=40, train=600, valid=8, test=200, bias=0.9, seed=0)
    index, test = data.index("train"), data.index("test")
    samples = data.load(test.ids)
    image, swapped = (torch.as_tensor(each) for each in (samples.image, samples.swapped))
    flips, hits = {}, {}
    for plates in ("biased", "random"):
        torch.manual_seed(0)
        module = models.s3(index.shape, index.classes)
        params = PARAMS | {"epochs": 10, "plates": plates}
        folder = tmp_path / plates
        folder.mkdir()
        context = FitContext(data, index, data.index("valid"), params, 0, torch.device("cpu"), folder, module=module)
        models.fit_s3(context)
        with torch.no_grad():
            before, after = (module.eval()(each).argmax(dim=1).numpy() for each in (image, swapped))
        flips[plates], hits[plates] = np.mean(before != after), np.mean(before == test.labels)
    assert flips["biased"] > 0.3
    assert flips["random"] < 0.1
    assert hits["random"] > 0.9 > hits["biased"]
