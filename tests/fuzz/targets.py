"""Every reader of xbench with good files of its own, and how an input is made of them."""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from mutate import HOSTILE, spoilt, worse, written
from PIL import Image
from safetensors.torch import save as to_safetensors
from torch import nn

FAKES = Path(__file__).resolve().parent.parent / "fakes"
SPLITS, CLASSES = ("train", "valid", "test"), ("cat", "dog")
TARGETS: dict[str, tuple[int, object]] = {}
"""Name -> (how often, a function of a folder and a random generator that makes an input and returns what reads it)."""


def target(often):
    def note(function):
        TARGETS[function.__name__] = often, function
        return function

    return note


class Good:
    """Good files, made once."""

    folder: Path


def prepare(folder: Path) -> None:
    """Make good files of every kind under a folder."""
    Good.folder = folder
    _pictures(folder / "pictures")
    _tables(folder / "nih", folder / "chex")
    _weights(folder / "weights")
    _run(folder / "run", folder / "evidence")
    _maps(folder / "maps")
    _fits(folder / "fits")


def _pictures(folder):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(folder / "a.png")
    picture.save(folder / "a.jpg")
    picture.save(folder / "a.webp")
    Image.fromarray(pixels[..., 0]).save(folder / "grey.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    picture.convert("P").save(folder / "palette.png")
    picture.save(folder / "moving.webp", save_all=True, append_images=[picture] * 3)
    picture.save(folder / "moving.png", save_all=True, append_images=[picture] * 3)
    from PIL import PngImagePlugin

    words = PngImagePlugin.PngInfo()
    words.add_text("long", "a" * 10**7, zip=True)
    picture.save(folder / "words.png", pnginfo=words)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    (folder / "bomb.png").write_bytes(_png_of(60_000, 60_000))


def _png_of(width, height):
    """Return a PNG whose head says so many pixels."""
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _tables(nih, chex):
    (nih / "images").mkdir(parents=True)
    names = [f"{i:08}_000.png" for i in range(12)]
    for name in names:
        Image.fromarray(np.full((16, 16), 90, np.uint8)).save(nih / "images" / name)
    rows = [f"{name},{('No Finding', 'Cardiomegaly|Mass')[i % 2]},0,{i}" for i, name in enumerate(names)]
    (nih / "Data_Entry_2017.csv").write_text("\n".join(["Image Index,Finding Labels,Follow-up #,Patient ID", *rows]))
    (nih / "BBox_List_2017.csv").write_text(
        f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{names[1]},Cardiomegaly,3,4,5,6"
    )
    (nih / "train_val_list.txt").write_text("\n".join(names[:8]))
    (nih / "test_list.txt").write_text("\n".join(names[8:]))
    for part in ("test", "val"):
        films = []
        for i in range(4):
            path = chex / f"CheXpert/{part}/patient{i + (9 if part == 'val' else 0)}/study1/view1_frontal.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((16, 16), 90, np.uint8)).save(path)
            films.append(path)
        table = [f"{path.relative_to(chex / 'CheXpert')},{i % 2}" for i, path in enumerate(films)]
        (chex / f"CheXpert/{part}_labels.csv").write_text("\n".join(["Path,Cardiomegaly", *table]))
        name = "_".join(films[1].relative_to(chex / f"CheXpert/{part}").with_suffix("").parts)
        (chex / "CheXlocalize").mkdir(exist_ok=True)
        coded = {name: {"Cardiomegaly": {"size": [2, 2], "counts": "112"}}}
        (chex / f"CheXlocalize/gt_segmentations_{part}.json").write_text(json.dumps(coded))
        drawn = {name: {"img_size": [16, 16], "Cardiomegaly": [[[1, 1], [9, 1], [9, 9]]]}}
        (chex / f"CheXlocalize/gt_annotations_{part}.json").write_text(json.dumps(drawn))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


def _weights(folder):
    folder.mkdir()
    state = network().state_dict()
    (folder / "a.safetensors").write_bytes(to_safetensors(state))
    torch.save(state, folder / "a.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "wrapped.pt")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({name: torch.zeros(1).expand(10**12) for name in state}, folder / "giant.pt")
    torch.save({**state, "1.num_batches_tracked": torch.zeros(1).expand(10**12)}, folder / "counter.pt")
    torch.save({**state, "0.weight": torch.eye(2).to_sparse()}, folder / "sparse.pt")
    torch.save(network(), folder / "whole.pt")
    with (
        zipfile.ZipFile(folder / "a.pt") as source,
        zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for name in source.namelist():
            out.writestr(name, source.read(name) + bytes(10**7) * name.endswith("/0"))
    with zipfile.ZipFile(folder / "slip.pt", "w") as out:
        out.writestr("../../escaped", b"x")


def _run(folder, evidence):
    sys.path.insert(0, str(FAKES))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")])
    from xbench import api
    from xbench.evidence import pack
    from xbench.manifest import run_folder
    from xbench.store import Store

    names = ["fake/weights", "controls/random", "fake/refuses"]
    api.run("blobs", out=folder, executor="inline", device="cpu", limit=24, explainer=names, seed=[0, 1])
    target = evidence / "records" / "blobs"
    target.mkdir(parents=True)
    keys, _, manifest = run_folder(folder)
    for key in keys:
        for name, content in pack(Store(folder), key, {"settings": manifest["settings"]}).items():
            (target / name).write_bytes(content)


def _maps(folder):
    folder.mkdir()
    import hashlib

    from safetensors.numpy import save

    maps = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    np.save(folder / "one.npy", maps)
    (folder / "two.safetensors").write_bytes(save({"maps": maps}))
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("one.npy", "two.safetensors")}
    samples = {f"s{i}": {"file": list(files)[i % 2], "row": i % 3} for i in range(6)} | {"none": None}
    facts = {"schema": 1, "name": "mine", "citation": "Nobody", "data": "fake/blobs", "data_digest": "0" * 64}
    facts |= {"model": "fake/linear", "seed": 0, "target": "predicted", "polarity": "signed", "shape": [4, 4]}
    (folder / "manifest.json").write_text(json.dumps({**facts, "files": files, "samples": samples}))


def _fits(folder):
    folder.mkdir()
    import hashlib

    raw = to_safetensors(network().state_dict())
    (folder / "weights.safetensors").write_bytes(raw)
    (folder / "fit.json").write_text(json.dumps({"sha256": hashlib.sha256(raw).hexdigest(), "seconds": 1.0}))
    torch.save({"epoch": 1, "module": network().state_dict()}, folder / "checkpoint.pt")


def _any_of(folder, rng, pattern="*"):
    return rng.choice(sorted(path for path in (Good.folder / folder).rglob(pattern) if path.is_file()))


def _others():
    """Return files of other kinds."""
    kinds = (
        "pictures/a.jpg",
        "pictures/a.png",
        "weights/a.pt",
        "weights/a.safetensors",
        "maps/one.npy",
        "nih/test_list.txt",
    )
    return tuple((Good.folder / name).read_bytes() for name in (*kinds, "maps/manifest.json"))


def _copy(name, folder, rng, pattern="*", sure=1.0):
    """Copy good files and spoil one of them; return their folder."""
    made = folder / name
    shutil.copytree(Good.folder / name, made)
    files = sorted(path for path in made.rglob(pattern) if path.is_file())
    if rng.random() < sure:
        path = rng.choice(files)
        path.write_bytes(spoilt(path.read_bytes(), rng, _others()))
    return made


@target(6)
def picture(folder, rng):
    from xbench.picture_files import read_mask, read_picture
    from xbench_chestxray.nih import read_film

    good = _any_of("pictures", rng)
    path = folder / f"in{rng.choice(('.png', '.jpg', '.webp', good.suffix))}"
    path.write_bytes(spoilt(good.read_bytes(), rng, _others()) if rng.random() < 0.95 else good.read_bytes())
    fit = rng.choice(("crop", "squash", "imagenet"))
    readers = (
        lambda: read_picture(path, 16, fit),
        lambda: read_mask(path, 16, fit, (20, 24)),
        lambda: read_film(path, 16),
    )
    return rng.choice(readers)


@target(4)
def labels_table(folder, rng):
    from xbench.folder import image_folder

    root = folder / "root"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(4):
        shutil.copy(Good.folder / "pictures/a.png", root / f"images/{i}.png")
        shutil.copy(Good.folder / "pictures/a.png", root / f"masks/{i}.png")
    (root / "images/link.png").symlink_to("/etc/passwd")
    (root / "images/loop.png").symlink_to("loop.png")
    os.mkfifo(root / "images/pipe.png")
    names = ["0.png", "1.png", "2.png", "3.png", "link.png", "loop.png", "pipe.png", "../../escaped.png", "/etc/passwd"]
    rows = [
        f"{rng.choice(names)},{rng.choice(CLASSES)},{rng.choice((0, 1, -1, '9' * 5000))},{rng.choice(('', '0.png', '../x'))}"
        for _ in range(5)
    ]
    good = [f"{i}.png,{CLASSES[i % 2]},{i % 2},{i}.png" for i in range(4)]
    raw = "\n".join(["file,class,index,mask", *(good if rng.random() < 0.5 else rows)]).encode()
    (root / "labels.csv").write_bytes(spoilt(raw, rng, _others()) if rng.random() < 0.8 else raw)

    def read():
        data = image_folder("x/folder", root, home="x", size=8, layout=rng.choice(("whole", "flat", "auto")))
        data.load(data.index("test").ids)

    return read


@target(3)
def folders(folder, rng):
    from xbench.folder import image_folder

    root = folder / "root"
    for split in SPLITS if rng.random() < 0.7 else ("",):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                raw = _any_of("pictures", rng).read_bytes()
                raw = spoilt(raw, rng, _others()) if rng.random() < 0.3 else raw
                (root / split / name / f"{i}.png").write_bytes(raw)
    odd = rng.choice((b"\xff.png", b"a\nb.png", "\u202e.png".encode(), b"x" * 250 + b".png", b"fine.png"))
    (
        Path(os.fsdecode(os.fsencode(root / CLASSES[0]) + b"/" + odd)) if (root / CLASSES[0]).is_dir() else root / "x"
    ).touch()
    masks = rng.choice(("masks", "../..", "/etc", "", "\0", "a" * 300))

    def read():
        data = image_folder("x/folder", root, home="x", size=8, masks=masks if rng.random() < 0.2 else "masks")
        for split in SPLITS:
            data.load(data.index(split).ids)

    return read


@target(2)
def class_list(folder, rng):
    from xbench.class_lists import read_classes, read_labels

    path = folder / rng.choice(("classes.txt", "classes.csv"))
    raw = rng.choice(
        (b"cat\ndog\nbird\n", b"index,class\n0,cat\n1,dog\n2,bird\n", b"file,class\na.png,cat\nb.png,dog\n")
    )
    path.write_bytes(spoilt(raw, rng, _others()))
    return rng.choice((lambda: read_classes(path), lambda: read_labels(path)))


@target(4)
def nih_tables(folder, rng):
    from xbench_chestxray.nih import nih

    root = _copy("nih", folder, rng, rng.choice(("*.csv", "*.txt", "*")))
    split = rng.choice(("auto", "official", "patient", "s0"))

    def read():
        data = nih(root, size=16, finding="Cardiomegaly", split=split, seed=0)
        data.load(data.index(rng.choice(SPLITS)).ids)

    return read


@target(4)
def chexlocalize_tables(folder, rng):
    from xbench_chestxray.chexlocalize import chexlocalize

    root = _copy("chex", folder, rng, rng.choice(("*.csv", "*.json", "*.json", "*")), sure=0.4)
    for path in sorted(root.rglob("*.json")):
        if rng.random() < 0.5:
            try:
                path.write_bytes(written(worse(json.loads(path.read_bytes()), rng)))
            except (ValueError, RecursionError):
                continue

    def read():
        data = chexlocalize(root, size=16, finding="Cardiomegaly", seed=0)
        for split in SPLITS:
            data.load(data.index(split).ids)

    return read


@target(4)
def idx(folder, rng):
    from xbench_mnist.idx import read_idx

    n_dims = rng.choice((1, 3))
    shape = (5, 28, 28)[:n_dims]
    if rng.random() < 0.3:
        shape = rng.choice(((2**32 - 1,) * n_dims, (0,) * n_dims, (1,) * n_dims, (10**6, 28, 28)[:n_dims]))
    raw = struct.pack(f">I{n_dims}I", 0x800 | n_dims, *shape) + bytes(rng.choice((0, 5, 5 * 784, 10**7)))
    if rng.random() < 0.6:
        raw = gzip.compress(raw, 9 if len(raw) < 10**6 else 1)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(spoilt(raw, rng, _others()) if rng.random() < 0.8 else raw)
    return lambda: read_idx(path, n_dims)


@target(6)
def weights(folder, rng):
    from xbench.weights import load_weights, weights_sha256

    good = _any_of("weights", rng)
    path = folder / f"in{rng.choice((good.suffix, good.suffix, good.suffix, '.pt', '.safetensors'))}"
    path.write_bytes(spoilt(good.read_bytes(), rng, _others()) if rng.random() < 0.8 else good.read_bytes())
    head = rng.choice(((), ("3.",)))
    return lambda: (load_weights(network(), str(path), head=head), weights_sha256(str(path)))


@target(3)
def fit_files(folder, rng):
    from xbench.fits import FitContext, load_fit
    from xbench.store import fit_folder, has_fit

    key = "f" * 64
    os.environ["XBENCH_CACHE"] = str(folder / "cache")
    made = _copy("fits", folder, rng)
    at = fit_folder(key)
    at.parent.mkdir(parents=True)
    made.rename(at)

    def read():
        has_fit(key)
        load_fit(key)
        none = np.zeros(0)
        FitContext(None, none, none, {}, 0, torch.device("cpu"), at).resume()

    return read


@target(4)
def stored_maps(folder, rng):
    from xbench.stored_maps import read_stored

    made = _copy("maps", folder, rng, sure=0.5)
    path = made / "manifest.json"
    import hashlib

    try:
        content = json.loads(path.read_bytes())
        if rng.random() < 0.5:
            content = worse(content, rng)
        if rng.random() < 0.7:  # a hash that fits whatever is there
            for name in content["files"]:
                content["files"][name] = hashlib.sha256((made / name).read_bytes()).hexdigest()
        path.write_bytes(written(content))
    except (ValueError, RecursionError, KeyError, TypeError, OSError, AttributeError):
        pass

    def read():
        stored = read_stored(made)
        reader = stored.open()
        for sample in stored.samples:
            reader.read(sample)
        stored.unmet("0" * 64, "fake/linear", 0, "predicted", (4, 4), ["s0"])

    return read


def registry():
    from xbench.plugins import discover

    if not hasattr(Good, "registry"):
        Good.registry = discover()
    return Good.registry


@target(6)
def suite(folder, rng):
    import dataclasses

    import yaml

    from xbench.cli.described import suite_facts
    from xbench.config import make_config

    source = rng.choice(sorted(registry().suites.values()))
    raw = source.read_bytes()
    if rng.random() < 0.5:
        made = worse(yaml.safe_load(raw), rng)
        raw = (
            yaml.safe_dump(made, allow_unicode=True).encode(errors="surrogatepass")
            if rng.random() < 0.7
            else written(made)
        )
    else:
        laughs = b"\n".join(
            b"a%d: &a%d [%s]" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9) if i else b"x") for i in range(30)
        )
        raw = raw + b"\n" + laughs if rng.random() < 0.1 else spoilt(raw, rng, _others())
    path = folder / "mine.yaml"
    path.write_bytes(raw)
    known = dataclasses.replace(registry(), suites={**registry().suites, "mine": path})
    extra = rng.choice(([], ["protocol=paper"], ["limit=none"], ["data.size=64"]))
    readers = (lambda: make_config(["suite=mine", *extra], known), lambda: suite_facts(known, "mine"))
    return rng.choice((readers[0], readers[0], readers[1]))


