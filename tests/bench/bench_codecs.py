"""Frames per second and peak memory of the layered codecs, 256x256, one process.

    python -m tests.bench.bench_codecs [--codecs NAME ..] [--threads 1 2] [--out FILE]

Of every codec the middle of its rate points, in the regime that is asked for. Targets: 25 frames/s decoded, 15 encoded, on two
cores, under 1.5 GB. Each codec runs in a process of its own, so that its peak memory is its own; the first frames, in which
libraries are loaded, are not timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch

from baselines.codec import REGIMES, VideoCodec
from data.cli import run
from data.files import write_atomic
from data.sequences import resolve
from hdac.families import LAYERED
from rd import provenance
from tests.hdac.faults import peak_bytes

REPEATS = 3


def measure(name: str, codec: VideoCodec, sequence: str, frames: int, threads: int) -> dict[str, Any]:
    """In a fresh process: the fastest of some runs, which other work on the machine disturbed least."""
    torch.set_num_threads(threads)
    clip = resolve([sequence], frames=frames)[0].load()
    codec.decode(codec.encode(clip[:8]))
    encode_s, decode_s = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        stream = codec.encode(clip)
        encode_s.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        codec.decode(stream)
        decode_s.append(time.perf_counter() - begin)
    return {
        "codec": name,
        "setting": codec.label,
        "threads": threads,
        "frames": clip.n_frames,
        "encode_fps": round(clip.n_frames / min(encode_s), 1),
        "decode_fps": round(clip.n_frames / min(decode_s), 1),
        "peak_mib": round(peak_bytes() / 2**20),
        "bytes": len(stream),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    there = [name for name, family in LAYERED.items() if not family.missing()]
    parser.add_argument("--codecs", nargs="+", choices=list(LAYERED), default=there, help="default: all that are here")
    parser.add_argument("--regime", choices=REGIMES, default=REGIMES[0])
    parser.add_argument("--sequence", default="sample/occluder", help="a clip of 256x256")
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of PyTorch")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    rows = []
    for threads in args.threads:
        for name in args.codecs:
            codec = LAYERED[name].candidates(args.regime, 1)[0]
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (name, codec, args.sequence, args.frames, threads)))
            line = "{codec:22} {setting:28} {threads} threads  {encode_fps:6} {decode_fps:6} frames/s  {peak_mib} MiB"
            print(line.format(**rows[-1]), flush=True)
    if args.out:
        command = f"python -m tests.bench.bench_codecs {shlex.join(sys.argv[1:])}"
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine()}
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
