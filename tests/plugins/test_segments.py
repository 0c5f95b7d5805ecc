"""Superpixels against loops over pixels and centres."""

import pytest
import torch

from xbench_perturbation import segments
from xbench_perturbation.segments import cut, grid_shape, segment_means, sizes_of


def images(count=3, channels=3, height=9, width=12):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1))


def slow_slic(image, wanted):
    """Return SLIC's labels of one image [C,H,W], a pixel and a centre at a time, in float64."""
    _, height, width = image.shape
    rows, columns = grid_shape(height, width, wanted)
    scale = segments.COMPACTNESS / (height * width / (rows * columns)) ** 0.5
    place = [(y, x) for y in range(height) for x in range(width)]
    points = [torch.tensor([*image[:, y, x].tolist(), y * scale, x * scale]).double() for y, x in place]
    labels = [(y * rows // height) * columns + x * columns // width for y, x in place]
    centres = {}
    for _ in range(10):
        for k in range(rows * columns):
            members = [point for point, label in zip(points, labels, strict=True) if label == k]
            if members:
                centres[k] = torch.stack(members).mean(dim=0)
        labels = [
            min(centres, key=lambda k, point=point: float((point - centres[k]).square().sum())) for point in points
        ]
    return torch.tensor(labels).view(height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_slic_equals_the_loop_over_pixels_and_centres(channels):
    some = images(channels=channels)
    labels, count = cut(some, "slic", 6)
    assert count == 6
    for i in range(3):
        assert torch.equal(labels[i], slow_slic(some[i], 6))
    assert not torch.equal(labels[0], cut(some, "grid", 6)[0][0])


def test_slic_follows_the_borders_of_flat_colours():
    image = torch.zeros(1, 1, 24, 24)
    image[:, :, :, 13:] = 0.5
    image[:, :, 7:, 13:] = 1
    labels = cut(image, "slic", 16)[0][0]
    for label in labels.unique():
        assert len(image[0, 0][labels == label].unique()) == 1


def test_superpixels_of_an_image_do_not_depend_on_the_others(monkeypatch):
    some = images(5, 1)
    # Flat areas are full of ties.
    some = (some > 0.7).float()
    whole, _ = cut(some, "slic", 9)
    assert torch.equal(torch.cat([cut(image[None], "slic", 9)[0] for image in some]), whole)
    monkeypatch.setattr(segments, "_BLOCK", 9 * 9 * 12 * 2)
    assert torch.equal(cut(some, "slic", 9)[0], whole)
    assert torch.equal(cut(some.double(), "slic", 9)[0], whole)


@pytest.mark.parametrize(
    ("height", "width", "wanted", "shape"),
    [(28, 28, 49, (7, 7)), (28, 28, 50, (7, 7)), (10, 40, 16, (2, 8)), (40, 10, 16, (8, 2)), (9, 9, 3, (1, 3)),
     (2, 2, 100, (2, 2)), (1, 50, 7, (1, 7)), (50, 1, 7, (7, 1)), (5, 5, 1, (1, 1))],
)  # fmt: skip
def test_the_grid_has_about_square_cells_and_no_more_than_wanted(height, width, wanted, shape):
    assert grid_shape(height, width, wanted) == shape
    labels, count = cut(torch.zeros(2, 1, height, width), "grid", wanted)
    assert count == shape[0] * shape[1] <= wanted
    assert labels.shape == (2, height, width)
    sizes = sizes_of(labels, count)
    assert sizes.sum() == 2 * height * width
    assert sizes.min() >= (height // shape[0]) * (width // shape[1])


def test_grid_cells_are_numbered_rectangles():
    labels, _ = cut(torch.zeros(1, 1, 4, 6), "grid", 6)
    expected = [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert labels[0].tolist() == expected


@pytest.mark.parametrize("kind", ["slic", "grid"])
def test_segment_means_equal_the_loop_over_segments(kind):
    some = images()
    labels, count = cut(some, kind, 30)
    means = segment_means(some, labels, count)
    for i in range(3):
        for label in labels[i].unique():
            inside = labels[i] == label
            assert sizes_of(labels, count)[i, label] == inside.sum()
            expected = some[i][:, inside].mean(dim=1, keepdim=True).expand(-1, int(inside.sum()))
            torch.testing.assert_close(means[i][:, inside], expected, atol=1e-6, rtol=0)
