"""How GAIN's mining loss is met: by looking at more, or by recognising what was erased?

``python benchmarks/erasure.py`` trains anole/slim plainly and by GAIN_self on camouflaged lizards (three minutes on a CPU core;
``--seed``) and prints the mean probability of the true class of 400 test pictures: untouched, with the network's own attention
erased, and with another picture's attention erased, which lies elsewhere.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from xbench.building import build_module, recipe_of
from xbench.components import resolve
from xbench.fits import FitContext
from xbench.plugins import discover
from xbench_anole.camouflage import camouflage
from xbench_gain.objective import Settings, attention, enlarged, erased, score, soft_mask, tapped

DATA = {"size": 64, "train": 1200, "valid": 200, "test": 400, "bias": 0.8, "seed": 0}


def trained(text, data, seed):
    """Return a classifier, written as in a run, after its training."""
    mistakes = []
    component = resolve("model", text, discover(), mistakes)
    assert not mistakes, mistakes
    index = data.index("train")
    module = build_module(component, index.shape, index.classes, seed)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            data, index, data.index("valid"), component.params, seed, torch.device("cpu"), Path(folder), module=module
        )
        module.load_state_dict(recipe_of(component)(context))
    return module.eval()


def shown(module, image, label):
    """Return the mean probability of the true class: untouched, own attention erased, another's attention erased."""
    settings, colour = Settings(), image.mean(dim=(0, 2, 3))
    features, logits = tapped(module, image, module.cam_layer)
    found = attention(features, score(module, logits, label, "logit"), settings, follow=False)
    soft = soft_mask(found.map, settings.sigma, settings.omega)
    # The picture before in its own class: of the same kind, of another place.
    other = soft.clone()
    for each in (0, 1):
        other[label == each] = soft[label == each].roll(1, 0)
    with torch.no_grad():
        return [
            float(score(module, module(picture), label, "prob").mean())
            for picture in (image, erased(image, soft, colour), erased(image, other, colour))
        ] + [float(enlarged(soft, *image.shape[2:]).mean())]


def main():
    """Print a line a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = camouflage(None, **DATA)
    index = data.index("test")
    image, label = torch.as_tensor(data.load(index.ids).image), torch.as_tensor(index.labels)
    for text in ("anole/slim", "gain/self[of=anole/slim]"):
        module = trained(text, data, arguments.seed)
        for name, rows in (("all", label >= 0), ("lizards", label == 1)):
            clean, own, other, area = shown(module, image[rows], label[rows])
            print(
                f"{text}, {name}: p(true class) {clean:.2f} untouched, {own:.2f} own attention erased, "
                f"{other:.2f} another's erased; {area:.0%} erased",
                flush=True,
            )


if __name__ == "__main__":
    main()
