import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xbench.errors import XbenchError
from xbench_chestxray.nih import Nih, box_mask, nih, read_film
from xbench_chestxray.nih_splits import SPLITS
from xbench_chestxray.nih_tables import find_films, read_boxes, read_entries

V2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient {sex},View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def make(root, films, *, older=False, folder="images_001/images", boxes=(), lists=None, size=16):
    """Write the published layout: films are (name, findings, patient[, mode or None for no file])."""
    end = "," if older else ""
    rows = [V2020.format(sex="Sex" if older else "Gender") + end]
    for name, findings, patient, *_ in films:
        rows.append(f"{name},{findings},0,{patient},50,M,PA,2500,2048,0.14,0.14{end}")
    root.mkdir(parents=True, exist_ok=True)
    (root / ("Data_Entry_2017.csv" if older else "Data_Entry_2017_v2020.csv")).write_text("\r\n".join(rows) + "\r\n")
    if boxes is not None:
        lines = [BOX_HEADER, *(",".join(map(str, box)) for box in boxes)]
        (root / "BBox_List_2017.csv").write_text("\n".join(lines) + "\n")
    for file, names in (lists or {}).items():
        (root / file).write_text("\n".join(names) + "\n")
    (root / folder).mkdir(parents=True, exist_ok=True)
    for i, (name, _, _, *mode) in enumerate(films):
        if mode != [None]:
            grey = Image.new("L", (size, size), 10 + i % 200)
            grey.convert(mode[0] if mode else "L").save(root / folder / name)
    return root


def cohort(n=60):
    """Of n patients with two films each, every third has Cardiomegaly, on the second film among others."""
    films = []
    for p in range(n):
        ill = p % 3 == 0
        films.append((f"{p:08d}_000.png", "Cardiomegaly" if ill else "No Finding", p))
        films.append((f"{p:08d}_001.png", "Effusion|Cardiomegaly" if ill else "No Finding", p))
    return films


def open_nih(root, **params):
    return nih(root, **{"size": 8, "finding": "Cardiomegaly", "split": "auto", "seed": 0, **params})


def unread_of(samples):
    """Return why the one sample of a batch that cannot be read cannot."""
    (message,) = samples.unread.values()
    assert len(message.splitlines()) == 1
    return message


def error_of(action):
    with pytest.raises(XbenchError) as caught:
        action()
    assert len(caught.value.lines) == 1
    return str(caught.value)


def all_ids(data):
    return {split: set(data.index(split).ids) for split in SPLITS}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("folder", ["images_001/images", "images_001", "images", "."])
def test_both_tables_and_every_layout_give_the_same_films(tmp_path, older, folder):
    data = open_nih(make(tmp_path, cohort(), older=older, folder=folder))
    index = data.index("train")
    assert index.classes == ("No Finding", "Cardiomegaly")
    assert index.shape == (1, 8, 8)
    assert sum(len(data.index(split)) for split in SPLITS) == 120
    for name, label, patient in zip(index.ids, index.labels, index.groups, strict=True):
        assert int(name[:8]) == int(patient)
        assert label == (int(patient) % 3 == 0)


def test_films_of_several_archives_are_found_once_each(tmp_path):
    make(tmp_path, cohort(2), folder="images_001/images")
    make(tmp_path, cohort(2), folder="images_002/images")
    (tmp_path / "images_002/images/00000007_000.png").write_bytes(b"")
    found = find_films(tmp_path)
    assert len(found) == 5
    assert Path(found["00000000_000.png"]).parts[-3] == "images_001"


def test_films_of_neither_class_are_dropped_and_counted(tmp_path):
    others = [("00000900_000.png", "Effusion", 900), ("00000901_000.png", "Mass|Nodule", 901)]
    data = open_nih(make(tmp_path, cohort() + others))
    assert "2 of them show neither Cardiomegaly nor No Finding" in data.index("test").notes[0]
    assert not any(name[:8] in ("00000900", "00000901") for ids in all_ids(data).values() for name in ids)


