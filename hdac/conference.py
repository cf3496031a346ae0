"""Conference mode: a person's picture, of any resolution, that moves as the face in a call does, and the filter that keeps bad
frames out of it (Lu and Zheng, "Ultra-lightweight face animation method for ultra-low bitrate video conferencing", ZTE
Communications 2023, sections 3.3 and 3.4).

    call --> points of every frame --> relative motion --> quality filter --> avatar's face box, animated --> set into it

Motion is relative: what moves the avatar's points is how the caller's have moved since an initial frame, one whose pose is like
that of the avatar (FOMM, section 3.3). Learned keypoints on the shoulders, in networks that have any, stay where they are, so
that the face box has no seam where the body is cut, and the box is set into the rest of the picture with a ramp
(`hdac.codecs.face_box`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.clip import Clip
from data.errors import InputError
from hdac.codecs import face_box
from hdac.codecs.base_layer import Planes
from hdac.codecs.in_flight import at_once, in_flight
from hdac.codecs.layered import check_size
from hdac.codecs.point_animator import PointAnimator
from hdac.codecs.source_choice import landmarks_of
from hdac.nets.animation import PointNet
from hdac.nets.landmarks import LandmarkNet
from hdac.network import Network
from hdac.points import Array, Values, motion_distance

JAW, CHIN, MOUTH = slice(17), 8, (48, 54)
"""Of the 68 landmarks; of the mouth its corners."""
FINE_QP = 20
"""What the networks are told of pictures that were not coded: near the finest references that they were trained on."""
MIN_SIZE = 0.05
"""In units of [-1, 1]: of a face that is a line, or nearly a point."""
RETURN = 0.2
"""Chosen: of what is left of the way to the avatar's own pose, taken with every frame that the filter holds back."""


def of_body(learned: Array, face: Array) -> NDArray[np.bool_]:
    """Which keypoints (U, 2) are the body's: those below the chin of a face (68, 2) and, beside its jaw, its mouth."""
    (x, y), jaw = learned.T, face[JAW, 0]
    beside = (x < jaw.min()) | (x > jaw.max())
    found: NDArray[np.bool_] = (y > face[CHIN, 1]) | beside & (y > face[list(MOUTH), 1].mean())
    return found


def relative(avatar: Values, now: Values, initial: Values, body: NDArray[np.bool_] | None = None) -> Values:
    """The avatar's values, moved as the caller's have since the initial frame, in units of the size of either face: whoever
    sits close to the camera does not tear a small avatar apart. body: learned keypoints that stay; None: none does."""
    scale = face_size(avatar) / face_size(initial)

    def moved(rest: Array | None, target: Array | None, start: Array | None) -> Array | None:
        if rest is None or target is None or start is None:
            return rest
        return np.clip(rest + scale * (target - start), -1, 1).astype(np.float32)

    learned, jacobians = moved(avatar.learned, now.learned, initial.learned), avatar.jacobians
    if avatar.jacobians is not None and now.jacobians is not None and initial.jacobians is not None:
        jacobians = (now.jacobians @ np.linalg.pinv(initial.jacobians) @ avatar.jacobians).astype(np.float32)
    if body is not None and learned is not None and avatar.learned is not None:
        learned[body] = avatar.learned[body]
        if jacobians is not None and avatar.jacobians is not None:
            jacobians[body] = avatar.jacobians[body]
    return Values(learned, jacobians, moved(avatar.landmarks, now.landmarks, initial.landmarks), now.expression)


def face_size(values: Values) -> float:
    """Square root of the area of the smallest rectangle around the landmarks or, without any, around the learned keypoints."""
    points = values.learned if values.landmarks is None else values.landmarks
    assert points is not None
    _, (width, height), _ = cv2.minAreaRect(points.astype(np.float32))
    return max(float(np.sqrt(width * height)), MIN_SIZE)


@dataclass
class QualityFilter:
    """Says from points alone, without a picture, whether a frame will look good (section 3.3)."""

    threshold: float
    """tau: largest `motion_distance` from the initial frame; 0: every frame passes."""

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise InputError(f"the quality filter's threshold {self.threshold} is negative")

    def passes(self, now: Values, initial: Values) -> bool:
        return not self.threshold or motion_distance(now, initial) <= self.threshold


