"""Rendering: from a pose to the picture, and from any pixel to the point of the person that it shows.

Coordinates, front to back:

    material  a point of the photograph: where it lies on skin, torso or wall when nothing moves
      | face: vertical, column by column (lids, lips, jaw, brows), then the mouth's width
      | head: rotation of the depth proxy about the top of the neck, orthographic; fades into the torso in the neck
      | torso: rotation and translation of the whole person
    world     where that point is now, in photograph pixels
      | camera
    frame     output pixels

Every step is one-to-one within its layer, and both directions are implemented: a picture is made by tracing frame
pixels back to material, the true motion by carrying material forward into another frame. So motion and pictures cannot
disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data.sample import portrait as model
from data.sample.hand import hand
from data.sample.motion import REST_GAP_PX, Camera, Pose
from data.sample.portrait import curve, portrait, ramp

Floats = NDArray[np.float64]
Colours = NDArray[np.float32]
Mask = NDArray[np.bool_]

BACKGROUND, TORSO, SKIN, EYE, TEETH, CAVITY, HAND = range(7)  # labels; CAVITY is the dark of the mouth, not traceable

PIVOT = (224.0, 150.0, -12.0)  # of the head's rotation: x, y, depth; at the top of the neck
TORSO_PIVOT = (220.0, 420.0)
MOUTH_CENTRE = (223.2, 145.0)
MOUTH_HALF_WIDTH = 20.5
FACE_BOX = (178.0, 70.0, 268.0, 205.0)  # x0, y0, x1, y1: faces move inside of it only
LASHES = (62.0, 38.0, 28.0)  # R'G'B', as in the photograph
MOUTH_DARK = (44.0, 18.0, 16.0)
TONGUE = (138.0, 74.0, 70.0)
LIP_LINE = (104.0, 50.0, 46.0)  # between closed lips
HAND_SHADOW = (-9.0, 7.0)  # offset of the hand's shadow, px

_COLUMNS = np.arange(FACE_BOX[0], FACE_BOX[2] + 0.5, 0.5)


@dataclass(frozen=True)
class Traced:
    """What each pixel of a frame shows. picture: float32 (H, W, 3), 0..255, before noise and rounding.

    label: uint8 (H, W). material: float64 (H, W, 2), (x, y) on the layer of that label.
    """

    picture: Colours
    label: NDArray[np.uint8]
    material: Floats


class Stage:
    """One pose before one camera, both ways between material and frame."""

    def __init__(self, pose: Pose, camera: Camera, size: int) -> None:
        self.pose, self.camera, self.size = pose, camera, size

    # -- forward: material to frame --------------------------------------------------------------------------------

    def project(self, label: int, points: Floats) -> Floats:
        """Frame coordinates of material points (..., 2) of one layer."""
        x, y = points[..., 0], points[..., 1]
        if label == BACKGROUND:
            wx, wy = self._background_forward(x, y)
        elif label == HAND:
            wx, wy = self._hand_forward(x, y)
        else:
            if label == SKIN:
                x, y = self._face_forward(x, y)
            elif label == EYE:
                x, y = x + self.pose.gaze[0], y + self.pose.gaze[1]
            if label != TORSO:
                x, y = self._head_forward(x, y)
            wx, wy = self._torso_forward(x, y)
        return np.stack(self._to_frame(wx, wy), -1)

    # -- backward: frame to material, with colours -----------------------------------------------------------------

    def trace(self) -> Traced:
        layers = portrait()
        fy, fx = np.mgrid[0 : self.size, 0 : self.size].astype(float)
        wx, wy = self.to_world(fx, fy)
        bx, by = self._background_back(wx, wy)
        picture = layers.background.sample(bx, by)[..., :3]
        label = np.full(fx.shape, BACKGROUND, np.uint8)
        material = np.stack((bx, by), -1)

        tx, ty = self._torso_back(wx, wy)
        rgba = layers.torso.sample(tx, ty)
        _over(picture, label, material, np.s_[:, :], rgba, TORSO, (tx, ty))
        person = rgba[..., 3].copy()

        box = self._head_box()
        hx, hy = self._head_back(tx[box], ty[box])
        sx, sy, rgba, kind, inner = self._face(hx, hy)
        _over(picture, label, material, box, rgba, SKIN, (sx, sy))
        person[box] = np.maximum(person[box], rgba[..., 3])
        for what in (EYE, TEETH, CAVITY):
            here = (kind == what) & (rgba[..., 3] > 0.5)
            label[box][here] = what
            material[box][here] = inner[here]

        if self.pose.hand is not None:
            mx, my = self._hand_back(wx, wy)
            shadow = hand().sample(mx - HAND_SHADOW[0], my - HAND_SHADOW[1])[..., 3]
            picture *= (1 - 0.38 * person * ndimage.gaussian_filter(shadow, 5.0))[..., None]
            _over(picture, label, material, np.s_[:, :], hand().sample(mx, my), HAND, (mx, my))
        return Traced(picture * np.array(self.camera.gain, np.float32), label, material)

    # -- camera ------------------------------------------------------------------------------------------------------

    def to_world(self, fx: Floats, fy: Floats) -> tuple[Floats, Floats]:
        middle = (self.size - 1) / 2
        sign = -1.0 if self.camera.mirrored else 1.0
        pitch = self.camera.pitch * 256 / self.size
        return self.camera.centre[0] + sign * (fx - middle) * pitch, self.camera.centre[1] + (fy - middle) * pitch

    def _to_frame(self, wx: Floats, wy: Floats) -> tuple[Floats, Floats]:
        middle = (self.size - 1) / 2
        sign = -1.0 if self.camera.mirrored else 1.0
        pitch = self.camera.pitch * 256 / self.size
        return middle + sign * (wx - self.camera.centre[0]) / pitch, middle + (wy - self.camera.centre[1]) / pitch

    # -- background ----------------------------------------------------------------------------------------------------

    def _waves(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Displacement of the flag at material (x, y): waves that run down it, none at its right border and beyond."""
        amplitude, phase = self.pose.flag
        hang = np.clip((118 - x) / 60, 0, 1)
        angle = 0.045 * x + 0.06 * y - phase
        return amplitude * hang * np.sin(angle), 0.4 * amplitude * hang * np.cos(angle)

    def _background_forward(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        dx, dy = self._waves(x, y)
        return x + dx + self.pose.background[0], y + dy + self.pose.background[1]

    def _background_back(self, wx: Floats, wy: Floats) -> tuple[Floats, Floats]:
        ux, uy = wx - self.pose.background[0], wy - self.pose.background[1]
        x, y = ux, uy
        for _ in range(8 if self.pose.flag[0] else 0):
            dx, dy = self._waves(x, y)
            x, y = ux - dx, uy - dy
        return x, y

    # -- torso and hand: similarities --------------------------------------------------------------------------------

    def _torso_forward(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        dx, dy, degrees = self.pose.torso
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        px, py = x - TORSO_PIVOT[0], y - TORSO_PIVOT[1]
        return TORSO_PIVOT[0] + c * px - s * py + dx, TORSO_PIVOT[1] + s * px + c * py + dy

    def _torso_back(self, wx: Floats, wy: Floats) -> tuple[Floats, Floats]:
        dx, dy, degrees = self.pose.torso
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        px, py = wx - dx - TORSO_PIVOT[0], wy - dy - TORSO_PIVOT[1]
        return TORSO_PIVOT[0] + c * px + s * py, TORSO_PIVOT[1] - s * px + c * py

    def _hand_forward(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        assert self.pose.hand is not None
        wx, wy, degrees, scale = self.pose.hand
        c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
        return wx + c * x - s * y, wy + s * x + c * y

    def _hand_back(self, wx: Floats, wy: Floats) -> tuple[Floats, Floats]:
        assert self.pose.hand is not None
        hx, hy, degrees, scale = self.pose.hand
        c, s = np.cos(np.radians(degrees)) / scale, np.sin(np.radians(degrees)) / scale
        return c * (wx - hx) + s * (wy - hy), -s * (wx - hx) + c * (wy - hy)

    # -- head -------------------------------------------------------------------------------------------------------

    @cached_property
    def _rotation(self) -> Floats:
        """(2, 3): the first two rows of zoom * roll * pitch * yaw; the third coordinate points to the camera."""
        yaw, pitch, roll = np.radians((self.pose.yaw, self.pose.pitch, self.pose.roll))
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        about_y = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
        about_x = np.array(((1, 0, 0), (0, cp, sp), (0, -sp, cp)))
        about_z = np.array(((cr, -sr, 0), (sr, cr, 0), (0, 0, 1)))
        return self.pose.zoom * (about_z @ about_x @ about_y)[:2]

    def _head_forward(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        r = self._rotation
        depth = _look_up(portrait().depth, x, y)
        attached = 1 - ramp(y, *model.NECK)
        px, py, pz = x - PIVOT[0], y - PIVOT[1], depth - PIVOT[2]
        hx = PIVOT[0] + r[0, 0] * px + r[0, 1] * py + r[0, 2] * pz + self.pose.shift[0]
        hy = PIVOT[1] + r[1, 0] * px + r[1, 1] * py + r[1, 2] * pz + self.pose.shift[1]
        return x + attached * (hx - x), y + attached * (hy - y)

    def _head_back(self, ux: Floats, uy: Floats) -> tuple[Floats, Floats]:
        """Inverse of `_head_forward` by quasi-Newton steps with the rotation's own 2x2 part as Jacobian."""
        inverse = np.linalg.inv(self._rotation[:, :2])
        x = PIVOT[0] + inverse[0, 0] * (ux - PIVOT[0]) + inverse[0, 1] * (uy - PIVOT[1])
        y = PIVOT[1] + inverse[1, 0] * (ux - PIVOT[0]) + inverse[1, 1] * (uy - PIVOT[1])
        for _ in range(12):
            fx, fy = self._head_forward(x, y)
            ex, ey = ux - fx, uy - fy
            x = x + inverse[0, 0] * ex + inverse[0, 1] * ey
            y = y + inverse[1, 0] * ex + inverse[1, 1] * ey
        return x, y

    def _head_box(self) -> tuple[slice, slice]:
        """Rows and columns of the frame that the head layer can reach."""
        outline = np.array(model.HEAD_OUTLINE, float)
        wx, wy = self._torso_forward(*self._head_forward(outline[:, 0], outline[:, 1]))
        fx, fy = self._to_frame(wx, wy)
        top, left = max(int(fy.min()) - 6, 0), max(int(fx.min()) - 6, 0)
        return slice(top, max(int(fy.max()) + 7, top)), slice(left, max(int(fx.max()) + 7, left))

    # -- face -------------------------------------------------------------------------------------------------------

    @cached_property
    def _knots(self) -> tuple[Floats, Floats]:
        """Heights of facial curves over `_COLUMNS`, at rest and in this pose: two arrays (columns, 15), rising."""
        pose, x = self.pose, _COLUMNS
        one = np.ones_like(x)
        lid, below = curve(model.UPPER_LID, x), curve(model.LOWER_LID, x)
        brow = curve(model.BROW, x)
        upper, lower = curve(model.UPPER_LIP, x), curve(model.LOWER_LIP, x)
        chin = curve(model.CHIN, x)
        side = np.cos(0.5 * np.pi * np.clip((x - 223) / 45, -1, 1)) ** 2  # the jaw, from ear to ear

        eye = below - lid
        close = pose.blink * eye
        lift = -pose.brow * side**0.5
        narrowed = min(pose.gap / REST_GAP_PX, 1.0)
        widened = max(pose.gap - REST_GAP_PX, 0.0)
        u = np.clip((x - MOUTH_CENTRE[0]) / MOUTH_HALF_WIDTH, -1, 1)
        hole = (lower - upper) * narrowed + widened * (1 - u * u)
        jaw = 0.62 * widened - 0.30 * max(REST_GAP_PX - pose.gap, 0.0)
        press = 0.42 * (1 - narrowed) * (lower - upper)  # closing, the upper lip comes down
        raise_ = -0.12 * widened * (1 - u * u)
        top = press + raise_
        bottom = upper + top + hole - lower
        rest = np.stack(
            (
                70 * one, brow, 0.45 * brow + 0.55 * lid, lid - 1.8, lid, below, below + 7, 130 * one,
                curve(model.UPPER_LIP_TOP, x), upper, lower, curve(model.LOWER_LIP_BOTTOM, x), chin - 8, chin,
                205 * one,
            ), -1,
        )  # fmt: skip
        moved = np.stack(
            (
                0 * x, lift, 0.6 * lift + 0.35 * close, 0.82 * close, 0.84 * close, -0.16 * close, -0.10 * close, 0 * x,
                0.75 * top, top, bottom, 0.55 * bottom + 0.45 * jaw * side, jaw * side, 0.95 * jaw * side, 0 * x,
            ), -1,
        )  # fmt: skip
        return rest, rest + moved

    def _width(self, x: Floats, y: Floats) -> Floats:
        """Horizontal displacement of a pursed mouth at (x, y)."""
        dx, dy = x - MOUTH_CENTRE[0], y - MOUTH_CENTRE[1]
        return -self.pose.pucker * dx * np.exp(-0.5 * ((dx / 19) ** 2 + (dy / 13) ** 2))

    def _face_forward(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        x, y = np.broadcast_arrays(x, y)
        inside = _within_face(x, y)
        out_x, out_y = x.astype(float), y.astype(float)
        rest, moved = self._knots
        vy = _by_columns(x[inside], y[inside], rest, moved)
        out_y[inside] = vy
        out_x[inside] = x[inside] + self._width(x[inside], vy)
        return out_x, out_y

    def _face(self, hx: Floats, hy: Floats) -> tuple[Floats, Floats, Colours, NDArray[np.uint8], Floats]:
        """From head positions (h, w): skin material x and y, premultiplied RGBA, labels, inner material."""
        layers = portrait()
        sx, sy = hx.copy(), hy.copy()
        kind = np.full(hx.shape, SKIN, np.uint8)
        inner = np.stack((hx, hy), -1)
        inside = _within_face(hx, hy)
        x0, y = hx[inside], hy[inside]
        x = x0
        for _ in range(8):
            x = x0 - self._width(x, y)
        rest, moved = self._knots
        sx[inside], sy[inside] = x, _by_columns(x, y, moved, rest)
        rgba = layers.head.sample(sx, sy)

        at = _columns_at(x, moved)  # (pixels, knots)
        colours, kinds, materials = rgba[inside], kind[inside], inner[inside]
        # eyeballs: fixed to the skull but for the gaze
        cover = _between(y, at[:, 4], at[:, 5], at[:, 5] - at[:, 4])
        shown = np.flatnonzero(cover > 0)
        gx, gy = x0[shown] - self.pose.gaze[0], y[shown] - self.pose.gaze[1]
        shade = 1 - 0.45 * self.pose.blink * ramp(at[shown, 4] + 3 - y[shown], 0, 3)  # of the lid
        _blend(colours, shown, cover[shown], layers.inner.sample(gx, gy)[:, :3] * shade[:, None].astype(np.float32))
        seen = shown[cover[shown] > 0.5]
        kinds[seen] = EYE
        materials[seen] = np.stack((gx, gy), -1)[cover[shown] > 0.5]
        if self.pose.blink > 0:  # the lashes gather to a line on closed lids
            wide = _columns_at(x, (rest[:, 5] - rest[:, 4])[:, None])[:, 0]
            line = np.exp(-0.5 * ((y - at[:, 5] + 0.5) / 0.85) ** 2) * ramp(wide, 0.8, 4.5)
            shown = np.flatnonzero(line > 0.02)
            _blend(colours, shown, 0.72 * self.pose.blink**2 * line[shown], np.array(LASHES, np.float32))
        # mouth: upper teeth fixed to the skull, the dark below them, tongue, lower teeth with the jaw
        hole = at[:, 10] - at[:, 9]
        cover = _between(y, at[:, 9], at[:, 10], hole)
        shown = np.flatnonzero(cover > 0)
        mx, my = x0[shown], y[shown]
        colour, teeth = self._mouth(mx, my, at[shown, 9], at[shown, 10])
        _blend(colours, shown, cover[shown], colour)
        half = cover[shown] > 0.5
        kinds[shown[half & teeth]] = TEETH
        kinds[shown[half & ~teeth]] = CAVITY
        rgba[inside], kind[inside], inner[inside] = colours, kinds, materials
        return sx, sy, rgba, kind, inner

    def _mouth(self, x: Floats, y: Floats, top: Floats, bottom: Floats) -> tuple[Colours, Mask]:
        """Colours (n, 3) of the mouth's inside at head positions, and where they are the photograph's upper teeth."""
        gap = self.pose.gap

        def when_open(low: float, high: float) -> float:
            return float(ramp(np.array(gap), low, high))

        u = (x - MOUTH_CENTRE[0]) / MOUTH_HALF_WIDTH
        centre = np.clip(1 - u * u, 0, 1)
        depth = np.clip((y - top) / np.maximum(bottom - top, 1.0), 0, 1)
        dark, tongue, line = np.array(MOUTH_DARK), np.array(TONGUE), np.array(LIP_LINE)
        share = ramp(depth, 0.45, 0.95) * centre * 0.8 * when_open(5.5, 10)
        colour = dark + share[:, None] * (tongue - dark)

        rise = bottom - y  # lower teeth show just above the lower lip in a wide open mouth
        low = ramp(rise, -0.5, 0.8) * ramp(-rise, -3.6, -2.2) * ramp(centre, 0.55, 0.9) * when_open(7.5, 11)
        lower_teeth = portrait().inner.sample(x * 0.9 + 0.1 * MOUTH_CENTRE[0], np.full_like(y, 146.3))[:, :3] * 0.62
        colour += (0.75 * low)[:, None] * (lower_teeth - colour)

        edge = np.minimum(curve(model.LOWER_LIP, x) + 0.1, 149.4)
        upper = ramp(edge - y, -0.7, 0.7)
        teeth = portrait().inner.sample(x, y)[:, :3].astype(float)
        if gap < REST_GAP_PX:  # the upper lip comes down over them and takes the light
            lit = when_open(1.0, 3.8) * (0.55 + 0.45 * ramp(y - top, -0.5, 2.5))
            teeth = line + lit[:, None] * (teeth - line)
            colour = line + when_open(1.0, 3.8) * (colour - line)
        colour += upper[:, None] * (teeth - colour)
        return colour.astype(np.float32), upper > 0.6


def _within_face(x: Floats, y: Floats) -> Mask:
    x0, y0, x1, y1 = FACE_BOX
    return np.asarray((x > x0) & (x < x1) & (y > y0) & (y < y1))


def _columns_at(x: Floats, table: Floats) -> Floats:
    """Rows of `table` (one per half pixel of the face's width), interpolated at x (n,): (n, knots)."""
    u = np.clip((x - FACE_BOX[0]) * 2, 0, len(table) - 1.001)
    i = u.astype(np.int64)
    f = (u - i)[:, None]
    return table[i] * (1 - f) + table[i + 1] * f


def _by_columns(x: Floats, y: Floats, source: Floats, target: Floats) -> Floats:
    """Maps heights y at columns x by the piecewise linear function that takes the source's knots to the target's."""
    a, b = _columns_at(x, source), _columns_at(x, target)
    k = np.clip((y[:, None] >= a).sum(axis=1), 1, a.shape[1] - 1)
    n = np.arange(len(y))
    a0, a1, b0, b1 = a[n, k - 1], a[n, k], b[n, k - 1], b[n, k]
    return b0 + (y - a0) * (b1 - b0) / np.maximum(a1 - a0, 1e-6)


def _between(y: Floats, top: Floats, bottom: Floats, height: Floats) -> Floats:
    """Soft cover of an opening: 1 inside, 0 outside, 1.2 px wide edges, vanishing with the opening's height."""
    edge = np.clip(np.minimum(y - top, bottom - y) / 1.2 + 0.5, 0, 1)
    return np.asarray(edge * np.clip(height / 0.8, 0, 1))


def _look_up(grid: Floats, x: Floats, y: Floats) -> Floats:
    """Bilinear values of a (SIZE, SIZE) grid at photograph coordinates; the border is held."""
    h, w = grid.shape
    u, v = np.clip(x, 0, w - 1.001), np.clip(y, 0, h - 1.001)
    iu, iv = u.astype(np.int64), v.astype(np.int64)
    fu, fv = u - iu, v - iv
    flat, at = grid.ravel(), iv * w + iu
    top = flat[at] * (1 - fu) + flat[at + 1] * fu
    bottom = flat[at + w] * (1 - fu) + flat[at + w + 1] * fu
    return np.asarray(top * (1 - fv) + bottom * fv)


def _blend(rgba: Colours, at: NDArray[np.int64], cover: Floats, colour: Colours) -> None:
    """Paints opaque colours (n, 3) with `cover` over premultiplied pixels `at`, in place, within their alpha."""
    a = cover.astype(np.float32)[:, None]
    rgba[at, :3] = rgba[at, :3] * (1 - a) + colour * a * rgba[at, 3:]


def _over(
    picture: Colours,
    label: NDArray[np.uint8],
    material: Floats,
    box: tuple[slice, slice],
    rgba: Colours,
    what: int,
    where: tuple[Floats, Floats],
) -> None:
    """Lays a premultiplied layer over a box of the frame, in place; it owns the pixels that it covers by half."""
    part = picture[box]
    part *= 1 - rgba[..., 3:]
    part += rgba[..., :3]
    owned = rgba[..., 3] > 0.5
    label[box][owned] = what
    material[box][owned] = np.stack(where, -1)[owned]
