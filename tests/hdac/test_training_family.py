"""Training of the whole mobile family: the plan is complete and in order; killed it goes on, and what is there is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.io import write_clip
from hdac.families import LAYERED, MOBILE
from hdac.nets import animation
from hdac.training import cache, family
from hdac.training.__main__ import main, parser
from hdac.training.family import STAGES, Stage
from hdac.training.settings import RECIPES, TrainSettings
from tests.clips import moving_clip
from tests.hdac.nets import TINY_ANIMATIONS, save_tiny


def test_every_network_of_the_family_has_its_stage_after_what_it_begins_from() -> None:
    needed = {network for name in MOBILE for network in LAYERED[name].networks}
    assert {stage.network for stage in STAGES} == needed
    done: list[Stage] = []
    for stage in STAGES:
        assert not stage.begin or stage.begin in [other.title for other in done]
        assert stage.options.get("teacher", "fomm") in [other.network for other in (*done, Stage("fomm", 1))]
        done.append(stage)
    titles = [stage.title for stage in STAGES]
    assert len(set(titles)) == len(titles)
    assert [stage.network for stage in STAGES if stage.last] == list(dict.fromkeys(stage.network for stage in STAGES))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.title)
def test_every_command_is_one_that_can_be_run(stage: Stage, tmp_path: Path) -> None:
    command = family.run_command(stage, tmp_path / "cache", tmp_path / "runs", tmp_path, 2, 5)
    args = parser().parse_args(command[command.index("hdac.training") + 1 :])
    given = {name: getattr(args, name) for name in vars(RECIPES["lite"]) if getattr(args, name) is not None}
    settings = TrainSettings.from_dict({**vars(RECIPES[args.recipe]), **given})
    assert settings.net.name == stage.network and settings.steps == stage.steps and args.minutes == 5
    assert (settings.feature_weight > 0) == (stage.recipe == "animation" and stage.last)
    assert settings.only_detector != stage.last


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fomm", "light"):
        monkeypatch.setitem(animation.SIZES, f"tiny-{name}", replace(TINY_ANIMATIONS[name], name=f"tiny-{name}"))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A cache of two clips."""
    (tmp_path / "cache").mkdir()
    for name in ("anna_1", "bert_1"):
        write_clip(moving_clip(7, 256, 256, seed=len(name)), tmp_path / "clips" / f"{name}.mkv")
        cache.prepare_clip(tmp_path / "clips" / f"{name}.mkv", tmp_path / "cache")
    return tmp_path / "cache"


def test_it_goes_on_where_it_was_and_keeps_what_is_there(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"batch": 1, "perceptual": "", "held_out": 2, "flow_weight": 0.0, "warmup": 0}
    stages = (
        Stage("tiny-landmarks", 2),
        Stage("tiny-fomm", 2, options=small),
        Stage("tiny-light", 2, options={**small, "only_detector": True, "teacher": "tiny-fomm"}, name="first", last=False),
        Stage("tiny-light", 2, "first", {**small, "teacher": "tiny-fomm"}),
    )
    monkeypatch.setattr(family, "STAGES", stages)
    monkeypatch.setattr(family, "FEATURE_WEIGHT", 0.0)
    save_tiny(tmp_path / "given")
    out = tmp_path / "weights"
    out.mkdir()
    kept = out / "tiny-landmarks.safetensors"
    kept.write_bytes((tmp_path / "given" / kept.name).read_bytes())
    before = kept.read_bytes()
    calls: list[list[str]] = []
    breaks: list[int] = [2]  # the second run is killed
    halves: list[str] = []  # runs that stop before they should

    def call(command: list[str], env: dict[str, str], check: bool) -> SimpleNamespace:
        assert env["HDAC_WEIGHTS"] == str(out) and not check
        monkeypatch.setenv("HDAC_WEIGHTS", str(out))
        arguments = command[command.index("hdac.training") + 1 :]
        calls.append(arguments)
        if arguments[0] == "run" and breaks and sum(one[0] == "run" for one in calls) == breaks[0]:
            breaks.clear()
            return SimpleNamespace(returncode=-9)
        if halves and arguments[0] == "run" and arguments[arguments.index("--out") + 1].endswith(halves[0]):
            halves.clear()
            arguments = [*arguments, "--steps", "2"]
        return SimpleNamespace(returncode=main(arguments))

    monkeypatch.setattr(subprocess, "run", call)
    clip = str(tmp_path / "clips" / "anna_1.mkv")
    command = ["family", str(prepared), "--out", str(tmp_path / "runs"), "--weights", str(out), "--tables", clip]
    command += ["--data", "two"]
    assert main(command) == 1
    assert "ended with status -9" in capsys.readouterr().err
    assert [one[0] for one in calls] == ["run", "export", "tables", "run"]
    assert {path.name for path in out.iterdir()} == {kept.name, "tiny-fomm.json", "tiny-fomm.safetensors"}

    calls.clear()
    assert main([*command, "--minutes", "0"]) == 0
    assert not calls and "still to be trained: tiny-light" in capsys.readouterr().out

    monkeypatch.setattr(family, "STAGES", (*stages[:2], replace(stages[2], steps=5), stages[3]))
    halves.append("first")
    assert main(command) == 0  # the detector's run ends early, though there is time left: nothing begins from half of it
    assert [one[0] for one in calls] == ["run"] and "still to be trained: tiny-light" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "runs" / "first")
    monkeypatch.setattr(family, "STAGES", stages)
    calls.clear()

    assert main(command) == 0
    assert [one[0] for one in calls] == ["run", "run", "export", "tables"]
    assert calls[1][calls[1].index("--start-from") + 1] == str(tmp_path / "runs" / "first" / "last.pt")
    assert "all are trained" in capsys.readouterr().out
    card = json.loads((out / "tiny-light.json").read_text())
    assert card["data"] == "two; begun from the weights first" and card["steps"] == 2
    assert "7 frames of 1 clips" in card["tables"]
    assert kept.read_bytes() == before and not os.path.exists(tmp_path / "runs" / "tiny-landmarks")

    calls.clear()
    assert main([*command, "--only", "tiny-bilayer"]) == 1
    assert "unknown networks tiny-bilayer" in capsys.readouterr().err and not calls
