"""The sample is deterministic, has the promised format, and its stated motion is the motion of its pictures."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from data.errors import InputError
from data.io import read_clip
from data.sample import (
    BACKGROUND,
    EYE,
    HAND,
    POINTS,
    SCENARIOS,
    SIZE,
    SKIN,
    TEETH,
    TORSO,
    Camera,
    Pose,
    Sample,
    make_sample,
)
from data.sample.__main__ import main
from data.sample.motion import poses
from data.sample.portrait import portrait
from data.sample.render import Stage

REST = Pose(
    shot=0, yaw=0, pitch=0, roll=0, shift=(0, 0), zoom=1, torso=(0, 0, 0), blink=0, gap=5.4, pucker=0, brow=0,
    gaze=(0, 0), background=(0, 0), flag=(0, 0), hand=None,
)  # fmt: skip
TURNED = Pose(
    shot=0, yaw=13, pitch=-6, roll=6, shift=(8, -4), zoom=1.04, torso=(4, 2, 1), blink=0.4, gap=11, pucker=0.2, brow=1,
    gaze=(1, 0.3), background=(7, 2), flag=(3.5, 1.0), hand=(268, 230, -15, 1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def still() -> Sample:
    return make_sample("talk-still", 3)


@pytest.fixture(scope="module")
def motion() -> Sample:
    return make_sample("talk-motion", 40)


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def warped(frame: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float64]:
    y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]]
    at = (y + flow[..., 1], x + flow[..., 0])
    return np.asarray(map_coordinates(frame.astype(float), at, order=3, mode="nearest"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_75_to_150_frames_and_one_pose_for_each(name: str) -> None:
    assert 75 <= SCENARIOS[name].n_frames <= 150
    assert len(poses(SCENARIOS[name])) == SCENARIOS[name].n_frames


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_256x256_at_25_fps_with_finite_truth(name: str) -> None:
    sample = make_sample(name, 2)
    clip, truth = sample.clip, sample.truth
    assert (clip.n_frames, clip.height, clip.width, clip.fps, clip.name) == (2, 256, 256, Fraction(25), name)
    assert truth.points.shape == (2, len(POINTS), 2) and truth.visible.shape == (2, len(POINTS))
    assert np.isfinite(truth.points).all() and truth.visible.all()


def test_two_processes_make_the_same_samples() -> None:
    code = "from data.sample import make_sample; print(make_sample('noise-background', 3).clip.sha256())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert make_sample("noise-background", 3).clip.sha256() == other


@pytest.mark.parametrize(
    ("name", "expected"),  # of frame 1: mean and standard deviation of Y, standard deviation of V
    [
        ("talk-still", (142.612, 58.215, 13.522)),
        ("talk-motion", (142.652, 58.361, 13.465)),
        ("occluder", (142.361, 58.511, 13.520)),
        ("scene-cut", (142.480, 58.423, 13.632)),
        ("noise-background", (132.090, 58.827, 17.199)),
    ],
)
def test_pictures_have_not_changed(name: str, expected: tuple[float, float, float]) -> None:
    clip = make_sample(name, 2).clip
    got = (clip.y[1].mean(), clip.y[1].std(), clip.v[1].astype(float).std())
    assert got == pytest.approx(expected, abs=0.01)


def test_beginning_of_a_scenario_is_the_start_of_the_whole(motion: Sample) -> None:
    assert make_sample("talk-motion", 2).clip.equals(motion.clip[:2])


@pytest.mark.parametrize("label", [BACKGROUND, TORSO, SKIN, EYE, TEETH, HAND])
def test_projection_inverts_tracing(label: int) -> None:
    stage = Stage(TURNED, Camera((196.0, 150.0), 320 / 256), SIZE)
    traced = stage.trace()
    here = traced.label == label
    assert here.any()
    y, x = np.nonzero(here)
    off = np.hypot(*(stage.project(label, traced.material[here]) - np.stack((x, y), -1)).T)
    assert np.quantile(off, 0.999) < 0.02


def test_at_rest_the_portrait_is_the_photograph() -> None:
    from skimage.data import astronaut

    # whole-pixel framing; the photograph begins at row 10 of it, the torso's unseen part ends it
    picture = Stage(REST, Camera((225.5, 117.5), 1.0), SIZE).trace().picture
    assert psnr(picture[10:].astype(float), astronaut()[: SIZE - 10, 98 : 98 + SIZE].astype(float)) > 34


def test_true_flow_predicts_frames(motion: Sample) -> None:
    y = motion.clip.y
    for t in (20, 39):
        flow, visible = motion.truth.flow(t)
        assert visible.mean() > 0.95
        predicted = psnr(warped(y[0], flow)[visible], y[t][visible].astype(float))
        static = psnr(y[0][visible].astype(float), y[t][visible].astype(float))
        assert predicted > 36 and predicted > static + 10


def test_flow_to_the_same_frame_is_zero_and_all_but_the_cavity_visible(motion: Sample) -> None:
    flow, visible = motion.truth.flow(30, 30)
    assert np.quantile(np.abs(flow), 0.999) < 0.02
    assert visible.mean() > 0.995


def test_tracked_points_agree_with_the_flow(motion: Sample) -> None:
    truth, t = motion.truth, 39
    flow, visible = truth.flow(t)
    labels = truth.traced(t).label
    off, moved = [], []
    for k in range(len(POINTS)):
        x, y = np.rint(truth.points[t, k]).astype(int)
        if visible[y, x] and labels[y, x] == SKIN:
            off.append(np.hypot(*(truth.points[t, k] + flow[y, x] - truth.points[0, k])))
            moved.append(np.hypot(*(truth.points[t, k] - truth.points[0, k])))
    assert len(off) >= 20
    assert max(moved) > 3 and max(off) < 0.3


def test_the_hand_covers_points_of_the_face() -> None:
    truth = make_sample("occluder", 40).truth
    names = list(POINTS)
    assert truth.visible[0].all()
    assert not truth.visible[-1, names.index("lower lip bottom")]
    assert truth.visible[-1, names.index("forehead")]
    flow, visible = truth.flow(39)
    hand = truth.traced(39).label == HAND
    assert hand.mean() > 0.08 and not visible[hand].any()  # frame 0 has no hand


def test_nothing_is_visible_across_the_cut() -> None:
    what = SCENARIOS["scene-cut"]
    sample = make_sample("scene-cut", 52)
    y = sample.clip.y.astype(float)
    cut = what.shots[1].first_frame
    change = np.abs(np.diff(y, axis=0)).mean(axis=(1, 2))
    assert change.argmax() == cut - 1 and change[cut - 1] > 5 * np.delete(change, cut - 1).max()
    flow, visible = sample.truth.flow(cut)
    assert not visible.any() and not flow.any()
    assert sample.truth.flow(cut + 1, cut)[1].mean() > 0.9


def test_noise_has_the_stated_strength() -> None:
    sample = make_sample("noise-background", 1)
    noise = sample.clip.rgb()[0].astype(float) - sample.truth.traced(0).picture
    luma = noise @ np.array((0.299, 0.587, 0.114))  # chroma noise is halved by 4:2:0
    # rounding apart, at most levels * sqrt(sum of squared weights), half of it in black
    full = SCENARIOS["noise-background"].noise_levels * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert 0.5 * full < luma.std() < 1.1 * full


def test_eyes_close_and_mouth_opens_in_the_picture() -> None:
    camera = Camera()

    def face(**changes: float) -> NDArray[np.float32]:
        return Stage(Pose(**{**REST.__dict__, **changes}), camera, SIZE).trace().picture

    def patch(picture: NDArray[np.float32], point: tuple[float, float]) -> float:
        x, y = np.rint(Stage(REST, camera, SIZE).project(TORSO, np.array(point))).astype(int)
        return float(picture[y - 1 : y + 2, x - 1 : x + 2].mean())

    iris, below_teeth = (203, 101), (222, 153)
    assert patch(face(blink=1.0), iris) > patch(face(), iris) + 40  # skin instead of a dark iris
    assert patch(face(gap=14.0), below_teeth) < patch(face(), below_teeth) - 60  # the dark instead of the lower lip


def test_blinks_syllables_and_closed_lips_occur_in_every_scenario() -> None:
    for what in SCENARIOS.values():
        track = poses(what)
        blink, mouth = np.array([p.blink for p in track]), np.array([p.mouth_openness for p in track])
        assert blink.min() == 0 and blink.max() > 0.95
        assert mouth.min() < 0.1 and mouth.max() > 0.6
        assert np.abs(np.diff(mouth)).max() < 0.6  # 25 fps follows the lips


def test_layers_reach_beyond_every_frame_edge() -> None:
    for what in SCENARIOS.values():
        for pose in poses(what)[::10]:
            shot = what.shots[pose.shot]
            stage = Stage(pose, shot.camera, SIZE)
            corners = np.array([(0.0, 0.0), (255.0, 0.0), (0.0, 255.0), (255.0, 255.0)])
            world = np.stack(stage.to_world(corners[:, 0], corners[:, 1]), -1)
            texture = portrait().background
            low = np.array(texture.origin) + 15
            high = np.array(texture.origin) + np.array(texture.rgba.shape[1::-1]) / 2 - 15
            assert (world >= low).all() and (world <= high).all()


def test_command_writes_lossless_clips_and_keeps_files_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], still: Sample
) -> None:
    monkeypatch.setattr("data.sample.__main__.make_sample", lambda name: still)
    out = tmp_path / "clips"
    assert main(["--out", str(out), "--scenario", "talk-still"]) == 0
    assert read_clip(out / "talk-still.y4m").equals(still.clip)
    assert main(["--out", str(out), "--scenario", "talk-still"]) == 1
    assert "talk-still.y4m" in capsys.readouterr().err


def test_unknown_scenarios_and_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="'talk-loud' is not one of"):
        make_sample("talk-loud")
    with pytest.raises(InputError, match="asked for 101"):
        make_sample("talk-still", 101)
