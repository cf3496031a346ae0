"""The commit that results say they were made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rd import provenance


def test_changed_code_is_said_and_written_results_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@localhost"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "rd" / "provenance.py"))
    assert provenance.commit().startswith("hdac ")  # no checkout
    for name in ("code.py", "results/points.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")
    (tmp_path / "results" / "points.csv").write_text("2\n")
    assert provenance.commit() == head
    (tmp_path / "code.py").write_text("2\n")
    assert provenance.commit() == head + "+changes"
