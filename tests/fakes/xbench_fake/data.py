"""Noise images with a bright square, left (class 0) or right (class 1)."""

import hashlib

import numpy as np

from xbench.data import Index, Samples


class Blobs:
    def __init__(self, test, train, size, seed):
        self.counts = {"test": test, "train": train, "valid": 16}
        self.size, self.seed = size, seed

    def index(self, split):
        n = self.counts[split]
        ids = [f"{split}-{i:04d}" for i in range(n)]
        digest = hashlib.sha256(f"{split} {n} {self.size} {self.seed}".encode()).hexdigest()
        groups = [f"{split}-{i // 2:04d}" for i in range(n)]
        return Index(ids, np.arange(n) % 2, groups, (1, self.size, self.size), ("left", "right"), digest)

    def load(self, ids):
        made = [self._one(name) for name in ids]
        image, mask, other = (np.stack(parts) for parts in zip(*made, strict=True))
        return Samples(image[:, None], mask=mask, counterfactual=other[:, None])

    def _one(self, name):
        split, _, number = name.partition("-")
        rng = np.random.default_rng([self.seed, len(split), int(number)])
        size, label = self.size, int(number) % 2
        noise = rng.uniform(0, 0.4, (size, size)).astype(np.float32)
        squares = [np.zeros((size, size), bool) for _ in range(2)]
        top = rng.integers(0, size - 3)
        squares[0][top : top + 3, 0:3] = True
        squares[1][top : top + 3, size - 3 :] = True
        lift = np.float32(rng.uniform(0.1, 0.6))
        return (noise + lift * squares[label], squares[label], noise + lift * squares[1 - label])


def blobs(root, *, test, train, size, seed):
    return Blobs(test, train, size, seed)
