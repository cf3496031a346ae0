"""What a lighter keypoint detector costs by itself: before its own decoder and the teacher's (Lu and Zheng 2023, section 3.2).

    python -m tests.bench.bench_detectors CLIPS [--networks NAME ..] [--frames N] [--spread N] [--out FILE]

The teacher, the first network, has its decoder moved by what each detector finds; every other decoder is moved by its own
and by the teacher's. The reference is the first frame. Nothing is coded on the way, so that all that differs between rows of
one decoder is the detector: those are to be compared, not with the sweep's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.errors import CodecUnavailable, InputError
from data.files import write_atomic
from data.io import read_clip
from hdac import weights
from hdac.codecs import face_box
from hdac.codecs.in_flight import at_once, in_flight
from hdac.codecs.point_animator import PointAnimator
from hdac.conference import FINE_QP
from hdac.nets.animation import PointNet
from hdac.nets.folding import folded
from hdac.network import by_name
from hdac.training.cache import find_clips
from hdac.training.quantise import spread
from rd import provenance
from rd.metrics import compute

METRICS = ("akd", "aed", "l1", "lpips", "nme_mesh")
NETWORKS = ("fomm", "ultralight", "ultralight-6", "ultralight-5")
THREADS = 2


def shown(clip: Clip, decoder: str, detector: str) -> Clip:
    """The clip, its first frame moved by what `detector` finds in all of them."""
    animator = PointAnimator(by_name(decoder, PointNet), None, FINE_QP, True, face_box.find(clip))
    finding = folded(by_name(detector, PointNet).net, animator.condition)
    animator.net.detect = finding.detect  # type: ignore[method-assign]
    first = clip.y[0], clip.u[0], clip.v[0]
    animator.rest_at(animator.refer_to(first))
    frames = zip(clip.y, clip.u, clip.v, strict=True)
    tasks = (animator.task(animator.values(planes), (clip.height, clip.width)) for planes in frames)
    y, u, v = (np.stack(planes) for planes in zip(*in_flight(tasks, at_once()), strict=True))
    return Clip(y, u, v, clip.fps, clip.colour)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="the teacher first")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--spread", type=int, default=24, help="clips to measure on, evenly spread over all")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    clips = spread(find_clips(args.clips), args.spread)
    teacher = args.networks[0]
    if weights.missing(teacher):
        raise CodecUnavailable(f"no weights {teacher}, which are the teacher's")
    there = [name for name in args.networks if not weights.missing(name)]
    pairs = [(one, other) for one in there for other in there if teacher in (one, other) or one == other]
    found: dict[tuple[str, str], list[list[float]]] = {pair: [] for pair in pairs}
    for path in tqdm(clips, unit="clip"):
        clip = read_clip(path, frames=args.frames)
        for pair, scores in found.items():
            measured = compute(clip, shown(clip, *pair), METRICS)
            if measured.missing:
                raise InputError("; ".join(measured.missing.values()))
            scores.append([measured.values[metric] for metric in METRICS])
    rows: list[dict[str, Any]] = []
    for (decoder, detector), scores in found.items():
        means = np.mean(np.array(scores, float), axis=0).round(4).tolist()
        rows.append({"decoder": decoder, "detector": detector, **dict(zip(METRICS, means, strict=True))})
        said = "  ".join(f"{metric} {value}" for metric, value in zip(METRICS, means, strict=True))
        print(f"{decoder:14} by {detector:14} {said}")
    if args.out:
        facts = {
            "command": f"python -m tests.bench.bench_detectors <folder> --networks {' '.join(args.networks)} "
            f"--frames {args.frames} --spread {args.spread}",
            "commit": provenance.commit(),
            "teacher": teacher,
            "weights": {name: weights.weights_id(weights.find(name)).hex() for name in there},
            "clips": [path.stem for path in clips],
        }
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
