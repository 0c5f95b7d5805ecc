"""Pictures and their masks, read from files: upright, cut or stretched to a square, one clear error for what is none."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xbench.data import Bools, Floats
from xbench.errors import XbenchError

Fit = Literal["crop", "squash", "imagenet"]

FORMATS = ("JPEG", "PNG", "WEBP")

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def read_picture(path: Path, size: int, fit: Fit) -> tuple[Floats, tuple[int, int]]:
    """Return a picture [3,size,size] in [0,1] and the width and height of the whole in the file, both upright.

    Turned as its EXIF says; a grey one gets three equal channels, a transparent one a white ground. Resized by a triangle
    filter as wide as the reduction asks for (Pillow's BILINEAR): no aliasing, no overshoot. A large JPEG is decoded at a
    half, a quarter or an eighth of its size, never below twice what is asked for.

    Raises
    ------
    XbenchError
        The file is no whole JPEG, PNG or WebP picture, or Pillow's guard against decompression bombs refuses it.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            refuse_bomb(opened)
            wide, high = opened.size
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
            opened.draft(None, (2 * size, 2 * size))
            pixels = _resized(_colour(ImageOps.exif_transpose(opened)), size, fit)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise _unreadable(path, error) from error
    return pixels.transpose(2, 0, 1) / np.float32(255), (high, wide) if turned else (wide, high)


def read_mask(path: Path, size: int, fit: Fit, upright: tuple[int, int]) -> Bools:
    """Return [size,size]: the pixels of which half or more is the object. ``upright``: its picture's width and height.

    Raises
    ------
    XbenchError
        The file is no whole picture, or not as large as the picture that it is of.
    """
    try:
        with Image.open(path, formats=FORMATS) as opened:
            refuse_bomb(opened)
            there = np.asarray(opened.convert("RGB")).any(axis=2)
    except Exception as error:
        raise _unreadable(path, error) from error
    if there.shape[::-1] != upright:
        sizes = " x ".join(map(str, there.shape[::-1])), " x ".join(map(str, upright))
        raise XbenchError(f"the mask {path} has {sizes[0]} pixels, its picture {sizes[1]}; it must be as large")
    return _resized(Image.fromarray(there.astype(np.float32)), size, fit) >= 0.5


def _colour(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # grey in 16 bits
        picture = Image.fromarray((np.asarray(picture, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _resized(picture: Image.Image, size: int, fit: Fit) -> Floats:
    left = top = 0.0
    wide, high = picture.size
    if fit == "crop":
        wide = high = side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
    elif fit == "imagenet":
        # Whole pixels: half a pixel aside, a crop that is not resized is blurred, and MobileNetV2 knew 255 of 301 photographs
        # in place of 265.
        wide = high = side = round(min(picture.size) * 7 / 8)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + wide, top + high)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box), np.float32)


def refuse_bomb(opened: Image.Image) -> None:
    """Raise Pillow's own error for a picture of more than its limit, of which it only warns up to twice that."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and opened.width * opened.height > most:
        raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels, {most:,} in all are let through")


def _unreadable(path: Path, error: Exception) -> XbenchError:
    if isinstance(error, Image.DecompressionBombError):
        return XbenchError(f"{path} is too large a picture ({error}); make it smaller or remove it")
    # Pillow's own words for this repeat the path.
    why = "it is another kind of file" if isinstance(error, UnidentifiedImageError) else error
    return XbenchError(f"{path} is not a whole JPEG, PNG or WebP picture ({why}); replace or remove it")
