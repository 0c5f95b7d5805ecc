"""Laws of CheXlocalize: run-length strings, published layouts, labels, splits by patient, masks that follow their films."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xbench.errors import XbenchError
from xbench_chestxray.chexlocalize import chexlocalize, shrink
from xbench_chestxray.chexlocalize_tables import FINDINGS, Truth
from xbench_chestxray.rle import MOST_PIXELS, decode, runs

SPLITS = ("train", "valid", "test")
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Lung Opacity"


def slow_runs(mask):
    """Return the run lengths of a mask, pixel by pixel down the columns."""
    lengths, last = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if bool(mask[y, x]) != last:
                lengths.append(0)
                last = not last
            lengths[-1] += 1
    return lengths


def slow_encode(lengths):
    """Write run lengths as cocoapi's rleToString does, bit by bit."""
    return "".join(number(value - lengths[i - 2] if i > 2 else value) for i, value in enumerate(lengths))


def number(value):
    text, more = "", True
    while more:
        code = value & 31
        value >>= 5
        more = value != -1 if code & 16 else value != 0
        text += chr(48 + (code | 32 if more else code))
    return text


def slow_decode(text):
    """Read run lengths as cocoapi's rleFrString does, character by character."""
    lengths, at = [], 0
    while at < len(text):
        value, place, more = 0, 0, True
        while more:
            code = ord(text[at]) - 48
            value |= (code & 31) << (5 * place)
            more = bool(code & 32)
            at, place = at + 1, place + 1
            if not more and code & 16:
                value |= -1 << (5 * place)
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths


masks = st.tuples(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False)).map(
    lambda drawn: np.array([[drawn[2].random() < 0.4 for _ in range(drawn[1])] for _ in range(drawn[0])])
)


@given(masks)
def test_a_mask_written_by_the_slow_encoder_is_read_back(mask):
    np.testing.assert_array_equal(decode(slow_encode(slow_runs(mask)), *mask.shape), mask)


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=40))
def test_runs_of_every_size_equal_the_slow_decoder(lengths):
    lengths[0] += 1
    text = slow_encode(lengths)
    assert slow_decode(text) == lengths
    assert runs(text, 1, sum(lengths)).tolist() == lengths


@given(st.text(st.characters(min_codepoint=44, max_codepoint=115), max_size=30), st.integers(1, 40), st.integers(1, 40))
def test_any_string_is_read_as_the_slow_decoder_does_or_refused_in_one_line(text, height, width):
    try:
        found = slow_decode(text)
    except IndexError:
        found = []
    known = re.fullmatch("[0-o]*", text) and not re.search("[P-o]{7}", text)  # eight characters are too long a number
    fits = known and found and min(found) >= 0 and sum(found) == height * width
    if fits:
        assert runs(text, height, width).tolist() == found
    else:
        with pytest.raises(ValueError, match=r"\A.+\Z"):
            runs(text, height, width)


