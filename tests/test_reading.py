"""Files from elsewhere: plain ones are read, pipes and giants are not waited for, and every fault is one clear line."""

import os

import pytest

from xbench.errors import XbenchError
from xbench.reading import clip, parse_json, read_bytes, read_rows, read_text


def error_of(action):
    with pytest.raises(XbenchError) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_plain_text_is_read_without_its_mark(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffa,b\n\nüé,2\n".encode())
    assert read_text(path) == "a,b\n\nüé,2\n"
    assert list(read_rows(path)) == [(1, ["a", "b"]), (3, ["üé", "2"])]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no plain file" in error_of(lambda: read_bytes(tmp_path / "pipe"))


@pytest.mark.parametrize("device", ["/dev/zero", "/"])
def test_devices_and_folders_are_no_files(device):
    if os.path.exists(device):
        with pytest.raises((XbenchError, OSError)):
            read_bytes(device)


def test_a_file_larger_than_the_bound_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "giant"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: no byte of it is on the disk
    assert "1,099,511,627,776 bytes" in error_of(lambda: read_text(path))
    path.write_bytes(b"1234")
    assert read_bytes(path, 4) == b"1234"
    assert "3 are the most" in error_of(lambda: read_bytes(path, 3))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("a,b".encode("utf-16"), "it is UTF-16"),
        (b"a\xffb", "save it as UTF-8"),
        (b"a\0b", "holds zero bytes"),
    ],
)
def test_what_is_no_text_says_what_it_is(tmp_path, raw, why):
    path = tmp_path / "a.csv"
    path.write_bytes(raw)
    assert why in error_of(lambda: list(read_rows(path)))


def test_a_field_of_ten_megabytes_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "x" * 10**7 + ",2\n")
    assert f"{path}, line 2: " in error_of(lambda: list(read_rows(path)))


def test_a_missing_file_and_an_impossible_name_are_one_line(tmp_path):
    assert "No such file" in error_of(lambda: read_text(tmp_path / "none"))
    assert "cannot be read" in error_of(lambda: read_text(tmp_path / "a\0b"))
    assert "too long" in error_of(lambda: read_text(tmp_path / ("a" * 999)))


@pytest.mark.parametrize("raw", [b"[" * 10**6, b'{"a":' * 10**5, b"9" * 10**6, b"", b"\xff", b"{"])
def test_json_that_is_none_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r"."):
        parse_json(raw)


def test_long_values_are_shown_by_their_beginning():
    assert clip("ab") == "'ab'"
    assert clip("a" * 10**6) == "'" + "a" * 119 + "..."
