"""Seconds that the fidelity metrics take on a 250-frame 256x256 clip, on one core.

Run by `python -m tests.bench.bench_metrics [--out FILE]`.
The target is 6 s for PSNR, SSIM, MS-SSIM and VMAF together. The clip is synthetic; none of these metrics' times
depends on what the frames show.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from data.cli import run
from data.clip import Clip
from data.files import write_atomic
from rd.columns import expand_metrics
from rd.metrics import compute

TARGET_S = 6.0
TARGET_FAMILIES = ("psnr", "ssim", "vmaf")
OTHER_FAMILIES = ("xpsnr", "temporal")


def synthetic_clip(frames: int, size: int) -> Clip:
    """Smooth noise that drifts by a sample per frame under fine sensor noise."""
    rng = np.random.default_rng(0)
    planes = []
    for side in (size, size // 2, size // 2):
        coarse = cv2.GaussianBlur(rng.normal(0, 1, (side, side + frames)), (0, 0), 4) * 500 + 128
        moved = np.stack([coarse[:, t : t + side] for t in range(frames)])
        noisy = moved + rng.normal(0, 2, moved.shape)
        planes.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    return Clip(planes[0], planes[1], planes[2], Fraction(25))


def blurred(clip: Clip) -> Clip:
    y, u, v = (np.stack([cv2.GaussianBlur(f, (0, 0), 1.2) for f in plane]) for plane in (clip.y, clip.u, clip.v))
    return replace(clip, y=y, u=u, v=v)


def seconds_by_family(source: Clip, decoded: Clip, repeats: int) -> dict[str, float]:
    """The fastest of some runs, per family: the one that other work on the machine disturbed least."""
    columns = expand_metrics(TARGET_FAMILIES + OTHER_FAMILIES)
    runs = [compute(source, decoded, columns) for _ in range(repeats)]
    for measured in runs:
        assert not measured.missing, measured.missing
    return {family: min(measured.seconds[family] for measured in runs) for family in runs[0].seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=250, help="frames of the clip (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="its width and height, even (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs; the fastest counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()

    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):  # ffmpeg inherits it
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    source = synthetic_clip(args.frames, args.size)
    seconds = seconds_by_family(source, blurred(source), args.repeats)
    total_s = sum(seconds[family] for family in TARGET_FAMILIES)
    for family, family_s in seconds.items():
        print(f"{family:9} {family_s:6.2f} s  {1000 * family_s / args.frames:6.2f} ms/frame")
    print(f"{' + '.join(TARGET_FAMILIES)}: {total_s:.2f} s, target {TARGET_S} s")
    if args.out:
        result = {
            "frames": args.frames,
            "width": args.size,
            "height": args.size,
            "cores": 1,
            "seconds": seconds,
            "target_families": TARGET_FAMILIES,
            "total_s": total_s,
            "target_s": TARGET_S,
            "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
            "versions": {
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "ffmpeg": imageio_ffmpeg.get_ffmpeg_version(),
            },
        }
        write_atomic(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(run(main))
