"""The presets of noise/noncontributing against each other: the same images, the same fresh noise, E(w) of both maps.

    python benchmarks/noise.py --out runs/noise

explains digits of mnist/digits that mnist/s1 classifies correctly, the first test sample of each class, by the preset
``paper`` (1.5 million network evaluations an image, saved every 100 steps: run it again and it goes on), by ``draft`` and by
``fast``, and prints E of the maps over the same 2,000 fresh draws of noise, their differences, and Spearman's correlations
with the paper's maps and between two draw seeds. An evaluation is an image that goes through the network, whether or not a
gradient comes back. ``--paper-steps`` compares a paper descent cut short.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from xbench.fits import FitContext
from xbench.models import Model
from xbench.seeds import sample_keys, stable_int
from xbench.tensors import Batch
from xbench_mnist.datasets import digits
from xbench_mnist.models import fit_s1, s1
from xbench_noise.descent import Adam
from xbench_noise.explainer import PRESETS
from xbench_noise.objective import NoiseObjective

EPOCHS = 24
SAVED_EVERY = 100


def network(folder):
    """Return mnist/s1, trained at seed 0 on the digits; its weights are kept in the folder."""
    data = digits(None)
    train, valid = data.index("train"), data.index("valid")
    torch.manual_seed(stable_int("init", "mnist/s1", 0))
    module = s1(train.shape, train.classes, epochs=EPOCHS, samples_per_epoch=10_000)
    path = folder / "s1.safetensors"
    if not path.exists():
        params = {"epochs": EPOCHS, "samples_per_epoch": 10_000}
        context = FitContext(data, train, valid, params, 0, torch.device("cpu"), folder, lambda *_: None, module)
        save_file(dict(fit_s1(context)), path)
    module.load_state_dict(load_file(path))
    return module


def chosen(module, images):
    """Return the first test samples that are classified correctly, one a class, as a batch on the CPU."""
    data = digits(None)
    index = data.index("test")
    image = torch.as_tensor(data.load(index.ids).image)
    label = torch.as_tensor(index.labels)
    with torch.no_grad():
        right = module.eval()(image).argmax(dim=1) == label
    rows = [int(((label == k) & right).nonzero()[0]) for k in range(images)]
    ids = tuple(index.ids[i] for i in rows)
    return Batch(image[rows], ids, label[rows], label[rows], sample_keys(0, ids))


def paper(model, objective, path, steps):
    """Return w of the paper's descent; seconds and evaluations are saved beside it, so that a second call goes on."""
    preset, path = PRESETS["paper"], path / f"paper_{len(objective.image)}.safetensors"
    descent, seconds, forwards = Adam.start(torch.full_like(objective.image[:, 0], 0.5)), 0.0, 0
    if path.exists():
        state = load_file(path)
        descent = Adam(state["w"], state["mean"], state["square"], int(state["step"]))
        seconds, forwards = float(state["seconds"]), int(state["forwards"])
        if descent.step > steps:
            raise SystemExit(f"{path} is {descent.step:,} steps old already; remove it or ask for as many")
    while descent.step < steps:
        start, before = time.perf_counter(), model.passes.forwards
        for _ in range(min(SAVED_EVERY, steps - descent.step)):
            descent.advance(objective, preset.draws, preset.lr)
        seconds += time.perf_counter() - start
        forwards += model.passes.forwards - before
        numbers = {"step": descent.step, "forwards": forwards, "seconds": seconds}
        state = {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
        save_file({**state, "w": descent.w, "mean": descent.mean, "square": descent.square}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        print(f"paper: step {descent.step:,} of {steps:,}, {seconds:.0f} s", flush=True)
    return descent.w, seconds, forwards


def short(model, objective, name):
    """Return w of the preset ``draft`` or ``fast``, seconds and evaluations."""
    preset = PRESETS[name]
    start, before = time.perf_counter(), model.passes.forwards
    w = preset.descend(objective, torch.full_like(objective.image[:, 0], 0.5), preset.steps, preset.draws, preset.lr)
    return w, time.perf_counter() - start, model.passes.forwards - before


def each_draw(objective, w, draws):
    """Return [draws,B]: the excess of every fresh draw."""
    return torch.stack([objective.measure(w, 1, "benchmark", number).excess for number in range(draws)])


def correlation(one, other):
    """Return Spearman's correlation of two maps of each image."""
    return [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other, strict=True)]


def main():
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/noise"))
    parser.add_argument("--images", type=int, default=5, help="1 to 10, each of another class")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--paper-steps", type=int, default=PRESETS["paper"].steps)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    module = network(arguments.out)
    model = Model(module, batch_size=100)
    batch = chosen(module, arguments.images)

    def objective_of(seed):
        keyed = replace(batch, keys=sample_keys(seed, batch.sample_id))
        return NoiseObjective(model, keyed, "logit", "masked", 0.0, (0.2, 0.0, 0.0), clamp=False)

    objective = objective_of(0)
    ways = {"paper": paper(model, objective, arguments.out, arguments.paper_steps)}
    ways |= {name: short(model, objective, name) for name in ("draft", "fast")}
    draws = {
        name: each_draw(objective, way[0], arguments.draws) - way[0].mean(dim=(1, 2)) for name, way in ways.items()
    }
    print(f"E over {arguments.draws:,} fresh draws and mean of the images, with standard errors of the draws")
    for name, (w, seconds, forwards) in ways.items():
        cost = f"{forwards / len(batch):,.0f} evaluations, {seconds / len(batch):.2f} s an image"
        print(f"{name}: {shown(draws[name].mean(dim=1, keepdim=True))}; {cost}")
        if name != "paper":
            more = draws[name] - draws["paper"]
            print(f"  less that of paper: {shown(more.mean(dim=1, keepdim=True))}; by image {shown(more)}")
            print(f"  Spearman with paper: {listed(correlation(w, ways['paper'][0]))}")
            again = short(model, objective_of(1), name)[0]
            print(f"  Spearman of two draw seeds: {listed(correlation(w, again))}")
        else:
            print(f"  by image {shown(draws[name])}")


def shown(draws):
    """Return mean and standard error of every column [draws,B] as text."""
    error = draws.std(dim=0) / len(draws) ** 0.5
    return ", ".join(f"{mean:.4f} ({e:.4f})" for mean, e in zip(draws.mean(dim=0), error, strict=True))


def listed(values):
    """Return numbers as text."""
    return ", ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
