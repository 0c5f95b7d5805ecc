"""Each paper's protocol on a small folder in the layout of the real data: it trains, scores, and says what the whole costs."""

import struct

import numpy as np
import pytest
from PIL import Image

from xbench.config import make_config
from xbench.estimate import estimate
from xbench.plan import make_plan
from xbench.plugins import discover
from xbench.store import Store

pytestmark = pytest.mark.slow

DRAW = np.random.default_rng(0)


def mnist(root):
    for name, n in (("train", 300), ("t10k", 40)):
        images, labels = DRAW.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


def picture(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (40, 40, 3) if mode == "RGB" else (40, 40)
    Image.fromarray(DRAW.integers(0, 256, shape, dtype=np.uint8), mode).save(path)


def nih(root):
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,a,b,c,d"]
    for patient in range(60):
        name, ill = f"{patient:08d}_000.png", patient % 3 == 0
        rows.append(f"{name},{'Cardiomegaly' if ill else 'No Finding'},0,{patient},50,M,PA,1024,1024,0.14,0.14")
        picture(root / "images_001" / "images" / name, "L")
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    boxes = [f"{patient:08d}_000.png,Cardiomegaly,300,400,400,300" for patient in (0, 3, 6)]
    (root / "BBox_List_2017.csv").write_text("\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes]) + "\n")


def food(root):
    for split, n in (("train", 12), ("valid", 4), ("test", 6)):
        for name in ("okonomiyaki", "pizza"):
            for i in range(n):
                picture(root / split / name / f"{i}.png")


def anole(root):
    for split, n in (("train", 12), ("valid", 4), ("test", 6)):
        for name in ("negative", "positive"):
            for i in range(n):
                picture(root / split / name / f"{i}.jpg")
    for i in range(3):
        picture(root / "masks" / "test" / "positive" / f"{i}.png", "L")


def photos(root):
    for name in ("ant", "bee", "cow", "dog"):
        for i in range(20):
            picture(root / name / f"{i}.png")


MADE = {"mnist": mnist, "learning": mnist, "chestxray": nih, "food": food, "anole": anole, "photos": photos}
# Of a paper's own size a few steps would take minutes on a CPU; published weights would be downloaded.
SMALLER = {
    "chestxray": ["data.size=64", "model=chestxray/resnet18"],
    "food": ["data.size=64"],
    "anole": ["data.size=64", "model=anole/vgg16"],
    "photos": ["data.size=64", "model=photos/resnet18"],
}


def test_every_suite_has_a_folder_here():
    assert sorted(MADE) == sorted(suite for suite in discover().suites if suite != "blobs")


@pytest.mark.parametrize("suite", sorted(MADE))
def test_a_papers_protocol_trains_scores_and_says_how_long_the_whole_takes(suite, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    MADE[suite](root)
    out = tmp_path / "run"
    arguments = [f"suite={suite}", "protocol=paper", f"data.root={root}", "device=cpu", "limit=4", f"out={out}"]
    cheap = [] if suite == "learning" else ["explainer=controls/random,cam/gradcam"]
    plan = make_plan(make_config([*arguments, *cheap, *SMALLER.get(suite, [])], discover()))
    found = estimate(plan, Store(out))
    assert found.unknown == ()
    assert found.fits == len(plan.fits) > 0
    assert found.training > 0
    assert found.scoring > 0
    assert "\n" not in found.line()
    assert not out.exists()
