"""A network of one's own is explained as a run explains it, and given back as it was."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import xbench
from xbench.errors import XbenchError
from xbench.fit_tasks import open_dataset
from xbench.models import Model
from xbench.plugins import discover
from xbench.store import Store

EVERY = [
    *(
        "cam/gradcam",
        "cam/gradcam_pp",
        "cam/layercam",
        "cam/scorecam",
        "gradients/gradient",
        "gradients/input_x_gradient",
    ),
    *(
        "gradients/guided_backprop",
        "relevance/deep_taylor",
        "relevance/lrp",
        "perturbation/occlusion",
        "captum/deeplift",
    ),
    *("captum/integrated_gradients[steps=5]", "gradients/smoothgrad[n=3]", "controls/random", "controls/sobel"),
    *("perturbation/rise[n=20]", "perturbation/lime[n=20]", "controls/blur[of=cam/gradcam]"),
]


class Net(nn.Sequential):
    """Two convolutions, a batch normalisation with a history, dropout."""

    def __init__(self, channels=1, classes=3):
        torch.manual_seed(0)
        super().__init__(
            *(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(6, classes),
        )
        self(torch.rand(8, channels, 12, 12))


def images(n=3, channels=1):
    return np.random.default_rng(0).random((n, channels, 12, 12), dtype=np.float32)


def state(module):
    """Return all that must be as it was."""
    return {
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "modes": [part.training for part in module.modules()],
        "trained": [value.requires_grad for value in module.parameters()],
        "gradients": [None if value.grad is None else value.grad.clone() for value in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


@pytest.mark.parametrize("explainer", EVERY)
@pytest.mark.parametrize("normalised", [False, True], ids=["bare", "normalised"])
def test_every_kind_of_explainer_explains_and_leaves_the_network_as_it_was(explainer, normalised):
    module = Net(channels=3).train()
    module[0].weight.requires_grad_(False)
    module(torch.rand(2, 3, 12, 12)).sum().backward()
    given, before, drawn = images(channels=3), state(module), torch.get_rng_state()
    kept = given.copy()
    found = xbench.explain(module, given, explainer, **({"mean": [0.4, 0.5, 0.6], "std": 0.2} if normalised else {}))
    after = state(module)
    assert all(torch.equal(before["values"][name], value) for name, value in after["values"].items())
    assert before["gradients"][0] is None
    assert all(
        one is other or torch.equal(one, other)
        for one, other in zip(before["gradients"], after["gradients"], strict=True)
    )
    assert [before[what] for what in ("modes", "trained", "hooks")] == [
        after[what] for what in ("modes", "trained", "hooks")
    ]
    assert torch.equal(drawn, torch.get_rng_state())
    np.testing.assert_array_equal(given, kept)
    assert (found.shape, found.dtype) == ((3, 12, 12), np.float32)
    assert np.isfinite(found).all()


PRECISIONS = {
    "untouched": "",
    "older": "torch.backends.cuda.matmul.allow_tf32 = True",
    "newer": "torch.backends.fp32_precision = 'tf32'",
    "medium": "torch.set_float32_matmul_precision('medium')",
}


@pytest.mark.parametrize("set_by_the_user", PRECISIONS.values(), ids=PRECISIONS)
def test_gpus_keep_to_float32_and_are_set_as_before_afterwards(set_by_the_user):
    if "fp32" in set_by_the_user and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch is older than 2.9")
    script = f"""
import numpy as np, torch, xbench
{set_by_the_user}

def told():
    found = []
    for ask in (
        lambda: torch.backends.cuda.matmul.fp32_precision,
        lambda: torch.backends.cudnn.conv.fp32_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
        lambda: torch.backends.cudnn.deterministic,
        torch.get_float32_matmul_precision,
    ):
        try:
            found.append(ask())
        except (RuntimeError, AttributeError) as error:  # asked by the older name, set by the newer
            found.append(type(error).__name__)
    return found

class Net(torch.nn.Sequential):
    def forward(self, image):
        inside.append(told())
        return super().forward(image)

