"""Maps and images as small PNG data URIs, and masks as outlines."""

import base64
import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]

# ColorBrewer's RdBu (Harrower and Brewer, 2003), negative blue to positive red; magma by a few of its colours; grey.
_DIVERGING = "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f"
_RISING = "000004 1c1044 4f127b 812581 b5367a e55064 fb8761 fec287 fcfdbf"
_GREY = "000000 ffffff"


@dataclass(frozen=True)
class Quality:
    """How much a picture may take: pixels on its longer side, and how many colours."""

    side: int
    levels: int


def diverging(values: Pixels, quality: Quality) -> str:
    """Return a map [H,W] in [-1,1] as a data URI: red positive, blue negative, white nothing."""
    return _palette((_shrunk(values.astype(np.float32), quality.side) + 1) / 2, _DIVERGING, quality.levels | 1)


def rising(values: Pixels, quality: Quality) -> str:
    """Return a map [H,W] in [0,1] as a data URI, dark to light."""
    return _palette(_shrunk(values.astype(np.float32), quality.side), _RISING, quality.levels)


def photo(image: Pixels, quality: Quality) -> str:
    """Return an image [C,H,W] of uint8 as a data URI; what has not three channels is grey."""
    if len(image) == 3:
        channels = [_shrunk(channel.astype(np.float32), quality.side) for channel in image]
        picture = Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8), "RGB")
        return _uri(picture.quantize(quality.levels, dither=Image.Dither.NONE), quality.levels)
    return _palette(_shrunk(image.astype(np.float32).mean(axis=0), quality.side) / 255, _GREY, quality.levels)


def shaded(values: Pixels, quality: Quality) -> str:
    """Return an explanation with colours of its own [C,H,W] in [-1,1] as a data URI, grey being zero."""
    return photo((np.clip(0.5 + values.astype(np.float32) / 2, 0, 1) * 255).round(), quality)


def outline(mask: Pixels) -> str:
    """Return the borders of a mask [H,W] as an SVG path in pixels."""
    inside = np.pad(mask > 0, 1)
    parts = []
    for y, x, length in _runs(inside[1:, :] != inside[:-1, :]):
        parts.append(f"M{x - 1} {y}h{length}")
    for x, y, length in _runs((inside[:, 1:] != inside[:, :-1]).T):
        parts.append(f"M{x} {y - 1}v{length}")
    return "".join(parts)


def _runs(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (row, first column, length) of every run of true values."""
    found = []
    for row, line in enumerate(edges):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        found += [(row, int(start), int(end - start)) for start, end in zip(turns[::2], turns[1::2], strict=True)]
    return found


def _shrunk(values: Pixels, side: int) -> Pixels:
    """Return a plane [H,W] of float32 whose longer side is at most ``side``, every pixel the mean of those it covers."""
    high, wide = values.shape
    if max(high, wide) <= side:
        return values
    share = side / max(high, wide)
    size = max(1, round(wide * share)), max(1, round(high * share))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def _palette(values: Pixels, stops: str, levels: int) -> str:
    indices = np.clip(np.nan_to_num(values) * (levels - 1), 0, levels - 1).round().astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette(_colours(stops, levels))
    return _uri(picture, levels)


@cache
def _colours(stops: str, levels: int) -> bytes:
    known = np.array([list(bytes.fromhex(stop)) for stop in stops.split()], dtype=np.float64)
    places = np.linspace(0, len(known) - 1, levels)
    mixed = [np.interp(places, np.arange(len(known)), known[:, channel]) for channel in range(3)]
    return np.stack(mixed, axis=1).round().astype(np.uint8).tobytes()


def _uri(picture: Image.Image, levels: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True, bits=next(b for b in (1, 2, 4, 8) if levels <= 2**b))
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
