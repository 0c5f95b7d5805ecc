"""Metrics that explain again: robustness and randomisation, on explainers whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from xbench.errors import Unsupported
from xbench.metrics.randomisation import _cascade, _histogram_entropy, efficient_mprt, mprt, random_logit
from xbench.metrics.robustness import max_sensitivity, shift_stability
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys, uniform
from xbench.tensors import Batch, Explanation


def network(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, classes),
    )


def gradient(model):
    def explain(batch):
        image = batch.image.clone().requires_grad_(True)
        score = model.score(image, batch.target).sum()
        return Explanation(torch.autograd.grad(score, image)[0].sum(dim=1))

    return explain


def intensity(model):
    return lambda batch: Explanation(batch.image.mean(dim=1))


def constant(model):
    return lambda batch: Explanation(torch.ones_like(batch.image[:, 0]))


def noise(model):
    return lambda batch: Explanation(uniform(batch.keys, "noise", batch.image.shape[2:]))  # as controls/random does


def scene(explainer, module=None, size=5, part=slice(None)):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(size, 1, 8, 8, generator=generator)
    ids, target = tuple(f"s{i}" for i in range(size)), torch.arange(size) % 4
    batch = Batch(image, ids, target, target, sample_keys(0, ids), mask=image[:, 0] > 0.5).take(part)
    model = Model(module or network())
    return Scene(Backdrop(model, batch, torch.zeros(1)), explainer(model)(batch), rebind=explainer)


METRICS = {
    "max_sensitivity": max_sensitivity(0.05, 3),
    "shift_stability": shift_stability(2),
    "mprt": mprt(0, True),
    "efficient_mprt": efficient_mprt(),
    "random_logit": random_logit(False),
}


def test_a_map_that_does_not_look_at_the_image_is_not_sensitive_and_does_not_move_with_it():
    still = scene(lambda model: lambda batch: Explanation(torch.arange(64.0).view(1, 8, 8).expand(len(batch), -1, -1)))
    assert METRICS["max_sensitivity"](still)["max_sensitivity"].tolist() == [0] * 5
    # A ramp moved by two rows or columns is still a ramp.
    assert METRICS["shift_stability"](still)["shift_stability"].tolist() == pytest.approx([1] * 5)
    frozen = scene(lambda model: lambda batch: Explanation(uniform(batch.keys, "x", (8, 8))), size=60)
    assert METRICS["shift_stability"](frozen)["shift_stability"].mean().abs() < 0.05


def test_a_map_that_is_the_image_moves_with_it_and_by_what_the_noise_is():
    alike = scene(intensity)
    assert METRICS["shift_stability"](alike)["shift_stability"].tolist() == pytest.approx([1] * 5)
    worst = METRICS["max_sensitivity"](alike)["max_sensitivity"]
    batch = alike.batch
    for i in range(5):
        expected = []
        for draw in range(3):
            moved = batch.image + 0.05 * (uniform(batch.keys, "sensitivity", (1, 8, 8), draw) * 2 - 1)
            change = (moved.clamp(0, 1) - batch.image)[i]
            expected.append((change.norm() / batch.image[i].norm()).item())
        assert worst[i].item() == pytest.approx(max(expected), rel=1e-5)


def test_the_gradient_of_a_linear_score_is_not_sensitive():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert METRICS["max_sensitivity"](scene(gradient, linear))["max_sensitivity"].tolist() == [0] * 5


def test_truth_is_moved_with_the_image():
    seen = []

    def keep(model):
        def explain(batch):
            seen.append(batch)
            return Explanation(batch.image.mean(dim=1))

        return explain

    made = scene(keep)
    METRICS["shift_stability"](made)
    for batch in seen[1:]:
        assert torch.equal(batch.mask, batch.image[:, 0] > 0.5)
    down = seen[1].image
    assert torch.equal(down[:, :, 2:], made.batch.image[:, :, :-2])
    assert torch.equal(down[:, :, :2], made.batch.image[:, :, :1].expand(-1, -1, 2, -1))


def test_a_map_of_the_image_alone_survives_the_loss_of_all_weights_and_one_of_noise_does_not():
    assert METRICS["mprt"](scene(intensity))["mprt"].tolist() == pytest.approx([1] * 5)
    random = METRICS["mprt"](scene(noise, size=80))
    assert random["mprt"].mean().abs() < 0.06
    learnt = METRICS["mprt"](scene(gradient))
    assert learnt["mprt"].max() < 0.9
    assert learnt["mprt.curve"].y[:, 0].tolist() == [1] * 5


def test_layers_forget_from_the_last_to_the_first_and_the_network_given_is_left_alone():
    model = Model(network())
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    shares, changed = [], []
    for share, other in _cascade(model, 0):
        shares.append(share)
        now = other.module.state_dict()
        changed.append(
            {name.partition(".")[0] for name in before if "weight" in name and not torch.equal(before[name], now[name])}
        )
    assert shares == [0.25, 0.5, 0.75, 1.0]
    # The weights of a fresh normalisation are ones, as they were.
    assert changed == [{"6"}, {"6", "3"}, {"6", "3"}, {"6", "3", "0"}]
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert [share for share, _ in _cascade(model, 2)] == [0.5, 1.0]
    with pytest.raises(Unsupported, match="no layer"):
        next(_cascade(Model(nn.Flatten()), 0))


def test_nothing_that_was_learnt_stays():
    class Attends(nn.Module):
        def __init__(self, bare):
            super().__init__()
            self.cut, self.norm = nn.Conv2d(1, 4, 2, 2), nn.BatchNorm2d(4, affine=False)
            self.look, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)
            self.token = nn.Parameter(torch.ones(4)) if bare else 1.0

        def forward(self, image):
            tokens = self.norm(self.cut(image)).flatten(2).transpose(1, 2) * self.token
            return self.head(self.look(tokens, tokens, tokens)[0].mean(dim=1))

    net = Attends(bare=False)
    for value in net.state_dict().values():
        value.fill_(3)
    model = Model(net)
    *_, (share, other) = _cascade(model, 1)
    assert share == 1
    state = other.module.state_dict()
    # The second time they are not drawn, and are the same: the attention's bias too, which is another layer's own.
    *_, (_, again) = _cascade(model, 1)
    assert all(torch.equal(value, state[name]) for name, value in again.module.state_dict().items())
    assert not [name for name, value in state.items() if (value == 3).any()]
    assert state["norm.running_mean"].tolist() == [0] * 4
    with pytest.raises(
        Unsupported, match="'token' belongs to no layer with a reset_parameters; it would stay as learnt"
    ):
        next(_cascade(Model(Attends(bare=True)), 1))


def test_mprt_is_the_mean_of_the_correlations_of_the_stages_by_loops():
    made = scene(gradient)
    clean = made.explanation.attribution.flatten(1).abs()
    rows = []
    for _, model in _cascade(made.model, 0):
        other = gradient(model)(made.batch).attribution.flatten(1).abs()
        rows.append([spearmanr(a, b).statistic for a, b in zip(clean.numpy(), other.numpy(), strict=True)])
    found = METRICS["mprt"](made)
    np.testing.assert_allclose(found["mprt"].numpy(), np.mean(rows, axis=0), atol=1e-3)
    np.testing.assert_allclose(found["mprt_last"].numpy(), rows[-1], atol=1e-3)


def test_the_logit_of_another_class_has_the_opposite_gradient_with_two_classes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

        def forward(self, image):
            z = self.one(image)
            return torch.cat([-z, z], dim=1)

    torch.manual_seed(0)
    made = scene(gradient, Two(), size=2)
    assert random_logit(False)(made)["random_logit"].tolist() == pytest.approx([-1, -1])
    assert random_logit(True)(made)["random_logit"].tolist() == pytest.approx([1, 1])
    assert METRICS["random_logit"](scene(intensity))["random_logit"].tolist() == pytest.approx([1] * 5)


def test_entropy_of_a_histogram_of_one_and_of_all_bins():
    even = torch.arange(100.0).view(1, 10, 10)
    single = torch.zeros(1, 10, 10)
    single[0, 0, 0] = 1
    assert _histogram_entropy(even).item() == pytest.approx(np.log(100))
    assert _histogram_entropy(single).item() == pytest.approx(-(0.99 * np.log(0.99) + 0.01 * np.log(0.01)))
    assert METRICS["efficient_mprt"](scene(intensity))["efficient_mprt"].tolist() == pytest.approx([0] * 5)


@pytest.mark.parametrize("name", METRICS)
def test_no_score_hangs_on_the_batch(name):
    whole = METRICS[name](scene(gradient))[name]
    for i in range(5):
        alone = METRICS[name](scene(gradient, part=slice(i, i + 1)))[name]
        torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["shift_stability", "mprt", "efficient_mprt", "random_logit"])
def test_a_blank_map_is_undefined(name):
    assert METRICS[name](scene(constant))[name].isnan().all()


def test_bad_parameters_are_named():
    for make, wrong in (
        (lambda: max_sensitivity(0.0, 3), "radius=0.0"),
        (lambda: max_sensitivity(0.1, 0), "draws=0"),
        (lambda: shift_stability(0), "pixels=0"),
        (lambda: shift_stability(5)(scene(intensity)), "pixels=5 moves images of 8 x 8"),
        (lambda: mprt(-1, True), "steps=-1"),
        (lambda: Scene(scene(intensity).backdrop).explain, "no explainer to ask again"),
    ):
        with pytest.raises((ValueError, Unsupported), match=wrong):
            make()


def test_a_stage_without_an_answer_does_not_count_and_a_blank_one_is_like_nothing():
    def absent(model):
        def explain(batch):
            found = gradient(model)(batch)
            fresh = not torch.equal(model.module[0].weight, network()[0].weight)
            return Explanation(found.attribution, defined=torch.full((len(batch),), not fresh))

        return explain

    found = METRICS["mprt"](scene(absent))
    whole = METRICS["mprt"](scene(gradient))
    # The first convolution is the last to forget: at that stage alone there is no answer.
    torch.testing.assert_close(found["mprt"], whole["mprt.curve"].y[:, 1:4].mean(dim=1))
    assert found["mprt_last"].isnan().all()
    assert METRICS["efficient_mprt"](scene(absent))["efficient_mprt"].isnan().all()
