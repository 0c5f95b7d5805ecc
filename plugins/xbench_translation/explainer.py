"""AG-CycleGAN as an explainer: attention map, translated image, their difference, and the controls of a flip."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import integers, uniform
from xbench.tensors import Batch, Explainer, Explanation
from xbench_translation.recipe import recipe
from xbench_translation.translator import Translator, build_translator, to_image_range, to_network_range


def ag_cyclegan(model: Model, state: Mapping[str, Tensor], **params: Any) -> Explainer:
    """Return translation as explanation (S0): what would have to change, and where, for the other class.

    An image is translated out of the domain of ``batch.label`` into the other, that of ``batch.counter_target``, whatever
    the classifier says of it; x^ = A(x) * G(x) + (1 - A(x)) * x.

    Parameters
    ----------
    model
        The classifier to explain; where the backbone is shared, its feature maps are what the networks see.
    state
        What `training.fit_ag_cyclegan` returned.
    params
        The spec's; `recipe.Recipe` says what they are, and `recipe.PRESETS` what 0, an empty text and -1 stand for.

    Returns
    -------
    Explainer of maps [B,H,W] float32 in (0,1), the attention A(x), with x^ [B,C,H,W] in [0,1] as the counterfactual and as
    extras ``difference`` x^ - x, signed; ``cycle`` in [0,1], x^ translated back; and two controls that should not flip a
    classifier, both in [0,1]: ``swapped``, see `swapped`, and ``noised``, see `noised`.

    Raises
    ------
    Unsupported
        A value is out of range, or from the explainer: the data have not two classes.
    """
    bank = state["bank"]
    numbers = recipe(params, 1)
    translator = build_translator(model, bank.shape[2:], numbers.sizes, numbers.share, numbers.attn_decoder_kernel).to(
        bank.device
    )
    translator.load_state_dict({name: value for name, value in state.items() if name != "bank"})
    translator.requires_grad_(False)

    def explain(batch: Batch) -> Explanation:
        if batch.counter_target is None:
            raise Unsupported("translation/ag_cyclegan: needs two classes, between which it translates")
        image = batch.image
        translated, attention, cycle = (torch.empty_like(each) for each in (image, image[:, :1], image))
        with torch.no_grad():
            for label in (0, 1):
                rows = (batch.label == label).nonzero().squeeze(1)
                for part in rows.split(model.batch_size):
                    translated[part], attention[part], cycle[part] = _there_and_back(translator, label, image[part])
        difference = translated - image
        return Explanation(
            attribution=attention[:, 0],
            counterfactual=translated,
            extras={
                "difference": difference,
                "cycle": cycle,
                "swapped": swapped(image, difference, batch.label, bank),
                "noised": noised(image, difference, attention[:, 0] >= numbers.threshold, batch.keys),
            },
        )

    return explain


def swapped(image: Tensor, difference: Tensor, label: Tensor, bank: Tensor) -> Tensor:
    """Return x plus the difference of another image of its class, the one that lies least where its own does: [B,C,H,W].

    A change that fits every image, a stamp, lies where its own does whichever is taken, and flips. Of changes that are made
    for an image, one taken at random fits another image too where objects lie in like places, and then it flips for a good
    reason: on the phantom films, for a classifier that has seen grain, the exact difference of another patient flips 41 % of
    the normal and 46 % of the enlarged hearts, of 32 patients the one that overlaps least 5 % and 3 %
    (`python benchmarks/controls.py`).

    Parameters
    ----------
    image, difference
        [B,C,H,W] in [0,1], and x^ - x.
    label
        [B] int64 in {0, 1}.
    bank
        [2,n,C,H,W]: differences x^ - x of other images of either class, among which is chosen by the overlap of
        |differences|, each scaled to a sum of 1. One that changes less than half as much as the image's own is not taken,
        for it would flip nothing wherever it lay, unless all do: then the largest is.

    Returns
    -------
    [B,C,H,W] in [0,1].
    """
    own, size = _share(difference), bank.abs().sum(dim=(2, 3, 4))[label]
    overlap = torch.stack(
        [torch.minimum(own, _share(donors)[label]).flatten(1).sum(dim=1) for donors in bank.unbind(1)], dim=1
    )
    enough = size >= difference.abs().sum(dim=(1, 2, 3))[:, None] / 2
    chosen = torch.where(enough, overlap, float("inf")).argmin(dim=1)
    chosen = torch.where(enough.any(dim=1), chosen, size.argmax(dim=1))
    return (image + bank[label, chosen]).clamp(0, 1)


def _share(difference: Tensor) -> Tensor:
    """Return [B,H,W]: which share of an image's whole change a pixel holds, 0 everywhere where nothing changes."""
    size = difference.abs().sum(dim=1)
    return size / size.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)


def noised(image: Tensor, difference: Tensor, inside: Tensor, keys: Tensor) -> Tensor:
    """Return x plus noise inside the attention that changes as much as the translation did: [B,C,H,W] in [0,1].

    The absolute differences of the pixels inside, all channels of a pixel together, are dealt to other pixels inside, take
    a random sign each, and are scaled so that the sum of |noise| is the sum of |difference| over the whole image. A sign
    that would lead out of [0,1] is turned; only what neither sign can hold is cut.

    Parameters
    ----------
    image, difference
        [B,C,H,W] in [0,1], and x^ - x.
    inside
        [B,H,W] bool: where the noise goes; an image without such a pixel gets it everywhere.
    keys
        [B,2] int64: where the noise comes from.
    """
    channels, height, width = image.shape[1:]
    flat = inside.flatten(1)
    flat = flat | ~flat.any(dim=1, keepdim=True)
    draw = uniform(keys, "translation/noised", (height * width,))
    # Two orders of the same pixels, those inside first: as they lie, and shuffled. The one is dealt to the other.
    lying = torch.argsort((~flat).to(torch.int8), dim=1, stable=True)
    shuffled = torch.argsort(draw + (~flat).to(draw.dtype), dim=1, stable=True)
    size = difference.abs().flatten(2) * flat[:, None]
    dealt = torch.empty_like(size).scatter_(
        2,
        shuffled[:, None].expand(-1, channels, -1),
        size.gather(2, lying[:, None].expand(-1, channels, -1)),
    )
    total, kept = difference.abs().sum(dim=(1, 2, 3)), dealt.sum(dim=(1, 2))
    dealt = (dealt * torch.where(kept > 0, total / kept, 0.0)[:, None, None]).view_as(image)
    up = integers(keys, "translation/noised/sign", tuple(image.shape[1:])) % 2 == 0
    signed = torch.where(up, dealt, -dealt)
    beyond = (image + signed < 0) | (image + signed > 1)
    return (image + torch.where(beyond, -signed, signed)).clamp(0, 1)


def _there_and_back(translator: Translator, label: int, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the translated image, the attention [b,1,H,W] and the cycle image, in [0,1]."""
    fake, attention = translator.direction(label)(to_network_range(image))
    back, _ = translator.direction(1 - label)(fake)
    return to_image_range(fake), attention, to_image_range(back)
