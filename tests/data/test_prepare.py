"""Prepared clips hold one shot each, framed around the face by one fixed square, and say where they come from."""

from __future__ import annotations

import csv
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from data.clip import Clip
from data.crop import Box, crop
from data.faces import HaarCascade, YuNet
from data.files import file_sha256
from data.framing import FACE_SHARE, face_square
from data.io import read_clip, write_clip
from data.prepare import Piece, face_finder, main, scene_cuts, split
from data.sequences import resolve
from tests.paths import METRIC_WEIGHTS, needs_shared

FACE = (124, 108)  # centre (x, y) of the face in `portrait`, as the Haar cascade and the eye see it


@cache
def portrait() -> NDArray[np.uint8]:
    """Head and shoulders of NASA's portrait of Eileen Collins, (300, 260, 3)."""
    return np.ascontiguousarray(skimage.data.astronaut()[0:300, 100:360])


def shot(
    n_frames: int, at: tuple[int, int], size: tuple[int, int] = (360, 480), wall: int = 70, face: bool = True
) -> Clip:
    """A portrait that moves 2 pixels a frame to the right, on a wall of one grey."""
    frames = np.full((n_frames, *size, 3), wall, np.uint8)
    for i in range(n_frames if face else 0):
        x, y = at[0] + 2 * i, at[1]
        part = portrait()[: size[0] - y, : size[1] - x]
        frames[i, y : y + part.shape[0], x : x + part.shape[1]] = part
    return Clip.from_rgb(frames, Fraction(25))


def joined(*clips: Clip) -> Clip:
    y, u, v = (np.concatenate([getattr(c, plane) for c in clips]) for plane in "yuv")
    return Clip(y, u, v, clips[0].fps)


@pytest.fixture(autouse=True)
def haar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDAC_METRIC_WEIGHTS", raising=False)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_video_becomes_one_clip_per_shot_with_a_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = joined(
        shot(8, (40, 60)), shot(6, (0, 0), wall=200, face=False), shot(3, (100, 30)), shot(7, (160, 20), wall=140)
    )
    write_clip(video, tmp_path / "in" / "interview.y4m")
    out = tmp_path / "out"
    assert main([str(tmp_path / "in"), "--out", str(out), "--size", "128", "--min-frames", "5"]) == 0
    rows = rows_of(out)
    assert [(r["name"], r["source_first_frame"], r["frames"]) for r in rows] == [
        ("interview_00", "0", "8"),
        ("interview_01", "17", "7"),
    ]
    for row, part in zip(rows, (video[0:8], video[17:24]), strict=True):
        side = int(row["source_side"])
        box = Box(int(row["source_x"]), int(row["source_y"]), side, side)
        assert read_clip(out / row["file"]).equals(crop(part, box, (128, 128)))
        assert file_sha256(out / row["file"]) == row["sha256"]
    said = capsys.readouterr().err
    assert "frames 8 to 13: no face" in said
    assert "frames 14 to 16: shorter than 5 frames" in said


def test_prepared_clips_are_a_sequence_set(tmp_path: Path) -> None:
    write_clip(shot(6, (40, 60)), tmp_path / "a.y4m")
    assert main([str(tmp_path / "a.y4m"), "--out", str(tmp_path / "out"), "--size", "128", "--min-frames", "5"]) == 0
    (sequence,) = resolve([str(tmp_path / "out" / "manifest.csv")])
    clip = sequence.load()
    assert (clip.name, clip.n_frames, clip.width, clip.height, clip.fps) == ("a_00", 6, 128, 128, 25)


