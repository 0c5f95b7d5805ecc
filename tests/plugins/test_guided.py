"""Guided backpropagation against the formula by hand, Captum, and every way of asking for a ReLU."""

import pytest
import torch
from captum.attr import GuidedBackprop, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_gradients.gradients import gradient, image_gradient
from xbench_gradients.guided import guided_backprop, guided_gradient, guided_gradients

RELUS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu by keyword": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu by keyword": lambda x: torch.relu(input=x),
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
}


def batch(count=3, channels=2, height=6, width=9, targets=3, dtype=torch.float64):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return Batch(image.to(dtype), ids, target, target, sample_keys(0, ids))


class Net(nn.Module):
    """Two convolutions and a dense layer, a ReLU behind each convolution."""

    def __init__(self, channels=2, classes=3, relu=F.relu, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.relu = relu
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.dense = nn.Linear(5, classes)
        self.to(dtype)

    def forward(self, image):
        maps = self.relu(self.second(self.relu(self.first(image))))
        return self.dense(maps.mean(dim=(2, 3)))


def by_hand(net, some):
    """Return the guided gradient of `Net`'s logit, layer by layer from the top."""
    first = net.first(some.image)
    second = net.second(first.clamp(min=0))
    row = (
        net.dense.weight[some.target]
        if len(net.dense.weight) > 1
        else net.dense.weight * some.target[:, None].sub(0.5).sign()
    )
    g = (row / second[0, 0].numel())[:, :, None, None].expand_as(second)
    g = torch.where((second > 0) & (g > 0), g, 0)
    g = F.conv_transpose2d(g, net.second.weight, padding=1)
    g = torch.where((first > 0) & (g > 0), g, 0)
    return F.conv_transpose2d(g, net.first.weight, padding=1)


def of_captum(net, image, target):
    """Return Captum's guided gradient, which sees the ReLUs that are modules."""
    with pytest.warns(UserWarning, match="backward hooks"):
        return GuidedBackprop(net).attribute(image.clone().requires_grad_(), target=target).detach()


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS.keys())
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [1, 3])
def test_guided_gradient_equals_the_formula_however_a_relu_is_asked_for(relu, channels, classes):
    some = batch(channels=channels, targets=max(classes, 2))
    net = Net(channels, classes, relu)
    model = Model(net, link="sigmoid")
    result = guided_gradient(model, some.image, some.target, "logit")
    expected = by_hand(net, some)
    torch.testing.assert_close(result, expected, atol=1e-15, rtol=1e-9)
    assert expected.flatten(1).abs().amax(dim=1).min() > 0
    assert not torch.allclose(result, image_gradient(model, some.image, some.target, "logit"))
    assert torch.equal(guided_backprop(model, "logit")(some), result.abs().amax(dim=1))


def test_of_positive_weights_it_is_the_gradient():
    some = batch()
    net = Net()
    for parameter in net.parameters():
        parameter.data.abs_()
    # A negative bias switches some ReLUs off: the law is about the signs of the gradient, not about open gates.
    model = Model(net)
    net.first.bias.fill_(-float(net.first(some.image).median()))
    assert 0.1 < float((net.first(some.image) > 0).double().mean()) < 0.9
    plain = image_gradient(model, some.image, some.target, "logit")
    torch.testing.assert_close(guided_gradient(model, some.image, some.target, "logit"), plain, atol=0, rtol=1e-12)
    torch.testing.assert_close(guided_backprop(model, "logit")(some), gradient(model, "logit")(some))


@pytest.mark.parametrize("name", [name for name in RELUS if name.endswith(("_", "in place"))])
def test_a_relu_in_place_changes_the_tensor_that_others_hold(name):
    class Holder(nn.Module):
        def __init__(self, relu):
            super().__init__()
            self.relu = relu

        def forward(self, image):
            maps = 3 * image - 1
            self.relu(maps[:, :, 1:])
            return maps.flatten(1).cumsum(dim=1)[:, -3:]

    some = batch()
    in_place = Model(Holder(RELUS[name]))
    result = guided_gradient(in_place, some.image, some.target, "logit")
    active = (3 * some.image - 1 > 0).double()
    active[:, :, 0] = 1
    last = some.image[0].numel() - 3 + some.target
    reached = (torch.arange(some.image[0].numel()) <= last[:, None]).view_as(some.image)
    assert torch.equal(result, 3 * active * reached)


def test_the_networks_own_numbers_do_not_change():
    some = batch()
    for relu in RELUS.values():
        net, seen = Net(relu=relu), []
        clean = net(some.image)
        net.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        guided_gradient(Model(net), some.image, some.target, "logit")
        assert torch.equal(seen[0], clean)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_guided_gradient_equals_captums(inplace, classes):
    some = batch(channels=3)
    net = Net(3, classes, nn.ReLU(inplace))
    target = some.target if classes > 1 else torch.zeros(3, dtype=torch.long)
    expected = of_captum(net, some.image, target)
    ours = target if classes > 1 else torch.ones(3, dtype=torch.long)
    result = guided_gradient(Model(net, link="sigmoid"), some.image, ours, "logit")
    torch.testing.assert_close(result, expected, atol=1e-15, rtol=1e-9)


