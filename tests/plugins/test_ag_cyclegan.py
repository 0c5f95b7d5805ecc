"""Laws of AG-CycleGAN's networks, losses, pool, schedule and step."""

import pytest
import torch
from torch import nn

from xbench.errors import Unsupported
from xbench.models import Model
from xbench_translation import xbench_explainers
from xbench_translation.losses import (
    Pool,
    adversarial_loss,
    cycle_loss,
    discriminator_loss,
    go_round,
    masked,
)
from xbench_translation.networks import Attention, Discriminator, Generator, InstanceNorm, Mirrored, Residual
from xbench_translation.recipe import recipe
from xbench_translation.training import MONITORS, Players, _monitor, augment
from xbench_translation.translator import Direction, Translator, build_translator, judge_of

(SPEC,) = xbench_explainers()
TINY = {
    "generator_width": 2,
    "discriminator_width": 2,
    "blocks": 1,
    "batch": 2,
    "iterations": 4,
    "epochs": 4,
    "judge": "own",
    "attention_cost": 0.0,
}


def numbers(**params):
    return recipe({**SPEC.params, **params}, 10)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=2, channels=1, height=16, width=16, seed=0):
    return torch.rand(count, channels, height, width, generator=seeded(seed)) * 2 - 1


class Classifier(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 3, 3, 2, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))


