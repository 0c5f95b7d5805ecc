"""The maps that a run keeps of its first samples for pictures, as arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xbench.store import Store, gallery_key


@dataclass(frozen=True, eq=False)
class Maps:
    """An explainer's maps of the samples that are kept for pictures.

    Attributes
    ----------
    explainer, model, seed
        Whose maps, of which classifier.
    samples
        m sample ids.
    attribution
        [m,H,W] float32, as the explainer gave them: within 2^-11 of each map's largest value.
    image
        [m,C,H,W] float32 in [0,1] in 256 steps, or None where the folder lacks the pictures.
    counterfactual
        [m,C,H,W] likewise, or None where the explainer translates nothing.
    """

    explainer: str
    model: str
    seed: int
    samples: tuple[str, ...]
    attribution: NDArray[np.float32]
    image: NDArray[np.float32] | None
    counterfactual: NDArray[np.float32] | None

    def __repr__(self) -> str:
        return f"Maps({self.explainer} on {self.model}, seed {self.seed}, {list(self.attribution.shape)})"


def kept_maps(store: Store, keys: Sequence[str]) -> Iterator[Maps]:
    """Yield the maps that cells keep, an item an explainer, classifier and seed."""
    for key in keys:
        record = store.read(key)
        cell, arrays = record.definition, record.arrays
        if record.status != "ok" or "gallery/row" not in arrays:
            continue
        rows, ids = arrays["gallery/row"].tolist(), store.samples(cell["samples"])["ids"]
        pictures = store.gallery(gallery_key(cell["samples"], rows))
        maps = arrays["gallery/attribution"].astype(np.float32)
        scale = arrays["gallery/attribution_scale"].astype(np.float32)
        yield Maps(
            explainer=cell["explainer"]["text"],
            model=cell["model"]["text"],
            seed=cell["seed"],
            samples=tuple(ids[row] for row in rows),
            attribution=maps * scale[:, None, None],
            image=_in_unit(pictures.get("image")),
            counterfactual=_in_unit(arrays.get("gallery/counterfactual")),
        )


def _in_unit(pixels: Any) -> NDArray[np.float32] | None:
    return None if pixels is None else pixels.astype(np.float32) / np.float32(255)
