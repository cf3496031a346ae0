"""rd-report: a sweep as one HTML page that needs nothing else, no network included.

The page is `templates/report.html` with its style, its script and the sweep's tables as JSON put in; the script draws
everything from that JSON. A content security policy with the checksums of style and script keeps all else out: the page
loads nothing, and no text of a table (a sequence name, an error message) can become markup or code.

What is put in, from the output folder of `rd-sweep`: `points.csv` (needed), and where they are there `bd.csv`,
`run.json`, `frames.parquet` (an excerpt, FRAME_VALUES at most) and `dumps/` (pictures, reduced to fit PICTURE_BYTES).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image

from data.cli import run
from data.errors import InputError
from data.files import write_atomic
from rd.columns import METRICS, Metric
from rd.curve import shown_mean
from rd.table import read_points, scored

PICTURE_BYTES = 6_500_000  # chosen: all pictures of a page together; as base64 text 9 MB
VIDEO_BYTES = 3_000_000  # chosen: all videos together; above this they are linked, not put in
FRAME_VALUES = 400_000  # chosen: per-frame numbers in a page, about 2.5 MB of text
FRAME_RATES_KBPS = (5, 10, 20, 40)  # chosen: per-frame curves are kept for the points nearest to these rates
HEADLINE = ("psnr_y", "ms_ssim_y", "vmaf", "lpips", "msvgg", "dists", "csim", "ssim_y")  # in this order, four at most


def write_report(folder: Path, out: Path | None = None, dumps: bool = True) -> Path:
    """Writes the page of a sweep and returns its path.

    folder: output folder of a sweep.
    out:    the page; `folder/report.html` if None.
    dumps:  put the pictures in.
    Raises InputError where a table of the sweep is missing or damaged.
    """
    out = out or folder / "report.html"
    page = render(report_data(folder, out, dumps), title=f"Rate-distortion report: {folder.resolve().name}")
    write_atomic(out, page)
    return out


def report_data(folder: Path, out: Path, dumps: bool = True) -> dict[str, Any]:
    """Everything that the page shows, as plain JSON values.

    out: where the page will be; links to files that stay outside it are relative to its folder.
    """
    points = read_points(folder)
    provenance = _read_json(folder / "run.json", dict) or {}
    bd = _read_bd(folder / "bd.csv")
    good = scored(points)
    codecs = _in_order(provenance.get("codecs", {}), points["codec"])
    sequences = _in_order((s.get("name") for s in provenance.get("sequences", [])), points["sequence"])
    regimes = _in_order(("one-intra", "short-gop"), points["regime"])
    metrics = [m for m in METRICS.values() if m.column in good and good[m.column].notna().any()]
    layers = [c for c in points.columns if c.startswith("bytes_") and points[c].notna().any()]
    pictures = _dumps(folder / "dumps", out) if dumps else []

    shown = ["sequence", "codec", "regime", "point", "setting", "status", "error", "bytes", "kbps", *layers]
    return {
        "codecs": codecs,
        "sequences": sequences,
        "regimes": regimes,
        "formats": _formats(points),
        "layers": layers,
        "metrics": [_metric(m) for m in metrics],
        "headline": [c for c in HEADLINE if c in set(bd["metric"])][:4] or list(dict.fromkeys(bd["metric"]))[:4],
        "defaults": {
            "metric": "psnr_y",
            "anchor": "hevc",
            "method": "pchip",
            "rate": "10",
            "detail": pictures[0]["sequence"] if pictures else None,
        },
        "points": _columns(points[[c for c in [*shown, *(m.column for m in metrics)] if c in points]]),
        "means": _means(good, [m.column for m in metrics]),
        "bd": _columns(bd),
        "ledger_gaps": _ledger_gaps(good, layers),
        "frames": _frames(folder / "frames.parquet", good, [m.column for m in metrics]),
        "dumps": pictures,
        "speed": _speed(good),
        "run": provenance,
    }


def render(data: dict[str, Any], title: str) -> str:
    """The page around `report_data`'s values."""
    style, script = _template("report.css"), _template("report.js")
    policy = (
        f"default-src 'none'; style-src '{_checksum(style)}'; script-src '{_checksum(script)}'; "
        "img-src data:; media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )
    return Template(_template("report.html")).substitute(
        title=_escaped(title), policy=policy, css=style, js=script, data=_inline_json(data)
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rd-report", description="Makes one self-contained HTML page of a sweep.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of rd-sweep")
    parser.add_argument("--out", type=Path, help="the page (default: DIR/report.html)")
    parser.add_argument("--no-dumps", action="store_true", help="leave out the pictures and videos")
    args = parser.parse_args(argv)

    def work() -> None:
        print(write_report(args.folder, args.out, dumps=not args.no_dumps))

    return run(work)


# -- text into the page ----------------------------------------------------------------------------------------------


def _template(name: str) -> str:
    return (resources.files("rd") / "templates" / name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    """As a content security policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _inline_json(data: Any) -> str:
    """JSON that can stand inside a script element: `</script>` and `<!--` cannot occur in it."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """The same with NaN and infinities as null: JSON has neither."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# -- tables ----------------------------------------------------------------------------------------------------------


def _read_json(path: Path, kind: type) -> Any:
    """Contents of a JSON file, None where it is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, kind):
        raise InputError(f"{path} holds a {type(value).__name__}, expected a {kind.__name__}")
    return value


def _read_bd(path: Path) -> pd.DataFrame:
    """bd.csv, or a table without rows where there is none. An empty cell or "N/A" is no value."""
    text = ["anchor", "codec", "regime", "metric", "method", "sequence", "note"]
    numbers = ["bd_rate", "bd_quality", "overlap", "ci_low", "ci_high", "n", "n_total"]
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame({column: [] for column in [*text, *numbers]})
    missing = [column for column in [*text, *numbers] if column not in raw]
    if missing:
        raise InputError(f"{path} has no column {', '.join(map(repr, missing))}")
    return pd.DataFrame({c: raw[c] if c in text else pd.to_numeric(raw[c], errors="coerce") for c in [*text, *numbers]})


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """A table by its columns: numbers rounded to six digits, whole numbers exact, text as {levels, codes}."""
    out: dict[str, Any] = {}
    for name, column in table.items():
        if pd.api.types.is_integer_dtype(column.dtype):
            out[str(name)] = [None if pd.isna(v) else int(v) for v in column]
        elif pd.api.types.is_numeric_dtype(column.dtype):
            out[str(name)] = _rounded(column.to_numpy(np.float64), 6)
        else:
            codes, levels = pd.factorize(column)
            out[str(name)] = {"levels": [str(level) for level in levels], "codes": codes.tolist()}
    return out


def _rounded(values: Iterable[float], digits: int) -> list[float | int | None]:
    """Values with so many significant digits, the shortest way JSON can say them; None for what is not finite."""
    out: list[float | int | None] = []
    for value in values:
        if not math.isfinite(value):
            out.append(None)
        else:
            short = float(f"{value:.{digits}g}")
            out.append(int(short) if short.is_integer() else short)
    return out


def _in_order(first: Iterable[Any], values: Iterable[str]) -> list[str]:
    """The distinct values, those that are in `first` in its order, the others as they come."""
    present = list(dict.fromkeys(values))
    known = [name for name in dict.fromkeys(first) if name in present]
    return known + [name for name in present if name not in known]


def _metric(metric: Metric) -> dict[str, Any]:
    decimals = 2 if metric.unit or metric.family in ("vmaf", "fid", "temporal") else 4
    return {
        "column": metric.column,
        "label": metric.label,
        "unit": metric.unit,
        "note": metric.note,
        "higher_is_better": metric.higher_is_better,
        "decimals": decimals,
    }


def _formats(points: pd.DataFrame) -> str:
    """The clips' size, length and frame rate in words, as far as all share them."""
    words = []
    if {"width", "height"} <= set(points.columns):
        sizes = points[["width", "height"]].dropna().drop_duplicates()
        words.append(f"{sizes.iloc[0, 0]}×{sizes.iloc[0, 1]}" if len(sizes) == 1 else f"{len(sizes)} sizes")
    if "n_frames" in points:
        counts = points["n_frames"].dropna()
        low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
        words.append(f"{low} frames" if low == high else f"{low} to {high} frames")
    if "fps" in points:
        rates = [rate for rate in dict.fromkeys(points["fps"]) if rate]
        words.append(f"{rates[0]} fps" if len(rates) == 1 else f"{len(rates)} frame rates")
    return ", ".join(word for word in words if not word.startswith("0 "))


def _ledger_gaps(points: pd.DataFrame, layers: list[str]) -> list[dict[str, Any]]:
    """Points whose layers do not sum to their file."""
    if not layers or "bytes" not in points:
        return []
    has_layers = points[layers].notna().any(axis=1)
    total = points[layers].fillna(0).sum(axis=1)
    wrong = points[has_layers & (total != points["bytes"])]
    return [
        {"sequence": row["sequence"], "codec": row["codec"], "regime": row["regime"], "point": int(row["point"])}
        | {"bytes": int(row["bytes"]), "layers": int(total[i])}
        for i, row in wrong.iterrows()
    ]


def _speed(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Frames per second of encoder and decoder, per codec and regime."""
    if not {"encode_s", "decode_s", "n_frames"} <= set(points.columns):
        return []

    def rates(group: pd.DataFrame, column: str) -> dict[str, float] | None:
        seconds = group[column]
        fps = (group["n_frames"] / seconds)[seconds > 0].astype(float)
        return None if fps.empty else {"median": fps.median(), "low": fps.min(), "high": fps.max()}

    return [
        {
            "codec": codec,
            "regime": regime,
            "encode": rates(group, "encode_s"),
            "decode": rates(group, "decode_s"),
            "points": len(group),
            "encode_total_s": float(group["encode_s"].sum()),
            "decode_total_s": float(group["decode_s"].sum()),
        }
        for (codec, regime), group in points.groupby(["codec", "regime"], sort=False)
    ]


# -- curves ----------------------------------------------------------------------------------------------------------


def _means(points: pd.DataFrame, metrics: list[str]) -> list[dict[str, Any]]:
    """The mean curve over sequences of every (codec, regime, metric); `at_setting`: whether it is that at equal setting, as of
    those whose sequences share no range of rates."""
    out = []
    for (codec, regime), group in points.groupby(["codec", "regime"], sort=False):
        for metric in metrics:
            higher = METRICS[metric].higher_is_better
            mean, at_setting = shown_mean(group, "kbps", metric, higher)
            if mean is not None:
                value = _rounded(mean.quality if higher else -mean.quality, 6)
                n = int(group.loc[group[metric].notna(), "sequence"].nunique())
                head = {"codec": codec, "regime": regime, "metric": metric, "n": n, "at_setting": at_setting}
                out.append(head | {"kbps": _rounded(mean.rate, 5), "value": value})
    return out


def _frames(path: Path, points: pd.DataFrame, metrics: list[str]) -> dict[str, Any]:
    """Per-frame bytes and scores of the points nearest to FRAME_RATES_KBPS, sequence by sequence up to FRAME_VALUES."""
    out: dict[str, Any] = {"rates": list(FRAME_RATES_KBPS), "series": [], "left_out": []}
    if not path.is_file():
        return out
    frames = pd.read_parquet(path)
    kept = [m for m in metrics if m in frames]
    groups = {tuple(key): part for key, part in frames.groupby(["sequence", "codec", "regime", "point"], sort=False)}
    values = 0
    for sequence, mine in points.groupby("sequence", sort=False):
        series = []
        for (codec, regime), curve in mine.groupby(["codec", "regime"], sort=False):
            away = [np.abs(np.log(curve["kbps"].to_numpy(np.float64) / rate)) for rate in FRAME_RATES_KBPS]
            for i in sorted({int(np.argmin(a)) for a in away}):
                row = curve.iloc[i]
                part = groups.get((sequence, codec, regime, row["point"]))
                if part is None:
                    continue
                part = part.sort_values("frame")
                scores = {m: _rounded(part[m].to_numpy(np.float64), 5) for m in kept if part[m].notna().any()}
                head = {"sequence": sequence, "codec": codec, "regime": regime, "setting": row.get("setting", "")}
                sizes = _rounded(part["bytes"].to_numpy(np.float64), 9)
                series.append(head | {"kbps": float(row["kbps"]), "bytes": sizes, "metrics": scores})
        size = sum(len(s["bytes"]) * (1 + len(s["metrics"])) for s in series)
        if values + size > FRAME_VALUES:
            out["left_out"].append(sequence)
        else:
            values += size
            out["series"] += series
    return out


# -- pictures --------------------------------------------------------------------------------------------------------


def _dumps(folder: Path, out: Path) -> list[dict[str, Any]]:
    """The entries of dumps/index.json, with pictures, and videos if they are small, as data URIs."""
    index = _read_json(folder / "index.json", list) or []
    videos = [folder / entry["video"] for entry in index if entry.get("video")]
    inline = sum(video.stat().st_size for video in videos if video.is_file()) <= VIDEO_BYTES
    found = []
    for entry in index:
        entry, missing = dict(entry), []
        strip, video, views = entry.pop("strip", None), entry.pop("video", None), entry.pop("views", [])
        missing += [name for name in views if not (folder / name).is_file()]
        there = [folder / name for name in views if (folder / name).is_file()]
        share = PICTURE_BYTES // len(index) // (1 + len(there))  # of what pictures may take in the page
        entry["views"] = [{"picture": _picture(path, share)[0], "link": _link(path, out)} for path in there]
        if strip and (folder / strip).is_file():
            entry["strip_link"] = _link(folder / strip, out)
            entry["picture"], entry["reduced"] = _picture(folder / strip, share)
        elif strip:
            missing.append(strip)
        if video and (folder / video).is_file():
            entry["video_link"] = _link(folder / video, out)
            data = (folder / video).read_bytes() if inline else b""
            entry["video"] = _data_uri("video/mp4", data) if inline else entry["video_link"]
        elif video:
            missing.append(video)
        entry["missing"] = f"Not found when this page was made: {', '.join(missing)}" if missing else None
        found.append(entry)
    return found


def _picture(path: Path, most_bytes: int) -> tuple[str, bool]:
    """A picture as data URI, and whether it had to be reduced: coded as WebP, and scaled down as far as it takes."""
    if path.stat().st_size <= most_bytes:
        return _data_uri("image/png", path.read_bytes()), False
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = 1.0
    while True:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        buffer = io.BytesIO()
        picture.resize(size, Image.Resampling.BOX).save(buffer, "WEBP", quality=85, method=1)
        if buffer.tell() <= most_bytes or min(size) == 1:
            return _data_uri("image/webp", buffer.getvalue()), True
        scale *= min(0.95, 0.97 * math.sqrt(most_bytes / buffer.tell()))  # bytes go roughly with the area


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _link(path: Path, out: Path) -> str:
    """Relative address of a file, as seen from the page."""
    return quote(Path(os.path.relpath(path, out.parent)).as_posix())


if __name__ == "__main__":
    raise SystemExit(main())
