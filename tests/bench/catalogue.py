"""What `hdac list` says of rates and speeds, from the tables of sweeps and from `bench_codecs`.

    python -m tests.bench.catalogue results/conventional results/hdac .. --speeds results/bench/codecs.json .. --out FILE

The file is `hdac/catalogue.csv`. One intra picture; rates are means over the clips of the coarsest and of the finest point of
every curve. Speeds are those of one thread: of layered codecs by the benchmark, of the others by the seconds of the sweep,
beside another job. A codec that is in several folders is taken from the last.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path

from data.cli import run
from data.files import write_atomic
from hdac.systems import FAMILIES, Measured
from rd.table import read_points, scored


def measured(folder: Path) -> dict[str, Measured]:
    """Of a sweep, by codec."""
    table = scored(read_points(folder))
    found = {}
    for codec, rows in table[table.regime == "one-intra"].groupby("codec"):
        rates = rows.groupby("sequence").kbps
        fps = [rows.n_frames.sum() / rows[column].sum() for column in ("encode_s", "decode_s")]
        found[str(codec)] = Measured(float(rates.min().mean()), float(rates.max().mean()), *map(float, fps))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="folders of sweeps")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    parser.add_argument("--speeds", type=Path, nargs="*", default=[], help="what bench_codecs wrote")
    args = parser.parse_args()
    found: dict[str, Measured] = {}
    for folder in args.results:
        found |= measured(folder)
    for row in (row for path in args.speeds for row in json.loads(path.read_text())["rows"]):
        if row["threads"] == 1 and row["codec"] in found:
            found[row["codec"]] = found[row["codec"]]._replace(encode_fps=row["encode_fps"], decode_fps=row["decode_fps"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["codec", *Measured._fields])
    for name in FAMILIES:
        if name in found:
            writer.writerow([name, *(f"{value:.3g}" for value in found[name])])
    write_atomic(args.out, text.getvalue())
    print(text.getvalue())


if __name__ == "__main__":
    sys.exit(run(main))
