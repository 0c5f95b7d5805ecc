"""Laws of pictures in class folders: what is found, and one clear line for everything that is wrong."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from xbench.errors import XbenchError
from xbench.folder import image_folder

SPLITS = ("train", "valid", "test")
CLASSES = ("omelette", "pizza")


def paint(path, colour=(200, 100, 50), size=(20, 16), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def make(root, *, splits=SPLITS, classes=CLASSES, count=3, ending=".png"):
    for split in splits:
        for k, name in enumerate(classes):
            for i in range(count):
                paint(root / split / name / f"{i}{ending}", (40 * k, 10 * i, len(split)))
    return root


def open_folder(root, **params):
    return image_folder("food/folder", root, **{"home": "food", "size": 8, **params})


def unread_of(samples):
    """Return why the one sample of a batch that cannot be read cannot."""
    (message,) = samples.unread.values()
    assert len(message.splitlines()) == 1
    return message


def error_of(action):
    with pytest.raises(XbenchError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def all_ids(data):
    return {split: data.index(split).ids for split in SPLITS}


@pytest.mark.parametrize("valid", ["valid", "val"])
@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".png", ".WebP"])
def test_ready_splits_are_read_in_the_order_of_the_alphabet(tmp_path, valid, ending):
    make(tmp_path, splits=("train", valid, "test"), classes=("pizza", "curry", "omelette"), ending=ending)
    data = open_folder(tmp_path)
    index = data.index("valid")
    assert index.classes == ("curry", "omelette", "pizza")
    assert index.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert index.ids[0] == f"{valid}/curry/0{ending}"
    assert index.groups == index.ids
    assert index.shape == (3, 8, 8)
    samples = data.load(index.ids)
    assert samples.image.shape == (9, 3, 8, 8)
    assert samples.image.dtype == np.float32
    assert 0 <= samples.image.min() <= samples.image.max() <= 1


def test_classes_given_decide_labels_and_what_is_read(tmp_path):
    make(tmp_path, classes=("pizza", "curry", "omelette"))
    index = open_folder(tmp_path, classes=("pizza", "curry")).index("test")
    assert index.classes == ("pizza", "curry")
    assert [name.split("/")[1] for name in index.ids] == ["pizza"] * 3 + ["curry"] * 3


def test_flat_folder_is_split_by_name_in_fifths_and_says_so(tmp_path):
    make(tmp_path, splits=(".",), count=25)
    data = open_folder(tmp_path)
    for split, count in zip(SPLITS, (15, 5, 5), strict=True):
        index = data.index(split)
        assert np.bincount(index.labels).tolist() == [count, count]
        assert "60, 20 and 20 %" in index.notes[1]
        assert "data.seed=0" in index.notes[1]
    ids = all_ids(data)
    assert len({name for split in SPLITS for name in ids[split]}) == 50
    assert all_ids(open_folder(tmp_path)) == ids
    assert all_ids(open_folder(tmp_path, layout="flat")) == ids
    assert all_ids(open_folder(tmp_path, seed=1)) != ids


def test_flat_split_of_a_class_hangs_on_no_other_class(tmp_path):
    make(tmp_path, splits=(".",), count=25)
    before = [name for name in open_folder(tmp_path).index("test").ids if name.startswith("pizza")]
    for i in range(9):
        paint(tmp_path / "omelette" / f"more{i}.png")
    assert [name for name in open_folder(tmp_path).index("test").ids if name.startswith("pizza")] == before


def test_three_pictures_a_class_are_enough_for_a_flat_folder_and_two_are_not(tmp_path):
    make(tmp_path, splits=(".",), count=3)
    assert [len(open_folder(tmp_path).index(split)) for split in SPLITS] == [2, 2, 2]
    (tmp_path / "pizza/2.png").unlink()
    assert "cannot split a class of 2 pictures, as pizza/" in error_of(lambda: open_folder(tmp_path).index("train"))


def test_seed_does_not_move_ready_splits(tmp_path):
    make(tmp_path)
    first, other = (open_folder(tmp_path, seed=seed).index("test") for seed in (0, 1))
    assert first.ids == other.ids
    assert first.digest == other.digest


def test_masks_are_found_by_the_pictures_path_and_cut_as_it_is(tmp_path):
    make(tmp_path)
    mask = np.zeros((16, 20), np.uint8)
    mask[4:12, 10:20] = 1  # any value but 0
    (tmp_path / "masks/test/pizza").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks/test/pizza/1.png")
    data = open_folder(tmp_path, size=16)
    index = data.index("test")
    assert index.annotated.tolist() == [False] * 4 + [True, False]
    assert index.notes == ("food/folder: 1 of the 18 pictures have a mask",)
    samples = data.load(index.ids)
    assert samples.mask_class.tolist() == [-1] * 4 + [1, -1]
    assert not samples.mask[[0, 1, 2, 3, 5]].any()
    np.testing.assert_array_equal(samples.mask[4], mask[:, 2:18] > 0)
    squashed = open_folder(tmp_path, size=16, fit="squash").load([index.ids[4]]).mask[0]
    assert squashed[4:12, 8:].all()
    assert not squashed[:, :8].any()


def test_masks_of_a_flat_folder_are_no_class(tmp_path):
    make(tmp_path, splits=(".",))
    paint(tmp_path / "masks/pizza/0.png", (255, 255, 255))
    index = {split: open_folder(tmp_path).index(split) for split in SPLITS}
    assert index["test"].classes == CLASSES
    assert sum(int(each.annotated.sum()) for each in index.values()) == 1


def test_mask_of_another_size_is_named(tmp_path):
    make(tmp_path)
    path = paint(tmp_path / "masks/test/pizza/1.png", size=(10, 8))
    message = unread_of(open_folder(tmp_path).load(["test/pizza/1.png"]))
    assert message == f"the mask {path} has 10 x 8 pixels, its picture 20 x 16; it must be as large"


def test_mask_of_a_turned_picture_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    make(tmp_path)
    paint(tmp_path / "test/pizza/1.png", exif=exif)
    paint(tmp_path / "masks/test/pizza/1.png", size=(16, 20))
    assert open_folder(tmp_path).load(["test/pizza/1.png"]).mask.all()


def test_files_that_are_left_out_are_counted(tmp_path):
    make(tmp_path)
    (tmp_path / "train/pizza/notes.txt").write_text("x")
    (tmp_path / "test/pizza/a.gif").write_bytes(b"")
    (tmp_path / "test/pizza/._0.png").write_bytes(b"")
    (tmp_path / "test/pizza/folder.png").mkdir()
    (tmp_path / "test/pizza/gone.png").symlink_to(tmp_path / "nowhere.png")
    paint(tmp_path / "masks/test/pizza/77.png")
    index = open_folder(tmp_path).index("test")
    assert len(index) == 6
    assert "2 files do not end in .jpg, .jpeg, .png, .webp and are left out, as train/pizza/notes.txt" in index.notes[1]
    assert "1 masks belong to no picture, as 'masks/test/pizza/77.png'" in index.notes[2]


def test_load_keeps_the_order_asked_for_and_is_the_same_in_parts(tmp_path):
    data = open_folder(make(tmp_path))
    ids = list(data.index("test").ids)
    whole = data.load(ids).image
    np.testing.assert_array_equal(data.load(ids[::-1]).image[::-1], whole)
    np.testing.assert_array_equal(data.load(ids[3:5]).image, whole[3:5])
    assert data.load([]).mask.shape == (0, 8, 8)


def test_digest_follows_files_masks_and_parameters(tmp_path):
    make(tmp_path)

    def digest(split="test", **params):
        return open_folder(tmp_path, **params).index(split).digest

    first = digest()
    assert digest() == first
    others = {digest(size=16), digest(fit="squash"), digest("train"), digest(classes=("pizza", "omelette"))}
    with (tmp_path / "test/pizza/0.png").open("ab") as file:
        file.write(b"x")
    others.add(digest())
    paint(tmp_path / "masks/test/pizza/1.png")
    others.add(digest())
    (tmp_path / "test/pizza/2.png").rename(tmp_path / "test/pizza/3.png")
    others.add(digest())
    assert len(others | {first}) == 8
    # Where the folder lies does not matter.
    assert (
        open_folder(make(tmp_path / "a")).index("test").digest == open_folder(make(tmp_path / "b")).index("test").digest
    )


def test_root_comes_from_the_argument_or_the_environment_or_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("XBENCH_DATA", raising=False)
    message = error_of(lambda: open_folder(None, hint="; data=food/dishes needs no file").index("test"))
    for word in ("food/folder needs pictures", "data.root", "XBENCH_DATA", "data=food/dishes needs no file"):
        assert word in message
    monkeypatch.setenv("XBENCH_DATA", str(tmp_path))
    assert f"{tmp_path / 'food'} is not a folder" in error_of(lambda: open_folder(None).index("test"))
    make(tmp_path / "food")
    assert len(open_folder(None).index("test")) == 6
    gone = tmp_path / "gone"
    assert f"data.root={gone} is not a folder" in error_of(lambda: open_folder(gone).index("test"))


@pytest.mark.parametrize("size", [-1, 0, 7, 4097])
def test_nonsense_size_is_refused_at_once(size):
    assert f"size={size} does not do" in error_of(lambda: open_folder(None, size=size))


def empty(root):
    for path in root.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: os.rename(root / "test", root / "tests"), "{root} has no folder test; train, valid and test are"),
        (
            lambda root: os.rename(root / "valid", root / "v"),
            "{root} has no folder valid or val; train, valid and test",
        ),
        (lambda root: (root / "val").mkdir(), "{root} has both valid and val; one folder for the valid split"),
        (lambda root: empty(root / "test/pizza"), "{root}/test/pizza holds no picture; files ending in .jpg"),
        (
            lambda root: os.rename(root / "test/pizza", root / "test/piza"),
            "no folder of the class 'pizza'; did you mean",
        ),
        (lambda root: os.rename(root / "test/pizza", root / "test/x"), "'pizza'; the classes are omelette, pizza"),
        (lambda root: (root / "test/soup").mkdir(), "{root}/test has a class 'soup' and {root}/train has not"),
        (lambda root: os.rename(root / "train/pizza", root / "p"), "{root}/train holds only the folder 'omelette'"),
        (
            lambda root: paint(root / "test/pizza" / os.fsdecode(b"\xff.png")),
            "the name '\\udcff.png' with odd characters",
        ),
        (lambda root: paint(root / "test/pizza/a\nb.png"), "the name 'a\\nb.png' with odd characters"),
    ],
)
def test_what_is_missing_or_odd_is_said_in_one_line(tmp_path, spoil, said):
    spoil(make(tmp_path))
    assert said.format(root=tmp_path) in error_of(lambda: open_folder(tmp_path).index("test"))


def test_empty_folder_and_layout_that_is_not_there(tmp_path):
    assert f"{tmp_path} holds no folder; food/folder needs one for each" in error_of(
        lambda: open_folder(tmp_path).index("test")
    )
    make(tmp_path, splits=(".",))
    assert "has no folder train" in error_of(lambda: open_folder(tmp_path, layout="splits").index("test"))
    assert "has no folder of the class 'positive'" in error_of(
        lambda: open_folder(tmp_path, classes=("negative", "positive")[::-1]).index("test")
    )


def bomb(path):
    """Return a PNG of 20,000 x 20,000 pixels in its head and none in its body."""
    head = struct.pack(">IIBBBBB", path, path, 8, 2, 0, 0, 0)
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no picture", lambda raw: b""])
def test_damaged_picture_is_named(tmp_path, ending, damage):
    make(tmp_path)
    path = tmp_path / f"test/pizza/x.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    message = unread_of(open_folder(tmp_path).load(open_folder(tmp_path).index("test").ids))
    assert message.startswith(f"{path} is not a whole JPEG, PNG or WebP picture (")
    assert message.endswith("; replace or remove it")


def test_damaged_mask_is_named(tmp_path):
    path = paint(make(tmp_path) / "masks/test/pizza/1.png")
    path.write_bytes(path.read_bytes()[:40])
    assert unread_of(open_folder(tmp_path).load(["test/pizza/1.png"])).startswith(f"{path} is not a whole")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bombs_are_refused(tmp_path, side):
    # Pillow warns of the smaller one and refuses the larger one.
    path = make(tmp_path) / "test/pizza/x.png"
    path.write_bytes(bomb(side))
    message = unread_of(open_folder(tmp_path).load(["test/pizza/x.png"]))
    assert message.startswith(f"{path} is too large a picture (")


def test_other_kinds_of_file_are_not_opened_whatever_their_ending(tmp_path):
    make(tmp_path)
    (tmp_path / "test/pizza/x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    assert "it is another kind of file" in unread_of(open_folder(tmp_path).load(["test/pizza/x.jpg"]))


def test_unknown_pictures_and_splits_are_refused(tmp_path):
    data = open_folder(make(tmp_path))
    for name in ("test/pizza/9.png", "../secret.png", str(tmp_path / "test/pizza/0.png")):
        assert f"has no picture {name!r}" in error_of(lambda name=name: data.load([name]))
    assert "has no split 'all'" in error_of(lambda: data.index("all"))


def test_planning_with_folders_imports_no_torch():
    code = "import sys, xbench.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
