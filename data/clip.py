"""A clip: 8-bit 4:2:0 planes with an exact frame rate and a colour description.

Every codec takes and gives this type, and every fidelity metric reads its planes as they are. RGB exists only at
the edges (networks, pictures, RGB metrics) and is made in one place, `Clip.rgb`; the way back is `Clip.from_rgb`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from data.chroma import downsample, upsample
from data.errors import InputError

Plane = NDArray[np.uint8]

MATRICES = {  # luma weights (Kr, Kb) of the Y'CbCr matrix: ITU-R BT.601-7, BT.709-6, BT.2020-2
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
RANGES = ("limited", "full")
SITINGS = ("left", "center", "topleft")


@dataclass(frozen=True)
class Colour:
    """How 4:2:0 samples stand for colours."""

    matrix: str = "bt601"
    """Y'CbCr matrix: "bt601", "bt709" or "bt2020" (non-constant luminance)."""
    range: str = "limited"
    """"limited" (Y 16..235, C 16..240) or "full" (0..255)."""
    siting: str = "left"
    """Where a chroma sample lies among its four luma samples: "left" (MPEG-2, H.26x default), "center", "topleft"."""

    def __post_init__(self) -> None:
        if self.matrix not in MATRICES:
            raise InputError(f"colour matrix {self.matrix!r} is not one of {', '.join(MATRICES)}")
        if self.range not in RANGES:
            raise InputError(f"colour range {self.range!r} is not one of {', '.join(RANGES)}")
        if self.siting not in SITINGS:
            raise InputError(f"chroma siting {self.siting!r} is not one of {', '.join(SITINGS)}")


