"""A plain function is a component like any other: found by its name, declared by its signature, its numbers its own."""

import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import xbench
from xbench import api, cli, codehash
from xbench.building import build_module
from xbench.components import Component, resolve
from xbench.data import Samples
from xbench.errors import XbenchError
from xbench.models import Model
from xbench.plugins import discover
from xbench.scoring import ask, build_explainer
from xbench.tensors import make_batch
from xbench.user_code import own_kind

MINE = '''
import torch
from torch import nn

from beside import SCALE

LAYER = nn.Linear(2, 2)
number = 3


def gradient(model, image, target, times=1.0, absolute=False, how="sum", shape=(1, 2)):
    """The gradient of the logit."""
    image.requires_grad_(True)
    model(image).gather(1, target[:, None]).sum().backward()
    found = image.grad.sum(dim=1) * times * SCALE
    return found.abs() if absolute else found


def array(model, image, target):
    return image.mean(dim=1).numpy()


def channels(model, image, target):
    return image


def counted(model, image, target):
    with torch.no_grad():
        first, second = model(image), model(image)
    assert first.shape[1] == 2 and not model.training
    return torch.zeros_like(image[:, 0]) + first[:, 1, None, None]


def leaves_a_hook(model, image, target):
    model.register_forward_hook(lambda *_: None)
    return image.sum(dim=1)


def noisy(model, image, target):
    return torch.rand_like(image[:, 0])


def two(model, image):
    return image


def needs(model, image, target, sigma):
    return image.sum(dim=1) * sigma


def anything(model, image, target, **more):
    return image.sum(dim=1) * more["factor"]


class Net(nn.Module):
    def __init__(self, channels=1, outputs=2):
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.head = nn.Linear(3, outputs)

    def forward(self, image):
        return self.head(self.conv(image).relu().mean(dim=(2, 3)))


def net(outputs=2):
    return Net(1, outputs)


def told(shape, classes, width=1):
    network = Net(shape[0], len(classes))
    network.told = (shape, classes, width)
    return network


def no_net():
    return 3


def own_weights(weights):
    return Net()
'''


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A folder with mine.py, in which the user stands."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "beside.py").write_text("SCALE = 1.0\n")
    (folder / "fails.py").write_text("1 / 0\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in ("mine", "beside", "fails"):
        sys.modules.pop(name, None)
    codehash._source.cache_clear()


def found(text, kind="explainer"):
    mistakes = []
    component = resolve(kind, text, discover(), mistakes)
    assert component is not None, mistakes
    assert mistakes == []
    return component


def refused(text, kind="explainer"):
    mistakes = []
    resolve(kind, text, discover(), mistakes)
    (line,) = mistakes
    return line


def batch_of(n=3, channels=1, size=6):
    image = torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0)).numpy()
    return make_batch(Samples(image), tuple(map(str, range(n))), torch.zeros(n, dtype=torch.int64), 0, 2)


def built(text, shape=(1, 6, 6), classes=("a", "b")):
    component = found(text, "model")
    return Model(build_module(component, shape, classes, 0), component.spec.link)


def explained(text, model=None, batch=None):
    model = model or built("python:mine.net")
    return ask(build_explainer(found(text), model), batch or batch_of(), "key")


def test_a_function_gets_the_network_and_the_classes_and_its_map_is_scored_as_it_is():
    model = built("python:mine.net")
    image = batch_of().image.requires_grad_(True)
    model.module(image)[:, 0].sum().backward()
    torch.testing.assert_close(explained("python:mine.gradient[times=2]", model), 2 * image.grad.sum(dim=1))


def test_defaults_of_the_signature_are_typed_parameters():
    component = found("python:mine.gradient[times=3,absolute=yes]")
    assert component.params == {"times": 3.0, "absolute": True, "how": "sum", "polarity": "signed"}
    assert component.spec.id == "python:mine.gradient"
    assert component.spec.summary == "The gradient of the logit."
    assert component.text == "python:mine.gradient[times=3.0,absolute=true]"
    assert found(component.text).params == component.params
    assert found("python:mine.anything[factor=2]").params == {"factor": 2, "polarity": "signed"}
    assert found("python:mine.needs[sigma=0.5]").params == {"sigma": 0.5, "polarity": "signed"}


def test_an_array_is_as_good_as_a_tensor():
    torch.testing.assert_close(explained("python:mine.array"), batch_of().image.mean(dim=1))


