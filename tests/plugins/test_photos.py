"""Photographs of one's own: exact truth on any of them, digests that tell them apart, and networks that fit them."""

import numpy as np
import pytest
import torch
from PIL import Image

from xbench import api
from xbench.errors import Unsupported, XbenchError
from xbench.models import Model
from xbench.own_model import Normalised
from xbench_photos import xbench_datasets, xbench_models
from xbench_photos.datasets import folder, grid
from xbench_photos.models import mirrored, resnet18, small

SPECS = {spec.name: spec for spec in (*xbench_datasets(), *xbench_models())}
COLOURS = {"ant": (200, 0, 0), "bee": (0, 200, 0), "cow": (0, 0, 200), "dog": (200, 200, 0), "emu": (0, 200, 200)}


def open_grid(root, **params):
    return grid(root, **(dict(SPECS["grid"].params) | {"size": 16} | params))


def open_folder(root, **params):
    return folder(root, **(dict(SPECS["folder"].params) | {"size": 8} | params))


@pytest.fixture
def photos(tmp_path):
    """Five class folders of five plain pictures: a class has its hue, a picture its brightness."""
    root = tmp_path / "photos"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (10, 8), tuple(value + 10 * i for value in colour)).save(root / name / f"{i}.png")
    return root


def hues(image):
    """Return the class of every quarter of mosaics [B,3,16,16]."""
    quarters = image.reshape(len(image), 3, 2, 8, 2, 8).transpose(0, 2, 4, 1, 3, 5).reshape(len(image), 4, 3, -1)
    assert (quarters.max(axis=3) - quarters.min(axis=3)).max() < 0.01, "a quarter shows more than one picture"
    known = np.array(list(COLOURS.values())) > 100
    return np.array(
        [[int((known == (quarter > 0.5)).all(axis=1).argmax()) for quarter in one] for one in quarters.mean(axis=3)]
    )


def test_a_mosaic_shows_four_classes_and_its_mask_is_the_quarter_of_its_label(photos):
    data = open_grid(photos, split="none", n=40)
    index = data.index("test")
    samples = data.load(index.ids)
    shown = hues(samples.image)
    assert all(len(set(row)) == 4 for row in shown.tolist())
    assert (samples.mask.reshape(40, -1).sum(axis=1) == 64).all()
    place = samples.mask.reshape(40, 2, 8, 2, 8)[:, :, 0, :, 0].reshape(40, 4).argmax(axis=1)
    assert samples.mask.reshape(40, 2, 8, 2, 8).all(axis=(2, 4)).reshape(40, 4).sum() == 40
    np.testing.assert_array_equal(shown[np.arange(40), place], index.labels)
    np.testing.assert_array_equal(samples.mask_class, index.labels)
    assert np.bincount(place, minlength=4).min() >= 3
    assert np.bincount(index.labels).tolist() == [8] * 5
    assert index.shape == samples.image.shape[1:] == (3, 16, 16)


def test_fewer_mosaics_are_the_first_of_more_and_another_seed_gives_others(photos):
    def image(**params):
        data = open_grid(photos, split="none", **params)
        return data.load(data.index("test").ids).image

    np.testing.assert_array_equal(image(n=4), image(n=9)[:4])
    assert (image(n=9) != image(n=9, seed=1)).any()
    data = open_grid(photos, split="none", n=9)
    ids = data.index("test").ids
    np.testing.assert_array_equal(data.load(ids[3:5]).image, data.load(ids).image[3:5])


def test_mosaics_of_one_photograph_as_label_are_a_group(photos):
    data = open_grid(photos, split="none", n=200)
    index = data.index("test")
    assert len(set(index.groups)) == 25
    samples = data.load(index.ids)
    place = samples.mask.reshape(200, 2, 8, 2, 8)[:, :, 0, :, 0].reshape(200, 4).argmax(axis=1)
    for group in sorted(set(index.groups))[:5]:
        rows = [i for i, each in enumerate(index.groups) if each == group]
        row, column = place[rows] // 2, place[rows] % 2
        assert len({tuple(samples.image[i, :, r * 8, c * 8]) for i, r, c in zip(rows, row, column, strict=True)}) == 1


