"""What deletion and insertion cost beside the bare forward passes they need: ratios, same model, same run.

``make bench`` prints the table and writes bench.json. A ratio of 1.00 means that ranking, filling, perturbing and adding up
cost nothing beside the network itself.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torchvision

from xbench.metrics.cost import device_name
from xbench.metrics.faithfulness import deletion, insertion
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation
from xbench_mnist.models import s2

STEPS = 28


def case(name, device):
    """Return (model, images, batch size) of a benchmark case."""
    torch.manual_seed(0)
    if name == "mnist/s2 at 28":
        size = 64 if device.type == "cpu" else 1024
        return s2((1, 28, 28), tuple("0123456789"), epochs=1, samples_per_epoch=1), torch.rand(size, 1, 28, 28), size
    size = 4 if device.type == "cpu" else 256
    return torchvision.models.resnet18(weights=None), torch.rand(size, 3, 224, 224), size


def measure(name, device, rounds):
    """Return the ratios of one case; the two halves of a round follow each other directly."""
    module, image, size = case(name, device)
    model = Model(module.to(device), batch_size=size)
    ids = tuple(map(str, range(len(image))))
    batch = Batch(
        image=image.to(device),
        sample_id=ids,
        label=torch.zeros(len(image), dtype=torch.int64, device=device),
        target=torch.zeros(len(image), dtype=torch.int64, device=device),
        keys=sample_keys(0, ids, device),
    )
    attribution = torch.rand(image.shape[0], *image.shape[2:], device=device)
    metrics = [deletion("mean", STEPS), insertion("blur", STEPS)]
    wanted = [curve for metric in metrics for curve in metric.wanted]
    mean = torch.full((image.shape[1],), 0.5, device=device)

    def scored():
        scene = Scene(Backdrop(model, batch, mean), Explanation(attribution), wanted=wanted)
        return [metric(scene) for metric in metrics]

    before = model.passes.forwards
    scored()
    forwards = model.passes.forwards - before

    @torch.no_grad()
    def bare():
        for _ in range(forwards // len(image)):
            model.module(batch.image)

    bare()
    ratios, bare_seconds = [], []
    for _ in range(rounds):
        whole, passes = clock(scored, device), clock(bare, device)
        ratios.append(whole / passes)
        bare_seconds.append(passes)
    return {
        "case": name,
        "images": len(image),
        "forwards_per_image": forwards / len(image),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "bare_seconds_median": statistics.median(bare_seconds),
    }


def clock(work, device):
    """Return the seconds a call takes, the device idle at both ends."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    results = [measure(name, device, arguments.rounds) for name in ("mnist/s2 at 28", "resnet18 at 224")]
    print(f"deletion + insertion against bare forward passes, {device_name(device)}, torch {torch.__version__}")
    for row in results:
        print(
            f"{row['case']:16} {row['images']:5} images, {row['forwards_per_image']:.0f} passes an image: "
            f"{row['ratio_median']:.3f}x ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})"
        )
    versions = {"device": device_name(device), "torch": torch.__version__}
    arguments.out.write_text(json.dumps({**versions, "curves": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
