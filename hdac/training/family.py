"""The mobile family trained as a whole: most networks begin where a relative of theirs ended, and take a quarter to half of the
steps.

    hdac train prepare clips/ --out cache
    hdac train landmarks cache && hdac train labels cache && hdac train poses cache && hdac train turned cache
    hdac train family cache --out runs/family --weights weights --tables clips/ --minutes 170     again: goes on where it was

Every stage is a run of its own (`hdac train run`) with its checkpoints, log and pictures in a folder below --out. Its weights
go to --weights; a network that is there already, shipped weights for one, is left as it is and others begin from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import HdacError, InputError
from hdac.nets.animation import AnimationSettings
from hdac.nets.models import sizes
from hdac.nets.synthesis import SynthesisSettings

_OF_RELATIVE = {"learning_rate": 6e-4}
_STUDENT = {"batch": 24}
_DETECTOR = {"only_detector": True, "teacher": "fomm", "perceptual": "", "look": 0.0, "batch": 32}
_TRAIN = (sys.executable, "-m", "hdac.training")


@dataclass(frozen=True)
class Stage:
    """One run.

    network: size and name of the weights. begin: stage whose result it begins from, "" for random weights.
    options: of `TrainSettings`, on top of the recipe. last: whether the result is the network's weights.
    """

    network: str
    steps: int
    begin: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    recipe: str = "animation"
    name: str = ""
    last: bool = True

    @property
    def title(self) -> str:
        """Of the stage's folder."""
        return self.name or self.network


STAGES: tuple[Stage, ...] = (
    Stage("landmarks", 1500, options=_STUDENT, recipe="landmarks"),
    Stage("segmentation", 700, options=_STUDENT, recipe="segmentation"),
    Stage("motion-net-10u+20l", 2200),
    Stage("motion-spade-10u+20l", 1100, "motion-net-10u+20l", _OF_RELATIVE),
    Stage("motion-net-20l", 850, "motion-net-10u+20l", _OF_RELATIVE),
    Stage("fomm", 1600),
    Stage("frontalizer-sup+unsup", 1000, "motion-net-10u+20l", _OF_RELATIVE),
    Stage("frontalizer-unsup", 400, "frontalizer-sup+unsup", _OF_RELATIVE),
    Stage("frontalizer-sup", 400, "frontalizer-sup+unsup", _OF_RELATIVE),
    Stage("frontalizer-expr", 400, "frontalizer-sup+unsup", _OF_RELATIVE),
    Stage("motion-spade-20l", 400, "motion-spade-10u+20l", _OF_RELATIVE),
    Stage("motion-net-10u", 400, "motion-net-10u+20l", _OF_RELATIVE),
    Stage("motion-spade-10u", 400, "motion-spade-10u+20l", _OF_RELATIVE),
    Stage("motion-net-68l", 400, "motion-net-20l", _OF_RELATIVE),
    # Lu and Zheng: the detector learns from FOMM's, then all of it together, then blocks go, each time likewise
    Stage("ultralight", 1500, options=_DETECTOR, name="ultralight-detector", last=False),
    Stage("ultralight", 800, "ultralight-detector", {"teacher": "fomm"}),
    Stage("ultralight-6", 850, "ultralight", _DETECTOR, name="ultralight-6-detector", last=False),
    Stage("ultralight-6", 1950, "ultralight-6-detector", {"teacher": "fomm", **_OF_RELATIVE}),
    Stage("ultralight-5", 850, "ultralight-6", _DETECTOR, name="ultralight-5-detector", last=False),
    Stage("ultralight-5", 1950, "ultralight-5-detector", {"teacher": "fomm", **_OF_RELATIVE}),
    Stage("nth", 2000),
    Stage("bilayer", 1500),
    Stage("segface-64", 2200),
    Stage("segface-48", 500, "segface-64", _OF_RELATIVE),
)
"""In the order in which they are trained; steps of two processes together.

What ships has these steps or up to 100 fewer, but for `frontalizer-sup+unsup` and `-unsup`, which learned to move pictures
directly after 1,000 and 400 steps of another way, and `ultralight`, which had 1,900 steps of all of it with another detector
before its own was trained, and 500 behind that. `ultralight-6` and `-5` had 400 and 300 steps, then 450 and 1,650 more.
`fomm`, `motion-net-20l`, `motion-net-10u+20l` and `motion-spade-10u+20l` had
their last 400 with the weight of mouth and eyes, those before without. Model cards say how.
"""

