"""Conference mode: a person's picture, of up to 1920 a side, that moves as the face in a call does, and the filter that keeps
bad frames out of it (Lu and Zheng, "Ultra-lightweight face animation method for ultra-low bitrate video conferencing", ZTE
Communications 2023, sections 3.3 and 3.4).

    call --> points of every frame --> relative motion --> quality filter --> avatar's face box, animated --> set into it

Motion is relative: what moves the avatar's points is how the caller's have moved since an initial frame, one whose pose is like
that of the avatar (FOMM, section 3.3). Learned keypoints on the shoulders, in networks that have any, stay where they are, so
that the face box has no seam where the body is cut, and the box is set into the rest of the picture with a ramp
(`hdac.codecs.face_box`, which lets networks see up to 512 a side where the paper has 384).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from data.clip import Clip, Plane
from data.errors import InputError
from hdac.codecs import face_box
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import at_once, in_flight
from hdac.codecs.layered import MAX_SIDE, check_size
from hdac.codecs.point_animator import PointAnimator
from hdac.nets.animation import PointNet
from hdac.nets.folding import folded
from hdac.nets.landmarks import LandmarkNet
from hdac.network import Network
from hdac.points import Array, Replay, Values, motion_distance

JAW, CHIN, MOUTH = slice(17), 8, (48, 54)
"""Of the 68 landmarks; of the mouth its corners."""
FINE_QP = 20
"""What the networks are told of pictures that were not coded: near the finest references that they were trained on."""
MIN_SIZE = 8.0
"""Luma samples: of a face that is a line, or nearly a point."""
RETURN = 0.2
"""Chosen: of what is left of the way to the avatar's own pose, taken with every frame that the filter holds back."""
WHEN_FAR = ("rest", "replay")
FORGET = 0.8
"""Chosen: of the jump that another initial frame would be, what is left with every frame."""


@dataclass(frozen=True)
class Seen:
    """What is known of a picture."""

    values: Values
    face: Array
    """Its landmarks, (68, 2) in luma samples of what networks see."""
    extent: Array
    """Width and height of that, (2,): [-1, 1] spans them."""

    @property
    def size(self) -> float:
        """Of the face: square root of the area of the smallest rectangle around the landmarks."""
        _, (width, height), _ = cv2.minAreaRect(self.face.astype(np.float32))
        return max(float(np.sqrt(width * height)), MIN_SIZE)

    def unlike(self, other: Seen) -> float:
        """How different two poses are, wherever and however large the faces are: mean distance of landmarks in the size of a
        face."""
        mine, others = ((one.face - one.face.mean(0)) / one.size for one in (self, other))
        return float(np.linalg.norm(mine - others, axis=-1).mean())


def of_body(learned: Array, face: Array) -> NDArray[np.bool_]:
    """Which keypoints (U, 2) are the body's: those below the chin of a face (68, 2) and, beside its jaw, its mouth."""
    (x, y), jaw = learned.T, face[JAW, 0]
    beside = (x < jaw.min()) | (x > jaw.max())
    found: NDArray[np.bool_] = (y > face[CHIN, 1]) | beside & (y > face[list(MOUTH), 1].mean())
    return found


def relative(avatar: Seen, now: Seen, initial: Seen, body: NDArray[np.bool_] | None = None) -> Values:
    """The avatar's values, moved as the caller's have since the initial frame, in units of the size of either face: whoever
    sits close to the camera does not tear a small avatar apart. body: learned keypoints that stay; None: none does."""
    shape = now.extent / avatar.extent  # units of one axis in those of the other picture's
    scale = (avatar.size / initial.size * shape).astype(np.float32)

    def moved(rest: Array | None, target: Array | None, start: Array | None) -> Array | None:
        if rest is None or target is None or start is None:
            return rest
        return np.clip(rest + scale * (target - start), -1, 1).astype(np.float32)

    rest, target, start = avatar.values, now.values, initial.values
    learned, jacobians = moved(rest.learned, target.learned, start.learned), rest.jacobians
    if jacobians is not None and target.jacobians is not None and start.jacobians is not None:
        change = target.jacobians @ np.linalg.pinv(start.jacobians)
        jacobians = (change * (shape[:, None] / shape) @ jacobians).astype(np.float32)
    if body is not None and learned is not None and rest.learned is not None:
        learned[body] = rest.learned[body]
        if jacobians is not None and rest.jacobians is not None:
            jacobians[body] = rest.jacobians[body]
    return Values(learned, jacobians, moved(rest.landmarks, target.landmarks, start.landmarks), target.expression)


