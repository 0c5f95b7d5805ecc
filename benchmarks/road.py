"""What ROAD costs beside the bare forward passes it needs: ratios, same model, same run, for maps of three kinds.

A ratio of 1.00 means that ranking, removing and imputing cost nothing beside the network itself. A map of independent noise
removes single pixels, a smooth one (as from a class activation map) wide patches; a round one removes one disc.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from curves import case, clock
from torch.nn import functional as F

from xbench.metrics.cost import device_name
from xbench.metrics.road import road
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation

STEPS = 9
KINDS = ("noise", "smooth", "disc")


def attribution(kind, count, height, width):
    """Return maps [B,H,W] of one kind."""
    if kind == "noise":
        return torch.rand(count, height, width)
    if kind == "smooth":
        coarse = torch.rand(count, 1, 7, 7)
        return F.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return -torch.hypot(y - height / 2, x - width / 2).expand(count, -1, -1)


def measure(name, kind, device, rounds):
    """Return the ratios of one case; the two halves of a round follow each other directly."""
    module, image, size = case(name, device)
    model = Model(module.to(device), batch_size=size)
    ids = tuple(map(str, range(len(image))))
    first = torch.zeros(len(image), dtype=torch.int64, device=device)
    batch = Batch(image.to(device), ids, first, first, sample_keys(0, ids, device))
    maps = attribution(kind, len(image), *image.shape[2:]).to(device)
    metric = road(STEPS, 0.01)
    mean = torch.full((image.shape[1],), 0.5, device=device)
    backdrop = Backdrop(model, batch, mean)
    # The clean prediction, the noise and the order of ties are every explainer's.
    metric(Scene(backdrop, Explanation(maps)))

    def scored():
        return metric(Scene(backdrop, Explanation(maps)))

    before = model.passes.forwards
    scored()
    forwards = model.passes.forwards - before
    assert forwards == STEPS * len(image)

    @torch.no_grad()
    def bare():
        for _ in range(STEPS):
            model.module(batch.image)

    bare()
    ratios, seconds = [], []
    for _ in range(rounds):
        whole, passes = clock(scored, device), clock(bare, device)
        ratios.append(whole / passes)
        seconds.append(passes)
    return {
        "case": name,
        "map": kind,
        "images": len(image),
        "forwards_per_image": forwards / len(image),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "bare_seconds_median": statistics.median(seconds),
    }


def main():
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(f"ROAD of {STEPS} shares against bare forward passes, {device_name(device)}, torch {torch.__version__}")
    results = []
    for name in (name for name in ("mnist/s2 at 28", "resnet18 at 224") if arguments.only in name):
        for kind in KINDS:
            row = measure(name, kind, device, arguments.rounds)
            results.append(row)
            print(
                f"{name:16} {kind:7} {row['images']:5} images, {row['forwards_per_image']:.0f} passes an image: "
                f"{row['ratio_median']:.3f}x ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})",
                flush=True,
            )
    if arguments.out is None:
        return
    versions = {"device": device_name(device), "torch": torch.__version__}
    arguments.out.write_text(json.dumps({**versions, "road": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