def main(*arguments):
    """Return what runs the command line; a run is planned and not carried out, and worked-out tables stay small."""
    from xbench import api
    from xbench.cli import main
    from xbench.errors import XbenchError

    def refuse(*args, **more):
        raise XbenchError("planned")

    def read():
        raw = io.BytesIO(), io.BytesIO()  # as strict as a terminal
        out = io.TextIOWrapper(raw[0], "utf-8", "strict", write_through=True)
        err = io.TextIOWrapper(raw[1], "utf-8", "backslashreplace", write_through=True)
        kept, api.execute = api.execute, refuse
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([str(argument).replace("\0", "") for argument in arguments])  # no process is given a zero
        except SystemExit as error:  # argparse's own words
            code = error.code
        finally:
            api.execute = kept
        told = raw[1].getvalue().decode()
        if "Traceback" in told:
            raise AssertionError(f"a traceback was printed: {told[-600:]}")
        if code not in (0, 1, 2):
            raise AssertionError(f"exit code {code!r}")
        if code == 2:
            raise XbenchError(told.strip() or "no word")

    return read


VERBS = (
    ("status",),
    ("status", "--check"),
    ("leaderboard",),
    ("leaderboard",),
    ("compare", "@", "fake/weights", "controls/random"),
    ("trust",),
    ("ranks",),
    ("export", "@", "--to", "scores.csv"),
    ("report",),
    ("report", "@", "format=markdown"),
    ("report", "@", "format=latex"),
    ("verify",),
    ("submit",),
)


