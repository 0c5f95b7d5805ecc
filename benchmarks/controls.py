"""What the controls of a translation say of the truth itself: how often the exact change, swapped or as noise, turns a film.

``python benchmarks/controls.py`` trains the phantom's classifier without and with grain (a minute each on a CPU core) and
prints, for normal and for enlarged hearts, the rates at which 300 test films turn.
"""

import tempfile
from pathlib import Path

import torch

from xbench.fits import FitContext
from xbench.models import Model
from xbench.seeds import integers
from xbench.tensors import make_batch
from xbench.training import train_classifier
from xbench_chestxray.models import augment, jitter, small
from xbench_chestxray.phantom import phantom
from xbench_translation.explainer import noised, swapped

DONORS = 32


def classifier(data, augmentation):
    """Return the phantom's classifier as `fit_chest` trains it, with another augmentation."""
    torch.manual_seed(0)
    net = small((1, 64, 64), ("normal", "enlarged"), width=16)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(
            data, data.index("train"), data.index("valid"), {}, 0, torch.device("cpu"), Path(folder), module=net
        )
        settings = {"epochs": 16, "batch": 32, "lr": 3e-3, "weight_decay": 1e-2, "balance": True}
        net.load_state_dict(train_classifier(context, augment=augmentation, **settings))
    return Model(net)


def batch_of(data, split, count):
    """Return the first films of a split with their exact counterfactuals."""
    index = data.index(split)
    ids = index.ids[:count]
    return make_batch(data.load(ids), ids, torch.as_tensor(index.labels[:count]), 0, 2)


def main():
    """Print the rates."""
    data = phantom(None, size=64, train=1600, valid=200, test=300, seed=0)
    films, donors = batch_of(data, "test", 300), batch_of(data, "train", 2 * DONORS)
    exact, ring = films.counterfactual - films.image, films.difference
    others = donors.counterfactual - donors.image
    bank = torch.stack([others[donors.label == label] for label in (0, 1)])
    place = integers(films.keys, "benchmark", ()) % DONORS
    changed = {
        "exact counterfactual": films.counterfactual,
        "noise of its size": noised(films.image, exact, ring, films.keys),
        "another's, any": (films.image + bank[films.label, place]).clamp(0, 1),
        "another's, least overlap": swapped(films.image, exact, films.label, bank),
    }
    for name, augmentation in (("without grain", jitter), ("with grain", augment)):
        model = classifier(data, augmentation)
        with torch.no_grad():
            before = model.logits(films.image).argmax(dim=1)
            print(f"{name}: right in {(before == films.label).double().mean():.1%}")
            for what, image in changed.items():
                turned = (model.logits(image).argmax(dim=1) != before).double()
                rates = [f"{turned[films.label == label].mean():.1%}" for label in (0, 1)]
                print(f"    {what:26} turns {rates[0]:>6} of normal, {rates[1]:>6} of enlarged hearts")


if __name__ == "__main__":
    main()
