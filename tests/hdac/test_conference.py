"""Conference mode: relative motion, the quality filter, avatars of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.clip import Clip
from data.errors import InputError
from data.io import read_clip, write_clip
from hdac import conference
from hdac.__main__ import main
from hdac.codecs import face_box
from hdac.conference import Conference, Seen, fitted, of_body, relative, seam
from hdac.landmarks import FRONTAL
from hdac.nets.animation import PointNet
from hdac.nets.landmarks import LandmarkNet
from hdac.network import by_name
from hdac.points import Values, motion_distance
from tests.clips import moving_clip, psnr_y

pytestmark = pytest.mark.usefixtures("tiny_weights")

EYE = np.tile(np.eye(2, dtype=np.float32), (3, 1, 1))
SHEAR = np.float32([[[0.0, 0.1], [0.0, 0.0]]])
REST = Values(np.array([[0, 0], [0.2, 0.1], [0, 0.9]], np.float32), EYE)


def made(avatar: Clip, network: str = "tiny-learned", threshold: float = 0.0, when_far: str = "rest") -> Conference:
    net = by_name(network, PointNet)
    return Conference(avatar, net, by_name("tiny-landmarks", LandmarkNet), threshold, when_far)


def as_clip(pictures: list, like: Clip) -> Clip:  # type: ignore[type-arg]
    y, u, v = (np.stack(planes) for planes in zip(*pictures, strict=True))
    return Clip(y, u, v, like.fps, like.colour)


def test_distance_is_that_of_the_paper_less_what_has_not_moved() -> None:
    assert motion_distance(REST, REST) == 0
    assert REST.learned is not None
    moved = REST._replace(learned=REST.learned + np.float32([0.3, 0.4]))
    assert motion_distance(moved, REST) == pytest.approx(2 * 10 * 0.5)
    stretched = REST._replace(jacobians=EYE * 1.5)
    assert motion_distance(stretched, REST) == pytest.approx(10 * 0.5 * 2**0.5)
    faces = Values(landmarks=np.zeros((20, 2), np.float32)), Values(landmarks=np.full((20, 2), 0.1, np.float32))
    assert motion_distance(*faces) == pytest.approx(2 * 10 * 0.1 * 2**0.5, rel=1e-5)


FACE = 100 + 60 * np.float32(FRONTAL)
"""In a picture of 200x200."""


def looking(values: Values, face: np.ndarray = FACE, width: int = 200, height: int = 200) -> Seen:  # type: ignore[type-arg]
    return Seen(values, face, np.float32([width, height]))


def test_motion_is_taken_over_and_the_body_stays() -> None:
    assert REST.learned is not None
    caller = Values(REST.learned[:, ::-1] + np.float32([-0.5, 0.2]), EYE * 2)
    now = caller._replace(learned=caller.learned + np.float32([0.1, 0.0]), jacobians=EYE * 3)  # type: ignore[operator]
    found = relative(looking(REST), looking(now), looking(caller), np.array([False, False, True]))
    assert np.allclose(found.learned[:2], REST.learned[:2] + [0.1, 0.0])  # type: ignore[index]
    assert np.array_equal(found.learned[2], REST.learned[2])  # type: ignore[index]
    assert np.allclose(found.jacobians[:2], EYE[:2] * 1.5) and np.array_equal(found.jacobians[2], EYE[2])  # type: ignore[index]


def test_keypoints_below_the_chin_and_low_beside_the_face_are_the_bodys() -> None:
    face = 0.5 * np.float32(FRONTAL)
    places = {"nose": (0, 0), "hair": (0, -0.8), "chest": (0, 0.9), "shoulder": (0.9, 0.5), "wall": (-0.9, -0.5)}
    found = of_body(np.float32(list(places.values())), face)
    assert dict(zip(places, found, strict=True)) == {name: name in ("chest", "shoulder") for name in places}


def test_motion_is_in_units_of_the_face() -> None:
    """A caller twice as close to the camera moves the avatar as far as one at its own distance, whatever pictures' shapes."""
    points = np.float32([[-0.2, -0.2], [0.2, 0.2]])
    avatar, near = looking(Values(landmarks=points)), Values(landmarks=2 * points)
    moved = Values(landmarks=2 * (points + np.float32([0.1, 0.05])))
    found = relative(avatar, looking(moved, 2 * FACE), looking(near, 2 * FACE))
    assert np.allclose(found.landmarks, points + [0.1, 0.05], atol=1e-6)  # type: ignore[arg-type]
    wide = [looking(Values(landmarks=np.float32([[x, 0.0]])), FACE, 400, 200) for x in (0.0, 0.1)]
    found = relative(looking(Values(landmarks=np.float32([[0.3, 0.3]]))), wide[1], wide[0])
    assert np.allclose(found.landmarks, [[0.5, 0.3]])  # 20 samples in either picture
    sheared = [looking(Values(np.zeros((1, 2), np.float32), one), FACE, 400, 200) for one in (EYE[:1], EYE[:1] + SHEAR)]
    found = relative(looking(Values(np.zeros((1, 2), np.float32), EYE[:1])), sheared[1], sheared[0])
    assert np.allclose(found.jacobians, [[[1.0, 0.2], [0.0, 1.0]]])
    assert looking(near, 0 * FACE).size > 0


