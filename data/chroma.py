"""Chroma between luma resolution and half of it, true to where its samples lie among the luma samples (the siting).

    siting      left        center      topleft         Y  luma sample
                Y   Y       Y   Y       C   Y           C  chroma sample, "left" half-way down between two Y,
                C             C                         "topleft" on a Y
                Y   Y       Y   Y       Y   Y

In a direction in which chroma is co-sited its samples lie on luma samples 0, 2, ..; otherwise half-way between two, at 0.5,
2.5, .. .
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def upsample(chroma: NDArray[np.uint8], height: int, width: int, siting: str) -> Samples:
    """4:2:0 chroma minus 128 at luma resolution: float32 (height, width), bilinear between the sites, edges held.

    chroma: uint8 (ceil(height / 2), ceil(width / 2)).
    """
    c = chroma.astype(np.float32) - 128.0
    c = _interpolate_rows(c, height, _cosited_down(siting))
    return _interpolate_columns(c, width, _cosited_across(siting))


def downsample(c: Samples, siting: str) -> Samples:
    """Half resolution in both directions (sizes rounded up), filtered for the siting."""
    return halve_columns(halve_rows(c, siting), siting)


def halve_rows(c: Samples, siting: str) -> Samples:
    """Half as many rows (rounded up), filtered for the siting."""
    return _decimate(c, _cosited_down(siting))


def halve_columns(c: Samples, siting: str) -> Samples:
    """Half as many columns (rounded up), filtered for the siting."""
    return _decimate(c.T, _cosited_across(siting)).T


def _cosited_down(siting: str) -> bool:
    return siting == "topleft"


def _cosited_across(siting: str) -> bool:
    return siting in ("left", "topleft")


def _interpolate_rows(c: Samples, length: int, cosited: bool) -> Samples:
    """Twofold bilinear interpolation along axis 0; samples that are not co-sited count 3/4 and 1/4."""
    out = np.empty((2 * c.shape[0], c.shape[1]), np.float32)
    out[0::2], out[1::2] = _between(c, np.concatenate((c[:1], c[:-1])), np.concatenate((c[1:], c[-1:])), cosited)
    return out[:length]


def _interpolate_columns(c: Samples, length: int, cosited: bool) -> Samples:
    """Likewise along axis 1: of its own, because rows of a transposed plane would be slow to read from then on."""
    out = np.empty((c.shape[0], 2 * c.shape[1]), np.float32)
    before, after = np.concatenate((c[:, :1], c[:, :-1]), axis=1), np.concatenate((c[:, 1:], c[:, -1:]), axis=1)
    out[:, 0::2], out[:, 1::2] = _between(c, before, after, cosited)
    return out[:, :length]


def _between(c: Samples, before: Samples, after: Samples, cosited: bool) -> tuple[Samples, Samples]:
    """The even and the odd samples of twice as many."""
    if cosited:
        return c, (c + after) * 0.5
    most = c * 0.75
    return most + before * 0.25, most + after * 0.25


def _decimate(c: Samples, cosited: bool) -> Samples:
    """Every second sample along axis 0: [1 2 1]/4 around even positions if co-sited, else the mean of each pair."""
    if len(c) % 2:
        c = np.concatenate((c, c[-1:]))
    even, odd = c[0::2], c[1::2]
    if not cosited:
        return (even + odd) * 0.5
    before = np.concatenate((even[:1], odd[:-1]))  # the missing sample left of the first is its mirror: itself
    return 0.25 * before + 0.5 * even + 0.25 * odd