def test_rows_without_a_film_are_counted(tmp_path):
    gone = [(f"{i:08d}_000.png", "No Finding", i, None) for i in range(1000, 1007)]
    data = open_nih(make(tmp_path, cohort() + gone))
    assert data.index("test").notes[0] == "chestxray/nih: 120 of the 127 films of Data_Entry_2017_v2020.csv are here"


def test_patient_split_is_disjoint_and_has_the_shares(tmp_path):
    data = open_nih(make(tmp_path, cohort(90)), split="patient")
    patients = {split: set(data.index(split).groups) for split in SPLITS}
    assert [len(patients[split]) for split in SPLITS] == [63, 9, 18]
    assert not patients["train"] & patients["valid"]
    assert not patients["test"] & (patients["train"] | patients["valid"])
    assert [int(data.index(split).labels.sum()) for split in SPLITS] == [42, 6, 12]
    assert "0 of 18 test patients" in data.index("test").notes[-1]


def test_patients_with_a_box_are_tested(tmp_path):
    boxes = [(f"{p:08d}_000.png", "Cardiomegaly", 100.5, 200, 300, 400) for p in range(0, 60, 3)][:7]
    boxes.append(("00000030_000.png", "Effusion", 1, 2, 3, 4))
    data = open_nih(make(tmp_path, cohort(), boxes=boxes), split="patient")
    test = data.index("test")
    assert {box[0] for box in boxes[:7]} == {n for n, has in zip(test.ids, test.annotated, strict=True) if has}
    assert not data.index("train").annotated.any()
    assert not data.index("valid").annotated.any()


def test_another_seed_is_another_split_and_the_same_seed_the_same(tmp_path):
    make(tmp_path, cohort())
    first, again, other = (open_nih(tmp_path, seed=seed) for seed in (0, 0, 1))
    assert all_ids(first) == all_ids(again) != all_ids(other)


def test_s0_split_is_a_fifth_of_each_class_rounded_up_and_says_how_many_patients_leak(tmp_path):
    data = open_nih(make(tmp_path, cohort(61)), split="s0")
    test = data.index("test")
    assert np.bincount(test.labels).tolist() == [math.ceil(80 / 5), math.ceil(42 / 5)]
    rest = set(data.index("train").groups) | set(data.index("valid").groups)
    leaked, tested = len(set(test.groups) & rest), len(set(test.groups))
    assert leaked > 0
    assert f"{leaked} of {tested} test patients have films in train or valid too" in test.notes[-1]


@pytest.mark.parametrize("split", ["auto", "official"])
def test_official_lists_decide_the_test_split(tmp_path, split):
    films = cohort()
    names = [name for name, *_ in films]
    lists = {"train_val_list.txt": names[:90], "test_list.txt": names[90:118]}
    boxes = [(names[0], "Cardiomegaly", 0, 0, 512, 512)]
    data = open_nih(make(tmp_path, films, lists=lists, boxes=boxes), split=split)
    ids = all_ids(data)
    assert ids["test"] == set(names[90:118])
    assert ids["train"] | ids["valid"] == set(names[:90])
    assert not set(data.index("train").groups) & set(data.index("valid").groups)
    assert (
        len(set(data.index("valid").groups)) == 5
    )  # a tenth of 15 with the finding, rounded to even, and of 30 without
    assert any("2 films are in neither official list" in note for note in data.index("test").notes)


def test_auto_without_lists_is_the_patient_split_and_official_says_what_is_missing(tmp_path):
    make(tmp_path, cohort(), lists={"test_list.txt": ["x.png"]})
    assert all_ids(open_nih(tmp_path)) == all_ids(open_nih(tmp_path, split="patient"))
    assert "no train_val_list.txt here" in open_nih(tmp_path).index("test").notes[-1]
    message = error_of(lambda: open_nih(tmp_path, split="official").index("test"))
    assert f"{tmp_path} has no train_val_list.txt (" in message


