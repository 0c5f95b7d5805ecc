"""Deep Taylor decomposition and layer-wise relevance propagation."""

from typing import Literal

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_relevance import rules
from xbench_relevance.propagation import propagate

_FIRST = {"z_b": rules.first_z_box, "w_square": rules.first_w_square, "z_plus": rules.first_z_plus}


def deep_taylor(model: Model, input_rule: Literal["z_b", "w_square", "z_plus"]) -> Explainer:
    """Return deep Taylor decomposition of the target's logit (Montavon et al. 2017).

    Relevance starts as the logit and goes back by z+ in hidden layers, in proportion to the positive terms in residual
    sums, to the largest in maximum pools, in proportion to the values in average pools, and unchanged through activations,
    sigmoids among them (for which the theory has no decomposition). A batch normalisation counts as part of its convolution.
    Biases take no share, so that a map adds up to the logit but for what a layer cannot pass on: a unit that only its bias
    drives. A minus merged into the last layer makes class 0 of a one-logit net a unit of its own, with the opposite weights.

    Where the logit is 0 or less the method has no answer: the sample is not ``defined``, its map 0.

    Parameters
    ----------
    model
        The classifier to explain.
    input_rule
        First layer: ``z_b`` for pixels in [0,1], a box that is carried through whatever affine normalisation lies in front;
        ``w_square`` for pixels without bounds; ``z_plus``.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, summed over channels, in units of the logit. ``extras["total"]`` [B]: the logit;
    ``extras["lost"]`` [B]: logit minus the map's sum.

    Raises
    ------
    Unsupported
        When ``input_rule`` is none of the three; from the explainer, when the network calls a function that has no rule, or a
        hidden layer's inputs are not all 0 or more.
    """
    if input_rule not in _FIRST:
        raise Unsupported(f"relevance/deep_taylor: input_rule is {input_rule!r}; {', '.join(_FIRST)} are there")
    method = rules.Method("relevance/deep_taylor", rules.z_plus, _FIRST[input_rule], positive=True)

    def explain(batch: Batch) -> Explanation:
        relevance, score = _propagated(model, batch, method)
        defined = score > 0
        lost = torch.where(defined, score - relevance.sum(dim=(1, 2)), 0)
        return Explanation(relevance, defined=defined, extras={"total": score, "lost": lost})

    return explain


def lrp(model: Model, rule: Literal["gamma", "epsilon"], gamma: float, eps: float) -> Explainer:
    """Return layer-wise relevance propagation of the target's logit (Bach et al. 2015).

    A batch normalisation counts as part of its convolution. A residual sum or an average pool hands on relevance in
    proportion to its terms, a maximum pool to the largest, an activation unchanged. Biases keep their share, as in the
    original, and the epsilon rule takes some, so that a map need not add up to the logit.

    Parameters
    ----------
    model
        The classifier to explain.
    rule
        ``gamma``: z^B in the first layer, gamma in the other convolutions, epsilon in dense layers (Montavon et al. 2019, in
        zennit EpsilonGammaBox). ``epsilon``: epsilon in all layers; with ``eps=0`` (LRP-0) this is input times gradient, the
        input as it is behind the network's own normalisation.
    gamma
        How much more a convolution's contributions of the sign of its output count, 0 or more.
    eps
        Stabiliser of the epsilon rule, 0 or more, as a fraction of the root mean square of the layer's outputs for the image:
        it takes relevance from units that are small beside the others.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, summed over channels, in units of the logit. ``extras["total"]`` [B]: the logit.

    Raises
    ------
    Unsupported
        When a parameter is out of range; from the explainer, when the network calls a function that has no rule.
    """
    for name, value in (("gamma", gamma), ("eps", eps)):
        if not 0 <= value < float("inf"):
            raise Unsupported(f"relevance/lrp: {name} is {value}; a number of 0 or more is needed")
    if rule not in ("gamma", "epsilon"):
        raise Unsupported(f"relevance/lrp: rule is {rule!r}; gamma and epsilon are there")
    if rule == "epsilon":
        method = rules.Method("relevance/lrp", rules.epsilon(eps), rules.first_epsilon(eps), lone_norms=True)
    else:
        method = rules.Method("relevance/lrp", rules.gamma_epsilon(gamma, eps), rules.first_z_box)

    def explain(batch: Batch) -> Explanation:
        relevance, score = _propagated(model, batch, method)
        return Explanation(relevance, extras={"total": score})

    return explain


def _propagated(model: Model, batch: Batch, method: rules.Method) -> tuple[Tensor, Tensor]:
    """Return maps [B,H,W] and logits [B], at most ``model.batch_size`` images in a pass."""
    images, targets = torch.split(batch.image, model.batch_size), torch.split(batch.target, model.batch_size)
    parts = [propagate(model, *part, method) for part in zip(images, targets, strict=True)]
    return torch.cat([relevance.sum(dim=1) for relevance, _ in parts]), torch.cat([score for _, score in parts])
