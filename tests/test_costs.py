"""What explainers declare of their cost: all of ours do, wrappers add up, and a wrong declaration is one line."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from xbench.components import resolve
from xbench.costs import declared_cost
from xbench.errors import XbenchError
from xbench.hookspecs import hookimpl
from xbench.plugins import PASSES, discover
from xbench.scoring import build_explainer
from xbench.specs import ExplainerSpec
from xbench.testing.toys import Setting

SHAPE = (3, 28, 28)


def written(text):
    mistakes = []
    found = resolve("explainer", text, discover(), mistakes)
    assert not mistakes
    return found


@pytest.mark.parametrize(
    ("text", "forwards", "backwards"),
    [
        ("gradients/gradient", 1, 1),
        ("gradients/smoothgrad[n=20]", 20, 20),
        ("captum/integrated_gradients[steps=10]", 12, 10),
        ("perturbation/occlusion", 170, 0),
        ("perturbation/occlusion[window=28,stride=28]", 2, 0),
        ("controls/random", 0, 0),
        ("controls/blur[of=gradients/smoothgrad[n=20]]", 20, 20),
        ("noise/noncontributing[steps=2,draws=3]", 6 * 11 + 103, 60),
    ],
)
def test_the_passes_declared_follow_from_parameters(text, forwards, backwards):
    assert declared_cost(written(text), SHAPE, 10) == {"forwards": forwards, "backwards": backwards}


MEASURED = [
    spec.id
    for spec in discover().explainers.values()
    if spec.cost and not spec.fit and not spec.wraps and not {"mask", "counterfactual"} & set(spec.needs)
]


@pytest.mark.parametrize("name", MEASURED)
def test_by_its_defaults_an_explainer_takes_the_passes_that_it_declares(name):
    one, setting = written(name), Setting(height=28, width=28, classes=10)
    model = setting.model()
    build_explainer(one, model)(setting.batch(1))
    taken = {"forwards": model.passes.forwards, "backwards": model.passes.backwards}
    said = declared_cost(one, setting.shape, setting.classes)
    if one.spec.package == "noise":  # only outputs that noise moves have a gradient
        assert all(0 < taken[passes] <= most for passes, most in said.items())
    else:
        assert {passes: taken[passes] for passes in said} == said


def test_a_limit_that_is_not_declared_is_none_and_stays_so_in_a_wrapper():
    assert declared_cost(written("cam/scorecam"), SHAPE, 10) == {"backwards": 0}
    assert declared_cost(written("controls/blur[of=cam/scorecam]"), SHAPE, 10) == {"backwards": 0}


def test_every_explainer_of_ours_declares_its_cost():
    own = {plugin.module for plugin in discover().plugins if plugin.distribution == "xbench-xai"}
    specs = [spec for spec in discover().explainers.values() if f"xbench_{spec.package}" in own and not spec.stored]
    assert len(specs) > 25
    assert [spec.id for spec in specs if not spec.cost] == []


def test_the_noise_s_budgets_are_those_of_its_presets():
    from xbench_noise.costs import BUDGETS
    from xbench_noise.explainer import PRESETS

    assert {name: (preset.steps, preset.draws) for name, preset in PRESETS.items()} == BUDGETS


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "cannot be told"),
        (lambda shape, classes: {"forwards": 1 / 0}, "ZeroDivisionError"),
        (lambda shape, classes: {"forward": 1}, "forwards and backwards"),
        (lambda shape, classes: {"forwards": -1}, "forwards and backwards"),
        (lambda shape, classes: 3, "forwards and backwards"),
    ],
)
def test_a_function_that_does_not_do_is_one_line(made, said, monkeypatch):
    module = ModuleType("strange_costs")
    if made:
        module.made = made
    monkeypatch.setitem(sys.modules, "strange_costs", module)
    one = written("controls/random")
    one = replace(one, spec=replace(one.spec, cost="strange_costs:made"))
    with pytest.raises(XbenchError, match=said) as caught:
        declared_cost(one, SHAPE, 10)
    assert len(caught.value.lines) == 1
    assert "controls/random" in str(caught.value)


@pytest.mark.parametrize("cost", ["three", {"forward": 1}, {"forwards": -1}, {"forwards": "n"}, 3])
def test_a_wrong_declaration_disables_its_plugin_and_says_what_is_right(cost, monkeypatch):
    from importlib.metadata import EntryPoint

    module = ModuleType("xbench_costly")

    @hookimpl
    def xbench_explainers():
        return [ExplainerSpec(name="one", version=1, factory="a:b", cost=cost)]

    module.xbench_explainers = xbench_explainers
    monkeypatch.setitem(sys.modules, "xbench_costly", module)
    (plugin,) = discover([EntryPoint("costly", "xbench_costly", "xbench")]).plugins
    assert repr(cost) in plugin.problem
    assert all(word in plugin.problem for word in PASSES) or "module:attr" in plugin.problem
