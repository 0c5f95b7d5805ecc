"""A model gives logits and probabilities, opens at the right layer, counts its passes and is left as it was."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.models import Model


def convnet(inplace=False, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 2 * 2, classes),
    )


def images(count=3, size=8, channels=1):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Explode(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of luck")


class FunctionalRelu(nn.Module):
    """What torchvision's DenseNet does to the output of its features."""

    def forward(self, x):
        return F.relu(x, inplace=True)


class Accumulating(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        before = self.convolution(x)
        after = self.relu(before)
        before += 1
        return (before.detach() * after).sum(dim=(2, 3))


class PoolingBlock(nn.Module):
    """A block of our own whose pooling only its forward method knows to be last."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool
        self.convolution = nn.Conv2d(1, 4, 3)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.pool(self.activation(self.convolution(x)))


class SharedRelu(nn.Module):
    """One ReLU module for maps and for vectors, as much code has it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3)
        self.second = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x)))).mean(dim=(2, 3))
        return self.last(self.relu(self.hidden(x)))


def test_model_is_frozen_and_in_eval_mode():
    model = Model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train())
    assert not any(part.training for part in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_softmax_probabilities_are_the_softmax_of_the_modules_output():
    model = Model(convnet())
    logits = model.logits(images())
    assert torch.equal(logits, model.module(images()))
    torch.testing.assert_close(model.prob(logits), logits.exp() / logits.exp().sum(dim=1, keepdim=True))


def test_sigmoid_probabilities_of_several_labels_do_not_see_each_other():
    model = Model(convnet(), link="sigmoid")
    logits = model.logits(images())
    torch.testing.assert_close(model.prob(logits), 1 / (1 + (-logits).exp()))


def test_one_logit_becomes_a_pair_whose_probabilities_add_up_to_one():
    model = Model(convnet(classes=1), link="sigmoid")
    z = model.module(images())[:, 0]
    logits = model.logits(images())
    assert torch.equal(logits, torch.stack([-z, z], dim=1))
    prob = model.prob(logits)
    torch.testing.assert_close(prob[:, 1], z.sigmoid())
    torch.testing.assert_close(prob.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("kind", ["logit", "prob"])
def test_score_is_the_targets_entry(kind):
    model = Model(convnet())
    target = torch.tensor([2, 0, 1])
    values = model.logits(images()) if kind == "logit" else model.prob(model.logits(images()))
    score = model.score(images(), target, kind)
    assert score.tolist() == [values[0, 2], values[1, 0], values[2, 1]]


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 2, 6, 6\); \[batch, classes\]"):
        Model(nn.Conv2d(1, 2, 3)).logits(images())


def test_device_is_where_the_weights_are_even_if_there_are_none():
    assert Model(nn.Flatten()).device == torch.device("cpu")
    assert Model(convnet().to("meta")).device == torch.device("meta")
    assert Model(nn.BatchNorm2d(2, affine=False).to("meta")).device == torch.device("meta")


def test_passes_count_every_image_forward_and_backward():
    model = Model(convnet())
    with torch.no_grad():
        model.logits(images(5))
    assert (model.passes.forwards, model.passes.backwards) == (5, 0)
    image = images(4).requires_grad_()
    torch.autograd.grad(model.score(image, torch.zeros(4, dtype=torch.long), "prob").sum(), image)
    assert (model.passes.forwards, model.passes.backwards) == (9, 4)
    activation, logits = model.tap(images(2))
    assert (model.passes.forwards, model.passes.backwards) == (11, 4)
    for column in (0, 1):
        torch.autograd.grad(logits[:, column].sum(), activation, retain_graph=True)
    assert (model.passes.forwards, model.passes.backwards) == (11, 8)


def test_passes_of_a_one_logit_net_count_once():
    model = Model(convnet(classes=1), link="sigmoid")
    image = images(4).requires_grad_()
    torch.autograd.grad(model.score(image, torch.tensor([0, 1, 1, 0])).sum(), image)
    assert (model.passes.forwards, model.passes.backwards) == (4, 4)


def test_tap_gives_the_layers_output_and_the_models_logits():
    model = Model(convnet())
    for layer, expected in (("0", model.module[:1](images())), ("3", model.module[:4](images()))):
        activation, logits = model.tap(images(), layer)
        assert torch.equal(activation, expected)
        assert torch.equal(logits, model.module(images()))


def test_gradient_at_the_tap_is_that_of_the_rest_of_the_net():
    model = Model(convnet())
    activation, logits = model.tap(images(), "3")
    leaf = model.module[:4](images()).detach().requires_grad_()
    expected = torch.autograd.grad(model.module[4:](leaf)[:, 1].sum(), leaf)[0]
    assert torch.equal(torch.autograd.grad(logits[:, 1].sum(), activation)[0], expected)


def test_tap_works_where_gradients_are_off():
    with torch.no_grad():
        activation, logits = Model(convnet()).tap(images())
    assert torch.autograd.grad(logits.sum(), activation)[0].shape == activation.shape


def test_tap_leaves_no_hook_and_no_gradient():
    model = Model(convnet())
    image = images()
    activation, logits = model.tap(image)
    torch.autograd.grad(logits.sum(), activation)
    assert hooks(model.module) == 0
    assert not image.requires_grad
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_tap_leaves_no_hook_after_an_exception_in_the_head():
    model = Model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), Explode()))
    for layer in ("1", None):
        with pytest.raises(RuntimeError, match="out of luck"):
            model.tap(images(), layer)
        assert hooks(model.module) == 0


