"""Cutting a rectangle out of a clip and bringing it to another size, on the 4:2:0 planes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.chroma import downsample, upsample
from data.clip import Clip, Plane
from data.errors import InputError


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left column, top row, width and height."""

    x: int
    y: int
    width: int
    height: int


def crop(clip: Clip, box: Box, size: tuple[int, int] | None = None) -> Clip:
    """The pixels of `box`, at `size` (width, height) if given: area-averaged where smaller, bicubic where larger.

    A box that begins on even positions and keeps its size is cut out exactly. Otherwise chroma is interpolated to luma
    resolution first, which keeps its siting true, and decimated again after; each sample is rounded once.

    Raises InputError where the box is not inside of the picture.
    """
    if box.x < 0 or box.y < 0 or box.width < 1 or box.height < 1:
        raise InputError(f"{clip.name}: crop box {box} is not a rectangle of pixels")
    right, bottom = box.x + box.width, box.y + box.height
    if right > clip.width or bottom > clip.height:
        raise InputError(f"{clip.name}: crop box {box} is not inside of a picture of {clip.width}x{clip.height}")
    width, height = size or (box.width, box.height)
    y = clip.y[:, box.y : bottom, box.x : right]
    if (width, height) == (box.width, box.height) and not box.x % 2 and not box.y % 2:
        rows = slice(box.y // 2, (bottom + 1) // 2)
        columns = slice(box.x // 2, (right + 1) // 2)
        return Clip(y, clip.u[:, rows, columns], clip.v[:, rows, columns], clip.fps, clip.colour, clip.name)

    siting = clip.colour.siting
    luma = np.empty((clip.n_frames, height, width), np.uint8)
    chroma = [np.empty((clip.n_frames, (height + 1) // 2, (width + 1) // 2), np.uint8) for _ in range(2)]
    for i in range(clip.n_frames):
        luma[i] = _to_uint8(_resize(y[i].astype(np.float32), width, height))
        for out, plane in zip(chroma, (clip.u, clip.v), strict=True):
            full = upsample(plane[i], clip.height, clip.width, siting)[box.y : bottom, box.x : right]
            out[i] = _to_uint8(downsample(_resize(full, width, height), siting) + 128)
    return Clip(luma, chroma[0], chroma[1], clip.fps, clip.colour, clip.name)


def _resize(samples: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    h, w = samples.shape
    if (w, h) == (width, height):
        return samples
    smaller = width <= w and height <= h
    resized = cv2.resize(samples, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return resized.astype(np.float32, copy=False)


def _to_uint8(samples: NDArray[np.float32]) -> Plane:
    return np.clip(np.rint(samples), 0, 255).astype(np.uint8)