def test_passes_of_a_function_are_counted_and_one_logit_becomes_two():
    model = built("python:mine.net[outputs=1,link=sigmoid]")
    before = model.passes.forwards
    made = explained("python:mine.counted", model)
    assert model.passes.forwards - before == 2 * 3
    torch.testing.assert_close(made[:, 0, 0], model.module(batch_of().image)[:, 0])
    explained("python:mine.gradient", model)
    assert model.passes.backwards == 3


def test_what_a_function_draws_comes_from_the_batch():
    one, again = explained("python:mine.noisy"), explained("python:mine.noisy")
    torch.testing.assert_close(one, again)
    assert one.std() > 0.1


def test_a_function_can_be_wrapped_and_asked_without_a_run():
    assert found("controls/blur[of=python:mine.array]").text == "controls/blur[of=python:mine.array]"
    network = built("python:mine.net").module
    image = batch_of().image
    torch.testing.assert_close(xbench.explain(network, image, "python:mine.array"), image.mean(dim=1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python:mine.gradeint", r"mine\.py has no function 'gradeint'; did you mean 'gradient'\?"),
        ("python:nowhere.explain", r"there is no module 'nowhere': nowhere\.py is not in .*mine, and no such package"),
        ("python:mine.deeper.explain", r"there is no module 'mine\.deeper'"),
        ("python:fails.explain", r"the module 'fails' cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("python:mine.two", r"takes \(model, image\); an explainer takes \(model, image, target\)"),
        ("python:mine.needs", r"needs 'sigma': write python:mine\.needs\[sigma=\.\.\.\], or give it a default"),
        ("python:mine.number", r"'number' in .*mine\.py is of type int; a function is needed"),
        ("python:mine.LAYER", r"'LAYER' in .*mine\.py is a network; write a function that returns it"),
        ("python:mine.gradient[tims=2]", r"has no parameter 'tims'; did you mean 'times'\?"),
        ("python:mine.gradient[times=many]", r"'many' is not a number"),
        ("python:mine", r"is not written python:module\.function"),
    ],
)
def test_a_mistake_is_one_line(text, said):
    assert re.search(said, refused(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python:mine.net[normalise=imagnet]", "is not possible; did you mean 'imagenet'?"),
        ("python:mine.net[normalise=half,mean=0.5]", "normalise says what mean and std are"),
        ("python:mine.net[mean=grey]", "mean=grey is neither a number nor a list like [0.485,0.456,0.406]"),
        ("python:mine.own_weights", "needs weights=, which the harness keeps for itself"),
    ],
)
def test_a_mistake_about_a_model_is_one_line(text, said):
    assert said in refused(text, "model")


def test_only_explainers_and_models_are_functions():
    assert "a package of its own" in refused("python:mine.net", "dataset")


def test_what_comes_back_must_be_a_network():
    with pytest.raises(XbenchError, match=r"^python:mine\.no_net returned a int; a torch\.nn\.Module is needed$"):
        built("python:mine.no_net")


def test_a_factory_is_told_shape_and_classes_where_it_asks():
    model = built("python:mine.told[width=4]", (3, 6, 6), ("a", "b", "c"))
    assert model.module.told == ((3, 6, 6), ("a", "b", "c"), 4)
    assert model.logits(torch.rand(2, 3, 6, 6)).shape == (2, 3)


@pytest.mark.parametrize(
    ("how", "mean", "std"),
    [
        ("normalise=half", (0.5,) * 3, (0.5,) * 3),
        ("normalise=imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("mean=[0.1,0.2,0.3],std=2", (0.1, 0.2, 0.3), (2.0,) * 3),
    ],
)
def test_normalisation_is_inside(how, mean, std):
    plain, model = (
        built("python:mine.Net[channels=3]", (3, 6, 6)),
        built(f"python:mine.Net[channels=3,{how}]", (3, 6, 6)),
    )
    image = torch.rand(2, 3, 6, 6)
    shifted = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(model.logits(image), plain.logits(shifted))


def test_a_normalised_network_has_the_layers_it_had():
    model = built("python:mine.net[normalise=half]")
    assert model.module.conv.out_channels == 3
    assert not hasattr(model.module, "layer4")
    activation, _ = model.tap(torch.rand(1, 1, 6, 6), "conv")
    assert activation.shape == (1, 3, 6, 6)
    with pytest.raises(ValueError, match="no layer 'covn'"):
        model.tap(torch.rand(1, 1, 6, 6), "covn")


def test_weights_are_loaded_and_their_content_is_the_key(mine):
    def key(path):
        return found(f"python:mine.net[weights={path}]", "model").definition()["weights"]

    state = {name: torch.full_like(value, 0.25) for name, value in built("python:mine.net").module.state_dict().items()}
    save_file(state, mine / "a.safetensors")
    torch.save(state, mine / "b.pt")
    model = built("python:mine.net[weights=a.safetensors]")
    assert all((value == 0.25).all() for value in model.module.state_dict().values())
    assert key("a.safetensors") != key("b.pt")
    before = key("a.safetensors")
    save_file({name: value * 2 for name, value in state.items()}, mine / "a.safetensors")
    assert key("a.safetensors") != before
    save_file({"other": torch.ones(1)}, mine / "c.safetensors")
    with pytest.raises(XbenchError, match=r"^weights=c\.safetensors do not fit the network"):
        built("python:mine.net[weights=c.safetensors]")


def test_the_key_moves_with_the_code_and_with_what_lies_beside_it(mine):
    def code():
        return found("python:mine.array").definition()["code"]

    def rewrite(name, text):
        path = mine / name
        stamp = path.stat().st_mtime_ns + 1_000_000_000
        path.write_text(text)
        os.utime(path, ns=(stamp, stamp))

    first = code()
    assert first != "none"
    rewrite("mine.py", MINE + "\n# a comment\n")
    assert code() == first
    rewrite("beside.py", "SCALE = 2.0\n")
    second = code()
    assert second != first
    rewrite("mine.py", MINE.replace("mean(dim=1).numpy()", "sum(dim=1).numpy()"))
    assert code() not in (first, second)


def test_installed_modules_come_before_files_of_the_folder(mine):
    (mine / "colorsys.py").write_text("def explain(model, image, target): ...\n")
    assert "has no function 'explain'" in refused("python:colorsys.explain")
    assert sys.path[-1] == str(mine)


@pytest.mark.usefixtures("fakes")
def test_functions_are_ranked_by_a_run_beside_installed_explainers(tmp_path):
    names = "python:mine.gradient,fake/weights,python:mine.channels,python:mine.leaves_a_hook"
    run = api.run(
        "blobs",
        out=tmp_path / "run",
        model="python:mine.told",
        explainer=names,
        limit=12,
        executor="local",
        device="cpu",
    )
    rows = {row.explainer: row for row in run.rows if row.metric == "localisation_precision"}
    assert rows["python:mine.gradient"].status == "ok"
    assert {row.model for row in rows.values()} == {"python:mine.told"}
    assert rows["python:mine.channels"].status == "invalid_map"
    assert "attribution has shape (12, 1, 8, 8); (12, 8, 8) is needed" in rows["python:mine.channels"].reason
    assert "the hooks of the model" in rows["python:mine.leaves_a_hook"].reason
    again = api.run(
        "blobs",
        out=tmp_path / "inline",
        model="python:mine.told",
        explainer=names.partition(",")[0],
        limit=12,
        executor="inline",
        device="cpu",
    )
    (row,) = [row for row in again.rows if row.metric == "localisation_precision"]
    assert row.mean == rows["python:mine.gradient"].mean


def test_a_component_is_a_value():
    assert found("python:mine.array") == found("python:mine.array")
    assert isinstance(found("python:mine.array"), Component)


def test_a_file_that_was_edited_is_read_again(mine):
    assert explained("python:mine.array").mean() > 0
    path = mine / "mine.py"
    stamp = path.stat().st_mtime_ns + 1_000_000_000
    path.write_text(MINE.replace("image.mean(dim=1).numpy()", "-image.mean(dim=1).numpy()"))
    os.utime(path, ns=(stamp, stamp))
    assert explained("python:mine.array").mean() < 0


def test_a_function_written_without_its_prefix_gets_it_as_a_hint():
    assert "a function of your own is written python:mine.array" in refused("mine.array")
    assert "python:" not in refused("cam/gradcma")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("python:mine.gradient", "explainer"),
        ("python:mine.needs[sigma=2]", "explainer"),
        ("python:mine.net[outputs=3]", "model"),
        ("python:mine.told", "model"),
        ("python:mine.two", "explainer"),
    ],
)
def test_a_function_is_taken_for_what_its_signature_says(text, kind):
    assert own_kind(text.partition("[")[0]) == kind


