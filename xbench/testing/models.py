"""What every classifier keeps: the checks of its logits, its weights and its training."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from xbench.models import Model
from xbench.testing.common import common_checks, found_factory
from xbench.testing.law import Check, Failed, NotApplicable
from xbench.testing.subjects import ModelSubject

_NORMALISATIONS = {
    "ImageNet's mean and deviation": (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    ),
    "(image - .5) / .5": (torch.tensor(0.5), torch.tensor(0.5)),
    "image * 255": (torch.tensor(0.0), torch.tensor(1 / 255)),
}
_ERRORS = 4


def built(subject: ModelSubject) -> None:
    """Build the net for the images of a data set that it is for."""
    found_factory(subject)
    net = subject.fresh()
    if not isinstance(net, nn.Module):
        raise Failed(f"the factory returned a {type(net).__name__}; a torch.nn.Module is needed")


def trains(subject: ModelSubject) -> None:
    """Train it with its quick parameters, and load the weights into a net made anew."""
    if not subject.spec.fit:
        raise NotApplicable("it has no training")
    state = subject.once("trained", subject.trained)
    try:
        subject.fresh().load_state_dict(state)
    except RuntimeError as error:
        raise Failed(
            f"the weights that its training returns do not fit the net: {' '.join(str(error).split())}"
        ) from error
    if broken := [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise Failed(f"after a training with quick parameters {broken[0]} is not finite")


def logits(subject: ModelSubject) -> None:
    """Look at the logits of test images."""
    model, classes = subject.model, len(subject.dataset.index("test").classes)
    try:
        found = _logits(model, subject.images)
    except ValueError as error:
        raise Failed(str(error)) from error
    if found.shape[1] != classes:
        raise Failed(f"the model gives {found.shape[1]} classes; the data set has {classes}")
    if not found.isfinite().all():
        raise Failed("some logits are NaN or infinite")
    prob = model.prob(found)
    if prob.shape != found.shape or prob.min() < 0 or prob.max() > 1:
        raise Failed(f"probabilities have shape {tuple(prob.shape)} and go from {prob.min():.3g} to {prob.max():.3g}")


def repeats(subject: ModelSubject) -> None:
    """Ask twice."""
    model, images = subject.model, subject.images
    if training := [name for name, part in model.module.named_modules() if part.training]:
        raise Failed(f"after eval() {training[0] or 'the net'} is still in training mode")
    kept = images.clone()
    _agree(_logits(model, images), _logits(model, images), "asked twice, it gives other logits", 0)
    if not torch.equal(images, kept):
        raise Failed("the forward pass changes the images in place")


def company(subject: ModelSubject) -> None:
    """Ask for images together and one by one."""
    model, images = subject.model, subject.images
    _repeatable(model, images)
    alone = torch.cat([_logits(model, image) for image in images.split(1)])
    _agree(_logits(model, images), alone, "together and alone, images give other logits", 1e-3)


def same_weights(subject: ModelSubject) -> None:
    """Build it twice, and train it twice."""
    _same_state(subject.fresh().state_dict(), subject.fresh().state_dict(), "built twice with one seed")
    if subject.spec.fit:
        _same_state(subject.once("trained", subject.trained), subject.trained(), "trained twice with one seed")


def _same_state(one: Mapping[str, Tensor], other: Mapping[str, Tensor], what: str) -> None:
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            raise Failed(f"{what}, it has other weights {name}")


def gradients(subject: ModelSubject) -> None:
    """Go back from the logits to the image."""
    if "gradients" not in subject.spec.has:
        raise NotApplicable("it declares no gradients")
    image = subject.images[:4].clone().requires_grad_(True)
    with torch.enable_grad():
        out = subject.model.logits(image)
        if not out.requires_grad:
            raise Failed("the logits have no gradient")
        gradient = torch.autograd.grad(out[:, -1].sum(), image)[0]
    if not gradient.isfinite().all():
        raise Failed("the gradient of a logit holds NaN or infinite values")
    if not gradient.any():
        raise Failed("the gradient of a logit is 0 everywhere")


def convolution(subject: ModelSubject) -> None:
    """Open the net at its convolution, as CAM methods do, and go on from there."""
    if "conv_layer" not in subject.spec.has:
        raise NotApplicable("it declares no conv_layer")
    model, image = subject.model, subject.images[:4]
    _repeatable(model, image)
    layer = model.default_layer(image)
    maps, out = model.tap(image)
    _agree(_logits(model, image), out.detach(), f"opened at {layer!r}, the net gives other logits", 1e-4)
    gradient = torch.autograd.grad(out[:, -1].sum(), maps, allow_unused=True)[0]
    if gradient is None or not gradient.isfinite().all():
        raise Failed(f"no finite gradient flows from a logit back to {layer!r}")


def normalised(subject: ModelSubject) -> None:
    """Classify images as they are and as common normalisations leave them."""
    if subject.spec.fit:
        raise NotApplicable("it is trained by the harness, on images in [0,1]")
    ids = subject.dataset.some(most=200)
    index = subject.dataset.index("test")
    place = {name: i for i, name in enumerate(index.ids)}
    images = torch.from_numpy(subject.dataset.data.load(ids).image)
    labels = torch.tensor([int(index.labels[place[name]]) for name in ids])
    model = subject.model
    _repeatable(model, images)
    plain = (_logits(model, images).argmax(dim=1) == labels).double()
    for name, (mean, deviation) in _NORMALISATIONS.items():
        if mean.ndim == 4 and images.shape[1] not in (1, 3):
            continue
        shifted = (images - mean) / deviation
        if shifted.shape != images.shape:
            shifted = shifted.mean(dim=1, keepdim=True)
        right = (_logits(model, shifted).argmax(dim=1) == labels).double()
        gain = right - plain
        if float(gain.mean()) > _ERRORS * float(gain.std()) / len(gain) ** 0.5 and gain.any():
            raise Failed(
                f"images in [0,1] are classified right {float(plain.mean()):.0%} of the time, brought to {name} before "
                f"{float(right.mean()):.0%}"
            )


def _logits(model: Model, image: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.logits(part) for part in image.split(model.batch_size)])


def _repeatable(model: Model, image: Tensor) -> None:
    if not torch.equal(_logits(model, image), _logits(model, image)):
        raise NotApplicable("asked twice, it gives other logits ('repeats itself')")


def _agree(one: Tensor, other: Tensor, what: str, tolerance: float) -> None:
    far = float((one - other).abs().max())
    if far > tolerance * max(1.0, float(one.abs().max())):
        raise Failed(f"{what}: they differ by {far:.3g}")


def _check(name: str, law: str, mend: str, run: Callable[[ModelSubject], None], gate: bool = False) -> Check:
    return Check(name, "model", law, mend, run, gate)


MODEL_CHECKS: tuple[Check, ...] = (
    *common_checks("model"),
    _check(
        "can be built",
        "The factory takes image shape, class names and the declared parameters, and returns a torch.nn.Module.",
        "Let factory= name a function (shape, classes, **params), with of where wraps= is set.",
        built,
        gate=True,
    ),
    _check(
        "trains with its quick parameters",
        "The recipe runs, and returns finite weights that fit a net made anew.",
        "Return context.module.state_dict() (xbench.training.train_classifier does), and declare quick= for a trial.",
        trains,
        gate=True,
    ),
    _check(
        "gives a logit a class",
        "Images [B,C,H,W] in [0,1] give finite logits [B,K], or [B,1] under link='sigmoid', and probabilities in [0,1].",
        "End in a layer of one output a class, without softmax; declare link='sigmoid' for a net of one logit.",
        logits,
        gate=True,
    ),
    _check(
        "repeats itself",
        "In eval mode the same images give the same logits, to the bit, and are left as they were.",
        "Use nn.Dropout and nn.BatchNorm, which eval() stills, and no operation in place on the input.",
        repeats,
    ),
    _check(
        "does not depend on company",
        "An image's logits are the same in any batch.",
        "Normalise by constants or running statistics, never by those of the batch.",
        company,
    ),
    _check(
        "same seed, same weights",
        "Built, and trained, twice with one seed it has the same weights.",
        "Draw from torch's generator, which the harness seeds before, and in a training from context.seed.",
        same_weights,
    ),
    _check(
        "lets gradients through",
        "A logit has a finite gradient with respect to the image that is not 0 everywhere.",
        "Leave out detach(), no_grad() and rounding; or take 'gradients' out of has=.",
        gradients,
    ),
    _check(
        "opens at its convolution",
        "The net can be opened at its last convolution: the same logits, and a finite gradient back to there.",
        "Give the module cam_layer= (a dotted name); or take 'conv_layer' out of has=.",
        convolution,
    ),
    _check(
        "normalises inside",
        "A classifier with weights of its own does no better on images normalised beforehand.",
        "Put mean and deviation of the weights' training into the module's forward: images come in [0,1].",
        normalised,
    ),
)
