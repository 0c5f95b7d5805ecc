"""Laws of AG-CycleGAN's training as the harness runs it, of the explainer, and of the shared backbone."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from xbench.data import Index, Samples
from xbench.errors import Unsupported
from xbench.fits import FitContext
from xbench.models import Model
from xbench.tensors import make_batch
from xbench_translation import xbench_explainers
from xbench_translation.backbone import Trunk, taps
from xbench_translation.explainer import ag_cyclegan, noised, swapped
from xbench_translation.networks import Discriminator
from xbench_translation.recipe import recipe
from xbench_translation.training import _Films, fit_ag_cyclegan
from xbench_translation.translator import judge_of, to_network_range

(SPEC,) = xbench_explainers()
TINY = {"generator_width": 2, "discriminator_width": 2, "blocks": 1, "batch": 2, "iterations": 2, "epochs": 2}
SHARES = SPEC.choices["share"][1:]


class Pictures:
    """Noise; class 1 is brighter."""

    def __init__(self, counts=(5, 3), channels=1, height=12, width=16, classes=2):
        self.labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
        self.shape, self.classes = (channels, height, width), tuple("abcdef"[:classes])

    def index(self, split):
        ids = tuple(f"{split}-{i}" for i in range(len(self.labels)))
        return Index(ids, self.labels, ids, self.shape, self.classes, "0")

    def load(self, ids):
        made = []
        for name in ids:
            i = int(name.rpartition("-")[2])
            made.append(np.random.default_rng(i).random(self.shape, np.float32) * 0.6 + 0.3 * self.labels[i])
        return Samples(np.array(made, np.float32).reshape(len(ids), *self.shape))


class Classifier(nn.Module):
    """Two resolutions, batch normalisation, in-place ReLUs, pooling between, one logit or two."""

    def __init__(self, channels=1, logits=2):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(channels, 3, 3, 1, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.two = nn.Sequential(nn.Conv2d(3, 5, 3, 1, 1), nn.ReLU(inplace=True))
        self.head = nn.Linear(5, logits)

    def forward(self, x):
        return self.head(self.two(self.pool(self.one(x))).mean(dim=(2, 3)))


def classifier(channels=1, logits=2, batch_size=64):
    torch.manual_seed(3)
    return Model(Classifier(channels, logits), "sigmoid" if logits == 1 else "softmax", batch_size)


def context(folder, data=None, model=None, seed=0, **params):
    data = data or Pictures()
    folder.mkdir(exist_ok=True, parents=True)
    return FitContext(
        dataset=data,
        train=data.index("train"),
        valid=data.index("valid"),
        params={**SPEC.params, **TINY, **params},
        seed=seed,
        device=torch.device("cpu"),
        folder=folder,
        model=model or classifier(data.shape[0]),
    )


def fit(folder, **params):
    made = context(folder, **params)
    return made, fit_ag_cyclegan(made)


def batch_of(data, count=6, seed=0):
    index = data.index("test")
    return make_batch(
        data.load(index.ids[:count]), index.ids[:count], torch.tensor(index.labels[:count]), seed, len(data.classes)
    )


def explained(made, state, batch, model=None):
    return ag_cyclegan(model or made.model, state, **made.params)(batch)


def tensors(explanation):
    return {
        "attribution": explanation.attribution,
        "counterfactual": explanation.counterfactual,
        **explanation.extras,
    }


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_training_killed_at_an_epoch_ends_in_the_same_weights(tmp_path, preset):
    params = {"preset": preset, "iterations": 8, "epochs": 4, "pool": 3, "switch": 0.5}
    whole, wanted = fit(tmp_path / "whole", **params)
    cut = context(tmp_path / "cut", **params)

    class Killed(Exception):
        pass

    def killed_at(step):
        def report(done, total, text):
            if done == step:  # in the midst of an epoch of two steps, before and behind the switch
                raise Killed

        return report

    for stop in (3, 5):
        cut.report = killed_at(stop)
        with pytest.raises(Killed):
            fit_ag_cyclegan(cut)
    resumed = context(tmp_path / "cut", **params)
    assert resumed.resume()["epoch"] == 2
    assert same(fit_ag_cyclegan(resumed), wanted)
    assert resumed.notes == whole.notes


def test_training_whose_process_is_killed_ends_in_the_same_weights(tmp_path):
    settings = {"iterations": 8, "epochs": 4, "pool": 3}
    # Sums of another number of threads are rounded otherwise.
    code = f"""