@pytest.mark.parametrize("relu", [nn.ReLU(inplace=True), FunctionalRelu()], ids=["module", "functional"])
def test_tapped_activation_is_untouched_by_an_in_place_relu_behind_it(relu):
    plain, in_place = Model(convnet()), Model(convnet())
    in_place.module[3] = relu
    expected, _ = plain.tap(images(), "2")
    activation, logits = in_place.tap(images(), "2")
    assert expected.min() < 0
    assert torch.equal(activation, expected)
    assert torch.equal(logits, plain.logits(images()))


def test_tapped_activation_is_untouched_by_what_happens_to_the_layers_input_afterwards():
    # An in-place ReLU hands on its own input; a block that goes on adding to that input must not change what is kept.
    torch.manual_seed(0)
    model = Model(Accumulating())
    activation, logits = model.tap(images(), "relu")
    assert torch.equal(activation, F.relu(model.module.convolution(images())))
    assert torch.autograd.grad(logits.sum(), activation)[0].shape == activation.shape


def test_tap_names_a_layer_that_is_not_there():
    model = Model(nn.Sequential(OrderedDict(layer1=nn.Conv2d(1, 2, 3), flatten=nn.Flatten())))
    with pytest.raises(ValueError, match="no layer 'layer2'; did you mean 'layer1'"):
        model.tap(images(), "layer2")


@pytest.mark.parametrize("layer", ["6", "5"])
def test_tap_refuses_a_layer_without_maps(layer):
    model = Model(convnet())
    with pytest.raises(Unsupported, match=f"'{layer}' gives no feature maps"):
        model.tap(images(), layer)
    assert hooks(model.module) == 0


def test_default_layer_is_behind_the_relu_and_before_the_pool():
    assert Model(convnet()).default_layer(images()) == "3"
    assert Model(convnet(inplace=True)).default_layer(images()) == "3"


def test_default_layer_costs_no_counted_pass_and_leaves_no_hook():
    model = Model(convnet())
    model.default_layer(images())
    assert (model.passes.forwards, hooks(model.module)) == (0, 0)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet18", "layer4"), ("vgg11", "features.19"), ("densenet121", "features")]
)
def test_default_layer_of_torchvisions_nets(name, layer):
    with torch.device("meta"):
        model = Model(torchvision.models.get_model(name))
    assert model.default_layer(images(1, 64, 3).to("meta")) == layer


def test_default_layer_is_never_a_map_of_one_pixel():
    for kernel, layer in ((6, "1"), ((6, 5), "3")):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 4, kernel), nn.ReLU(), nn.Flatten())
        assert Model(net).default_layer(images()) == layer


def test_default_layer_respects_cam_layer():
    module = convnet()
    module.cam_layer = "1"
    model = Model(module)
    assert model.default_layer(images()) == "1"
    assert model.tap(images())[0].shape == (3, 4, 6, 6)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Dropout2d()], ids=str)
