"""The 68 facial landmarks of 300W (Sagonas et al., ICCV workshops 2013): their names, mirror images, subsets and polygons.

    0-16 jaw, from the picture's left   17-21, 22-26 brows   27-35 nose   36-41, 42-47 eyes   48-59 lips   60-67 inner mouth

The papers say how many landmarks they send, not which: the subsets are ours, each of them a part of the next larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

COUNT = 68
JAW, BROWS, NOSE, EYES, LIPS, INNER_MOUTH = (
    tuple(range(start, stop)) for start, stop in ((0, 17), (17, 27), (27, 36), (36, 48), (48, 60), (60, 68))
)
OUTER_EYE_CORNERS = (36, 45)
NOSE_TIP = 30

_ESSENTIAL = (8, 2, 14, 27, 30, 33, 19, 24, 36, 39, 42, 45, 38, 43, 48, 51, 54, 57, 62, 66)  # jaw, nose, brows, eyes, mouth
_MORE = (0, 4, 12, 16, 31, 35, 17, 21, 22, 26, 40, 47, 28)

SUBSETS: dict[int, tuple[int, ...]] = {
    20: tuple(sorted(_ESSENTIAL)),
    33: tuple(sorted(_ESSENTIAL + _MORE)),
    60: (*JAW[::2], *BROWS, *NOSE, *EYES, *LIPS, *INNER_MOUTH),
    68: tuple(range(COUNT)),
}
"""By size. 60: all but every second one of the jaw. The smaller ones have chin, cheeks, nose, brows, corners and lids of the
eyes, and the mouth's corners and middle."""


def _mirror() -> list[int]:
    other = list(range(COUNT))
    for first, last in ((0, 16), (17, 26), (31, 35)):
        other[first : last + 1] = range(last, first - 1, -1)
    for a, b in (
        *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
        *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),
        *((60, 64), (61, 63), (65, 67)),
    ):
        other[a], other[b] = b, a
    return other


MIRRORED = tuple(_mirror())
"""For every landmark the one that has its place when left and right are changed."""


FRONTAL = tuple(
    (float(x), float(y))
    for x, y in (
        point.split(",")
        for point in """
    -0.49,-0.12 -0.49,0.01 -0.47,0.15 -0.44,0.28 -0.4,0.4 -0.33,0.51 -0.23,0.6 -0.12,0.66 0,0.68 0.12,0.66 0.23,0.6
    0.33,0.51 0.4,0.4 0.44,0.28 0.47,0.15 0.49,0.01 0.49,-0.12 -0.4,-0.24 -0.34,-0.3 -0.26,-0.32 -0.17,-0.32 -0.09,-0.29
    0.09,-0.29 0.17,-0.32 0.26,-0.32 0.34,-0.3 0.4,-0.24 0,-0.17 0,-0.09 0,-0.01 0,0.07 -0.1,0.16 -0.05,0.17 0,0.18
    0.05,0.17 0.1,0.16 -0.3,-0.14 -0.25,-0.18 -0.18,-0.18 -0.13,-0.14 -0.19,-0.12 -0.25,-0.12 0.13,-0.14 0.18,-0.18
    0.25,-0.18 0.3,-0.14 0.25,-0.12 0.19,-0.12 -0.18,0.34 -0.12,0.3 -0.05,0.27 0,0.28 0.05,0.27 0.12,0.3 0.18,0.34
    0.12,0.41 0.05,0.44 0,0.45 -0.05,0.44 -0.12,0.41 -0.15,0.34 -0.05,0.32 0,0.33 0.05,0.32 0.15,0.34 0.05,0.37 0,0.37
    -0.05,0.37
    """.split()
    )
)
"""Landmarks of a face that looks into the camera, in [-1, 1] of a face crop as training has them: the mean of frames of 215
training clips with a head pose of less than 8 degrees, made symmetric."""


def turn(points: NDArray[np.float32]) -> float:
    """How far a face is turned to the side, of landmarks (68, 2): by how much the tip of the nose is to the right of the middle
    of the outer eye corners, in units of the distance of these; about 0 where it looks into the camera, whichever way the head
    is tilted."""
    left, right = points[list(OUTER_EYE_CORNERS)]
    across = right - left
    return float((points[NOSE_TIP] - (left + right) / 2) @ across / max(float(across @ across), 1e-6))


def eyes_open(points: NDArray[np.float32]) -> float:
    """How far the eyes are open, of landmarks (68, 2): the lids' distance in units of an eye's width, mean of both (Soukupova
    and Cech, "Real-time eye blink detection using facial landmarks", CVWW 2016)."""
    eyes = points[list(EYES)].reshape(2, 6, 2)
    lids = np.linalg.norm(eyes[:, (1, 2)] - eyes[:, (5, 4)], axis=-1).mean(1)
    return float((lids / np.maximum(np.linalg.norm(eyes[:, 0] - eyes[:, 3], axis=-1), 1e-6)).mean())


class Polygon(NamedTuple):
    """A region of a face."""

    label: int
    """Of 1 to N_LABELS - 1; 0 is what no polygon covers."""
    corners: tuple[int, ...]
    """Landmarks."""


POLYGONS = (
    Polygon(1, tuple(range(17, 22))),
    Polygon(1, tuple(range(22, 27))),
    Polygon(2, tuple(range(36, 42))),
    Polygon(2, tuple(range(42, 48))),
    Polygon(3, LIPS),
    Polygon(4, INNER_MOUTH),
)
"""Brows, eyes, lips, inner mouth, in the order in which they are drawn (Oquab et al., CVPR workshops 2021, section 3.4)."""
DRAWN = tuple(sorted({corner for polygon in POLYGONS for corner in polygon.corners}))
"""Landmarks that polygons have as corners: 42 of the 60 which the paper sends for them."""
N_LABELS = 5
SKETCH = (
    Polygon(1, (*JAW, *reversed(BROWS))),
    Polygon(2, (27, 31, 32, 33, 34, 35)),
    *(Polygon(polygon.label + 2, polygon.corners) for polygon in POLYGONS),
)
"""Face and nose below them."""
N_SKETCHED = N_LABELS + 2
_FRACTION_BITS = 4


def label_map(points: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """Labels of POLYGONS, uint8 (height, width), of 68 landmarks (68, 2), (x, y) in [-1, 1] as sampling grids have it.

    Corners are rounded to a sixteenth of a sample before they are drawn, in integers: the map is the same on every machine.
    """
    return _drawn(POLYGONS, points, height, width)


def sketch_map(points: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """Likewise of SKETCH."""
    return _drawn(SKETCH, points, height, width)


def _drawn(polygons: Sequence[Polygon], points: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    unit = 0.5 * (1 << _FRACTION_BITS) * np.array([width - 1, height - 1])
    fixed = np.rint((points + 1) * unit).astype(np.int32)
    labels = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(labels, [fixed[list(polygon.corners)]], [polygon.label], shift=_FRACTION_BITS)
    return labels