def test_training_mosaics_show_one_class_and_no_photograph_of_the_test(photos):
    data = open_grid(photos)
    train, test = data.index("train"), data.index("test")
    samples = data.load(train.ids)
    np.testing.assert_array_equal(hues(samples.image), np.repeat(train.labels[:, None], 4, axis=1))
    assert len(train) == 15
    parts = {
        split: {part for each in data._mosaics[split].values() for part in each.parts} for split in ("train", "test")
    }
    assert parts["train"].isdisjoint(parts["test"])
    assert len(test) == 200


def test_the_digest_moves_with_photographs_parameters_and_list(photos, tmp_path):
    def digest(**params):
        return open_grid(photos, **params).index("test").digest

    seen = [digest(), digest(n=3), digest(seed=1), digest(size=32), digest(fit="squash"), digest(split="none")]
    (tmp_path / "list.txt").write_text("\n".join([*COLOURS, "fox"]))
    seen.append(digest(classes=str(tmp_path / "list.txt")))
    Image.new("RGB", (90, 90), (250, 0, 0)).save(photos / "ant" / "0.png")
    seen.append(digest(split="none"))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("params", "said"), [({"size": 15}, "size=15"), ({"size": 8}, "size=8"), ({"n": 0}, "n=0")])
def test_an_impossible_mosaic_is_refused(photos, params, said):
    with pytest.raises(XbenchError, match=rf"^photos/grid: {said}"):
        open_grid(photos, **params)


def test_fewer_than_four_classes_are_refused_with_what_would_do(photos):
    for name in ("ant", "bee"):
        for path in (photos / name).iterdir():
            path.unlink()
        (photos / name).rmdir()
    with pytest.raises(XbenchError, match=r"photographs of four classes to test on; 3 are there \(data=photos/folder"):
        open_grid(photos).index("test")


def test_imagenet_is_torchvisions_list():
    from torchvision.models import ResNet18_Weights

    from xbench.class_lists import read_classes
    from xbench_photos.datasets import _IMAGENET

    assert list(read_classes(_IMAGENET)) == ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def test_no_folder_is_one_line_that_says_what_would_do(monkeypatch):
    monkeypatch.delenv("XBENCH_DATA", raising=False)
    for opened in (open_folder, open_grid):
        with pytest.raises(XbenchError, match=r"^photos/\w+ needs pictures: set data\.root .*labels\.csv beside it\)$"):
            opened(None).index("test")


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 14), (3, 32, 20)])
def test_the_small_network_takes_any_size(shape):
    network = Model(small(shape, ("a", "b", "c"), width=4))
    assert network.logits(torch.rand(2, *shape)).shape == (2, 3)
    with pytest.raises(Unsupported, match="at least 8 x 8"):
        small((3, 7, 9), ("a", "b"), width=4)


def test_the_resnet_sees_normalised_images_of_three_channels():
    network = resnet18((3, 32, 32), ("a", "b"))
    assert isinstance(network, Normalised)
    seen = []
    network.network.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.eval()(torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 32, 32))
    assert seen[0].abs().max() < 1e-6
    with pytest.raises(Unsupported, match="3 channels, not 1"):
        resnet18((1, 32, 32), ("a", "b"))


def test_mirroring_turns_some_pictures_and_no_pixel_is_lost():
    image = torch.rand(40, 3, 4, 5)
    made = mirrored(image, torch.Generator().manual_seed(0))
    turned = (made == image.flip(3)).flatten(1).all(dim=1)
    same = (made == image).flatten(1).all(dim=1)
    assert (turned ^ same).all()
    assert 10 < turned.sum() < 30


def test_the_suite_ranks_on_any_folder_and_the_oracle_is_right(photos, tmp_path):
    run = api.run(
        "photos",
        out=tmp_path / "run",
        executor="inline",
        device="cpu",
        limit=10,
        model="photos/small[epochs=12]",
        explainer="controls/oracle,controls/random,cam/gradcam",
        metric="localisation_precision,relevance_mass",
        **{"data.root": str(photos), "data.size": 32},
    )
    assert run.failures == []
    rows = {row.explainer: row for row in run.rows if row.metric == "relevance_mass"}
    assert rows["controls/oracle"].mean == 1
    assert rows["controls/random"].chance == pytest.approx(0.25)
    assert rows["cam/gradcam"].mean > 0.4
