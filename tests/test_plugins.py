"""Discovery: a broken plugin is named and skipped, no first-party plugin is special."""

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points

import pytest

from xbench.plugins import discover


def points():
    return [point for point in entry_points(group="xbench") if point.dist and point.dist.name == "xbench-xai"]


def write(tmp_path, monkeypatch, name, text):
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return EntryPoint(name, name, "xbench")


GOOD = """
from xbench.hookspecs import hookimpl
from xbench.specs import ExplainerSpec
@hookimpl
def xbench_explainers():
    return [ExplainerSpec(name="one", version=1, factory="x:y")]
"""


METRIC = """
from xbench.hookspecs import hookimpl
from xbench.specs import MetricSpec
@hookimpl
def xbench_metrics():
    params = {"fill": 1}
    return [MetricSpec(name="one", version=1, factory="x:y", params=params, sensitive_to=("fil", "fill", "bil"),
                       scores=(), family="f")]
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import not_a_module", "ModuleNotFoundError"),
        (
            GOOD.replace("xbench_explainers", "xbench_explainer"),
            "'xbench_explainer'; did you mean 'xbench_explainers'?",
        ),
        (GOOD.replace("()", "(extra)", 1), "takes extra; hooks take nothing: def xbench_explainers():"),
        (GOOD.replace("@hookimpl\n", ""), "'xbench_explainers' is not marked; write @hookimpl above it"),
        (GOOD.replace("xbench_explainers", "explainers"), "it has no hook; define one of xbench_explainers"),
        (
            GOOD.replace("return [", "return iter([").replace(")]", ")])"),
            "returned a list_iterator; a list of ExplainerSpecs",
        ),
        (GOOD.replace("version=1", "version='1'"), "version '1' of explainer 'one' must be a whole number"),
        (GOOD.replace("version=1", "version=1, params={'a': [1]}"), "parameter a of explainer 'one' is a list"),
        (GOOD.replace("version=1", "version=1, choices={'a': (1,)}"), "choices for a; its parameters are none"),
        (GOOD.replace("version=1", "version=1, meanings={'a': 'b'}"), "meanings of a; its parameters are none"),
        (GOOD.replace("version=1", "version=1, quick={'a': 1}"), "quick values of a; its parameters are none"),
        (GOOD.replace('"one"', '"One!"'), "lower-case"),
        (GOOD.replace('"x:y"', '"x"'), "module:attr"),
        (GOOD.replace("ExplainerSpec(", "dict("), "ExplainerSpec is needed"),
        (METRIC, "metric 'one' is sensitive_to fil, bil; its parameters are fill"),
        (METRIC.replace('{"fill": 1}', "{}"), "its parameters are none"),
    ],
)
def test_a_broken_plugin_is_named_and_skipped(tmp_path, monkeypatch, text, problem):
    bad = write(tmp_path, monkeypatch, "bad_plugin", text)
    registry = discover([*points(), bad])
    (broken,) = [plugin for plugin in registry.plugins if plugin.problem]
    assert broken.module == "bad_plugin"
    assert problem in broken.problem
    assert "cam/gradcam" in registry.explainers
    assert not any(name.startswith("bad_plugin") for name in registry.explainers)


def test_only_the_plugins_asked_for_are_loaded_and_a_name_that_fits_none_is_told(tmp_path, monkeypatch):
    bad = write(tmp_path, monkeypatch, "explodes", "raise RuntimeError('loaded all the same')")
    monkeypatch.setenv("XBENCH_PLUGINS", "cam, xbench_controls,gradint")
    registry = discover([*points(), bad])
    assert {name.partition("/")[0] for name in registry.explainers} == {"cam", "controls"}
    assert registry.suites
    assert registry.executors
    assert registry.metrics
    (told,) = [plugin for plugin in registry.plugins if plugin.problem]
    assert told.name == "gradint"
    assert "did you mean 'gradients'?" in told.problem
    monkeypatch.setenv("XBENCH_PLUGINS", "")
    assert not discover([*points(), bad]).explainers


def test_a_plugin_says_where_it_lies_and_what_it_has():
    (cam,) = [plugin for plugin in discover().plugins if plugin.name == "cam"]
    assert cam.path.endswith("__init__.py")
    assert dict(cam.components)["explainer"] == len([name for name in discover().explainers if name.startswith("cam/")])


def test_every_parameter_of_a_first_party_component_has_a_meaning_of_one_clause():
    registry = discover(points())
    for kind in ("explainer", "model", "dataset", "metric", "executor"):
        for spec in registry.of_kind(kind).values():
            assert list(spec.params) == [name for name in spec.params if spec.meanings.get(name)], spec.id
            for text in spec.meanings.values():
                assert len(text) <= 120, text
                assert not text.endswith("."), text
                assert text.isprintable()


def test_one_id_defined_twice_disables_both_and_names_both(tmp_path, monkeypatch):
    one = write(tmp_path, monkeypatch, "twice", GOOD)
    other = EntryPoint("again", "twice.again", "xbench")
    (tmp_path / "twice" / "again.py").write_text(GOOD)
    registry = discover([one, other])
    assert "twice/one" not in registry.explainers
    reason = registry.disabled["explainer", "twice/one"]
    assert "twice " in reason
    assert "twice.again" in reason


@pytest.mark.parametrize("left_out", [point.name for point in points()])
def test_without_any_one_plugin_the_rest_is_found(left_out):
    registry = discover([point for point in points() if point.name != left_out])
    assert not [plugin for plugin in registry.plugins if plugin.problem]
    assert len(registry.plugins) == len(points()) - 1


def test_discovery_imports_nothing_heavy():
    code = "import sys; from xbench.plugins import discover; discover(); sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
