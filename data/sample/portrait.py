"""The portrait as layers: background, torso and head, cut out of one photograph, with a depth proxy for the head.

The photograph is NASA's portrait of the astronaut Eileen Collins (public domain, 512x512, part of scikit-image as
`skimage.data.astronaut`). Outlines, facial curves and depth below were fitted to it by hand; all coordinates are
pixels of that picture, x to the right, y down, whole numbers at pixel centres.

    background  wall, flag and model; the person is filled in from around (multi-scale normalised convolution)
    torso       suit and helmet ring; behind the head, the ring is continued along its own ellipse
    head        hair, face, neck and collar; matte from the difference to the filled-in background
    skin        the head with eyes and mouth filled in by the lids and lips around them
    eyes, mouth what lies behind lids and lips

Everything is float64 arithmetic of numpy and scipy, so that the layers come out the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.data import astronaut
from skimage.draw import polygon2mask

Floats = NDArray[np.float64]

SIZE = 512  # of the photograph
PAD = 64  # the background continues beyond the photograph by its mirror image
OVERSAMPLE = 2  # textures are stored at twice the photograph's resolution, so that bilinear look-ups stay crisp

# clockwise from the left ear; generous by some 3 px where the matte decides (hair, ears)
HEAD_OUTLINE = (
    (183, 134), (171, 131), (164, 121), (156, 110), (151, 98), (150, 84), (149, 68), (152, 57), (162, 46), (173, 38),
    (184, 32), (189, 25), (203, 16), (218, 12), (232, 11), (246, 13), (260, 18), (274, 26), (287, 37), (296, 50),
    (301, 66), (304, 82), (302, 101), (296, 116), (287, 128), (278, 136), (268, 139), (264, 138), (264, 150),
    (259, 161), (256, 172), (253.5, 181), (253, 190), (258, 202), (254, 228), (188, 228), (180, 204), (185, 186),
    (185, 172), (183, 160), (181, 150), (179, 140),
)  # fmt: skip
TORSO_OUTLINE = (
    (20, 600), (30, 330), (50, 275), (66, 246), (75, 237), (85, 229), (96, 222), (105, 215), (111, 208), (112, 195),
    (114, 188), (119, 187), (123, 175), (129, 167), (140, 157), (151, 151), (168, 148.3), (190, 149.1), (205, 152),
    (221, 156.7), (236, 163), (251, 171), (268, 182), (282, 196), (292, 209), (299, 222), (302, 235), (315, 242),
    (328, 250), (340, 261), (350, 275), (356, 290), (360, 308), (364, 345), (366, 600),
)  # fmt: skip
NECK = (172.0, 226.0)  # y: above, points move with the head, below with the torso
EARS = (((166, 116), (172, 128), (180, 130), (186, 122)), ((266, 122), (267, 134), (272, 133), (279, 122)))
RING = (212.9, 212.4, 96.1, 54.6, 25.5)  # helmet ring, outer edge: centre x, y, semi-axes, degrees from x towards y


@dataclass(frozen=True)
class Texture:
    """Premultiplied RGBA samples on a grid of half-pixel pitch.

    rgba:   float32 (h, w, 4); colours 0..255 times alpha, alpha 0..1.
    origin: photograph coordinates (x, y) of sample (0, 0).
    """

    rgba: NDArray[np.float32]
    origin: tuple[float, float]

    def sample(self, x: Floats, y: Floats) -> NDArray[np.float32]:
        """Bilinear look-up at photograph coordinates, any shape S: float32 (*S, 4); the border is held."""
        h, w, _ = self.rgba.shape
        u = np.clip((x - self.origin[0]) * OVERSAMPLE, 0, w - 1.001)
        v = np.clip((y - self.origin[1]) * OVERSAMPLE, 0, h - 1.001)
        iu, iv = u.astype(np.int64), v.astype(np.int64)
        fu, fv = (u - iu).astype(np.float32)[..., None], (v - iv).astype(np.float32)[..., None]
        flat = self.rgba.reshape(-1, 4)
        at = iv * w + iu
        top = flat[at] * (1 - fu) + flat[at + 1] * fu
        bottom = flat[at + w] * (1 - fu) + flat[at + w + 1] * fu
        return np.asarray(top * (1 - fv) + bottom * fv, np.float32)


@dataclass(frozen=True)
class Portrait:
    background: Texture
    torso: Texture
    head: Texture
    """Skin, hair and collar; eyes and mouth are filled in."""
    inner: Texture
    """Eyeballs and upper teeth, continued behind lids and lips."""
    depth: Floats
    """(SIZE, SIZE): height of the head towards the camera, px; 0 at the hair's outline, about 75 at the nose's tip."""


# -- facial curves: y over x, from corner to corner --------------------------------------------------------------------

LEFT_EYE = (193.0, 212.5)  # x of the corners, left and right in the picture
RIGHT_EYE = (236.5, 257.5)
MOUTH = (202.5, 244.0)

UPPER_LID = (
    (193, 100.8), (195, 99.4), (197, 98.5), (200, 97.9), (203, 97.8), (206, 98.4), (209, 100.0), (212.5, 103.2),
    (236.5, 104.6), (239, 102.4), (242, 101.0), (245, 100.4), (248, 100.4), (251, 101.0), (254, 102.0), (257.5, 103.6),
)  # fmt: skip
LOWER_LID = (
    (193, 100.8), (196, 102.2), (199, 103.3), (203, 104.2), (206, 104.4), (209, 104.0), (212.5, 103.2),
    (236.5, 104.6), (239, 105.5), (242, 106.1), (246, 106.5), (250, 106.0), (254, 104.9), (257.5, 103.6),
)  # fmt: skip
BROW = (
    (184, 92), (189, 90.5), (197, 88.5), (205, 90), (212, 92), (225, 92.5), (238, 93), (250, 92), (260, 95),
    (268, 97),
)  # fmt: skip
UPPER_LIP_TOP = (
    (196, 137.5), (203, 138.3), (212, 138.6), (219, 138.9), (224, 139.4), (230, 139.0), (244, 139.5), (250, 139.5),
)  # fmt: skip
UPPER_LIP = (
    (202.5, 139.6), (205, 140.6), (208, 141.6), (211, 142.4), (215, 143.3), (220, 143.9), (225, 144.1), (230, 143.9),
    (234, 143.3), (238, 142.0), (241, 141.2), (244, 140.8),
)  # fmt: skip
LOWER_LIP = (
    (202.5, 139.6), (204, 142.2), (206, 144.6), (209, 147.0), (212, 148.4), (216, 149.3), (221, 149.5), (226, 149.1),
    (230, 148.3), (234, 146.8), (238, 144.7), (241, 142.8), (244, 140.8),
)  # fmt: skip
LOWER_LIP_BOTTOM = (
    (198, 144), (204, 147), (208, 150.5), (213, 153.5), (219, 155), (225, 154.8), (231, 153), (237, 149.5),
    (243, 145.5), (248, 144),
)  # fmt: skip
CHIN = (
    (180, 158), (190, 162), (200, 170.5), (210, 176.5), (218, 178.5), (226, 178.5), (235, 177), (245, 172.5),
    (254, 165), (264, 158),
)  # fmt: skip


def curve(points: tuple[tuple[float, float], ...], x: Floats) -> Floats:
    """y of a facial curve at x, held beyond its ends; smooth to the eye at the curves' 2 to 4 px spacing."""
    return np.interp(x, [p[0] for p in points], [p[1] for p in points])