class Fixed(nn.Module):
    """An attention network that answers the same everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, image, maps=()):
        return self.value.expand(len(image), 1, *image.shape[2:])


def players(channels=1, attention=None, **params):
    torch.manual_seed(0)
    chosen = numbers(**{**TINY, **params})
    model, shape, sizes = Model(Classifier(channels)), (channels, 16, 16), {**chosen.sizes, "attention_width": 2}
    translator = build_translator(model, shape, sizes, "none", 1)
    if attention is not None:
        translator.ab.attention, translator.ba.attention = Fixed(attention), Fixed(attention)
    return Players(translator, judge_of(model, shape, sizes, chosen.judge), chosen, torch.device("cpu"))


def size(module):
    return sum(each.numel() for each in module.parameters())


def test_paper_preset_has_the_published_numbers_of_parameters():
    sizes = numbers(preset="paper").sizes
    assert size(Generator(3, sizes["generator_width"], sizes["blocks"])) == 2_855_811
    assert size(Attention(3, sizes["attention_width"], 1)) == 104_001
    assert size(Discriminator(3, sizes["discriminator_width"])) == 2_766_657


def test_paper_preset_has_the_published_shapes():
    generator, attention, judge = Generator(3, 32, 1), Attention(3, 32, 1), Discriminator(3, 64)
    seen = []
    for part in [*generator.modules(), *judge.convs, judge.last]:
        if isinstance(part, Residual) or part in [*judge.convs, judge.last]:
            part.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        image = images(1, 3, 256, 256)
        assert generator(image).shape == (1, 3, 256, 256)
        assert attention(image).shape == (1, 1, 256, 256)
        judge(image, True)
    assert seen == [(128, 64, 64), (64, 129, 129), (128, 65, 65), (256, 33, 33), (512, 34, 34), (1, 35, 35)]


def test_paper_preset_has_the_published_schedule():
    chosen = numbers(preset="paper")
    assert (chosen.batch, chosen.epochs, chosen.switch, chosen.threshold) == (1, 100, 30, 0.1)
    assert (chosen.cycle, chosen.pool, chosen.zoom, chosen.flip, chosen.joint) == (10.0, 50, 286 / 256, True, False)
    assert chosen.iterations == 100 * 10
    assert [chosen.lr_at(epoch) for epoch in (0, 49, 50)] == [1e-4] * 3
    assert chosen.lr_at(75) == pytest.approx(0.5e-4)
    assert chosen.lr_at(99) == pytest.approx(0.02e-4)


def test_small_preset_has_its_own_numbers_and_a_parameter_comes_before_both():
    small, paper = numbers(), numbers(preset="paper")
    assert (small.joint, small.judge, small.attn_decoder_kernel, small.flip) == (True, "classifier", 3, False)
    assert (paper.joint, paper.judge, paper.attn_decoder_kernel, paper.attention_cost) == (False, "own", 1, 0.0)
    assert (small.share, paper.share) == ("attention+generator", "none")
    assert small.attention_cost > 0
    for preset in ("small", "paper"):
        given = {"batch": 3, "lr": 0.5, "flip": "no", "switch": 0.0, "attention_cost": 0.0, "judge": "own", "epochs": 7}
        chosen = numbers(preset=preset, **given)
        assert (chosen.batch, chosen.lr, chosen.flip, chosen.switch) == (3, 0.5, False, 0)
        assert (chosen.attention_cost, chosen.judge, chosen.epochs) == (0.0, "own", 7)
    assert numbers(flip="yes").flip is True


def test_epochs_share_the_iterations_out_in_order():
    chosen = numbers(iterations=11, epochs=4)
    assert [step for epoch in range(4) for step in chosen.steps(epoch)] == list(range(11))
    assert numbers(iterations=3, epochs=8).epochs == 3


@pytest.mark.parametrize(
    "params",
    [{"iterations": -1}, {"lr": -1.0}, {"switch": 1.5}, {"threshold": -0.1}, {"zoom": 0.5}, {"pool": -1}],
)
def test_value_out_of_range_is_named(params):
    ((name, value),) = params.items()
    with pytest.raises(Unsupported, match=rf"translation/ag_cyclegan: {name} is {value}"):
        numbers(**params)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (3, 12, 20), (1, 13, 18), (3, 7, 9)])
def test_networks_keep_the_size_of_any_image(kernel, channels, height, width):
    image = images(2, channels, height, width)
    made, mask = Generator(channels, 2, 1)(image), Attention(channels, 2, kernel)(image)
    assert made.shape == image.shape
    assert mask.shape == (2, 1, height, width)
    assert made.abs().max() <= 1
    assert 0 < mask.min() <= mask.max() < 1


@pytest.mark.parametrize("pixels", [1, 3])
def test_a_mirrored_border_is_torchs_reflection_and_so_are_its_gradients(pixels):
    image, weight = (
        images(height=7, width=9).double().requires_grad_(),
        torch.rand(2, 1, 7 + 2 * pixels, 9 + 2 * pixels),
    )
    own, theirs = Mirrored(pixels)(image), nn.ReflectionPad2d(pixels)(image)
    assert torch.equal(own, theirs)
    gradients = [torch.autograd.grad((out * weight).sum(), image)[0] for out in (own, theirs)]
    torch.testing.assert_close(*gradients)


def test_attention_decoder_of_kernel_1_sees_less_of_its_neighbourhood():
    torch.manual_seed(0)
    assert size(Attention(1, 4, 3)) > size(Attention(1, 4, 1))
    # Kernel 1 behind nearest-neighbour enlargement: blocks of 4 x 4 pixels are constant.
    mask = Attention(1, 4, 1)(images())
    assert torch.equal(mask, mask[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert not torch.equal(
        *(lambda m: (m, m[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)))(
            Attention(1, 4, 3)(images())
        )
    )


def test_instance_norm_is_torchs():
    norm, x = InstanceNorm(3), images(2, 3, 5, 4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(norm(x), nn.functional.instance_norm(x, weight=norm.weight, bias=norm.bias), atol=1e-6)


def test_discriminator_without_norm_leaves_its_scales_alone():
    judge, image = Discriminator(1, 2), images()
    judge(image, False).sum().backward()
    assert all(each.grad is None for each in judge.norms.parameters())
    assert not torch.equal(judge(image, False), judge(image, True))


def test_attention_of_one_gives_the_generators_image():
    them = players(attention=1)
    a = images()
    translated, mask = them.translator.ab(a)
    assert torch.equal(translated, them.translator.ab.generator(a))
    assert (mask == 1).all()


def test_attention_of_zero_gives_the_image_itself_and_no_cycle_loss():
    them = players(attention=0)
    a, b = images(seed=1), images(seed=2)
    there = go_round(them.translator, a, b)
    assert torch.equal(there.fake_b, a)
    assert torch.equal(there.fake_a, b)
    assert cycle_loss(there) == 0


def test_translation_mixes_by_the_attention():
    them = players(attention=0.25)
    a = images()
    made = them.translator.ab.generator(a)
    assert torch.allclose(them.translator.ab(a)[0], 0.25 * made + 0.75 * a)


@pytest.mark.parametrize("joint", [True, False])
def test_attention_of_one_makes_a_step_of_an_ordinary_cyclegan(joint):
    """One step against a CycleGAN written out here: least squares, 10 times L1, fakes straight from the empty pool."""
    them = players(attention=1, switch=1.0, preset="small" if joint else "paper")
    plain = players(attention=1)
    nets = {"ab": plain.translator.ab.generator, "ba": plain.translator.ba.generator}
    # Plain descent: Adam's first step is the gradient's sign, which is chance where norms make a bias's gradient 0.
    steps = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in {**nets, **plain.judges}.items()}
    parts = {"ab": them.translator.ab, "ba": them.translator.ba, **them.judges}
    them.optimisers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in parts.items()}
    a, b = images(seed=1), images(seed=2)
    for name in ("ab", "ba"):  # freeze A = 1 as a constant
        getattr(them.translator, name).attention.requires_grad_(False)
    them.step(a, b, 0, seeded())

    def generator_loss(domain):
        fake_b, fake_a = nets["ab"](a), nets["ba"](b)
        cycles = (nets["ba"](fake_b) - a).abs().mean() + (nets["ab"](fake_a) - b).abs().mean()
        fake = {"b": fake_b, "a": fake_a}
        return ((plain.judges[domain](fake[domain], True) - 1) ** 2).mean() + 10 * cycles, fake

    def judge(domain, real, fake):
        scores = plain.judges[domain](real, True), plain.judges[domain](fake.detach(), True)
        loss = 0.5 * (((scores[0] - 1) ** 2).mean() + (scores[1] ** 2).mean())
        steps[domain].zero_grad()
        loss.backward()
        steps[domain].step()

    fakes = {}
    if joint:
        grads = {}
        for name in nets:
            loss, fakes = generator_loss(name[1])
            grads[name] = torch.autograd.grad(loss, list(nets[name].parameters()))
        for name, net in nets.items():
            for parameter, grad in zip(net.parameters(), grads[name], strict=True):
                parameter.grad = grad
            steps[name].step()
        judge("b", b, fakes["b"])
        judge("a", a, fakes["a"])
    else:
        for name, domain, real in (("ab", "b", b), ("ba", "a", a)):
            loss, fakes = generator_loss(domain)
            grad = torch.autograd.grad(loss, list(nets[name].parameters()))
            for parameter, each in zip(nets[name].parameters(), grad, strict=True):
                parameter.grad = each
            steps[name].step()
            judge(domain, real, fakes[domain])
    for mine, other in [
        (them.translator.ab.generator, nets["ab"]),
        (them.translator.ba.generator, nets["ba"]),
        *((them.judges[domain], plain.judges[domain]) for domain in "ab"),
    ]:
        for (name, value), wanted in zip(mine.named_parameters(), other.parameters(), strict=True):
            assert torch.allclose(value, wanted, atol=1e-5), name


def test_optimisers_are_adam_as_published():
    for optimiser in players().optimisers.values():
        assert isinstance(optimiser, torch.optim.Adam)
        assert {group["betas"] for group in optimiser.param_groups} == {(0.5, 0.999)}


def test_adversarial_and_cycle_losses_by_hand():
    class Same(nn.Module):
        def forward(self, image, normalise):
            return image

    a, b = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), -0.5)
    mask = torch.tensor([[[[0.05, 0.1], [0.2, 0.0]]]])
    assert adversarial_loss(Same(), a, mask, 0.1, True) == pytest.approx((2 * 0.25 + 2 * 1) / 4)
    # Real: -.5 where its own mask of ones lets it through; fake: .5 in two pixels of four.
    got = discriminator_loss(Same(), (b, torch.ones(1, 1, 2, 2)), (a, mask), 0.1, True)
    assert got == pytest.approx(0.5 * (1.5**2 + 2 * 0.25 / 4))


def test_threshold_of_zero_shows_the_whole_image_and_no_threshold_has_a_gradient():
    image, mask = images(), torch.rand(2, 1, 16, 16, generator=seeded()).requires_grad_(True)
    assert torch.equal(masked(image, mask, 0.0), image)
    seen = masked(image.requires_grad_(True), mask, 0.5)
    assert torch.equal(seen != 0, (mask >= 0.5) & (image != 0))
    seen.sum().backward()
    assert mask.grad is None
    assert torch.equal(image.grad, (mask >= 0.5).float())


def test_discriminators_see_fakes_with_the_attention_of_their_source():
    them = players(threshold=0.5, switch=0.0)
    a, b = images(seed=1), images(seed=2)
    seen = {"a": [], "b": []}
    for domain, judge in them.judges.items():
        judge.register_forward_pre_hook(lambda module, inputs, domain=domain: seen[domain].append(inputs))
    them.start_epoch(0)
    there = go_round(them.translator, a, b)
    them.step(a, b, 0, seeded())
    for domain, real, own, fake, source in (
        ("b", b, there.mask_b, there.fake_b, there.mask_a),
        ("a", a, there.mask_a, there.fake_a, there.mask_b),
    ):
        (in_step, normalise), (judged, _) = seen[domain]
        assert normalise is False
        assert torch.equal(in_step, masked(fake, source, 0.5))
        assert torch.equal(judged, torch.cat([masked(real, own, 0.5), masked(fake, source, 0.5)]))


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_switch_freezes_attention_bit_by_bit_and_takes_the_norms_out(preset):
    them = players(preset=preset, switch=0.5)
    a, b = images(seed=1), images(seed=2)

    def state(parts):
        return [each.clone() for part in parts for each in part.state_dict().values()]

    attentions = [them.translator.ab.attention, them.translator.ba.attention]
    generators = [them.translator.ab.generator, them.translator.ba.generator]
    norms = [judge.norms for judge in them.judges.values()]
    for epoch in range(4):
        before = [state(parts) for parts in (attentions, generators, norms)]
        them.start_epoch(epoch)
        them.step(a, b, epoch, seeded(epoch))
        after = [state(parts) for parts in (attentions, generators, norms)]
        same = [all(map(torch.equal, old, new)) for old, new in zip(before, after, strict=True)]
        assert same == ([True, False, True] if epoch >= 2 else [False, False, False])
        if epoch >= 2:
            assert all(each.grad is None for part in (*attentions, *norms) for each in part.parameters())


def test_attention_cost_alone_pulls_the_attention_down_and_leaves_the_generators():
    a, b = images(seed=1), images(seed=2)
    free, dear = players(attention=0.5), players(attention=0.5, attention_cost=1e6)
    for them in (free, dear):
        parts = {"ab": them.translator.ab, "ba": them.translator.ba, **them.judges}
        them.optimisers = {name: torch.optim.SGD(part.parameters(), lr=1e-7) for name, part in parts.items()}
        them.step(a, b, 0, seeded())
    for name in ("ab", "ba"):
        one, other = getattr(free.translator, name), getattr(dear.translator, name)
        assert (other.attention.value - one.attention.value).item() == pytest.approx(-0.1, rel=1e-3)
        assert all(map(torch.equal, one.generator.parameters(), other.generator.parameters()))


def test_learning_rate_reaches_every_optimiser():
    them = players(iterations=4, epochs=4, lr=0.5)
    for epoch, lr in enumerate([0.5, 0.5, 0.5, 0.25]):
        them.start_epoch(epoch)
        assert {group["lr"] for each in them.optimisers.values() for group in each.param_groups} == {lr}


def test_pool_returns_every_mask_with_its_image_and_fills_first():
    pool, generator = Pool(50), seeded()
    swaps = 0
    for first in range(0, 4050, 5):
        value = torch.arange(first, first + 5, dtype=torch.float32).view(5, 1, 1, 1)
        got, mask = pool.exchange(value.expand(-1, 3, 2, 2), -value.expand(-1, 1, 2, 2), generator)
        assert torch.equal(got[:, :1], -mask)
        if first < 50:
            assert torch.equal(got[:, :1, :1, :1], value)
        else:
            swaps += int((got[:, 0, 0, 0] != value.flatten()).sum())
        assert len(pool.pairs) == min(50, first + 5)
    assert abs(swaps / 4000 - 0.5) < 0.03
    held = [float(image[0, 0, 0]) for image, _ in pool.pairs]
    assert len(set(held)) == 50
    assert max(held) > 3900  # new ones take the places of old


def test_pool_of_none_hands_through():
    image, mask = images(), images()
    got = Pool(0).exchange(image, mask, seeded())
    assert torch.equal(got[0], image)
    assert torch.equal(got[1], mask)


def test_augmentation_cuts_at_random_and_mirrors_half():
    ramp = torch.linspace(0, 1, 32).expand(400, 1, 32, 32)
    assert augment(ramp, 1.0, False, seeded()) is ramp
    mirrored = augment(ramp, 1.0, True, seeded())[:, 0, 0, 0] == 1
    assert 0.4 < mirrored.float().mean() < 0.6
    cut = augment(ramp, 1.25, False, seeded())
    assert cut.shape == ramp.shape
    assert len((cut[:, 0, 0, 0] * 1e4).round().unique()) == 9
    assert (cut.diff(dim=3) >= 0).all()


@pytest.mark.parametrize(("value", "share", "entropy"), [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.5, 1.0, 1.0)])
def test_monitors_tell_a_degenerate_attention(value, share, entropy):
    them = players(attention=value)
    got = dict(zip(MONITORS, _monitor(go_round(them.translator, images(seed=1), images(seed=2)), 0.1), strict=True))
    assert got["attention"] == pytest.approx(value)
    assert got["attention_share"] == share
    assert got["attention_entropy"] == pytest.approx(entropy, abs=1e-3)
    assert (got["change"] == 0) == (value == 0)


def test_translator_leaves_the_domain_of_the_class():
    ab, ba = (Direction(nn.Identity(), nn.Identity(), None) for _ in range(2))
    translator = Translator(ab, ba)
    assert translator.direction(0) is ab
    assert translator.direction(1) is ba
