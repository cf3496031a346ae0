"""The four fusions trained equally long from the same beginning, and what each gains on people held out.

Run by `python -m tests.bench.bench_fusion CACHE --runs FOLDER --out FILE` with a cache of `hdac train prepare`. A run that was
killed goes on. All begin with the shipped weights, but for fusion, decoder and last layer, which begin anew: what finds and
warps was trained with `gated`, so that the others have a little way to go that it has not. `gated` ends in a correction of the
base layer, the others in a picture, as in the papers: the comparison is of both together.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import safetensors.torch

from data.cli import run
from data.errors import HdacError
from data.files import write_atomic
from hdac import weights
from hdac.nets.fusion import FUSIONS
from rd import provenance

BEGIN_ANEW = ("fuse.", "levels.", "last.")
SETTINGS = "--threads 1 --batch 4 --learning-rate 4e-4 --no-base 0.2 --sent 0.1 --look 0.4 --perceptual-weight 100".split()
COLUMNS = {  # of the log: PSNR-Y of the fused picture less that of its base layer
    "hdac_gain_0": "gain_db_qp_47_51",
    "hdac_gain_1": "gain_db_qp_42_47",
    "hdac_gain_2": "gain_db_qp_35_42",
    "hdac_gain_3": "gain_db_separate_reference",
    "base_lpips": "base_lpips",
    "hdac_lpips": "lpips",
    "hdac_look_lpips": "look_lpips",
    "dac_psnr_y": "dac_psnr_y",
    "dac_lpips": "dac_lpips",
}


def train(fusion: str, cache: Path, folder: Path, steps: int) -> dict[str, str]:
    """Its scores after that many steps."""
    out = folder / fusion
    options = ["--out", str(out), "--fusion", fusion, "--steps", str(steps), "--every", str(steps), *SETTINGS]
    options += ["--start-from", str(folder / "trunk.safetensors")]
    with (folder / f"{fusion}.log").open("a") as log:
        command = [sys.executable, "-m", "hdac.training", "run", str(cache), *options]
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if status:
        raise HdacError(f"training of {fusion} ended with {status}: see {log.name}")
    with (out / "log.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    print(fusion, {name: last[column] for column, name in COLUMNS.items()}, flush=True)
    return {"fusion": fusion, "steps": last["step"]} | {name: last[column] for column, name in COLUMNS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the four runs")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--out", type=Path, help="CSV file")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    shipped = safetensors.torch.load_file(weights.find("lite"))
    trunk = {name: value for name, value in shipped.items() if not name.startswith(BEGIN_ANEW)}
    write_atomic(args.runs / "trunk.safetensors", safetensors.torch.save(trunk))
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda fusion: train(fusion, args.cache, args.runs, args.steps), FUSIONS))
    if args.out:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(args.out, table.getvalue())
        command = f"python -m tests.bench.bench_fusion CACHE --runs RUNS --steps {args.steps} --out FILE"
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine()}
        write_atomic(args.out.with_suffix(".json"), json.dumps(facts, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
