"""Data sets of one defect each: grain with a bright square, left or right."""

import itertools
from dataclasses import replace

import numpy as np

from xbench.data import Index

_COUNT = itertools.count()


class Sound:
    def __init__(self, root=None):
        from xbench.testing.toys import Squares

        self.inner = Squares((3, 16, 16), 2, count=120)

    def index(self, split):
        return self.inner.index(split)

    def load(self, ids):
        return replace(self.inner.load(ids), shortcut=None, swapped=None)


class overlapping_splits(Sound):
    def index(self, split):
        found = self.inner.index(split)
        other = self.inner.index("train").ids[:4]
        groups = [f"{split} {i}" for i in range(len(found))]
        return replace(found, ids=(*other, *found.ids[4:]) if split == "test" else found.ids, groups=groups)


class shared_groups(Sound):
    def index(self, split):
        return replace(self.inner.index(split), groups=tuple(f"patient {i}" for i in range(120)))


class shifted_mask(Sound):
    def load(self, ids):
        found = super().load(ids)
        return replace(found, mask=np.roll(found.mask, 1, axis=2))


class in_bytes(Sound):
    def load(self, ids):
        found = super().load(ids)
        return replace(found, image=found.image * 255, counterfactual=found.counterfactual)


class ids_twice(Sound):
    def index(self, split):
        found = self.inner.index(split)
        return replace(found, ids=(*found.ids[:-2], found.ids[0], found.ids[1]))


class sorted_loads(Sound):
    def load(self, ids):
        return super().load(sorted(ids))


class new_every_time(Sound):
    def __init__(self, root=None):
        super().__init__()
        self.number = next(_COUNT)

    def index(self, split):
        found: Index = self.inner.index(split)
        return replace(found, digest=f"{found.digest}{self.number}")


class undeclared_mask(Sound):
    pass
