"""The pages of plugins/README.md are true: their code runs, and their commands make a table."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xbench import api, codehash
from xbench.config import make_config
from xbench.plugins import discover

README = (Path(__file__).parent.parent / "plugins" / "README.md").read_text()
PAGES = dict(
    re.findall(r"^### (.+)\n((?:(?!^##).*\n?)*)", README.partition("## Using what you have\n")[2], re.MULTILINE)
)
CODE = {title: re.findall(r"```python\n# (\w+)\.py\n(.*?)```", page, re.DOTALL) for title, page in PAGES.items()}
COMMANDS = {title: re.findall(r"^    xbench run (.+)$", page, re.MULTILINE) for title, page in PAGES.items()}
NEEDS = {"zennit": "zennit", "TorchXRayVision": "torchxrayvision", "timm": "timm", "Hugging Face": "transformers"}
REAL = "MobileNetV2 on ImageNet's photographs"
FINDINGS = ["Atelectasis", "Cardiomegaly", "Effusion", "Mass"]
SHORT = {"limit": "4", "metric": "localisation_precision,deletion", "data.size": "32"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of all pages and photographs of four classes, in which the user stands."""
    rng = np.random.default_rng(0)
    for root, names in (("photos", ["ant", "bee", "cow", "dog"]), ("films", FINDINGS)):
        for k, name in enumerate(names):
            (tmp_path / root / name).mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                pixels[..., k % 3] += np.uint8(60 + 20 * k)
                Image.fromarray(pixels).save(tmp_path / root / name / f"{i}.png")

    def forget():
        for name in (name for page in CODE.values() for name, _ in page):
            sys.modules.pop(name, None)
        codehash._source.cache_clear()

    forget()  # other tests write modules of these names
    for name, text in (pair for page in CODE.values() for pair in page):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget()


def prepare(title):
    """Make the files that a page tells a reader to have."""
    if title in ("A torch module", "zennit"):
        from torchvision.models import resnet18

        torch.save(resnet18(num_classes=4).state_dict(), "resnet18.pt")
    elif title == "TorchXRayVision":
        from torchxrayvision.models import DenseNet

        state = DenseNet(num_classes=18).state_dict()
        torch.save({name: value for name, value in state.items() if name != "op_threshs"}, "xrv.pt")
        Path("findings.txt").write_text("\n".join(DenseNet.targets))
    elif title == "timm":
        import timm

        torch.save(timm.create_model("resnet10t", num_classes=4).state_dict(), "timm.pt")
    elif title == "Hugging Face":
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4)
        ResNetForImageClassification(config).save_pretrained("classifier")


def arguments(command, **changes):
    given = dict(word.split("=", 1) for word in shlex.split(command))
    return {**given, **changes}


def test_every_way_in_has_a_page():
    assert list(PAGES) == [
        "A plain function", "A torch module", REAL, "Captum", "zennit", "TorchXRayVision", "timm", "Hugging Face",
    ]  # fmt: skip
    assert all(CODE[title] and COMMANDS[title] for title in PAGES)


@pytest.mark.parametrize("title", [title for title in PAGES if title != REAL])
@pytest.mark.usefixtures("folder")
def test_a_page_imports_and_its_commands_resolve(title):
    if title in NEEDS:
        pytest.importorskip(NEEDS[title], reason=f"the page on {title} needs the package {NEEDS[title]}")
    for command in COMMANDS[title]:
        config = make_config([f"{key}={value}" for key, value in arguments(command).items()], discover())
        written = [one.text for one in (*config.models, *config.explainers)]
        assert any(text.startswith(f"python:{CODE[title][0][0]}.") for text in written)


@pytest.mark.slow
@pytest.mark.parametrize("title", [title for title in PAGES if title != REAL])
def test_the_commands_of_a_page_make_a_table(title, folder):
    if title in NEEDS:
        pytest.importorskip(NEEDS[title], reason=f"the page on {title} needs the package {NEEDS[title]}")
    prepare(title)
    for i, command in enumerate(COMMANDS[title]):
        changes = (
            {**SHORT, "data.size": "64"} if title in ("A torch module", "zennit", "timm", "TorchXRayVision") else SHORT
        )
        run = api.run(out=folder / f"run{i}", executor="inline", device="cpu", **arguments(command, **changes))
        rows = [row for row in run.rows if row.explainer and row.metric == "deletion"]
        own = [row for row in rows if "python:" in row.explainer or "python:" in row.model]
        assert own
        assert [failure for failure in run.failures if failure[1] != "unsupported"] == []
        assert {row.status for row in own} <= {"ok", "unsupported", "undefined"}
        assert any(row.status == "ok" and row.rank for row in own)


@pytest.mark.slow
@pytest.mark.realdata
def test_mobilenet_is_right_on_photographs_and_its_explanations_are_ranked(folder, real_data, monkeypatch):
    for name in ("photos/labels.csv", "weights/mobilenet_v2_imagenet.pt"):
        if not (real_data / name).is_file():
            pytest.skip(f"there is no {name} under XBENCH_DATA")
    single, mosaics = (command.replace("$XBENCH_DATA", str(real_data)) for command in COMMANDS[REAL])
    few = {"explainer": "cam/gradcam,controls/random", "limit": "20"}
    found = {}
    for name, command in (("single", single), ("mosaics", mosaics)):
        run = api.run(out=folder / name, executor="inline", device="cpu", **arguments(command, **few))
        assert run.failures == []
        found[name] = {(row.explainer, row.metric): row for row in run.rows}
    assert found["single"][None, "accuracy"].mean >= 0.85
    for metric in ("localisation_precision", "relevance_mass"):
        gradcam, chance = (found["mosaics"][name, metric] for name in ("cam/gradcam", "controls/random"))
        assert gradcam.low > chance.mean
        assert chance.chance == pytest.approx(0.25)
