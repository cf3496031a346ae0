"""Sample fidelity: PSNR, SSIM, MS-SSIM and temporal flicker of decoded 8-bit 4:2:0 planes.

PSNR      peak 255, from sums of squared errors in exact integer arithmetic. A clip's PSNR is the mean over its frames;
          `psnr_y_of_mse` is the PSNR of the mean MSE instead, and the two differ where the quality varies over time.
          Identical frames: their PSNR is infinite, and an arbitrary 100 dB would weigh on the mean. They score as if
          a single sample of the frame were off by one level, the smallest error that 8-bit samples can have:
          10 log10(255^2 * samples), which is 96.3 dB for 256x256 luma and never less than any real frame's PSNR.
SSIM      Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
          structural similarity", IEEE TIP 13(4), 2004: luma at full resolution, 11x11 Gaussian window of sigma 1.5,
          mean over the positions where the window lies inside the frame.
MS-SSIM   Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multi-scale structural similarity for image quality assessment",
          Asilomar 2003: the same at five scales. The next scale is the mean of each 2x2 samples; an odd last row or
          column is left out. A negative mean at some scale (an inverted structure) has no real power and counts as 0.
Flicker   what a still picture cannot show: the RMS over the luma samples of the change of the coding error from one
          frame to the next, sqrt(mean(((d_t - s_t) - (d_t-1 - s_t-1))^2)). A constant error scores 0.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.clip import Clip
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

PEAK = 255
K1, K2 = 0.01, 0.03  # Wang 2004, section III.C
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5  # Wang 2004, section III.C
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, section 3.2, finest scale first
MIN_SIDE_MS_SSIM = WINDOW_SIZE << (len(SCALE_WEIGHTS) - 1)  # 176: one window at the coarsest scale

_C1 = (K1 * PEAK) ** 2
_C2 = (K2 * PEAK) ** 2
_WINDOW = cv2.getGaussianKernel(WINDOW_SIZE, WINDOW_SIGMA, cv2.CV_32F)

FloatPlane = NDArray[np.float32]


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """The `psnr`, `ssim` and `temporal` columns among `columns`; raises InputError where the clips do not match."""
    check_same_shape(source, decoded)
    return {
        **_psnr(source, decoded, columns),
        **_structural_similarity(source, decoded, columns),
        **_flicker(source, decoded, columns),
    }


# -- PSNR ------------------------------------------------------------------------------------------------------------


def _psnr(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    scores: dict[str, Score | MetricUnavailable] = {}
    planes: dict[str, NDArray[np.float64]] = {}  # per-frame PSNR of y, u and v, as far as somebody asks for it
    for name, s, d in (("y", source.y, decoded.y), ("u", source.u, decoded.u), ("v", source.v, decoded.v)):
        column, of_mse = f"psnr_{name}", f"psnr_{name}_of_mse"
        if not {column, of_mse, "psnr_yuv"}.intersection(columns):
            continue
        errors = np.array([sum_of_squares(_difference(d[t], s[t])) for t in range(len(s))])
        planes[name] = psnr_db(errors, s[0].size)
        if column in columns:
            scores[column] = Score.mean(planes[name])
        if of_mse in columns:
            scores[of_mse] = Score(float(psnr_db(errors.sum(), s.size)))
    if "psnr_yuv" in columns:
        scores["psnr_yuv"] = Score.mean((6 * planes["y"] + planes["u"] + planes["v"]) / 8)
    if "psnr_rgb" in columns:
        errors = np.array([_rgb_error(source, decoded, t) for t in range(source.n_frames)])
        scores["psnr_rgb"] = Score.mean(psnr_db(errors, 3 * source.y[0].size))
    return scores


def psnr_db(squared_error: ArrayLike, samples: int) -> NDArray[np.float64]:
    """PSNR in dB of sums of squared errors over so many 8-bit samples; a sum of 0 counts as 1 (see the module)."""
    return 10 * np.log10(PEAK**2 * samples / np.maximum(squared_error, 1))


def sum_of_squares(difference: NDArray[np.int16]) -> int:
    """Exact: the products are of 64 bits, as 1080p squares of 255 do not fit 32."""
    flat = difference.ravel()
    return int(np.einsum("i,i->", flat, flat, dtype=np.int64, casting="safe"))


def _difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.subtract(a, b, dtype=np.int16)  # in uint8 it would wrap


def _rgb_error(source: Clip, decoded: Clip, t: int) -> int:
    frame = slice(t, t + 1)
    return sum_of_squares(_difference(decoded.rgb(frame), source.rgb(frame)))


# -- SSIM, MS-SSIM ---------------------------------------------------------------------------------------------------


def _structural_similarity(
    source: Clip, decoded: Clip, columns: Collection[str]
) -> dict[str, Score | MetricUnavailable]:
    """Both metrics in one pass: the finest scale of MS-SSIM is SSIM's."""
    scores: dict[str, Score | MetricUnavailable] = {}
    for column, min_side in (("ssim_y", WINDOW_SIZE), ("ms_ssim_y", MIN_SIDE_MS_SSIM)):
        if column in columns and min(source.width, source.height) < min_side:
            size = f"{source.width}x{source.height}"
            scores[column] = MetricUnavailable(f"frames of {size} are smaller than its {min_side}x{min_side} window")
    wanted = {"ssim_y", "ms_ssim_y"}.intersection(columns) - scores.keys()
    if not wanted:
        return scores

    n_scales = len(SCALE_WEIGHTS) if "ms_ssim_y" in wanted else 1
    ssim = np.empty((source.n_frames, n_scales))
    contrast = np.empty((source.n_frames, n_scales))
    for t in range(source.n_frames):
        s, d = _centred(source.y[t]), _centred(decoded.y[t])
        for scale in range(n_scales):
            if scale:
                s, d = _halved(s), _halved(d)
            ssim[t, scale], contrast[t, scale] = _ssim(s, d)
    if "ssim_y" in wanted:
        scores["ssim_y"] = Score.mean(ssim[:, 0])
    if "ms_ssim_y" in wanted:  # equation 7 of Wang 2003: luminance counts at the coarsest scale only
        terms = np.concatenate((contrast[:, :-1], ssim[:, -1:]), axis=1)
        scores["ms_ssim_y"] = Score.mean(np.prod(np.maximum(terms, 0) ** SCALE_WEIGHTS, axis=1))
    return scores


