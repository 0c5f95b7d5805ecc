"""Gradient explainers: sensitivity map, SmoothGrad, input times gradient, guided backpropagation."""

from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec

_SCORE = ("logit", "prob")
_MEANINGS = {"score": "the target's score that is differentiated: its logit or its probability"}


@hookimpl
def xbench_explainers() -> list[ExplainerSpec]:
    """Return the gradient explainers."""
    return [
        ExplainerSpec(
            name="gradient",
            version=1,
            factory="xbench_gradients.gradients:gradient",
            params={"score": "logit"},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            polarity="positive",
            needs=("gradients",),
            cost={"forwards": 1, "backwards": 1},
            summary="sensitivity map: the largest |d score / d channel| of each pixel",
            citation="Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks. ICLR workshop 2014",
            cites=("simonyan2014deep",),
        ),
        ExplainerSpec(
            name="smoothgrad",
            version=1,
            factory="xbench_gradients.gradients:smoothgrad",
            params={"score": "logit", "noise_level": 0.15, "n": 50, "variant": "mean"},
            choices={"score": _SCORE, "variant": ("mean", "square", "var")},
            quick={"n": 4},
            meanings={
                **_MEANINGS,
                "noise_level": "standard deviation of the noise, as a share of the image's range; 0 or more",
                "n": "noisy copies of an image; 1 or more",
                "variant": "what is taken of the copies' gradients: their mean, mean square or variance",
            },
            polarity="positive",
            needs=("gradients",),
            stochastic=True,
            cost="xbench_gradients.costs:smoothgrad",
            summary="the gradient averaged over noisy copies of the image",
            citation="Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. arXiv 1706.03825, 2017",
            cites=("smilkov2017smoothgrad",),
        ),
        ExplainerSpec(
            name="input_x_gradient",
            version=1,
            factory="xbench_gradients.gradients:input_x_gradient",
            params={"score": "logit"},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            needs=("gradients",),
            cost={"forwards": 1, "backwards": 1},
            summary="pixel value times gradient, summed over channels",
            citation="Shrikumar, Greenside, Shcherbina, Kundaje: Not just a black box. arXiv 1605.01713, 2016",
            cites=("shrikumar2016not",),
        ),
        ExplainerSpec(
            name="guided_backprop",
            version=1,
            factory="xbench_gradients.guided:guided_backprop",
            params={"score": "logit"},
            choices={"score": _SCORE},
            meanings=_MEANINGS,
            polarity="positive",
            needs=("gradients",),
            cost={"forwards": 1, "backwards": 1},
            summary="the gradient along the paths on which every ReLU passes positive evidence on",
            citation="Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for simplicity. ICLR workshop 2015",
            cites=("springenberg2015striving",),
        ),
    ]
