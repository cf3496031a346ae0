"""CompressAI's result files: a rate-distortion curve as JSON, so that its plots and published curves stand beside ours.

    {"name": "VTM", "description": "...", "results": {"bpp": [..], "bitrate": [..], "psnr-rgb": [..], ..}}

The lists run over the rate points; `bpp` is in bits per pixel, `bitrate` in kbit/s (CompressAI's `utils.bench` writes
the first, `utils.video.bench` the second, we write both). Curves in https://github.com/InterDigitalInc/CompressAI
under results/ have this form.

Metrics go by CompressAI's names where it has the same metric (`psnr-rgb`, `psnr-y`, `psnr-u`, `psnr-v`), others by ours
with dashes (`ms-ssim-y`, `lpips`). Its `psnr-yuv` weighs 4:1:1 and its `ms-ssim-rgb` is not of luma: neither is
read. Its video bench takes the PSNR of the mean MSE, ours is the mean PSNR over frames: 0 to 0.3 dB higher.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from data import cli
from data.errors import InputError
from data.files import write_atomic
from rd.columns import METRICS
from rd.curve import MEAN_CURVE, curves_of, mean_curve
from rd.table import file_stem, read_points, scored

_KEYS = {"psnr_yuv": "psnr-yuv-611"} | {m: m.replace("_", "-") for m in METRICS if m != "psnr_yuv"}
_COLUMNS = {"psnr": "psnr_rgb"} | {key: column for column, key in _KEYS.items()}
"""Our columns of the keys that we can read; CompressAI's older image results say `psnr` for `psnr-rgb`."""
MEAN_POINTS = 9


def read_compressai(
    path: str | os.PathLike[str], width: int | None = None, height: int | None = None, fps: Fraction | None = None
) -> pd.DataFrame:
    """One curve as rows of `points.csv`: sequence "mean-curve", regime "" (any), codec the curve's name.

    width, height, fps: size in pixels and frame rate with which `kbps` follows from `bpp`, or the other way round,
    where the file has only one of them. Without, the missing one is NaN.
    Raises InputError, naming the file, for anything that is not such a curve.
    """
    file = Path(path)
    try:
        content: Any = json.loads(file.read_text())
    except FileNotFoundError:
        raise InputError(f"{file} does not exist") from None
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} is no CompressAI result: a {type(content).__name__} where an object belongs")
    results = content.get("results", content)
    if not isinstance(results, dict) or not ("bpp" in results or "bitrate" in results):
        raise InputError(f'{file} is no CompressAI result: it has no list "bpp" or "bitrate"')

    columns = {"kbps": "bitrate", "bpp": "bpp"} | {_COLUMNS[key]: key for key in results if key in _COLUMNS}
    lists = {column: _numbers(results[key], key, file) for column, key in columns.items() if key in results}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) != 1:
        raise InputError(f"{file}: its lists have different lengths: {sorted(lengths)}")
    n = lengths.pop()
    curve = pd.DataFrame(lists).astype(np.float64)
    per_bpp = float(width * height * fps) / 1000 if width and height and fps else math.nan
    if "kbps" not in curve:
        curve["kbps"] = curve["bpp"] * per_bpp
    if "bpp" not in curve:
        curve["bpp"] = curve["kbps"] / per_bpp
    name = content.get("name")
    curve = curve.assign(
        sequence=MEAN_CURVE,
        codec=name if isinstance(name, str) and name else file.stem,
        regime="",
        point=range(n),
        setting="",
        status="ok",
        error="",
    )
    order = ["sequence", "codec", "regime", "point", "setting", "kbps", "bpp"]
    return curve[[*order, *(m for m in METRICS if m in curve), "status", "error"]]