def test_poses_are_alike_wherever_the_faces_are() -> None:
    turned = FACE.copy()
    turned[27:36, 0] += 15  # the nose
    here, there = looking(REST), looking(REST, 0.5 * FACE + 80)
    assert here.unlike(there) < 1e-5 < looking(REST, turned).unlike(here)
    assert looking(REST, turned).unlike(here) == pytest.approx(looking(REST, turned).unlike(there), rel=1e-4)


def test_another_initial_frame_is_no_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who comes nearer to the avatar's pose all the time: every frame is a new initial one, and motion goes on."""
    call, one = moving_clip(8, 64, 64), made(moving_clip(1, 64, 64))
    poses = iter(np.linspace(1.0, 0.3, 8))
    face, at = one.avatar.face, one.avatar.values

    def seen(animator: object, values: Values, planes: object, before: Seen | None) -> Seen:
        off = next(poses)
        bent = face.copy()
        bent[27:36, 0] += np.float32(15 * off)
        assert at.learned is not None
        return Seen(at._replace(learned=at.learned + np.float32(0.1 * off)), bent, one.avatar.extent)

    monkeypatch.setattr(one, "_seen", seen)
    shown = np.array([values.learned for values in one._driven(call, one._animator(call))])
    steps = np.abs(np.diff(shown, axis=0)).max((1, 2))
    assert steps.max() < 0.015 and np.abs(shown[-1] - shown[0]).max() > 0.01


def test_a_still_call_shows_the_avatar_as_it_is_and_a_moving_one_moves_it() -> None:
    avatar, call = moving_clip(1, 96, 96, seed=3), moving_clip(4, 64, 64)
    still = replace(call, y=call.y[[0] * 4], u=call.u[[0] * 4], v=call.v[[0] * 4])
    kept, moved = (as_clip(list(made(avatar).call(one)), one) for one in (still, call))
    assert kept.y.shape == (4, 96, 96) and len({frame.tobytes() for frame in kept.y}) == 1
    one = made(avatar)
    at_rest = one.animator.task(one.avatar.values, (96, 96))()
    assert np.array_equal(kept.y[0], at_rest[0]) and psnr_y(avatar, as_clip([at_rest], avatar)) > 15  # by a random network
    assert not np.array_equal(moved.y[3], kept.y[3])


def test_the_filter_holds_back_what_has_moved_too_far_and_goes_back_to_rest() -> None:
    avatar, call = moving_clip(1, 64, 64), moving_clip(6, 64, 64)
    everything, nothing = made(avatar), made(avatar, threshold=1e-6)
    assert len(list(everything.call(call))) == 6 and everything.held_back == 0
    pictures = as_clip(list(nothing.call(call)), call)
    assert nothing.held_back >= 4
    at_rest = as_clip(list(made(avatar).call(call[:1])), call)
    assert psnr_y(Clip(at_rest.y, at_rest.u, at_rest.v, call.fps), pictures[5:]) > 30
    with pytest.raises(InputError, match="-1"):
        made(avatar, threshold=-1.0)
    with pytest.raises(InputError, match="source"):
        made(avatar, threshold=1.0, when_far="source")


