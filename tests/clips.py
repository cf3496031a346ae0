"""Small clips for tests: seeded, textured, moving."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

from data.clip import Clip


def moving_clip(n_frames: int = 6, width: int = 64, height: int = 48, fps: Fraction = Fraction(25), seed: int = 1) -> Clip:
    """A smooth random texture that moves by one pixel a frame, with some colour."""
    rng = np.random.default_rng(seed)
    canvas = rng.uniform(0, 255, (height + n_frames, width + n_frames, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(canvas, (0, 0), 3)
    smooth = 128 + (smooth - smooth.mean()) * 6
    frames = np.stack([smooth[t : t + height, t : t + width] for t in range(n_frames)])
    return Clip.from_rgb(np.clip(np.rint(frames), 0, 255).astype(np.uint8), fps, name="moving")


def psnr_y(a: Clip, b: Clip) -> float:
    """Luma PSNR of the mean MSE, written out once more for the tests."""
    mse = np.mean((a.y.astype(np.float64) - b.y.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / mse)) if mse else float("inf")