class Conference:
    """An avatar that is animated frame by frame."""

    def __init__(
        self,
        avatar: Clip,
        network: Network[PointNet],
        landmarks: Network[LandmarkNet],
        threshold: float = 0.0,
        when_far: str = "rest",
    ) -> None:
        """avatar: its first frame is the picture. landmarks: they drive networks that are driven by landmarks, and tell how
        large a face is, how it looks, and which keypoints are on it.

        threshold: of the quality filter (section 3.3), the largest `motion_distance` from the avatar at rest of what it is
        asked for; 0: every frame passes.

        when_far: what is shown in the place of a frame that does not: "rest", a face that goes back to the avatar's own pose,
        or "replay", the last frames that passed, played back and forth (`hdac.points.Replay`). A new source picture, the third
        way of a codec (`hdac.codecs.mobile.Mobile.when_far`), there is none: the avatar is the only one.

        Raises InputError for pictures that are too large (`fitted` makes them smaller), and for a network that draws faces.
        """
        if when_far not in WHEN_FAR:
            raise InputError(f"when_far {when_far!r} is not one of {', '.join(WHEN_FAR)}")
        if not threshold >= 0:
            raise InputError(f"the quality filter's threshold {threshold} is negative")
        check_size(avatar.width, avatar.height)
        if not network.net.settings.n_points:
            raise InputError(f"the network {network.name} draws faces; an avatar is a picture that moves")
        self.size = avatar.height, avatar.width
        self.network, self.landmarks, self.threshold, self.when_far = network, landmarks, threshold, when_far
        self.animator = self._animator(avatar[:1])
        self._student = folded(landmarks.net, self.animator.condition)
        planes = avatar.y[0], avatar.u[0], avatar.v[0]
        at_rest = self.animator.refer_to(planes)
        self.animator.rest_at(at_rest)
        self.avatar = self._seen(self.animator, at_rest, planes)
        self.body = None
        if at_rest.learned is not None:
            self.body = of_body(at_rest.learned, 2 * self.avatar.face / self.avatar.extent - 1)
        self.held_back = 0
        """Frames that the filter has replaced so far."""

    def call(self, clip: Clip) -> Iterator[Planes]:
        """The avatar in every frame of a call: planes of the avatar's size. Raises InputError for pictures that are too
        large."""
        check_size(clip.width, clip.height)
        animator = self._animator(clip)
        animator.rest_at(animator.refer_to((clip.y[0], clip.u[0], clip.v[0])))
        return in_flight((self.animator.task(values, self.size) for values in self._driven(clip, animator)), at_once())

    def _animator(self, clip: Clip) -> PointAnimator:
        student = self.landmarks if self.network.net.settings.landmarks_sent else None
        return PointAnimator(self.network, student, FINE_QP, True, face_box.find(clip))

    def _seen(self, animator: PointAnimator, values: Values, planes: Planes, before: Seen | None = None) -> Seen:
        """A picture of which the animator has just found these values. before: what was seen in the frame before, whose face is
        followed."""
        packed = animator.stage.packed(animator.stage.seen(planes))
        extent = np.array([packed.shape[-1], packed.shape[-2]], np.float32) * 2
        face = animator.face
        if face is None:
            with torch.inference_mode():
                known = None if before is None else torch.from_numpy(before.face / before.extent * 2 - 1)[None]
                face = self._student(packed) if known is None else self._student.follow(packed, known)
        return Seen(values, (face[0].numpy() + 1) / 2 * extent, extent)

    def _driven(self, clip: Clip, animator: PointAnimator) -> Iterator[Values]:
        initial: Seen | None = None
        now: Seen | None = None
        replay = Replay()
        shown = self.avatar.values
        behind = shown  # by how much less what is shown has moved, since another frame is the initial one
        for t in range(clip.n_frames):
            planes = clip.y[t], clip.u[t], clip.v[t]
            now = self._seen(animator, animator.values(planes), planes, now)
            behind = _between(behind, self.avatar.values, 1 - FORGET)
            # the initial frame is one whose pose is like the avatar's: another one where it is liker (section 3.3)
            if initial is None:
                initial = now
            elif now.unlike(self.avatar) < now.unlike(initial):
                behind, initial = _sum(behind, relative(self.avatar, now, initial, self.body), self.avatar.values), now
            wanted = _sum(relative(self.avatar, now, initial, self.body), behind, self.avatar.values)
            if not self.threshold or motion_distance(wanted, self.avatar.values) <= self.threshold:
                shown = wanted
                replay.remember(shown)
            else:
                self.held_back += 1
                replayed = replay.next() if self.when_far == "replay" else None
                shown = _between(shown, self.avatar.values, RETURN) if replayed is None else replayed
            yield shown