def test_box_is_scaled_from_1024_whatever_the_size_of_the_file(tmp_path):
    # At size 8 a pixel is 128 wide: columns 200..500 cover centres 2.5 (320) and 3.5 (448), rows 64..320 those of 0.5, 1.5
    # (64, 192) and not 2.5, whose centre is on the open end.
    want = np.zeros((8, 8), bool)
    want[0:2, 2:4] = True
    boxes = [("00000000_000.png", "Cardiomegaly", 200, 64, 300, 256)]
    for size in (16, 24):
        data = open_nih(make(tmp_path / str(size), cohort(), boxes=boxes, size=size))
        samples = data.load(["00000000_000.png", "00000001_000.png"])
        np.testing.assert_array_equal(samples.mask[0], want)
        assert not samples.mask[1].any()
        assert samples.mask_class.tolist() == [1, -1]


def test_box_mask_keeps_area_and_never_vanishes():
    assert box_mask([(0, 0, 1024, 1024)], 7).all()
    assert box_mask([(512, 0, 512, 1024)], 64)[:, 32:].all()
    assert not box_mask([(512, 0, 512, 1024)], 64)[:, :32].any()
    assert box_mask([(1023, 1023, 1, 1)], 8).sum() == 1
    assert box_mask([(0, 0, 256, 256), (768, 768, 256, 256)], 4).sum() == 2
    assert not box_mask([], 4).any()


def test_infiltrate_in_the_box_table_is_infiltration(tmp_path):
    films = [(name, findings.replace("Cardiomegaly", "Infiltration"), p) for name, findings, p in cohort()]
    data = open_nih(
        make(tmp_path, films, boxes=[("00000003_000.png", "Infiltrate", 0, 0, 512, 512)]), finding="Infiltration"
    )
    assert data.load(["00000003_000.png"]).mask.sum() == 16
    assert read_boxes(tmp_path / "BBox_List_2017.csv", "Cardiomegaly") == {}


def test_without_a_box_table_no_film_has_a_mask_and_a_note_says_so(tmp_path):
    data = open_nih(make(tmp_path, cohort(), boxes=None))
    index = data.index("test")
    assert not index.annotated.any()
    assert any("has no BBox_List_2017.csv" in note for note in index.notes)
    samples = data.load(index.ids[:3])
    assert samples.mask.shape == (3, 8, 8)
    assert not samples.mask.any()


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB", "LA", "P", "I;16"])
def test_films_of_any_mode_read_as_grey_in_unit_range(tmp_path, mode):
    values = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "x.png")
    film = read_film(tmp_path / "x.png", 8)
    assert film.dtype == np.float32
    np.testing.assert_allclose(film, values / 255, atol=1e-6)


def test_rgba_takes_the_first_channel(tmp_path):
    Image.merge("RGBA", [Image.new("L", (8, 8), v) for v in (51, 255, 0, 0)]).save(tmp_path / "x.png")
    np.testing.assert_allclose(read_film(tmp_path / "x.png", 8), 0.2, atol=1e-6)


def test_films_are_shrunk_without_aliasing_and_stretched_where_not_square(tmp_path):
    fine = np.tile(np.array([0, 255], np.uint8), (64, 64))
    Image.fromarray(fine).save(tmp_path / "x.png")
    film = read_film(tmp_path / "x.png", 16)
    assert film.shape == (16, 16)
    assert np.abs(film - 0.5).max() < 0.05


def test_load_keeps_the_order_asked_for_and_is_the_same_in_parts(tmp_path):
    data = open_nih(make(tmp_path, cohort()))
    ids = list(data.index("test").ids)
    whole = data.load(ids).image
    np.testing.assert_array_equal(data.load(ids[::-1]).image[::-1], whole)
    np.testing.assert_array_equal(data.load(ids[3:5]).image, whole[3:5])
    assert whole.shape == (len(ids), 1, 8, 8)
    assert whole.dtype == np.float32
    assert data.load([]).mask.shape == (0, 8, 8)


