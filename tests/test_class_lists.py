"""Tables beside pictures: a list of classes keeps its order, a table of labels its rows; anything unsound is one line."""

import numpy as np
import pytest
from PIL import Image

from xbench.class_lists import read_classes, read_labels
from xbench.errors import XbenchError
from xbench.folder import image_folder


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def picture(path, colour=(9, 9, 9), size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def open_folder(root, **params):
    return image_folder("photos/folder", root, **{"home": "photos", "size": 8, **params})


@pytest.fixture
def listed(tmp_path):
    """images/ and labels.csv: five classes, two of them shown in the list's order, one mask."""
    for i, name in enumerate(["b.png", "a.png", "c.png"]):
        picture(tmp_path / "images" / name, (80 * i, 0, 0))
    picture(tmp_path / "truth" / "b.png", (255, 255, 255))
    written(tmp_path / "labels.csv", "file,name,index,mask\nb.png,zebra,3,b.png\na.png,ant,0,\nc.png,zebra,3,\n")
    written(tmp_path / "classes.txt", "ant\nbee\ncow\nzebra\nyak\n")
    return tmp_path


def test_a_list_keeps_its_order_and_an_index_column_decides_it(tmp_path):
    assert read_classes(written(tmp_path / "a.txt", "\ufeffzebra\n ant \n\nbee\n")) == ("zebra", "ant", "bee")
    assert read_classes(written(tmp_path / "b.csv", "wnid,class\nn2,zebra\nn1,ant\n")) == ("zebra", "ant")
    assert read_classes(written(tmp_path / "c.csv", 'index,name\n1,zebra\n0,"ant, red"\n')) == ("ant, red", "zebra")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "ant\nant\n", "lists the class 'ant' twice"),
        ("a.txt", "ant\n", "lists 1 classes; two or more are needed"),
        ("a.csv", "wnid\nn1\n", "has no column class, name or label; it has wnid"),
        ("a.csv", "class\n", "holds no rows under its header"),
        ("a.csv", "index,class\n0,ant\n2,bee\n", "lists 2 classes, and none has the index 1"),
        ("a.csv", "index,class\nx,ant\n", "the index 'x' is no whole number from 0 on"),
    ],
)
def test_an_unsound_list_is_refused(tmp_path, name, text, said):
    with pytest.raises(XbenchError) as caught:
        read_classes(written(tmp_path / name, text))
    assert said in str(caught.value)


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(XbenchError, match=r"nowhere\.txt cannot be read \(No such file or directory\)"):
        read_classes(tmp_path / "nowhere.txt")


def test_a_table_names_every_picture_once(tmp_path):
    with pytest.raises(XbenchError, match=r"lists the picture 'a\.png' twice"):
        read_labels(written(tmp_path / "labels.csv", "file,class\na.png,ant\na.png,bee\n"))
    with pytest.raises(XbenchError, match="has no column 'file'; it has picture, class"):
        read_labels(written(tmp_path / "labels.csv", "picture,class\na.png,ant\n"))


def test_pictures_beside_a_table_have_the_places_of_the_list(listed):
    data = open_folder(listed, layout="whole", known=read_classes(listed / "classes.txt"), masks="truth")
    index = data.index("test")
    assert index.ids == ("images/a.png", "images/b.png", "images/c.png")
    assert index.labels.tolist() == [0, 3, 3]
    assert index.classes == ("ant", "bee", "cow", "zebra", "yak")
    assert index.annotated.tolist() == [False, True, False]
    assert len(data.index("train")) == len(data.index("valid")) == 0
    samples = data.load(index.ids)
    assert samples.mask[1].all()
    assert not samples.mask[[0, 2]].any()
    np.testing.assert_allclose(samples.image[:, 0, 0, 0], np.array([80, 0, 160]) / 255)


def test_without_a_list_the_classes_are_those_of_the_table(listed):
    index = open_folder(listed, layout="whole").index("test")
    assert index.classes == ("ant", "zebra")
    assert index.labels.tolist() == [0, 1, 1]
    assert "there is no folder 'masks' (data.masks=NAME says which)" in index.notes[0]


