"""The occluder: an open hand in the suit's sleeve, modelled as a height field and lit like the portrait.

Palm and fingers are tapered capsules, joined smoothly; the slopes of their height field give the light and the darker
rims. The skin's colour and grain are those of the portrait's cheek, the sleeve is cut from the portrait's own.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.data import astronaut

from data.sample.portrait import Texture, make_texture

Floats = NDArray[np.float64]
Joint = tuple[float, float, float]  # x, y (down), radius; photograph pixels from the wrist

BOX = (-72, -122, 72, 230)  # of the sprite around the wrist: x0, y0, x1, y1
LIGHT = (0.42, -0.52, 0.74)  # towards the light: right, up, to the camera; as on the portrait's face
CUFF_Y = 24  # where the sleeve begins
BLUR_PX = 0.9  # the hand is nearer to the camera than its focus
CHEEK = (slice(107, 127), slice(190, 214))  # rows and columns of plain skin
SLEEVE = (slice(285, 455), slice(36, 116))

FINGERS: tuple[tuple[Joint, ...], ...] = (
    ((-23, -52, 9.4), (-30, -76, 8.4), (-34, -90, 7.8), (-36, -102, 6.6)),
    ((-8, -58, 9.6), (-11, -86, 8.7), (-12, -101, 8.0), (-12, -113, 6.8)),
    ((8, -57, 9.2), (11, -83, 8.3), (13, -97, 7.7), (14, -108, 6.5)),
    ((22, -49, 8.2), (29, -69, 7.2), (33, -80, 6.6), (35, -89, 5.7)),
)  # index, middle, ring and little finger
THUMB: tuple[Joint, ...] = ((-17, -14, 14), (-36, -31, 10.5), (-47, -47, 9.0), (-52, -60, 7.4))
PALM: tuple[tuple[Joint, ...], ...] = (
    ((-13, -14, 18), (-17, -44, 14)),
    ((0, -16, 18), (-2, -48, 14)),
    ((11, -12, 18), (14, -44, 13)),
    ((0, -4, 22), (0, 60, 21)),
)
CREASES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((-33, -40), (-18, -40), (0, -33), (16, -24)),  # head line
    ((30, -42), (14, -46), (-4, -50), (-16, -58)),  # heart line
    ((-30, -38), (-14, -30), (-5, -14), (-4, 4)),  # life line
    ((-17, 8), (0, 11), (17, 8)),  # wrist
)


@cache
def hand() -> Texture:
    """The hand, palm to the camera, fingers up, on its forearm; the origin of its coordinates is the wrist."""
    x0, y0, x1, y1 = BOX
    y, x = np.mgrid[y0 : y1 + 1, x0 : x1 + 1].astype(float)
    photo = astronaut().astype(float)

    palm = _union([_capsule(x, y, a, b) * 0.62 for a, b in PALM], 3.0)
    thumb = _union([_capsule(x, y, a, b) for a, b in zip(THUMB, THUMB[1:], strict=False)], 1.5)
    height = _union([palm, thumb * 0.9], 4.0)
    rims = np.ones_like(x)
    for finger in FINGERS:
        limb = _union([_capsule(x, y, a, b) for a, b in zip(finger, finger[1:], strict=False)], 1.2)
        rims *= 1 - 0.16 * np.exp(-0.5 * (limb / 2.2) ** 2) * (limb > 0) * (palm < 7)  # gaps between fingers are dark
        height = _union([height, limb * 0.95], 2.5)
    shape = np.clip(ndimage.gaussian_filter((height > 0.8).astype(float), 0.7), 0, 1)

    smooth = ndimage.gaussian_filter(height, 1.8)
    down, right = np.gradient(smooth)
    normal = np.stack((-right, -down, np.full_like(x, 1.1)), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.clip(normal @ (np.array(LIGHT) / np.linalg.norm(LIGHT)), 0, 1)
    shade = (0.50 + 0.56 * light) * rims
    for finger in (*FINGERS, THUMB):
        for a, b, c in zip(finger, finger[1:], finger[2:], strict=False):
            shade *= _fold(x, y, a, b, c)
    for line in CREASES:
        shade *= 1 - 0.10 * np.exp(-0.5 * (_distance(x, y, line) / 1.0) ** 2)

    cheek = photo[CHEEK]
    tone = cheek.mean(axis=(0, 1))
    grain = cheek.mean(axis=2) / ndimage.gaussian_filter(cheek.mean(axis=2), 1.5)
    grain = np.clip(grain, 0.975, 1.025)[:16, :16]  # fine grain only: larger marks would show as a pattern
    tile = np.tile(np.block([[grain, grain[::-1].T], [grain.T, grain[:, ::-1]]]), (12, 5))[: x.shape[0], : x.shape[1]]
    mottle = ndimage.gaussian_filter(np.sin(0.11 * x + 0.05 * y) * np.sin(0.07 * y - 0.04 * x), 3)
    blood = np.clip(1 - light, 0, 1) + 0.10 * mottle + 0.12 * np.clip((-y - 70) / 40, 0, 1)  # redder in shade, on tips
    skin = tone * shade[..., None] * tile[..., None]
    skin *= 1 - np.array((0.0, 0.20, 0.26)) * np.clip(blood, 0, 1)[..., None]

    picture, alpha = _with_sleeve(x, y, skin, shape, photo)
    alpha = ndimage.gaussian_filter(alpha, BLUR_PX)
    picture = np.stack([ndimage.gaussian_filter(picture[..., c], 0.6 * BLUR_PX) for c in range(3)], -1)
    return make_texture(np.clip(picture, 0, 255), np.clip(alpha, 0, 1), (x0, y0))


def _with_sleeve(x: Floats, y: Floats, skin: Floats, shape: Floats, photo: Floats) -> tuple[Floats, Floats]:
    """The forearm's sleeve with its dark cuff, over the wrist."""
    edge = CUFF_Y + 3.0 * (x / 30) ** 2 * -1 + 2.0
    half = 31 + 0.10 * np.clip(y - CUFF_Y, 0, None)
    cover = _edge(y - edge) * _edge(half - np.abs(x))
    roundness = np.sqrt(np.clip(1 - (x / (half + 1)) ** 2, 0, 1))
    cloth = photo[SLEEVE]
    rows = np.clip((y - CUFF_Y) * 0.8, 0, cloth.shape[0] - 1)
    columns = (np.clip(x / half, -1, 1) * 0.5 + 0.5) * (cloth.shape[1] - 1)
    sleeve = np.stack([ndimage.map_coordinates(cloth[..., c], (rows, columns), order=1) for c in range(3)], -1)
    sleeve *= (0.52 + 0.52 * roundness)[..., None]
    band = _edge(y - edge) * _edge(edge + 13 - y)  # the cuff: dark rubber
    rubber = np.array((52.0, 46.0, 58.0)) * (0.45 + 0.75 * roundness)[..., None]
    sleeve += band[..., None] * (rubber - sleeve)
    under = 1 - 0.45 * np.exp(-0.5 * (np.clip(edge - y, 0, None) / 3.0) ** 2)  # its shadow on the wrist
    picture = skin * under[..., None]
    picture += cover[..., None] * (sleeve - picture)
    return picture, np.maximum(shape * _edge(edge + 4 - y), cover)