def test_what_passed_before_is_played_back_and_forth_where_frames_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    avatar, call = moving_clip(1, 64, 64), moving_clip(8, 64, 64)
    distances = iter([0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0, 0.0])
    monkeypatch.setattr(conference, "motion_distance", lambda values, rest: next(distances))
    replaying = made(avatar, threshold=1.0, when_far="replay")
    shown = as_clip(list(replaying.call(call)), call).y
    assert replaying.held_back == 4
    assert not (shown[0] == shown[1]).all() and not (shown[1] == shown[2]).all()
    for t, passed in ((3, 1), (4, 0), (5, 1), (6, 2)):
        assert np.array_equal(shown[t], shown[passed])


def test_a_face_is_followed_from_frame_to_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    anew, follow = LandmarkNet.forward, LandmarkNet.follow
    monkeypatch.setattr(LandmarkNet, "forward", lambda self, picture: found.append("anew") or anew(self, picture))
    monkeypatch.setattr(LandmarkNet, "follow", lambda self, *args: found.append("followed") or follow(self, *args))
    avatar, call = moving_clip(1, 64, 64), moving_clip(4, 64, 64)
    for network, n_anew, n_followed in (("tiny-learned", 2, 3), ("tiny-direct", 2, 4)):  # the latter's animator has found them
        found.clear()
        assert len(list(made(avatar, network).call(call))) == 4
        assert (found.count("anew"), found.count("followed")) == (n_anew, n_followed), network


def test_a_large_picture_becomes_an_avatar() -> None:
    large = moving_clip(1, 2000, 1004)
    small = fitted(large)
    assert (small.width, small.height) == (1920, 964) and small.u.shape[1:] == (482, 960) and fitted(small) is small
    assert abs(float(small.y.mean()) - float(large.y.mean())) < 1


def test_a_large_avatar_moves_in_its_face_box_and_has_no_seam() -> None:
    avatar, call = moving_clip(1, 560, 420), moving_clip(3, 64, 64)
    one = made(avatar)
    box = one.animator.stage.box
    assert box is not None
    pictures = as_clip(list(one.call(call)), call)
    assert pictures.y.shape == (3, 420, 560)
    outside = np.ones((420, 560), bool)
    outside[box.y : box.y + box.height, box.x : box.x + box.width] = False
    assert (pictures.y[:, outside] == avatar.y[0, outside]).all()
    assert seam((avatar.y[0], avatar.u[0], avatar.v[0]), one.animator) < 1.5
    planes = avatar.y[0], avatar.u[0], avatar.v[0]
    darker = tuple(plane // 2 for plane in face_box.cut(planes, box))
    assert seam(face_box.compose(planes, (darker[0], darker[1], darker[2]), box), one.animator) > 2.0


def test_the_command_animates_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(moving_clip(1, 64, 64), tmp_path / "me.y4m")
    write_clip(moving_clip(4, 64, 64), tmp_path / "call.y4m")
    command = ["animate", str(tmp_path / "me.y4m"), str(tmp_path / "call.y4m"), str(tmp_path / "out.y4m")]
    assert main([*command, "--network", "tiny-learned", "--frames", "3", "--threshold", "0.5"]) == 0
    said = capsys.readouterr()
    assert "64x64, 3 frames, " in said.out and "no face found in" in said.err and read_clip(tmp_path / "out.y4m").n_frames == 3
    for wrong, said in (
        ([*command, "--network", "tiny-learned"], "exists"),
        ([*command, "-f", "--network", "tiny"], "not of a PointNet"),
        ([*command, "-f", "--network", "tiny-segface"], "draws faces"),
        ([*command, "-f", "--network", "tiny-learned", "--threshold", "-3"], "-3"),
        ([*command, "-f", "--network", "tiny-learned", "--when-far", "replay"], "--threshold"),
        ([command[0], str(tmp_path / "nobody.png"), *command[2:], "-f"], "nobody.png"),
    ):
        assert main(wrong) == 1 and said in capsys.readouterr().err
    assert read_clip(tmp_path / "out.y4m").n_frames == 3
