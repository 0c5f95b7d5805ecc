"""Guided Grad-CAM: guided backpropagation where Grad-CAM is active."""

from torch import Tensor

from xbench.models import Model
from xbench.tensors import Batch, Explainer, Explanation
from xbench_cam.gradcam import Score, explanation, gradient_cams, mean_gradient, with_reference
from xbench_gradients.guided import guided_gradients


def guided_gradcam(model: Model, score: Score, layer: str) -> Explainer:
    """Return Guided Grad-CAM: Grad-CAM, scaled to the image and raw, times the guided gradient (Selvaraju et al. 2017, 3.1).

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether the logit or the probability is explained, in both factors. Two forward and two backward passes an
        image; ``prob`` takes two more backward passes for the reference.
    layer
        As for `xbench_cam.gradcam.gradcam`.

    Returns
    -------
    Explainer of maps [B,H,W] float32 >= 0, raw: the maximum over channels of the absolute value, as in
    `gradients/guided_backprop`. Extras: ``colour`` [B,C,H,W] float32, the signed product of each channel;
    ``weight``, ``signed_max`` and ``reference_weight`` of its Grad-CAM; ``reference``, the largest value that this map has
    with ``score=logit``.

    Raises
    ------
    Unsupported
        From the explainer, when the layer gives no feature maps, or no ReLU was met.
    ValueError
        From the explainer, when the model has no such layer.
    """
    scores = with_reference(score)

    def explain(batch: Batch) -> Explanation:
        cams = gradient_cams(model, batch, scores, layer, mean_gradient)
        guided = guided_gradients(model, batch.image, batch.target, scores)
        colours = [cam.map[:, None] * gradient for cam, gradient in zip(cams, guided, strict=True)]
        return explanation(_reduced(colours[0]), cams[0], cams[-1], _reduced(colours[-1]), colour=colours[0])

    return explain


def _reduced(colour: Tensor) -> Tensor:
    return colour.abs().amax(dim=1)