def test_gradient_equals_captums():
    some = batch(channels=3)
    net = Net(3)
    expected = Saliency(net).attribute(some.image.clone().requires_grad_(), target=some.target, abs=False)
    result = image_gradient(Model(net), some.image, some.target, "logit")
    torch.testing.assert_close(result, expected.detach(), atol=1e-15, rtol=1e-12)


def test_the_functional_relu_at_the_end_of_torchvisions_densenet_is_guided():
    densenet = pytest.importorskip("torchvision").models.densenet121
    torch.manual_seed(0)
    net = densenet(num_classes=3).eval().double()
    as_modules = nn.Sequential(net.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.classifier)
    some = batch(1, channels=3, height=32, width=40)
    result = guided_gradient(Model(net), some.image, some.target, "logit")
    expected, without_the_last = (of_captum(other, some.image, some.target) for other in (as_modules, net))
    torch.testing.assert_close(result, expected, atol=1e-15, rtol=1e-9)
    assert not torch.allclose(result, without_the_last, atol=1e-9, rtol=1e-3)


def test_the_link_of_one_logit_only_scales_the_guided_gradient():
    # Factors p (1 - p) > 0 pass every ReLU's gate; the softmax of several logits mixes classes and does not.
    some = batch(targets=2)
    model = Model(Net(classes=1), link="sigmoid")
    of_logit, of_prob = guided_gradients(model, some.image, some.target, ("logit", "prob"))
    p = model.score(some.image, some.target, "prob")[:, None, None, None]
    torch.testing.assert_close(of_prob, p * (1 - p) * of_logit)
    assert (model.passes.forwards, model.passes.backwards) == (6, 6)
    for score, result in (("logit", of_logit), ("prob", of_prob)):
        assert torch.equal(guided_gradient(model, some.image, some.target, score), result)


def test_targets_of_a_one_logit_net_are_not_opposite():
    some = batch()
    model = Model(Net(classes=1), link="sigmoid")
    no, yes = (guided_gradient(model, some.image, torch.full((3,), target), "logit") for target in (0, 1))
    assert not torch.allclose(no, -yes)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    batch_size=st.integers(1, 8),
    cuts=st.sets(st.integers(1, 5), max_size=4),
    score=st.sampled_from(["logit", "prob"]),
)
def test_guided_backprop_does_not_depend_on_batch_or_chunk(batch_size, cuts, score):
    some = batch(6)
    whole = guided_backprop(Model(Net()), score)(some)
    explain = guided_backprop(Model(Net(), batch_size=batch_size), score)
    bounds = zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True)
    parts = [explain(some.take(slice(start, stop))) for start, stop in bounds]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-15, rtol=1e-9)


def test_guided_backprop_takes_one_pass_an_image_in_chunks_of_the_models_batch_size():
    some, seen = batch(7), []
    model = Model(Net(), batch_size=3)
    model.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    guided_backprop(model, "logit")(some)
    assert seen == [3, 3, 1]
    assert (model.passes.forwards, model.passes.backwards) == (7, 7)


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.ReLU6(), nn.LeakyReLU()])
def test_a_net_without_a_relu_is_unsupported(activation):
    some = batch()
    with pytest.raises(Unsupported, match="no ReLU was met"):
        guided_backprop(Model(Net(relu=activation)), "logit")(some)


def test_relus_are_plain_again_afterwards_also_after_an_exception():
    def broken(x):
        raise RuntimeError("broken")

    some = batch()
    guided_backprop(Model(Net()), "logit")(some)
    with pytest.raises(RuntimeError, match="broken"):
        guided_backprop(Model(Net(relu=broken)), "logit")(some)
    with pytest.raises(Unsupported):
        guided_backprop(Model(Net(relu=torch.sigmoid)), "logit")(some)
    x = torch.ones(1, requires_grad=True)
    for relu in (torch.relu, F.relu, nn.ReLU()):
        assert torch.autograd.grad(-relu(x).sum(), x)[0] == -1


def test_the_model_is_left_as_it_was():
    some = batch(dtype=torch.float32)
    model, image = Model(Net(relu=nn.ReLU(inplace=True), dtype=torch.float32)), some.image.clone()
    weights = {key: value.clone() for key, value in model.module.state_dict().items()}
    with torch.no_grad():
        result = guided_backprop(model, "logit")(some)
    assert result.shape == (3, 6, 9)
    assert result.dtype == torch.float32
    assert not result.requires_grad
    assert torch.equal(some.image, image)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.module.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.module.state_dict().items())
    assert not any(part._forward_hooks or part._backward_hooks for part in model.module.modules())
    assert type(model.module.relu) is nn.ReLU
