"""Laws of the anole classifiers: one logit, what is frozen stays, weights of either order of channels, repeatable training."""

import numpy as np
import pytest
import torch
from torch import nn

from xbench.data import Index, Samples
from xbench.errors import Unsupported, XbenchError
from xbench.fits import FitContext
from xbench.models import Model
from xbench_anole import models, xbench_models
from xbench_anole.camouflage import camouflage

PARAMS = {spec.name: dict(spec.params) for spec in xbench_models()}
CLASSES = ("negative", "positive")
SEVEN = (0, 2, 5, 7, 10, 12, 14)


def build(name, shape=(3, 32, 32), classes=CLASSES, **params):
    torch.manual_seed(0)
    return getattr(models, name)(shape, classes, **(PARAMS[name] | params))


@pytest.fixture
def narrow(monkeypatch):
    """VGG16 with an eighth of its channels, its names and its order the same."""
    monkeypatch.setattr(models, "_BLOCKS", tuple(tuple(w // 8 for w in block) for block in models._BLOCKS))


def pictures(channels, height, width, count=2):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 64, 64), (1, 32, 32), (3, 33, 57)])
@pytest.mark.parametrize("name", PARAMS)
def test_network_gives_one_logit_whatever_the_size(narrow, name, channels, height, width):
    module = build(name, (channels, height, width)).eval()
    images = pictures(channels, height, width)
    with torch.no_grad():
        logits, alone = module(images), module(images[:1])
    assert logits.shape == (2, 1)
    assert torch.isfinite(logits).all()
    assert torch.allclose(alone, logits[:1], atol=1e-5)
    pair = Model(module, link="sigmoid").logits(images)
    assert torch.equal(pair, torch.cat([-logits, logits], dim=1))


@pytest.mark.parametrize(("name", "side"), [("slim", 8), ("vgg16", 4)])
def test_default_layer_is_the_last_convolution_behind_its_relu(narrow, name, side):
    model = Model(build(name, (3, 64, 64)), link="sigmoid")
    image = pictures(3, 64, 64)
    activation, logits = model.tap(image)
    assert model.default_layer(image) == model.module.cam_layer
    assert activation.shape[2:] == (side, side)
    assert (activation >= 0).all()
    assert (activation > 0).any()
    # Global average pooling: each channel's gradient is the same at every pixel that a pooling before it lets through.
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), activation)
    largest = gradient.abs().amax(dim=(2, 3), keepdim=True)
    assert ((gradient == 0) | torch.isclose(gradient.abs(), largest)).all()


def test_vgg16_has_the_layers_and_names_of_torchvisions():
    import torchvision

    with torch.device("meta"):
        ours, theirs = build("vgg16", (3, 224, 224)), torchvision.models.vgg16()
    shapes, wanted = ({k: v.shape for k, v in net.state_dict().items()} for net in (ours, theirs))
    trunk = {name: shape for name, shape in wanted.items() if name.startswith("features.")}
    assert {name: shape for name, shape in shapes.items() if name.startswith("features.")} == trunk
    kinds = [[type(part).__name__ for part in net.features] for net in (ours, theirs)]
    assert kinds[0] == kinds[1]
    dense = [(part.in_features, part.out_features) for part in ours.classifier if isinstance(part, nn.Linear)]
    assert dense == [(512, 256), (256, 1)]


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("slim", {"classes": ("a", "b", "c")}, "anole/slim has one logit, for two classes; these data have 3"),
        ("slim", {"shape": (3, 15, 40)}, "at least 16 x 16 pixels; these have 15 x 40"),
        ("slim", {"width": 0}, r"anole/slim\[width=0\]"),
        ("vgg16", {"classes": ("a",)}, "anole/vgg16 has one logit"),
        ("vgg16", {"shape": (3, 64, 31)}, "at least 32 x 32 pixels; these have 64 x 31"),
        ("vgg16", {"shape": (2, 64, 64)}, "1 or 3 channels, not 2"),
        ("vgg16", {"frozen": 14}, r"anole/vgg16\[frozen=14\]: a number of convolutions from 0 to 13"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, given, said):
    with pytest.raises(Unsupported, match=said):
        build(name, **given)