def test_digest_follows_films_tables_and_parameters(tmp_path):
    make(tmp_path, cohort())

    def digest(**params):
        return open_nih(tmp_path, **params).index("test").digest

    first = digest()
    assert digest() == first
    others = {digest(size=16), digest(split="s0"), digest(seed=1), open_nih(tmp_path).index("train").digest}
    film = Path(find_films(tmp_path)[open_nih(tmp_path).index("test").ids[0]])
    film.write_bytes(film.read_bytes() + b"x")
    others.add(digest())
    with (tmp_path / "BBox_List_2017.csv").open("a") as table:
        table.write("00000000_000.png,Cardiomegaly,0,0,512,512\n")
    others.add(digest())
    assert len(others | {first}) == 7


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("XBENCH_DATA", raising=False)
    message = error_of(lambda: open_nih(None).index("test"))
    for word in ("data.root", "XBENCH_DATA", "nihcc.app.box.com", "chestxray/phantom"):
        assert word in message
    monkeypatch.setenv("XBENCH_DATA", str(tmp_path))
    assert f"{tmp_path / 'nih'} is not a folder" in error_of(lambda: open_nih(None).index("test"))
    assert "data.root=/no/such is not a folder" in error_of(lambda: open_nih(Path("/no/such")).index("test"))
    Image.new("L", (8, 8)).save(tmp_path / "00000001_000.png")
    assert "has no Data_Entry_2017_v2020.csv (nor Data_Entry_2017.csv)" in error_of(
        lambda: open_nih(tmp_path).index("test")
    )
    empty = make(tmp_path / "empty", [(name, findings, p, None) for name, findings, p in cohort(3)])
    assert "holds none of the 6 films of Data_Entry_2017_v2020.csv: *.png are looked for in" in error_of(
        lambda: open_nih(empty).index("test")
    )


def test_class_without_films_is_an_error_that_names_split_and_class(tmp_path):
    make(tmp_path, [film for film in cohort() if film[1] == "No Finding"])
    message = error_of(lambda: open_nih(tmp_path).index("test"))
    assert message.startswith(f"no film of Cardiomegaly is in the test split of {tmp_path} (0 in all splits)")


def test_unknown_finding_gets_a_hint_or_the_list(tmp_path):
    assert "did you mean 'Cardiomegaly'?" in error_of(lambda: open_nih(tmp_path, finding="cardiomegalie"))
    assert "one of Atelectasis, Cardiomegaly, " in error_of(lambda: open_nih(tmp_path, finding="xyz"))
    assert "size=4 is too small" in error_of(lambda: open_nih(tmp_path, size=4))


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no png", lambda raw: b""])
def test_damaged_film_is_named(tmp_path, damage):
    data = open_nih(make(tmp_path, cohort(), size=64))
    name = data.index("test").ids[0]
    path = Path(find_films(tmp_path)[name])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(damage(path.read_bytes()))
    message = unread_of(data.load([name]))
    assert message.startswith(f"{path} is not a readable image (")
    assert "fetch it again" in message


def test_damaged_tables_are_named_with_the_line(tmp_path):
    table = tmp_path / "Data_Entry_2017.csv"
    table.write_text("Image Index,Labels,Patient ID\na.png,Mass,1\n")
    assert "has no column 'Finding Labels'; its first line reads: Image Index,Labels" in error_of(
        lambda: read_entries(table)
    )
    table.write_text("")
    assert "has no column 'Image Index'" in error_of(lambda: read_entries(table))
    table.write_text("Image Index,Finding Labels,Patient ID\na.png,Mass,1\nb.png\n")
    assert f"{table}, line 3: 1 fields are too few" in error_of(lambda: read_entries(table))
    table.write_text("Image Index,Finding Labels,Patient ID\na.png,Mass,1\na.png,Mass,1\n")
    assert f"{table}, line 3: 'a.png' comes twice" in error_of(lambda: read_entries(table))
    table.write_bytes(b"\xff\xfe\x00")
    assert f"{table} cannot be read" in error_of(lambda: read_entries(table))
    boxes = tmp_path / "BBox_List_2017.csv"
    for row in ("a.png,Mass,1,2,3", "a.png,Mass,1,2,3,x", "a.png"):
        boxes.write_text(f"{BOX_HEADER}\n{row}\n")
        assert f"{boxes}, line 2: " in error_of(lambda: read_boxes(boxes, "Mass"))