def test_the_square_frames_the_face_of_every_frame() -> None:
    clip = shot(20, (60, 40))
    box = face_square(clip, HaarCascade())
    assert box is not None
    assert box.width == box.height and box.x % 2 == box.y % 2 == box.width % 2 == 0
    middle = 60 + FACE[0] + 19, 40 + FACE[1]  # of the path that the face takes
    assert abs(box.x + box.width / 2 - middle[0]) < 15
    assert abs(box.y + box.height / 2 - middle[1]) < 15
    faces = [HaarCascade().boxes(clip.rgb(slice(i, i + 1))[0])[0] for i in (0, 19)]
    assert np.mean([f[3] for f in faces]) / box.height == pytest.approx(FACE_SHARE, abs=0.06)
    for x, y, w, h in faces:
        assert box.x <= x and x + w <= box.x + box.width and box.y <= y and y + h <= box.y + box.height


def test_the_square_is_clamped_to_the_picture() -> None:
    box = face_square(shot(6, (-0, 0), size=(190, 270)), HaarCascade())
    assert box is not None
    assert box.x >= 0 and box.y >= 0 and box.x + box.width <= 270 and box.y + box.height <= 190


def test_two_people_who_are_seen_alike_are_not_taken_for_one_between_them() -> None:
    left, right = shot(6, (0, 40), size=(360, 640)), shot(6, (360, 40), size=(360, 640))
    both = Clip(*[np.concatenate((getattr(left, p)[..., : n // 2], getattr(right, p)[..., n // 2 :]), -1)
                  for p, n in (("y", 640), ("u", 320), ("v", 320))], left.fps)  # fmt: skip
    box = face_square(both, HaarCascade())
    assert box is not None and min(abs(box.x + box.width / 2 - x - FACE[0]) for x in (0, 360)) < 20


def test_faces_too_small_for_the_size_are_left_out() -> None:
    (piece,) = split(shot(6, (60, 40)), HaarCascade(), size=512, min_frames=5)
    assert piece.box is None
    assert "too small" in piece.problem


def test_a_clip_of_the_right_size_is_kept_whole() -> None:
    clip = crop(shot(6, (40, 0), size=(300, 400)), Box(40, 0, 256, 256))
    assert split(clip, HaarCascade(), size=256, min_frames=5) == [Piece(0, 6, Box(0, 0, 256, 256))]


def test_cuts_are_found_and_motion_is_not_one() -> None:
    clips = [shot(5, (40, 60)), shot(4, (100, 20), wall=180), shot(6, (100, 20), wall=90)]
    assert scene_cuts(joined(*clips)) == [5, 9]
    assert scene_cuts(shot(1, (40, 60))) == []


def test_nothing_to_prepare_is_a_failure_that_names_the_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(shot(6, (0, 0), face=False), tmp_path / "wall.y4m")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--min-frames", "5"]) == 1
    said = capsys.readouterr().err
    assert "wall.y4m: frames 0 to 5: no face" in said
    assert "broken.mp4: cannot be decoded" in said


def test_an_older_result_is_not_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(shot(6, (40, 60)), tmp_path / "a.y4m")
    command = [str(tmp_path / "a.y4m"), "--out", str(tmp_path / "out"), "--size", "128", "--min-frames", "5"]
    assert main(command) == 0
    before = (tmp_path / "out" / "manifest.csv").read_bytes()
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == before


@pytest.mark.parametrize("option", [["--size", "15"], ["--size", "129"], ["--min-frames", "0"]])
def test_senseless_settings_are_refused(tmp_path: Path, option: list[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), *option]) == 1


@needs_shared
def test_yunet_is_taken_where_its_weights_are_and_agrees_with_haar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDAC_METRIC_WEIGHTS", str(METRIC_WEIGHTS))
    finder = face_finder()
    assert isinstance(finder, YuNet)
    (face,) = finder.faces(portrait())
    (other,) = HaarCascade().boxes(portrait())
    assert np.all(np.abs(face.box[:2] + face.box[2:] / 2 - (other[:2] + other[2:] / 2)) < 12)
    eyes, mouth = face.points[:2], face.points[3:]
    assert eyes[0, 0] < eyes[1, 0] and mouth[0, 0] < mouth[1, 0] and eyes[:, 1].max() < mouth[:, 1].min()
