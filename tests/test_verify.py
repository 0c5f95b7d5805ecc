"""A run is believed when its files are whole and its numbers come out again: nothing else passes, nothing else is blamed."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save

from xbench import api
from xbench.cli import main
from xbench.manifest import run_folder, write_manifest
from xbench.plugins import discover
from xbench.slices import arrays_file
from xbench.store import Store, content_key, fit_folder
from xbench.verify import verify

pytestmark = pytest.mark.usefixtures("fakes")


def go(out, explainer="fake/weights,fake/noise,fake/half,controls/oracle", limit=80, **settings):
    return api.run("blobs", out=out, executor="inline", device="cpu", explainer=explainer, limit=limit, **settings)


def check(folder, cells=100, samples=2, seed=0):
    return verify(folder, discover(), cells, samples, seed, "cpu")


def rewrite(folder, change):
    """Change a committed number as a forger would: the head's hashes are made anew."""
    store = Store(folder)
    for key in store:
        record = store.read(key)
        if record.definition["explainer"] and record.definition["explainer"]["text"] == "fake/weights":
            path = arrays_file(store.folder(key), 0)
            arrays = {name: value.copy() for name, value in load(path.read_bytes()).items()}
            change(arrays)
            (path.parent / "00000.json").unlink()  # what is committed stays as it is
            store.commit(key, 0, arrays, record.weights, {"seconds": 1.0})
            return path.parent
    raise AssertionError("there is no such cell")


def test_an_untouched_run_agrees_in_every_number(tmp_path):
    go(tmp_path / "run", model="fake/linear,fake/learnt", seed="0,1")
    verdict = check(tmp_path / "run")
    assert verdict.sound, verdict.lines()
    assert verdict.records == 2 * 2 * 5
    assert main(["verify", str(tmp_path / "run"), "--seed", "3"]) == 0


def test_noise_that_is_drawn_by_the_pass_comes_out_again(tmp_path):
    go(tmp_path / "run", explainer="fake/torchs_own", batch=7)
    verdict = check(tmp_path / "run", samples=1)
    assert verdict.sound, verdict.lines()


