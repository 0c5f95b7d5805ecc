"""suites/README.md: every suite is in its table, every key in its example, and the example is a suite."""

import re
from pathlib import Path

import yaml

from xbench import config
from xbench.plugins import discover
from xbench.suite_files import SUITE_KEYS

TEXT = (Path(__file__).parent.parent / "suites" / "README.md").read_text()


def test_every_suite_is_in_the_table():
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    own = {name for name, path in discover().suites.items() if path.parent.name in ("suites", "_suites")}
    assert set(named) == own


def test_the_example_shows_every_key_and_is_a_suite(tmp_path, monkeypatch):
    block = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]
    suite = yaml.safe_load(block)
    assert set(suite) == SUITE_KEYS
    registry = discover()
    path = tmp_path / "chestxray.yaml"
    path.write_text(block)
    registry.suites["chestxray"] = path
    for protocol in suite["protocols"]:
        found = config.make_config(["suite=chestxray", f"protocol={protocol}"], registry)
        assert found.primary == "localisation_precision"


def test_what_is_said_to_be_needed_is_what_is_needed(tmp_path):
    said = re.search(r"^(`suite`.*?) are needed", TEXT, re.MULTILINE)[1]
    needed = set(re.findall(r"`(\w+)`", said)) - {"suite"}
    block = yaml.safe_load(re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1])
    registry = discover()
    for key in block:
        path = tmp_path / "chestxray.yaml"
        path.write_text(yaml.safe_dump({name: value for name, value in block.items() if name != key}))
        registry.suites["chestxray"] = path
        try:
            config.make_config(["suite=chestxray"], registry)
            refused = False
        except config.XbenchError as error:
            refused = any(f"{key!r} is missing" in line for line in error.lines)
        assert refused == (key in needed), key
