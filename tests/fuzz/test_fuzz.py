"""Hostile inputs in the suite: whatever text or bytes, and 2,000 for every reader and verb in a process of bounded memory."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xbench.class_lists import read_classes, read_labels
from xbench.errors import XbenchError
from xbench.forms import DEFINITION, MANIFEST, definition_fault, misfit, samples_fault
from xbench.options import parse_options
from xbench.refs import parse_ref, split_outside_brackets
from xbench.stored_maps import parse_manifest
from xbench.suite_files import read_suite
from xbench_mnist.idx import read_idx

FUZZ = Path(__file__).parent / "fuzz.py"

law = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# What has a meaning in a reference, as often as everything else.
words = st.text(st.one_of(st.sampled_from("[]=,@*?./a1 "), st.characters()), max_size=40)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
near = st.fixed_dictionaries({}, optional={name.removesuffix("?"): values for name in {**DEFINITION, **MANIFEST}})


@law
@given(words)
def test_any_text_is_a_reference_or_a_value_error(text):
    for part in split_outside_brackets(text):
        assert part == part.strip() != ""
    with contextlib.suppress(ValueError):
        parse_ref(text)


@law
@given(st.lists(st.one_of(words, st.builds("{}={}".format, st.sampled_from(["suite", "seed", "limit", "x"]), words))))
def test_any_arguments_are_options_or_mistakes(texts):
    _, mistakes = parse_options(texts)
    assert all(isinstance(line, str) for line in mistakes)


@law
@given(st.one_of(values, near))
def test_any_value_is_of_a_form_or_told_in_a_line(value):
    for fault in (misfit(value, DEFINITION), misfit(value, MANIFEST), samples_fault(value)):
        assert len(fault.splitlines()) < 2
    if isinstance(value, dict):
        assert isinstance(definition_fault(value), str)


@law
@given(st.one_of(values, near))
def test_any_manifest_of_maps_is_one_or_is_refused(tmp_path, value):
    with contextlib.suppress(XbenchError):
        parse_manifest(tmp_path, value)


@law
@given(st.one_of(st.binary(max_size=60), words.map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes_are_read_or_refused(tmp_path, raw):
    for name, read in (
        ("a.csv", read_labels),
        ("b.csv", read_classes),
        ("c.txt", read_classes),
        ("d.yaml", read_suite),
        ("e-idx3-ubyte", lambda path: read_idx(path, 3)),
    ):
        (tmp_path / name).write_bytes(raw)
        with contextlib.suppress(XbenchError):
            read(tmp_path / name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory and time as Linux does")
def test_two_thousand_hostile_inputs_end_in_a_value_or_in_one_clear_error(tmp_path):
    command = [sys.executable, str(FUZZ), "--inputs", "2000", "--seed", "0", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, cwd=tmp_path)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^2,000 inputs of seed 0 in \d+ s; 0 failed$", done.stdout, re.M)
    counts = dict(re.findall(r"^(\w+) +[\d,]+ +([\d,]+) +0$", done.stdout, re.M))
    assert len(counts) >= 18
    # Inputs that are all read would find nothing.
    assert int(counts["all"].replace(",", "")) > 1000
