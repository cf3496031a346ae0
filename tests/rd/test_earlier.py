"""Points taken over from an earlier sweep: of the same clips, regimes and metric versions only, and with their origin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.io import write_clip
from rd import sweep
from rd.table import read_points
from tests.clips import moving_clip

PLUGIN = str(Path(__file__).with_name("faulty.py"))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "encodes.log").touch()
    monkeypatch.setenv("HDAC_TEST_LOG", str(tmp_path / "encodes.log"))
    for name, seed in (("a", 1), ("b", 2)):
        write_clip(moving_clip(5, 48, 40, seed=seed), tmp_path / "clips" / f"{name}.y4m")
    return tmp_path / "clips"


def run(clips: Path, out: Path, codecs: str, *arguments: str) -> int:
    return sweep.main(
        ["--sequences", str(clips), "--codecs", codecs, "--plugin", PLUGIN, "--metrics", "psnr", "--jobs", "1", "--no-report"]
        + ["--out", str(out), *arguments]
    )


def test_anchors_stand_beside_what_is_swept_and_are_not_coded_again(clips: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(clips, first, "quick,other") == 0
    coded = (tmp_path / "encodes.log").read_text()
    assert run(clips, second, "other", "--anchors", str(first), "--cache", str(first / "cache")) == 0
    assert (tmp_path / "encodes.log").read_text() == coded
    before, after = read_points(first), read_points(second)
    assert sorted(after["codec"].unique()) == ["other", "quick"]
    rows = [table[table["codec"] == "quick"].reset_index(drop=True) for table in (before, after)]
    assert rows[0]["psnr_y"].equals(rows[1]["psnr_y"]) and rows[0]["bytes"].equals(rows[1]["bytes"])
    facts = json.loads((second / "run.json").read_text())
    assert facts["anchors"]["codecs"] == ["quick"] and set(facts["codecs"]) == {"quick", "other"}
    assert facts["anchors"]["command"] == json.loads((first / "run.json").read_text())["command"]


def test_clips_that_differ_are_not_taken(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clips, tmp_path / "first", "quick") == 0
    write_clip(moving_clip(5, 48, 40, seed=3), clips / "a.y4m", force=True)
    assert run(clips, tmp_path / "second", "other", "--anchors", str(tmp_path / "first")) == 0
    points = read_points(tmp_path / "second")
    assert set(points[points["codec"] == "quick"]["sequence"]) == {"b"}
    assert run(clips, tmp_path / "third", "other", "--frames", "3", "--anchors", str(tmp_path / "first")) == 1
    assert "holds none of these clips" in capsys.readouterr().err


def test_another_version_of_a_metric_is_refused(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clips, tmp_path / "first", "quick") == 0
    facts = json.loads((tmp_path / "first" / "run.json").read_text())
    facts["metrics"]["versions"]["psnr_y"] = "0"
    (tmp_path / "first" / "run.json").write_text(json.dumps(facts))
    assert run(clips, tmp_path / "second", "other", "--anchors", str(tmp_path / "first")) == 1
    assert "measured psnr_y by version 0" in capsys.readouterr().err


def test_a_folder_without_a_sweep_is_named(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(clips, tmp_path / "second", "other", "--anchors", str(clips)) == 1
    assert "holds no sweep to take anchors from" in capsys.readouterr().err
