"""plugins/README.md: the tutorial's components keep every law, and every hook, field, check and verb of a plugin is told."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from xbench import hookspecs
from xbench.cli import main
from xbench.plugins import discover
from xbench.testing import CHECKS

README = (Path(__file__).parent.parent / "plugins" / "README.md").read_text()
TUTORIAL = README.partition("## Using what you have")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """The package that a reader of the tutorial has written, installed."""
    package = tmp_path / "xbench_tutorial"
    package.mkdir()
    hooks = [block for block in BLOCKS if "@hookimpl" in block]
    assert len(hooks) == 3
    (package / "__init__.py").write_text("\n".join(hooks))
    for block in hooks:
        module, name = re.search(r'factory="xbench_tutorial\.(\w+):(\w+)"', block).groups()
        (code,) = [other for other in BLOCKS if re.search(rf"^(def|class) {name}\b", other, re.MULTILINE)]
        (package / f"{module}.py").write_text(code)
    info = tmp_path / "xbench_tutorial-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xbench-tutorial\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xbench]\ntutorial = xbench_tutorial\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "xbench_tutorial"]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tutorial/edges", "border_share", "tutorial/discs"])
def test_what_the_tutorial_builds_keeps_every_law(tutorial, name, capsys):
    code = main(["check", name, "--failures"])
    assert code == 0, capsys.readouterr().out


def test_the_tutorial_s_package_runs_in_a_suite(tutorial, tmp_path, capsys):
    settings = ["data=tutorial/discs", "data.test=12", "model=photos/small[epochs=1]", "metric=border_share,deletion"]
    out = [f"out={tmp_path / 'out'}", "executor=inline", "device=cpu", "explainer=tutorial/edges,controls/random"]
    assert main(["run", "suite=mnist", *settings, *out]) == 0
    assert "tutorial/edges" in capsys.readouterr().out


def test_every_hook_is_told_with_its_signature():
    hooks = [name for name in vars(hookspecs) if name.startswith("xbench_")]
    assert len(hooks) == 6
    for name in hooks:
        (kind,) = re.findall(
            r"list\[(\w+)\]",
            str(getattr(hookspecs, name).__annotations__["return"])
            .replace("xbench.specs.", "")
            .replace("pathlib.", ""),
        ) or [""]
        assert re.search(rf"^\| `{name}\(\)` \| `list\[{kind}\]`", TUTORIAL, re.MULTILINE), name


def test_every_check_is_told_with_its_law_and_how_to_mend_it():
    for kind, checks in CHECKS.items():
        part = TUTORIAL.partition(f"### Checks of {'data sets' if kind == 'dataset' else kind + 's'}\n")[2].partition(
            "\n### "
        )[0]
        told = re.findall(r"^\| (?!check \|)(?!---)(.+?) \|", part, re.MULTILINE)
        assert told == [check.name for check in checks], kind
        for check in checks:
            line = " | ".join(text.replace("|", "\\|") for text in (check.name, check.law, check.mend))
            assert f"| {line} |" in part, check.name


def test_the_hook_of_the_tutorial_is_found_without_its_code(tmp_path, monkeypatch):
    (tmp_path / "xbench_only.py").write_text(next(block for block in BLOCKS if "@hookimpl" in block))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = discover([EntryPoint("only", "xbench_only", "xbench")])
    assert "only/edges" in registry.explainers
