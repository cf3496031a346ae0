"""Face metrics: identity, landmarks, head pose and expression, each by networks that no codec here was trained with.

    column    network                        score of a frame
    csim      MobileFaceNet, 128-d           cosine of the two identity embeddings
    akd       PFLD, 68 points (300W order)   mean distance of the points, in pixels
    nme       the same points                that distance over the source's outer eye corners' (points 36 and 45)
    pose_deg  two FSA-Nets, averaged         mean absolute error of yaw, pitch and roll, in degrees
    expr      face mesh, iris, blendshapes   mean absolute error of 52 ARKit expression coefficients

Every `FACE_STRIDE`-th frame is scored, from frame 0 on; the others are NaN, and so are frames in which the source shows
no face. Where the source shows several, the largest counts. Both pictures are cut at the *source's* face box (and
mesh region), so that the detector's jitter does not count and equal pictures score exactly 0. Identity is different: the
decoded face is aligned by its own five points, or by the source's where the detector finds no face in it any more.

What was measured on the source is kept for the last few clips, because every codec is compared with the same source.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from data.clip import Clip
from rd.metrics import weights
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

Picture = NDArray[np.uint8]
Array = NDArray[np.float32]

COLUMNS = ("csim", "nme", "akd", "pose_deg", "expr")
FACE_STRIDE = 5  # chosen: 40 frames of a 200-frame clip; shares no factor with the usual GOP structures
DETECTOR_SCORE, DETECTOR_NMS = 0.6, 0.3  # YuNet's usual thresholds
REMEMBERED_CLIPS = 4

# The five points of an aligned 112x112 face, in the detector's order (InsightFace).
ALIGNED_POINTS = np.array(
    [(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)], dtype=np.float32
)
OUTER_EYE_CORNERS = (36, 45)  # of the 68 points
MESH_EYE_CORNERS = ((33, 133), (362, 263))  # of the 468 points: the eye on the picture's left, then the other
MESH_LEVEL = (33, 263)  # the line that is turned level

BLENDSHAPE_POINTS = np.array(  # of the 478 = 468 mesh + 5 iris + 5 iris points, as MediaPipe's blendshape graph lists them
    """0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103 105
    107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 168 172 173 176 178 181
    185 191 195 197 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 312 314
    317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 380 381 382 384 385 386 387 388 389 390
    397 398 400 402 405 409 415 454 466 468 469 470 471 472 473 474 475 476 477""".split(),
    dtype=np.int64,
)


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of its picture."""

    box: Array
    """(4,): x, y of the top left corner, width, height."""
    points: Array
    """(5, 2): both eyes from the picture's left, nose, both mouth corners from the picture's left."""


@dataclass(frozen=True)
class Region:
    """A square of a picture, turned by `angle`."""

    centre: tuple[float, float]
    """x, y in pixels."""
    side: float
    """Pixels."""
    angle: float = 0.0
    """Radians, from the x axis towards y (clockwise as displayed): the slope that becomes level."""

    def to_crop(self, size: int) -> Array:
        """Affine map (2, 3) from picture to crop pixels; the crop is size x size."""
        scale = size / self.side
        c, s = scale * np.cos(self.angle), scale * np.sin(self.angle)
        x, y = self.centre
        return np.array([(c, s, size / 2 - c * x - s * y), (-s, c, size / 2 + s * x - c * y)], dtype=np.float32)

    def cut(self, rgb: Picture, size: int) -> Picture:
        """The region as uint8 (size, size, 3), its border continued where it leaves the picture."""
        return cv2.warpAffine(rgb, self.to_crop(size), (size, size), borderMode=cv2.BORDER_REPLICATE)

    def to_picture(self, points: Array, size: int) -> Array:
        """Points (N, 2) in crop pixels, back in picture pixels."""
        m = self.to_crop(size)
        return ((points - m[:, 2]) @ np.linalg.inv(m[:, :2]).T).astype(np.float32)


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """The face columns asked for; one whose weights are missing, or a clip without a face, gives MetricUnavailable."""
    check_same_shape(source, decoded)
    results: dict[str, Score | MetricUnavailable] = {}
    analysers: dict[str, Analyser] = {}
    for column in [column for column in COLUMNS if column in columns]:
        try:
            weights.find("yunet")  # first: without it nothing else matters
            analysers[column] = _ANALYSERS[column]()
        except MetricUnavailable as reason:
            results[column] = reason
    if not analysers:
        return results
    detect = Detector(weights.find("yunet"))
    kept = _remembered(source.sha256(), detect.path)
    frames = {column: np.full(source.n_frames, np.nan) for column in analysers}
    for i in range(0, source.n_frames, FACE_STRIDE):
        if i in kept.faces and kept.faces[i] is None:
            continue
        missing = [a for a in analysers.values() if (a, i) not in kept.states]
        if i not in kept.faces or missing:
            rgb = source.rgb(slice(i, i + 1))[0]
            if i not in kept.faces:
                kept.faces[i] = _largest(detect(rgb))
            face = kept.faces[i]
            if face is None:
                continue
            for analyser in missing:
                kept.states.setdefault((analyser, i), analyser.source(rgb, face))
        face = kept.faces[i]
        assert face is not None
        rgb = decoded.rgb(slice(i, i + 1))[0]
        for column, analyser in analysers.items():
            state = kept.states[analyser, i]
            frames[column][i] = _COMPARE[column](state, analyser.decoded(rgb, face, state, detect))
    for column, scores in frames.items():
        if np.all(np.isnan(scores)):
            results[column] = MetricUnavailable(f"no face found in any of {len(scores[::FACE_STRIDE])} source frames")
        else:
            results[column] = Score.mean(scores)
    return results