inside, before = [], told()
xbench.explain(Net(torch.nn.Flatten(), torch.nn.Linear(16, 2)), np.ones((1, 1, 4, 4), np.float32), "gradients/gradient")
assert told() == before, (told(), before)
newer = hasattr(torch.backends.cuda.matmul, "fp32_precision")
assert all(one[:2] == ["ieee"] * 2 if newer else one[2:4] == [False] * 2 for one in inside), inside
assert all(one[4] for one in inside), inside
print("ok")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


def test_it_is_the_explanation_of_a_run(fakes, tmp_path):
    from xbench_fake.models import Halves

    run = xbench.run(
        "blobs", explainer="controls/random,fake/weights", limit=20, out=tmp_path, executor="inline", device="cpu"
    )
    data = open_dataset(discover_dataset(), None)
    for maps in run.explanations():
        pixels = data.load(maps.samples).image
        found = xbench.explain(Halves((1, 8, 8)), pixels, maps.explainer, ids=maps.samples)
        np.testing.assert_allclose(maps.attribution, found, rtol=2**-11, atol=1e-7)
    assert len(run.explanations()) == 2
    assert list(Store(tmp_path))


def discover_dataset():
    from xbench.components import resolve

    return resolve("dataset", "fake/blobs", discover(), [])


def test_normalisation_is_that_of_the_network_itself():
    """(image - mean) / std before the network, or by its first layer: one function of the image, one gradient."""
    inner, mean, std = Net(channels=3), torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, image):
            return self.inner((image - mean.view(3, 1, 1)) / std.view(3, 1, 1))

    given = images(channels=3)
    for explainer in ("gradients/gradient", "cam/gradcam", "relevance/lrp", "captum/deeplift"):
        apart = xbench.explain(inner, given, explainer, 1, mean=mean.tolist(), std=std.tolist())
        np.testing.assert_allclose(apart, xbench.explain(Whole(), given, explainer, 1), rtol=1e-5, atol=1e-7)
    assert np.abs(apart - xbench.explain(inner, given, explainer, 1)).max() > 1e-4


def test_a_layer_goes_by_the_networks_own_name_normalised_or_not():
    given = images()
    bare = xbench.explain(Net(), given, "cam/gradcam", 0, layer="1")
    np.testing.assert_array_equal(bare, xbench.explain(Net(), given, "cam/gradcam[layer=1]", 0))
    np.testing.assert_allclose(
        bare, xbench.explain(Net(), given, "cam/gradcam", 0, layer="1", mean=0.0, std=1.0), atol=1e-7
    )
    assert np.abs(bare - xbench.explain(Net(), given, "cam/gradcam", 0)).max() > 1e-4
    for normalised in ({}, {"mean": 0.5}):
        with pytest.raises(XbenchError, match="no layer '11'; did you mean '1'"):
            xbench.explain(Net(), given, "cam/gradcam", layer="11", **normalised)


def test_the_target_is_predicted_unless_it_is_given():
    module, given = Net(), images()
    predicted = Model(Net()).logits(torch.from_numpy(given)).argmax(dim=1)
    whole = xbench.explain(module, given, "gradients/gradient")
    np.testing.assert_array_equal(whole, xbench.explain(module, given, "gradients/gradient", predicted))
    np.testing.assert_array_equal(whole, xbench.explain(module, given, "gradients/gradient", predicted.tolist()))
    other = xbench.explain(module, given, "gradients/gradient", (predicted + 1) % 3)
    assert np.abs(whole - other).max() > 0


def test_one_image_is_one_map_and_a_tensor_gives_a_tensor():
    module, given = Net(), images()
    whole = xbench.explain(module, given, "cam/gradcam", 1)
    one = xbench.explain(module, torch.from_numpy(given[0]), "cam/gradcam", 1)
    assert isinstance(one, torch.Tensor)
    np.testing.assert_allclose(one.numpy(), whole[0], atol=1e-6)
    np.testing.assert_allclose(xbench.explain(module, given, "cam/gradcam", 1, batch=1), whole, atol=1e-6)


