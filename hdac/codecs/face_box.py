"""Pictures that are too large for the networks: these work on a box around the face, the rest is left as it is.

    picture of up to 2 * 256 * 256 samples    no box: the networks see the whole picture
    larger                                    a face box, the same in all frames, sent in the header (`hdac.container`):
        faces          the square that training clips have, a face being 0.57 of its height, that holds over the clip; at
                       least 256 a side. Of several faces the one that covers most, summed over the frames looked at.
        no face        the largest square in the middle

    box of up to 512 a side                   the networks see it as it is
    larger                                    they see it scaled down to 512, and what they change in it is scaled up again:
                                              details of the base layer, in DAC of the warped reference, are not lost

What comes out is set into the rest of the picture, which is the base layer's or, in DAC, the reference's, with a ramp of
FEATHER samples at those edges of the box that are not the picture's own. Boxes begin and end on even samples, so that chroma is
cut where luma is; the ramp is of integers and leaves a sample as it is where nothing changes.

Faces are found by OpenCV's own cascade, even where the weights of a better detector are here: the same clip then makes the same
stream everywhere. The encoder looks at some frames of the whole clip; nothing but the header depends on what it sees there.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.clip import Clip, Plane
from data.crop import Box
from hdac.codecs.base_layer import Planes
from hdac.container import needs_face_box

NETWORK_SIDE = 512
"""Chosen: the longest side of what networks see of a face box: four times the work of the 256x256 that they are trained on."""

LEAST_SIDE = 256
"""Of the boxes that the encoder sends, where the picture has as much: less would not save much."""

FEATHER = 8
"""Chosen: luma samples from an edge of the box to what is the box's alone; half as many of chroma."""


def find(clip: Clip) -> Box | None:
    """The face box of a clip, or None where the networks see whole pictures."""
    if not needs_face_box(clip.width, clip.height):
        return None
    from data.faces import HaarCascade  # with a network runtime: only where pictures are large
    from data.framing import face_square

    square = face_square(clip, HaarCascade())
    largest = min(clip.width, clip.height)
    if square is None:
        return _square(clip, clip.width / 2, clip.height / 2, largest)
    side = min(max(square.width, LEAST_SIDE), largest)
    return _square(clip, square.x + square.width / 2, square.y + square.height / 2, side)


def _square(clip: Clip, x: float, y: float, side: int) -> Box:
    """Around (x, y), on even positions, moved into the picture."""
    side = side // 2 * 2

    def start(middle: float, whole: int) -> int:
        return max(0, min(round((middle - side / 2) / 2), (whole - side) // 2)) * 2

    return Box(start(x, clip.width), start(y, clip.height), side, side)


def network_size(box: Box) -> tuple[int, int]:
    """(width, height), even, at which networks see the box: its own where that is not too large."""
    longer = max(box.width, box.height)
    if longer <= NETWORK_SIDE:
        return box.width, box.height
    return round(box.width * NETWORK_SIDE / longer / 2) * 2, round(box.height * NETWORK_SIDE / longer / 2) * 2


def cut(planes: Planes, box: Box | None) -> Planes:
    """What is inside of the box, as views; all without a box."""
    if box is None:
        return planes
    y, u, v = planes
    rows, columns = slice(box.y // 2, (box.y + box.height) // 2), slice(box.x // 2, (box.x + box.width) // 2)
    return y[box.y : box.y + box.height, box.x : box.x + box.width], u[rows, columns], v[rows, columns]


def shrink(planes: Planes, size: tuple[int, int]) -> Planes:
    """The planes at another luma size (width, height), even, not larger: area-averaged."""
    width, height = size
    if planes[0].shape == (height, width):
        return planes
    sizes = (size, (width // 2, height // 2), (width // 2, height // 2))
    y, u, v = (
        np.asarray(cv2.resize(plane, to, interpolation=cv2.INTER_AREA), np.uint8)
        for plane, to in zip(planes, sizes, strict=True)
    )
    return y, u, v


Levels = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Planes in 8-bit levels, not rounded: float32; or uint8."""


def add_enlarged(planes: Levels, changes: Levels) -> Planes:
    """planes + changes, rounded and clamped. changes: of another size; enlarged bilinearly."""

    def add(plane: NDArray[Any], change: NDArray[Any]) -> Plane:
        enlarged = cv2.resize(change, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return np.clip(np.rint(plane + enlarged), 0, 255).astype(np.uint8)

    y, u, v = (add(plane, change) for plane, change in zip(planes, changes, strict=True))
    return y, u, v


def compose(around: Planes, inside: Planes, box: Box) -> Planes:
    """A picture with the box set into it: `around` outside of the box, `inside` in it, from one to the other at its edges."""
    height, width = around[0].shape
    y, u, v = (plane.copy() for plane in around)
    for whole, part, sampling in zip((y, u, v), inside, (1, 2, 2), strict=True):
        begin = box.y // sampling, box.x // sampling
        ramp = FEATHER // sampling
        down = _weights(part.shape[0], ramp, box.y > 0, box.y + box.height < height)
        across = _weights(part.shape[1], ramp, box.x > 0, box.x + box.width < width)
        target = whole[begin[0] : begin[0] + part.shape[0], begin[1] : begin[1] + part.shape[1]]
        change = (part.astype(np.int32) - target) * down[:, None] * across
        target[...] = target + (change + _WHOLE**2 // 2) // _WHOLE**2  # between the two samples: it fits
    return y, u, v


_WHOLE = 2 * FEATHER
"""The weight 1. Ramps of 8 and of 4 samples go through the middles of their steps: 1, 3, .. 15 and 2, 6, 10, 14 of 16."""


def _weights(length: int, ramp: int, at_start: bool, at_end: bool) -> NDArray[np.int32]:
    """Of the box's samples along one direction, 0 to _WHOLE."""
    weights = np.full(length, _WHOLE, np.int32)
    rising = (2 * np.arange(ramp, dtype=np.int32) + 1) * (_WHOLE // (2 * ramp))
    if at_start:
        weights[:ramp] = rising
    if at_end:
        weights[-ramp:] = rising[::-1]
    return weights
