"""References: every key resolves, every entry is used, one key has one text, and a run carries what it cites."""

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from xbench.api import run
from xbench.bibliography import FILE, entries_of, facts_of, parse_entries
from xbench.errors import XbenchError
from xbench.plugins import discover
from xbench.specs import ExplainerSpec

ROOT = Path(__file__).parent.parent
KINDS = ("explainer", "model", "dataset", "metric", "executor")
FILES = sorted([*ROOT.glob(f"plugins/*/{FILE}"), ROOT / "xbench" / "metrics" / FILE])


@pytest.fixture(scope="module")
def registry():
    return discover()


def specs(registry):
    return [spec for kind in KINDS for spec in registry.of_kind(kind).values()]


def test_every_citation_of_a_first_party_component_resolves(registry):
    for spec in specs(registry):
        entries = entries_of(spec, registry.plugins)
        assert [next(iter(parse_entries(entry))) for entry in entries] == list(spec.cites)
        assert "problem" not in facts_of(spec, registry.plugins)


def test_a_component_has_a_line_for_the_reader_and_an_entry_for_the_bibliography_or_neither(registry):
    for spec in specs(registry):
        assert bool(spec.citation) == bool(spec.cites), spec.id


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_entry_is_cited_in_its_own_package(path, registry):
    package = path.parent.name.removeprefix("xbench_") if path.parent.parent.name == "plugins" else "xbench"
    cited = {key for spec in specs(registry) if spec.package == package for key in spec.cites}
    assert set(parse_entries(path.read_text(encoding="utf-8"))) == cited


def test_one_key_has_one_text_in_every_package():
    texts = {}
    for path in FILES:
        for key, text in parse_entries(path.read_text(encoding="utf-8")).items():
            assert texts.setdefault(key, text) == text, key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_entry_says_who_wrote_what(path):
    for key, text in parse_entries(path.read_text(encoding="utf-8")).items():
        assert "author = {" in text, key
        assert "title = {" in text, key


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("@article{a, title = {{x}", "'a' are not balanced"),
        ("@article{a, year = 1}\n@article{a, year = 2}", "line 2: the key 'a' is there twice"),
        ("@article{, year = 1}", "line 1: an entry is written"),
        ("\n@article(a, year = 1)", "line 2: an entry is written"),
        ("@article{ä, year = 1}", "plain ASCII"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(text, told):
    with pytest.raises(XbenchError, match=told):
        parse_entries(text, "x")


def test_entries_are_kept_verbatim_and_what_lies_between_is_a_comment():
    one, two = "@Misc{a.b:c, title = {A {nested} \\{one}}}", '@article { d ,\n author = "é"}'
    assert parse_entries(f"by hand\n{one} and\n\n{two}\n") == {"a.b:c": one, "d": two}


def third_party(folder, monkeypatch, entries, body=""):
    package = folder / "xbench_stranger"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from xbench.hookspecs import hookimpl\nfrom xbench.specs import ExplainerSpec\n\n\n@hookimpl\n"
        "def xbench_explainers():\n    return [ExplainerSpec(name='one', version=1, factory='x:y', cites=('mine',))]\n"
    )
    if entries is not None:
        (package / FILE).write_text(entries, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    found = discover([EntryPoint("stranger", "xbench_stranger", "xbench")])
    monkeypatch.delitem(__import__("sys").modules, "xbench_stranger")
    return found.explainers["stranger/one"], found.plugins


def test_a_stranger_brings_entries_in_its_own_package(tmp_path, monkeypatch):
    spec, plugins = third_party(tmp_path, monkeypatch, "@misc{mine, title = {T}}")
    assert entries_of(spec, plugins) == ["@misc{mine, title = {T}}"]


@pytest.mark.parametrize(
    ("entries", "told"),
    [(None, "holds no references.bib"), ("@misc{mina, title = {T}}", "did you mean 'mina'"), ("@misc{", "line 1")],
)
def test_a_bibliography_that_cannot_be_used_is_told_and_stops_no_run(tmp_path, monkeypatch, entries, told):
    spec, plugins = third_party(tmp_path, monkeypatch, entries)
    with pytest.raises(XbenchError, match=told):
        entries_of(spec, plugins)
    facts = facts_of(replace(spec, citation="A line"), plugins)
    assert told in facts["problem"]
    assert (facts["bibtex"], facts["citation"]) == ([], "A line")


def test_cites_change_no_number_and_no_key(registry):
    # What a component cites is not part of what it computes.
    from xbench.components import Component

    spec = registry.explainers["cam/gradcam"]
    assert isinstance(spec, ExplainerSpec)
    params = dict(spec.params)
    assert Component(spec, params).definition() == Component(replace(spec, cites=()), params).definition()


def test_a_run_carries_what_it_cites(fakes, tmp_path):
    out = tmp_path / "run"
    run("blobs", explainer="fake/weights,gradients/gradient", metric="deletion", limit=8, device="cpu",
        executor="inline", out=out)  # fmt: skip
    facts = {fact["id"]: fact for fact in json.loads((out / "run.json").read_text())["components"]}
    assert {fact["kind"] for fact in facts.values()} == {"dataset", "model", "explainer", "metric"}
    assert list(parse_entries("".join(facts["gradients/gradient"]["bibtex"]))) == ["simonyan2014deep"]
    assert facts["deletion"]["params"]["fill"] == "mean"
    assert facts["fake/weights"]["bibtex"] == []
    assert facts["fake/weights"]["distribution"] == {"name": "xbench-fake", "version": "1.0"}
