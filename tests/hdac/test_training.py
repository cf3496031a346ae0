"""Training: the cache is what the codec makes, every term of the loss has its weight, a step works from the command line, a
killed run goes on exactly, processes agree."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.conventional import X265
from data.errors import InputError, WeightsUnavailable
from data.io import read_clip, write_clip
from hdac import network, weights
from hdac.codecs.hdac import Hdac
from hdac.landmarks import FRONTAL
from hdac.nets import animation, hybrid, landmarks, residual, segmentation, synthesis, vid2vid
from hdac.nets.backbones import VGG19_CHANNELS, DistilledVgg, PerceptualMsvgg, load_distilled_vgg, load_msvgg, vgg_features
from hdac.nets.fusion import FUSIONS
from hdac.nets.hybrid import PAPER, Window
from hdac.nets.keypoints import DetectorSettings
from hdac.nets.layers import coordinate_grid
from hdac.nets.motion import MotionSettings
from hdac.nets.picture import pack
from hdac.training import batches, cache, objectives, teachers, train
from hdac.training.__main__ import main
from hdac.training.losses import flow_error
from hdac.training.objectives import AnimationObjective, HybridObjective, Vid2VidObjective
from hdac.training.plot import curves, read_log
from hdac.training.settings import RECIPES, TrainSettings
from hdac.training.train import Run
from rd.metrics import perceptual
from tests.clips import moving_clip
from tests.hdac.nets import (
    TINY,
    TINY_ANIMATIONS,
    TINY_FACE,
    TINY_LANDMARKS,
    TINY_RESIDUAL,
    TINY_SEGMENTATION,
    TINY_SYNTHESES,
    TINY_TRACKED,
    save_tiny,
    tiny_animation,
)
from tests.paths import METRIC_WEIGHTS, TRAIN_CLIPS, needs_shared

TINY_PAPER = replace(
    PAPER,
    name="tiny-paper",
    detector=DetectorSettings(4, True, 4, 16, 2),
    motion=MotionSettings(4, 16, 2),
    widths=(8, 8, 8),
    n_blocks=1,
)


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
    monkeypatch.setitem(hybrid.SIZES, "tiny-paper", TINY_PAPER)
    monkeypatch.setitem(vid2vid.SIZES, "tiny-face", TINY_FACE)
    monkeypatch.setitem(vid2vid.SIZES, "tiny-tracked", TINY_TRACKED)
    monkeypatch.setitem(residual.SIZES, "tiny-residual", TINY_RESIDUAL)
    monkeypatch.setitem(landmarks.SIZES, "tiny-landmarks", TINY_LANDMARKS)
    monkeypatch.setitem(segmentation.SIZES, "tiny-segmentation", TINY_SEGMENTATION)
    for drawing in TINY_SYNTHESES.values():
        monkeypatch.setitem(synthesis.SIZES, drawing.name, drawing)
    for name, settings in TINY_ANIMATIONS.items():
        monkeypatch.setitem(animation.SIZES, f"tiny-{name}", replace(settings, name=f"tiny-{name}"))


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights of judging networks are looked for: empty."""
    folder = tmp_path / "metric-weights"
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(folder))
    monkeypatch.setenv("HDAC_CACHE", str(folder))
    monkeypatch.delenv("HDAC_DOWNLOAD", raising=False)
    (folder / "vgg19_normalised").mkdir(parents=True)
    return folder


def save_distilled(folder: Path) -> None:
    """A distilled VGG19 of random numbers."""
    torch.manual_seed(0)
    torch.save(DistilledVgg().state_dict(), folder / "vgg19_normalised" / "vgg19n_distilled16x_to_relu5_1.pth")


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


def test_separate_references_are_those_of_bpg_only(prepared: Path) -> None:
    clip = cache.load(prepared)[0]
    separate = clip.separate()
    assert len(separate.bases) == 1 and separate.variants == clip.variants[-1:]
    assert np.array_equal(separate.intras[0], clip.intras[-1])
    assert separate.variants[0]["reference_qp"] == separate.variants[0]["bpg_qp"]
    with pytest.raises(InputError, match="anna_1"):
        replace(clip, variants=clip.variants[:1]).separate()