def spots(height=40, width=56, count=200):
    """Return pictures with one white pixel, left of and above the middle."""
    image = torch.zeros(count, 3, height, width)
    image[:, :, height // 3, width // 3] = 1
    return image


@pytest.mark.parametrize("augment", [models.shift, models.turn_and_shift])
def test_augmentation_moves_whole_pixels_and_draws_from_its_generator_alone(augment):
    state = torch.get_rng_state()
    image = torch.rand(6, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    first, again, other = (augment(image, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == image.shape
    assert all(set(a.flatten().tolist()) <= set(b.flatten().tolist()) for a, b in zip(first, image, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_shift_reaches_an_eighth_and_never_mirrors():
    place = models.shift(spots(), torch.Generator().manual_seed(0))[:, 0].flatten(1).argmax(dim=1)
    y, x = place // 56 - 13, place % 56 - 18
    assert y.min() == -5
    assert y.max() == 5
    assert x.min() == -7
    assert x.max() == 7
    ramp = torch.arange(56.0).expand(200, 1, 40, 56)
    moved = models.shift(ramp, torch.Generator().manual_seed(0))
    assert (moved[..., 28:30].diff() == 1).all()


def test_what_comes_in_at_the_border_is_the_mirror_image():
    image = torch.arange(16.0).expand(50, 1, 16, 16)
    moved = models.shift(image, torch.Generator().manual_seed(0))[:, 0, 0]
    expected = {tuple(np.pad(np.arange(16.0), 2, mode="reflect")[by : by + 16]) for by in range(5)}
    assert {tuple(row.tolist()) for row in moved} == expected


def test_squares_come_in_all_eight_ways_and_other_shapes_in_four():
    for height, width, ways in ((16, 16, 8), (16, 24, 4)):
        image = torch.zeros(400, 1, height, width)
        image[:, :, 5, 5] = image[:, :, 5, 6] = image[:, :, 6, 5] = 1
        image[:, :, 5, 7] = 0.5
        moved = models.turn_and_shift(image, torch.Generator().manual_seed(0))[:, 0]
        seen = set()
        for each in moved:
            grey, white = (each == 0.5).nonzero()[0], (each == 1).nonzero().float().mean(dim=0)
            # Where the grey pixel lies from the middle of the white corner: eight places, one for each way.
            seen.add(tuple((3 * (grey - white)).round().int().tolist()))
        assert len(seen) == ways


class Killed(Exception):
    pass


def train(folder, name="slim", *, killed_after=None, epochs=2, dataset=None, index=None, size=32, **params):
    """Train on 32 small pictures; ``killed_after`` ends it in the first step after that epoch."""
    folder.mkdir(exist_ok=True)
    data = dataset or camouflage(None, size=size, train=32, valid=8, test=4, bias=0.9, seed=0)
    params = PARAMS[name] | {"epochs": epochs, "batch": 8} | ({"copies": 1} if name == "vgg16" else {}) | params

    def report(done, total, text):
        if killed_after is not None and done > killed_after * total / epochs:
            raise Killed

    train, valid = (index, index) if index else (data.index("train"), data.index("valid"))
    keys = {"slim": ("width",), "vgg16": ("frozen", "input")}[name]
    module = build(name, (3, size, size), **{key: params[key] for key in keys})
    before = {key: value.clone() for key, value in module.state_dict().items()}
    device = torch.device("cpu")
    context = FitContext(data, train, valid, params, 0, device, folder, report=report, module=module)
    state = getattr(models, f"fit_{name}")(context)
    assert context.module is module
    return {key: value.clone() for key, value in state.items()}, before, context


@pytest.mark.parametrize("name", PARAMS)
def test_fit_repeats_itself_bit_by_bit_and_resumes_where_it_was_killed(narrow, tmp_path, name):
    params = {"lr": 1e-3, "width": 4} if name == "slim" else {"lr": 1e-3}
    whole, *_ = train(tmp_path / "whole", name, **params)
    again, *_ = train(tmp_path / "again", name, **params)
    with pytest.raises(Killed):
        train(tmp_path / "killed", name, killed_after=1, **params)
    resumed, *_ = train(tmp_path / "killed", name, **params)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


class Planes:
    """Noise, lighter where the label is 1."""

    def __init__(self, size):
        ids = tuple(map(str, range(32)))
        shape = (3, size, size)
        self.all = Index(ids, np.arange(32, dtype=np.int64) % 2, ids, shape, CLASSES, "planes")

    def load(self, ids):
        noise = np.random.default_rng(0).random((32, *self.all.shape), dtype=np.float32) * 0.5
        light = (noise + 0.5 * self.all.labels[:, None, None, None]).astype(np.float32)
        return Samples(light[[int(name) for name in ids]])


@pytest.mark.parametrize("name", PARAMS)
def test_fit_learns_what_is_plain_to_see(narrow, tmp_path, name):
    data = Planes(32)
    rates = {"slim": {"lr": 5e-3, "width": 4}, "vgg16": {"lr": 3e-4, "frozen": 2}}[name]
    _, _, context = train(tmp_path, name, epochs=6, dataset=data, index=data.all, **rates)
    with torch.no_grad():
        logits = context.module.eval()(torch.as_tensor(data.load(data.all.ids).image))[:, 0]
    assert ((logits > 0).numpy() == (data.all.labels == 1)).mean() > 0.9


@pytest.mark.parametrize("frozen", [0, 7])
def test_frozen_convolutions_keep_every_bit_and_all_others_learn(narrow, tmp_path, frozen):
    after, before, context = train(tmp_path, "vgg16", frozen=frozen, lr=1e-3, early_stop=0)
    still = {f"features.{i}." for i in SEVEN[:frozen]}
    for name in after:
        same = torch.equal(after[name], before[name])
        assert same == (name.rpartition(".")[0] + "." in still), name
    trained = [parameter.requires_grad for parameter in context.module.parameters()]
    assert trained == [False] * (2 * frozen) + [True] * (len(trained) - 2 * frozen)


def test_vgg16_returns_the_best_epoch_and_says_which(narrow, tmp_path):
    after, _, context = train(tmp_path, "vgg16", epochs=4, lr=1e-3, early_stop=1)
    lines, best = context.notes["epochs"], context.notes["best_epoch"]
    marks = [(line["valid_accuracy"], -line["valid_loss"]) for line in lines]
    assert marks.index(max(marks)) + 1 == best
    shorter, _, _ = train(tmp_path / "best", "vgg16", epochs=best, lr=1e-3, early_stop=0)
    assert all(torch.equal(after[name], shorter[name]) for name in after)


def test_an_epoch_shows_every_photograph_as_often_as_s4_made_copies(narrow, tmp_path):
    seen = []

    def report(done, total, text):
        seen.append(total)

    data = camouflage(None, size=32, train=32, valid=8, test=4, bias=0.9, seed=0)
    module = build("vgg16")
    params = PARAMS["vgg16"] | {"epochs": 1, "batch": 8, "copies": 3}
    index = data.index("train")
    context = FitContext(
        data, index, data.index("valid"), params, 0, torch.device("cpu"), tmp_path, report=report, module=module
    )
    models.fit_vgg16(context)
    assert set(seen) == {3 * 32 // 8}


def test_a_file_of_the_network_itself_brings_its_answers_back_blue_first_too(narrow, tmp_path):
    module = build("vgg16", input="bgr").eval()
    torch.save(module.state_dict(), tmp_path / "own.pt")
    other = build("vgg16", input="bgr").eval()
    with torch.no_grad():
        other.classifier[2].bias.add_(1)
    other.load(str(tmp_path / "own.pt"))
    image = pictures(3, 32, 32)
    with torch.no_grad():
        assert torch.equal(module(image), other(image))
    with pytest.raises(Unsupported, match="are for input=rgb"):
        other.load("imagenet")


def test_no_augmentation_is_another_training(tmp_path):
    first, second = (train(tmp_path / str(on), epochs=1, augment=on, width=4)[0] for on in (True, False))
    assert not torch.equal(first["features.conv1.weight"], second["features.conv1.weight"])


def saved(path, names, source):
    torch.save({name: source[name].clone() for name in names}, path)
    return str(path)


def test_a_file_of_three_blocks_sets_the_seven_convolutions_and_leaves_the_rest(narrow, tmp_path):
    other = {name: torch.randn_like(value) for name, value in build("vgg16").state_dict().items()}
    names = [f"features.{i}.{kind}" for i in SEVEN for kind in ("weight", "bias")]
    for prefix in ("", "module."):
        path = tmp_path / f"{prefix}blocks.pt"
        torch.save({prefix + name: other[name].clone() for name in names}, path)
        module = build("vgg16")
        before = {name: value.clone() for name, value in module.state_dict().items()}
        loaded = module.load(str(path))
        assert sorted(loaded.names) == sorted(names)
        after = module.state_dict()
        assert all(torch.equal(after[name], (other if name in names else before)[name]) for name in after)


def test_a_whole_vgg16_sets_the_trunk_and_its_own_head_only(narrow, tmp_path):
    other = {name: torch.randn_like(value) for name, value in build("vgg16").state_dict().items()}
    module = build("vgg16")
    assert module.load(saved(tmp_path / "own.pt", other, other)).kept == ()
    assert all(torch.equal(value, other[name]) for name, value in module.state_dict().items())
    # torchvision's has dense layers of other sizes.
    theirs = {name: value for name, value in other.items() if name.startswith("features.")}
    theirs |= {f"classifier.{i}.weight": torch.zeros(4, 4) for i in (0, 3, 6)}
    module = build("vgg16")
    head = {name: value.clone() for name, value in module.classifier.state_dict().items()}
    loaded = module.load(saved(tmp_path / "theirs.pt", theirs, theirs))
    assert len(loaded.names) == 26
    assert all(torch.equal(value, head[name]) for name, value in module.classifier.state_dict().items())
    assert torch.equal(module.features[28].weight, other["features.28.weight"])


@pytest.mark.parametrize("gone", ["features.26.weight", "features.5.bias"])
def test_a_file_with_a_hole_is_refused(narrow, tmp_path, gone):
    whole = build("vgg16").state_dict()
    names = [name for name in whole if name.startswith("features.") and name != gone]
    with pytest.raises(XbenchError, match=f"1 missing: {gone}"):
        build("vgg16").load(saved(tmp_path / "hole.pt", names, whole))
    blocks = [f"features.{i}.{kind}" for i in SEVEN for kind in ("weight", "bias") if f"features.{i}.{kind}" != gone]
    if len(blocks) == 13:
        with pytest.raises(XbenchError, match=f"1 missing: {gone}"):
            build("vgg16").load(saved(tmp_path / "hole.pt", blocks, whole))


def test_weights_that_are_no_file_are_refused_and_none_changes_nothing(narrow):
    small = build("vgg16")
    before = small.features[0].weight.clone()
    assert small.load("none") is None
    assert torch.equal(small.features[0].weight, before)
    with pytest.raises(XbenchError, match="there is no file"):
        small.load("/nowhere/weights.pt")


def test_weights_for_blue_first_see_blue_first_and_the_authors_means(narrow, tmp_path):
    source = build("vgg16").state_dict()
    names = [f"features.{i}.{kind}" for i in SEVEN for kind in ("weight", "bias")]
    module = build("vgg16", input="bgr").eval()
    module.load(saved(tmp_path / "bgr.pt", names, source))
    image = pictures(3, 32, 32).double()
    # As the authors fed it: 0 to 255, blue first, less the means.
    fed = image.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)[:, None, None]
    expected = nn.functional.conv2d(
        fed, source["features.0.weight"].double(), source["features.0.bias"].double(), padding=1
    )
    seen = []
    module.features[0].register_forward_hook(lambda part, inputs, out: seen.append(out))
    with torch.no_grad():
        module(image.float())
    torch.testing.assert_close(seen[0].double(), expected, rtol=1e-4, atol=1e-3)


def test_weights_trained_further_are_noted_and_stay_frozen(narrow, tmp_path):
    source = {name: torch.randn_like(value) * 0.1 for name, value in build("vgg16").state_dict().items()}
    names = [f"features.{i}.{kind}" for i in SEVEN for kind in ("weight", "bias")]
    path = saved(tmp_path / "blocks.pt", names, source)
    after, _, context = train(tmp_path / "fit", "vgg16", weights=path, lr=1e-3)
    assert all(torch.equal(after[name], source[name]) for name in names)
    assert context.notes["weights"]["source"] == path


@pytest.mark.realdata
def test_the_authors_weights_load_and_find_edges_in_grey_and_colour(real_data):
    path = real_data / "weights" / "vgg16_imagenet_blocks1to3_bgr.pt"
    if not path.is_file():
        pytest.skip(f"there is no {path.name} under XBENCH_DATA")
    module = build("vgg16", input="bgr").eval()
    loaded = module.load(str(path))
    assert len(loaded.names) == 14
    assert set(loaded.kept) == {name for name in module.state_dict() if name not in loaded.names}
    file = torch.load(path, weights_only=True)
    assert torch.equal(module.features[0].weight, file["features.0.weight"])
    assert torch.equal(module.features[14].bias, file["features.14.bias"])
    image = torch.as_tensor(
        camouflage(None, size=64, train=0, valid=0, test=2, bias=0, seed=0)
        .load(["camouflage-test-00000", "camouflage-test-00001"])
        .image
    )
    with torch.no_grad():
        maps = module.features[:16]((image.flip(1) - module.mean) / module.std)
    # Trained features: most are zero at most places, few are dead, and their scale is that of the file's activations.
    assert 0.5 < (maps == 0).float().mean() < 0.95
    assert (maps.amax(dim=(0, 2, 3)) == 0).float().mean() < 0.2
    assert 1000 < maps.max() < 100_000


@pytest.mark.slow
def test_vgg16_takes_two_steps_at_224_pixels(tmp_path):
    data = camouflage(None, size=224, train=4, valid=2, test=0, bias=0.9, seed=0)
    after, before, _ = train(tmp_path, "vgg16", epochs=1, dataset=data, size=224, batch=2, early_stop=1)
    assert torch.equal(after["features.14.weight"], before["features.14.weight"])
    assert not torch.equal(after["features.17.weight"], before["features.17.weight"])


@pytest.mark.slow
def test_a_perch_that_goes_with_the_class_spoils_the_network(tmp_path):
    hits, flips = {}, {}
    for bias in (0.0, 1.0):
        data = camouflage(None, size=64, train=600, valid=8, test=200, bias=bias, seed=0)
        test = data.index("test")
        samples = data.load(test.ids)
        train_params = {"epochs": 14, "batch": 32}
        _, _, context = train(tmp_path / str(bias), dataset=data, size=64, **train_params)
        with torch.no_grad():
            before, after = (
                (context.module.eval()(torch.as_tensor(each))[:, 0] > 0).numpy()
                for each in (samples.image, samples.swapped)
            )
        hits[bias], flips[bias] = np.mean(before == (test.labels == 1)), np.mean(before != after)
    assert hits[0.0] > 0.75
    assert hits[1.0] < 0.65
    assert flips[0.0] < 0.15 < 0.5 < flips[1.0]
