"""What fitting a network to the references of a call gains (`hdac decode --fine-tune`).

    python -m tests.bench.bench_fine_tuning CLIPS --networks NAME .. [--steps N ..] [--frames N] [--spread N] [--out FILE]

The same stream is decoded with every number of steps: scores of whole clips, and the seconds that a decoder takes for them. The
bytes are the same: a viewer fits, nothing is sent for it (the few-shot part of Zakharov et al. 2019, on the one reference).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data.cli import run
from data.errors import InputError
from data.files import write_atomic
from data.io import read_clip
from hdac import weights
from hdac.codecs.mobile import Mobile
from hdac.decoder import decode_mobile
from hdac.training.cache import find_clips
from hdac.training.quantise import spread
from rd import provenance
from rd.metrics import compute

METRICS = ("psnr_y", "lpips", "nme_mesh", "csim")
QP = 32
THREADS = 2


def measure(name: str, clips: list[Path], steps: list[int], frames: int) -> dict[str, Any]:
    """Of one network, means over clips by the number of steps."""
    found: dict[int, dict[str, list[float]]] = {n: {} for n in steps}
    for path in tqdm(clips, desc=name, unit="clip"):
        clip = read_clip(path, frames=frames)
        stream = Mobile(qp=QP, network=name).encode(clip)
        decode_mobile(stream)  # what is loaded once is not timed
        for n in steps:
            begin = time.perf_counter()
            shown = decode_mobile(stream, n)
            seconds = time.perf_counter() - begin
            scores = compute(clip, shown, METRICS)
            if scores.missing:
                raise InputError(f"{path.stem}: no {', '.join(f'{metric} ({why})' for metric, why in scores.missing.items())}")
            for metric, value in {**scores.values, "seconds": seconds}.items():
                found[n].setdefault(metric, []).append(value)
    means = {n: {metric: round(float(np.mean(values)), 4) for metric, values in of.items()} for n, of in found.items()}
    return {"network": name, "weights": weights.weights_id(weights.find(name)).hex(), "steps": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--networks", nargs="+", required=True)
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 50, 200])
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--spread", type=int, default=8, help="clips to measure on, evenly spread over all")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    clips = spread(find_clips(args.clips), args.spread)
    rows = [measure(name, clips, args.steps, args.frames) for name in args.networks]
    for row in rows:
        for n, scores in row["steps"].items():
            print(f"{row['network']:22} {n:4} steps  " + "  ".join(f"{metric} {value}" for metric, value in scores.items()))
    if args.out:
        command = (
            f"python -m tests.bench.bench_fine_tuning <folder> --networks {' '.join(args.networks)} "
            f"--steps {' '.join(map(str, args.steps))} --frames {args.frames} --spread {args.spread}"
        )
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine(), "threads": THREADS}
        write_atomic(args.out, json.dumps({**facts, "clips": [path.stem for path in clips], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