# -- the loss --------------------------------------------------------------------------------------------------------


def loss_of(settings: TrainSettings, clips: list[cache.CachedClip]) -> tuple[float, dict[str, float], nn.Module]:
    """(loss, terms, network with its gradients) of the same network, batch and choices whatever the settings."""
    torch.manual_seed(1)
    net = hybrid.HybridNet(settings.net)
    nn.init.normal_(net.last.weight, std=0.02)
    batch = batches.draw(clips, np.random.default_rng(1), settings.batch)
    loss, terms, *_ = HybridObjective(net, settings)(batch, torch.Generator().manual_seed(1))
    loss.backward()
    return float(loss.detach()), {name: float(value.detach()) for name, value in terms.items()}, net


def face_loss_of(settings: TrainSettings, clips: list[cache.CachedClip]) -> tuple[float, dict[str, float]]:
    torch.manual_seed(1)
    net = vid2vid.Vid2VidNet(settings.net)
    nn.init.normal_(net.estimator.deformation.weight, std=0.1)
    drawn = batches.draw(clips, np.random.default_rng(1), settings.batch, batches.Wants("source"))
    batch = replace(drawn, pose=torch.full((2, 3), 0.1))
    loss, terms, *_ = Vid2VidObjective(net, settings)(batch, torch.Generator().manual_seed(1))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    return float(loss.detach()), {name: float(value.detach()) for name, value in terms.items()}


@pytest.mark.parametrize("term", ["psnr", "warp", "equivariance", "prior", "pose", "flow", "deformation"])
def test_every_term_of_face_vid2vid_counts_as_much_as_its_weight_says(term: str, prepared: Path) -> None:
    clips = cache.load(prepared)
    settings = TrainSettings(size="tiny-tracked", batch=2, perceptual="")
    with_it, terms = face_loss_of(replace(settings, **{f"{term}_weight": 7.0}), clips)  # type: ignore[arg-type]
    without, _ = face_loss_of(replace(settings, **{f"{term}_weight": 0.0}), clips)  # type: ignore[arg-type]
    assert with_it - without == pytest.approx(7 * terms[term], rel=1e-3) and terms[term] != 0