import os, pathlib, signal, torch
torch.set_num_threads({torch.get_num_threads()})
import test_ag_cyclegan_explainer as here
made = here.context(pathlib.Path({str(tmp_path / "cut")!r}), **{settings})
made.report = lambda done, total, text: done == 5 and os.kill(os.getpid(), signal.SIGKILL)
here.fit_ag_cyclegan(made)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = context(tmp_path / "cut", **settings)
    assert resumed.resume()["epoch"] == 2
    assert same(fit_ag_cyclegan(resumed), fit(tmp_path / "whole", **settings)[1])


def test_training_hangs_on_the_seed_alone(tmp_path):
    _, one = fit(tmp_path / "1")
    torch.manual_seed(99)
    _, two = fit(tmp_path / "2")
    _, other = fit(tmp_path / "3", seed=1)
    assert same(one, two)
    assert not same(one, other)


def test_notes_have_the_monitors_of_every_epoch(tmp_path):
    made = context(tmp_path)
    said = []
    made.report = lambda done, total, text: said.append((done, total, text))
    fit_ag_cyclegan(made)
    assert len(made.notes["epochs"]) == 2
    for line in made.notes["epochs"]:
        assert set(line) == {"attention", "attention_share", "attention_entropy", "change", "cycle_error"}
        assert 0 < line["attention"] < 1
    assert said[-1][:2] == (2, 2)
    assert "attention_share" in said[-1][2]


def test_domains_are_drawn_evenly_and_no_image_twice_before_the_others():
    data, drawn = Pictures((7, 2)), []
    for label in (0, 1):
        ids = [name for name, each in zip(data.index("train").ids, data.labels, strict=True) if each == label]
        films = _Films(data, ids, data.shape)
        numbers = type("Numbers", (), {"batch": 2, "zoom": 1.0, "flip": False})
        got = torch.cat(list(films.batches(7, numbers, torch.Generator().manual_seed(0))))
        counts = [int((got == to_network_range(film)).all(dim=(1, 2, 3)).sum()) for film in films.images]
        drawn.append(counts)
    assert drawn == [[2] * 7, [7, 7]]


@pytest.mark.parametrize(("counts", "classes"), [((3, 3, 3), 3), ((4, 0), 2)])
def test_other_than_two_filled_classes_is_refused(tmp_path, counts, classes):
    with pytest.raises(ValueError, match="two classes with training images"):
        fit(tmp_path, data=Pictures(counts, classes=classes))


def test_batch_without_a_counter_target_is_refused(tmp_path):
    made, state = fit(tmp_path)
    with pytest.raises(Unsupported, match="two classes"):
        explained(made, state, batch_of(Pictures((3, 3, 3), classes=3)))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("channels", "logits", "height", "width"), [(1, 2, 12, 16), (3, 1, 13, 18)])
def test_explanation_has_its_shapes_and_ranges_and_leaves_the_model_alone(
    tmp_path, share, channels, logits, height, width
):
    data, model = Pictures(channels=channels, height=height, width=width), classifier(channels, logits)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    made, state = fit(tmp_path, data=data, model=model, share=share)
    state = load(save({name: value.contiguous() for name, value in state.items()}))
    batch = batch_of(data)
    found = explained(made, state, batch)
    assert found.attribution.shape == (6, height, width)
    assert found.attribution.dtype == torch.float32
    assert 0 <= found.attribution.min() <= found.attribution.max() <= 1
    for name in ("cycle", "swapped", "noised"):
        assert found.extras[name].shape == batch.image.shape
        assert 0 <= found.extras[name].min() <= found.extras[name].max() <= 1
    assert 0 <= found.counterfactual.min() <= found.counterfactual.max() <= 1
    assert torch.equal(found.extras["difference"], found.counterfactual - batch.image)
    assert same(before, model.module.state_dict())
    assert not model.module.training
    assert all(not module._forward_hooks for module in model.module.modules())
    assert all(each.grad is None and not each.requires_grad for each in model.module.parameters())
    assert same(tensors(found), tensors(explained(made, state, batch)))


