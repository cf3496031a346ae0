"""Parameters, products, sizes and speed of the mobile family's networks, 256x256.

    python -m tests.bench.bench_networks [--networks NAME ..] [--threads 1 2] [--out FILE]

    encoder    what runs for every frame before something is sent: expression, landmark or map student, and the keypoint
               detector of networks whose keypoints are not followed by optical flow (which is not counted)
    decoder    what runs for every frame that is shown
    reference  what runs once a reference: the rest of the network, and the detector in any case
    published  as Oquab et al. 2021 count in Table 1: dense motion, decoder and keypoint detector, no landmark student
    384        decoder and reference of pictures of 384x384, as Lu and Zheng count their generator

MACs are products of convolutions and linear layers (PyTorch's counter, halved). Frames/s are of the decoder's network alone,
folded as the codec folds it (`hdac.nets.folding`): the best of some runs; `bench_codecs` has whole codecs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from data.cli import run
from data.errors import CodecUnavailable
from data.files import write_atomic
from hdac import weights
from hdac.codecs.mobile import Mobile
from hdac.codecs.point_animator import drawing
from hdac.landmarks import FRONTAL
from hdac.nets import animation, synthesis
from hdac.nets.animation import PointNet, Points
from hdac.nets.folding import folded
from hdac.nets.hybrid import condition
from hdac.nets.layers import channels_last
from hdac.nets.models import build, sizes
from hdac.network import by_name
from rd import provenance

SIDE, LARGE = 256, 384
REPEATS, RUNS = 5, 10


def macs(function: Callable[[], Any]) -> float:
    """Millions of products."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        function()
    return counter.get_total_flops() / 2e6


def points_of(net: PointNet, picture: Tensor) -> Points:
    """What a codec would say of a picture, landmarks those of a frontal face."""
    s = net.settings
    landmarks = torch.tensor(FRONTAL)[None] if s.landmarks_sent else None
    labels = None
    if s.map_side:
        labels = torch.zeros(1, s.map_side, s.map_side, dtype=torch.uint8)
    elif landmarks is not None:
        drawn = drawing(net, landmarks[0].numpy(), picture.shape[-2:])
        labels = None if drawn is None else torch.from_numpy(drawn)[None]
    return Points(net.detect(picture), landmarks, labels, net.express(picture))


def network(name: str) -> tuple[Any, bool]:
    """Of weights that are here, and True; else as it is before training."""
    try:
        return by_name(name, torch.nn.Module).net, True
    except CodecUnavailable:
        return channels_last(build(sizes()[name]).eval().requires_grad_(False)), False


def measure(name: str, threads: list[int]) -> dict[str, Any]:
    """One network."""
    net, trained = network(name)
    s, picture = net.settings, torch.rand(1, 6, SIDE // 2, SIDE // 2).contiguous(memory_format=torch.channels_last)
    known = condition(None, torch.tensor([30.0]), torch.tensor([1.0]))
    students: list[torch.nn.Module] = []
    if s.landmarks_sent:
        students.append(network(Mobile.landmark_network)[0])
    if s.map_side:
        students.append(network(Mobile.segmentation_network)[0])
    with torch.inference_mode():
        points = points_of(net, picture)
        reference = net.reference([net.source(picture, points)])

    def encoder() -> None:
        if not getattr(s, "tracked", True):
            net.detect(picture)
        net.express(picture)
        for student in students:
            student(picture, s.map_side) if s.map_side else student(picture)

    per_frame = ["expression"] + ["detector"] * (not getattr(s, "tracked", True))
    n_encoder = sum(p.numel() for part in per_frame for p in _parameters(getattr(net, part, None)))
    n_encoder += sum(p.numel() for student in students for p in student.parameters())
    n_all = sum(p.numel() for p in net.parameters()) + sum(p.numel() for student in students for p in student.parameters())
    row: dict[str, Any] = {
        "network": name,
        "trained": trained,
        "params_m": round(n_all / 1e6, 3),
        "params_encoder_m": round(n_encoder / 1e6, 3),
        "fp16_mb": round(weights.find(name).stat().st_size / 1e6, 2) if trained else None,
        "macs_encoder_m": round(macs(encoder), 1),
        "macs_decoder_m": round(macs(lambda: net(reference, points, known)), 1),
        "macs_reference_m": round(macs(lambda: (net.detect(picture), net.reference([net.source(picture, points)]))), 1),
        "params_published_m": round(sum(p.numel() for p in net.parameters()) / 1e6, 3),
    }
    row["macs_published_m"] = round(row["macs_decoder_m"] + macs(lambda: net.detect(picture)), 1)
    large = torch.rand(1, 6, LARGE // 2, LARGE // 2).contiguous(memory_format=torch.channels_last)
    of_large = points_of(net, large)

    def generator() -> None:
        net(net.reference([net.source(large, of_large)]), of_large, known)

    row["macs_generator_384_m"] = round(macs(generator), 1)
    quick = folded(net, known)
    with torch.inference_mode():
        reference = quick.reference([quick.source(picture, points)])
        for n in threads:
            torch.set_num_threads(n)
            row[f"decoder_fps_{n}"] = round(speed(lambda: quick(reference, points, known)), 1)
    return row


def _parameters(module: torch.nn.Module | None) -> list[Tensor]:
    return [] if module is None else list(module.parameters())


def speed(function: Callable[[], Any]) -> float:
    """Runs per second; the best of REPEATS, which other work on the machine disturbed least."""
    function()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for _ in range(RUNS):
            function()
        seconds.append((time.perf_counter() - begin) / RUNS)
    return float(1 / np.min(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = [*animation.SIZES, *synthesis.SIZES]
    parser.add_argument("--networks", nargs="+", default=everything, help="default: all of the family")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of PyTorch")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    rows = [measure(name, args.threads) for name in tqdm(args.networks, unit="network")]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.out:
        command = f"python -m tests.bench.bench_networks --threads {' '.join(map(str, args.threads))}"
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine()}
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
