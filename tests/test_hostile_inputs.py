"""Inputs that once ended in a traceback, a hang or a write elsewhere: each is one clear line now."""

import gzip
import io
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as to_safetensors
from torch import nn

from xbench import api
from xbench.class_lists import read_classes, read_labels
from xbench.cli import main
from xbench.errors import XbenchError, did_you_mean
from xbench.folder import image_folder
from xbench.stored_maps import _mapped
from xbench.suite_files import read_suite
from xbench.weights import load_weights, only_tensors
from xbench_chestxray.nih import read_film
from xbench_mnist.idx import read_idx


def error_of(action):
    with pytest.raises(XbenchError) as caught:
        action()
    (line,) = str(caught.value).splitlines()
    assert len(line) < 1000
    return line


class Attack:
    """What a pickle can carry."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_plugin_that_asks_for_more_than_tensors_does_not_get_it(tmp_path, monkeypatch):
    raw, made = tmp_path / "a.pt", tmp_path / "made"
    torch.save({"a": Attack(made)}, raw)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with only_tensors(), pytest.raises(pickle.UnpicklingError):
        torch.load(raw, weights_only=False)
    assert not made.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.load(raw, weights_only=False)  # the file is what it is meant to be
    assert made.exists()


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("executor", ["inline", "local"])
def test_no_pickle_runs_in_a_run_whatever_an_explainer_asks_for(tmp_path, monkeypatch, executor):
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    torch.save({"a": Attack(made)}, tmp_path / "a.pt")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "loads.py").write_text(
        "import torch\n\ndef explain(model, inputs, target):\n"
        f"    torch.load({str(tmp_path / 'a.pt')!r}, weights_only=False)\n    return inputs[:, 0]\n"
    )
    explainer = "python:loads.explain"
    run = api.run("blobs", out=tmp_path / "run", device="cpu", limit=4, executor=executor, explainer=explainer)
    sys.modules.pop("loads", None)
    assert not made.exists()
    assert any("UnpicklingError" in reason for *_, reason in run.failures)


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_tensors_that_only_say_that_they_are_large_are_refused_before_they_are_copied(tmp_path):
    state, giant = network().state_dict(), torch.zeros(1).expand(10**13)
    torch.save({**state, "0.weight": giant}, tmp_path / "a.pt")
    assert "of another shape" in error_of(lambda: load_weights(network(), str(tmp_path / "a.pt")))
    # Counts of batches are let through by name and used by none.
    torch.save({**state, "9.num_batches_tracked": giant}, tmp_path / "b.pt")
    assert load_weights(network(), str(tmp_path / "b.pt")) is not None


def test_packed_torch_files_are_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, source.read(name) + bytes(10**7))
    assert "is packed" in error_of(lambda: load_weights(network(), str(tmp_path / "b.pt")))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["class", "storage"])
def test_words_without_end_in_a_pickle_are_refused_at_once(tmp_path, zipped, where):
    """Torch looks through what it refuses in time that grows with the square of its longest word: over a minute for these."""
    word = "a" * 100_000
    path = tmp_path / "a.pt"
    torch.save({"0.bias": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    holds = {"class": f"cnowhere\n{word}\n.", "storage": f"(V{word}\ntQ."}[where].encode()
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, raw in entries.items():
                archive.writestr(name, holds if name.endswith("data.pkl") else raw)
    else:
        raw = path.read_bytes()
        path.write_bytes(raw[: raw.index(b"}q\x00X\x06\x00\x00\x000.bias")] + holds)
    assert "a word of more than 10,000 letters" in error_of(lambda: load_weights(network(), str(path)))


@pytest.mark.parametrize(
    "change", [torch.Tensor.to_sparse, lambda one: one.to(torch.complex64), lambda one: one.to("meta")]
)
def test_tensors_of_other_kinds_are_refused(tmp_path, change):
    state = network().state_dict()
    torch.save({**state, "0.bias": change(state["0.bias"])}, tmp_path / "a.pt")
    assert "without plain numbers (0.bias)" in error_of(lambda: load_weights(network(), str(tmp_path / "a.pt")))


@pytest.mark.parametrize("length", [0, 2**20, 2**40, 2**63 - 1])
def test_a_header_of_safetensors_that_lies_is_refused(tmp_path, length):
    raw = to_safetensors(network().state_dict())
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + raw[8:])
    assert "is no weights file" in error_of(lambda: load_weights(network(), str(tmp_path / "a.safetensors")))


@pytest.mark.parametrize("raw", [bytes(2 * 10**8), bytes(784)])
def test_a_packed_idx_file_is_unpacked_no_further_than_its_head_says(tmp_path, raw):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 1) + raw, 1))
    assert "are the most that is read" in error_of(lambda: read_idx(path, 3))
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 1, 2, 3) + raw, 1))
    assert "is too long" in error_of(lambda: read_idx(path, 3))


def test_a_film_of_more_pixels_than_anyone_needs_is_refused(tmp_path, monkeypatch):
    Image.new("L", (60, 60)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    assert "60 x 60 pixels" in error_of(lambda: read_film(tmp_path / "a.png", 16))


@pytest.mark.parametrize("masks", ["../..", "/etc", "", "a\0b"])
def test_a_folder_of_masks_lies_beside_the_pictures(tmp_path, masks):
    assert "no folder beside the pictures" in error_of(
        lambda: image_folder("x/folder", tmp_path, home="x", size=8, masks=masks)
    )


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a" * 5000, "a\x1bb.png", "."])
def test_names_in_a_table_lead_nowhere_else(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text(f"file,class\n{name},cat\n")
    assert "which is not in" in error_of(lambda: image_folder("x/folder", tmp_path, home="x", size=8).index("test"))


def test_a_list_of_a_hundred_thousand_classes_is_read_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"class {i}" for i in range(100_000)))
    assert len(read_classes(tmp_path / "a.txt")) == 100_000
    (tmp_path / "a.csv").write_text("file,index\na.png," + "9" * 5000 + "\n")
    assert "is no whole number" in error_of(lambda: read_labels(tmp_path / "a.csv"))
    assert did_you_mean("a" * 10**6, ["b" * 10**6]) == ""


LAUGHS = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'ha'}]" for i in range(40))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "unfold to more than"),
        ("a: &a [*a]", "an alias holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "cannot read"),
        ("a: 2020-99-99", "cannot read"),
        ("suite: a\nsuite: b", "the key 'suite' stands there twice"),
        ("a: !!python/object/apply:os.mkdir ['x']", "could not determine a constructor"),
        ("1: a", "has the key 1; a text is needed"),
        ("metrics: true", "metrics is not a text"),
        ("protocols: [quick]", "protocols is not a group of members"),
        ("protocols: {quick: 3}", "protocols.* is not a group of members"),
        ("data: {id: [1]}", "data is not a text"),
        ("version: {}", "version is not a whole number"),
        ("a: " + "b" * 300_000, "262,144 are the most"),
        ("", "a suite is a mapping"),
    ],
)
def test_a_suite_that_is_none_is_one_line_at_once(tmp_path, text, why):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert why in error_of(lambda: read_suite(path))


WIDE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 9" + b"9" * 40 + b"), }"


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'shape': (\0", WIDE])
def test_a_header_of_numpy_that_lies_is_one_line(tmp_path, header):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match=r"."):
        _mapped(path)


def test_an_archive_of_arrays_or_a_pickle_is_no_file_of_maps(tmp_path):
    path, raw = tmp_path / "a.npy", io.BytesIO()
    np.savez(raw, maps=np.zeros((1, 2, 2)))
    path.write_bytes(raw.getvalue())
    with pytest.raises(ValueError, match="magic"):
        _mapped(path)
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="objects"):
        _mapped(path)


def test_a_path_that_no_disk_can_hold_is_one_line(capsys):
    assert main(["leaderboard", "a" * 5000]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xbench: ")
    assert len(line) < 1000