@pytest.mark.parametrize("share", ["none", "attention+generator"])
def test_explanation_does_not_hang_on_batch_order_or_chunk(tmp_path, share):
    data = Pictures()
    made, state = fit(tmp_path, data=data, share=share)
    batch = batch_of(data, 8)
    together = tensors(explained(made, state, batch))
    chunked = tensors(explained(made, state, batch, classifier(batch_size=1)))
    explain = ag_cyclegan(made.model, state, **made.params)
    for i in (7, 0, 4):
        alone = tensors(explain(batch.take(slice(i, i + 1))))
        for name, value in together.items():
            assert torch.allclose(value[i : i + 1], alone[name], atol=1e-5), name
            assert torch.allclose(value, chunked[name], atol=1e-5), name


def test_translation_leaves_the_domain_of_the_label_whatever_the_target(tmp_path):
    data = Pictures()
    made, state = fit(tmp_path, data=data)
    batch = batch_of(data, 8)
    found = explained(made, state, batch)
    other = explained(made, state, batch.with_target(1 - batch.target))
    assert same(tensors(found), tensors(other))
    # Directions exchanged: each image then goes through the other network.
    other_way = {"ab": "ba", "ba": "ab"}
    crossed = {other_way.get(name[:2], name[:2]) + name[2:]: value for name, value in state.items() if name != "bank"}
    turned = explained(made, {**crossed, "bank": state["bank"]}, batch)
    for label in (0, 1):
        rows = batch.label == label
        single = make_batch(
            Samples(batch.image[rows].numpy()), tuple("x" * int(rows.sum())), 1 - batch.label[rows], 0, 2
        )
        assert torch.allclose(explained(made, state, single).attribution, turned.attribution[rows], atol=1e-6)
    assert not torch.allclose(found.attribution, turned.attribution, atol=1e-4)


def test_cycle_is_the_translation_translated_back(tmp_path):
    data = Pictures()
    made, state = fit(tmp_path, data=data)
    batch = batch_of(data, 8)
    found = explained(made, state, batch)
    back = make_batch(Samples(found.counterfactual.numpy()), batch.sample_id, batch.counter_target, 0, 2)
    assert torch.allclose(explained(made, state, back).counterfactual, found.extras["cycle"], atol=1e-5)


def test_bank_holds_the_differences_of_training_images(tmp_path):
    data = Pictures((40, 33))
    made, state = fit(tmp_path, data=data)
    assert state["bank"].shape == (2, 32, *data.shape)
    for label in (0, 1):
        ids = [name for name, each in zip(data.index("train").ids, data.labels, strict=True) if each == label]
        places = np.linspace(0, len(ids) - 1, 32).round().astype(int)
        chosen = [ids[i] for i in places]
        batch = make_batch(data.load(chosen), tuple(chosen), torch.full((32,), label), 0, 2)
        difference = explained(made, state, batch).extras["difference"]
        assert torch.allclose(difference, state["bank"][label], atol=1e-5)


def test_swapped_adds_the_difference_of_its_class_that_overlaps_least_with_its_own():
    # Donors lie on pixels 0 and 1, 1 and 2, 2 and 3 of four; those of class 1 are ten times as large and negative.
    ones = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]) / 100
    bank = torch.stack([ones, -10 * ones]).view(2, 3, 1, 1, 4)
    own = torch.tensor([[0.03, 0, 0, 0], [0, 0, 0, -0.02], [0.005, 0.005, 0.005, 0.02]]).view(3, 1, 1, 4)
    image = torch.full((3, 1, 1, 4), 0.5)
    for label in (0, 1):
        got = (swapped(image, own, torch.full((3,), label), bank) - image).view(3, 4)
        # The first lies on pixel 0 alone, so that two donors overlap by nothing and the former of them is taken.
        assert torch.allclose(got, bank[label, [1, 0, 0], 0, 0], atol=1e-6)
    assert swapped(torch.ones_like(image), own, torch.zeros(3, dtype=torch.int64), bank).max() == 1


