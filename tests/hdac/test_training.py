"""Training: the cache is what the codec makes, a step works from the command line, a killed run goes on exactly."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.conventional import X265
from data.errors import InputError
from data.io import read_clip, write_clip
from hdac import weights
from hdac.codecs.hdac import Hdac
from hdac.nets import hybrid
from hdac.training import cache, train
from hdac.training.__main__ import main
from hdac.training.train import Run, TrainSettings
from tests.clips import moving_clip
from tests.hdac.nets import TINY


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of three clips of two people."""
    folder = tmp_path_factory.mktemp("training")
    for i, name in enumerate(("anna_1", "anna_2", "bert_1")):
        write_clip(moving_clip(7, 256, 256, seed=i), folder / "clips" / f"{name}.y4m")
    assert main(["prepare", str(folder / "clips"), "--out", str(folder / "cache")]) == 0
    return folder / "cache"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hybrid.SIZES, "tiny", TINY)


TEST = ["--size", "tiny", "--batch", "2", "--perceptual", "", "--held-out", "2", "--every", "1000", "--warmup", "1"]


def test_the_cache_holds_what_the_codec_makes(prepared: Path) -> None:
    clips = cache.load(prepared)
    assert [clip.name for clip in clips] == ["anna_1", "anna_2", "bert_1"]
    assert {clip.identity for clip in clips} == {"anna", "bert"}
    source = read_clip(prepared.parent / "clips" / "anna_2.y4m")
    variant = cache.variants("anna_2")[1]
    codec = X265(qp=variant.qp, i_offset=variant.i_offset, intra_period=variant.intra_period)
    decoded = codec.decode(codec.encode(source))
    assert np.array_equal(clips[1].bases[1][2], np.frombuffer(decoded[6:7].yuv_bytes(), np.uint8))
    assert np.array_equal(clips[1].intras[1][0], np.frombuffer(decoded[:1].yuv_bytes(), np.uint8))
    assert np.array_equal(clips[1].source[1], np.frombuffer(source[3:4].yuv_bytes(), np.uint8))


def test_a_prepared_clip_is_not_coded_again(prepared: Path) -> None:
    before = (prepared / "anna_1" / "meta.json").stat().st_mtime_ns
    assert main(["prepare", str(prepared.parent / "clips"), "--out", str(prepared)]) == 0
    assert (prepared / "anna_1" / "meta.json").stat().st_mtime_ns == before


def test_people_are_split_not_clips(prepared: Path) -> None:
    training, validation = cache.split(cache.load(prepared), 2)
    assert {c.identity for c in training}.isdisjoint({c.identity for c in validation})
    assert training and validation
    with pytest.raises(InputError, match="1 identities"):
        cache.split(training, 2)


def test_identities_come_from_manifest_voxceleb_folders_or_names(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("clip,person_id\na_1.mp4,p7\n")
    assert cache.identity(tmp_path / "a_1.mp4") == "p7"
    assert cache.identity(tmp_path / "b_1.mp4") == "b"
    voxceleb = Path("vox/id00012/abc/00001.mp4")
    assert cache.identity(voxceleb) == "id00012" and cache.clip_name(voxceleb) == "id00012_abc_00001"


def test_other_sizes_are_refused_by_name(tmp_path: Path) -> None:
    write_clip(moving_clip(2, 64, 64), tmp_path / "small.y4m")
    with pytest.raises(InputError, match="small.y4m is 64x64"):
        cache.prepare_clip(tmp_path / "small.y4m", tmp_path / "cache")


def test_mirroring_packed_pictures_mirrors_the_picture() -> None:
    packed = torch.rand(2, 6, 8, 8)
    mirrored = train._mirror(packed, torch.tensor([True, False]))
    whole = torch.nn.functional.pixel_shuffle(packed[:, :4], 2)
    assert torch.equal(torch.nn.functional.pixel_shuffle(mirrored[:, :4], 2)[0], whole[0].flip(-1))
    assert torch.equal(mirrored[0, 4:], packed[0, 4:].flip(-1)) and torch.equal(mirrored[1], packed[1])


def test_a_run_from_the_command_line_leaves_weights_that_code(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", str(prepared), "--out", str(out), "--steps", "3", *TEST]) == 0
    row = next(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert float(row["step"]) == 3 and float(row["base_psnr_y"]) > 10 and (out / "pictures.png").exists()
    exported = tmp_path / "weights" / "mine.safetensors"
    assert main(["export", str(out), "--out", str(exported), "--data", "noise"]) == 0
    card = json.loads(exported.with_suffix(".json").read_text())
    assert card["steps"] == 3 and card["data"] == "noise" and card["held_out"]["base_psnr_y"] == float(row["base_psnr_y"])
    monkeypatch.setenv("HDAC_WEIGHTS", str(exported.parent))
    codec = Hdac(qp=40, network="mine", preset="ultrafast")
    stream = codec.encode(moving_clip(2, 96, 96))
    assert codec.decode(stream).n_frames == 2
    assert codec.version.split()[1] == weights.weights_id(exported).hex()
    assert main(["export", str(out), "--out", str(exported)]) == 1
    assert "exists" in capsys.readouterr().err


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(size="tiny", batch=2, perceptual="", held_out=2, warmup=1, steps=50)
    clips, _ = cache.split(cache.load(prepared), 2)

    def states(run: Run, steps: int) -> list[torch.Tensor]:
        for _ in range(steps):
            run.advance(run.objective, train.draw(clips, run.rng, settings.batch))
        return [value.clone() for value in run.net.state_dict().values()]

    whole = states(Run(settings, tmp_path / "whole"), 4)
    first = Run(settings, tmp_path / "parts")
    states(first, 2)
    first.save()
    resumed = Run(settings, tmp_path / "parts")
    assert resumed.step == 2
    for a, b in zip(whole, states(resumed, 2), strict=True):
        assert torch.equal(a, b)


def test_training_learns_to_correct(prepared: Path, tmp_path: Path) -> None:
    """A constant error of the base layer is the easiest thing to learn."""
    settings = TrainSettings(
        size="tiny", batch=2, perceptual="", held_out=2, warmup=1, steps=60, no_base=0, sent=0, learning_rate=5e-3
    )
    clips, _ = cache.split(cache.load(prepared), 2)
    run = Run(settings, tmp_path / "run")
    losses = []
    for _ in range(30):
        batch = train.draw(clips, run.rng, settings.batch)
        losses.append(run.advance(run.objective, replace(batch, base=batch.source - 0.1))["psnr"])
    assert np.mean(losses[-5:]) < losses[0] - 1, losses


def test_other_settings_need_another_folder(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", str(prepared), "--out", str(out), "--steps", "1", *TEST]) == 0
    assert main(["run", str(prepared), "--out", str(out), "--steps", "2", *TEST]) == 1
    assert "another steps" in capsys.readouterr().err


def test_adversarial_training_takes_a_step(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(size="tiny", batch=2, perceptual="", held_out=2, adversarial_weight=1, matching_weight=10)
    run = Run(settings, tmp_path / "run")
    terms = run.advance(run.objective, train.draw(cache.load(prepared), run.rng, 2))
    assert {"adversarial", "matching", "critic"} <= terms.keys() and all(np.isfinite(value) for value in terms.values())


def test_an_empty_cache_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "hdac train prepare" in capsys.readouterr().err
