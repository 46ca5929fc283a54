from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ase_pet.formats.files import parse_json, sha256_of, write_atomically


def test_json_is_parsed_and_nesting_without_end_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_json('{"a": [1, {"b": "]]"}]}') == {"a": [1, {"b": "]]"}]}
    assert parse_json("[" * 100 + "]" * 100)
    monkeypatch.setattr("json.loads", lambda _: pytest.fail("such text can crash the process"))
    with pytest.raises(ValueError, match="more than 100 brackets"):
        parse_json("[" * 101)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_sha256_of_several_files_sees_names_and_contents_but_not_order(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    c.write_bytes(b"2")
    assert sha256_of(a, b) == sha256_of(b, a)
    assert sha256_of(a, b) != sha256_of(a, c)
    b.write_bytes(b"3")
    assert sha256_of(a, b) != sha256_of(a, c)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        file.write(b"half")
        raise RuntimeError("stop")

    path = tmp_path / "file"
    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file", lambda file: file.write(b""))