def test_a_difference_that_is_next_to_nothing_is_not_swapped_in_unless_there_is_no_other():
    image, label = torch.full((1, 1, 1, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    own = torch.tensor([0.2, 0.2, 0, 0]).view(1, 1, 1, 4)
    nothing, faint, like = torch.zeros(4), torch.tensor([0, 0, 0, 0.19]), torch.tensor([0.2, 0.1, 0, 0])
    bank = torch.stack([nothing, faint, like]).view(1, 3, 1, 1, 4).expand(2, -1, -1, -1, -1)
    assert torch.allclose(swapped(image, own, label, bank) - image, like.view(1, 1, 1, 4))
    assert torch.allclose(swapped(image, own, label, bank[:, :2]) - image, faint.view(1, 1, 1, 4))


def test_a_stamp_is_swapped_for_itself_and_an_image_of_no_change_gets_some_change():
    stamp = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0)) / 4
    bank = stamp.expand(2, 7, 1, 5, 6)
    image = torch.full((4, 1, 5, 6), 0.5)
    label = torch.tensor([0, 1, 0, 1])
    assert torch.allclose(swapped(image, stamp.expand(4, -1, -1, -1), label, bank), image + stamp)
    assert torch.allclose(swapped(image, torch.zeros_like(image), label, bank), image + stamp)


def noise_case(channels=3, height=9, width=7):
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(4, channels, height, width, generator=draw)
    difference = (torch.rand(4, channels, height, width, generator=draw) - 0.5) * 0.1
    inside = torch.rand(4, height, width, generator=draw) < 0.4
    return image, difference, inside, torch.arange(8).view(4, 2)


def test_noise_changes_as_much_as_the_translation_and_only_inside():
    image, difference, inside, keys = noise_case()
    image = image * 0.2 + 0.4  # nothing is cut
    noise = noised(image, difference, inside, keys) - image
    assert torch.allclose(noise.abs().sum(dim=(1, 2, 3)), difference.abs().sum(dim=(1, 2, 3)), rtol=1e-4)
    assert (noise[~inside[:, None].expand_as(noise)] == 0).all()
    # The same values, dealt to other pixels, with both signs.
    for i in range(4):
        scale = difference[i].abs().sum() / difference[i][:, inside[i]].abs().sum()
        wanted = (difference[i][:, inside[i]].abs() * scale).sort(dim=1).values
        got = noise[i][:, inside[i]]
        assert torch.allclose(got.abs().sort(dim=1).values, wanted, atol=1e-5)
        assert not torch.allclose(got.abs(), difference[i][:, inside[i]].abs() * scale, atol=1e-3)
        assert 0.2 < (got > 0).float().mean() < 0.8


def test_noise_keeps_the_channels_of_a_pixel_together():
    image, difference, inside, keys = noise_case()
    difference = difference[:, :1] * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) / 3
    image = image * 0.2 + 0.4
    noise = (noised(image, difference, inside, keys) - image).abs()
    assert torch.allclose(noise[:, 1], 2 * noise[:, 0], atol=1e-5)
    assert torch.allclose(noise[:, 2], 3 * noise[:, 0], atol=1e-5)


def test_noise_turns_signs_rather_than_leave_the_range():
    image, difference, inside, keys = noise_case()
    image = image.round()  # black or white: one sign only is left
    noise = noised(image, difference, inside, keys) - image
    sizes = noise.abs().sum(dim=(1, 2, 3)) / difference.abs().sum(dim=(1, 2, 3))
    assert torch.allclose(sizes, torch.ones(4), rtol=1e-4)


def test_noise_goes_everywhere_where_no_pixel_is_inside():
    image, difference, inside, keys = noise_case()
    noise = noised(image * 0.2 + 0.4, difference, inside & False, keys) - (image * 0.2 + 0.4)
    assert torch.allclose(noise.abs().sum(), difference.abs().sum(), rtol=1e-4)
    assert torch.equal(noised(image, difference * 0, inside, keys), image)


