"""A file is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from data.files import atomic_path, file_sha256, write_atomic


@pytest.mark.parametrize("contents", [b"\x00\xff", "grüße\n"])
def test_a_file_holds_what_was_written_and_folders_are_made(tmp_path: Path, contents: bytes | str) -> None:
    path = tmp_path / "deep" / "er" / "a.bin"
    write_atomic(path, "an older one")
    write_atomic(path, contents)
    assert path.read_bytes() == (contents if isinstance(contents, bytes) else contents.encode())
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "table.csv"
    write_atomic(target, "old")

    def full(self: Path, data: bytes) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_the_temporary_file_has_the_suffix_that_libraries_choose_a_format_by(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "plot.png") as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path
        temporary.touch()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_file_sha256_is_that_of_its_bytes(tmp_path: Path) -> None:
    contents = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "a").write_bytes(contents)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(contents).hexdigest()