def _edge(distance: Floats) -> Floats:
    """1 where positive, 0 where negative, over one pixel."""
    return np.clip(distance + 0.5, 0, 1)


def _capsule(x: Floats, y: Floats, a: Joint, b: Joint) -> Floats:
    """Height of a tapered capsule with round cross-section, 0 outside."""
    along, distance = _along(x, y, a[:2], b[:2])
    radius = a[2] + along * (b[2] - a[2])
    return np.sqrt(np.clip(radius**2 - distance**2, 0, None))


def _along(x: Floats, y: Floats, a: tuple[float, float], b: tuple[float, float]) -> tuple[Floats, Floats]:
    """Nearest place on the segment a, b, 0..1, and the distance to it."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    s = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return s, np.hypot(x - a[0] - s * dx, y - a[1] - s * dy)


def _distance(x: Floats, y: Floats, line: tuple[tuple[float, float], ...]) -> Floats:
    return np.minimum.reduce([_along(x, y, a, b)[1] for a, b in zip(line, line[1:], strict=False)])


def _union(heights: list[Floats], width: float) -> Floats:
    """Smooth maximum of heights, 0 where all of them are 0."""
    stack = np.stack(heights)
    soft = width * np.log(np.exp(stack / width).sum(axis=0)) - width * np.log(len(heights))
    return np.where(stack.max(axis=0) > 0, np.maximum(soft, stack.max(axis=0)), 0)


def _fold(x: Floats, y: Floats, a: Joint, b: Joint, c: Joint) -> Floats:
    """Shade of the crease across a finger's joint b: a dark thin line between fuller pads."""
    dx, dy = c[0] - a[0], c[1] - a[1]
    length = np.hypot(dx, dy)
    along = ((x - b[0]) * dx + (y - b[1]) * dy) / length
    across = np.abs((x - b[0]) * dy - (y - b[1]) * dx) / length
    return 1 - 0.09 * np.exp(-0.5 * (along / 0.8) ** 2) * np.clip(b[2] + 0.5 - across, 0, 1)