def test_the_conformance_kit_takes_functions(capsys):
    assert cli.main(["check", "python:mine.gradient[times=2]", "python:mine.told"]) == 0
    shown = capsys.readouterr().out
    assert "explainer python:mine.gradient[times=2.0]\n" in shown
    assert "model python:mine.told (toy images of 3 x 64 x 64; --data ID takes others)\n" in shown
    assert "FAILED" not in shown
    assert cli.main(["check", "python:mine.leaves_a_hook", "python:mine.net", "--failures"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED  leaves the model as it was" in shown
    assert "FAILED  gives a logit a class" in shown  # it takes grey images
    assert cli.main(["check", "python:mine.told[width=2]", "--data", "mnist/digits"]) == 0
    assert "model python:mine.told[width=2]\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python:mine.two", "takes (model, image)"),
        ("python:mine.gradeint", "did you mean 'gradient'"),
        ("python:nobody.one", "no module 'nobody'"),
        ("python:mine.gradient[polarity=plus]", "signed, positive, non_contributing"),
    ],
)
def test_the_conformance_kit_says_in_a_line_what_is_wrong_with_a_name(text, said, capsys):
    assert cli.main(["check", text]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_the_polarity_of_a_function_can_be_said_and_moves_no_other_key(monkeypatch):
    plain, positive, signed = (
        resolve("explainer", f"python:mine.gradient{tail}", discover(), [])
        for tail in ("", "[polarity=positive]", "[polarity=signed]")
    )
    assert (plain.polarity, positive.polarity, signed.polarity) == ("signed", "positive", "signed")
    assert positive.text == "python:mine.gradient[polarity=positive]"
    assert signed.text == plain.text
    assert signed.definition() == plain.definition()
    assert positive.definition() == {**plain.definition(), "polarity": "positive"}
    # What a key held before a polarity could be written.
    assert set(plain.definition()["params"]) == {"times", "absolute", "how"}


def test_the_polarity_is_the_harness_s_unless_the_function_has_one(mine):
    (mine / "poles.py").write_text(
        "def own(model, image, target, polarity='north'):\n    return image.mean(dim=1) * (1 if polarity == 'north' else -1)\n"
        "def any(model, image, target, **more):\n    assert not more\n    return image.mean(dim=1)\n"
    )
    image = torch.rand(2, 1, 8, 8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    north, south = (xbench.explain(net, image, f"python:poles.own[polarity={pole}]") for pole in ("north", "south"))
    assert torch.equal(north, -south)
    own = resolve("explainer", "python:poles.own[polarity=south]", discover(), [])
    assert own.polarity == "signed"
    assert own.definition()["params"] == {"polarity": "south"}
    assert torch.equal(xbench.explain(net, image, "python:poles.any[polarity=positive]"), image.mean(dim=1))
    sys.modules.pop("poles")


def test_a_network_of_more_outputs_than_a_folder_has_classes_is_told_how_to_name_them(mine):
    for label in ("ant", "bee"):
        (mine / "photos" / label).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(mine / "photos" / label / f"{i}.png")
    (mine / "wide.py").write_text(
        "from torch import nn\ndef wide(n=1000):\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(),"
        " nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n))\n"
    )
    given = {"data": "folder", "data.root": "photos", "data.size": "32", "data.split": "none", "limit": 2}
    common = {
        **given,
        "explainer": "controls/random",
        "metric": "deletion,accuracy",
        "executor": "inline",
        "device": "cpu",
    }
    run = api.run(suite="photos", model="python:wide.wide", out=mine / "run", **common)
    for _, status, reason in run.failures:
        assert status == "error"
        assert "the model gives 1000 classes; the data set has 2; name all of them" in reason
        assert "data.classes=FILE" in reason
    assert run.failures
    (mine / "names.txt").write_text("ant\nbee\ncat\n")
    run = api.run(
        suite="photos", model="python:wide.wide[n=3]", out=mine / "run", **common, **{"data.classes": "names.txt"}
    )
    assert run.failures == []
    sys.modules.pop("wide")


def test_show_tells_what_a_function_takes(capsys):
    assert cli.main(["show", "python:mine.gradient[times=2]"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("explainer python:mine.gradient\nThe gradient of the logit.\n")
    assert all(name in shown for name in ("times", "absolute", "how", "polarity", "non_contributing"))
    assert cli.main(["show", "python:mine.told"]) == 0
    assert capsys.readouterr().out.startswith("model python:mine.told\n")
    assert cli.main(["show", "python:mine.needs"]) == 2
    assert "write python:mine.needs[sigma=...]" in capsys.readouterr().err