class Conference:
    """An avatar that is animated frame by frame."""

    def __init__(
        self,
        avatar: Clip,
        network: Network[PointNet],
        landmarks: Network[LandmarkNet],
        threshold: float = 0.0,
    ) -> None:
        """avatar: its first frame is the picture. landmarks: they drive networks that are driven by landmarks, and tell any
        other one's keypoints on the face from those on the body. threshold: of the quality filter; 0: none.

        Raises InputError for pictures that are too large, and for a network that draws faces.
        """
        check_size(avatar.width, avatar.height)
        if not network.net.settings.n_points:
            raise InputError(f"the network {network.name} draws faces; an avatar is a picture that moves")
        self.size = avatar.height, avatar.width
        planes = avatar.y[0], avatar.u[0], avatar.v[0]
        self.network, self.landmarks = network, landmarks if network.net.settings.landmarks_sent else None
        self.animator = PointAnimator(network, self.landmarks, FINE_QP, True, face_box.find(avatar[:1]))
        self.at_rest = self.animator.refer_to(planes)
        self.animator.rest_at(self.at_rest)
        self.body = None
        if self.at_rest.learned is not None:
            face = landmarks_of(avatar[:1], landmarks, network.net.settings.multiple, self.animator.stage.box)[0]
            self.body = of_body(self.at_rest.learned, face)
        self.filter = QualityFilter(threshold)
        self.held_back = 0
        """Frames that the filter has replaced so far."""

    def call(self, clip: Clip) -> Iterator[Planes]:
        """The avatar in every frame of a call: planes of the avatar's size."""
        check_size(clip.width, clip.height)
        seen = PointAnimator(self.network, self.landmarks, FINE_QP, True, face_box.find(clip))
        first = clip.y[0], clip.u[0], clip.v[0]
        seen.rest_at(seen.refer_to(first))
        return in_flight((self.animator.task(values, self.size) for values in self._driven(clip, seen)), at_once())

    def _driven(self, clip: Clip, seen: PointAnimator) -> Iterator[Values]:
        initial: Values | None = None
        shown = self.at_rest
        for t in range(clip.n_frames):
            now = seen.values((clip.y[t], clip.u[t], clip.v[t]))
            # the initial frame is the one whose pose is most like the avatar's
            if initial is None or motion_distance(now, self.at_rest) < motion_distance(initial, self.at_rest):
                initial = now
            if self.filter.passes(now, initial):
                shown = relative(self.at_rest, now, initial, self.body)
            else:
                self.held_back += 1
                shown = _between(shown, self.at_rest)
            yield shown


def _between(shown: Values, at_rest: Values) -> Values:
    """Default motion: some of the way back to the avatar's own pose."""

    def back(value: Array | None, rest: Array | None) -> Array | None:
        return value if value is None or rest is None else (value + RETURN * (rest - value)).astype(np.float32)

    return Values(
        back(shown.learned, at_rest.learned),
        back(shown.jacobians, at_rest.jacobians),
        back(shown.landmarks, at_rest.landmarks),
        back(shown.expression, at_rest.expression),
    )


def seam(picture: Planes, box_of: PointAnimator) -> float:
    """How much more luma changes across the ramps at the edges of the animated box than over as many samples next to them: 1 is
    no seam. 1, too, of a picture that is animated as a whole."""
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
        (box.x + box.width - span + 1, rows, width),
        (box.y - 1, columns, height),
        (box.y + box.height - span + 1, columns, height),
    ):
        if begin - span >= 0 and begin + 2 * span < limit:
            across.append(_change(lines, begin, span))
            beside += [_change(lines, begin - span, span), _change(lines, begin + span, span)]
    return float(np.mean(across)) / max(float(np.mean(beside)), 1e-6) if across else 1.0


def _change(lines: NDArray[np.float64], begin: int, span: int) -> float:
    """Mean change of samples from `begin` to `span` farther."""
    return float(np.abs(lines[:, begin + span] - lines[:, begin]).mean())
