"""README is true: what it tells a reader to type works, and what it shows is what the run made."""

import re
import shlex
from pathlib import Path

import pytest

from xbench.cli import main
from xbench.config import make_config
from xbench.plugins import discover

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    \.venv/bin/xbench (.+?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("run ") and "--help" not in line])
def test_every_run_command_resolves(command):
    make_config([word for word in shlex.split(command)[1:] if not word.startswith("--")], discover())


def test_every_verb_is_shown(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    verbs = re.findall(r"^    (\w+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert "run" in verbs
    assert set(verbs) == {line.split()[0] for line in COMMANDS}


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_the_table_shown_is_the_one_the_run_made():
    table = (ROOT / "leaderboard/chestxray/table.md").read_text()
    shown = re.search(r"(?:^\|.*\n)+", README, re.MULTILINE)[0].splitlines()
    assert len(shown) > 5
    assert set(shown) <= set(table.splitlines())


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The other example has a test of its own: test_worked_example.py.
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "xbench.run(" in code]
    exec(compile(code, "README.md", "exec"), {})
