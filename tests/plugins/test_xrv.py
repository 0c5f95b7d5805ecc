"""Laws of the adapter for TorchXRayVision, on a stand-in of the same interface; on the library itself where it is installed."""

import importlib.util
import math
import sys
import types
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xbench.errors import XbenchError
from xbench.models import Model
from xbench.tensors import Batch
from xbench_cam.gradcam import gradcam
from xbench_chestxray import xbench_models
from xbench_chestxray.xrv import xrv

SPEC = next(spec for spec in xbench_models() if spec.name == "xrv")
CLASSES = ("No Finding", "Cardiomegaly")
TARGETS = [
    *("Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion"),
    *("Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture"),
    *("Lung Opacity", "Enlarged Cardiomediastinum"),
]


class DenseNet(nn.Module):
    """What torchxrayvision.models.DenseNet gives outwards, with one convolution inside."""

    targets = TARGETS

    def __init__(self, num_classes=18, weights=None, op_threshs=None):
        super().__init__()
        assert weights is None, "named weights are downloaded"
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(1, 6, 7, stride=8, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(6))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("conv1", nn.Conv2d(6, 8, 3, stride=4, padding=1))
        self.features.add_module("norm5", nn.BatchNorm2d(8))
        self.classifier = nn.Linear(8, num_classes)
        self.register_buffer("op_threshs", op_threshs)

    def features2(self, x):
        features = self.features(x)
        return F.adaptive_avg_pool2d(F.relu(features, inplace=True), (1, 1)).view(len(x), -1)

    def forward(self, x):
        p = self.classifier(self.features2(x)).sigmoid()
        low, high = p / (self.op_threshs * 2), 1 - (1 - p) / ((1 - self.op_threshs) * 2)
        return torch.where(p < self.op_threshs, low, high)


