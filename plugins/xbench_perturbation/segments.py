"""Superpixels: an image cut into pieces that are hidden together."""

import math
from typing import Literal

import torch
from torch import Tensor

Superpixels = Literal["slic", "grid"]

COMPACTNESS = 0.1
"""Colour distance in [0,1] that weighs as much as one superpixel's width; 10 on the 100 levels of scikit-image's slic."""

_ROUNDS = 10
# Colours and places in fixed point: sums and products of them are exact, so no batch, thread or device moves a border.
_LEVELS = 2**20
# Distances held at a time: 64 MiB of float64.
_BLOCK = 2**23


def grid_shape(height: int, width: int, segments: int) -> tuple[int, int]:
    """Return rows and columns of the finest grid of about square cells with at most ``segments`` of them (1 or more)."""
    ideal = math.sqrt(segments * height / width)
    options = [min(max(1, whole), height, segments) for whole in (math.floor(ideal), math.ceil(ideal))]
    rows = max(options, key=lambda option: option * min(segments // option, width))
    return rows, min(segments // rows, width)


def cut(image: Tensor, kind: Superpixels, segments: int) -> tuple[Tensor, int]:
    """Cut every image into at most ``segments`` pieces.

    ``grid`` takes equal rectangles. ``slic`` starts there and runs ten rounds of k-means on colour and place (Achanta et
    al., SLIC superpixels, TPAMI 2012), with the channels as they are instead of Lab, every centre a candidate for every
    pixel, and pieces left as they are when they fall apart. Nothing is random; of two centres equally near the first one
    wins.

    Parameters
    ----------
    image
        [B,C,H,W] in [0,1].
    kind
        Which of the two.
    segments
        The most pieces, 1 or more.

    Returns
    -------
    labels [B,H,W] int64 in 0 .. M-1, and M, which depends on H, W and ``segments`` alone. A label may be unused.
    """
    size, _, height, width = image.shape
    rows, columns = grid_shape(height, width, segments)
    y, x = (torch.arange(side, device=image.device) for side in (height, width))
    cells = (y * rows // height)[:, None] * columns + x * columns // width
    count = rows * columns
    if kind == "grid":
        return cells.expand(size, -1, -1), count
    width_of_one = math.sqrt(height * width / count)
    place = torch.stack(torch.meshgrid(y, x, indexing="ij")).double() * (COMPACTNESS / width_of_one)
    parts = image.split(max(1, _BLOCK // (height * width * count)))
    return torch.cat([_k_means(part, place, cells, count) for part in parts]), count


def segment_means(image: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return [B,C,H,W]: every pixel in the mean colour of its segment, to 2**-21."""
    flat = labels.flatten(1)
    sums, sizes = _sums(_fixed(image).flatten(2), flat, count)
    means = sums.double() / sizes.clamp(min=1)[:, None] / _LEVELS
    return means.gather(2, flat[:, None].expand(-1, image.shape[1], -1)).view_as(image).to(image.dtype)


def sizes_of(labels: Tensor, count: int) -> Tensor:
    """Return [B,M] int64: the pixels of each segment of labels [B,H,W]."""
    return _sums(torch.zeros_like(labels.flatten(1)[:, None]), labels.flatten(1), count)[1]


def _k_means(image: Tensor, place: Tensor, start: Tensor, count: int) -> Tensor:
    size = len(image)
    points = torch.cat([_fixed(image), _fixed(place).expand(size, -1, -1, -1)], dim=1).flatten(2)
    exact = points.transpose(1, 2).double()
    labels = start.flatten().expand(size, -1)
    centres = torch.zeros(size, points.shape[1], count, dtype=torch.float64, device=image.device)
    for _ in range(_ROUNDS):
        sums, sizes = _sums(points, labels, count)
        used = sizes[:, None] > 0
        centres = torch.where(used, (sums.double() / sizes.clamp(min=1)[:, None]).round(), centres)
        # |point - centre|^2 less |point|^2, which is the same for all centres.
        labels = torch.baddbmm(centres.square().sum(dim=1)[:, None], exact, centres, alpha=-2).argmin(dim=2)
    return labels.view(size, *start.shape)


def _fixed(values: Tensor) -> Tensor:
    return (values.double() * _LEVELS).round().long()


def _sums(values: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return sums [B,F,M] of values [B,F,P] int64 over the labels [B,P], and the sizes [B,M]."""
    size, features, _ = values.shape
    sums = values.new_zeros(size, features, count).scatter_add_(2, labels[:, None].expand_as(values), values)
    sizes = values.new_zeros(size, count).scatter_add_(1, labels, torch.ones_like(labels))
    return sums, sizes