def test_a_run_for_the_pose_alone_changes_the_estimator_alone(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(size="tiny-tracked", batch=2, perceptual="", only_pose=True, steps=2)
    run = Run(settings, tmp_path / "run")
    before = {name: value.clone() for name, value in run.net.named_parameters()}
    batch = replace(batches.draw(cache.load(prepared), run.rng, 2, batches.Wants()), pose=torch.full((2, 3), 0.1))
    assert run.objective.wants == batches.Wants() and run.advance(run.objective, batch).keys() == {"pose"}
    changed = {name for name, value in run.net.named_parameters() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("estimator.") for name in changed)
    with pytest.raises(InputError, match="no head pose"):
        replace(settings, size="tiny")


def test_motion_is_compared_with_flow_where_the_flow_is_right() -> None:
    picture = pack(torch.rand(1, 96 * 96 * 3 // 2, generator=torch.Generator().manual_seed(1)), 96, 96)
    right, wrong = picture.clone(), picture.clone()
    wrong[..., :24] = 1 - wrong[..., :24]  # the left half of the picture is another one
    flow, grid = torch.zeros(1, 48, 48, 2), coordinate_grid(24, 24, picture)[None]
    moved = grid + torch.tensor([0.1, -0.2])
    assert flow_error(grid, flow, picture, right) == pytest.approx(0, abs=1e-6)
    assert flow_error(moved, flow, picture, right) == pytest.approx(0.3, rel=1e-4)
    assert 0.15 < flow_error(moved, flow, picture, wrong) < 0.2


@pytest.mark.parametrize(
    ("size", "column", "kind"),
    [
        ("tiny-face", "vid2vid_psnr_y", vid2vid.Vid2VidNet),
        ("tiny-residual", "vid2vid_residual_psnr_y", residual.ResidualNet),
        ("tiny-landmarks", "train_fine", landmarks.LandmarkNet),
        ("tiny-fomm", "animated_psnr_y", animation.AnimationNet),
        ("tiny-spade", "animated_psnr_y", animation.AnimationNet),
        ("tiny-frontal", "animated_psnr_y", animation.AnimationNet),
        ("tiny-direct", "animated_psnr_y", animation.AnimationNet),
        ("tiny-nth", "animated_psnr_y", synthesis.SynthesisNet),
        ("tiny-bilayer", "animated_psnr_y", synthesis.SynthesisNet),
        ("tiny-segface", "animated_psnr_y", synthesis.SynthesisNet),
        ("tiny-segmentation", "wrong_labels", segmentation.SegmentationNet),
    ],
)
def test_other_networks_are_trained_resumed_and_exported_by_the_same_script(
    size: str, column: str, kind: type[nn.Module], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path)
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(objectives, "MAKER", "tiny")
    monkeypatch.setattr(objectives, "FACE_MAKER", "tiny-tracked")
    monkeypatch.setattr(objectives, "STUDENT", "tiny-landmarks")
    monkeypatch.setattr(objectives, "SEGMENTER", "tiny-segmentation")
    command = ["run", str(prepared), "--out", str(tmp_path / "run"), *TEST, "--size", size]
    assert main([*command, "--steps", "4", "--every", "2"]) == 0
    assert main([*command, "--every", "2"]) == 0  # all steps are taken
    log = read_log(tmp_path / "run")
    assert log["step"].tolist() == [2, 4] and np.isfinite(log[column]).all()
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "mine.safetensors")]) == 0
    net = network.by_name("mine", kind).net
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["ema"]
    assert all(torch.allclose(value, state[name].float(), 1e-3, 1e-3) for name, value in net.named_parameters())
    with pytest.raises(InputError, match="not of a HybridNet"):
        network.by_name("mine", hybrid.HybridNet)


def test_mirrored_pictures_have_mirrored_poses(prepared: Path) -> None:
    clips = [replace(clip, poses=np.tile(np.float32([10, 20, 30]), (len(clip.source), 1))) for clip in cache.load(prepared)]
    batch = batches.draw(clips, np.random.default_rng(0), 16, batches.Wants())
    degrees = {tuple(row) for row in np.degrees(batch.pose.numpy()).round().astype(int).tolist()}
    assert degrees == {(10, 20, 30), (-10, 20, -30)}
    assert batches.draw(cache.load(prepared), np.random.default_rng(0), 2).pose.isnan().all()


def test_mirrored_pictures_have_mirrored_landmarks_and_other_frames(prepared: Path) -> None:
    labels = np.zeros((1, 68, 2), np.float32)
    labels[0, 36], labels[0, 45] = (-0.3, -0.2), (0.35, -0.1)
    clips = [replace(clip, landmarks=labels.repeat(len(clip.source), 0)) for clip in cache.load(prepared)]
    batch = batches.draw(clips, np.random.default_rng(0), 16, batches.Wants("", n_others=2))
    corners = {tuple(row) for row in (100 * batch.landmarks[:, 36]).round().int().tolist()}
    assert corners == {(-30, -20), (-35, -10)}
    assert batch.others.shape == (16, 2, 6, 128, 128)
    mirrored = (batch.landmarks[:, 36, 0] < -0.32).tolist()
    first, last = (pack(torch.from_numpy(np.array(clips[0].source[i]))[None], 256, 256)[0] for i in (0, -1))
    for others, flipped in zip(batch.others, mirrored, strict=True):
        whole = others.flip(-1)[:, [1, 0, 3, 2, 4, 5]] if flipped else others
        if torch.equal(whole[0], first):
            assert torch.equal(whole[1], last)
            break
    else:
        raise AssertionError("none of 16 pictures is of the first clip")
    turned = replace(clips[0], poses=np.float32([[0, 0, 0], [30, 0, 0], [-20, 0, 0]]))
    assert turned.yaw_range == 50 and turned.outermost(3) == [2, 1, 0] and clips[0].yaw_range == 0