def test_runs_go_down_the_columns():
    # [[., #, #], [., ., #]] read down the columns is ..#.##: runs 2, 1, 1, 2, the last as a difference to the last but one.
    np.testing.assert_array_equal(decode("2111", 2, 3), [[0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(decode("06", 3, 2), np.ones((3, 2)))
    # 40 = 01000 + 1 * 32: the low five bits with the sign that more follow (8 + 32 + 48 = 'X'), then '1'.
    assert runs("X1", 5, 8).tolist() == [40]


@pytest.mark.parametrize(("text", "height", "width"), [("PVWX6", 2320, 2828), ("nefl3", 2022, 2021)])
def test_the_strings_published_for_empty_masks_are_empty(text, height, width):
    assert runs(text, height, width).tolist() == [height * width]
    assert not decode(text, height, width).any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends within a number"),
        ("2", "the runs have 2 pixels; a mask of 2 x 3 has 6"),
        ("2112", "the runs have 7 pixels"),
        ("21P", "ends within a number"),
        ("21/2", "'/' at place 2"),
        ("211p", "'p' at place 3"),
        ("21é1", "'é' at place 2"),
        ("21\ud8001", "at place 2"),
        ("21\n1", r"'\n' at place 2"),
        ("7O", "a run of -1 pixels"),
        ("3240O", "the runs have"),
        ("P" * 20 + "0", "a number of 21 characters"),
        ("ooooooO" * 3, "a run of -1 pixels"),
        ("0" + "ooooooo?"[1:] * 600, "a mask of 2 x 3 has 6"),
    ],
)
def test_hostile_strings_are_refused_in_one_line(text, said):
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        decode(text, 2, 3)
    assert len(str(caught.value).splitlines()) == 1


def test_runs_whose_sum_overflows_to_the_right_total_are_refused():
    # The n-th difference from the end is in n runs; with none longer than its 35 bits the sum is 2**64 + 6, or 6 in int64.
    left, text = 2**64 + 6, "0"
    for n in range(47_000, 0, -1):
        step = min(2**34 - 1, left // n)
        left -= n * step
        text += number(step) + "0"
    assert left == 0
    with pytest.raises(ValueError, match="a mask of 2 x 3 has 6"):
        runs(text, 2, 3)


@pytest.mark.parametrize("size", [(0, 6), (-2, -3), (MOST_PIXELS, 2), (10**12, 10**12)])
def test_absurd_sizes_are_refused_before_anything_is_made(size):
    with pytest.raises(ValueError, match="are allowed"):
        decode("2111", *size)


def rectangle(height, width, box):
    """Return a mask that is true in rows and columns [top,bottom), [left,right)."""
    mask = np.zeros((height, width), bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    return mask


def write_json(root, name, content):
    (root / "CheXlocalize").mkdir(parents=True, exist_ok=True)
    (root / "CheXlocalize" / name).write_text(json.dumps(content))


def film(root, part, patient, size=(30, 40), study=1, view="view1_frontal"):
    """Write a film that is dark on the left and bright on the right; returns its name."""
    folder = root / "CheXpert" / part / f"patient{patient}" / f"study{study}"
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.tile(np.linspace(0, 255, size[1]).astype(np.uint8), (size[0], 1))
    Image.fromarray(grey).save(folder / f"{view}.jpg")
    return f"patient{patient}_study{study}_{view}"


def coded(mask, task="Cardiomegaly"):
    """Return a film's entry in gt_segmentations: all ten tasks, one of them drawn."""
    empty = np.zeros_like(mask)
    names = [name.replace("Lung Opacity", "Airspace Opacity") for name in FINDINGS]
    drawn = {name: mask if name == task else empty for name in names}
    return {name: {"size": list(each.shape), "counts": slow_encode(slow_runs(each))} for name, each in drawn.items()}


BOX = (6, 18, 20, 36)


def make(root, *, table=True, masks=True, n=12, parts=("val", "test")):
    """Write the published layout: of n patients a part, the even ones with cardiomegaly (drawn, but for the first)."""
    for number, part in enumerate(parts):
        rows, truths = [HEADER], {}
        for i in range(n):
            patient = 10_000 * (number + 1) + i
            name = film(root, part, patient)
            film(root, part, patient, view="view2_lateral")
            ill = i % 2 == 0
            rows.append(f"CheXpert-v1.0/{part}/{name.replace('_', '/', 2)}.jpg,Male,70,Frontal,AP,0.0,{float(ill)},0.0")
            if i > 0:
                truths[name] = coded(rectangle(30, 40, BOX if ill else (0, 0, 0, 0)))
        if table:
            (root / "CheXpert" / f"{part}_labels.csv").write_text("\n".join(rows) + "\n")
        if masks:
            write_json(root, f"gt_segmentations_{part}.json", truths)
    return root


def make_train(root, rows):
    """Write CheXpert's own training part; rows are (patient, fields after AP/PA)."""
    lines = [HEADER]
    for patient, fields in rows:
        name = film(root, "train", patient)
        lines.append(f"CheXpert-v1.0/train/{name.replace('_', '/', 2)}.jpg,Male,70,Frontal,AP,{fields}")
    (root / "CheXpert" / "train.csv").write_text("\n".join(lines) + "\n")


def opened(root, **params):
    return chexlocalize(root, **{"size": 16, "finding": "Cardiomegaly", "seed": 0, **params})


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


def test_published_layout_gives_frontal_films_by_patient(tmp_path):
    index = opened(make(tmp_path)).index("test")
    assert index.ids == tuple(f"patient{20_000 + i}_study1_view1_frontal" for i in range(12))
    assert index.groups == tuple(f"patient{20_000 + i}" for i in range(12))
    assert index.labels.tolist() == [1, 0] * 6
    assert index.classes == ("No Cardiomegaly", "Cardiomegaly")
    assert index.shape == (1, 16, 16)
    assert index.annotated.tolist() == [i % 2 == 0 and i > 0 for i in range(12)]
    assert index.notes == (
        "chestxray/chexlocalize: 12 frontal films of test, 5 with a mask; labels from test_labels.csv",
    )


def test_films_in_a_folder_called_valid_are_those_of_val(tmp_path):
    (make(tmp_path) / "CheXpert/val").rename(tmp_path / "CheXpert/valid")
    (tmp_path / "CheXpert/val_labels.csv").rename(tmp_path / "CheXpert/valid.csv")
    data = opened(tmp_path)
    assert len(data.index("train")) + len(data.index("valid")) == 12
    assert "labels from valid.csv" in data.index("valid").notes[0]


def test_masks_lie_where_they_were_drawn_after_resizing(tmp_path):
    # The film is 30 x 40: rows 6 to 18 are .2 to .6 of its height, columns 20 to 36 .5 to .9 of its width.
    data = opened(make(tmp_path), size=20)
    samples = data.load(["patient20002_study1_view1_frontal", "patient20001_study1_view1_frontal"])
    np.testing.assert_array_equal(samples.mask[0], rectangle(20, 20, (4, 12, 10, 18)))
    assert not samples.mask[1].any()
    assert samples.mask_class.tolist() == [1, -1]
    assert samples.image.shape == (2, 1, 20, 20)
    assert samples.image.dtype == np.float32
    across = samples.image[0, 0].mean(axis=0)
    assert across[0] < 0.05
    assert across[-1] > 0.95
    np.testing.assert_allclose(across, (np.arange(20) + 0.5) / 20, atol=0.05)


def test_contours_are_outlined_and_filled_and_serve_where_there_is_no_segmentation(tmp_path):
    make(tmp_path, masks=False)
    names = [f"patient{20_000 + i}_study1_view1_frontal" for i in range(12)]
    drawn = rectangle(30, 40, (0, 15, 0, 20))
    write_json(tmp_path, "gt_segmentations_test.json", {names[2]: coded(drawn), names[4]: coded(drawn & False)})
    corners = [[20, 6.0], [35, 6], [35, 17], [20, 17]]
    other = [[1.0, 1], [3, 1], [3, 4], [1, 4]]
    ann = {name: {"img_size": [30, 40], "Cardiomegaly": [corners, other]} for name in (names[2], names[4], names[6])}
    ann[names[8]] = {"img_size": [30, 40], "Edema": [corners]}
    write_json(tmp_path, "gt_annotations_test.json", ann)
    data = opened(tmp_path, size=120)
    index = data.index("test")
    assert [name for name, has in zip(index.ids, index.annotated, strict=True) if has] == [names[2], names[6]]
    masks = data.load([names[2], names[6]]).mask
    np.testing.assert_array_equal(masks[0][2::4, 1::3], drawn)
    # Pillow's outline makes both ends part of the polygon: rows 6 to 17 and columns 20 to 35.
    want = rectangle(30, 40, BOX) | rectangle(30, 40, (1, 5, 1, 4))
    np.testing.assert_array_equal(masks[1][2::4, 1::3], want)


def test_contour_and_run_length_masks_of_one_drawing_are_equal():
    corners = ((3.4, 2.0), (25.0, 8.5), (19.0, 27.2))
    drawn = Truth(30, 40, contours=(corners,)).pixels()
    assert 150 < drawn.sum() < 400
    assert (drawn[2, 3], drawn[8, 25], drawn[27, 19]) == (True, True, True)
    np.testing.assert_array_equal(Truth(30, 40, slow_encode(slow_runs(drawn))).pixels(), drawn)


@pytest.mark.parametrize("finding", ["Lung Opacity", "Airspace Opacity"])
def test_lung_opacity_goes_by_both_names(tmp_path, finding):
    make(tmp_path)
    names = [f"patient{20_000 + i}_study1_view1_frontal" for i in range(3)]
    for name in names:
        for path in (tmp_path / "CheXpert").glob(f"test/{name.split('_')[0]}/study1/*"):
            assert path.is_file()
    rows = [
        HEADER,
        *(f"test/{name.replace('_', '/', 2)}.jpg,M,1,Frontal,AP,0,0,{i % 2}" for i, name in enumerate(names)),
    ]
    (tmp_path / "CheXpert/test_labels.csv").write_text("\n".join(rows))
    write_json(tmp_path, "gt_segmentations_test.json", {names[1]: coded(rectangle(30, 40, BOX), "Airspace Opacity")})
    index = opened(tmp_path, finding=finding).index("test")
    assert index.classes == ("No Lung Opacity", "Lung Opacity")
    assert index.labels.tolist() == [0, 1, 0]
    assert index.annotated.tolist() == [False, True, False]
    assert index.digest == opened(tmp_path, finding="Lung Opacity").index("test").digest
    assert "9 films are left out, for it does not name them" in index.notes[0]


def test_without_a_label_table_a_film_shows_the_finding_where_its_mask_is_not_empty(tmp_path):
    index = opened(make(tmp_path, table=False)).index("test")
    # The first patient has the finding by the table, but no mask.
    assert index.labels.tolist() == [0, 0, *[1, 0] * 5]
    assert "labels from the masks (no test_labels.csv here): a film shows Cardiomegaly where" in index.notes[0]


def test_labels_by_study_hold_for_all_its_films(tmp_path):
    make(tmp_path)
    film(tmp_path, "test", 20_000, view="view2_frontal")
    film(tmp_path, "test", 20_000, study=2)
    rows = ["Study,Cardiomegaly", *(f"CheXpert-v1.0/test/patient{20_000 + i}/study1,{1 - i}" for i in range(2))]
    rows.append("CheXpert-v1.0/test/patient20000/study2,0")
    (tmp_path / "CheXpert/test_labels.csv").write_text("\n".join(rows))
    index = opened(tmp_path).index("test")
    assert dict(zip(index.ids, index.labels.tolist(), strict=True)) == {
        "patient20000_study1_view1_frontal": 1,
        "patient20000_study1_view2_frontal": 1,
        "patient20000_study2_view1_frontal": 0,
        "patient20001_study1_view1_frontal": 0,
    }
    assert len(set(index.groups)) == 2


def test_without_a_training_part_val_is_halved_by_patient_and_a_note_says_so(tmp_path):
    make(tmp_path, n=20)
    for patient in range(10_000, 10_020):
        film(tmp_path, "val", patient, view="view3_frontal")
    path = tmp_path / "CheXpert/val_labels.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, *(row.replace("view1", "view3") for row in rows[1:])]))
    data = opened(tmp_path)
    patients = {split: set(data.index(split).groups) for split in SPLITS}
    assert [len(patients[split]) for split in SPLITS] == [10, 10, 20]
    assert not patients["train"] & patients["valid"]
    assert len(patients["train"] | patients["valid"]) == 20
    assert [int(data.index(split).labels.sum()) for split in SPLITS] == [10, 10, 10]
    said = (
        "no film of CheXpert's train folder here: train is half of the patients of val, drawn by seed; valid the others"
    )
    assert data.index("train").notes[-1] == data.index("valid").notes[-1] == said
    assert not any("half" in note for note in data.index("test").notes)
    assert set(opened(tmp_path, seed=1).index("train").groups) != patients["train"]
    assert set(opened(tmp_path).index("train").groups) == patients["train"]
    assert opened(tmp_path, seed=1).index("test").ids == data.index("test").ids


def test_chexperts_own_training_part_is_taken_whole_but_for_uncertain_films_and_known_patients(tmp_path):
    make(tmp_path)
    fields = ["0.0,1.0,", ",0.0,", "1.0,,", ",-1.0,1.0", "0.0,1.0,", "1.0,,"]
    # 10000 is a patient of val, 20001 of test: a mistake that CheXpert does not make.
    make_train(tmp_path, zip([1, 2, 3, 4, 10_000, 20_001], fields, strict=True))
    data = opened(tmp_path)
    train = data.index("train")
    assert train.groups == ("patient1", "patient2", "patient3")
    assert train.labels.tolist() == [1, 0, 0]
    assert not train.annotated.any()
    assert "labels from train.csv; 1 films are left out as uncertain" in train.notes[0]
    assert train.notes[1] == "2 films are left out, for their patients are in a later split too"
    assert len(data.index("valid")) == 12
    assert len(data.index("valid").notes) == 1
    assert data.load(train.ids[:1]).mask_class.tolist() == [-1]


def test_training_films_without_their_table_are_told(tmp_path):
    make(tmp_path)
    film(tmp_path, "train", 1)
    assert (
        opened(tmp_path).index("train").notes[-1].startswith("no train.csv here: train is half of the patients of val")
    )


def test_a_patient_of_val_who_is_in_test_too_is_only_tested(tmp_path):
    make(tmp_path)
    film(tmp_path, "val", 20_003)
    with (tmp_path / "CheXpert/val_labels.csv").open("a") as table:
        table.write("CheXpert-v1.0/val/patient20003/study1/view1_frontal.jpg,M,1,Frontal,AP,0.0,0.0,0.0\n")
    data = opened(tmp_path)
    groups = [set(data.index(split).groups) for split in SPLITS]
    assert "patient20003" in groups[2]
    assert "patient20003" not in groups[0] | groups[1]
    assert any(note.startswith("1 films are left out") for note in data.index("valid").notes)


def test_digest_follows_films_tables_masks_and_parameters(tmp_path):
    make(tmp_path)
    digests = {opened(tmp_path).index("test").digest, opened(tmp_path, size=32).index("test").digest}
    digests.add(opened(tmp_path).index("valid").digest)
    assert opened(tmp_path).index("test").digest in digests
    write_json(tmp_path, "gt_annotations_test.json", {})
    digests.add(opened(tmp_path).index("test").digest)
    film(tmp_path, "test", 20_000, size=(50, 50))
    digests.add(opened(tmp_path).index("test").digest)
    assert len(digests) == 5


@pytest.mark.parametrize(("height", "width", "size"), [(30, 40, 8), (64, 64, 16), (33, 57, 10), (31, 17, 16)])
def test_shrunken_mask_has_the_pixels_that_it_fills_by_half(height, width, size):
    rng = np.random.default_rng(0)
    mask = rectangle(height, width, (height // 5, height - 2, 1, width // 2)) ^ (rng.random((height, width)) < 0.1)
    found = [[[] for _ in range(size)] for _ in range(size)]
    for y in range(height):
        for x in range(width):
            # A centre on the border of two pixels counts for the upper or the left one.
            row, column = (math.ceil((2 * place + 1) * size / (2 * n)) - 1 for place, n in ((y, height), (x, width)))
            found[row][column].append(mask[y, x])
    np.testing.assert_array_equal(shrink(mask, size), [[np.mean(each) >= 0.5 for each in row] for row in found])


def test_a_mask_smaller_than_the_film_is_enlarged_by_its_nearest_pixels():
    mask = rectangle(7, 5, (2, 5, 1, 4))
    place = [[int((i + 0.5) * n / 16) for i in range(16)] for n in (7, 5)]
    np.testing.assert_array_equal(shrink(mask, 16), mask[np.ix_(*place)])


def test_a_mask_smaller_than_a_pixel_does_not_vanish():
    assert np.argwhere(shrink(rectangle(400, 300, (399, 400, 0, 1)), 8)).tolist() == [[7, 0]]
    assert not shrink(np.zeros((40, 30), bool), 8).any()
    assert shrink(np.ones((40, 30), bool), 8).all()


def test_folder_comes_from_the_root_or_from_xbench_data(tmp_path, monkeypatch):
    make(tmp_path / "chexlocalize")
    monkeypatch.setenv("XBENCH_DATA", str(tmp_path))
    assert len(opened(None).index("test")) == 12
    monkeypatch.setenv("XBENCH_DATA", str(tmp_path / "gone"))
    assert f"XBENCH_DATA={tmp_path / 'gone'}: " in error_of(lambda: opened(None).index("test"))
    monkeypatch.delenv("XBENCH_DATA")
    assert "set data.root to their folder, or XBENCH_DATA" in error_of(lambda: opened(None).index("test"))
    assert "is not a folder" in error_of(lambda: opened(tmp_path / "none").index("test"))


def test_missing_files_are_told(tmp_path):
    make(tmp_path / "a", parts=("val",))
    message = error_of(lambda: opened(tmp_path / "a").index("test"))
    assert "no film of No Cardiomegaly is in the test split" in message
    assert "CheXpert/*/patient*/study*/view*_frontal.jpg are looked for" in message
    assert "no film of CheXpert's test folder here" in message
    make(tmp_path / "b", table=False, masks=False)
    message = error_of(lambda: opened(tmp_path / "b").index("test"))
    assert "CheXpert/test_labels.csv or CheXlocalize/gt_segmentations_test.json is needed" in message
    assert "0 with a mask" in opened(make(tmp_path / "c", masks=False)).index("test").notes[0]


def test_a_class_without_a_film_is_told(tmp_path):
    message = error_of(lambda: opened(make(tmp_path), finding="Lung Opacity").index("test"))
    assert message.startswith(f"no film of Lung Opacity is in the test split of {tmp_path} (12 films in all)")


def test_parameters_out_of_range_are_told():
    assert "did you mean 'Cardiomegaly'" in error_of(lambda: opened(None, finding="Cardiomegalie"))
    assert "one of Atelectasis" in error_of(lambda: opened(None, finding="xyz"))
    assert "size=7 is too small" in error_of(lambda: opened(None, size=7))


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("Path,Edema", "test/patient20000/study1/view1_frontal.jpg,1", "no column 'Cardiomegaly'"),
        ("Film,Cardiomegaly", "x,1", "no column 'Path' or 'Study'"),
        (
            "Path,Cardiomegaly",
            "test/patient20000/study1/view1_frontal.jpg,yes",
            "line 2: Cardiomegaly is 0, 1, -1 or empty",
        ),
        ("Path,Cardiomegaly", "test/patient20000/study1/view1_frontal.jpg", "line 2: Cardiomegaly is"),
        ("", "", "no column"),
    ],
)
def test_label_tables_that_are_not_as_published_are_told(tmp_path, header, row, said):
    make(tmp_path)
    path = tmp_path / "CheXpert/test_labels.csv"
    path.write_text(f"{header}\n{row}\n")
    message = error_of(lambda: opened(tmp_path).index("test"))
    assert said in message
    assert str(path) in message


GOOD = {"size": [30, 40], "counts": slow_encode([1200])}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (GOOD | {"counts": "2111"}, "the runs have 6 pixels; a mask of 30 x 40 has 1,200"),
        (GOOD | {"counts": "~"}, "'~' at place 0"),
        (GOOD | {"counts": [1200]}, "counts is no run-length string"),
        (GOOD | {"size": [10**9, 10**9]}, "its size is [1000000000, 1000000000]"),
        (GOOD | {"size": [30.0, 40]}, "its size is [30.0, 40]"),
        (GOOD | {"size": [30]}, "not enough values"),
        (GOOD | {"size": None}, "it is not as published"),
        ({"size": [30, 40]}, "it is not as published"),
        ("2111", "it is not as published"),
    ],
)
def test_masks_that_are_not_as_published_are_told_with_file_and_film(tmp_path, entry, said):
    make(tmp_path, masks=False)
    write_json(tmp_path, "gt_segmentations_test.json", {"patient20000_study1_view1_frontal": {"Cardiomegaly": entry}})
    message = error_of(lambda: opened(tmp_path).index("test"))
    assert said in message
    assert "gt_segmentations_test.json, patient20000_study1_view1_frontal, Cardiomegaly: " in message


@pytest.mark.parametrize(
    ("contours", "said"),
    [
        ([[[1, 2]]], "fewer than two points"),
        ([[[1, 2], [math.inf, 3], [1, 1]]], "far outside any film"),
        ([[[1, 2], [math.nan, 3], [1, 1]]], "far outside any film"),
        ([[[1, 2], [1e300, 3], [1, 1]]], "far outside any film"),
        ([[[1, 2], ["a", 3]]], "could not convert"),
        ([[[1, 2, 3], [1, 2, 3]]], "too many values"),
        (5, "it is not as published"),
    ],
)
def test_contours_that_are_not_as_published_are_told(tmp_path, contours, said):
    make(tmp_path, masks=False)
    entry = {"img_size": [30, 40], "Cardiomegaly": contours}
    write_json(tmp_path, "gt_annotations_test.json", {"patient20000_study1_view1_frontal": entry})
    assert said in error_of(lambda: opened(tmp_path).index("test"))


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "[" * 100_000])
def test_a_mask_file_that_is_none_is_told(tmp_path, text):
    make(tmp_path)
    (tmp_path / "CheXlocalize/gt_segmentations_test.json").write_text(text)
    assert "gt_segmentations_test.json is no" in error_of(lambda: opened(tmp_path).index("test"))


def test_a_mask_file_of_zero_bytes_is_told(tmp_path):
    make(tmp_path)
    (tmp_path / "CheXlocalize/gt_segmentations_test.json").write_text("\x00")
    told = error_of(lambda: opened(tmp_path).index("test"))
    assert "gt_segmentations_test.json cannot be read (it holds zero bytes" in told


def test_a_damaged_film_and_an_unknown_one_are_told(tmp_path):
    data = opened(make(tmp_path))
    path = tmp_path / "CheXpert/test/patient20000/study1/view1_frontal.jpg"
    path.write_bytes(path.read_bytes()[:100])
    assert str(path) in unread_of(data.load(["patient20000_study1_view1_frontal"]))
    assert "has no film patient9_study1" in error_of(lambda: data.load(["patient9_study1_view1_frontal"]))