def fitted(clip: Clip) -> Clip:
    """Pictures that are too large for an avatar, made as small as need be; others as they are."""
    longer = max(clip.width, clip.height)
    if longer <= MAX_SIDE:
        return clip
    width, height = (max(2, round(n * MAX_SIDE / longer / 2) * 2) for n in (clip.width, clip.height))

    def smaller(plane: Plane, divisor: int) -> Plane:
        to = width // divisor, height // divisor
        return np.stack([cv2.resize(one, to, interpolation=cv2.INTER_AREA) for one in plane]).astype(np.uint8)

    return replace(clip, y=smaller(clip.y, 1), u=smaller(clip.u, 2), v=smaller(clip.v, 2))


def _between(shown: Values, at_rest: Values, share: float) -> Values:
    """Some of the way from what is shown to the avatar's own pose."""
    return _each(lambda value, rest: value + share * (rest - value), shown, at_rest)


def _sum(a: Values, b: Values, at_rest: Values) -> Values:
    """Both motions away from the avatar's own pose, one after the other; codes are the first one's."""
    moved = _each(lambda one, other, rest: np.clip(one + other - rest, -1, 1), a, b, at_rest)
    jacobians = a.jacobians
    if jacobians is not None and b.jacobians is not None and at_rest.jacobians is not None:
        jacobians = (b.jacobians @ np.linalg.pinv(at_rest.jacobians) @ jacobians).astype(np.float32)
    return moved._replace(jacobians=jacobians, expression=a.expression)


def _each(change: Callable[..., Array], *values: Values) -> Values:
    """Of every part what comes of the parts of all values."""

    def of(*parts: Array | None) -> Array | None:
        there = [part for part in parts if part is not None]
        return change(*there).astype(np.float32) if len(there) == len(parts) else None

    learned, jacobians, landmarks, expression = (of(*parts) for parts in zip(*(one[:4] for one in values), strict=True))
    return Values(learned, jacobians, landmarks, expression)


def seam(picture: Planes, box_of: PointAnimator) -> float:
    """How much more luma changes across the ramps at the edges of the animated box than over as many samples next to them: 1
    is no seam. 1, too, of a picture that is animated as a whole, which has none. Edges nearer to the border of the picture
    than two ramps are not among them; NaN where all four are."""
    box = box_of.stage.box
    if box is None:
        return 1.0
    y = picture[0].astype(np.float64)
    height, width = y.shape
    span = face_box.FEATHER + 1  # the ramp, and a sample on either side of it
    rows, columns = y[box.y : box.y + box.height], y[:, box.x : box.x + box.width].T
    across, beside = [], []
    for begin, lines, limit in (  # of the ramp, which lies inside of the box
        (box.x - 1, rows, width),
        (box.x + box.width - span, rows, width),
        (box.y - 1, columns, height),
        (box.y + box.height - span, columns, height),
    ):
        if begin - span >= 0 and begin + 2 * span < limit:
            across.append(_change(lines, begin, span))
            beside += [_change(lines, begin - span, span), _change(lines, begin + span, span)]
    return float(np.mean(across)) / max(float(np.mean(beside)), 1e-6) if across else float("nan")


def _change(lines: NDArray[np.float64], begin: int, span: int) -> float:
    """Mean change of samples from `begin` to `span` farther."""
    return float(np.abs(lines[:, begin + span] - lines[:, begin]).mean())