def trained(thresholds=True, **params):
    """Return a network whose weights and statistics are not those of a fresh one, in eval mode."""
    torch.manual_seed(3)
    network = DenseNet(**params).eval()
    network.features.conv0.weight.data /= 1024
    for part in network.features:
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.2, 1)
    if thresholds:
        network.op_threshs = torch.rand(18) * 0.4 + 0.3
    return network


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Put the stand-in where the library would be."""
    fake = types.ModuleType("torchxrayvision")
    fake.models = types.SimpleNamespace(DenseNet=DenseNet)
    monkeypatch.setitem(sys.modules, "torchxrayvision", fake)


def build(weights="none", shape=(1, 64, 64), classes=CLASSES, **params):
    return xrv(shape, classes, **{**SPEC.params, "weights": str(weights), **params})


def saved(path, network):
    torch.save(network.state_dict(), path)
    return path


def films(channels=1, height=224, width=224):
    return torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(1))


def refusal(**params):
    with pytest.raises(XbenchError) as caught:
        build(**params)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("finding", ["Cardiomegaly", "Atelectasis", "Enlarged Cardiomediastinum"])
def test_logit_is_the_one_in_front_of_the_librarys_sigmoid(tmp_path, finding):
    theirs = trained()
    model = Model(build(saved(tmp_path / "w.pt", theirs), finding=finding, classes=("a", finding)), SPEC.link)
    with torch.no_grad():
        want = theirs.classifier(theirs.features2((films() * 2 - 1) * 1024))[:, TARGETS.index(finding)]
        logits = model.logits(films())
    assert want.std() > 1e-3
    torch.testing.assert_close(logits, torch.stack([-want, want], dim=1))
    torch.testing.assert_close(model.prob(logits)[:, 1], want.sigmoid())


def test_threshold_moves_the_decision_to_where_the_librarys_calibrated_output_is_half(tmp_path):
    theirs = trained()
    image = films() * torch.tensor([0.1, 0.5, 1.0])[:, None, None, None]
    with torch.no_grad():
        raw = theirs.classifier(theirs.features2((image * 2 - 1) * 1024))[:, 10].sigmoid()
        theirs.op_threshs[10] = raw.median() + 1e-6  # one film above it, two below
        calibrated = theirs((image * 2 - 1) * 1024)[:, 10]
        path = saved(tmp_path / "w.pt", theirs)
        model = Model(build(path, threshold=theirs.op_threshs[10].item()), SPEC.link)
        plain = Model(build(path), SPEC.link)
        shift = plain.logits(image)[:, 1] - model.logits(image)[:, 1]
        called = model.prob(model.logits(image))[:, 1] > 0.5
    assert (calibrated > 0.5).tolist() == called.tolist()
    assert sum(called.tolist()) == 1
    threshold = theirs.op_threshs[10].item()
    torch.testing.assert_close(shift, torch.full((3,), math.log(threshold / (1 - threshold))))


def test_state_dicts_without_operating_points_or_with_undefined_ones_are_read(tmp_path):
    theirs = trained(thresholds=False)
    plain = saved(tmp_path / "plain.pt", theirs)
    assert "op_threshs" not in theirs.state_dict()
    theirs.op_threshs = torch.full((18,), math.nan)
    undefined = saved(tmp_path / "undefined.pt", theirs)
    one, other = (build(path).eval() for path in (plain, undefined))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert torch.equal(one.network.features.conv0.weight, theirs.features.conv0.weight)


def test_films_of_any_size_are_resized_to_224_with_antialiasing_and_colours_averaged(tmp_path):
    model = build(saved(tmp_path / "w.pt", trained())).eval()
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for image in (films(1, 64, 64), films(1, 300, 500), films(3, 50, 40), films(1, 224, 224)):
        with torch.no_grad():
            assert model(image).shape == (3, 1)
            grey = image.mean(dim=1, keepdim=True)
        want = F.interpolate(grey, size=(224, 224), mode="bilinear", antialias=True)
        torch.testing.assert_close(seen[-1], want * 2048 - 1024)
    grey = films(1, 50, 40)
    torch.testing.assert_close(model(grey.expand(-1, 3, -1, -1)), model(grey), rtol=1e-4, atol=1e-4)


def test_black_and_white_are_the_ends_of_the_librarys_pixel_range():
    model = build().eval()
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.stack([torch.zeros(1, 224, 224), torch.ones(1, 224, 224)]))
    assert [seen[0][i].unique().tolist() for i in (0, 1)] == [[-1024.0], [1024.0]]


def test_cam_layer_opens_behind_the_last_relu_and_before_the_pooling(tmp_path):
    theirs = trained()
    model = Model(build(saved(tmp_path / "w.pt", theirs)), SPEC.link)
    assert model.default_layer(films()) == "network.relu"
    activation, logits = model.tap(films())
    with torch.no_grad():
        torch.testing.assert_close(activation, theirs.features((films() * 2 - 1) * 1024).relu())
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), activation)
    want = theirs.classifier.weight[10] / activation.shape[2:].numel()
    torch.testing.assert_close(gradient, want[None, :, None, None].expand_as(gradient))
    # Also the layer in front of it, whose output an in-place ReLU would overwrite.
    before, _ = model.tap(films(), "network.features.norm5")
    assert (before < 0).any()
    torch.testing.assert_close(before.relu(), activation.detach())


def test_gradcam_is_the_classifiers_row_on_the_last_maps(tmp_path):
    theirs = trained()
    model = Model(build(saved(tmp_path / "w.pt", theirs)), SPEC.link)
    ones = torch.ones(3, dtype=torch.int64)
    batch = Batch(image=films(), sample_id=("a", "b", "c"), label=ones, target=ones, keys=ones[:, None].repeat(1, 2))
    found = gradcam(model, score="logit", layer="")(batch).attribution
    with torch.no_grad():
        maps = theirs.features((films() * 2 - 1) * 1024).relu()
        weighted = torch.einsum("bfhw,f->bhw", maps, theirs.classifier.weight[10]).relu() / maps.shape[2:].numel()
    want = F.interpolate(weighted[:, None], size=(224, 224), mode="bilinear", align_corners=False)[:, 0]
    assert want.flatten(1).std(dim=1).min() > 0
    torch.testing.assert_close(found, want)


def test_files_that_are_not_bare_tensors_or_do_not_fit_are_refused(tmp_path):
    torch.save(trained(), tmp_path / "whole.pt")
    assert "only tensors are safe to read" in refusal(weights=tmp_path / "whole.pt")
    assert "there is no file" in refusal(weights=tmp_path / "gone.pt")
    assert "has no published weights" in refusal(weights="imagenet")
    other = saved(tmp_path / "other.pt", trained(thresholds=False, num_classes=5))
    assert "classifier.weight [5, 8] where the network has [18, 8]" in refusal(weights=other)
    state = trained().state_dict()
    state.pop("features.conv1.bias")
    torch.save(state, tmp_path / "less.pt")
    assert "1 missing: features.conv1.bias" in refusal(weights=tmp_path / "less.pt")


def test_weights_none_are_random_and_follow_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        return build().network.classifier.weight

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_findings_go_by_chexperts_names_too(tmp_path):
    path = saved(tmp_path / "w.pt", trained())
    pairs = [("Pleural Effusion", "Effusion"), ("Airspace Opacity", "Lung Opacity")]
    for other, name in pairs:
        one, two = (build(path, finding=finding, classes=("no", other)) for finding in (other, name))
        assert torch.equal(one.network.classifier.weight, two.network.classifier.weight)


def test_what_it_cannot_do_is_told_in_one_line():
    assert "did you mean 'Cardiomegaly'" in refusal(finding="Cardiomegalie")
    assert "one of Atelectasis" in refusal(finding="xyz")
    assert "the data are about Effusion, the model's finding is Cardiomegaly" in refusal(classes=("No", "Effusion"))
    assert "these have 1 and 3" in refusal(classes=("a", "b", "c"))
    assert "these have 2 and 2" in refusal(shape=(2, 8, 8))
    assert "threshold=1.0 is no sigmoid" in refusal(threshold=1.0)
    assert "threshold=0.0 is no sigmoid" in refusal(threshold=0.0)
    assert "threshold=nan is no sigmoid" in refusal(threshold=math.nan)


def test_without_the_library_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    assert "pip install xbench-xai[xrv]" in refusal()


@pytest.mark.skipif(importlib.util.find_spec("torchxrayvision") is None, reason="torchxrayvision is not installed")
def test_library_itself_gives_the_same_logits_and_leaves_warnings_as_they_were(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torchxrayvision")
    filters = list(warnings.filters)
    build()
    assert warnings.filters == filters
    theirs = sys.modules["torchxrayvision"].models.DenseNet(weights=None).eval()
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)
    theirs.op_threshs = torch.full((18,), math.nan)
    ours = build(saved(tmp_path / "w.pt", theirs)).eval()
    with torch.no_grad():
        want = theirs.classifier(theirs.features2((films() * 2 - 1) * 1024))[:, 10]
        torch.testing.assert_close(ours(films())[:, 0], want, rtol=1e-4, atol=1e-3)