def _verb(made, rng):
    verb, *rest = rng.choice(VERBS)
    where = [made] if "@" not in rest else []
    return main(verb, *where, *(made if part == "@" else part for part in rest))


@target(6)
def run_folder(folder, rng):
    """A run's folder with a file spoilt, whatever its hash says."""
    made = _copy("run", folder, rng, rng.choice(("*", "*.json", "run.json", "cell.json", "0*.json", "status.json")))
    return _verb(made, rng)


@target(8)
def sealed_run(folder, rng):
    """A run's folder of which every hash is right and the content is not."""
    from xbench.keys import content_key, sealed
    from xbench.manifest import run_folder
    from xbench.store import Store

    made = folder / "run"
    shutil.copytree(Good.folder / "run", made)
    keys, _, manifest = run_folder(made)
    store, way = Store(made), rng.randrange(5)
    try:
        key = rng.choice(keys)
        record = store.read(key)
        if way == 0:
            manifest = worse(manifest, rng)
        elif way in (1, 2):
            cell, arrays = record.definition, dict(record.arrays)
            if way == 1:
                cell = worse(cell, rng)
            else:
                cell = {**cell, "seed": 7}
                name = rng.choice(sorted(arrays) or ["x"])
                other = (
                    np.array(["a"]),
                    np.zeros((0,)),
                    np.zeros((24, 3)),
                    np.arange(24),
                    np.full(24, np.nan),
                    np.zeros((3, 5)),
                )
                other += (np.full(24, 10**9), np.full(24, -5), np.zeros(24, np.complex64), np.zeros((24, 24, 24, 24)))
                arrays[name] = rng.choice(other)
            new = content_key(cell)
            (store.folder(new)).mkdir(parents=True, exist_ok=True)
            (store.folder(new) / "cell.json").write_bytes(written(cell))
            told = rng.choice(({}, {"deletion": "why"}, worse({"deletion": "why"}, rng)))
            store.commit(
                new,
                0,
                {n: a for n, a in arrays.items() if a.dtype.kind in "fiub"},
                rng.choice(("w", None)),
                record.cost,
                unmeasured=told,
            )
            manifest = {**manifest, "cells": [new if each == key else each for each in keys]}
        elif way == 3:
            for path in (made / "samples").glob("*.json"):
                path.write_bytes(written(sealed(worse(json.loads(path.read_bytes()), rng))))
        else:
            head = rng.choice(sorted(store.folder(key).glob("0*.json")) or [made / "run.json"])
            content = json.loads(head.read_bytes())
            content.pop("digest", None)
            head.write_bytes(written(sealed(worse(content, rng))))
        if way != 4:
            manifest.pop("digest", None)
            (made / "run.json").write_bytes(written(sealed(manifest)))
    except (ValueError, TypeError, AttributeError, KeyError, OSError):  # what cannot be written needs no reader
        pass
    return _verb(made, rng)


