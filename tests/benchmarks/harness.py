"""What the harness costs as a whole: the share of a run spent inside passes, and memory against the number of images."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import Row

EXPLAINERS = (
    "controls/random", "gradients/gradient", "gradients/input_x_gradient", "gradients/guided_backprop", "cam/gradcam",
    "cam/gradcam_pp", "cam/guided_gradcam", "relevance/deep_taylor", "relevance/lrp", "captum/deeplift",
)  # fmt: skip
METRICS = (
    "localisation_precision", "background_precision", "pointing_game", "relevance_mass", "average_precision", "mask_auroc",
    "iou", "iou_tuned", "deletion", "insertion", "srg", "normalised_area", "road", "road_lerf", "faithfulness_correlation",
    "infidelity", "complexity", "max_sensitivity", "shift_stability", "mprt", "efficient_mprt", "random_logit", "completeness",
    "blankness", "preservation",
)  # fmt: skip


class NoRun(Exception):
    """A run came to nothing; what it said stands above."""


def rows(device, few, many):
    """Yield the rows; ``few`` and ``many`` are the numbers of images."""
    case = "mnist/s2 on MNIST"
    network = "model=mnist/s2[epochs=1]"
    with tempfile.TemporaryDirectory() as folder:
        chosen = [network, f"explainer={','.join(EXPLAINERS)}", f"metric={','.join(METRICS)}", f"limit={few}"]
        cost, _ = run(Path(folder) / "all", device, chosen)
        note = f"{few} images, {len(EXPLAINERS)} explainers, {len(METRICS)} metrics; {cost['wall_seconds']:.0f} s"
        busy = cost["device_busy"]
        yield Row("device_busy", case, busy, 0.9, busy, busy, note=note, at_least=True)
        metric = "metric=localisation_precision,deletion[steps=7],deletion[precision=bf16]"
        small = [network, "explainer=gradients/gradient,controls/random", metric]
        peaks = [run(Path(folder) / str(count), device, [*small, f"limit={count}"])[1] for count in (few, many)]
        table = json.loads((Path(folder) / str(few) / "leaderboard" / "table.json").read_text())
        away = max(row["deviation_max"] for row in table if row["metric"] == "deletion[precision=bf16]")
        note = "of the trained network; the largest of one sample in 16 and two explainers"
        yield Row("areas, bfloat16 less float32", case, away, 0.005, away, away, note=note)
        grown = peaks[1] / peaks[0]
        note = f"{many} images against {few}; {peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB"
        yield Row("peak memory", case, grown, 1.05, grown, grown, note=note)


def run(folder, device, settings):
    """Run the mnist suite on MNIST in processes of its own; return its cost.json and its worker's peak memory in bytes."""
    command = [sys.executable, "-m", "xbench", "run", "-q", "suite=mnist", "data=mnist/mnist", f"device={device}"]
    done = subprocess.run([*command, *settings, f"out={folder}"], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise NoRun(f"{' '.join(command + settings)} ended with {done.returncode}")
    peaks = [json.loads(path.read_text())["peak_bytes"] for path in folder.rglob("*.cost.json")]
    return json.loads((folder / "cost.json").read_text()), max(peaks)
