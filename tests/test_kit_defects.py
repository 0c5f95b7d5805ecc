"""The conformance kit finds a planted defect by the check meant for it and by no other, and says how to mend it."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import xbench.cli
from xbench.plugins import discover
from xbench.testing import CHECKS, conformance, subjects
from xbench.testing import kit as kit_module

FAKES = Path(__file__).parent / "fakes"

CAUGHT = {
    "defects/sound": None,
    "defects/leaks_a_hook": "leaves the model as it was",
    "defects/changes_weights": "leaves the model as it was",
    "defects/leaves_train_mode": "leaves the model as it was",
    "defects/leaves_gradients": "leaves the model as it was",
    "defects/forgets_a_hook_after_an_exception": "leaves the model as it was after an exception",
    "defects/couples_the_batch": "does not depend on company",
    "defects/ignores_the_target": "explains the target",
    "defects/draws_unseeded": "same seed, same map",
    "defects/divides_by_the_range": "bears a blank image",
    "defects/upsamples_to_a_square": "explains images that are not square",
    "defects/gives_the_layer_size": "gives a sound map",
    "defects/makes_cpu_tensors": "makes tensors where the images are",
    "defects/changes_the_image": "leaves the images as they were",
    "defects/keeps_every_map": "holds no memory",
    "defects/keeps_every_array": "holds no memory",
    "defects/squeezes_the_batch": "explains a batch of one",
    "defects/wants_three_channels": "explains grey images",
    "defects/keeps_what_is_overwritten": "bears operations in place",
    "defects/asks_the_module": "explains a net of one logit",
    "defects/explains_again_in_company": "costs no more in company",
    "defects/costs_twice": "keeps to its cost",
    "defects/uncited": "declares what is true of it",
    "defects/unknown_known": "declares what is true of it",
    "defects/falsely_positive": "keeps its polarity",
    "defects/falsely_stochastic": "another seed, another map only if stochastic",
    "defects/falsely_still": "another seed, another map only if stochastic",
    "defects/wrongly_known": "another seed, another map only if stochastic",
    "defects/nowhere": "can be built",
    "defects/known": None,
    "defective_not": None,
    "defective_direction": "knows which way is better",
    "defective_chance": "reaches its chance",
    "defective_bounds": "keeps its bounds",
    "defective_company": "does not depend on company",
    "defective_value": "has a value for ordinary maps",
    "defective_scene": "leaves the scene as it was",
    "defective_score": "gives the scores it declares",
    "defects/overlapping_splits": "keeps its splits apart",
    "defects/shared_groups": "keeps its splits apart",
    "defects/shifted_mask": "masks lie where the truth is",
    "defects/in_bytes": "gives images in [0,1]",
    "defects/ids_twice": "has a sound index",
    "defects/sorted_loads": "loads in the order asked",
    "defects/new_every_time": "is the same every time",
    "defects/undeclared_mask": "holds what it declares",
    "defects/normalised_outside": "normalises inside",
    "defects/batch_statistics": "does not depend on company",
    "defects/always_dropping": "repeats itself",
    "defects/rounds": "lets gradients through",
    "defects/too_many_logits": "gives a logit a class",
    "defects/own_draws": "same seed, same weights",
}


@pytest.fixture(scope="module")
def defects():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        found = discover([EntryPoint("defects", "xbench_defects", "xbench")])
        assert not found.plugins[0].problem
        yield found
        for name in [name for name in sys.modules if name.partition(".")[0] == "xbench_defects"]:
            del sys.modules[name]


@pytest.mark.parametrize("name", CAUGHT)
def test_each_defect_is_caught_by_the_check_meant_for_it_alone(defects, name):
    for subject in subjects([name], defects):
        failed = [outcome for outcome in conformance(subject) if outcome.status == "failed"]
        expected = {CAUGHT[name]} - {None}
        assert {outcome.check.name for outcome in failed} == expected, [outcome.message for outcome in failed]
        for outcome in failed:
            assert len(outcome.message) > 10


def test_every_defect_planted_is_tried(defects):
    planted = {name for kind in CHECKS for name in defects.of_kind(kind)}
    assert planted == set(CAUGHT)


def test_a_check_says_what_must_hold_and_how_to_mend_it():
    for checks in CHECKS.values():
        assert len({check.name for check in checks}) == len(checks)
        for check in checks:
            assert check.law.endswith(".")
            assert check.mend.endswith(".")


def test_a_known_failure_is_shown_with_its_reason_and_a_passed_one_is_a_failure(defects):
    (known,) = subjects(["defects/known"], defects)
    (shown,) = [outcome for outcome in conformance(known) if outcome.status == "expected failure"]
    assert "a joke" in shown.message
    (passes,) = subjects(["defects/wrongly_known"], defects)
    (failed,) = [outcome for outcome in conformance(passes) if outcome.status == "failed"]
    assert "take the entry out" in failed.message


def test_behind_a_shut_gate_nothing_is_tried(defects):
    (subject,) = subjects(["defects/gives_the_layer_size"], defects)
    states = [outcome.status for outcome in conformance(subject)]
    place = states.index("failed")
    assert set(states[place + 1 :]) == {"not applicable"}


def test_the_verb_prints_how_to_mend_and_tells_by_its_exit_code(defects, monkeypatch, capsys):
    monkeypatch.setattr(kit_module, "discover", lambda: defects)
    assert xbench.cli.main(["check", "defects/ignores_the_target"]) == 1
    text = capsys.readouterr().out
    assert "FAILED  explains the target" in text
    assert "mend: Explain batch.target" in text
    assert xbench.cli.main(["check", "defective_not"]) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert xbench.cli.main(["check", "defects/ignores_the_targt", "nothing/*"]) == 2
    text = capsys.readouterr().err
    assert "did you mean 'defects/ignores_the_target'" in text
    assert "'nothing/*'" in text


def test_a_reason_that_stays_the_same_is_printed_once_and_no_line_is_wider_than_the_terminal(
    defects, monkeypatch, capsys
):
    monkeypatch.setattr(kit_module, "discover", lambda: defects)
    monkeypatch.setenv("COLUMNS", "60")
    assert xbench.cli.main(["check", "defects/gives_the_layer_size"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (subject,) = subjects(["defects/gives_the_layer_size"], defects)
    last = list(conformance(subject))[-1]
    shut = last.message.split()[:3]
    assert sum(line.split()[:3] == shut for line in lines) == 1
    assert sum(line.lstrip().startswith("- ") for line in lines) > 10
    assert max(len(line) for line in lines if line.startswith(" " * 10)) <= 60