@target(5)
def evidence(folder, rng):
    """Accepted records, sealed or not."""
    from xbench.keys import content_key

    made = _copy("evidence", folder, rng, sure=0.3)
    for path in sorted(made.rglob("*.json")):
        if rng.random() < 0.4:
            try:
                content = json.loads(path.read_bytes())
                content = worse(content, rng)
                if rng.random() < 0.8:
                    content.pop("digest", None)
                    if rng.random() < 0.8:
                        content["key"] = content_key(content["definition"])
                    content["digest"] = content_key(content)
                path.write_bytes(written(content))
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                continue
    records = sorted((made / "records" / "blobs").glob("*.json"))
    return main(
        *rng.choice((("leaderboard", made), ("leaderboard", made), ("verify", made), ("verify", rng.choice(records))))
    )


WORDS = (
    *(
        "cam/gradcam",
        "cam/*",
        "mnist/s2@3",
        "mnist/s2@*",
        "controls/blur[of=cam/gradcam]",
        "x[",
        "a]b",
        "[]",
        "@",
        "*",
        "?",
    ),
    *(
        "a" * 3000,
        "[" * 3000,
        "cam/gradcam[" + "of=x[" * 500,
        "=",
        ",",
        ",,",
        "..",
        "\0",
        "\ud800",
        "\u202e",
        "-",
        "--",
        "-h",
    ),
    *(
        "python:",
        "python:os.system",
        "python:/etc/passwd.x",
        "python:../x.y",
        "nan",
        "inf",
        "1e999",
        "9" * 5000,
        "-1",
        "0",
    ),
    *(
        "suite=mnist",
        "suite=blobs",
        "suite=",
        "suite=..",
        "suite=/etc/passwd",
        "protocol=paper",
        "data=fake/blobs",
        "data.root=/dev/null",
    ),
    *(
        "data.=1",
        "data.root=\0",
        "seed=0,1",
        "seed=",
        "limit=none",
        "limit=0",
        "limit=" + "9" * 5000,
        "batch=-1",
        "device=cuda:9",
    ),
    *(
        "explainer=cam/*",
        "explainer=" + "a," * 2000,
        "metric=*",
        "metric=deletion[fill=zero]",
        "metric=deletion[steps=1e9]",
    ),
    *(
        "model=mnist/s2@" + "9" * 30,
        "out=/dev/null/x",
        "out=out",
        "executor=inline",
        "executor=x",
        "workers=x",
        "budget=nan",
    ),
    *(
        "format=html",
        "format=x",
        "--to",
        "--check",
        "--seed",
        "--cells",
        "--samples",
        "--truth",
        "--device",
        "mnist",
        "explainers",
    ),
    *(
        "suites",
        "leaderboard",
        "runs",
        ".",
        "/dev/null",
        "/etc/passwd",
        "nowhere",
        "--json",
        "--write",
        "-q",
        "-v",
        "--estimate",
        "--plan",
    ),
)
ALL_VERBS = (
    *(
        "run",
        "list",
        "show",
        "check",
        "status",
        "leaderboard",
        "compare",
        "trust",
        "ranks",
        "report",
        "export",
        "verify",
        "submit",
    ),
    *("new", "work", "", "xx"),
)


