"""The numbers of a training: what a preset says, and what a parameter says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xbench.errors import Unsupported

_ID = "translation/ag_cyclegan"
_MAY_BE_ZERO = ("switch", "attention_cost")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The published code and its configuration for horses and zebras, on films of 256 x 256.
    "paper": {
        "generator_width": 32,
        "attention_width": 32,
        "discriminator_width": 64,
        "blocks": 9,
        "batch": 1,
        "lr": 1e-4,
        "epochs": 100,
        "iterations": 0,
        "zoom": 286 / 256,
        "flip": True,
        "joint": False,
        "share": "none",
        "judge": "own",
        "attn_decoder_kernel": 1,
        "attention_cost": 0.0,
        "switch": 0.3,
    },
    # For films of 64 x 64 on a CPU; figures are of the phantom. Nothing is mirrored: the heart has a side.
    # Discriminators of their own cannot tell the classes within minutes: after 225 iterations 8 % and 3 % of the films
    # turned, from copies of the classifier 98 % and 100 % after 100. Without a cost the attention was 0.31 on average, and
    # no more on the heart's border than elsewhere. The attention is never frozen nor the discriminators' input masked:
    # a mask around the heart hides the chest, whose width the class hangs on (turned: 93 % before a switch, 82 % after).
    "small": {
        "generator_width": 16,
        "attention_width": 16,
        "discriminator_width": 16,
        "blocks": 3,
        "batch": 8,
        "lr": 1e-3,
        "epochs": 20,
        "iterations": 400,
        "zoom": 1.0,
        "flip": False,
        "joint": True,
        "share": "attention+generator",
        "judge": "classifier",
        "attn_decoder_kernel": 3,
        "attention_cost": 0.3,
        "switch": 1.0,
    },
}


@dataclass(frozen=True)
class Recipe:
    """A training in numbers.

    Attributes
    ----------
    sizes
        ``generator_width``, ``attention_width``, ``discriminator_width`` and ``blocks`` of the networks.
    batch, iterations, epochs
        Images of each domain a step, steps in all, and the parts they are cut into: a checkpoint, a learning rate, and a
        line of monitors each.
    lr
        Of Adam with betas .5 and .999: constant for the first half of the epochs, then down to 0 in a line.
    switch
        The epoch from which the attention is frozen, the discriminators see only where it reaches ``threshold``, and do
        without instance normalisation.
    threshold
        Of the attention, in [0,1].
    cycle
        Weight of the cycle loss.
    pool
        Fakes kept of each domain.
    zoom, flip
        Films are enlarged by ``zoom`` and cut at random to their size; mirrored in half of the draws.
    joint
        Both directions in one step from one pass of each network; else one after the other as in the published code, where
        the second sees what the first has learnt and the networks run twice.
    share, judge
        What of the classifier attention and generator are built on, see `translator.build_translator`, and what the
        discriminators start from, see `translator.judge_of`.
    attn_decoder_kernel
        Kernel of the attention decoder's convolutions, 1 or 3.
    attention_cost
        Weight of the mean attention in the loss. Where the generator repeats the image, nothing else says whether the
        attention is 0 or 1: without a cost it stays where it started, at .5, or drifts.
    """

    sizes: Mapping[str, int]
    batch: int
    iterations: int
    epochs: int
    lr: float
    switch: int
    threshold: float
    cycle: float
    pool: int
    zoom: float
    flip: bool
    joint: bool
    share: str
    judge: str
    attn_decoder_kernel: int
    attention_cost: float

    def steps(self, epoch: int) -> range:
        """Return the steps of an epoch 0, 1, ..., counted from the start; epochs differ by one step at most."""
        return range(epoch * self.iterations // self.epochs, (epoch + 1) * self.iterations // self.epochs)

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch 0, 1, ..."""
        half = self.epochs / 2
        return self.lr * min(1.0, (self.epochs - epoch) / half) if half else self.lr


def recipe(params: Mapping[str, Any], larger_domain: int) -> Recipe:
    """Return the numbers of a training.

    Parameters
    ----------
    params
        The explainer's parameters; 0 and an empty text stand for what the preset says, and for ``switch`` and
        ``attention_cost``, whose 0 means something, any number below it does.
    larger_domain
        Training images of the larger domain: an epoch of the paper's preset shows each once.

    Raises
    ------
    Unsupported
        A value is out of range.
    """
    for name in ("iterations", "epochs", "batch", "generator_width", "discriminator_width", "blocks", "pool"):
        if params[name] < 0:
            raise Unsupported(f"{_ID}: {name} is {params[name]}; 0 or more is needed")
    for name in ("lr", "cycle"):
        if not 0 <= params[name] < float("inf"):
            raise Unsupported(f"{_ID}: {name} is {params[name]}; 0 or more is needed")
    if not 0 <= params["threshold"] <= 1:
        raise Unsupported(f"{_ID}: threshold is {params['threshold']}; a number from 0 to 1 is needed")
    if not params["switch"] <= 1:
        raise Unsupported(f"{_ID}: switch is {params['switch']}; a number from 0 to 1 is needed, or -1")
    if params["zoom"] and not 1 <= params["zoom"] <= 4:
        raise Unsupported(f"{_ID}: zoom is {params['zoom']}; a number from 1 to 4 is needed, or 0")
    preset = PRESETS[params["preset"]]
    chosen = {name: value if _unsaid(name, params.get(name)) else params[name] for name, value in preset.items()}
    epochs = chosen["epochs"]
    iterations = chosen["iterations"] or epochs * -(-larger_domain // chosen["batch"])
    epochs = min(epochs, iterations)
    return Recipe(
        sizes={name: chosen[name] for name in ("generator_width", "attention_width", "discriminator_width", "blocks")},
        batch=chosen["batch"],
        iterations=iterations,
        epochs=epochs,
        lr=chosen["lr"],
        switch=round(chosen["switch"] * epochs),
        threshold=params["threshold"],
        cycle=params["cycle"],
        pool=params["pool"],
        zoom=chosen["zoom"],
        flip=chosen["flip"] in (True, "yes"),
        joint=chosen["joint"],
        share=chosen["share"],
        judge=chosen["judge"],
        attn_decoder_kernel=chosen["attn_decoder_kernel"],
        attention_cost=chosen["attention_cost"],
    )


def _unsaid(name: str, value: Any) -> bool:
    return value is None or (value < 0 if name in _MAY_BE_ZERO else value in (0, ""))