def write_compressai(curve: pd.DataFrame, path: str | os.PathLike[str], name: str, description: str = "") -> None:
    """Writes one curve: rows with `kbps` and `bpp`, by rising rate; a metric that some row lacks is left out."""
    if curve.empty:
        raise InputError(f"no points to write to {path}")
    ordered = curve.sort_values("kbps", kind="stable")
    results = {"bpp": ordered["bpp"].tolist(), "bitrate": ordered["kbps"].tolist()}
    for metric in METRICS:
        if metric in ordered and np.isfinite(ordered[metric]).all():
            results[_KEYS[metric]] = ordered[metric].tolist()
    content = {"name": name, "description": description, "results": results}
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def mean_points(points: pd.DataFrame) -> pd.DataFrame:
    """The mean curve over sequences of one codec and regime, sampled at nine rates: columns kbps, bpp and the metrics.

    Each metric is averaged as in `rd.curve.mean_curve`; the rates are those that every metric's mean curve covers.
    `bpp` follows from the size and frame rate, and is NaN where the sequences differ in them.
    Raises InputError where the sequences share no range of rates.
    """
    means = {}
    for metric in METRICS:
        if metric in points and points[metric].notna().any():
            curves = curves_of(points, "kbps", metric, METRICS[metric].higher_is_better)
            mean = mean_curve(list(curves.values()))
            if mean is not None and len(curves) == points["sequence"].nunique() and len(mean) > 1:
                means[metric] = mean
    low = max((float(mean.rate[0]) for mean in means.values()), default=math.inf)
    high = min((float(mean.rate[-1]) for mean in means.values()), default=0.0)
    if low >= high:
        raise InputError(f"the curves of {points['codec'].iloc[0]!r} share no range of rates: there is no mean curve")
    kbps = np.geomspace(low, high, MEAN_POINTS)
    sampled = pd.DataFrame({"kbps": kbps})
    per_bpp = {float(r.width * r.height * Fraction(r.fps)) / 1000 for r in points.itertuples()}
    sampled["bpp"] = kbps / per_bpp.pop() if len(per_bpp) == 1 else math.nan
    for metric, mean in means.items():
        inside = np.clip(np.log10(kbps), np.log10(mean.rate[0]), np.log10(mean.rate[-1]))
        quality = PchipInterpolator(np.log10(mean.rate), mean.quality)(inside)
        sampled[metric] = quality if METRICS[metric].higher_is_better else -quality
    return sampled


def export(points: pd.DataFrame, out: Path) -> list[Path]:
    """One file per codec, regime and sequence, and for more than one sequence one of the mean; returns the files.

    OUT/<regime>/<sequence>/<codec>.json and OUT/<regime>/<codec>.json.
    """
    ok = scored(points)
    written = []
    for (regime, codec), rows in ok.groupby(["regime", "codec"], sort=False):
        sequences = rows.groupby("sequence", sort=False)
        for sequence, part in sequences:
            written.append(out / file_stem(regime) / file_stem(sequence) / f"{file_stem(codec)}.json")
            write_compressai(part, written[-1], codec, f"{codec}, {regime}, {sequence}")
        if len(sequences) > 1:
            written.append(out / file_stem(regime) / f"{file_stem(codec)}.json")
            about = f"{codec}, {regime}, mean curve of {len(sequences)} sequences"
            write_compressai(mean_points(rows), written[-1], codec, about)
    return written


def _numbers(values: Any, key: str, file: Path) -> list[float]:
    if not isinstance(values, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise InputError(f"{file}: {key!r} is not a list of numbers")
    if not values:
        raise InputError(f"{file}: {key!r} is empty")
    return [float(v) for v in values]


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m rd.compressai_json DIR OUT`."""
    parser = argparse.ArgumentParser(
        prog="python -m rd.compressai_json", description="Write the curves of a sweep in CompressAI's JSON format."
    )
    parser.add_argument("points", type=Path, metavar="DIR|points.csv", help="a sweep's output folder or its table")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for OUT/<regime>/[<sequence>/]<codec>.json")
    args = parser.parse_args(argv)

    def write() -> None:
        print(f"{len(export(read_points(args.points), args.out))} curves written to {args.out}")

    return cli.run(write)


if __name__ == "__main__":
    raise SystemExit(main())