def test_the_digest_moves_with_the_list_with_labels_and_with_masks(listed):
    def digest(**params):
        return open_folder(listed, **{"layout": "whole", **params}).index("test").digest

    known = read_classes(listed / "classes.txt")
    seen = {digest(), digest(known=known), digest(known=known[::-1]), digest(known=known, masks="truth")}
    written(listed / "labels.csv", "file,name\nb.png,zebra\na.png,ant\nc.png,ant\n")
    seen |= {digest(), digest(known=known)}
    assert len(seen) == 6


def test_a_split_column_decides(listed):
    written(listed / "labels.csv", "file,class,split\nb.png,x,train\na.png,x,val\nc.png,y,test\n")
    data = open_folder(listed)
    assert [data.index(split).ids for split in ("train", "valid", "test")] == [
        ("images/b.png",),
        ("images/a.png",),
        ("images/c.png",),
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,class\nz.png,ant\n", "lists 'z.png', which is not in"),
        ("file,class\n../labels.csv,ant\n", "lists '../labels.csv', which is not in"),
        ("file,class\na.png,anteater\n", "has the class 'anteater', which the list of classes has not"),
        ("file,index\na.png,7\n", "has the index 7; the list has 5 classes"),
        ("file,class,mask\na.png,ant,a.png\n", "lists the mask 'a.png', which is not in"),
        ("file,class,split\na.png,ant,dev\n", "has the split 'dev'; train, valid and test are known"),
        ("file,class,split\na.png,ant,test\nb.png,ant,\n", "it must for all, or for none"),
    ],
)
def test_an_unsound_table_is_refused(listed, table, said):
    written(listed / "labels.csv", table)
    with pytest.raises(XbenchError) as caught:
        open_folder(listed, known=read_classes(listed / "classes.txt"), masks="truth").index("test")
    assert said in str(caught.value)


def test_names_are_needed_from_somewhere(listed):
    written(listed / "labels.csv", "file,index\na.png,0\n")
    with pytest.raises(XbenchError, match=r"has no names of classes; .* by data\.classes=FILE"):
        open_folder(listed).index("test")


def test_class_folders_may_show_some_of_a_list_in_other_spelling(tmp_path):
    for name in ("Great_White_shark", "ant"):
        picture(tmp_path / name / "1.png")
    known = ("bee", "great white shark", "ant")
    index = open_folder(tmp_path, layout="whole", known=known).index("test")
    assert dict(zip(index.ids, index.labels.tolist(), strict=True)) == {"Great_White_shark/1.png": 1, "ant/1.png": 2}
    assert index.classes == known
    picture(tmp_path / "bea" / "1.png")
    with pytest.raises(XbenchError, match="has the class 'bea', which the list of classes has not; did you mean 'bee'"):
        open_folder(tmp_path, layout="whole", known=known).index("test")


def test_splits_of_a_list_need_not_show_the_same_classes(tmp_path):
    for split, name in (("train", "ant"), ("val", "bee"), ("test", "bee")):
        picture(tmp_path / split / name / "1.png")
    data = open_folder(tmp_path, known=("ant", "bee", "cow"))
    assert [data.index(split).labels.tolist() for split in ("train", "valid", "test")] == [[0], [1], [1]]


def test_the_crop_of_imagenet_is_the_middle_seven_eighths_in_whole_pixels(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 23, 3), dtype=np.uint8)
    (tmp_path / "x").mkdir()
    Image.fromarray(pixels).save(tmp_path / "x" / "1.png")
    picture(tmp_path / "y" / "1.png")
    data = open_folder(tmp_path, layout="whole", size=14, fit="imagenet")
    shown = data.load(["x/1.png"]).image[0]
    np.testing.assert_array_equal(shown, pixels[1:15, 4:18].transpose(2, 0, 1).astype(np.float32) / 255)
