"""Infidelity and max-sensitivity against Captum and Quantus, all shown the images that xbench draws."""

import numpy as np
import pytest
import quantus
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max

from xbench.metrics.robustness import max_sensitivity
from xbench.metrics.sampling import infidelity

KINDS = {"float32": torch.float32, "float64": torch.float64}


def infidelities(made, runs, score):
    """Return xbench's scores [B] and the images [runs,B,C,H,W] that it drew."""
    net, made.net = made.net, made.watched()
    ours = infidelity(runs, 0.2, score)(made.scene(batch_size=len(made.image)))["infidelity"]
    shown, made.net = made.net.seen, net
    drawn = torch.stack([image for image in shown if not torch.equal(image, made.image)])
    assert len(drawn) == runs
    return ours, drawn


def captum_score(made, drawn, score, normalize, maps=None):
    """Return Captum's infidelity [B] of the same images, and E (f(x) - f(x - I))^2."""

    def forward(image):
        logits = made.net(image)
        return logits.softmax(dim=1) if score == "prob" else logits

    def perturb(image):
        # An image's draws lie next to each other.
        changed = drawn.transpose(0, 1).flatten(0, 1)
        return image - changed, changed

    given = made.maps if maps is None else maps
    attribution = given[:, None].expand_as(made.image) / made.image.shape[1]
    # Sums over channels of I Phi / C, I being the same in all, are sums over pixels of I Phi.
    found = captum_infidelity(
        forward,
        perturb,
        made.image,
        attribution,
        target=made.target,
        n_perturb_samples=len(drawn),
        normalize=normalize,
    )
    clean, *others = (forward(image).gather(1, made.target[:, None])[:, 0] for image in (made.image, *drawn))
    return found, (clean - torch.stack(others)).square().mean(dim=0)


def telling(made):
    """Turn half of the maps into ones that tell something, so that their infidelity is not near 1."""
    image = made.image.clone().requires_grad_(True)
    made.net(image).gather(1, made.target[:, None]).sum().backward()
    slope = image.grad.mean(dim=1)
    made.maps[::2] = slope[::2] + made.maps[::2] * slope.std() / 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score", ["prob", "logit"])
@pytest.mark.parametrize("channels", [1, 3])
def test_infidelity_is_that_of_captum_in_units_of_what_there_is_to_explain(case, agree, channels, score, kind):
    made = case(size=16, channels=channels, dtype=KINDS[kind], top_class=False)
    telling(made)
    ours, drawn = infidelities(made, 40, score)
    theirs, whole = captum_score(made, drawn, score, normalize=True)
    fitted = ours < 1 - 1e-9  # a factor below 0 is not allowed here: see the next test
    assert fitted.sum() >= 8
    agree(
        f"Captum infidelity, {kind}", ours[fitted], (theirs / whole)[fitted], {"float32": 1e-4, "float64": 1e-10}[kind]
    )


def test_known_defect_captum_scores_a_map_and_its_opposite_alike(case):
    """The best factor may be negative: a map that says the opposite of what happens is as good as the right one."""
    made = case(size=8, top_class=False)
    telling(made)
    _, drawn = infidelities(made, 40, "logit")
    found = [captum_score(made, drawn, "logit", True, maps)[0] for maps in (made.maps, -made.maps)]
    np.testing.assert_allclose(*found, rtol=1e-4)
    ours = [infidelity(40, 0.2, "logit")(made.scene(maps))["infidelity"] for maps in (made.maps, -made.maps)]
    assert (ours[0][::2] < 0.9).all()
    np.testing.assert_array_equal(ours[1][::2], 1)


def test_known_defect_captum_scores_a_map_by_its_scale_unless_told_not_to(case):
    made = case(size=8, top_class=False)
    telling(made)
    _, drawn = infidelities(made, 40, "logit")
    found = [captum_score(made, drawn, "logit", False, maps)[0] for maps in (made.maps, made.maps * 1000)]
    assert (found[1] > 10 * found[0]).all()
    ours = [infidelity(40, 0.2, "logit")(made.scene(maps))["infidelity"] for maps in (made.maps, made.maps * 1000)]
    np.testing.assert_allclose(*ours, rtol=1e-5)


def gradient(net, image, target):
    """Return maps [B,H,W]."""
    with torch.enable_grad():
        image = image.detach().clone().requires_grad_(True)
        (found,) = torch.autograd.grad(net(image).gather(1, target[:, None]).sum(), image)
    return found.sum(dim=1)


def sensitivities(made, draws):
    """Return xbench's scores [B] and the images that it drew, [draws,B,C,H,W]."""
    made.maps, seen = gradient(made.net, made.image, made.target), []

    def explain(net, image, target):
        seen.append(image.clone())
        return gradient(net, image, target)

    ours = max_sensitivity(0.1, draws)(made.scene(explain=explain))["max_sensitivity"]
    return ours, torch.stack(seen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("draws", [1, 10])
def test_max_sensitivity_is_that_of_captum(case, agree, draws, channels, kind):
    made = case(size=16, channels=channels, dtype=KINDS[kind], top_class=False)
    ours, drawn = sensitivities(made, draws)
    theirs = sensitivity_max(
        lambda image, target: (gradient(made.net, image[0] if isinstance(image, tuple) else image, target),),
        made.image,
        lambda image: drawn.transpose(0, 1).flatten(0, 1),
        n_perturb_samples=draws,
        target=made.target,
    )
    agree(f"Captum sensitivity_max, {kind}", ours, theirs, {"float32": 1e-5, "float64": 1e-12}[kind])


@pytest.mark.parametrize("channels", [1, 3])
def test_max_sensitivity_is_that_of_quantus(case, agree, channels):
    made = case(size=16, channels=channels, top_class=False)
    ours, drawn = sensitivities(made, 5)
    turn = iter(drawn)

    def explained(model, inputs, targets, **options):
        return gradient(model, torch.as_tensor(inputs), torch.as_tensor(targets))[:, None].numpy()

    metric = quantus.MaxSensitivity(
        nr_samples=5,
        normalise=False,
        perturb_func=lambda arr, **options: next(turn).flatten(1).numpy(),
        disable_warnings=True,
        display_progressbar=False,
    )
    theirs = metric(
        model=made.net,
        x_batch=made.image.numpy(),
        y_batch=made.target.numpy(),
        a_batch=made.maps[:, None].numpy(),
        explain_func=explained,
        channel_first=True,
    )
    agree("Quantus MaxSensitivity", ours, theirs, 1e-5)


def test_a_map_of_zeros_has_no_relative_sensitivity_where_captum_gives_an_absolute_one(case):
    """Captum divides by 1 where the map's norm is 0; xbench leaves the sample out and counts it."""
    made = case(size=4)
    still = made.image[:, 0]

    def moved(image):
        return image[:, 0] - still.repeat_interleave(len(image) // len(still), dim=0)

    theirs = sensitivity_max(
        lambda image: (moved(image[0] if isinstance(image, tuple) else image),),
        made.image,
        lambda image: image + 0.05,
        n_perturb_samples=2,
    )
    np.testing.assert_allclose(theirs, 0.05 * 12, rtol=1e-4)
    made.maps = torch.zeros_like(made.maps)
    ours = max_sensitivity(0.1, 2)(made.scene(explain=lambda net, image, target: moved(image)))
    assert ours["max_sensitivity"].isnan().all()
