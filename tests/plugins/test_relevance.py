"""Relevance propagation against hand-worked layers, a reference by dense matrices, conservation laws and zennit."""

import importlib
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import xbench_relevance
from xbench.checks import compare, fingerprint
from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys
from xbench.tensors import Batch
from xbench_chestxray.models import Small
from xbench_mnist.models import s2
from xbench_relevance import rules
from xbench_relevance.explainers import deep_taylor, lrp
from xbench_relevance.propagation import propagate
from xbench_relevance.rules import Linear

FIRST = ("z_b", "w_square", "z_plus")


def batch(count=3, channels=2, height=6, width=8, targets=3, dtype=torch.float64):
    ids = tuple(f"sample {i}" for i in range(count))
    target = torch.arange(count) % targets
    image = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(image.to(dtype), ids, target, target, sample_keys(0, ids))


def normalised(channels):
    """Return a batch normalisation as training would leave it."""
    norm = nn.BatchNorm2d(channels)
    for values, low, high in ((norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2)):
        values.uniform_(low, high)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.3, 0.3)
    return norm


def model(*parts, dtype=torch.float64, link="softmax", batch_size=64):
    module = parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    return Model(module.to(dtype), link=link, batch_size=batch_size)


def layers(channels=2, classes=3, bias=True, inplace=True, hidden=6, pixels=48, norm=False):
    """Return the layers of a plain convolutional net; the same weights every time."""
    torch.manual_seed(0)
    return [
        nn.Conv2d(channels, hidden, 3, padding=1, bias=bias),
        *([normalised(hidden)] if norm else []),
        nn.ReLU(inplace=inplace),
        nn.Conv2d(hidden, hidden, 3, padding=1, bias=bias),
        *([normalised(hidden)] if norm else []),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(hidden, 8, 3, padding=1, dilation=1, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.AvgPool2d((1, 2)),
        nn.Flatten(),
        nn.Linear(8 * pixels // 8, 10, bias=bias),
        nn.ReLU(inplace=inplace),
        nn.Dropout(0.5),
        nn.Linear(10, classes, bias=bias),
    ]


class Lambda(nn.Module):
    """A network given as a function of the image and of modules."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def residual(forward, channels=2, classes=3):
    """Return a small residual net whose sum is written as ``forward(net, x)`` says."""
    torch.manual_seed(3)

    def run(net, x):
        x = F.relu(net.norm0(net.stem((x - 0.4) / 0.3)))
        x = forward(net, x)
        return net.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return Lambda(
        run,
        stem=nn.Conv2d(channels, 12, 3, bias=False),
        norm0=normalised(12),
        conv1=nn.Conv2d(12, 12, 3, padding=1, bias=False),
        norm1=normalised(12),
        conv2=nn.Conv2d(12, 12, 3, padding=1, bias=False),
        norm2=normalised(12),
        head=nn.Linear(12, classes),
    )


def block(net, x):
    return F.relu(net.norm2(net.conv2(F.relu(net.norm1(net.conv1(x))))) + x)


def best(net, some):
    """Return the batch with its largest logit as target, which here is above 0."""
    some = some.with_target(net.logits(some.image).argmax(dim=1))
    assert (net.score(some.image, some.target) > 0).all()
    return some


def lifted(net):
    """Return the net with logits that are above 0."""
    list(net.module.modules())[-1].bias += 1
    return net


def logit(net, some):
    return net.score(some.image, some.target)


def maps(found):
    return getattr(found, "attribution", found)


# Rules, one layer at a time.


def test_z_plus_of_a_layer_of_two_by_two_is_as_worked_by_hand():
    a, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0], [-1.0, 3.0]])
    z = a @ weight.T
    relevance = a * rules.z_plus(Linear(a, weight, None), z)(torch.tensor([[6.0, 6.0]]) / z)
    torch.testing.assert_close(relevance, torch.tensor([[2.0, 10.0]]))


def test_z_box_without_a_box_is_lost_and_with_its_floor_at_zero_and_positive_weights_is_z_plus():
    x, weight = torch.rand(3, 4, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    layer, c = Linear(x, weight, None), torch.rand(3, 5, dtype=torch.float64)
    z = x @ weight.T
    assert torch.equal(rules.first_z_box(layer, z, x, x)(c), torch.zeros_like(x))
    expected = x * rules.z_plus(layer, z)(c)
    torch.testing.assert_close(rules.first_z_box(layer, z, torch.zeros_like(x), torch.ones_like(x))(c), expected)
    torch.testing.assert_close(rules.first_z_plus(layer, z, x, x)(c), expected)


@pytest.mark.parametrize("kind", ["convolution", "dense"])
def test_merged_normalisation_gives_what_layer_and_normalisation_give(kind):
    torch.manual_seed(0)
    some = batch().image if kind == "convolution" else batch().image.flatten(1)
    layer = nn.Conv2d(2, 5, 3, padding=1) if kind == "convolution" else nn.Linear(96, 5)
    seen, ask = [], rules.epsilon(0)

    def hidden(layer, z):
        seen.append((layer, z.clone()))
        return ask(layer, z)

    norm = normalised(5)
    if kind == "dense":
        flat = nn.BatchNorm1d(5)
        flat.load_state_dict(norm.state_dict())
        norm = flat
    rest = nn.Conv2d(2, 2, 1) if kind == "convolution" else nn.Linear(96, 96)
    tail = nn.Flatten() if kind == "convolution" else nn.Identity()
    net = model(rest, layer, norm, nn.ReLU(inplace=True), tail)
    method = rules.Method("test", hidden, rules.first_epsilon(0))
    propagate(net, some, torch.zeros(3, dtype=torch.long), method)
    ((merged, z),) = seen
    torch.testing.assert_close(merged.apply(merged.inputs, merged.weight, merged.bias), z)
    torch.testing.assert_close(z, net.module[2](net.module[1](net.module[0](some))))


# The whole propagation against a reference that turns every layer into a matrix and loops over its outputs.


def matrix(part, example):
    """Return the matrix [out, in] of a linear module for inputs like the example [1,...], without its bias."""
    eye = torch.eye(example.numel(), dtype=example.dtype).view(-1, *example.shape[1:])
    return (part(eye) - part(torch.zeros_like(eye))).flatten(1).T


def reference(parts, image, target, hidden, first):
    """Return the relevance of one image [1,C,H,W]; rules take (a [in], w [in], b, z, all z of the layer) to shares [in]."""
    values = [image]
    for part in parts:
        values.append(part(values[-1]))
    relevance = torch.zeros_like(values[-1]).flatten()
    relevance[target] = values[-1][0, target]
    seen = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in parts)
    for part, a, after in reversed(list(zip(parts, values, values[1:], strict=False))):
        if isinstance(part, nn.MaxPool2d):
            leaf = a.clone().requires_grad_()
            relevance = torch.autograd.grad(part(leaf), leaf, relevance.view_as(after))[0].flatten()
        elif isinstance(part, nn.Conv2d | nn.Linear | nn.AvgPool2d):
            weights, z = matrix(part, a), after.flatten()
            bias = part(torch.zeros_like(a)).flatten()
            pool = isinstance(part, nn.AvgPool2d)
            seen -= not pool
            shared = torch.zeros_like(a).flatten()
            rule = (lambda a, w, b, z, rest, dense: a * w / z) if pool else hidden if seen else first
            for j in range(len(z)):
                if relevance[j] != 0:
                    shares = rule(a.flatten(), weights[j], bias[j], z[j], z, isinstance(part, nn.Linear))
                    shared += shares * relevance[j]
            relevance = shared
    return relevance.view(image.shape).sum(dim=1)


def plus(a, w, b, z, rest, dense):
    return ((a * w).clamp(min=0) / (a * w).clamp(min=0).sum()).nan_to_num(0)


def box(a, w, b, z, rest, dense):
    share = a * w - w.clamp(max=0)
    return share / share.sum()


def square(a, w, b, z, rest, dense):
    return w**2 / (w**2).sum()


def stabilised(a, w, b, z, rest, dense):
    return a * w / (z + math.copysign(0.25 * float(rest.square().mean().sqrt()), z))


def raised(a, w, b, z, rest, dense):
    if dense:
        return stabilised(a, w, b, z, rest, dense)
    terms = torch.cat([a * w, b[None]])
    terms = terms + 0.5 * (terms.clamp(min=0) if z > 0 else terms.clamp(max=0))
    return (terms / terms.sum())[:-1]


REFERENCES = {
    "z_b": (lambda net: deep_taylor(net, "z_b"), plus, box),
    "w_square": (lambda net: deep_taylor(net, "w_square"), plus, square),
    "z_plus": (lambda net: deep_taylor(net, "z_plus"), plus, plus),
    "gamma": (lambda net: lrp(net, "gamma", 0.5, 0.25), raised, box),
    "epsilon": (lambda net: lrp(net, "epsilon", 0.5, 0.25), stabilised, stabilised),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_propagation_equals_the_reference_by_matrices_and_loops(name):
    explainer, hidden, first = REFERENCES[name]
    some = batch(2)
    net = lifted(model(*layers(hidden=3)))
    parts = [nn.ReLU() if isinstance(part, nn.ReLU) else part for part in net.module]
    wanted = [reference(parts, some.image[i : i + 1], some.target[i], hidden, first) for i in range(2)]
    torch.testing.assert_close(maps(explainer(net)(some)), torch.cat(wanted))


@pytest.mark.parametrize("name", ["gamma", "epsilon"])
def test_lrp_of_layers_without_rectifier_equals_the_reference(name):
    # Negative inputs, negative outputs that keep relevance, and all the signs of both.
    explainer, hidden, first = REFERENCES[name]
    torch.manual_seed(5)
    tail = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 3, 3),
        nn.LeakyReLU(),
        nn.Conv2d(3, 2, 2, padding=(0, 1)),
        nn.Flatten(),
    ]
    some = batch(2)
    net = model(nn.Conv2d(2, 3, 3), *tail, nn.Linear(10, 3))
    parts = [part for part in net.module if not isinstance(part, nn.LeakyReLU)]
    linear = model(*parts)
    wanted = [reference(parts, some.image[i : i + 1], some.target[i], hidden, first) for i in range(2)]
    torch.testing.assert_close(maps(explainer(linear)(some)), torch.cat(wanted))
    assert not torch.allclose(maps(explainer(net)(some)), torch.cat(wanted))


@pytest.mark.parametrize(
    "convolution",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "dilation": (2, 1), "padding": (2, 0)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "groups": 2},
    ],
    ids=str,
)
def test_any_geometry_of_a_convolution_equals_the_reference(convolution):
    some = batch(2)
    torch.manual_seed(2)
    front = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, **convolution), nn.ReLU(), nn.Flatten()]
    size = nn.Sequential(*front)(some.image.float()).shape[1]
    net = lifted(model(*front, nn.Linear(size, 3)))
    for name in ("z_b", "gamma", "epsilon"):
        explainer, hidden, first = REFERENCES[name]
        wanted = [reference(list(net.module), some.image[i : i + 1], some.target[i], hidden, first) for i in range(2)]
        torch.testing.assert_close(maps(explainer(net)(some)), torch.cat(wanted))


# Laws.


@pytest.mark.parametrize("spec", xbench_relevance.xbench_explainers(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_explainer_gives_one_map_a_sample_and_leaves_the_model_as_it_was(spec, channels):
    module, name = spec.factory.split(":")
    for count, norm in ((1, False), (3, True)):
        some = batch(count, channels, dtype=torch.float32)
        net, image = model(*layers(channels, norm=norm), dtype=torch.float32), some.image.clone()
        before = fingerprint(net.module)
        with torch.no_grad():
            result = maps(getattr(importlib.import_module(module), name)(net, **spec.params)(some))
        compare(before, net.module)
        assert result.shape == (count, 6, 8)
        assert result.dtype == torch.float32
        assert result.isfinite().all()
        assert not result.requires_grad
        assert torch.equal(some.image, image)
        assert not some.image.requires_grad


NETS = {
    "plain": lambda: model(*layers()),
    "normalised": lambda: model(*layers(norm=True)),
    "residual": lambda: model(residual(block)),
    "s2": lambda: model(s2((2, 8, 10), "abc", epochs=1, samples_per_epoch=1)),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("input_rule", FIRST)
def test_deep_taylor_adds_up_to_the_logit_whatever_the_biases_and_is_nowhere_negative(kind, input_rule):
    net = lifted(NETS[kind]())
    some = best(net, batch(5, height=8, width=10) if kind == "s2" else batch(5))
    found = deep_taylor(net, input_rule)(some)
    torch.testing.assert_close(found.attribution.sum(dim=(1, 2)) + found.extras["lost"], logit(net, some))
    torch.testing.assert_close(found.extras["lost"], torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0)
    assert found.attribution.min() >= 0
    assert found.attribution.std() > 0
    assert found.defined.all()


def test_deep_taylor_in_float32_agrees_with_float64():
    net, single = lifted(model(*layers(norm=True))), lifted(model(*layers(norm=True), dtype=torch.float32))
    exact = deep_taylor(net, "z_b")(batch()).attribution
    result = deep_taylor(single, "z_b")(batch(dtype=torch.float32)).attribution
    torch.testing.assert_close(result.double(), exact, atol=1e-7, rtol=1e-4)


def test_deep_taylor_has_no_answer_where_the_logit_is_not_positive():
    net, some = model(*layers()), batch(9)
    net.module[-1].bias -= logit(net, some).median()
    found = deep_taylor(net, "z_b")(some)
    assert torch.equal(found.defined, logit(net, some) > 0)
    assert 0 < found.defined.sum() < 9
    assert (found.attribution[~found.defined] == 0).all()
    assert (found.attribution[found.defined].sum(dim=(1, 2)) > 0).all()
    assert (found.extras["lost"][~found.defined] == 0).all()


def test_relevance_of_a_unit_that_only_its_bias_drives_is_reported_as_lost():
    # Two hidden units reach the logit with 3 * 1 (bias alone, weights negative) and 2 * (x_0 + x_1).
    some = batch(2, 1, 1, 2, targets=1)
    net = model(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    for parameter, value in ((net.module[1].weight, [[-1, -1], [1, 1]]), (net.module[1].bias, [5, 0])):
        parameter.copy_(torch.tensor(value))
    net.module[3].weight.copy_(torch.tensor([[3, 2], [1, 1]]))
    net.module[3].bias.zero_()
    x = some.image.flatten(1)
    found = deep_taylor(net, "z_plus")(some)
    torch.testing.assert_close(found.extras["lost"], 3 * (5 - x.sum(dim=1)))
    torch.testing.assert_close(found.attribution.flatten(1), 2 * x)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_lrp_0_is_input_times_gradient(bias, norm):
    some = batch()
    net = model(*layers(bias=bias, norm=norm))
    leaf = some.image.clone().requires_grad_()
    gradient = torch.autograd.grad(net.score(leaf, some.target).sum(), leaf)[0]
    result = maps(lrp(net, "epsilon", 0.25, 0.0)(some))
    torch.testing.assert_close(result, (some.image * gradient).sum(dim=1))
    if not bias and not norm:
        torch.testing.assert_close(result.sum(dim=(1, 2)), logit(net, some))
        torch.testing.assert_close(maps(lrp(net, "epsilon", 0.25, 1e-9)(some)).sum(dim=(1, 2)), logit(net, some))


def test_lrp_0_of_a_network_with_its_own_normalisation_takes_the_normalised_input():
    some = batch()
    net = model(residual(block))
    inner = ((some.image - 0.4) / 0.3).requires_grad_()
    gradient = torch.autograd.grad(net.score(inner * 0.3 + 0.4, some.target).sum(), inner)[0]
    torch.testing.assert_close(maps(lrp(net, "epsilon", 0.25, 0.0)(some)), (inner * gradient).sum(dim=1))


def test_lrp_0_takes_a_normalisation_with_no_convolution_in_front_as_a_layer():
    some = batch()
    torch.manual_seed(0)
    net = model(
        nn.Conv2d(2, 5, 3), nn.ReLU(), normalised(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    leaf = some.image.clone().requires_grad_()
    gradient = torch.autograd.grad(net.score(leaf, some.target).sum(), leaf)[0]
    torch.testing.assert_close(maps(lrp(net, "epsilon", 0.25, 0.0)(some)), (some.image * gradient).sum(dim=1))
    for explainer in (deep_taylor(net, "z_b"), lrp(net, "gamma", 0.25, 0.25)):
        with pytest.raises(Unsupported, match=r"no convolution right in front \(as in DenseNet\)"):
            explainer(some)


def test_gamma_of_0_without_first_layer_and_stabiliser_is_lrp_0():
    some = batch()
    net = model(*layers(norm=True))
    method = rules.Method("test", rules.gamma(0.0), rules.first_epsilon(0.0))
    relevance, _ = propagate(net, some.image, some.target, method)
    torch.testing.assert_close(relevance.sum(dim=1), maps(lrp(net, "epsilon", 0.25, 0.0)(some)))


# One logit, normalisation, sums, activations.


def test_one_logit_net_is_explained_as_the_two_logit_net_with_the_opposite_weights():
    some = batch(8)
    single = model(*layers(classes=1), link="sigmoid")
    single.module[-1].bias -= single.logits(some.image)[:, 1].median()
    double = model(*layers(classes=1)[:-1], nn.Linear(10, 2))
    last = single.module[-1]
    double.module[-1].weight.copy_(torch.cat([-last.weight, last.weight]))
    double.module[-1].bias.copy_(torch.cat([-last.bias, last.bias]))
    defined = []
    for target in (0, 1):
        asked = some.with_target(torch.full((8,), target))
        for name in ("z_b", "gamma", "epsilon"):
            result, wanted = (REFERENCES[name][0](net)(asked) for net in (single, double))
            torch.testing.assert_close(maps(result), maps(wanted), atol=1e-12, rtol=1e-9) if name == "z_b" else None
            if name == "z_b":
                assert torch.equal(result.defined, wanted.defined)
                torch.testing.assert_close(
                    maps(result).sum(dim=(1, 2)), logit(single, asked).clamp(min=0), atol=1e-9, rtol=0
                )
                defined.append(result.defined)
    assert torch.equal(defined[0], ~defined[1])
    assert 0 < defined[0].sum() < 8


@pytest.mark.parametrize("rule", ["gamma", "epsilon"])
def test_lrp_of_a_one_logit_net_turns_sign_with_the_target(rule):
    some, net = batch(), model(*layers(classes=1, norm=True), link="sigmoid")
    no, yes = (maps(lrp(net, rule, 0.25, 0.25)(some.with_target(torch.full((3,), target)))) for target in (0, 1))
    assert torch.equal(no, -yes)
    assert yes.abs().max() > 0


def test_deep_taylor_of_a_linear_one_logit_net_is_z_box_of_the_unit_or_of_its_opposite():
    some = batch(8, 1, 2, 3)
    net = model(nn.Flatten(), nn.Linear(6, 1), link="sigmoid")
    net.module[1].bias -= net.logits(some.image)[:, 1].median()
    for target, sign in ((0, -1), (1, 1)):
        asked = some.with_target(torch.full((8,), target))
        found = deep_taylor(net, "z_b")(asked)
        weight, x = sign * net.module[1].weight, some.image.flatten(1)
        share = x * weight.clamp(min=0) + (x - 1) * weight.clamp(max=0)
        wanted = share / share.sum(dim=1, keepdim=True) * logit(net, asked).clamp(min=0)[:, None]
        torch.testing.assert_close(found.attribution.flatten(1), wanted)


MEAN, STD = (
    torch.tensor([0.4, 0.5, 0.3])[:, None, None].double(),
    torch.tensor([0.2, 0.3, 0.25])[:, None, None].double(),
)


def shifted(x):
    x = x.expand(-1, 3, -1, -1).clone()
    return x.sub_(MEAN).div_(STD)


def joined(x):
    return torch.cat([(x[:, :1] - mean) / std for mean, std in zip(MEAN.view(-1), STD.view(-1), strict=True)], dim=1)


class Input(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=0)
        self.norm.running_mean.copy_(MEAN.view(-1))
        self.norm.running_var.copy_(STD.view(-1) ** 2)

    def forward(self, x):
        return self.norm(x.repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    "front",
    [
        lambda: Lambda(lambda net, x: (x.expand(-1, 3, -1, -1) - MEAN) / STD),
        lambda: Lambda(lambda net, x: shifted(x)),
        lambda: Lambda(lambda net, x: joined(x)),
        Input,
    ],
    ids=["expand", "in place", "cat", "batch norm"],
)
@pytest.mark.parametrize("name", ["z_b", "gamma", "epsilon", "w_square"])
def test_box_and_input_go_through_the_networks_own_normalisation(front, name):
    # The same net on images that are normalised already, with the box given by hand.
    some = batch(3, 1)
    body = lifted(model(*layers(3)))
    net = model(nn.Sequential(front(), body.module))
    inner = (some.image.expand(-1, 3, -1, -1) - MEAN) / STD
    low, high = (((value - MEAN) / STD).expand_as(inner) for value in (0, 1))
    explainer, hidden, _ = REFERENCES[name]
    first = {
        "z_b": lambda layer, z, *_: rules.first_z_box(layer, z, low, high),
        "gamma": lambda layer, z, *_: rules.first_z_box(layer, z, low, high),
        "w_square": rules.first_w_square,
        "epsilon": rules.first_epsilon(0.25),
    }[name]
    method = rules.Method(
        "test",
        {"gamma": rules.gamma_epsilon(0.5, 0.25), "epsilon": rules.epsilon(0.25)}.get(name, rules.z_plus),
        first,
        positive=hidden is plus,
    )
    wanted, _ = propagate(body, inner, some.target, method)
    torch.testing.assert_close(maps(explainer(net)(some)), wanted.sum(dim=1))


def test_a_network_that_inverts_the_image_has_the_box_the_right_way_round():
    some = batch()
    body = lifted(model(*layers()))
    net = model(Lambda(lambda net, x: net.body(1 - x), body=body.module))
    flipped = Batch(1 - some.image, some.sample_id, some.label, some.target, some.keys)
    torch.testing.assert_close(deep_taylor(net, "z_b")(some).attribution, deep_taylor(body, "z_b")(flipped).attribution)


def test_a_resized_image_gets_back_all_of_its_relevance():
    some = batch(height=3, width=4)
    net = lifted(
        model(
            Lambda(
                lambda net, x: net.body(F.interpolate(x, size=(6, 8), mode="bilinear")), body=model(*layers()).module
            )
        )
    )
    found = deep_taylor(net, "z_b")(some)
    torch.testing.assert_close(found.attribution.sum(dim=(1, 2)), logit(net, some))


def in_place(net, x):
    out = net.norm2(net.conv2(F.relu(net.norm1(net.conv1(x)), inplace=True)))
    out += x
    return F.relu(out, inplace=True)


def by_function(net, x):
    out = net.norm1(net.conv1(x)).relu_()
    return torch.relu(torch.add(net.norm2(net.conv2(out)), x))


def by_method(net, x):
    out = net.norm2(net.conv2(net.norm1(net.conv1(x)).relu()))
    out.add_(x)
    torch.relu_(out)
    return out


@pytest.mark.parametrize("forward", [in_place, by_function, by_method])
@pytest.mark.parametrize("name", ["z_b", "gamma", "epsilon"])
def test_the_way_a_residual_sum_is_written_changes_nothing(forward, name):
    some = batch()
    plain, other = (lifted(model(residual(way))) for way in (block, forward))
    torch.testing.assert_close(other.logits(some.image), plain.logits(some.image))
    explainer = REFERENCES[name][0]
    torch.testing.assert_close(maps(explainer(other)(some)), maps(explainer(plain)(some)))


def test_a_residual_sum_shares_relevance_among_its_positive_terms():
    # s = relu(a + b) with a = 2 x_0 and b = x_1 - 3 x_2: by z+ x_2 gets nothing; where b < 0 all goes to a.
    some = batch(6, 1, 1, 3, targets=1)
    left, right = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
    head = nn.Linear(1, 2, bias=False)
    net = model(
        Lambda(
            lambda net, x: net.head(F.relu(net.left(x.flatten(1)) + net.right(x.flatten(1)))),
            left=left,
            right=right,
            head=head,
        )
    )
    for part, row in ((left, [[2.0, 0, 0]]), (right, [[0, 1.0, -3.0]]), (head, [[1.0], [1.0]])):
        part.weight.copy_(torch.tensor(row))
    x = some.image.flatten(1)
    a, b = 2 * x[:, 0], x[:, 1] - 3 * x[:, 2]
    s = (a + b).clamp(min=0)
    wanted = torch.stack([s * a / (a + b.clamp(min=0)), s * b.clamp(min=0) / (a + b.clamp(min=0)), 0 * s], dim=1)
    torch.testing.assert_close(deep_taylor(net, "z_plus")(some).attribution.flatten(1), wanted)
    assert (b > 0).any()
    assert ((b < 0) & (s > 0)).any()
    torch.testing.assert_close(
        maps(lrp(net, "epsilon", 0.0, 0.0)(some)).flatten(1),
        (s > 0)[:, None] * torch.stack([a, x[:, 1], -3 * x[:, 2]], dim=1),
    )


def overwriting(x):
    x = x.clone()
    x.sigmoid_()
    return x


def overwriting_views(x):
    x = x.clone()
    x[:, :2].sigmoid_()
    x[:, 2:].sigmoid_()
    return x


@pytest.mark.parametrize("activation", [torch.sigmoid, nn.Sigmoid(), overwriting, overwriting_views], ids=str)
def test_a_sigmoid_hands_on_the_relevance_of_its_unit(activation):
    some = batch(2, 1, 1, 3, targets=2)
    torch.manual_seed(0)
    net = model(
        Lambda(lambda net, x: net.out(activation(net.dense(x.flatten(1)))), dense=nn.Linear(3, 4), out=nn.Linear(4, 2))
    )
    net.module.out.bias += 3
    x, z = some.image.flatten(1), net.module.dense(some.image.flatten(1))
    above, below = (layer.weight.clamp(min=0) for layer in (net.module.out, net.module.dense))
    wanted = []
    for i in range(2):
        unit = z[i].sigmoid() * above[some.target[i]]
        unit = unit / unit.sum() * logit(net, some)[i]
        share = x[i] * below
        wanted.append((share / share.sum(dim=1, keepdim=True) * unit[:, None]).sum(dim=0))
    found = deep_taylor(net, "z_plus")(some)
    assert (z < 0).any()
    torch.testing.assert_close(found.attribution.flatten(1), torch.stack(wanted))


# Batches and passes.


@pytest.mark.parametrize("name", REFERENCES)
def test_batch_and_chunk_change_nothing_and_no_pass_is_larger_than_the_models_batch_size(name):
    some = batch(7)
    whole = maps(REFERENCES[name][0](lifted(model(*layers(norm=True))))(some))
    for batch_size in (1, 3, 64):
        net, seen = lifted(model(*layers(norm=True), batch_size=batch_size)), []
        handle = net.module.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(len(inputs[0])))
        torch.testing.assert_close(maps(REFERENCES[name][0](net)(some)), whole)
        handle.remove()
        assert max(seen) <= batch_size
        assert (net.passes.forwards, net.passes.backwards) == (7, 7)
        parts = [maps(REFERENCES[name][0](net)(some.take(slice(i, i + 2)))) for i in range(0, 7, 2)]
        torch.testing.assert_close(torch.cat(parts), whole)


def test_explainers_give_the_same_under_a_second_call_and_after_a_failure():
    some = batch()
    net = lifted(model(*layers()))
    first = maps(deep_taylor(net, "z_b")(some))
    before = fingerprint(net.module)
    net.module.append(nn.Softmax(dim=1))
    with pytest.raises(Unsupported, match="softmax"):
        deep_taylor(net, "z_b")(some)
    del net.module[-1]
    compare(before, net.module)
    assert torch.equal(maps(deep_taylor(net, "z_b")(some)), first)
    assert not torch.overrides._get_current_function_mode_stack()


# What has no rule is refused by name.


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def scripted():
    return torch.jit.trace(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid()).double(), torch.rand(1, 2, 6, 8).double())


def written(net, x):
    x = net.conv(x)
    x[:, 0] = 0
    return x


def attended(net, x):
    x = net.conv(x).flatten(2).transpose(1, 2)
    return net.attention(x, x, x)[0]


def overwritten(net, x):
    y = net.conv(x)
    z = F.batch_norm(y, torch.zeros(4).double(), torch.ones(4).double())
    return F.relu_(y) + z


HIDDEN = {
    "attention": (
        lambda: Lambda(attended, conv=nn.Conv2d(2, 4, 3), attention=nn.MultiheadAttention(4, 2)),
        "multi_head_attention",
    ),
    "softmax": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softmax(dim=1)), "softmax"),
    "layer norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm(6)), "layer_norm"),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), "group_norm"),
    "gate": (
        lambda: Lambda(lambda net, x: (y := net.conv(x)) * torch.sigmoid(y), conv=nn.Conv2d(2, 4, 3)),
        "mul of two",
    ),
    "quotient": (lambda: Lambda(lambda net, x: 1 / net.conv(x), conv=nn.Conv2d(2, 4, 3)), r"__r(true)?div__"),
    "divisor": (
        lambda: Lambda(lambda net, x: torch.div(torch.ones(1), net.conv(x)), conv=nn.Conv2d(2, 4, 3)),
        "div by",
    ),
    "power": (lambda: Lambda(lambda net, x: net.conv(x) ** 2, conv=nn.Conv2d(2, 4, 3)), "pow"),
    "transposed": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 4, 3)), "conv_transpose2d"),
    "written": (lambda: Lambda(written, conv=nn.Conv2d(2, 4, 3)), "setitem"),
    "hidden by script": (scripted, "scripted module"),
    "own function": (lambda: Lambda(lambda net, x: Doubled.apply(net.conv(x)), conv=nn.Conv2d(2, 4, 3)), "torch hides"),
    "sines of the image": (lambda: Lambda(lambda net, x: net.conv(torch.sin(x)), conv=nn.Conv2d(2, 4, 3)), "sin"),
    "image times itself": (lambda: Lambda(lambda net, x: net.conv(x * x), conv=nn.Conv2d(2, 4, 3)), "mul of two"),
    "image less its mean": (
        lambda: Lambda(lambda net, x: net.conv(x - x.mean(dim=(2, 3), keepdim=True)), conv=nn.Conv2d(2, 4, 3)),
        "sub of two",
    ),
    "image beside features": (
        lambda: Lambda(lambda net, x: torch.cat([x, net.conv(x)], dim=1), conv=nn.Conv2d(2, 4, 3, padding=1)),
        "joins the image with features",
    ),
    "weights of the image": (
        lambda: Lambda(lambda net, x: F.conv2d(net.conv(x), net.conv(x)[:1]), conv=nn.Conv2d(2, 4, 3)),
        "weights depend on the image",
    ),
    "no running statistics": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        "own statistics",
    ),
    "even kernel": (lambda: nn.Conv2d(2, 4, 2, padding="same"), "even size"),
    "no layer": (lambda: nn.Identity(), "no convolution and no dense layer"),
    "overwritten": (lambda: Lambda(overwritten, conv=nn.Conv2d(2, 4, 3)), "overwrites"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("method", ["z_b", "gamma", "epsilon"])
def test_a_network_with_a_function_without_a_rule_is_refused_by_its_name(name, method):
    make, reason = HIDDEN[name]
    net = model(Lambda(lambda net, x: net.part(x).flatten(1)[:, :3], part=make()))
    before = fingerprint(net.module)
    with pytest.raises(Unsupported, match=reason):
        REFERENCES[method][0](net)(batch())
    compare(before, net.module)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 3)], "inputs are 0 or more"),
        ([nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(32, 3)], "inputs are 0 or more"),
        ([nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()], "values of 0 or more"),
        ([nn.Conv2d(2, 4, 3), Lambda(lambda net, x: x + 1), nn.Flatten(), nn.Linear(96, 3)], "only for two tensors"),
        ([nn.Conv2d(2, 4, 3), Lambda(lambda net, x: x * -1), nn.Flatten(), nn.Linear(96, 3)], "negative number"),
        ([nn.Conv2d(2, 4, 3), nn.ReLU(), Lambda(lambda net, x: -x), nn.Flatten(), nn.Linear(96, 3)], "a minus"),
    ],
)
def test_deep_taylor_refuses_what_could_make_relevance_negative_and_lrp_takes_it(parts, reason):
    net, some = model(*parts), batch()
    with pytest.raises(Unsupported, match=reason):
        deep_taylor(net, "z_b")(some)
    assert maps(lrp(net, "gamma", 0.25, 0.25)(some)).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: deep_taylor(net, "z_c"), "input_rule is 'z_c'"),
        (lambda net: lrp(net, "delta", 0.25, 0.25), "rule is 'delta'"),
        (lambda net: lrp(net, "gamma", -1.0, 0.25), "gamma is -1.0"),
        (lambda net: lrp(net, "gamma", 0.25, -0.1), "eps is -0.1"),
        (lambda net: lrp(net, "gamma", math.nan, 0.1), "gamma is nan"),
        (lambda net: lrp(net, "gamma", 0.1, math.inf), "eps is inf"),
    ],
)
def test_a_parameter_out_of_range_is_named(make, message):
    with pytest.raises(Unsupported, match=message):
        make(model(*layers()))


def test_nothing_is_lost_in_a_network_with_dilation_and_residual_sums_whose_biases_are_not_positive():
    torch.manual_seed(0)
    net = model(Small(1, 3, 16))
    for part in net.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.load_state_dict(normalised(part.num_features).state_dict())
            part.bias.abs_().mul_(-0.1)
            part.running_mean.abs_().mul_(0.1)
    some = best(net, batch(3, 1, 16, 24))
    found = deep_taylor(net, "z_b")(some)
    assert found.defined.all()
    torch.testing.assert_close(found.attribution.sum(dim=(1, 2)), logit(net, some))


# zennit 0.5.1, whose rules work on hooked modules; with its stabilisers made small.


def zennit_maps(net, some, composite, image=None):
    # Merged, a batch normalisation of zennit still divides by sqrt(1 + eps): only without eps is it the same network.
    for part in net.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
    leaf = (some.image if image is None else image).clone().requires_grad_()
    with composite.context(net.module) as hooked:
        out = hooked(leaf)
        start = F.one_hot(some.target, out.shape[1]) * out.detach()
        return torch.autograd.grad(out, leaf, start)[0].sum(dim=1)


def zennit_composite(hidden, dense, first, canonizers=(), total=None):
    composites, types = pytest.importorskip("zennit.composites"), pytest.importorskip("zennit.types")
    from zennit.layer import Sum
    from zennit.rules import Norm

    small = 1e-12
    layer_map = [(Sum, total or Norm(stabilizer=small)), *composites.layer_map_base(small)]
    layer_map += [(types.Convolution, hidden), (nn.Linear, dense)]
    return composites.SpecialFirstLayerMapComposite(
        layer_map, [(types.Convolution, first)], canonizers=list(canonizers)
    )


def zennit_rules(name, low, high):
    """Return zennit's hidden, dense and first rule and its rule for sums."""
    rules = pytest.importorskip("zennit.rules")
    from zennit.core import BasicHook, Stabilizer

    small = 1e-12
    positive = {"stabilizer": small, "zero_params": "bias"}
    largest = BasicHook(
        input_modifiers=[lambda value: value.clamp(min=0)],
        param_modifiers=[rules.NoMod(param_keys=[])],
        output_modifiers=[lambda value: value],
        gradient_mapper=lambda grad, outputs: grad / Stabilizer(small)(outputs[0]),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )
    box, plain = rules.ZBox(low, high, stabilizer=small), rules.Epsilon(Stabilizer(0.25, norm_scale=True))
    return {
        "z_b": (rules.ZPlus(**positive), rules.ZPlus(**positive), box, largest),
        "w_square": (rules.ZPlus(**positive), rules.ZPlus(**positive), rules.WSquare(**positive), largest),
        "z_plus": (rules.ZPlus(**positive), rules.ZPlus(**positive), rules.ZPlus(**positive), largest),
        "gamma": (rules.Gamma(0.5, stabilizer=small), plain, box, None),
        "epsilon": (plain, plain, plain, None),
    }[name]


@pytest.mark.parametrize("name", REFERENCES)
def test_agreement_with_zennit_on_a_plain_net_with_batch_normalisation(name):
    canonizers = pytest.importorskip("zennit.canonizers")
    some, net = batch(), lifted(model(*layers(norm=True, inplace=False)))
    hidden, dense, first, total = zennit_rules(name, 0.0, 1.0)
    composite = zennit_composite(hidden, dense, first, [canonizers.SequentialMergeBatchNorm()], total)
    wanted = zennit_maps(net, some, composite)
    torch.testing.assert_close(maps(REFERENCES[name][0](net)(some)), wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "kind"), [("z_b", "basic"), ("z_b", "bottleneck"), ("gamma", "bottleneck"), ("epsilon", "bottleneck")]
)
def test_agreement_with_zennit_on_residual_networks_of_torchvision(name, kind):
    canonizer = pytest.importorskip("zennit.torchvision").ResNetCanonizer()
    from torchvision.models import resnet

    torch.manual_seed(0)
    if kind == "basic":
        network = resnet.resnet18(weights=None, num_classes=3)
    else:
        network = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=3, width_per_group=8)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.load_state_dict(normalised(part.num_features).state_dict())
    net = lifted(model(network))
    some = best(net, batch(1, 3, 32, 40))
    front = model(Lambda(lambda net, x: net.body((x - 0.4) / 0.2), body=network))
    some = best(front, some)
    hidden, dense, first, total = zennit_rules(name, -2.0, 3.0)
    composite = zennit_composite(hidden, dense, first, [canonizer], total)
    wanted = zennit_maps(net, some, composite, image=(some.image - 0.4) / 0.2)
    assert wanted.abs().max() > 0
    found = maps(REFERENCES[name][0](front)(some))
    torch.testing.assert_close(found, wanted, atol=float(1e-7 * wanted.abs().max()), rtol=1e-6)