FEATURE_WEIGHT = 0.3
"""Chosen: what mouth and eyes weigh in every network of the family."""


def train_family(
    cache: Path,
    out: Path,
    weights: Path,
    tables: Sequence[Path],
    processes: int,
    minutes: float,
    only: Sequence[str] = (),
    said: tuple[str, str] = ("", ""),
) -> list[str]:
    """Trains what `weights` does not hold yet; returns the networks that `minutes` were too short for.

    tables: clips for the statistics of the published coders, none where nobody needs them.
    only:   networks to be trained, all if empty; what they begin from must be there.
    said:   data and machine, for the model cards.
    Raises InputError for an unknown network, HdacError where a run fails; runs that are done stay done.
    """
    unknown = set(only) - {stage.network for stage in STAGES}
    if unknown:
        raise InputError(f"unknown networks {', '.join(sorted(unknown))}; known: {', '.join(_networks())}")
    weights.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * minutes
    environment = {**os.environ, "HDAC_WEIGHTS": str(weights.resolve())}  # its own students and teachers before shipped ones
    for stage in STAGES:
        file = weights / f"{stage.network}.safetensors"
        if file.exists() or only and stage.network not in only:
            continue
        if not finished(out / stage.title, stage):
            left = (ends - time.monotonic()) / 60
            if left <= 0:
                break
            print(f"{stage.title}: {stage.steps} steps", flush=True)
            _call(run_command(stage, cache, out, weights, processes, left), environment)
            if not finished(out / stage.title, stage):
                break
        if not stage.last:
            continue
        made = out / stage.title / file.name
        exporting = ["export", str(out / stage.title), "--out", str(made), "-f"]
        exporting += ["--data", card_text(stage, said[0]), "--machine", said[1]]
        _call([*_TRAIN, *exporting], environment)
        if tables and has_tables(stage.network):
            _call([*_TRAIN, "tables", str(made), *map(str, tables), "--frames", "50"], environment)
        shutil.copyfile(made.with_suffix(".json"), file.with_suffix(".json"))
        os.replace(made, file)  # last: what is there is whole
    return [name for name in _networks() if not (weights / f"{name}.safetensors").exists() and (not only or name in only)]


def run_command(stage: Stage, cache: Path, out: Path, weights: Path, processes: int, minutes: float) -> list[str]:
    """The command line of a stage's run."""
    options: dict[str, Any] = {"size": stage.network, "steps": stage.steps, "batch": 4, **stage.options}
    if stage.recipe == "animation" and not options.get("only_detector"):
        options["feature_weight"] = FEATURE_WEIGHT
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "hdac.training", "run", str(cache), "--out", str(out / stage.title), "--recipe", stage.recipe]
    command += ["--threads", "1", "--minutes", f"{minutes:.1f}", "--every", "300"]
    if stage.begin:
        exported = weights / f"{stage.begin}.safetensors"
        command += ["--start-from", str(exported if exported.exists() else out / stage.begin / "last.pt")]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        command += [option] if value is True else [option, str(value)]
    return command


def card_text(stage: Stage, data: str) -> str:
    """What a model card says of the data: where the weights began is part of it."""
    begun = f"begun from the weights {stage.begin}" if stage.begin else ""
    return "; ".join(text for text in (data, begun) if text)


def finished(run: Path, stage: Stage) -> bool:
    """Whether a run has taken all of its steps."""
    import torch

    path = run / "last.pt"
    return path.exists() and torch.load(path, map_location="cpu", weights_only=True)["step"] >= stage.steps


def has_tables(network: str) -> bool:
    """Whether there are published coders for what a network is sent."""
    settings = sizes()[network]
    return isinstance(settings, (AnimationSettings, SynthesisSettings)) and not settings.map_side


def _networks() -> list[str]:
    return list(dict.fromkeys(stage.network for stage in STAGES))


def _call(command: list[str], environment: dict[str, str]) -> None:
    status = subprocess.run(command, env=environment, check=False).returncode
    if status:
        raise HdacError(f"{' '.join(command[1:])} ended with status {status}")
