"""What is committed is whole or not there: no crash, full disk or flipped bit can pass as a record."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbench import slices as module
from xbench.atomic import write_first
from xbench.errors import XbenchError
from xbench.sample_files import damaged_galleries
from xbench.slices import SCHEMA, arrays_file
from xbench.store import Store, canonical, content_key, slice_size, write_atomic

law = settings(max_examples=80, deadline=None, derandomize=True)
N = 150  # samples, hence three slices
DEFINITION = {"n": N, "suite": "s", "explainer": {"text": "a/b"}, "list": [1, 2.5, None, "é"]}
KEY = content_key(DEFINITION)
COST = {"seconds": 1.5, "images": 64, "forwards": 128, "backwards": 2, "peak_bytes": 1000, "device": "cpu"}


def columns(part=0):
    """The arrays of one slice of three."""
    rows = 64 if part < 2 else 22
    return {
        "score/deletion": np.arange(rows, dtype=np.float64) + 100 * part,
        "blank": np.full(rows, part, np.uint8),
        "curve/deletion": np.full((3, 5), part + 1.0),
        **({"gallery/attribution": np.ones((2, 4, 4), np.float16)} if part == 0 else {}),
    }


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "run")
    found.define(KEY, DEFINITION)
    return found


@pytest.fixture
def whole(store):
    for part in range(3):
        store.commit(KEY, part, columns(part), "w" * 64, COST)
    return store


def file_of(store, part, suffix, key=KEY):
    """Return the file of a slice: its head, its arrays or its cost."""
    if suffix == "json":
        return store.folder(key) / f"{part:05d}.json"
    arrays = arrays_file(store.folder(key), part)
    return arrays.with_name(arrays.name.replace(".safetensors", f".{suffix}"))


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


# Canonical form and keys.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def reordered(value):
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return tuple(map(reordered, value)) if isinstance(value, list) else value


@law
@given(json_values)
def test_the_canonical_form_says_the_value_and_not_how_it_was_made(value):
    raw = canonical(value)
    assert json.loads(raw) == value
    assert canonical(reordered(value)) == raw
    assert canonical(json.loads(json.dumps(value, indent=3))) == raw


@law
@given(json_values, json_values)
def test_different_values_have_different_keys(one, other):
    assert (content_key(one) == content_key(other)) == (canonical(one) == canonical(other))
    assert content_key([one]) != content_key(one)


def test_keys_stay_what_published_records_are_named_by():
    assert canonical({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'.encode()
    assert content_key({"a": "é"}) == hashlib.sha256('{"a":"é"}'.encode()).hexdigest()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_canonical_form_holds_a_number_that_json_lacks(bad):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": [1, bad]})


@law
@given(st.integers(1, 200_000))
def test_slices_are_few_and_never_tiny_or_huge(n):
    size = slice_size(n)
    assert 64 <= size <= 1024
    assert -(-n // size) <= max(64, -(-n // 1024))


def test_slices_stay_what_published_records_are_cut_into():
    assert [slice_size(n) for n in (1, 64, 4096, 4097, 10_000, 65_536, 10**6)] == [64, 64, 64, 65, 157, 1024, 1024]


# Atomic writing.


def test_a_file_is_written_whole_with_its_folders_and_may_be_read_by_who_may_read_other_files(tmp_path):
    path = tmp_path / "a" / "b" / "file.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert leftovers(tmp_path) == []
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_rubbish_and_names_the_path(tmp_path, monkeypatch, step):
    path = tmp_path / "file.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(XbenchError, match="No space left on device") as error:
        write_atomic(path, b"new")
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(XbenchError, match="cannot write") as error:
        write_atomic(tmp_path / "file" / "inside.json", b"x")
    assert str(tmp_path / "file" / "inside.json") in str(error.value)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_at_any_moment_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file.json"
    write_atomic(path, b"old")

    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, steps = tmp_path / "file.json", []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle):
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def watched_replace(source, target):
        assert not path.exists()
        with open(source, "rb") as file:
            assert file.read() == b"new"
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_atomic(path, b"new")
    assert steps[:2] == ["sync file", "rename"]
    assert path.read_bytes() == b"new"


def test_a_reader_beside_writers_never_sees_a_part(tmp_path):
    path, contents = tmp_path / "file", [bytes([letter]) * 300_000 for letter in b"abc"]
    write_atomic(path, contents[0])

    def write(content):
        for _ in range(25):
            write_atomic(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_what_crashed_writers_left_goes_after_an_hour_and_not_before(whole):
    folder = whole.folder(KEY)
    for name, age in ((".00000.json.1.tmp", 4000), (".00000.json.2.tmp", 10)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    whole.sweep()
    assert leftovers(folder) == [".00000.json.2.tmp"]
    assert whole.read(KEY).status == "ok"


# Commit and read.


def test_what_is_committed_is_read_back(whole):
    record = whole.read(KEY)
    assert (record.key, record.definition, record.status, record.reason) == (KEY, DEFINITION, "ok", "")
    assert (record.n_slices, record.weights) == (3, "w" * 64)
    parts = [columns(part) for part in range(3)]
    assert record.arrays.keys() == parts[0].keys()
    for name in ("score/deletion", "blank"):
        assert record.arrays[name].dtype == parts[0][name].dtype
        np.testing.assert_array_equal(record.arrays[name], np.concatenate([part[name] for part in parts]))
    assert len(record.arrays["blank"]) == N
    np.testing.assert_array_equal(record.arrays["curve/deletion"], np.full((3, 5), 6.0))
    np.testing.assert_array_equal(record.arrays["gallery/attribution"], parts[0]["gallery/attribution"])


def test_costs_add_up_but_memory_is_the_largest(store):
    for part in range(3):
        store.commit(KEY, part, columns(part), None, {**COST, "peak_bytes": 10 * part, "device": f"gpu {part % 2}"})
    expected = {"seconds": 4.5, "images": 192, "forwards": 384, "backwards": 6, "peak_bytes": 20}
    assert store.read(KEY).cost == {**expected, "devices": ["gpu 0", "gpu 1"]}


@law
@given(st.permutations(range(3)))
def test_the_order_of_commits_changes_nothing(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("order")
    for name, parts in (("given", range(3)), ("other", order)):
        store = Store(folder / name)
        store.define(KEY, DEFINITION)
        for part in parts:
            store.commit(KEY, part, columns(part), None, COST)
    given_files, other_files = (
        {path.name: path.read_bytes() for path in Store(folder / name).folder(KEY).iterdir()}
        for name in ("given", "other")
    )
    assert given_files == other_files
    one, other = Store(folder / "given").read(KEY), Store(folder / "other").read(KEY)
    for name, value in one.arrays.items():
        np.testing.assert_array_equal(other.arrays[name], value)


def test_committing_again_writes_the_same_bytes(store):
    store.commit(KEY, 0, columns(), "w", COST)
    first = {path.name: path.read_bytes() for path in store.folder(KEY).iterdir()}
    turned = {name: np.asfortranarray(value) for name, value in reversed(columns().items())}
    store.commit(KEY, 0, turned, "w", dict(reversed(COST.items())))
    assert {path.name: path.read_bytes() for path in store.folder(KEY).iterdir()} == first


def test_missing_slices_make_a_record_partial(store):
    assert (store.read(KEY).status, store.read(KEY).n_slices) == ("partial", 0)
    assert store.read(KEY).arrays == {}
    for part, text in ((2, "1 of 3"), (0, "2 of 3")):
        store.commit(KEY, part, columns(part), None, COST)
        record = store.read(KEY)
        assert record.status == "partial"
        assert record.reason.startswith(f"{text} slices done")
    assert [store.committed(KEY, part) for part in range(3)] == [True, False, True]
    store.commit(KEY, 1, columns(1), None, COST)
    assert store.read(KEY).status == "ok"


def test_slices_of_different_weights_are_no_record(store):
    for part in range(3):
        store.commit(KEY, part, columns(part), "a" if part else "b", COST)
    assert store.read(KEY).status == "mixed_weights"


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_commit_that_breaks_off_does_not_count(store, monkeypatch, writes):
    done = []

    def some(path, content, **options):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        write_atomic(path, content, **options)

    monkeypatch.setattr(module, "write_atomic", some)
    monkeypatch.setattr(module, "write_first", some)
    with pytest.raises(KeyboardInterrupt):
        store.commit(KEY, 0, columns(), None, COST)
    assert not store.committed(KEY, 0)
    assert store.damaged == []
    monkeypatch.undo()
    store.commit(KEY, 0, columns(), None, COST)
    assert store.committed(KEY, 0)


# Several writers.


def other(part=0):
    """The arrays of the same slice as another device would compute them."""
    return {**columns(part), "score/deletion": columns(part)["score/deletion"] + 1e-9}


def test_the_first_of_two_writers_wins_and_the_second_changes_no_byte(store):
    store.commit(KEY, 0, columns(), "w", COST)
    first = {path.name: path.read_bytes() for path in store.folder(KEY).iterdir()}
    Store(store.root).commit(KEY, 0, other(), "w", {**COST, "seconds": 9.0})
    assert {path.name: path.read_bytes() for path in store.folder(KEY).iterdir()} == first


@pytest.mark.parametrize("links", [True, False])
def test_writers_that_commit_at_the_same_moment_leave_one_whole_slice(store, monkeypatch, links):
    def late(path, content):
        monkeypatch.undo()  # the other one commits after this one has looked, and before its head is there
        Store(store.root).commit(KEY, 0, columns(), "w", COST)
        if not links:
            monkeypatch.setattr(os, "link", full_disk)
        write_first(path, content)

    monkeypatch.setattr(module, "write_first", late)
    store.commit(KEY, 0, other(), "w", COST)
    found = Store(store.root)
    np.testing.assert_array_equal(found.read(KEY).arrays["score/deletion"], columns()["score/deletion"])
    assert (found.damaged, found.without_cost) == ([], [])


def test_a_reader_beside_writers_of_different_bytes_never_meets_a_torn_slice(tmp_path):
    store = Store(tmp_path)
    keys = [content_key({**DEFINITION, "seed": i}) for i in range(12)]
    for i, key in enumerate(keys):
        store.define(key, {**DEFINITION, "seed": i})

    def write(shift):
        mine = Store(tmp_path)
        for key in keys:
            for part in range(3):
                arrays = {**columns(part), "score/deletion": columns(part)["score/deletion"] + shift}
                mine.commit(key, part, arrays, "w", {**COST, "seconds": shift})

    writers = [threading.Thread(target=write, args=(shift,)) for shift in (0.0, 1.0, 2.0)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers) or not reads:
        reader = Store(tmp_path)
        seen = [reader.read(key) for key in keys]
        assert (reader.damaged, reader.without_cost) == ([], [])
        reads += 1
    assert {Store(tmp_path).read(key).status for key in keys} == {"ok"}
    assert len(seen) == len(keys)


def test_arrays_of_the_slower_writer_go_after_an_hour_and_the_committed_ones_stay(whole):
    garbage = whole.folder(KEY) / f"00001.{'f' * 16}.safetensors"
    headless = whole.folder(KEY) / f"00004.{'f' * 16}.safetensors"
    for path in (garbage, headless):
        path.write_bytes(b"whatever")
    whole.sweep()
    assert garbage.exists()
    assert Store(whole.root).read(KEY).status == "ok"
    for path in whole.folder(KEY).iterdir():
        os.utime(path, (0, 0))
    whole.sweep()
    assert not garbage.exists()
    assert headless.exists()  # a writer may be about to commit these very bytes
    assert Store(whole.root).read(KEY).status == "ok"


def to_schema(store, part, schema):
    """Write a slice as another version of xbench would."""
    head = {**json.loads(file_of(store, part, "json").read_bytes()), "schema": schema}
    del head["digest"]
    if schema == 1:
        for suffix in ("safetensors", "cost.json"):
            path = file_of(store, part, suffix)
            path.rename(path.with_name(f"{part:05d}.{suffix}"))
    file_of(store, part, "json").write_bytes(canonical({**head, "digest": content_key(head)}))


def test_slices_of_the_first_schema_are_read_kept_and_recomputed_as_ever(whole):
    expected = whole.read(KEY)
    to_schema(whole, 1, 1)
    assert (whole.folder(KEY) / "00001.safetensors").exists()
    found = Store(whole.root).read(KEY)
    assert (found.status, found.cost) == (expected.status, expected.cost)
    np.testing.assert_array_equal(found.arrays["score/deletion"], expected.arrays["score/deletion"])
    before = file_of(whole, 1, "json").read_bytes()
    Store(whole.root).commit(KEY, 1, other(1), "w" * 64, COST)
    assert file_of(whole, 1, "json").read_bytes() == before
    (whole.folder(KEY) / "00001.safetensors").write_bytes(b"")
    again = Store(whole.root)
    assert not again.committed(KEY, 1)
    again.commit(KEY, 1, columns(1), "w" * 64, COST)
    assert Store(whole.root).read(KEY).status == "ok"
    assert json.loads(file_of(whole, 1, "json").read_bytes())["schema"] == SCHEMA


def test_a_slice_of_a_later_schema_is_refused_and_not_overwritten(whole):
    to_schema(whole, 1, SCHEMA + 1)
    before = file_of(whole, 1, "json").read_bytes()
    for act in (lambda: whole.read(KEY), lambda: whole.commit(KEY, 1, columns(1), "w", COST)):
        with pytest.raises(XbenchError, match=rf"00001\.json is of schema {SCHEMA + 1}; this xbench reads {SCHEMA}"):
            act()
    assert file_of(whole, 1, "json").read_bytes() == before


@pytest.mark.parametrize("arrays", ["../../../escape" + "0" * 49, "0" * 63, 7, None])
def test_a_head_that_names_no_hash_is_damage(whole, arrays):
    path = file_of(whole, 1, "json")
    head = {**json.loads(path.read_bytes()), "arrays": arrays}
    del head["digest"]
    path.write_bytes(canonical({**head, "digest": content_key(head)}))
    assert not whole.committed(KEY, 1)
    assert whole.damaged == [path]


# Damage.


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_any_flipped_byte_is_noticed_named_and_makes_the_slice_missing(whole, suffix):
    path = file_of(whole, 1, suffix)
    good = path.read_bytes()
    # The other case of a letter is what a careless reader of hex digits would let pass.
    for flip in (0x01, 0x20) if suffix == "json" else (0x80,):
        for place in range(len(good)):
            path.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            found = Store(whole.root)
            assert not found.committed(KEY, 1), (place, flip)
            assert found.damaged == [path]
    assert Store(whole.root).read(KEY).status == "partial"
    whole.commit(KEY, 1, columns(1), "w" * 64, COST)
    assert path.read_bytes() == good
    assert Store(whole.root).read(KEY).status == "ok"


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_cut_short_is_noticed(whole, suffix, keep):
    path = file_of(whole, 1, suffix)
    good = path.read_bytes()
    path.write_bytes(good[: int(len(good) * keep)])
    assert not whole.committed(KEY, 1)
    assert whole.damaged == [path]
    assert whole.read(KEY).status == "partial"


def test_missing_arrays_are_noticed(whole):
    path = file_of(whole, 1, "safetensors")
    path.unlink()
    assert not whole.committed(KEY, 1)
    assert whole.damaged == [path]


def test_files_of_another_slice_or_cell_are_no_commit(whole):
    other = {**DEFINITION, "suite": "other"}
    whole.define(content_key(other), other)
    for target, part in ((KEY, 2), (content_key(other), 0)):
        for path in whole.folder(KEY).glob("00000*"):
            shutil.copy(path, whole.folder(target) / path.name.replace("00000", f"{part:05d}"))
        assert not whole.committed(target, part)
    assert len(whole.damaged) == 2


def test_a_damaged_cost_costs_no_score(whole):
    path = file_of(whole, 1, "cost.json")
    path.write_bytes(b"{")
    record = whole.read(KEY)
    assert (record.status, record.cost["images"]) == ("ok", 128)
    assert (whole.damaged, whole.without_cost) == ([], [path])


def test_a_slice_without_its_cost_is_to_be_computed_again_and_then_has_it(whole):
    file_of(whole, 1, "cost.json").write_bytes(b"{")
    assert not whole.committed(KEY, 1)
    head = file_of(whole, 1, "json").read_bytes()
    whole.commit(KEY, 1, columns(1), "w" * 64, COST)
    assert whole.committed(KEY, 1)
    assert file_of(whole, 1, "json").read_bytes() == head
    found = Store(whole.root)
    assert (found.read(KEY).status, found.without_cost) == ("ok", [])


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", json.dumps({**DEFINITION, "n": 64}).encode(), None])
def test_a_definition_that_does_not_hash_to_its_name_is_refused_by_path(whole, content):
    path = whole.folder(KEY) / "cell.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(XbenchError, match="damaged") as error:
        whole.read(KEY)
    assert str(path) in str(error.value)


def test_a_definition_is_written_once(store):
    path = store.folder(KEY) / "cell.json"
    os.utime(path, (0, 0))
    store.define(KEY, DEFINITION)
    assert path.stat().st_mtime == 0
    assert store.definition(KEY) == DEFINITION


@pytest.mark.parametrize("content", [b"", b"{}", b'{"n": NaN}', b'{"n": "\\ud800"}', "folder"])
def test_a_damaged_definition_is_noted_and_written_again(whole, content):
    path = whole.folder(KEY) / "cell.json"
    damage(path, content)
    again = Store(whole.root)
    again.define(KEY, DEFINITION)
    assert again.damaged == [path]
    assert Store(whole.root).read(KEY).status == "ok"


def damage(path, content):
    if content != "folder":
        path.write_bytes(content)
        return
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"")


@pytest.mark.parametrize("suffix", ["json", "safetensors", "cost.json"])
def test_a_folder_in_the_place_of_a_file_is_damage_and_is_set_aside(whole, suffix):
    path = file_of(whole, 1, suffix)
    damage(path, "folder")
    assert not whole.committed(KEY, 1)
    assert [*whole.damaged, *whole.without_cost] == [path]
    whole.commit(KEY, 1, columns(1), "w" * 64, COST)
    assert Store(whole.root).read(KEY).status == "ok"
    assert [found.name for found in whole.root.rglob("inside")] == ["inside"]


# Failures.


def test_a_failure_is_recorded_in_one_line_until_it_is_forgiven(store):
    assert store.failure(KEY) is None
    store.fail(KEY, "error", "first line\n  second   line", detail="Traceback\n  deep")
    assert store.failure(KEY) == ("error", "first line second line")
    record = store.read(KEY)
    assert (record.status, record.reason) == ("error", "first line second line")
    assert "Traceback" in (store.folder(KEY) / "status.json").read_text()
    store.forgive(KEY)
    store.forgive(KEY)
    assert store.failure(KEY) is None
    assert store.read(KEY).status == "partial"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", "flip", "folder"])
def test_a_damaged_failure_is_noted_and_forgotten(store, content):
    store.fail(KEY, "error", "why")
    path = store.folder(KEY) / "status.json"
    damage(path, path.read_bytes().replace(b"why", b"wha") if content == "flip" else content)
    assert store.failure(KEY) is None
    assert store.damaged == [path]
    again = Store(store.root)
    again.forgive(KEY)
    assert again.damaged == [path]
    assert not path.exists()
    again.fail(KEY, "error", "half a pair: \ud800")
    assert again.failure(KEY) == ("error", "half a pair: \ud800")


def test_failures_that_earlier_versions_wrote_are_read(store):
    (store.folder(KEY) / "status.json").write_text('{"status": "error", "reason": "why", "detail": ""}')
    assert (store.failure(KEY), store.damaged) == (("error", "why"), [])


# Samples and keys.


@pytest.mark.parametrize("content", [b"", b"{", "flip", "folder"])
def test_a_damaged_table_of_samples_is_refused_noted_and_written_again(store, content):
    table = {"ids": ["a", "b"], "labels": [0, 1], "groups": ["p", "p"]}
    store.write_samples("d", table)
    path = store.root / "samples" / "d.json"
    damage(path, path.read_bytes().replace(b"[0,1]", b"[1,1]") if content == "flip" else content)
    with pytest.raises(XbenchError, match=r"d\.json is missing or damaged"):
        store.samples("d")
    store.write_samples("d", table)
    assert store.damaged == [path]
    assert store.samples("d") == table


def test_tables_and_galleries_that_earlier_versions_wrote_are_read(store):
    table, images = {"ids": ["a"], "labels": [0], "groups": ["p"]}, {"image": np.ones((1, 1, 2, 2), np.uint8)}
    (store.root / "samples").mkdir()
    (store.root / "samples" / "d.json").write_bytes(canonical(table))
    (store.root / "samples" / "d.safetensors").write_bytes(module.to_bytes(images))
    assert store.samples("d") == table
    assert store.has_gallery("d")
    store.write_samples("d", table)
    assert store.damaged == []


@pytest.mark.parametrize("content", [b"", "flip", "cut", "folder"])
@pytest.mark.parametrize("early", [False, True])
def test_damaged_galleries_are_noted_and_replaced(store, content, early):
    images = {"image": np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)}
    store.write_gallery("d", images)
    (path,) = (store.root / "samples").iterdir()
    raw = path.read_bytes()
    if early:
        path = path.rename(path.with_name("d.safetensors"))
    if early and content == "flip":
        return  # no hash was kept of these
    damage(path, {"flip": raw[:-1] + b"\x7f", "cut": raw[:-1]}.get(content, content))
    assert not store.has_gallery("d")
    assert store.damaged == [path]
    store.write_gallery("d", images)
    again = Store(store.root)
    assert again.gallery("d")["image"].tolist() == images["image"].tolist()
    assert again.damaged == []
    assert damaged_galleries(store.root / "samples") == []


def test_keys_come_sorted_and_stray_files_are_none(store):
    others = [{"n": 1, "i": i} for i in range(20)]
    for one in others:
        store.define(content_key(one), one)
    (store.root / "records" / ".DS_Store").write_bytes(b"")
    (store.root / "records" / KEY[:2] / "note.txt").write_bytes(b"")
    (store.root / "records" / KEY[:2] / "empty").mkdir()
    assert list(store) == sorted([KEY, *map(content_key, others)])
    assert list(Store(store.root / "nothing")) == []


def test_sample_tables_and_galleries_are_read_back(store):
    table = {"ids": ["a", "b"], "labels": [0, 1], "groups": ["p", "p"]}
    store.write_samples("d", table)
    assert store.samples("d") == table
    with pytest.raises(XbenchError, match=r"e\.json is missing or damaged; run the command again"):
        store.samples("e")
    assert (store.has_gallery("d"), store.gallery("d")) == (False, {})
    images = {"image": np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), "mask": np.ones((2, 2, 2), np.uint8)}
    store.write_gallery("d", images)
    assert store.has_gallery("d")
    found = store.gallery("d")
    assert found.keys() == images.keys()
    assert all(np.array_equal(found[name], value) for name, value in images.items())


def test_slices_from_before_curves_had_squares_join_with_later_ones(store):
    for part in range(3):
        arrays = columns(part)
        if part:
            arrays["curve/deletion"] = np.full((4, 5), part + 1.0)
        store.commit(KEY, part, arrays, None, COST)
    np.testing.assert_array_equal(store.read(KEY).arrays["curve/deletion"], np.full((3, 5), 6.0))
