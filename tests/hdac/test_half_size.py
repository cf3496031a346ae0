"""Half size and back: sizes, flat and sloping pictures, and the filters of HEVC written out once more."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from data.clip import Clip
from hdac.half_size import doubled, halved


def clip_of(y: np.ndarray, u: np.ndarray) -> Clip:
    return Clip(y[None].astype(np.uint8), u[None].astype(np.uint8), u[None].astype(np.uint8), Fraction(25))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (5, 8), (17, 9), (64, 48)])
def test_a_flat_picture_of_any_size_comes_back(width: int, height: int) -> None:
    chroma = (height + 1) // 2, (width + 1) // 2
    clip = clip_of(np.full((height, width), 251), np.full(chroma, 3))
    small = halved(clip)
    assert (small.height, small.width) == chroma
    y, u, v = doubled((small.y[0], small.u[0], small.v[0]), height, width)
    assert np.array_equal(y, clip.y[0]) and np.array_equal(u, clip.u[0]) and np.array_equal(v, clip.v[0])


def test_a_slope_comes_back_where_it_was() -> None:
    rows, columns = np.mgrid[:40, :48]
    chroma = (2 * rows + 3 * columns)[:20, :24] + 20
    clip = clip_of(3 * rows + 2 * columns + 10, chroma)
    small = halved(clip)
    y, u, _ = doubled((small.y[0], small.u[0], small.v[0]), 40, 48)
    inner = slice(8, -8)  # edges are held
    assert np.abs(y[inner, inner].astype(int) - clip.y[0][inner, inner]).max() <= 1
    assert np.abs(u[inner, inner].astype(int) - clip.u[0][inner, inner]).max() <= 1


def test_the_filters_are_hevc_s_at_a_quarter_of_a_sample() -> None:
    small = np.random.default_rng(1).integers(0, 256, (12, 10)).astype(np.uint8)
    y, u, _ = doubled((small, small, small), 24, 20)
    for shown, taps in ((y, {-3: -1, -2: 4, -1: -10, 0: 58, 1: 17, 2: -5, 3: 1}), (u, {-1: -4, 0: 54, 1: 16, 2: -2})):
        down, across = (matrix(taps, n) for n in small.shape)
        expected = np.clip((down @ small @ across.T + 2048) >> 12, 0, 255)
        assert np.array_equal(shown, expected[: len(shown), : len(shown[0])])


def matrix(taps: dict[int, int], n: int) -> np.ndarray:
    """(2 n, n): pixel 2i + 1 lies a quarter of a sample behind sample i, pixel 2i in front of it; edges are held."""
    weights = np.zeros((2 * n, n), int)
    for i in range(n):
        for offset, tap in taps.items():
            weights[2 * i + 1, min(max(i + offset, 0), n - 1)] += tap
            weights[2 * i, min(max(i - offset, 0), n - 1)] += tap
    return weights
