"""The tables of the mobile family's papers, their published rows beside ours, as Markdown.

    python -m tests.bench.paper_tables results/mobile [--out results/mobile/tables.md]

Ours are of the folder's `points.csv` (one intra picture, the finest reference picture of every curve, mean of all clips),
`networks.json` (`bench_networks`), `points.json` (`bench_points`) and `int8.json` where they are there. What was published
(`published_mobile.csv`) is of other clips, of networks that were trained for longer on far more people, and of other face
networks: rows are to be compared within a column of ours or of theirs, not across.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from data.cli import run
from data.errors import InputError
from data.files import write_atomic
from rd.table import read_points, scored

PUBLISHED = Path(__file__).with_name("published_mobile.csv")
SCORES = ("kbps", "lpips", "msvgg", "msvgg_distilled", "nme", "csim", "expr", "l1", "akd", "aed", "flicker", "psnr_y")
NAMES = {
    "kbps": "kbit/s",
    "kbps_raw": "raw kbit/s",
    "bits_per_frame": "bits/frame",
    "lpips": "LPIPS",
    "msvgg": "msVGG",
    "msvgg_distilled": "msVGG (distilled)",
    "nme": "NME",
    "csim": "CSIM",
    "expr": "expression error",
    "expr_similarity": "expression similarity",
    "l1": "L1",
    "akd": "AKD",
    "aed": "AED",
    "flicker": "flicker",
    "psnr_y": "PSNR-Y",
    "params_m": "M parameters",
    "macs_m": "M MACs",
    "int8_mb": "int8 MB",
    "model_mb": "MB",
    "fps": "frames/s",
}


NOTE = """Theirs are of other clips, of networks trained for longer on far more people, and by other judges: the backbone of
LPIPS, the face network of CSIM, and the landmarks and the definition of NME differ, too. Rows are to be compared within a
column of ours or of theirs. Our frames/s: the whole decoder with its network in 8-bit integers, two CPU threads; our int8 MB:
the parts of the network that are in integers (`hdac/int8.py`). Oquab et al. call products FLOPS."""


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """Ours by network: scores, and what the JSON files say in the same words."""
    table = scored(read_points(folder))
    table = table[table.regime == "one-intra"]
    finest = table.loc[table.groupby(["codec", "sequence"]).kbps.idxmax()]
    there = [name for name in SCORES if name in finest]
    of_codecs = finest.groupby("codec")[there].mean()
    means = {str(codec): row.dropna().to_dict() for codec, row in of_codecs.iterrows()}
    for row in _rows(folder / "networks.json"):
        ours = means.setdefault(row["network"], {})
        ours |= {name: row[name] for name in ("params_m", "params_encoder_m", "macs_encoder_m", "macs_decoder_m")}
        ours["params_decoder_m"] = round(row["params_m"] - row["params_encoder_m"], 3)
        ours["macs_m"] = row["macs_encoder_m"] + row["macs_decoder_m"]
    for row in _rows(folder / "int8.json"):
        means.setdefault(row["network"], {}).update(int8_mb=row["int8_mb"], fps=row["fps_int8"])
    points = folder / "points.json"
    if points.exists():
        for name, row in json.loads(points.read_text())["networks"].items():
            ours = means.setdefault(name, {})
            ours["bits_per_frame"] = row["ours"]["bits_per_frame"]
            ours["kbps_raw"] = row["raw"]["kbps"]
            ours["motion_kbps"] = row["ours"]["kbps"]
    return means


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"]) if path.exists() else []


def tables(folder: Path) -> str:
    """All of them. Raises InputError for a folder without a sweep."""
    ours, parts = measured(folder), [f"{NOTE}\n"]
    published = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    for (table, data), rows in published.groupby(["table", "data"], sort=False):
        columns = list(dict.fromkeys(rows.metric))
        parts.append(f"## {table} ({data})\n")
        parts.append("| system | " + " | ".join(f"{NAMES[c]}: theirs | ours" for c in columns) + " |")
        parts.append("|---" * (1 + 2 * len(columns)) + "|")
        for system, of_system in rows.groupby("system", sort=False):
            theirs = dict(zip(of_system.metric, of_system.value, strict=True))
            mine = ours.get(of_system.row.iloc[0], {})
            cells = [f"{theirs.get(c, '')} | {_number(mine.get(_ours(c, str(data))))}" for c in columns]
            parts.append(f"| {system} | " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _ours(column: str, data: str) -> str:
    """Of a column of theirs: motion alone is what the papers call a rate; expression has another measure; where they count
    encoder or decoder alone, so do we."""
    part = next((part for part in ("encoder", "decoder") if data.startswith(part)), "")
    if part and column in ("params_m", "macs_m"):
        return f"{column.split('_')[0]}_{part}_m"
    return {"kbps": "motion_kbps", "model_mb": "", "expr_similarity": ""}.get(column, column)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of the sweep")
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    if not args.results.is_dir():
        raise InputError(f"{args.results} is no folder")
    text = tables(args.results)
    print(text)
    if args.out:
        write_atomic(args.out, text)


if __name__ == "__main__":
    sys.exit(run(main))
