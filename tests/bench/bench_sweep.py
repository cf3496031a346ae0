"""Speed of the sweep itself: two jobs against one, its own overhead, and the memory of a job.

    python -m tests.bench.bench_sweep [--frames 96] [--rounds 2] [--out results/bench/sweep.json]

One clip of the sample is coded by x265 and x264 and scored (PSNR, SSIM, VMAF), with one job and with two, each from an empty
cache, in turns, so that a slow moment of the machine meets both. Overhead is the share of the one-job wall time that is
neither encoding, decoding nor scoring: start of the children, queues, cache, tables.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from data.files import write_atomic
from data.sequences import resolve
from rd import provenance, sweep
from rd.isolate import close_children, run_isolated


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measures the sweep's parallel speed-up, overhead and memory.")
    parser.add_argument("--sequence", default="sample/talk-motion")
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)

    walls: dict[int, list[float]] = {1: [], 2: []}
    overheads = []
    resolve([args.sequence])[0].load()  # the sample is made once, and that is no part of a sweep
    for _ in range(args.rounds):
        for jobs in (1, 2):
            wall, job_seconds = one_sweep(args.sequence, args.frames, jobs)
            walls[jobs].append(wall)
            if jobs == 1:
                overheads.append(1 - job_seconds / wall)
            print(f"{jobs} job(s): {wall:.1f} s, of it {job_seconds:.1f} s in jobs", file=sys.stderr)
    found = {
        "command": "python -m tests.bench.bench_sweep " + " ".join(sys.argv[1:] if argv is None else argv),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "wall_s_one_job": walls[1],
        "wall_s_two_jobs": walls[2],
        "speed_up_of_two_jobs": statistics.median(a / b for a, b in zip(walls[1], walls[2], strict=True)),
        "overhead_percent": 100 * statistics.median(overheads),
        "peak_memory_of_a_job_mib": peak_memory_mib(args.sequence),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        write_atomic(args.out, text + "\n")
    return 0


def one_sweep(sequence: str, frames: int, jobs: int) -> tuple[float, float]:
    """(wall seconds, seconds inside jobs) of a sweep from an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        status = sweep.main(
            ["--sequences", sequence, "--codecs", "hevc", "h264", "--frames", str(frames), "--points", "4"]
            + ["--metrics", "psnr", "ssim", "vmaf", "--jobs", str(jobs), "--no-report", "--out", folder]
        )
        wall = time.perf_counter() - begin
        if status:
            raise SystemExit(status)
        return wall, float(json.loads(Path(folder, "run.json").read_text())["seconds"]["jobs"])


def peak_memory_mib(sequence: str) -> float:
    """Peak resident memory of a child that coded and scored a clip of 256x256 with every metric at hand."""
    with tempfile.TemporaryDirectory() as folder:
        here = importlib.import_module("tests.bench.bench_sweep")  # a child cannot import "__main__"
        run_isolated(here._one_of_each, sequence, folder)
        peak = run_isolated(here._peak_kib) / 1024
        close_children()
        return float(round(peak))


def _one_of_each(sequence: str, folder: str) -> None:
    from baselines.conventional import X265
    from rd.columns import METRICS
    from rd.jobs import CodeJob, MeasureJob

    (found,) = resolve([sequence])
    codec = X265(qp=40)
    CodeJob(found, codec, "0" * 64, Path(folder)).run()
    MeasureJob(found, codec, "0" * 64, tuple(METRICS), Path(folder)).run()


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