def test_nested_lists_are_an_array_and_half_floats_are_read():
    module, given = Net(), images().astype(np.float16).astype(np.float32)
    whole = xbench.explain(module, given, "cam/gradcam", 1)
    np.testing.assert_array_equal(xbench.explain(module, given.astype(float).tolist(), "cam/gradcam", 1), whole)
    rough = torch.from_numpy(given).bfloat16()
    np.testing.assert_array_equal(
        xbench.explain(module, rough, "cam/gradcam", 1), xbench.explain(module, rough.float(), "cam/gradcam", 1)
    )


def test_one_logit_is_a_sigmoids():
    module = Net(classes=1)
    up, down = (xbench.explain(module, images(), "gradients/input_x_gradient", target) for target in (1, 0))
    np.testing.assert_allclose(up, -down, atol=1e-7)


def test_no_answer_is_nan(fakes):
    found = xbench.explain(Net(classes=2), images(4), "fake/half", [0, 1, 0, 1])
    assert np.isnan(found).all(axis=(1, 2)).tolist() == [True, False, True, False]


@pytest.mark.parametrize("name", ["touches", "hooks"])
def test_an_explainer_that_changes_the_network_is_told(fakes, name):
    with pytest.raises(XbenchError, match=f"fake/{name}: the explainer changed"):
        xbench.explain(Net(classes=2), images(), f"fake/{name}")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"explainer": "cam/gradcm"}, "did you mean 'cam/gradcam'"),
        ({"explainer": "cam/gradcam[scor=prob]"}, "did you mean 'score'"),
        ({"scor": "prob"}, "did you mean 'score'"),
        ({"score": "probability"}, "is not possible"),
        ({"explainer": "translation/ag_cyclegan"}, "must be trained on a data set"),
        ({"explainer": "controls/oracle"}, "needs a mask"),
        ({"explainer": "controls/identity"}, "no attribution"),
        ({"explainer": "controls/blur"}, "say what it wraps"),
        ({"explainer": "controls/blur[of=controls/oracle]"}, "needs a mask"),
        ({"image": images() * 3 - 1}, r"values from -\d.* wants them normalised by as mean= and std="),
        ({"image": (images() * 255).astype(np.uint8)}, "image / 255"),
        ({"image": images()[0, 0]}, r"shape \[12, 12\]"),
        ({"image": images(channels=3)}, r"does not take images of shape \[1, 3, 12, 12\]"),
        ({"image": images()[:0]}, "shape"),
        ({"target": 3}, "classes are 0 to 2"),
        ({"image": [[[0.1, 0.2]]]}, "does not take images of shape"),
        ({"image": [[[0.1], [0.1, 0.2]]]}, "the images cannot be read"),
        ({"image": None}, r"shape \[\]"),
        ({"ids": ["a", "b", "\ud800"]}, "texts that UTF-8 can write"),
        ({"ids": "abc"}, "ids='abc': a list of names"),
        ({"seed": 0.5}, "seed=0.5: a whole number"),
        ({"batch": 0}, "batch=0: 1 or more"),
        ({"link": "logit"}, "link 'logit' is not one of softmax, sigmoid"),
        ({"std": "wide"}, "std='wide': numbers"),
        ({"target": [[0], [0, 1]]}, "target cannot be read"),
        ({"target": [0, 1]}, "one for each of 3 images"),
        ({"model": lambda image: image}, "a torch.nn.Module"),
        ({"model": nn.Flatten(2)}, "does not take images"),
    ],
)
def test_what_is_wrong_is_one_clear_line(change, match):
    given = {"model": Net(), "image": images(), "explainer": "cam/gradcam", **change}
    with pytest.raises(XbenchError, match=match) as caught:
        xbench.explain(**given)
    assert len(caught.value.lines) == 1


@pytest.mark.gpu
def test_a_network_on_the_gpu_explains_as_on_the_cpu():
    given = images()
    found = xbench.explain(Net().cuda(), torch.from_numpy(given).cuda(), "cam/gradcam", 1)
    assert found.is_cuda
    np.testing.assert_allclose(found.cpu().numpy(), xbench.explain(Net(), given, "cam/gradcam", 1), atol=1e-5)
