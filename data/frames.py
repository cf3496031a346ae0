"""Pictures of any format on their way into a clip: the one conversion to 8-bit 4:2:0, and the gathering of frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.chroma import halve_columns, halve_rows
from data.clip import Clip, Colour, Plane
from data.errors import InputError

Samples = NDArray[Any]  # one plane of one picture, uint8 or uint16 (any byte order), (h, w)

STANDARD_FPS = [Fraction(n) for n in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120)] + [
    Fraction(n * 1000, 1001) for n in (12, 15, 24, 30, 48, 60, 120)
]


def to_420_8bit(
    planes: tuple[Samples, ...], bits: int, colour: Colour, rgb: bool = False
) -> tuple[Plane, Plane, Plane]:
    """One picture as 8-bit 4:2:0 planes.

    planes: (Y,), (Y, Cb, Cr) with chroma of full or half (rounded up) size in each direction, or (R, G, B);
            integers of `bits` significant bits, 8 to 16.
    colour: of the result; for Y'CbCr also of `planes`. The samples of a limited range are divided by 2^(bits-8), of a
            full range scaled by 255 / (2^bits - 1) around the chroma zero (ITU-R BT.2100 and H.273).

    Chroma is halved by the mean of neighbours, or [1 2 1]/4 where the siting puts it on a luma sample. One rounding,
    at the end, to the nearest integer (ties to even, so that it has no bias), then a clip to 0..255. R'G'B' of more
    than 8 bits is first rounded to 8 bits. 8-bit 4:2:0 planes are returned as they are.
    """
    if rgb:
        eight = [_to_8bit(p.astype(np.float32), bits, "full", zero=0) for p in planes]
        clip = Clip.from_rgb(np.stack(eight, -1)[None], Fraction(1), colour)
        return clip.y[0], clip.u[0], clip.v[0]
    luma, chroma = planes[0], planes[1:]
    height, width = luma.shape
    half = ((height + 1) // 2, (width + 1) // 2)
    y = luma if bits == 8 else _to_8bit(luma.astype(np.float32), bits, colour.range, zero=0)
    if not chroma:
        return y, np.full(half, 128, np.uint8), np.full(half, 128, np.uint8)
    out = []
    for plane in chroma:
        if bits == 8 and plane.shape == half:
            out.append(plane)
            continue
        c = plane.astype(np.float32)
        if c.shape[0] != half[0]:
            c = halve_rows(c, colour.siting)
        if c.shape[1] != half[1]:
            c = halve_columns(c, colour.siting)
        if c.shape != half:
            raise InputError(f"chroma of {plane.shape[1]}x{plane.shape[0]} does not fit luma of {width}x{height}")
        out.append(_to_8bit(c, bits, colour.range, zero=1 << (bits - 1)))
    return y, out[0], out[1]


def _to_8bit(samples: NDArray[np.float32], bits: int, colour_range: str, zero: int) -> Plane:
    """Float samples on the scale of `bits` bits to uint8; `zero` is their black level or chroma zero."""
    scale = 255 / ((1 << bits) - 1) if colour_range == "full" else 1 / (1 << (bits - 8))
    zero_8bit = 128 if zero else 0
    return np.clip(np.rint((samples - zero) * np.float32(scale) + zero_8bit), 0, 255).astype(np.uint8)


def default_colour(height: int, siting: str = "left", colour_range: str = "limited") -> Colour:
    """The colour description of pictures that carry none."""
    return Colour("bt601" if height < 720 else "bt709", colour_range, siting)


@dataclass(frozen=True)
class Window:
    """The frames that a caller wants: `count` (None: all) from `start`."""

    start: int
    count: int | None

    @property
    def stop(self) -> int | None:
        return None if self.count is None else self.start + self.count

    def size(self, available: int, path: Path) -> int:
        """How many of `available` frames lie in the window."""
        if available <= self.start:
            raise InputError(f"{path}: holds {available} frames, frame {self.start} was asked for")
        return available - self.start if self.count is None else min(self.count, available - self.start)


class Frames:
    """8-bit 4:2:0 frames gathered in planes that are allocated once, for `capacity` frames."""

    def __init__(self, capacity: int, path: Path) -> None:
        self.capacity = max(capacity, 1)
        self.path = path
        self.count = 0
        self.planes: list[Plane] = []

    def append(self, picture: tuple[Plane, Plane, Plane]) -> None:
        if not self.planes:
            self.planes = [np.empty((self.capacity, *p.shape), np.uint8) for p in picture]
        if picture[0].shape != self.planes[0].shape[1:]:
            (h, w), (_, old_h, old_w) = picture[0].shape, self.planes[0].shape
            raise InputError(f"{self.path}: picture size changes from {old_w}x{old_h} to {w}x{h} at frame {self.count}")
        if self.count == self.capacity:  # only where a file's own frame count was too low
            self.planes = [np.concatenate((p, np.empty_like(p))) for p in self.planes]
            self.capacity *= 2
        for plane, samples in zip(self.planes, picture, strict=True):
            plane[self.count] = samples
        self.count += 1

    def clip(self, fps: Fraction, colour: Colour) -> Clip:
        y, u, v = (p[: self.count] for p in self.planes)
        return Clip(y, u, v, fps, colour)


def parse_rate(fps: Fraction | int | str, path: Path) -> Fraction:
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: frame rate {fps!r} is not a number or a fraction like 30000/1001") from error
    if rate <= 0:
        raise InputError(f"{path}: frame rate {fps} is not positive")
    return rate


def standard_rate(fps: Fraction) -> Fraction:
    """29.97 and 23.976 mean 30000/1001 and 24000/1001."""
    nearest = min(STANDARD_FPS, key=lambda rate: abs(rate - fps))
    return nearest if abs(nearest / fps - 1) < Fraction(1, 10_000) else fps
