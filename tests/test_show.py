"""`xbench show`: every installed component and suite in words, its rows in a leaderboard, and a command that runs it."""

import json
import shlex
from dataclasses import replace

import pytest
from rich.console import Console

from xbench.cli import main, show, tables
from xbench.cli.examples import example, suites_with
from xbench.config import make_config
from xbench.plugins import Registry, discover
from xbench.specs import ExecutorSpec, ExplainerSpec, MetricSpec, ScoreSpec

REGISTRY = discover()
KINDS = ("explainer", "model", "dataset", "metric", "executor")
SPECS = [spec for kind in KINDS for spec in REGISTRY.of_kind(kind).values()]
EVIL = "<script>alert(1)</script>[/bold][red]a_b%c&d\x1b[31m"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """Work where there is no leaderboard, with what is installed found once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "discover", lambda: REGISTRY)


def words(text):
    return " ".join(text.split())


def row(**members):
    plain = {
        "suite": "mnist",
        "data": "mnist/digits",
        "protocol": "quick",
        "model": "mnist/s1",
        "board": "b",
        "status": "ok",
    }
    return {
        **plain,
        "explainer": None,
        "rank": None,
        "mean": None,
        "low": None,
        "high": None,
        "control": False,
        **members,
    }


def scored(explainer, mean, rank=1, metric="deletion", **members):
    return row(explainer=explainer, metric=metric, mean=mean, low=mean - 0.01, high=mean + 0.01, rank=rank, **members)


@pytest.fixture
def leaderboard(tmp_path):
    """Return a function that writes rows as a leaderboard's table, and its folder."""

    def write(*rows):
        folder = tmp_path / "leaderboard" / "mnist"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.json").write_text(json.dumps(rows))
        return folder.parent

    return write


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}:{spec.id}")
def test_every_component_is_shown_with_all_it_declares(spec, capsys):
    assert main(["show", spec.id]) == 0
    text = words(capsys.readouterr().out)
    told = [
        f"{spec.kind} {spec.id}",
        words(spec.summary),
        words(spec.citation),
        *spec.cites,
        spec.factory,
        f"version {spec.version}",
    ]
    told += [*spec.params, *map(words, spec.meanings.values()), getattr(spec, "fit", None) or ""]
    told += [str(choice) for choices in spec.choices.values() for choice in choices]
    told += [score.name for score in getattr(spec, "scores", ())]
    told += [f"known to fail {name}: {reason}" for name, reason in spec.known_failures.items()]
    told += ["cost "] * bool(getattr(spec, "cost", {}))
    assert [each for each in told if each not in text] == []
    assert "in leaderboard" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cam/gradcam", "cost at most 1 forward and 1 backward pass an image in suites"),
        (
            "gradients/smoothgrad",
            "cost at most 50 forward and 50 backward passes an image, with its parameters as below",
        ),
        (
            "perturbation/occlusion",
            "cost at most 170 forward passes an image, of 3 x 224 x 224 and ten classes, with its parameters as below",
        ),
        ("cam/scorecam", "cost forward passes, as many as the network makes it"),
        ("controls/random", "cost no pass through the network"),
        ("controls/blur", "cost no pass through the network, beside what the other one takes"),
    ],
)
def test_the_passes_that_an_explainer_takes_are_told(name, said, capsys):
    assert main(["show", name]) == 0
    assert said in words(capsys.readouterr().out)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}:{spec.id}")
def test_the_example_is_a_run_that_can_be_configured_and_has_the_component(spec):
    command = shlex.split(example(REGISTRY, spec))
    assert command[:2] == ["xbench", "run"]
    if getattr(spec, "stored", False):
        assert command[-1].endswith("[maps=DIR]")
        return
    config = make_config(command[2:], REGISTRY)
    if spec.kind == "executor":
        assert config.executor == spec.id
        return
    chosen = (config.data,) if spec.kind == "dataset" else getattr(config, spec.kind + "s")
    assert [each.spec.id for each in chosen] == [spec.id]
    changed = {name: value for name, value in chosen[0].params.items() if value != spec.params[name]}
    other = [name for name, value in spec.params.items() if isinstance(value, bool) or spec.choices.get(name)]
    numbers = [name for name, value in spec.params.items() if isinstance(value, (int, float)) and value > 0]
    assert bool(changed) is bool(other or numbers or "of" in spec.params)