@pytest.mark.parametrize("as_sequential", [True, False])
def test_default_layer_looks_into_a_block_that_ends_in_pooling(pool, as_sequential):
    block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(True), pool) if as_sequential else PoolingBlock(pool)
    model = Model(nn.Sequential(nn.Sequential(block), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)))
    assert model.default_layer(images()) == ("0.0.1" if as_sequential else "0.0.activation")


@pytest.mark.parametrize("inplace", [True, False])
def test_default_layer_takes_a_relu_behind_the_pool(inplace):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(inplace), nn.Flatten(), nn.Linear(36, 2))
    assert Model(net).default_layer(images()) == "2"


def test_a_relu_shared_by_maps_and_vectors_is_tapped_at_its_last_map():
    torch.manual_seed(0)
    model = Model(SharedRelu())
    assert model.default_layer(images()) == "relu"
    activation, logits = model.tap(images())
    assert torch.equal(activation, F.relu(model.module.second(F.relu(model.module.first(images())))))
    assert torch.equal(logits, model.module(images()))
    assert torch.autograd.grad(logits[:, 0].sum(), activation)[0].abs().max() > 0


def test_a_net_without_maps_is_unsupported():
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2)))
    for ask in (model.default_layer, model.tap):
        with pytest.raises(Unsupported, match="no layer that gives feature maps"):
            ask(images())
    assert hooks(model.module) == 0


class Flat(nn.Module):
    """Lays its tensors out itself, as `view` demands."""

    def __init__(self, channels):
        super().__init__()
        self.cut, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4 * 20, 2)

    def forward(self, image):
        maps = self.cut(image)
        return self.head(maps.view(len(maps), -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("offset", [0, 1])
def test_how_images_lie_in_memory_changes_no_logit(channels, offset):
    image = torch.rand(6, channels, 6, 7)[offset:]  # a view does not begin where its memory does
    for net in (Flat(channels), nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(80, 2))):
        model, told, laid = Model(net), net(image), []
        handle = next(net.children()).register_forward_hook(lambda *seen, laid=laid: laid.append(seen[2].stride()))
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(model.logits(image), told)
        handle.remove()
        assert model.passes.forwards == 2 * len(image)
        innermost, planes = (80, 1, 20, 4), (80, 20, 5, 1)
        # A net that lays its tensors out itself is tried once, and then left its own way.
        assert laid == ([innermost, planes, planes] if isinstance(net, Flat) else [innermost, innermost])


def test_an_error_of_the_net_itself_comes_through():
    class Broken(nn.Module):
        calls = 0

        def forward(self, image):
            self.calls += 1
            raise RuntimeError("shape '[2]' is invalid")

    net = Broken()
    with torch.no_grad(), pytest.raises(RuntimeError, match="is invalid"):
        Model(net).logits(torch.rand(1, 3, 4, 4))
    assert net.calls == 2  # once in either layout


class Slow(torch.autograd.Function):
    """Takes two ticks of a clock forwards and four backwards."""

    ticks = 0.0

    @staticmethod
    def forward(context, value):
        Slow.ticks += 2
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        Slow.ticks += 4
        return gradient


class SlowNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(1, 2, 3)

    def forward(self, image):
        return Slow.apply(self.cut(image)).mean(dim=(2, 3))


def test_passes_are_timed_forwards_and_backwards_to_the_image_or_the_layer_opened(monkeypatch):
    monkeypatch.setattr("xbench.models.time.perf_counter", lambda: Slow.ticks)
    model, image = Model(SlowNet()), torch.rand(2, 1, 5, 5)
    with torch.no_grad():
        model.logits(image)
    assert model.passes.seconds == 2
    leaf = image.clone().requires_grad_(True)
    for told in (8, 14):  # the second time from the same leaf
        (grad,) = torch.autograd.grad(model.logits(leaf)[:, 0].sum(), leaf)
        Slow.ticks += 100  # whatever follows a pass is none
        assert grad.shape == leaf.shape
        assert model.passes.seconds == told
    activation, logits = model.tap(image, "cut")
    torch.autograd.grad(logits[:, 0].sum(), activation)
    Slow.ticks += 100
    assert model.passes.seconds == 20