def _word(rng):
    word = rng.choice(WORDS)
    if rng.random() < 0.3:
        word = word[: rng.randrange(len(word) + 1)] + rng.choice(WORDS)
    if rng.random() < 0.2:
        word = "".join(rng.choice("ab/[]=,@*?.:-_\\'\"\n\t{}%$é\u202e0123") for _ in range(rng.randint(0, 40)))
    return word


@target(10)
def arguments(folder, rng):
    verb = rng.choice(ALL_VERBS)
    words = [_word(rng) for _ in range(rng.randint(0, 4))]
    if verb == "run" and rng.random() < 0.6:
        words = ["suite=blobs", f"out={folder / 'cwd' / 'out'}", *words]
    if verb == "check":  # the kit takes minutes of what exists
        words = [word for word in words if "*" not in word and "?" not in word and word not in ("mnist", "cam/gradcam")]
    if verb == "work" and len(words) < 2:
        words = [*words, "--shard", rng.choice(("1/2", "0/0", "x", "9/1"))]
    return main(verb, *words)


@target(6)
def refs(folder, rng):
    from xbench.config import make_config
    from xbench.errors import XbenchError
    from xbench.options import parse_options
    from xbench.refs import parse_ref, split_outside_brackets

    words = [_word(rng) for _ in range(rng.randint(1, 5))]

    def read():
        for word in words:
            split_outside_brackets(word)
            try:
                parse_ref(word)
            except ValueError as error:
                if type(error) is not ValueError:
                    raise
        parse_options(words)
        make_config(["suite=blobs", *words], registry())

    assert XbenchError
    return read


