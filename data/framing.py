"""The square around a face that holds over a clip, framed as the VoxCeleb clips of the First Order Motion Model are."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from data.clip import Clip, Plane
from data.crop import Box
from data.faces import FaceFinder

FACE_SHARE = 0.57
"""Height of the face box in that of the square, as in the VoxCeleb crops of video-preprocessing (FOMM)."""
PROBED_FRAMES = 12
"""Frames of a shot in which faces are looked for."""
MIN_SEEN = 1 / 3
"""Part of them that must show the face."""
DETECTION_SIDE = 640
"""Pictures are reduced to this longer side before detection."""

Boxes = NDArray[np.float64]  # (N, 4): x, y, width, height in pixels


def face_square(shot: Clip, finder: FaceFinder) -> Box | None:
    """The square for all frames of a shot, on even positions; None where too few frames show a face."""
    boxes = face_boxes(shot, finder)
    if not len(boxes):
        return None
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    right, bottom = (boxes[:, 0] + boxes[:, 2]).max(), (boxes[:, 1] + boxes[:, 3]).max()
    side = max(np.median(boxes[:, 3]) / FACE_SHARE, right - left, bottom - top)
    even = min(int(side), shot.width, shot.height) // 2 * 2
    x = round(((left + right) / 2 - even / 2) / 2) * 2
    y = round(((top + bottom) / 2 - even / 2) / 2) * 2
    return Box(max(0, min(x, (shot.width - even) // 2 * 2)), max(0, min(y, (shot.height - even) // 2 * 2)), even, even)


def face_boxes(shot: Clip, finder: FaceFinder) -> Boxes:
    """One box per probed frame that shows the same face: (N, 4), empty where too few do.

    The face is the one that covers most, summed over the probed frames: of two of like size, one. Boxes far from it are another
    person's, or no face.
    """
    probes = np.unique(np.linspace(0, shot.n_frames - 1, PROBED_FRAMES).astype(int))
    found: list[Boxes] = []
    for i in probes:
        small, scale = _reduced(shot.rgb(slice(i, i + 1))[0])
        boxes = np.asarray(finder.boxes(small) / scale, np.float64)
        found.append(boxes[np.lexsort(boxes.T)])  # detectors with threads give them in any order
    most, area = np.empty((0, 4)), 0.0
    for candidate in np.concatenate(found):
        same = [near[:1] for near in (_near(boxes, candidate) for boxes in found)]
        track = np.concatenate(same)
        covered = float((track[:, 2] * track[:, 3]).sum())
        if len(track) >= MIN_SEEN * len(probes) and covered > area:
            most, area = track, covered
    return most


def _near(boxes: Boxes, box: NDArray[np.float64]) -> Boxes:
    """Those that may be of the same face as `box`, nearest first."""
    x, y, width, height = box
    dx, dy = boxes[:, 0] + boxes[:, 2] / 2 - x - width / 2, boxes[:, 1] + boxes[:, 3] / 2 - y - height / 2
    near = (np.abs(dx) < width) & (np.abs(dy) < height) & (np.abs(np.log2(boxes[:, 3] / height)) < 0.7)
    order = np.argsort(np.hypot(dx, dy)[near], kind="stable")
    return boxes[near][order]


def _reduced(picture: Plane) -> tuple[Plane, float]:
    """The picture at no more than `DETECTION_SIDE`, and by how much it was scaled."""
    height, width = picture.shape[:2]
    scale = min(1.0, DETECTION_SIDE / max(height, width))
    if scale == 1.0:
        return picture, 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), scale