def test_further_references_are_coded_as_the_first_one_is(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prepared, tmp_path / "cache")
    assert main(["turned", str(tmp_path / "cache")]) == 1 and "no head poses" in capsys.readouterr().err
    for clip in cache.load(prepared):
        yaw = np.linspace(-20, 20, len(clip.source), dtype=np.float32)[::-1]
        np.save(tmp_path / "cache" / clip.name / "poses.npy", np.stack((yaw, 0 * yaw, 0 * yaw), axis=1))
    assert main(["turned", str(tmp_path / "cache")]) == 0
    clips = cache.load(tmp_path / "cache")
    plain, clip = [replace(one, turned=None) for one in clips], clips[0]
    assert clip.targets(near=True) == [0, len(clip.source) - 1] and clip.targets(near=False) == [1]
    assert clip.turned is not None and clip.turned.shape == (len(clip.variants), cache.N_TURNED, 256 * 256 * 3 // 2)
    errors = [
        float(np.mean((clip.others(1, v, -1)[0].astype(float) - plain[0].others(1, v, -1)[0]) ** 2))
        for v in np.argsort([variant["reference_qp"] for variant in clip.variants])
    ]
    assert errors == sorted(errors) and 0 < errors[0] < errors[-1]
    for target in clip.outermost(3):
        wanted = [t for t in clip.outermost(3) if t != target][:2]
        sources = [clip.source[t].astype(float) for t in range(len(clip.source))]
        nearest = [int(np.argmin([np.abs(one - source).mean() for source in sources])) for one in clip.others(2, 0, target)]
        assert nearest == wanted
    assert batches.draw(clips, np.random.default_rng(0), 3, batches.Wants("", n_others=2)).others.shape == (3, 2, 6, 128, 128)
    assert clip.separate().turned.shape[0] == len(clip.separate().variants)  # type: ignore[union-attr]


def test_a_run_that_begins_with_other_weights_has_no_statistics_of_their_motion(tmp_path: Path) -> None:
    before = tiny_animation(animation.SIZES["motion-net-10u"])
    assert int(before.huffman.sum()) > 0
    network.save(before, tmp_path / "before.safetensors", {})
    settings = TrainSettings(size="motion-net-10u", perceptual="")
    begun = Run(settings, tmp_path / "run", tmp_path / "before.safetensors")
    assert isinstance(begun.net, animation.AnimationNet)
    assert torch.equal(begun.net.last.weight, before.last.weight.half().float())
    assert int(begun.net.huffman.sum()) == int(begun.net.prior.sum()) == 0


def test_mouth_and_eyes_are_compared_where_the_window_shows_them() -> None:
    settings = TrainSettings(size="motion-net-20l", perceptual="", feature_weight=0.5, window=128)
    objective = AnimationObjective.__new__(AnimationObjective)
    torch.nn.Module.__init__(objective)
    objective.settings, objective.judge = settings, []
    source = torch.rand(3, 6, 128, 128)
    landmarks = torch.tensor(FRONTAL).repeat(3, 1, 1) * 0.3
    landmarks[1] = float("nan")
    landmarks[2, :, 0] += 0.8  # out of the window
    blank = torch.zeros(3)
    batch = batches.Batch(source, source, source, blank, blank, source, blank, landmarks, source[:, None], blank)
    window, look = Window(32, 32, 64), torch.zeros(3, dtype=torch.bool)
    picture = window.of(source, 128).clone()

    def loss(shown: torch.Tensor) -> float:
        return float(objective.features(shown, window, batch, look, {}))

    points = ((landmarks[0, 36:] + 1) * 63.5 - 32).round().long()  # packed samples of the window
    left, top = points.amin(0).tolist()
    right, bottom = points.amax(0).tolist()
    assert 0 < left < right < 64 and 0 < top < bottom < 64
    elsewhere, there = picture.clone(), picture.clone()
    assert top > 16
    elsewhere[0, :, : top - 16] += 0.3
    elsewhere[1:] += 0.3
    there[0, :, top:bottom, left:right] += 0.3
    assert loss(picture) == pytest.approx(loss(elsewhere)) and loss(there) > loss(picture) + 5
    batch = replace(batch, landmarks=torch.full_like(landmarks, float("nan")))
    assert loss(there) == 0


def test_the_landmark_student_learns_where_points_are(prepared: Path, tmp_path: Path) -> None:
    """Always at the same place of the picture: what it must learn is where its squares lie."""
    face = np.tile(np.array(FRONTAL, np.float32), (3, 1, 1))
    clips = [replace(clip, landmarks=face[: len(clip.source)]) for clip in cache.load(prepared)]
    settings = TrainSettings(size="tiny-landmarks", batch=8, perceptual="", steps=60, warmup=1, learning_rate=1e-2, window=32)
    run = Run(settings, tmp_path / "run")
    terms = [run.advance(run.objective, batches.draw(clips, run.rng, 8, batches.Wants())) for _ in range(60)]
    for name in ("coarse", "fine"):
        began, ended = (np.mean([one[name] for one in part]) for part in (terms[:6], terms[-6:]))
        assert ended < 0.9 * began
    errors = run.objective.errors(run.ema, batches.collect([(clips[0], 0, 0), (clips[1], 0, 1)], batches.Wants()))
    assert errors["nme"].shape == (2,) and (errors["nme"] < 2).all()


@pytest.mark.parametrize("term", ["psnr", "warp", "equivariance", "jacobian", "flow", "tracking", "distill"])
def test_every_term_of_the_mobile_family_counts_as_much_as_its_weight_says(
    term: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path, seed=2)
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    drawn = batches.draw(cache.load(prepared), np.random.default_rng(1), 2, batches.Wants("source"))
    losses = []
    for weight in (0.0, 7.0):
        settings = TrainSettings(size="tiny-fomm", batch=2, perceptual="", teacher="tiny-fomm", **{f"{term}_weight": weight})  # type: ignore[arg-type]
        objective = AnimationObjective(tiny_animation(settings.net), settings)  # type: ignore[arg-type]
        loss, terms, *_ = objective(drawn, torch.Generator().manual_seed(1))
        losses.append(float(loss.detach()))
    assert losses[1] - losses[0] == pytest.approx(7 * float(terms[term].detach()), rel=1e-3) and terms[term] != 0


def test_a_detector_is_distilled_alone(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path, seed=2)
    monkeypatch.setenv("HDAC_WEIGHTS", str(tmp_path))
    settings = TrainSettings(size="tiny-light", batch=2, perceptual="", teacher="tiny-fomm", only_detector=True, steps=2)
    run = Run(settings, tmp_path / "run")
    before = {name: value.clone() for name, value in run.net.named_parameters()}
    batch = batches.draw(cache.load(prepared), run.rng, 2, run.objective.wants)
    assert run.advance(run.objective, batch).keys() == {"equivariance", "jacobian", "distill"}
    changed = {name for name, value in run.net.named_parameters() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("detector.") for name in changed)
    with pytest.raises(InputError, match="no keypoint detector"):
        replace(settings, size="tiny-spade")


@needs_shared
def test_the_teacher_finds_poses_of_faces_and_none_elsewhere(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
    teacher = teachers.Poses()
    clip = read_clip(sorted(TRAIN_CLIPS.glob("*.mp4"))[0], frames=1)
    face = clip.rgb()[0]
    yaw, pitch, roll = teacher(face)
    mirrored = teacher(np.ascontiguousarray(face[:, ::-1]))
    assert abs(yaw + mirrored[0]) < 8 and abs(pitch - mirrored[1]) < 8 and abs(roll + mirrored[2]) < 8
    assert np.isnan(teacher(np.zeros_like(face))).all()
    assert all(np.isnan(row).all() for row in map(teacher, teachers._pictures(cache.load(prepared)[0])))


@pytest.mark.parametrize("term", ["l1", "mse", "ms_ssim", "psnr", "warp", "equivariance", "jacobian"])
def test_every_term_counts_as_much_as_its_weight_says(term: str, prepared: Path) -> None:
    clips = cache.load(prepared)
    settings = TrainSettings(size="tiny-paper", batch=1, perceptual="")
    with_it, terms, net = loss_of(replace(settings, **{f"{term}_weight": 7.0}), clips)  # type: ignore[arg-type]
    without, *_ = loss_of(replace(settings, **{f"{term}_weight": 0.0}), clips)  # type: ignore[arg-type]
    assert with_it - without == pytest.approx(7 * terms[term], rel=1e-3) and terms[term] != 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_no_term_but_the_chosen_ones_is_in_the_loss(prepared: Path) -> None:
    clips = cache.load(prepared)
    _, terms, _ = loss_of(TrainSettings(size="tiny", batch=1, perceptual=""), clips)
    assert terms.keys() == {"psnr", "warp", "equivariance"}  # no Jacobians here


def test_pictures_that_do_not_ask_for_look_have_no_adversarial_term(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(
        size="tiny", batch=2, perceptual="", window=96, look=0.0, adversarial_weight=1, matching_weight=10
    )
    run = Run(settings, tmp_path / "run")
    terms = run.advance(run.objective, batches.draw(cache.load(prepared), run.rng, 2))
    assert terms["adversarial"] == terms["matching"] == terms["critic"] == 0


def test_the_learning_rate_falls_as_published(tmp_path: Path) -> None:
    run = Run(replace(RECIPES["paper"], size="tiny-paper", steps=100, perceptual=""), tmp_path)
    rates = []
    for run.step in range(100):
        rates.append(run.learning_rate())
    assert rates == pytest.approx([2e-4] * 60 + [2e-5] * 30 + [2e-6] * 10)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"schedule": "sine"}, "schedule 'sine' is not one of cosine, drops, constant"),
        ({"perceptual": "vgg16"}, "'vgg16' is not one of lpips, msvgg, nothing"),
        ({"window": 100}, "window 100 is not a multiple of 8"),
        ({"window": 64, "adversarial_weight": 1.0}, "window 64 .* from 96 on"),
        ({"matching_weight": 10.0}, "matching_weight 10.0 without an adversarial_weight"),
        ({"steps": 0}, "got 6 and 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_value(settings: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        TrainSettings(**settings)  # type: ignore[arg-type]


def test_msvgg_is_vgg19_where_it_is_and_says_so_where_it_is_not(weights_folder: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="vgg19-dcbb9e9d.pth.*vgg19n_distilled16x_to_relu5_1.pth"):
        load_msvgg()
    save_distilled(weights_folder)
    assert load_msvgg().column == "msvgg_distilled"
    features = vgg_features(VGG19_CHANNELS)
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(state, weights_folder / "vgg19-dcbb9e9d.pth")
    net = load_msvgg()
    assert net.column == "msvgg" and not any(p.requires_grad for p in net.parameters())
    a, b = torch.rand(2, 1, 128, 128, 3).mul(255).byte().unbind()
    metric = perceptual._build("msvgg")
    with torch.inference_mode():
        found = net(*(picture.permute(0, 3, 1, 2).float() / 255 for picture in (a, b)))
        assert found.tolist() == pytest.approx([metric(a.numpy(), b.numpy())[0]], rel=1e-4)


@needs_shared
@pytest.mark.needs_shared
def test_distilled_msvgg_of_training_has_the_value_of_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
    net = PerceptualMsvgg(load_distilled_vgg())
    a, b = (moving_clip(1, 256, 256, seed=seed).rgb() for seed in (1, 2))
    with torch.inference_mode():
        found = net(*(perceptual.to_unit(picture) for picture in (a, b)))
        distance, _ = perceptual._build("msvgg_distilled")(a, b)
        assert found.tolist() == pytest.approx([distance], rel=1e-4)
        fewer = net(*(perceptual.to_unit(picture)[..., :128, :128] for picture in (a, b)))
    assert 0 < fewer < found  # three scales


def test_another_judge_than_before_is_refused(weights_folder: Path, tmp_path: Path, prepared: Path) -> None:
    save_distilled(weights_folder)
    settings = TrainSettings(size="tiny", perceptual="msvgg")
    Run(settings, tmp_path / "run").save()
    torch.save(vgg_features(VGG19_CHANNELS).state_dict(), weights_folder / "vgg19-dcbb9e9d.pth")
    with pytest.raises(InputError, match="trained on msvgg_distilled, .* give msvgg"):
        Run(settings, tmp_path / "run")


# -- the run ---------------------------------------------------------------------------------------------------------


def test_mirroring_packed_pictures_mirrors_the_picture() -> None:
    packed = torch.rand(2, 6, 8, 8)
    mirrored = batches._mirror(packed, torch.tensor([True, False]))
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


def test_the_paper_recipe_trains_a_small_network_of_its_kind(
    prepared: Path, tmp_path: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_distilled(weights_folder)
    validate = Run.validate
    monkeypatch.setattr(Run, "validate", lambda run, clips: validate(run, clips, n_clips=1, n_frames=1))
    out = tmp_path / "run"
    small = ["--size", "tiny-paper", "--batch", "1", "--window", "96", "--steps", "2", "--held-out", "2"]
    assert main(["run", str(prepared), "--out", str(out), "--recipe", "paper", *small]) == 0
    row = next(csv.DictReader((out / "log.csv").read_text().splitlines()))
    for term in ("msvgg_distilled", "adversarial", "matching", "critic", "equivariance", "jacobian"):
        assert np.isfinite(float(row[f"train_{term}"])) and float(row[f"train_{term}"]) > 0, term
    saved = json.loads((out / "settings.json").read_text())
    assert saved["betas"] == [0.5, 0.999] and saved["learning_rate"] == 2e-4 and saved["batch"] == 1
    assert float(row["base_msvgg_distilled"]) > 0


def test_a_fusion_of_ones_own_trains_and_codes(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(nn.Module):
        def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
            super().__init__()
            self.share = nn.Parameter(torch.zeros(channels, 1, 1))

        def forward(self, animated: Tensor, base: Tensor, condition: Tensor | None) -> Tensor:
            share = torch.sigmoid(self.share)
            return share * animated + (1 - share) * base

    monkeypatch.setitem(FUSIONS, "mean", Mean)
    out, exported = tmp_path / "run", tmp_path / "weights" / "own.safetensors"
    assert main(["run", str(prepared), "--out", str(out), "--fusion", "mean", "--steps", "1", *TEST]) == 0
    assert main(["export", str(out), "--out", str(exported)]) == 0
    monkeypatch.setenv("HDAC_WEIGHTS", str(exported.parent))
    codec = Hdac(qp=40, network="own", preset="ultrafast")
    assert codec.decode(codec.encode(moving_clip(2, 96, 96))).n_frames == 2


def test_curves_show_every_column_of_the_log(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["plot", str(out)]) == 1
    assert "log.csv" in capsys.readouterr().err
    out.mkdir()
    for step, more in ((2_000_000, {}), (3_000_000, {"base_lpips": 0.2})):
        train._log(out / "log.csv", {"step": step, "base_psnr_y": 30.0, "train_psnr": -29.0, **more})
    assert main(["plot", str(out)]) == 0
    assert "<svg" in (out / "curves.svg").read_text()
    lines = {line.get_label(): line for axis in curves(read_log(out)).axes for line in axis.get_lines()}
    assert lines.keys() == {"base_psnr_y", "train_psnr", "base_lpips"}
    assert list(lines["base_psnr_y"].get_xdata()) == [2_000_000, 3_000_000]
    assert list(lines["base_lpips"].get_xdata()) == [3_000_000]


def test_a_killed_command_goes_on_as_if_it_had_not_been_killed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is ahead of its checkpoint by then; all of it but the times is as that of a run that was left alone."""
    arguments = ["--steps", "4", *TEST, "--every", "1"]
    advance, save = Run.advance, Run.save

    class Killed(BaseException):
        pass

    def kill(run: Run, *args: object) -> dict[str, float]:
        if run.step == 3:
            raise Killed
        return advance(run, *args)  # type: ignore[arg-type]

    def run(out: Path, save_minutes: str) -> int:
        return main(["run", str(prepared), "--out", str(out), "--save-minutes", save_minutes, *arguments])

    monkeypatch.setattr(Run, "validate", lambda run, clips: {"base_psnr_y": float(run.step)})
    with monkeypatch.context() as dying:
        dying.setattr(Run, "advance", kill)
        dying.setattr(Run, "save", lambda run: save(run) if run.step <= 2 else None)
        with pytest.raises(Killed):
            run(tmp_path / "parts", "0")
    assert torch.load(tmp_path / "parts" / "last.pt", weights_only=True)["step"] == 2
    assert run(tmp_path / "parts", "0") == run(tmp_path / "whole", "1000") == 0
    parts, whole = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("parts", "whole"))
    for part in ("net", "ema"):
        assert all(torch.equal(a, b) for a, b in zip(parts[part].values(), whole[part].values(), strict=True)), part
    assert parts["rng"] == whole["rng"] and torch.equal(parts["generator"], whole["generator"])
    logs = [read_log(tmp_path / name).drop(columns="seconds") for name in ("parts", "whole")]
    assert logs[0].equals(logs[1]) and list(logs[0]["step"]) == [1, 2, 3, 4]
    before = (tmp_path / "whole" / "last.pt").read_bytes()
    assert run(tmp_path / "whole", "0") == 0  # there is nothing left to do
    assert (tmp_path / "whole" / "last.pt").read_bytes() == before


PROCESS = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from hdac.nets import hybrid
from hdac.training import batches, cache, train
from hdac.training.settings import TrainSettings
from tests.hdac.nets import TINY, TINY_FACE, TINY_TRACKED, TINY_RESIDUAL, save_tiny

torch.set_num_threads(1)
hybrid.SIZES["tiny"] = TINY
prepared, out = map(Path, sys.argv[1:])
settings = TrainSettings(size="tiny", batch=1, perceptual="", window=96, adversarial_weight=1, matching_weight=10)
clips = cache.load(prepared)

def steps(run, n):
    parallel = torch.nn.parallel.DistributedDataParallel(run.objective, find_unused_parameters=True)
    for _ in range(n):
        run.advance(parallel, batches.draw(clips, run.rng, 1))

run = train.Run(settings, out)
steps(run, 1)
run.save()
dist.barrier()
steps(run, 1)
resumed = train.Run(settings, out)
assert resumed.step == 1
steps(resumed, 1)
for name, state in (("whole", run), ("resumed", resumed)):
    kept = {**dict(state.net.named_parameters()), **state.critic.state_dict(), "random": state.generator.get_state()}
    torch.save(kept, out / f"{name}{run.rank}.pt")
"""


@pytest.mark.slow
def test_processes_have_one_network_and_one_critic_and_resume_exactly(prepared: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, prepared, tmp_path], env={**shared, "RANK": str(rank)})
        for rank in (0, 1)
    ]
    try:
        assert [process.wait(300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    found = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*[01].pt")}
    for rank in "01":
        assert all(torch.equal(value, found[f"resumed{rank}"][name]) for name, value in found[f"whole{rank}"].items())
    random = [found[f"whole{rank}"].pop("random") for rank in "01"]
    assert not torch.equal(*random)
    assert all(torch.equal(value, found["whole1"][name]) for name, value in found["whole0"].items())


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(prepared: Path, tmp_path: Path) -> None:
    settings = TrainSettings(size="tiny", batch=2, perceptual="", held_out=2, warmup=1, steps=50)
    clips, _ = cache.split(cache.load(prepared), 2)

    def states(run: Run, steps: int) -> list[torch.Tensor]:
        for _ in range(steps):
            run.advance(run.objective, batches.draw(clips, run.rng, settings.batch))
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
        batch = batches.draw(clips, run.rng, settings.batch)
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
    terms = run.advance(run.objective, batches.draw(cache.load(prepared), run.rng, 2))
    assert {"adversarial", "matching", "critic"} <= terms.keys() and all(np.isfinite(value) for value in terms.values())


def test_an_empty_cache_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "hdac train prepare" in capsys.readouterr().err
