"""How long a table of every sample's scores takes, and its memory: 10,000 samples x 20 explainers x 15 metrics, made up.

    python benchmarks/scores.py

prints the time of `Run.scores` (reading the records and checking every hash included; pandas is imported before), the
memory, and the same of ``xbench export``.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  (its import is not what is measured)

from xbench.export import score_frame, write_scores
from xbench.store import Store, content_key, slice_size


def make(store: Store, samples: int, explainers: int, metrics: int) -> list[str]:
    """Write records of random scores; return their keys."""
    rng, classes = np.random.default_rng(0), [f"class {i}" for i in range(10)]
    labels = rng.integers(0, len(classes), samples)
    ids = [f"sample-{i:05d}" for i in range(samples)]
    table = {"ids": ids, "labels": labels.tolist(), "groups": [f"patient-{i // 3:05d}" for i in range(samples)]}
    store.write_samples("0" * 64, table)
    keys = []
    for each in range(explainers):
        cell = {
            "suite": "made_up",
            "suite_version": 1,
            "protocol": "quick",
            "seed": 0,
            "n": samples,
            "target": "label",
            "samples": "0" * 64,
            "classes": classes,
            "missing": {},
            "metrics": [],
            "data": {"text": "made/up", "digest": "d"},
            "model": {"text": "made/network"},
            "explainer": {"text": f"made/explainer_{each:02d}", "control": False},
        }
        keys.append(content_key(cell))
        store.define(keys[-1], cell)
        for part, start in enumerate(range(0, samples, slice_size(samples))):
            own = labels[start : start + slice_size(samples)]
            scores = {f"score/metric_{i:02d}": rng.random(len(own)) for i in range(metrics)}
            store.commit(keys[-1], part, {**scores, "predicted": own, "target": own}, None, {"seconds": 1, "images": 1})
    return keys


def main() -> None:
    """Make the records once, then time the table and both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, help="where the records are, or will be made; default: a temporary folder"
    )
    parser.add_argument("--samples", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(arguments.folder or Path(temporary))
        keys = list(store) or make(store, arguments.samples, explainers=20, metrics=15)
        before, start, busy = _peak(), time.perf_counter(), time.process_time()
        frame = score_frame(store, keys)
        spent, busy = time.perf_counter() - start, time.process_time() - busy
        kept = frame.memory_usage(deep=True).sum() / 2**20
        print(f"{len(frame):,} rows: {spent:.2f} s ({busy:.2f} s of a processor), {kept:.0f} MiB kept,", end=" ")
        print(f"peak of the process {_peak():.0f} MiB ({before:.0f} MiB before)")
        for suffix in (".csv", ".parquet"):
            start, path = time.perf_counter(), Path(temporary) / f"scores{suffix}"
            write_scores(store, keys, path)
            print(f"{suffix}: {time.perf_counter() - start:.2f} s, {path.stat().st_size / 2**20:.0f} MiB")


def _peak() -> float:
    """Return the most memory the process ever held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