@pytest.mark.parametrize("suite", REGISTRY.suites)
def test_every_suite_is_shown_with_its_parts_and_protocols(suite, capsys):
    assert main(["show", suite]) == 0
    text = words(capsys.readouterr().out)
    config = make_config([f"suite={suite}"], REGISTRY)
    assert f"suite {suite}" in text
    assert words(config.title) in text
    assert config.data.spec.id in text
    assert config.primary in text
    assert "protocol quick" in text
    assert "protocol paper" in text
    assert all(model.spec.id in text for model in config.models)
    assert text.endswith(f"xbench run suite={suite}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cam/gradcm", "did you mean 'cam/gradcam'?"),
        ("gradcm", "did you mean 'cam/gradcam'?"),
        ("delteion", "did you mean 'deletion'?"),
        ("cam/*", "not the pattern 'cam/*'; did you mean 'cam/gradcam'? (xbench list explainers 'cam/*')"),
        ("mnist/s?", "did you mean 'mnist/s1'? (xbench list models"),
        ("no*thing", "which matches nothing"),
        ("cam/gradcam[layer=3]", "without parameters; did you mean 'cam/gradcam'?"),
        ("mnist/s2@3", "did you mean 'mnist/s2'?"),
        ("lerf", "a score of the metric 'srg'"),
        ("qqqqq", "xbench list explainers|models|"),
        (EVIL, "<script>"),
    ],
)
def test_what_is_not_installed_is_one_line_that_says_what_is(name, expected, capsys):
    assert main(["show", name]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert expected in line
    assert "\x1b" not in line
    assert told.out == ""


def test_a_disabled_component_says_why(monkeypatch, capsys):
    registry = discover()
    registry.disabled["explainer", "twice/one"] = "explainer 'twice/one' is defined twice"
    monkeypatch.setattr(show, "discover", lambda: registry)
    assert main(["show", "twice/one"]) == 2
    assert "defined twice" in capsys.readouterr().err


def test_a_name_of_two_kinds_shows_both(monkeypatch, capsys):
    registry = discover()
    registry.executors["deletion"] = ExecutorSpec(name="deletion", version=1, factory="x:carrier", package="x")
    monkeypatch.setattr(show, "discover", lambda: registry)
    assert main(["show", "deletion"]) == 0
    text = capsys.readouterr().out
    assert "metric deletion" in text
    assert "executor deletion" in text


def test_what_a_component_says_is_plain_text(monkeypatch, capsys, leaderboard):
    registry = discover()
    spec = ExplainerSpec(
        name="evil", package="x", version=1, factory="x:y", params={"p": EVIL}, meanings={"p": EVIL}, choices={"p": (EVIL,)},
        summary=EVIL, citation=EVIL, cites=(EVIL,), needs=(EVIL,),
    )  # fmt: skip
    score = ScoreSpec(name=EVIL, higher_is_better=True)
    metric = MetricSpec(name="evil", package="x", version=1, factory="x:y", scores=(score,), family=EVIL, uses=(EVIL,))
    registry.explainers["evil"], registry.metrics["evil"] = replace(spec, name="evil"), metric
    monkeypatch.setattr(show, "discover", lambda: registry)
    leaderboard(
        scored("x/evil", 0.5, metric=EVIL, data=EVIL, model=EVIL), row(explainer="x/evil", metric=EVIL, reason=EVIL)
    )
    assert main(["show", "evil"]) == 0
    text = capsys.readouterr().out
    shown = EVIL.replace("\x1b", "�")
    assert text.count(shown) >= 10
    assert "\x1b" not in text


def test_an_explainer_has_its_rank_by_the_suite_s_primary_metric(leaderboard, capsys):
    leaderboard(
        scored("cam/gradcam", 0.9, rank=2, metric="insertion"),
        scored("cam/gradcam", 0.25, rank=3),
        scored("cam/gradcam[score=prob]", 0.5, rank=4),
        scored("cam/gradcam_pp", 0.1),
        row(explainer="cam/layercam", metric="deletion", status="error", reason="ValueError: no"),
    )
    assert main(["show", "cam/gradcam"]) == 0
    text = words(capsys.readouterr().out)
    assert "mnist/digits, mnist/s1 3 of 3 by deletion 0.250 [0.240, 0.260]" in text
    assert "mnist/s1, as cam/gradcam[score=prob] 4 of 3 by deletion 0.500 [0.490, 0.510]" in text
    assert "insertion" not in text.partition("in leaderboard")[2]
    assert main(["show", "cam/layercam"]) == 0
    assert "none by deletion error: ValueError: no" in words(capsys.readouterr().out)


def test_an_explainer_without_a_number_by_the_primary_metric_has_the_first_rank_that_it_has(leaderboard, capsys):
    absent = row(explainer="controls/identity", metric="deletion", status="unsupported", reason="needs a map")
    leaderboard(absent, scored("controls/identity", 0.05, rank=2, metric="validity"))
    assert main(["show", "controls/identity"]) == 0
    assert "2 of 1 by validity 0.050" in words(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("metric", "best"), [("deletion", ["a/b", "c/d", "e/f"]), ("insertion", ["g/h", "e/f", "c/d"])]
)
def test_a_metric_has_its_best_three_in_the_order_in_which_it_ranks(metric, best, leaderboard, capsys):
    means = {"a/b": 0.1, "c/d": 0.2, "e/f": 0.3, "g/h": 0.4}
    truth = scored("controls/oracle", 0.0 if metric == "deletion" else 1.0, metric=metric, control="truth")
    leaderboard(truth, *(scored(name, mean, metric=metric, control=name == "c/d") for name, mean in means.items()))
    assert main(["show", metric]) == 0
    text = words(capsys.readouterr().out).partition("in leaderboard")[2]
    places = [
        text.index(f"{means[name]:.3f} [{means[name] - 0.01:.3f}, {means[name] + 0.01:.3f}] {name}") for name in best
    ]
    assert places == sorted(places)
    assert "c/d †" in text
    assert "oracle" not in text
    assert not {*means} - {*best} & {*text.split()}


def test_models_data_and_metrics_of_classifiers_have_their_suites_and_values(leaderboard, capsys):
    leaderboard(row(metric="accuracy", mean=0.98, low=0.97, high=0.99, model="mnist/s1#12345678"), scored("a/b", 0.5))
    for name in ("mnist/s1", "mnist/digits"):
        assert main(["show", name]) == 0
        assert "mnist mnist/digits, mnist/s1#12345678 quick" in words(capsys.readouterr().out)
    assert main(["show", "accuracy"]) == 0
    assert "accuracy 0.980 [0.970, 0.990]" in words(capsys.readouterr().out)


def test_a_leaderboard_that_is_named_must_be_there_and_be_one(tmp_path, leaderboard, capsys):
    assert main(["show", "deletion", "--leaderboard", str(tmp_path / "none")]) == 2
    assert "holds no leaderboard" in capsys.readouterr().err
    for broken in ('{"a": 1}', "[1]", "not json", '[{"suite": "x"}]'):
        path = leaderboard() / "mnist" / "table.json"
        path.write_text(broken)
        assert main(["show", "deletion"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "table.json" in line


@pytest.mark.parametrize("name", ["translation/ag_cyclegan", "deletion", "cam/gradcam", "chestxray"])
@pytest.mark.parametrize("width", [40, 80])
def test_lines_keep_to_the_terminal_and_nothing_is_cut(name, width, leaderboard, monkeypatch, capsys):
    leaderboard(
        *(scored(each, 0.5, model=f"mnist/s2[{'head=sigmoid_only,' * 3}]@*") for each in (name, "cam/layercam"))
    )

    def shown(columns):
        monkeypatch.setattr(tables, "console", lambda: Console(width=columns, highlight=False))
        assert main(["show", name]) == 0
        return capsys.readouterr().out.rstrip().rpartition("\n")

    body, _, command = shown(width)
    assert command.startswith("xbench run")
    assert max(len(line) for line in body.splitlines() if not line.startswith("* ")) <= width
    # As wide as the parameters' table has the same columns.
    assert sorted("".join(body.split())) == sorted("".join(shown(119)[0].split()))
    if width == 80 and name != "chestxray":
        assert "0.500 [0.490, 0.510]" in body
        assert all(f"\n{each}" in body for spec in SPECS if spec.id == name for each in spec.params)


def test_what_a_wrapper_wraps_is_part_of_a_suite(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(
        "explainers: ['controls/blur[of=cam/layercam]']\nprotocols: {quick: {}, paper: {explainers: [a/b]}}"
    )
    registry = Registry(suites={"one": path})
    assert suites_with(registry, REGISTRY.explainers["cam/layercam"]) == {"one": ["quick"]}
    assert suites_with(registry, REGISTRY.explainers["cam/gradcam"]) == {}


def test_a_component_knows_the_suites_that_have_it_by_pattern_by_name_or_wrapped():
    found = suites_with(REGISTRY, REGISTRY.explainers["gradients/gradient"])
    assert {"mnist", "chestxray"} <= set(found)
    assert "paper" not in suites_with(REGISTRY, REGISTRY.datasets["mnist/digits"])["mnist"]
    assert suites_with(REGISTRY, REGISTRY.datasets["mnist/mnist"])["mnist"] == ["paper"]
    assert "anole" in suites_with(REGISTRY, REGISTRY.models["gain/self"])
    assert suites_with(REGISTRY, REGISTRY.explainers["perturbation/lime"]) == {}
