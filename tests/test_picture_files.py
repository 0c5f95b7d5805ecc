"""Laws of pictures read from files: how they are turned, coloured and cut, and their masks with them."""

import numpy as np
import pytest
from PIL import Image

from xbench.picture_files import read_mask, read_picture


def ramp_picture(path, width=24, height=16):
    """Write a picture whose red is the column and whose green is the row."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    Image.fromarray(np.stack([x * 8, y * 8, x * 0], axis=2)).save(path)
    return path


def test_crop_keeps_the_middle_square_and_squash_the_whole(tmp_path):
    path = ramp_picture(tmp_path / "a.png")
    cropped, upright = read_picture(path, 16, "crop")
    assert upright == (24, 16)
    want = np.asarray(Image.open(path), np.float32)[:, 4:20].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(cropped, want, atol=1e-6)
    squashed, _ = read_picture(path, 16, "squash")
    np.testing.assert_allclose(squashed[1], want[1], atol=1e-6)
    assert squashed[0, 0, 0] < cropped[0, 0, 0]
    assert squashed[0, 0, -1] > cropped[0, 0, -1]


def test_small_pictures_are_enlarged_and_large_ones_shrunk_without_aliasing(tmp_path):
    assert read_picture(ramp_picture(tmp_path / "a.png"), 40, "crop")[0].shape == (3, 40, 40)
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "b.png")
    pixels, _ = read_picture(tmp_path / "b.png", 16, "crop")
    assert np.abs(pixels - 0.5).max() < 0.05


def test_large_jpeg_read_at_a_part_of_its_size_is_the_same_picture(tmp_path):
    draw = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    large = Image.fromarray(draw).resize((1200, 1200), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", quality=95)
    large.save(tmp_path / "a.png")
    (jpeg, size), (png, _) = (read_picture(tmp_path / name, 150, "crop") for name in ("a.jpg", "a.png"))
    assert size == (1200, 1200)
    # 0.008; read at an eighth, the very size asked for, 0.019.
    assert np.abs(jpeg - png).mean() < 0.012


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, turn):
    upright = Image.open(ramp_picture(tmp_path / "a.png"))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores it so that EXIF turns it back
    stored = upright if turn == 1 else upright.transpose(Image.Transpose(undo[turn]))
    exif = Image.Exif()
    exif[0x0112] = turn
    stored.save(tmp_path / "b.png", exif=exif)
    pixels, size = read_picture(tmp_path / "b.png", 16, "crop")
    assert size == (24, 16)
    np.testing.assert_array_equal(pixels, read_picture(tmp_path / "a.png", 16, "crop")[0])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_reads_as_colour_in_the_unit_range(tmp_path, mode):
    grey = Image.new("RGB", (8, 8), (128, 128, 128))
    made = {
        "I;16": lambda: Image.fromarray(np.full((8, 8), 0x8080, np.uint16)),
        "P": lambda: grey.quantize(4),
        "1": lambda: grey.convert("1", dither=Image.Dither.NONE),
    }
    picture = made.get(mode, lambda: grey.convert(mode))()
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    pixels, _ = read_picture(path, 8, "crop")
    assert pixels.shape == (3, 8, 8)
    np.testing.assert_allclose(pixels, 1.0 if mode == "1" else 128 / 255, atol=2 / 255)


def test_first_frame_of_a_telephones_picture_is_read(tmp_path):
    # Telephones write several pictures into one .jpg file, which Pillow calls another format.
    first, second = (Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 20))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg", 8, "crop")[0][0], 200 / 255, atol=2 / 255)


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", 8, "crop")[0] == 1).all()
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png", 8, "crop")[0][:, 0, 0], [1, 0, 0])


def test_mask_covers_the_pixels_that_are_half_object(tmp_path):
    level = np.zeros((8, 8), np.uint8)
    level[:, :4] = 255
    Image.fromarray(level).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 2, "crop", (8, 8)), [[True, False]] * 2)
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    assert not read_mask(tmp_path / "m.png", 8, "crop", (8, 8)).any()