@target(1)
def bibliography(folder, rng):
    from xbench.bibliography import parse_entries

    files = sorted(Path(__file__).resolve().parents[2].glob("plugins/*/references.bib"))
    raw = spoilt(rng.choice(files).read_bytes(), rng, _others())
    return lambda: parse_entries(raw.decode(errors="replace"), "a file")


@target(2)
def values(folder, rng):
    """What Python callers give for arrays."""
    import xbench

    images = np.random.default_rng(0).random((4, 1, 4, 4)).astype(np.float32)
    maps = rng.choice((images[:, 0], images, None, "x", {}, {"": images[:, 0]}, {"a": images[:2, 0]}, [[1]], *HOSTILE))
    more = {
        name: rng.choice(HOSTILE) for name in rng.sample(("labels", "masks", "targets", "groups", "ids", "classes"), 2)
    }
    made = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    given = images if rng.random() < 0.7 else rng.choice(HOSTILE)
    return lambda: xbench.evaluate(made, given, maps, ["deletion[steps=2]"], **more)


def draw(number: int, seed: int) -> tuple[str, random.Random]:
    """Return which reader the input of this number is for, and where all its chance comes from."""
    rng = random.Random(f"{seed}/{number}")
    names = sorted(TARGETS)
    return rng.choices(names, [TARGETS[name][0] for name in names])[0], rng