def opening(points: tuple[tuple[float, float], ...], other: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    """Pixels of the photograph that lie between two curves (an eye or the mouth)."""
    mask = np.zeros((SIZE, SIZE), bool)
    for first, last in (LEFT_EYE, RIGHT_EYE) if points is UPPER_LID else (MOUTH,):
        x = np.arange(np.ceil(first), last)
        top, bottom = curve(points, x), curve(other, x)
        y = np.arange(SIZE)[:, None]
        mask[:, x.astype(int)] |= (y > top - 0.5) & (y < bottom + 0.5)
    return mask


# -- layers ----------------------------------------------------------------------------------------------------------


@cache
def portrait() -> Portrait:
    """The layers; made once per process (about a second)."""
    photo = astronaut().astype(np.float64)
    head_inside = _polygon(HEAD_OUTLINE)
    torso_inside = _polygon(TORSO_OUTLINE)
    person = ndimage.binary_dilation(head_inside | torso_inside, iterations=3)
    wall = _fill(photo, ~person)
    head_alpha, head_colour = _matte(photo, _head_region(photo, wall, head_inside), reach=2)
    # towards the collar, black lies on black: any soft edge will do
    y = np.arange(SIZE, dtype=float)[:, None]
    collar = ndimage.gaussian_filter(head_inside.astype(float), 2.5) * ramp(-y, -234, -220)
    head_alpha += ramp(y, 180, 188) * (collar - head_alpha)
    headless = _continue_ring(photo, wall, ndimage.binary_dilation(head_alpha > 0.02, iterations=2))
    torso_alpha, torso_colour = _matte(headless, torso_inside, reach=3)

    skin, inner = head_colour, photo.copy()
    for upper, lower, box in (
        (UPPER_LID, LOWER_LID, np.s_[85:120, 180:270]),
        (UPPER_LIP, LOWER_LIP, np.s_[120:170, 185:260]),
    ):
        inside = opening(upper, lower)[box]
        hidden = ndimage.binary_dilation(inside)
        skin[box] = _fill(photo[box], ~hidden, coarsest=8)
        inner[box] = _fill(photo[box], ndimage.binary_erosion(inside, np.ones((2, 1))), coarsest=8)

    background = np.where(person[..., None], wall, photo)
    background = np.pad(background, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="symmetric")
    return Portrait(
        background=make_texture(background, np.ones(background.shape[:2]), (-PAD, -PAD)),
        torso=make_texture(torso_colour, torso_alpha, (0, 0)),
        head=make_texture(skin, head_alpha, (0, 0)),
        inner=make_texture(inner, np.ones((SIZE, SIZE)), (0, 0)),
        depth=_depth(),
    )


def _polygon(points: tuple[tuple[float, float], ...]) -> NDArray[np.bool_]:
    return np.asarray(polygon2mask((SIZE, SIZE), np.array(points, float)[:, ::-1]))


def _fill(picture: Floats, known: NDArray[np.bool_], coarsest: float = 64) -> Floats:
    """`picture` with its unknown pixels averaged from known ones, near ones first.

    Normalised convolution with Gaussians from coarse to fine; each finer one takes over where it sees enough pixels.
    """
    weight = known.astype(float)
    filled = np.broadcast_to(picture[known].mean(axis=0), picture.shape).copy()
    sigma = coarsest
    while sigma >= 1:
        share = ndimage.gaussian_filter(weight, sigma, truncate=3)
        trust = np.clip(share / 0.2, 0, 1)
        for c in range(3):
            local = ndimage.gaussian_filter(picture[..., c] * weight, sigma, truncate=3) / np.maximum(share, 1e-9)
            filled[..., c] += trust * (local - filled[..., c])
        sigma /= 2
    return np.where(known[..., None], picture, filled)


def ramp(value: Floats, low: float, high: float) -> Floats:
    """Smoothstep: 0 below `low`, 1 above `high`."""
    s = np.clip((value - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def _head_region(photo: Floats, wall: Floats, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the head: by difference to the wall along hair and ears, by skin colour along jaw and neck."""
    y = np.arange(SIZE)[:, None]
    off_wall = np.abs(photo - wall).max(axis=2) > 36
    warm = photo[..., 0] - photo[..., 2] > 32  # skin has 40 and more, wall, ring and lining under 20
    found = np.where(y < 141, off_wall | warm, warm)
    core = ndimage.binary_erosion(inside, iterations=9) | _polygon(EARS[0]) | _polygon(EARS[1])
    region = inside & (core | found | (y > 183))
    return np.asarray(ndimage.binary_opening(ndimage.binary_closing(region, iterations=2), iterations=1))


def _matte(photo: Floats, region: NDArray[np.bool_], reach: int) -> tuple[Floats, Floats]:
    """Alpha and own colours of a region whose outline is known to `reach` px.

    In the band around the outline, photo = alpha * own + (1 - alpha) * behind, with own colours continued from the
    inside and those behind from the outside; alpha is the least-squares solution.
    """
    sure = ndimage.binary_erosion(region, iterations=reach)
    outside = ~ndimage.binary_dilation(region, iterations=reach)
    band = ~(sure | outside)
    own, behind = photo.copy(), photo.copy()
    rows, columns = np.nonzero(band)
    box = np.s_[max(rows.min() - 24, 0) : rows.max() + 25, max(columns.min() - 24, 0) : columns.max() + 25]
    own[box] = _fill(photo[box], sure[box], coarsest=8)
    behind[box] = _fill(photo[box], outside[box], coarsest=8)
    across = own - behind
    share = ((photo - behind) * across).sum(axis=2) / np.maximum((across**2).sum(axis=2), 1e-9)
    # where both sides look alike the outline itself decides
    clear = ramp(np.abs(across).max(axis=2), 15, 45)
    drawn = np.clip(ndimage.gaussian_filter(region.astype(float), 0.8), 0, 1)
    alpha = np.where(band, drawn + clear * (np.clip(share, 0, 1) - drawn), sure.astype(float))
    keep = ramp(alpha, 0.80, 0.98)[..., None]
    return alpha, np.where(band[..., None], own + keep * (photo - own), np.where(sure[..., None], photo, own))


def _continue_ring(photo: Floats, wall: Floats, hidden: NDArray[np.bool_]) -> Floats:
    """The torso without the head: hidden pixels mirror the helmet ring along its ellipse at the head's edges."""
    cx, cy, a, b, tilt = RING
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    p, q = ((x - cx) * c + (y - cy) * s) / a, (-(x - cx) * s + (y - cy) * c) / b
    angle, radius = np.arctan2(q, p), np.hypot(p, q)
    # the head hides the ring between these angles; each half mirrors what is beyond its own end
    left, right = _ring_angle(178, 152), _ring_angle(262, 179)
    middle = 0.5 * (left + right)
    mirrored = np.where(angle < middle, 2 * left - angle, 2 * right - angle)
    px, py = a * radius * np.cos(mirrored), b * radius * np.sin(mirrored)
    coords = (cy + px * s + py * c, cx + px * c - py * s)
    mirror = np.stack([ndimage.map_coordinates(photo[..., k], coords, order=1, mode="nearest") for k in range(3)], -1)
    from_head = ndimage.map_coordinates(hidden.astype(float), coords, order=1) > 0
    cloth = _fill(photo, ~(hidden | (y < 165)) & (photo.max(axis=2) < 40), coarsest=32)  # black, inside of the ring
    plain = np.where((radius < 1)[..., None], cloth, wall)
    rim = (ramp(radius, 0.74, 0.80) * ~from_head * (radius < 1.15))[..., None]
    return np.where(hidden[..., None], rim * mirror + (1 - rim) * plain, photo)


def _ring_angle(x: float, y: float) -> float:
    cx, cy, a, b, tilt = RING
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return float(np.arctan2((-(x - cx) * s + (y - cy) * c) / b, ((x - cx) * c + (y - cy) * s) / a))


def _depth() -> Floats:
    """Height of the head over its outline, px: a paraboloid with brow, nose, lips, chin and eye sockets on it.

    A paraboloid and no ellipsoid, for its slope stays finite at the outline; with slopes below 2 the picture of a head
    turned by less than 25 degrees is a one-to-one map, which the renderer inverts by fixed-point iteration.
    """
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)

    def bump(height: float, cx: float, cy: float, sx: float, sy: float) -> Floats:
        return height * np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))

    z = 62 * np.clip(1 - ((x - 226) / 80) ** 2 - ((y - 100) / 100) ** 2, 0, None)
    z += bump(15, 222, 125, 8, 9) + bump(6, 224, 110, 6, 12)
    z += bump(5, 222, 146, 16, 9) + bump(12, 221, 166, 20, 13) + bump(3, 224, 90, 26, 6)
    z -= bump(5, 203, 101, 9, 6) + bump(5, 247, 103, 9, 6)
    return ndimage.gaussian_filter(z, 2.0)


def make_texture(picture: Floats, alpha: Floats, origin: tuple[float, float]) -> Texture:
    """Premultiplied samples at half-pixel pitch."""
    colour = np.clip(_halve_pitch(_halve_pitch(picture, 0), 1), 0, 255)
    share = np.clip(_halve_pitch(_halve_pitch(alpha[..., None], 0), 1), 0, 1)
    return Texture(np.ascontiguousarray(np.concatenate((colour * share, share), -1), np.float32), origin)


def _halve_pitch(picture: Floats, axis: int) -> Floats:
    """Samples in between by the six-tap half-sample filter of H.264 (1, -5, 20, 20, -5, 1) / 32."""
    p = np.moveaxis(picture, axis, 0)
    n = len(p)
    e = np.concatenate((p[2:0:-1], p, p[-2:-4:-1]))  # mirrored; e[i + 2] is p[i]
    out = np.empty((2 * n - 1, *p.shape[1:]))
    out[0::2] = p
    taps = [e[k : k + n - 1] for k in range(6)]
    out[1::2] = (taps[0] + taps[5] - 5 * (taps[1] + taps[4]) + 20 * (taps[2] + taps[3])) / 32
    return np.moveaxis(out, 0, axis)
