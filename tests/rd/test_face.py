"""Face metrics: exact for equal clips, growing with degradation, right way round, honest where there is no face."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data as photographs

from data import pretrained
from data.clip import Clip
from data.faces import Region, YuNet, onnx_session, run_onnx
from rd.metrics import compute, face
from rd.metrics.score import MetricUnavailable, Score
from tests.paths import TRAIN_CLIPS, needs_shared

Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def astronaut() -> Pictures:
    """A smiling portrait, (512, 512, 3)."""
    return photographs.astronaut()


@pytest.fixture(scope="module")
def frames() -> Pictures:
    """The first frames of a real clip, (11, 256, 256, 3)."""
    with av.open(str(TRAIN_CLIPS / "p032_01.mp4")) as container:
        decoded = islice(container.decode(video=0), 11)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])


def clip(pictures: Pictures) -> Clip:
    return Clip.from_rgb(pictures, Fraction(25))


def blurred(pictures: Pictures, sigma: float) -> Pictures:
    return gaussian_filter(pictures, (0, sigma, sigma, 0))


def values(source: Clip, decoded: Clip) -> dict[str, float]:
    found = {}
    for column, score in face.measure(source, decoded, face.COLUMNS).items():
        assert isinstance(score, Score), score
        found[column] = score.value
    return found


@needs_shared
@pytest.mark.needs_shared
def test_equal_clips_score_exactly_nothing(shared_metric_weights: None, frames: Pictures) -> None:
    found = values(clip(frames[:1]), clip(frames[:1]))
    assert found.pop("csim") == pytest.approx(1.0, abs=1e-6)
    assert found == {"nme": 0.0, "nme_mesh": 0.0, "akd": 0.0, "pose_deg": 0.0, "expr": 0.0}


@needs_shared
@pytest.mark.needs_shared
def test_errors_grow_with_degradation(shared_metric_weights: None, frames: Pictures) -> None:
    source = clip(frames[:6])
    weak, strong = (values(source, clip(blurred(frames[:6], sigma))) for sigma in (1.5, 5.0))
    assert 1.0 > weak.pop("csim") > strong.pop("csim")
    for column, error in weak.items():
        assert 0.0 < error < strong[column], column


@needs_shared
@pytest.mark.needs_shared
def test_every_fifth_frame_is_scored_and_the_source_is_seen_once(
    shared_metric_weights: None, frames: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, decoded = clip(frames), clip(blurred(frames, 2.0))
    face._remembered.cache_clear()
    first = face.measure(source, decoded, ["csim", "nme", "akd"])
    seen_rgb: list[str] = []
    rgb = Clip.rgb

    def watched(self: Clip, part: slice = slice(None)) -> Pictures:
        seen_rgb.append(self.name)
        return rgb(self, part)

    monkeypatch.setattr(Clip, "rgb", watched)
    again = face.measure(source.renamed("source"), decoded.renamed("decoded"), ["csim", "nme", "akd"])
    assert seen_rgb == ["decoded"] * 3
    for column, score in first.items():
        repeated = again[column]
        assert isinstance(score, Score) and score.frames is not None
        assert isinstance(repeated, Score) and repeated.value == score.value
        assert np.flatnonzero(~np.isnan(score.frames)).tolist() == [0, 5, 10]


@needs_shared
@pytest.mark.needs_shared
def test_aed_takes_the_identities_that_csim_compared(
    shared_metric_weights: None, frames: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, decoded, worse = clip(frames), clip(blurred(frames, 2.0)), clip(blurred(frames, 6.0))
    csim = face.measure(source, decoded, ["csim"])["csim"]
    assert isinstance(csim, Score) and csim.frames is not None
    called: list[int] = []
    identity = face.Identity.__call__

    def watched(self: face.Identity, rgb: Pictures, where: NDArray[np.float32]) -> NDArray[np.float32]:
        called.append(1)
        return identity(self, rgb, where)

    monkeypatch.setattr(face.Identity, "__call__", watched)
    aed = compute(source, decoded, ["aed"]).frames["aed"]
    assert not called and np.allclose(aed, np.sqrt(2 - 2 * np.minimum(csim.frames, 1)), equal_nan=True)
    assert compute(source, worse, ["aed"]).values["aed"] > np.nanmean(aed) and len(called) == 3  # of another clip: anew


@needs_shared
@pytest.mark.needs_shared
def test_denormal_weights_cost_nothing_and_numbers_outside_stay_as_they_are(shared_metric_weights: None) -> None:
    tiny = torch.tensor([1e-40])
    session = onnx_session(pretrained.find("pfld_68"))
    rng = np.random.default_rng(0)
    picture = rng.random((1, 3, 112, 112), np.float32)
    quick = run_onnx(session, picture)[0]
    assert (tiny * 1.0).item() > 0  # what the caller computes is not flushed
    assert np.array_equal(quick, session.run(None, {session.get_inputs()[0].name: picture})[0])


@needs_shared
@pytest.mark.needs_shared
def test_a_shift_moves_all_landmarks_by_its_length(shared_metric_weights: None, astronaut: Pictures) -> None:
    source = clip(astronaut[None])
    found = values(source, clip(np.roll(astronaut, (3, 4), (0, 1))[None]))
    assert found["akd"] == pytest.approx(5.0, abs=1.0)
    assert found["csim"] > 0.97, "the decoded face is aligned by its own points"
    eyes_px = found["akd"] / found["nme"]
    assert 40 < eyes_px < 65  # outer corners of this face
    assert found["nme_mesh"] == pytest.approx(found["nme"], rel=0.3)


@needs_shared
@pytest.mark.needs_shared
def test_mirroring_negates_yaw_and_roll_and_keeps_pitch(shared_metric_weights: None, frames: Pictures) -> None:
    detector, pose = YuNet(pretrained.find("yunet")), face._build("pose_deg")
    turned = Region((128.0, 128.0), 256.0, angle=0.3)  # 17 degrees, so that there is a roll to negate
    rolled = turned.cut(frames[0], 256)
    mirrored = np.ascontiguousarray(rolled[:, ::-1])
    one, other = (pose(rgb, pose.where(rgb, detector.faces(rgb)[0])) for rgb in (rolled, mirrored))
    assert abs(one[2]) > 8
    assert one[0] == pytest.approx(-other[0], abs=4) and one[2] == pytest.approx(-other[2], abs=4)
    assert one[1] == pytest.approx(other[1], abs=4)


@needs_shared
@pytest.mark.needs_shared
def test_a_smile_is_seen_on_both_sides(shared_metric_weights: None, astronaut: Pictures) -> None:
    detector, expression = YuNet(pretrained.find("yunet")), face._build("expr")
    coefficients = expression(astronaut, expression.where(astronaut, detector.faces(astronaut)[0]))
    assert coefficients.shape == (52,)
    assert coefficients[[44, 45]].min() > 0.8  # mouthSmileLeft, mouthSmileRight
    assert coefficients[25] < 0.3  # jawOpen


@needs_shared
@pytest.mark.needs_shared
def test_landmarks_and_mesh_agree_on_shared_points(shared_metric_weights: None, astronaut: Pictures) -> None:
    found = YuNet(pretrained.find("yunet")).faces(astronaut)[0]
    landmarks, mesh = face._build("nme"), face._build("expr")
    assert isinstance(mesh, face.Expression)
    points = landmarks(astronaut, landmarks.where(astronaut, found))
    mesh_points = mesh.mesh(astronaut, mesh.where(astronaut, found))
    eyes_px = np.linalg.norm(points[36] - points[45])
    for a, b in {36: 33, 45: 263, 39: 133, 42: 362, 30: 1, 48: 61, 54: 291, 8: 152}.items():  # 300W to mesh
        assert np.linalg.norm(points[a] - mesh_points[b]) / eyes_px < 0.1


@needs_shared
@pytest.mark.needs_shared
def test_other_people_are_other_identities(shared_metric_weights: None, astronaut: Pictures, frames: Pictures) -> None:
    detector, identity = YuNet(pretrained.find("yunet")), face._build("csim")
    me, again, other = (
        identity(rgb, detector.faces(rgb)[0].points) for rgb in (frames[0], blurred(frames[10:], 1.0)[0], astronaut)
    )
    assert me @ again > 0.6 > 0.4 > me @ other  # the network's own check: same 0.64 +- 0.11, different 0.02 +- 0.09


@needs_shared
@pytest.mark.needs_shared
def test_a_face_that_vanished_is_compared_at_the_source_points(shared_metric_weights: None, frames: Pictures) -> None:
    grey = np.full_like(frames[:1], 128)
    identity = face._build("csim")
    points = YuNet(pretrained.find("yunet")).faces(frames[0])[0].points
    assert identity.follow(grey[0], points) is points
    assert values(clip(frames[:1]), clip(grey))["csim"] < 0.3


@needs_shared
@pytest.mark.needs_shared
def test_frames_without_a_face_have_no_score_and_a_clip_without_faces_a_reason(
    shared_metric_weights: None, frames: Pictures
) -> None:
    pictures = frames[:6].copy()
    pictures[0] = 128
    score = face.measure(clip(pictures), clip(pictures), ["akd"])["akd"]
    assert isinstance(score, Score) and score.frames is not None
    assert np.isnan(score.frames[0]) and score.frames[5] == 0.0
    grey = clip(np.full_like(pictures, 128))
    for reason in face.measure(grey, grey, face.COLUMNS).values():
        assert isinstance(reason, MetricUnavailable) and "no face" in str(reason)


def test_missing_weights_name_the_file(no_metric_weights: Path) -> None:
    grey = clip(np.full((1, 32, 32, 3), 128, np.uint8))
    results = face.measure(grey, grey, ["csim", "akd"])
    assert set(results) == {"csim", "akd"}
    for reason in results.values():
        assert isinstance(reason, MetricUnavailable) and "yunet_n_dynamic.onnx" in str(reason)


def test_similarity_recovers_rotation_scale_and_shift() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (5, 2)).astype(np.float32)
    c, s = 1.7 * np.cos(0.4), 1.7 * np.sin(0.4)
    onto = points @ np.array([[c, -s], [s, c]], np.float32).T + np.array([3.0, -8.0], np.float32)
    assert face.similarity(points, onto) == pytest.approx(np.array([[c, -s, 3.0], [s, c, -8.0]]), abs=1e-3)


def test_a_region_maps_its_points_there_and_back() -> None:
    region = Region((40.0, 60.0), 50.0, angle=0.3)
    points = np.array([(0.0, 0.0), (64.0, 10.0), (32.0, 32.0)], np.float32)
    there = region.to_picture(points, 64)
    assert there[2] == pytest.approx([40.0, 60.0], abs=1e-3)
    m = region.to_crop(64)
    assert there @ m[:, :2].T + m[:, 2] == pytest.approx(points, abs=1e-3)
    level = region.to_picture(np.array([(0.0, 32.0), (64.0, 32.0)], np.float32), 64)
    slope = level[1] - level[0]
    assert np.arctan2(slope[1], slope[0]) == pytest.approx(0.3, abs=1e-4)