@pytest.mark.parametrize("name", ["00000.json", "00000.*.safetensors", "cell.json"])
def test_one_changed_digit_is_found_and_its_file_named(tmp_path, capsys, name):
    go(tmp_path / "run")
    path = next((tmp_path / "run" / "records").rglob(name))
    raw = bytearray(path.read_bytes())
    place = next(i for i in range(len(raw) // 2, len(raw)) if raw[i] in b"01234568" or name.endswith("tensors"))
    raw[place] ^= 1
    path.write_bytes(raw)
    assert main(["verify", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().out
    assert main(["leaderboard", str(tmp_path / "run")]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_forged_number_whose_hashes_were_made_anew_does_not_come_out(tmp_path):
    go(tmp_path / "run")

    def better(arrays):
        arrays["score/deletion"] -= 0.01

    folder = rewrite(tmp_path / "run", better)
    verdict = check(tmp_path / "run")
    assert not verdict.sound
    assert not verdict.damaged
    assert len(verdict.mismatches) == 1
    assert str(folder) in verdict.mismatches[0]
    assert "score/deletion" in verdict.mismatches[0]
    assert main(["verify", str(tmp_path / "run"), "--cells", "100"]) == 1


def test_what_floats_do_is_no_mismatch(tmp_path):
    go(tmp_path / "run")
    rewrite(tmp_path / "run", lambda arrays: arrays.update({"score/deletion": arrays["score/deletion"] + 5e-5}))
    assert check(tmp_path / "run").sound


def test_a_score_hidden_as_undefined_does_not_come_out(tmp_path):
    go(tmp_path / "run")

    def hide(arrays):
        arrays["score/deletion"][np.argmax(arrays["score/deletion"])] = np.nan

    rewrite(tmp_path / "run", hide)
    assert check(tmp_path / "run", samples=80).mismatches


def test_other_labels_are_found(tmp_path):
    go(tmp_path / "run")
    for path in (tmp_path / "run" / "samples").glob("*.json"):
        table = json.loads(path.read_text())
        table["labels"][0] = 1 - table["labels"][0]
        path.write_text(json.dumps(table))
    assert {path.suffix for path in check(tmp_path / "run").damaged} == {".json"}
    for path in (tmp_path / "run" / "samples").glob("*.json"):  # as one who knows the format would
        table = json.loads(path.read_text())
        del table["digest"]
        path.write_text(json.dumps(table))
    verdict = check(tmp_path / "run")
    assert len(verdict.mismatches) == 5
    assert all("other labels or groups" in line for line in verdict.mismatches)
    assert main(["verify", str(tmp_path / "run")]) == 1


def test_weights_that_are_gone_are_said_to_be_gone_and_nothing_is_blamed(tmp_path, capsys):
    go(tmp_path / "run", model="fake/learnt")
    fits = {Store(tmp_path / "run").definition(key)["model_fit"] for key in Store(tmp_path / "run")}
    for fit in fits:
        shutil.rmtree(fit_folder(fit))
    verdict = check(tmp_path / "run")
    assert not verdict.mismatches
    assert len(verdict.unverifiable) == 5
    assert all("gone" in line for line in verdict.unverifiable)
    assert main(["verify", str(tmp_path / "run")]) == 2
    assert "mismatch" not in capsys.readouterr().out


def test_other_weights_under_the_same_key_are_not_taken_for_the_runs_own(tmp_path):
    go(tmp_path / "run", model="fake/learnt")
    for path in fit_folder("x").parent.parent.rglob("weights.safetensors"):
        weights = {name: np.asarray(value + 1) for name, value in load(path.read_bytes()).items()}
        raw = save(weights)
        info = json.loads((path.parent / "fit.json").read_text())
        path.write_bytes(raw)
        del info["digest"]
        (path.parent / "fit.json").write_text(json.dumps({**info, "sha256": hashlib.sha256(raw).hexdigest()}))
    verdict = check(tmp_path / "run")
    assert not verdict.mismatches
    assert all("others than those" in line for line in verdict.unverifiable)
    assert verdict.unverifiable


def test_code_that_changed_since_is_named(tmp_path):
    go(tmp_path / "run")
    store = Store(tmp_path / "run")
    manifest = run_folder(tmp_path / "run")[2]
    key = next(key for key in store if store.definition(key)["explainer"])
    record = store.read(key)
    definition = json.loads(json.dumps(record.definition))
    definition["explainer"]["code"] = "of another day"
    other = content_key(definition)
    store.define(other, definition)
    for path in store.folder(key).glob("0*.json"):
        head = json.loads(path.read_text())
        if "slice" in head:
            rows = slice(head["slice"] * 64, (head["slice"] + 1) * 64)
            arrays = {
                name: value[rows] if "/" not in name or "score" in name else value
                for name, value in record.arrays.items()
                if head["slice"] == 0 or not name.startswith("gallery/")
            }
            arrays = {name: value[rows] if name.startswith("chance") else value for name, value in arrays.items()}
            store.commit(other, head["slice"], arrays, record.weights, {"seconds": 1.0})
    shutil.rmtree(store.folder(key))
    manifest["cells"] = [other]
    write_manifest(tmp_path / "run", manifest)
    verdict = check(tmp_path / "run")
    assert "explainer.code changed since" in verdict.unverifiable[0]
    assert not verdict.sound


def test_the_same_seed_draws_the_same(tmp_path):
    go(tmp_path / "run")

    def drawn(seed):
        labels = []
        verify(tmp_path / "run", discover(), 2, 1, seed, "cpu", labels.append)
        return labels

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


def forge(folder, change):
    """Change every slice of a cell, hashes made anew, as one who knows the format would."""
    store = Store(folder)
    for key in store:
        if (store.definition(key)["explainer"] or {}).get("text") == "fake/weights":
            for path in sorted(store.folder(key).glob("[0-9]????.json")):
                head = json.loads(path.read_text())
                raw = arrays_file(store.folder(key), head["slice"]).read_bytes()
                arrays = {name: value.copy() for name, value in load(raw).items()}
                change(arrays)
                path.unlink()
                store.commit(key, head["slice"], arrays, head["weights"], {"seconds": 1.0})
            return key
    raise AssertionError("there is no such cell")


@pytest.mark.parametrize("name", ["score/deletion", "blank", "tied", "chance/localisation_precision"])
def test_a_column_taken_out_does_not_pass(tmp_path, name):
    go(tmp_path / "run")
    forge(tmp_path / "run", lambda arrays: arrays.pop(name))
    (line,) = check(tmp_path / "run").mismatches[:1]
    assert name in line


def test_a_column_that_is_too_long_is_damage_to_every_verb(tmp_path, capsys):
    go(tmp_path / "run")
    key = forge(tmp_path / "run", lambda arrays: arrays.update({"score/deletion": np.zeros(99)}))
    for verb in ("verify", "leaderboard", "export", "report", "ranks"):
        assert main([verb, str(tmp_path / "run")]) == (1 if verb == "verify" else 2), verb
        told = capsys.readouterr()
        assert key in told.out + told.err, verb


def test_a_bad_row_hidden_by_a_status_does_not_pass(tmp_path):
    go(tmp_path / "run")
    store = Store(tmp_path / "run")
    key = next(key for key in store if (store.definition(key)["explainer"] or {}).get("text") == "fake/noise")
    store.fail(key, "unsupported", "by nature")
    assert any("unsupported" in line for line in check(tmp_path / "run").mismatches)
    for path in store.folder(key).glob("0*"):
        path.unlink()
    assert any("can be computed" in line for line in check(tmp_path / "run").mismatches)


def test_what_is_unsupported_by_nature_passes(tmp_path):
    go(tmp_path / "run", explainer="fake/weights,fake/refuses,cam/gradcam")
    assert check(tmp_path / "run").sound, check(tmp_path / "run").lines()


def test_a_slice_that_is_gone_is_told(tmp_path):
    go(tmp_path / "run")
    store = Store(tmp_path / "run")
    key = next(key for key in store if (store.definition(key)["explainer"] or {}).get("text") == "fake/noise")
    (store.folder(key) / "00001.json").unlink()
    verdict = check(tmp_path / "run")
    assert not verdict.sound
    assert any("partial" in line for line in verdict.unverifiable)


def test_a_cost_that_was_changed_is_named(tmp_path, capsys):
    go(tmp_path / "run")
    path = next((tmp_path / "run" / "records").rglob("00000.*.cost.json"))
    path.write_text(path.read_text().replace('"device":"', '"device":"a faster '))
    assert main(["verify", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().out


def test_a_run_that_went_on_with_other_passes_agrees(tmp_path):
    go(tmp_path / "run", explainer="fake/torchs_own", batch=7)
    store = Store(tmp_path / "run")
    for key in store:
        for path in store.folder(key).glob("00001*"):
            path.unlink()
    go(tmp_path / "run", explainer="fake/torchs_own", batch=16)
    verdict = check(tmp_path / "run", samples=40)
    assert verdict.sound, verdict.lines()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "[" * 100_000, '{"cells": null}', '{"cells": [1], "primary": "x"}', "\xff", '{"cells": []}'],
)
def test_a_manifest_that_is_none_is_one_line(tmp_path, capsys, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(text.encode("latin-1"))
    for verb in ("verify", "export", "leaderboard", "report", "submit", "status"):
        assert main([verb, str(tmp_path / "run")]) == 2, verb
        assert len(capsys.readouterr().err.splitlines()) <= 2, verb
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert "neither a run's folder" in capsys.readouterr().err
