"""The mobile family's networks in 8-bit integers beside themselves: size, frames/s and quality.

    python -m tests.bench.bench_int8 CLIPS --calibrate CLIPS --networks NAME .. [--frames N] [--out FILE]

Every network is quantised anew, calibrated on clips of other people; then the same streams (a reference, then motion;
references of two QPs, one after the other) are decoded by both. Frames/s are of whole decoders from their second picture on:
what is done once, loading, folding and decoding a reference, is not among it; two threads, which have two pictures at once
(`hdac.codecs.in_flight`), and `.._1` by one. Sizes: `int8_mb` is the file of integers, deflated as it is; `parts_fp16_mb`
the same parts' weights as fp16, deflated; `fp16_mb` the network's file.

A network that finds keypoints itself is made to encode by integers, too: `.._found` are of streams whose points integers have
found, shown by the exact network. The landmark student, which is `landmarks` among the networks, is a row of another kind: its
NME to the teacher (PFLD), exact and in integers, that of one to the other, and pictures/s of both, by one thread.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
import zlib
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
from hdac.codecs import mobile
from hdac.codecs.animator import Stage
from hdac.codecs.mobile import Mobile
from hdac.container import Reader
from hdac.int8 import SUFFIX, find_by
from hdac.landmarks import OUTER_EYE_CORNERS
from hdac.nets.animation import PointNet
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.landmarks import LandmarkNet
from hdac.network import by_name, load
from hdac.training.cache import find_clips
from hdac.training.quantise import quantise, spread
from hdac.training.teachers import Landmarks
from rd import provenance
from rd.metrics import compute

METRICS = ("psnr_y", "lpips", "nme")
EVERY = 5
"""Frames to one that students look at."""
THREADS = 2
QPS = (28, 40)


ONCE = ("frontalize", "first", "down", "embed", "texture")
"""What no network runs for every frame."""


def deflated_fp16(net: PointNet) -> int:
    """Bytes of the parts that are in integers."""
    rest = (*ONCE, *({"detector", "expression"} - set(net.finders)))
    state = [value for name, value in net.named_parameters() if name.split(".")[0] not in rest]
    return len(zlib.compress(b"".join(value.half().numpy().tobytes() for value in state), 9))


def decoded(stream: bytes, int8: bool, ahead: bool = True) -> tuple[Clip, float]:
    """The clip, and frames/s behind its first picture. ahead: several pictures at once."""
    reader = Reader(io.BytesIO(stream))
    pictures = mobile.decode(reader, ahead=ahead, int8=int8)
    shown = [next(pictures)]
    begin = time.perf_counter()
    shown += pictures
    fps = (len(shown) - 1) / (time.perf_counter() - begin)
    y, u, v = (np.stack(planes) for planes in zip(*shown, strict=True))
    return Clip(y, u, v, reader.header.stream.fps, reader.header.stream.colour), fps


def student(name: str, clips: list[Path], calibration: list[Path], frames: int) -> dict[str, Any]:
    """The landmark student."""
    torch.set_num_threads(1)  # an ONNX session has one, too
    network = by_name(name, LandmarkNet)
    known = condition(None, torch.zeros(1), torch.zeros(1))
    exact, small, teacher = folded(network.net, known), folded(network.net, known), Landmarks()
    row: dict[str, Any] = {"network": name, "fp16_mb": round(weights.find(name).stat().st_size / 1e6, 2)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{name}{SUFFIX}"
        row["calibrated_on"] = quantise(load(weights.find(name)), calibration, out)
        row["int8_mb"] = round(out.stat().st_size / 1e6, 2)
        with mock.patch.dict(os.environ, HDAC_WEIGHTS=folder):
            find_by(small, network)
    found: dict[str, list[float]] = {"nme_exact": [], "nme_int8": [], "nme_between": []}
    seconds = {"exact": 0.0, "int8": 0.0}
    for number, path in enumerate(tqdm(clips, desc=name, unit="clip")):
        clip = read_clip(path, frames=frames)
        stage, size = Stage(8, None), torch.tensor([clip.width - 1.0, clip.height - 1.0]) / 2
        for t in range(0, clip.n_frames, EVERY):
            packed = stage.packed(stage.seen((clip.y[t], clip.u[t], clip.v[t])))
            points = {}
            for how, net in (("exact", exact), ("int8", small)):
                with torch.inference_mode():
                    if number == t == 0:
                        net(packed)  # what is loaded once is not timed
                    begin = time.perf_counter()
                    points[how] = net(packed)[0]
                    seconds[how] += time.perf_counter() - begin
            points["teacher"] = torch.from_numpy(teacher(clip.rgb(slice(t, t + 1))[0]))
            if torch.isnan(points["teacher"]).any():
                continue
            at = {how: value * size for how, value in points.items()}
            left, right = (at["teacher"][i] for i in OUTER_EYE_CORNERS)
            for column, (a, b) in {
                "nme_exact": ("exact", "teacher"),
                "nme_int8": ("int8", "teacher"),
                "nme_between": ("int8", "exact"),
            }.items():
                found[column].append(float((at[a] - at[b]).norm(dim=-1).mean() / (right - left).norm()))
    n_seen = sum(len(range(0, read_clip(path, frames=frames).n_frames, EVERY)) for path in clips)
    row |= {column: round(float(np.mean(values)), 4) for column, values in found.items()}
    torch.set_num_threads(THREADS)
    return row | {f"fps_{how}": round(n_seen / value, 1) for how, value in seconds.items()}


def measure(name: str, clips: list[Path], calibration: list[Path], frames: int) -> dict[str, Any]:
    """One network."""
    network = by_name(name, PointNet)
    path = weights.find(name)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"{name}{SUFFIX}"
        n_calibrated = quantise(load(path), calibration, out)
        row: dict[str, Any] = {
            "network": name,
            "fp16_mb": round(path.stat().st_size / 1e6, 2),
            "parts_fp16_mb": round(deflated_fp16(network.net) / 1e6, 2),
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
                    how = "int8" if int8 else "exact"
                    if number == 0:
                        decoded(stream, int8)  # what is loaded once is not timed
                    shown, fps = decoded(stream, int8)
                    scores = compute(clip, shown, METRICS).values
                    for metric, value in {**scores, "fps": fps}.items():
                        found.setdefault(f"{metric}_{how}", []).append(value)
                    torch.set_num_threads(1)
                    found.setdefault(f"fps_{how}_1", []).append(decoded(stream, int8, ahead=False)[1])
                    torch.set_num_threads(THREADS)
                if network.net.finders and not network.net.settings.landmarks_sent:
                    by_integers = Mobile(qp=QPS[number % len(QPS)], network=name, int8=True).encode(clip)
                    scores = compute(clip, systems.decode(by_integers), METRICS).values
                    for metric, value in {**scores, "bytes": len(by_integers) / len(stream)}.items():
                        found.setdefault(f"{metric}_found", []).append(value)
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
    calibration = spread(find_clips(args.calibrate), args.most)
    rows = []
    for name in args.networks:
        one = student if name == Mobile.landmark_network else measure
        rows.append(one(name, find_clips(args.clips), calibration, args.frames))
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