def test_table_with_a_byte_order_mark_reads(tmp_path):
    table = tmp_path / "Data_Entry_2017.csv"
    table.write_text("Image Index,Finding Labels,Patient ID\na.png,Mass|Edema,1\n", encoding="utf-8-sig")
    (entry,) = read_entries(table)
    assert (entry.name, entry.findings, entry.patient) == ("a.png", {"Mass", "Edema"}, "1")


def test_the_planner_needs_no_torch():
    code = "import sys, xbench_chestxray.nih; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def real(folder):
    above = os.environ.get("XBENCH_DATA")
    if not above or not (Path(above) / folder).is_dir():
        pytest.skip(f"no $XBENCH_DATA/{folder} here")
    return Path(above) / folder


@pytest.mark.realdata
def test_real_subset_has_its_published_counts():
    real("nih")
    data = open_nih(None, size=128)
    assert isinstance(data, Nih)
    indices = {split: data.index(split) for split in SPLITS}
    labels = np.concatenate([index.labels for index in indices.values()])
    assert np.bincount(labels).tolist() == [2000, 200]
    assert "2,238 of the 112,120 films" in indices["test"].notes[0]
    assert "38 of them show neither" in indices["test"].notes[0]
    assert [int(indices[split].annotated.sum()) for split in SPLITS] == [0, 0, 9]
    groups = {split: set(index.groups) for split, index in indices.items()}
    assert not groups["test"] & (groups["train"] | groups["valid"])
    assert not groups["train"] & groups["valid"]
    boxed = [name for name, has in zip(indices["test"].ids, indices["test"].annotated, strict=True) if has]
    samples = data.load(boxed)
    assert samples.image.shape == (9, 1, 128, 128)
    assert 0.1 < samples.mask.mean() < 0.3
    assert samples.mask_class.tolist() == [1] * 9
    left, top, width, height = read_boxes(real("nih") / "BBox_List_2017.csv", "Cardiomegaly")["00003394_006.png"][0]
    mask = data.load(["00003394_006.png"]).mask[0]
    assert mask.any(axis=0).sum() == pytest.approx(width / 8, abs=1)
    assert mask.any(axis=1).sum() == pytest.approx(height / 8, abs=1)
    assert mask.any(axis=0).argmax() == pytest.approx(left / 8, abs=1)
    assert mask.any(axis=1).argmax() == pytest.approx(top / 8, abs=1)


@pytest.mark.realdata
def test_real_films_at_true_size(tmp_path):
    folder = real("nih_1024")
    assert "has no Data_Entry_2017_v2020.csv" in error_of(lambda: open_nih(folder).index("test"))
    (tmp_path / "images").symlink_to(folder.resolve())
    make(tmp_path, [(path.name, "No Finding", i, None) for i, path in enumerate(sorted(folder.glob("*.png")))])
    data = open_nih(tmp_path, size=256)
    samples = data.load(["00000001_000.png", "00000047_005.png"])
    assert samples.image.shape == (2, 1, 256, 256)
    assert 0.2 < samples.image.mean() < 0.8
    with Image.open(folder / "00000001_000.png") as film:
        blocks = np.asarray(film.convert("L"), np.float32).reshape(256, 4, 256, 4).mean((1, 3)) / 255
    assert np.abs(samples.image[0, 0] - blocks).mean() < 0.01
    assert "no film of Cardiomegaly" in error_of(lambda: data.index("test"))