def _ssim(x: FloatPlane, y: FloatPlane) -> tuple[float, float]:
    """(mean SSIM, mean of its contrast-structure term) of two centred planes.

    Written in the sum s = x + y and the difference d = x - y, which takes four filtered planes where x, y, x^2, y^2, xy
    take five, and loses fewer digits where x is near y:
        2 mu_x mu_y = (mu_s^2 - mu_d^2) / 2      mu_x^2 + mu_y^2       = (mu_s^2 + mu_d^2) / 2
        2 sigma_xy  = (var_s - var_d) / 2        sigma_x^2 + sigma_y^2 = (var_s + var_d) / 2
    """
    s, d = x + y, x - y
    mu_s, mu_d = _windowed(s), _windowed(d)
    var_s = _windowed(s * s) - mu_s * mu_s
    var_d = _windowed(d * d) - mu_d * mu_d
    contrast = (var_s - var_d + 2 * _C2) / (var_s + var_d + 2 * _C2)
    mu_s += PEAK + 1  # the means count from black again: the planes came less 128 each
    mu_s *= mu_s
    mu_d *= mu_d
    luminance = (mu_s - mu_d + 2 * _C1) / (mu_s + mu_d + 2 * _C1)
    return float(np.mean(luminance * contrast, dtype=np.float64)), float(np.mean(contrast, dtype=np.float64))


def _windowed(plane: FloatPlane) -> FloatPlane:
    """Gaussian-weighted local means, where the whole window lies inside the plane."""
    margin = WINDOW_SIZE // 2
    filtered = cv2.sepFilter2D(plane, cv2.CV_32F, _WINDOW, _WINDOW)
    return np.asarray(filtered[margin:-margin, margin:-margin], np.float32)


def _centred(plane: NDArray[np.uint8]) -> FloatPlane:
    return plane.astype(np.float32) - 128  # around 0: float32 variances of a bright, flat area keep their digits


def _halved(plane: FloatPlane) -> FloatPlane:
    """The mean of each 2x2 samples: what area interpolation does at exactly one half."""
    h, w = plane.shape[0] // 2, plane.shape[1] // 2
    return np.asarray(cv2.resize(plane[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA), np.float32)


# -- flicker ---------------------------------------------------------------------------------------------------------


def _flicker(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    if "flicker" not in columns:
        return {}
    if source.n_frames < 2:
        return {"flicker": MetricUnavailable("it compares a frame with the one before, and the clip has one frame")}
    frames = np.full(source.n_frames, np.nan)  # frame 0 has none before it
    before = _difference(decoded.y[0], source.y[0])
    for t in range(1, source.n_frames):
        error = _difference(decoded.y[t], source.y[t])
        frames[t] = np.sqrt(sum_of_squares(error - before) / error.size)
        before = error
    return {"flicker": Score.mean(frames)}