def test_taps_are_the_last_maps_of_each_resolution_behind_their_relu():
    model = classifier()
    assert taps(model, (1, 12, 16)) == {"one": 3, "two": 5}
    image = torch.rand(2, 1, 12, 16)
    one, two = Trunk(model.module, ["one", "two"])(image * 2 - 1)
    wanted = model.module.one(image)
    assert torch.allclose(one, wanted, atol=1e-6)
    assert torch.allclose(two, model.module.two(model.module.pool(wanted)), atol=1e-6)


def test_maps_are_kept_from_what_happens_in_place_behind_them():
    class Densely(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3, padding=1)

        def forward(self, x):
            return nn.functional.relu(self.conv(x), inplace=True).mean(dim=(2, 3))

    module, image = Densely().requires_grad_(False), torch.rand(2, 1, 8, 8)
    assert torch.allclose(Trunk(module, ["conv"])(image * 2 - 1)[0], module.conv(image), atol=1e-6)


def test_network_without_maps_cannot_be_shared(tmp_path):
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(12 * 16, 2)))
    with pytest.raises(Unsupported, match="share=none"):
        fit(tmp_path / "a", model=model, share="attention")
    fit(tmp_path / "b", model=model, share="none", judge="own")


@pytest.mark.parametrize(
    ("share", "attention", "generator"),
    [
        ("none", False, False),
        ("attention", True, False),
        ("attention+generator", True, True),
        ("init_only", False, False),
    ],
)
def test_frozen_backbone_is_what_the_explained_classifier_sees(tmp_path, share, attention, generator):
    made, state = fit(tmp_path, share=share)
    other = classifier()
    with torch.no_grad():
        other.module.two[0].weight.neg_()
    batch = batch_of(Pictures())
    mine, theirs = explained(made, state, batch), explained(made, state, batch, other)
    assert torch.equal(mine.attribution, theirs.attribution) == (not attention)
    assert torch.equal(mine.counterfactual, theirs.counterfactual) == (not (attention or generator))
    held = {"attention": False, "generator": False}
    for name in state:
        for part in held:
            held[part] |= f"{part}.encoder.one.0.weight" in name
    assert set(held.values()) == {share == "init_only"}


def test_copied_backbone_starts_as_the_classifier_and_is_trained_on(tmp_path):
    made = context(tmp_path / "0", share="init_only", lr=1e-12)
    start = fit_ag_cyclegan(made)
    name = "ab.attention.encoder.two.0.weight"
    assert torch.allclose(start[name], made.model.module.two[0].weight, atol=1e-6)
    _, trained = fit(tmp_path / "1", share="init_only")
    assert not torch.allclose(trained[name], start[name], atol=1e-5)


def test_copied_judges_start_as_the_classifier_and_are_trained_on():
    model, image = classifier(), torch.rand(2, 1, 12, 16) * 2 - 1
    sizes = recipe({**SPEC.params, **TINY}, 1).sizes
    make = judge_of(model, (1, 12, 16), sizes, "classifier")
    one, two = make(), make()
    scores = one(image, True)
    assert scores.shape == (2, 1, 6, 8)
    assert torch.allclose(scores, one.last(Trunk(model.module, ["two"])(image)[0]), atol=1e-6)
    scores.sum().backward()
    assert one.encoder.two[0].weight.grad.abs().sum() > 0
    assert two.encoder.two[0].weight.grad is None
    assert not model.module.two[0].weight.requires_grad
    assert isinstance(judge_of(model, (1, 12, 16), sizes, "own")(), Discriminator)


def test_switch_keeps_a_copied_backbone_of_the_attention_frozen(tmp_path):
    _, short = fit(tmp_path / "1", share="init_only", switch=0.0, iterations=1, epochs=1)
    _, longer = fit(tmp_path / "2", share="init_only", switch=0.0)
    for name in short:
        if ".attention." in name:
            assert torch.equal(short[name], longer[name]), name