@dataclass(frozen=True, eq=False)
class Clip:
    """Some frames of 8-bit 4:2:0 video.

    y:    uint8 (T, H, W), T >= 1.
    u, v: uint8 (T, ceil(H/2), ceil(W/2)).
    fps:  frames per second, exact (30000/1001, not 29.97).
    name: label of rows and files; no part of the contents.
    """

    y: Plane
    u: Plane
    v: Plane
    fps: Fraction
    colour: Colour = field(default_factory=Colour)
    name: str = ""

    def __post_init__(self) -> None:
        for label, plane in (("y", self.y), ("u", self.u), ("v", self.v)):
            if plane.dtype != np.uint8 or plane.ndim != 3:
                raise InputError(f"expected plane {label} as uint8 (T, H, W), got {plane.dtype} {plane.shape}")
        t, h, w = self.y.shape
        if t < 1 or h < 1 or w < 1:
            raise InputError(f"a clip needs at least one frame and one pixel, got y of shape {self.y.shape}")
        chroma = (t, (h + 1) // 2, (w + 1) // 2)
        if self.u.shape != chroma or self.v.shape != chroma:
            raise InputError(f"4:2:0 chroma of a {w}x{h} clip has shape {chroma}, got {self.u.shape} and {self.v.shape}")
        if not isinstance(self.fps, Fraction) or self.fps <= 0:
            raise InputError(f"fps must be a positive Fraction, got {self.fps!r}")

    def __repr__(self) -> str:
        return f"Clip({self.name!r}, {self.n_frames} frames, {self.width}x{self.height}, {self.fps} fps, {self.colour})"

    @property
    def n_frames(self) -> int:
        return int(self.y.shape[0])

    @property
    def height(self) -> int:
        return int(self.y.shape[1])

    @property
    def width(self) -> int:
        return int(self.y.shape[2])

    @property
    def seconds(self) -> Fraction:
        """Duration at the clip's frame rate."""
        return self.n_frames / self.fps

    def __len__(self) -> int:
        return self.n_frames

    def __getitem__(self, frames: slice) -> Clip:
        """Some of the frames, as views: clip[10:20]."""
        if not isinstance(frames, slice):
            raise TypeError(f"a clip is indexed by a slice of frames, got {frames!r}")
        return replace(self, y=self.y[frames], u=self.u[frames], v=self.v[frames])

    def renamed(self, name: str) -> Clip:
        return replace(self, name=name)

    def equals(self, other: Clip) -> bool:
        """Same samples, frame rate and colour description; the name does not count."""
        return (
            self.fps == other.fps
            and self.colour == other.colour
            and np.array_equal(self.y, other.y)
            and np.array_equal(self.u, other.u)
            and np.array_equal(self.v, other.v)
        )

    def sha256(self) -> str:
        """Hash of everything that a codec sees: size, frame rate, colour description and samples."""
        digest = hashlib.sha256(
            f"clip1 {self.n_frames} {self.height} {self.width} {self.fps} {self.colour.matrix} {self.colour.range} "
            f"{self.colour.siting}".encode()
        )
        for plane in (self.y, self.u, self.v):
            digest.update(np.ascontiguousarray(plane).data)
        return digest.hexdigest()

    # -- raw planes ----------------------------------------------------------------------------------------------

    def yuv_bytes(self) -> bytes:
        """Planar I420, frame by frame: the layout of a .yuv file."""
        t = self.n_frames
        planes = (self.y.reshape(t, -1), self.u.reshape(t, -1), self.v.reshape(t, -1))
        return np.concatenate(planes, axis=1).tobytes()

    @classmethod
    def from_yuv_bytes(
        cls, data: bytes, width: int, height: int, fps: Fraction, colour: Colour | None = None, name: str = ""
    ) -> Clip:
        """The reverse of `yuv_bytes`; raises InputError where `data` is not a whole number of frames."""
        cw, ch = (width + 1) // 2, (height + 1) // 2
        per_frame = width * height + 2 * cw * ch
        if not data or len(data) % per_frame:
            raise InputError(f"{len(data)} bytes are no whole number of {width}x{height} 4:2:0 frames of {per_frame} bytes")
        frames = np.frombuffer(data, np.uint8).reshape(-1, per_frame)
        t, a, b = len(frames), width * height, width * height + cw * ch
        return cls(
            y=frames[:, :a].reshape(t, height, width),
            u=frames[:, a:b].reshape(t, ch, cw),
            v=frames[:, b:].reshape(t, ch, cw),
            fps=fps,
            colour=colour or Colour(),
            name=name,
        )

    # -- RGB -----------------------------------------------------------------------------------------------------

    def rgb(self, frames: slice = slice(None)) -> Plane:
        """R'G'B' of some frames: uint8 (t, H, W, 3), chroma upsampled bilinearly according to its siting."""
        part = self[frames]
        h, w = self.height, self.width
        out = np.empty((part.n_frames, h, w, 3), np.uint8)
        kr, kb = MATRICES[self.colour.matrix]
        kg = 1.0 - kr - kb
        y_offset, y_scale, c_scale = levels(self.colour.range)
        for i in range(part.n_frames):  # frame by frame: float planes of a long clip would not fit the cache
            y = (part.y[i].astype(np.float32) - y_offset) / y_scale
            cb = upsample(part.u[i], h, w, self.colour.siting) / c_scale
            cr = upsample(part.v[i], h, w, self.colour.siting) / c_scale
            r = y + 2 * (1 - kr) * cr
            b = y + 2 * (1 - kb) * cb
            g = (y - kr * r - kb * b) / kg
            for k, plane in enumerate((r, g, b)):  # in place: these planes are half of what many a metric costs
                plane *= 255.0
                out[i, :, :, k] = np.clip(np.rint(plane, out=plane), 0, 255, out=plane)
        return out

    @classmethod
    def from_rgb(cls, frames: Plane, fps: Fraction, colour: Colour | None = None, name: str = "") -> Clip:
        """A clip from R'G'B' frames: uint8 (T, H, W, 3). Chroma is low-passed for its siting, rounded, never wrapped."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise InputError(f"expected RGB frames as uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
        colour = colour or Colour()
        t, h, w, _ = frames.shape
        y = np.empty((t, h, w), np.uint8)
        u = np.empty((t, (h + 1) // 2, (w + 1) // 2), np.uint8)
        v = np.empty_like(u)
        kr, kb = MATRICES[colour.matrix]
        y_offset, y_scale, c_scale = levels(colour.range)
        for i in range(t):
            r, g, b = np.moveaxis(frames[i].astype(np.float32) / 255.0, -1, 0)
            luma = kr * r + (1 - kr - kb) * g + kb * b
            y[i] = np.clip(np.rint(luma * y_scale + y_offset), 0, 255)
            for plane, difference in ((u, (b - luma) / (2 * (1 - kb))), (v, (r - luma) / (2 * (1 - kr)))):
                plane[i] = np.clip(np.rint(downsample(difference, colour.siting) * c_scale + 128), 0, 255)
        return cls(y, u, v, fps, colour, name)


def levels(colour_range: str, bit_depth: int = 8) -> tuple[float, float, float]:
    """(luma offset, luma scale, chroma scale) of samples for Y' in [0, 1] and Cb, Cr in [-0.5, 0.5] (ITU-R BT.601, H.273)."""
    if colour_range == "full":
        peak = float((1 << bit_depth) - 1)
        return 0.0, peak, peak
    unit = 1 << bit_depth - 8
    return 16.0 * unit, 219.0 * unit, 224.0 * unit
