"""The mobile family's networks in 8-bit integers beside themselves: size, frames/s and quality.

    python -m tests.bench.bench_int8 CLIPS --calibrate CLIPS --networks NAME .. [--frames N] [--spread N] [--out FILE]

Every network is quantised anew, calibrated on clips of other people; then the same streams (a reference, then motion;
references of two QPs, one after the other) are decoded by both. Frames/s are of whole decoders from their second picture on:
what is done once, loading, folding and decoding a reference, is not among it; two threads, which have two pictures at once
(`hdac.codecs.in_flight`), and `.._1` by one. Sizes: `int8_mb` is the file of integers, deflated as it is; `parts_fp16_mb`
the same parts' weights as fp16, deflated; `fp16_mb` the network's file. A network codes as its row of the tables does;
`references` says how many its streams have. Rows are written as they come; what is in --out stays, and is not measured again
where weights, clips and frames are the same.

Networks of which something is found by others than optical flow, a detector, a student, are made to encode by integers, too:
`.._found` are of streams whose points or labels integers have found, shown by the exact network. The students themselves,
`landmarks` and `segmentation` among the networks, are rows of another kind: NME, or share of other labels, to the teacher,
exact and in integers, that of one to the other, and pictures/s of both, by one thread.
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
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
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
from hdac.families import LAYERED
from hdac.int8 import SUFFIX, find_by
from hdac.landmarks import OUTER_EYE_CORNERS
from hdac.nets.animation import PointNet
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.segmentation import SegmentationNet
from hdac.network import Network, by_name, load
from hdac.training.cache import find_clips
from hdac.training.quantise import quantise, spread
from hdac.training.teachers import Labels, Landmarks
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


def student(name: str, clips: list[Path], calibration: tuple[Path, ...], frames: int, folder: Path) -> dict[str, Any]:
    """The landmark student, or that of label maps."""
    torch.set_num_threads(1)  # an ONNX session has one, too
    network: Network[Any] = load(weights.find(name))
    known = condition(None, torch.zeros(1), torch.zeros(1))
    exact, small = folded(network.net, known), folded(network.net, known)
    finds_labels = isinstance(network.net, SegmentationNet)
    teacher, errors = (Labels(), label_errors) if finds_labels else (Landmarks(), landmark_errors)
    row: dict[str, Any] = {"network": name, "kind": "student"}
    row["fp16_mb"] = round(weights.find(name).stat().st_size / 1e6, 2)
    row["calibrated_on"] = quantised(name, calibration, folder)
    row["int8_mb"] = round((folder / f"{name}{SUFFIX}").stat().st_size / 1e6, 2)
    with mock.patch.dict(os.environ, HDAC_WEIGHTS=str(folder)):
        find_by(small, network)
    found: dict[str, list[float]] = {}
    seconds, n_seen = {"exact": 0.0, "int8": 0.0}, 0
    for path in tqdm(clips, desc=name, unit="clip"):
        clip, stage = read_clip(path, frames=frames), Stage(8, None)
        for t in range(0, clip.n_frames, EVERY):
            packed = stage.packed(stage.seen((clip.y[t], clip.u[t], clip.v[t])))
            said: dict[str, Tensor] = {"teacher": torch.from_numpy(teacher(clip.rgb(slice(t, t + 1))[0]))}
            for how, net in (("exact", exact), ("int8", small)):
                with torch.inference_mode():
                    if not n_seen:
                        net(packed)  # what is loaded once is not timed
                    begin = time.perf_counter()
                    said[how] = net(packed)[0]
                    seconds[how] += time.perf_counter() - begin
            n_seen += 1
            for column, value in errors(said, (clip.width, clip.height)).items():
                found.setdefault(column, []).append(value)
    row |= {column: round(float(np.mean(values)), 4) for column, values in found.items()}
    torch.set_num_threads(THREADS)
    return row | {"fps_exact": round(n_seen / seconds["exact"], 1), "fps_int8_1": round(n_seen / seconds["int8"], 1)}


PAIRS = {"exact": ("exact", "teacher"), "int8": ("int8", "teacher"), "between": ("int8", "exact")}
"""Whom against whom."""


def landmark_errors(said: dict[str, Tensor], size: tuple[int, int]) -> dict[str, float]:
    """NME of PAIRS; nothing where the teacher sees no face."""
    if torch.isnan(said["teacher"]).any():
        return {}
    at = {how: points * (torch.tensor(size) - 1.0) / 2 for how, points in said.items()}
    left, right = (at["teacher"][i] for i in OUTER_EYE_CORNERS)
    eyes = (right - left).norm()
    return {f"nme_{pair}": float((at[a] - at[b]).norm(dim=-1).mean() / eyes) for pair, (a, b) in PAIRS.items()}


def label_errors(said: dict[str, Tensor], size: tuple[int, int]) -> dict[str, float]:
    """Share of labels in which PAIRS differ."""
    labels = {how: one if how == "teacher" else one.argmax(0) for how, one in said.items()}
    return {f"wrong_{pair}": float((labels[a] != labels[b]).float().mean()) for pair, (a, b) in PAIRS.items()}


@cache
def quantised(name: str, calibration: tuple[Path, ...], folder: Path) -> int:
    """Writes NAME.int8 into a folder, once; returns the number of frames that it is calibrated on."""
    return quantise(load(weights.find(name)), list(calibration), folder / f"{name}{SUFFIX}")


def codec_of(name: str, qp: int) -> Mobile:
    """As the tables have it."""
    (codec,) = LAYERED[name].candidates("one-intra", 1)
    assert isinstance(codec, Mobile)
    return replace(codec, qp=qp)


def references_in(stream: bytes) -> int:
    reader = Reader(io.BytesIO(stream))
    return sum(received.unit.reference is not None for received in reader.units())


def measure(name: str, clips: list[Path], calibration: tuple[Path, ...], frames: int, folder: Path) -> dict[str, Any]:
    """One network. folder: where the quantised ones are, of this network and of those before it."""
    network = by_name(name, PointNet)
    path = weights.find(name)
    s = network.net.settings
    students = [Mobile.landmark_network] * bool(s.landmarks_sent) + [Mobile.segmentation_network] * bool(s.map_side)
    row: dict[str, Any] = {
        "network": name,
        "fp16_mb": round(path.stat().st_size / 1e6, 2),
        "parts_fp16_mb": round(deflated_fp16(network.net) / 1e6, 2),
        "calibrated_on": quantised(name, calibration, folder),
        "int8_mb": round((folder / f"{name}{SUFFIX}").stat().st_size / 1e6, 2),
    }
    for other in students:
        quantised(other, calibration, folder)
    for file in (weights.find(one) for one in (name, *students)):  # where networks were found they are found still
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    found: dict[str, list[float]] = {}
    with mock.patch.dict(os.environ, HDAC_WEIGHTS=str(folder)):
        for number, clip_path in enumerate(tqdm(clips, desc=name, unit="clip")):
            clip = read_clip(clip_path, frames=frames)
            codec = codec_of(name, QPS[number % len(QPS)])
            stream = codec.encode(clip)
            found.setdefault("references", []).append(references_in(stream))
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
            if network.net.finders or students:
                by_integers = replace(codec, int8=True).encode(clip)
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
    parser.add_argument("--spread", type=int, default=99, help="clips to measure on, evenly spread over all")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    clips, calibration = spread(find_clips(args.clips), args.spread), tuple(spread(find_clips(args.calibrate), args.most))
    command = (
        f"python -m tests.bench.bench_int8 <folder> --calibrate <folder> --most {args.most} --frames {args.frames} "
        f"--spread {args.spread} --networks {' '.join(args.networks)}"
    )
    facts = {"command": command, "machine": provenance.machine(), "threads": THREADS}
    before = json.loads(args.out.read_text())["rows"] if args.out and args.out.exists() else []
    rows = {row["network"]: row for row in before}
    names = list(dict.fromkeys([*args.networks, *rows]))
    measured_on = {"frames": args.frames, "clips": [path.stem for path in clips], "calibration": len(calibration)}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.networks:
            files = [name, *LAYERED[name].networks[1:]] if name in LAYERED else [name]
            of_row = {"weights": {file: weights.weights_id(weights.find(file)).hex() for file in files}, **measured_on}
            if rows.get(name, {}).get("of") != of_row:
                one = student if name in (Mobile.landmark_network, Mobile.segmentation_network) else measure
                found = one(name, clips, calibration, args.frames, Path(folder))
                rows[name] = {**found, "of": of_row, "commit": provenance.commit()}
            print("  ".join(f"{key} {value}" for key, value in rows[name].items()), flush=True)
            if args.out:
                in_order = [rows[n] for n in names if n in rows]
                write_atomic(args.out, json.dumps({**facts, "rows": in_order}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
