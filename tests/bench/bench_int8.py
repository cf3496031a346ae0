"""The mobile family's networks in 8-bit integers beside themselves: size, frames/s and quality.

    python -m tests.bench.bench_int8 CLIPS --calibrate CLIPS --networks NAME .. [--frames N] [--out FILE]

Every network is quantised anew, calibrated on clips of other people; then the same streams (a reference, then motion;
references of two QPs, one after the other) are decoded by both. Frames/s are of whole decoders, two threads: two pictures at
once (`hdac.codecs.in_flight`). Sizes are of what is in integers (`parts`), and of all that the network's file has (`fp16`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.files import write_atomic
from data.io import read_clip
from hdac import systems, weights
from hdac.codecs.mobile import Mobile
from hdac.decoder import decode_mobile
from hdac.int8 import SUFFIX
from hdac.nets.animation import PointNet
from hdac.network import by_name
from hdac.training.cache import find_clips
from hdac.training.quantise import quantise
from rd import provenance
from rd.metrics import compute

METRICS = ("psnr_y", "lpips", "nme")
THREADS = 2
QPS = (28, 40)


def n_parameters(net: PointNet) -> int:
    """Of the parts that are in integers."""
    rest = ("detector", "expression", "frontalize", "first", "down", "embed", "texture")
    return sum(p.numel() for name, p in net.named_parameters() if name.split(".")[0] not in rest)


def decoded(stream: bytes, int8: bool) -> tuple[Clip, float]:
    """The clip, and frames/s."""
    begin = time.perf_counter()
    clip = decode_mobile(stream, int8=True) if int8 else systems.decode(stream)
    return clip, clip.n_frames / (time.perf_counter() - begin)


def measure(name: str, clips: list[Path], calibration: list[Path], frames: int) -> dict[str, Any]:
    """One network."""
    network = by_name(name, PointNet)
    path = weights.find(name)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{name}{SUFFIX}"
        n_calibrated = quantise(network, calibration, out)
        row: dict[str, Any] = {
            "network": name,
            "fp16_mb": round(path.stat().st_size / 1e6, 2),
            "parts_fp16_mb": round(2 * n_parameters(network.net) / 1e6, 2),
            "int8_mb": round(out.stat().st_size / 1e6, 2),
            "calibrated_on": n_calibrated,
        }
        for file in path.parent.glob("*.safetensors"):  # where networks were found they are found still
            (Path(folder) / file.name).symlink_to(file.resolve())
        with mock.patch.dict(os.environ, HDAC_WEIGHTS=folder):
            for number, clip_path in enumerate(tqdm(clips, desc=name, unit="clip")):
                clip = read_clip(clip_path, frames=frames)
                stream = Mobile(qp=QPS[number % len(QPS)], network=name).encode(clip)
                for int8 in (False, True):
                    if number == 0:
                        decoded(stream, int8)  # what is loaded once is not timed
                    shown, fps = decoded(stream, int8)
                    scores = compute(clip, shown, METRICS).values
                    for metric, value in {**scores, "fps": fps}.items():
                        found.setdefault(f"{metric}_{'int8' if int8 else 'exact'}", []).append(value)
    return {**row, **{column: round(float(np.mean(values)), 4) for column, values in found.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips, to measure on")
    parser.add_argument("--networks", nargs="+", required=True)
    parser.add_argument("--calibrate", type=Path, required=True, help="likewise, of other people")
    parser.add_argument("--most", type=int, default=16, help="clips for calibration")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    calibration = find_clips(args.calibrate)
    calibration = calibration[:: max(1, len(calibration) // args.most)][: args.most]
    rows = []
    for name in args.networks:
        rows.append(measure(name, find_clips(args.clips), calibration, args.frames))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.out:
        command = (
            f"python -m tests.bench.bench_int8 <folder> --calibrate <folder> --most {args.most} --frames {args.frames} "
            f"--networks {' '.join(args.networks)}"
        )
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine(), "threads": THREADS}
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
