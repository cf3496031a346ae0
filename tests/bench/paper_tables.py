"""The tables of the mobile family's papers, their published rows beside ours, and one of all of ours, as Markdown.

    python -m tests.bench.paper_tables results/mobile [--out results/mobile/tables.md]

Ours are of the folder's `points.csv` (regime one-intra: one reference picture, but up to three for rows that say so; the finest
of every curve; mean of the clips that all rows of the family have) and of what benches left there: `networks.json`,
`points.json`, `int8.json`, `detectors.json`, `faces.json` (how far heads turn in each clip). What was
published (`published_mobile.csv`) is of other clips, of networks that were trained for longer on far more people, and of other
face networks: rows are to be compared within a column of ours or of theirs, not across.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.cli import run
from data.errors import InputError
from data.files import write_atomic
from hdac import weights
from hdac.families import LAYERED, MOBILE
from rd.bd import MEAN, bd_table
from rd.table import read_points, scored

PUBLISHED = Path(__file__).with_name("published_mobile.csv")
SCORES = (
    *("kbps", "psnr_y", "lpips", "msvgg", "msvgg_distilled", "nme", "nme_mesh", "csim", "expr", "l1", "akd", "aed"),
    "flicker",
)
NAMES = {
    "kbps": "kbit/s",
    "kbps_raw": "raw kbit/s",
    "bits_per_frame": "bits/frame",
    "lpips": "LPIPS",
    "msvgg": "msVGG",
    "msvgg_distilled": "msVGG (distilled)",
    "nme": "NME",
    "nme_mesh": "NME (mesh)",
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
    "fp16_mb": "fp16 MB",
    "fps": "frames/s",
    "motion_kbps": "motion, at 25 frames/s",
    "huffman_kbps": "by Huffman",
    "prior_kbps": "by prior",
    "references": "references",
    "params_all_m": "M parameters",
    "macs_encoder_m": "encoder M MACs",
    "macs_decoder_m": "decoder M MACs",
    "fps_1": "one core",
    "fps_2": "two cores",
    "fps_int8_1": "int8, one core",
    "fps_int8": "int8, two cores",
    "motion_bits": "by our contexts",
    "huffman_bits": "by Huffman, the same symbols",
    "prior_bits": "by the prior, in its finer quantisers",
    "contexts_bits": "by our contexts, the prior's symbols",
    "nme_exact": "NME to the teacher",
    "nme_int8": "int8",
    "wrong_exact": "labels other than the teacher's",
    "wrong_int8": "int8",
    "fps_exact": "pictures/s, one core",
    "psnr_y_exact": "PSNR-Y",
    "psnr_y_int8": "int8",
    "psnr_y_found": "found by int8",
    "lpips_exact": "LPIPS",
    "lpips_int8": "int8",
    "lpips_found": "found by int8",
    "nme_of_exact": "NME",
    "nme_of_int8": "int8",
    "nme_of_found": "found by int8",
    "bytes_found": "bytes, found by int8",
}
OWN = {
    "rates, kbit/s": ("kbps", "motion_kbps", "huffman_kbps", "prior_kbps"),
    "motion, bits a frame": ("motion_bits", "huffman_bits", "prior_bits", "contexts_bits"),
    "quality": SCORES,
    "size": ("params_all_m", "macs_encoder_m", "macs_decoder_m", "fp16_mb", "int8_mb"),
    "decoder, frames/s": ("references", "fps_1", "fps_2", "fps_int8_1", "fps_int8"),
    "in 8-bit integers, quality before and after": (
        *("psnr_y_exact", "psnr_y_int8", "psnr_y_found", "lpips_exact", "lpips_int8", "lpips_found"),
        *("nme_of_exact", "nme_of_int8", "nme_of_found", "bytes_found"),
    ),
}
STUDENT = ("int8_mb", "nme_exact", "nme_int8", "wrong_exact", "wrong_int8", "fps_exact", "fps_int8_1")
ANCHORS = ("fomm", "fomm-mult")
"""Of the table at equal rate."""
TEACHER = "fomm"
LIGHT = ("fomm", "ultralight", "ultralight-6", "ultralight-5")
LIGHT_SCORES = ("akd", "aed", "l1", "lpips", "nme")
TURNED = 6
"""Clips in which heads turn most."""

NOTE = """Theirs are of other clips, of networks trained for longer on far more people, and by other judges: the backbone of
LPIPS, the face network of CSIM, and the landmarks and the definition of NME differ, too. Rows are to be compared within a
column of ours or of theirs. LPIPS is our training loss, too (on another backbone, SqueezeNet). Ours are counted as theirs
are: parameters and products of 2021 without the landmark student and with the keypoint detector, raw rates with 8 bits a
number, the generator of 2023 at 384x384 with all that a reference takes, MB of 2023 as float32; kbit/s and bits/frame are of
motion alone, by the coder that the table is about (Huffman 2021, prior 2022), marked * where that one knows no such motion
(label maps, Jacobians) and ours has coded it. Their kbit of 2021 has 1024 bits, ours 1000. Motion-SPADE sends 42 landmarks
(10U) or 48 (with 20L): those that move or draw something; published are N + 60 (80 landmarks are 31.3 kbit/s raw, their table
has 41.2). Networks of several references, the Frontalizers and `fomm-mult`, have up to three of them where all others have
one: the table at equal rate is the one that compares. What was sent is at step 64 of our quantiser and, but for keypoints
that optical flow follows, held within a step, so that part of what our rates are below theirs is the quantiser's, not the
coder's; by the prior it is in the published quantisers. Our kbit/s of motion are at 25 frames/s; Table 4 of 2022 is at 15,
where pictures differ more from one to the next. NME and AKD are judged by PFLD, of which our landmark student has learned;
`NME (mesh)` is by a network that taught nobody. msVGG is by a distilled VGG19; "expression similarity", marked *, is 1 - our
expression error. Frames/s of 2021: theirs are of a call on a telephone, landmarks included; ours are of the whole decoder
with its network in 8-bit integers, two CPU threads, without what finds landmarks. int8 MB of 2021: theirs are all networks of
a call; ours the files of integers of the network and of what finds its landmarks, without the parts that run for references
alone (`hdac/int8.py`). `NTH` has one reference here, several there. Networks that are called dense there (all of 2021 Table 2,
MN-68 L, and FOM, FOM mult and NTH of 2022 Table 5) stand beside our light ones, and FOM of 2021 Table 4, trained
adversarially, beside ours, which is not. Where theirs are of DFDC-rotations, ours are of the clips in which heads turn most.
Oquab et al. call products FLOPS; where keypoints are tracked by optical flow no products are counted for it. Raw rates of
2023 are of 16 bits a number, theirs at 30 frames/s, ours at 25. Steps of training are of 8 pictures, those of the weights
that they began from apart."""


def measured(folder: Path, clips: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Ours by row of the sweep: scores, and what the JSON files say in the same words. clips: means of the scores of these
    alone; none: of all."""
    finest = _finest(folder)
    finest = finest[finest.codec.isin(MOBILE) & (finest.sequence.isin(clips) if clips else True)]
    there = [name for name in SCORES if name in finest]
    means = {str(codec): row.dropna().to_dict() for codec, row in finest.groupby("codec")[there].mean().iterrows()}
    for row in _rows(folder / "networks.json"):
        means.setdefault(row["network"], {}).update(
            params_all_m=row["params_m"],
            params_published_m=row["params_published_m"],
            macs_published_m=row["macs_published_m"],
            params_encoder_m=row["params_encoder_m"],
            params_decoder_m=round(row["params_m"] - row["params_encoder_m"], 3),
            mb_encoder_m=4 * row["params_encoder_m"],  # of float32, as published: 0.16 M parameters are 0.60 MB
            mb_decoder_m=4 * (row["params_m"] - row["params_encoder_m"]),
            macs_encoder_m=row["macs_encoder_m"],
            macs_decoder_m=row["macs_decoder_m"],
            macs_generator_384_m=row["macs_generator_384_m"],
        )
    integers = {row["network"]: row for row in _rows(folder / "int8.json")}
    for row in integers.values():
        if row.get("kind") == "student":
            continue
        of_call = [row["network"], *(LAYERED[row["network"]].networks[1:] if row["network"] in LAYERED else ())]
        if all(name in integers for name in of_call):
            total = sum(integers[name]["int8_mb"] for name in of_call)
            means.setdefault(row["network"], {}).update(int8_of_call_mb=total)
        given = {"int8_mb": "int8_mb", "fps_int8": "fps_int8", "fps_int8_1": "fps_int8_1"}
        given |= {"fps_2": "fps_exact", "fps_1": "fps_exact_1", "references": "references"}
        given |= {name: name for name in ("fp16_mb", "bytes_found")}
        for metric, column in (("psnr_y", "psnr_y"), ("lpips", "lpips"), ("nme", "nme_of")):
            given |= {f"{column}_{how}": f"{metric}_{how}" for how in ("exact", "int8", "found")}
        means.setdefault(row["network"], {}).update({name: row[key] for name, key in given.items() if key in row})
    for name, coders in _json(folder / "points.json").get("networks", {}).items():
        ours = means.setdefault(name, {})
        for coder in ("ours", "huffman", "prior", "contexts", "raw", "raw_8"):
            if coder in coders:
                column = "motion" if coder == "ours" else coder
                ours |= {f"{column}_kbps": coders[coder]["kbps"], f"{column}_bits": coders[coder]["bits_per_frame"]}
    return means


def _one_intra(folder: Path) -> pd.DataFrame:
    """Points of the clips that all rows of the family have."""
    table = scored(read_points(folder))
    table = table[table.regime == "one-intra"]
    of_family = table[table.codec.isin(MOBILE)]
    n_rows = of_family.groupby("sequence").codec.nunique()
    return table[table.sequence.isin(n_rows.index[n_rows == of_family.codec.nunique()])]


def _finest(folder: Path) -> pd.DataFrame:
    """The points of the least quantiser of every curve; of rows without one (`settings` names none) those of the most bits."""
    table = _one_intra(folder)
    qp = table.settings.str.extract(r"\bqp=(\d+)", expand=False).astype(float)
    order = table.assign(finest=qp.fillna(-table.kbps)).sort_values("finest", kind="stable")
    return order.drop(columns="finest").groupby(["codec", "sequence"]).head(1)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(_json(path).get("rows", []))


def tables(folder: Path) -> str:
    """All of them. Raises InputError for a folder without a sweep."""
    ours, turned, parts = measured(folder), measured(folder, _most_turned(folder)), [f"{NOTE}\n"]
    published = pd.read_csv(PUBLISHED, dtype=str, keep_default_na=False)
    for (table, data), rows in published.groupby(["table", "data"], sort=False):
        columns = list(dict.fromkeys(rows.metric))
        rotations = "rotations" in str(data)
        lines = []
        for system, of_system in rows.groupby("system", sort=False):
            theirs = dict(zip(of_system.metric, of_system.value, strict=True))
            mine = (turned if rotations else ours).get(of_system.row.iloc[0], {})
            beside = ((theirs.get(c, ""), _beside(mine, c, str(table), str(data))) for c in columns)
            lines.append([str(system), *(cell for pair in beside for cell in pair)])
        heads = ["system", *(head for c in columns for head in (f"{NAMES[c]}: theirs", "ours"))]
        parts += [f"## {table} ({data})\n", *_table(heads, lines)]
    parts += [*_all_of_ours(ours), *_trained(ours), *_others(folder), *_students(folder), *_light(ours), *_detectors(folder)]
    parts += [*_at_equal_rate(folder), *_turned(folder)]
    return "\n".join(parts)


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    heads = list(heads)
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)] + [""]


def _all_of_ours(ours: dict[str, dict[str, float]]) -> list[str]:
    lines = []
    for title, columns in OWN.items():
        there = [column for column in columns if any(column in row for row in ours.values())]
        rows = [(name, row) for name, row in sorted(ours.items()) if any(column in row for column in there)]
        if rows:
            cells = ([f"`{name}`", *(_own_cell(row, column) for column in there)] for name, row in rows)
            lines += [f"## All of ours: {title}\n", *_table(["row", *(NAMES[c] for c in there)], cells)]
    return lines


def _own_cell(row: dict[str, float], column: str) -> str:
    by_flow = column == "macs_encoder_m" and row.get(column) == 0  # keypoints are tracked, no network runs for a frame
    return "optical flow" if by_flow else _number(row.get(column))


def _trained(ours: dict[str, dict[str, float]]) -> list[str]:
    """By the model cards of the weights that are here."""
    rows = []
    for name in sorted(set(ours) & set(LAYERED)):
        network = LAYERED[name].networks[0]
        card = None if weights.missing(network) else weights.find(network).with_suffix(".json")
        if card is not None and card.exists():
            said = json.loads(card.read_text())
            begun = said["data"].partition("begun from ")[2] or "random numbers"
            rows.append([f"`{name}`", str(said["steps"]), begun, f"{said['settings'].get('feature_weight', 0):g}"])
    if not rows:
        return []
    return ["## How long each was trained\n", *_table(["row", "steps", "begun from", "weight of mouth and eyes"], rows)]


def _others(folder: Path) -> list[str]:
    """What else is in the sweep, each at its own finest point."""
    finest = _finest(folder)
    finest = finest[~finest.codec.isin(MOBILE)]
    there = [name for name in SCORES if name in finest and finest[name].notna().any()]
    if finest.empty or not there:
        return []
    means = finest.groupby("codec")[there].mean().iterrows()
    rows = ([f"`{codec}`", *(_number(row[c]) for c in there)] for codec, row in means)
    return ["## Beside them, each at its own finest point\n", *_table(["row", *(NAMES[c] for c in there)], rows)]


def _students(folder: Path) -> list[str]:
    """What finds landmarks and labels, exact and in integers."""
    found = [row for row in _rows(folder / "int8.json") if row.get("kind") == "student"]
    there = [column for column in STUDENT if any(column in row for row in found)]
    if not there:
        return []
    rows = ([f"`{row['network']}`", *(_number(row.get(c)) for c in there)] for row in found)
    return ["## Students\n", *_table(["student", *(NAMES[c] for c in there)], rows)]


def _light(ours: dict[str, dict[str, float]]) -> list[str]:
    """Lu and Zheng's networks before and after distillation and pruning."""
    there = [name for name in LIGHT if "akd" in ours.get(name, {})]
    if TEACHER not in there or len(there) < 2:
        return []
    rows = []
    for name in there:
        row = ours[name]
        cells = [*(row.get(c) for c in LIGHT_SCORES), row["akd"] / ours[TEACHER]["akd"], row.get("macs_encoder_m")]
        rows.append([f"`{name}`", *map(_number, cells)])
    heads = ["row", *(NAMES[c] for c in LIGHT_SCORES), "AKD over the teacher's", NAMES["macs_encoder_m"]]
    return [f"## From `{TEACHER}` to an ultra-lightweight detector, pruned\n", *_table(heads, rows)]


def _detectors(folder: Path) -> list[str]:
    """The same decoder before its own detector and the teacher's."""
    found = _rows(folder / "detectors.json")
    if not found:
        return []
    teacher = _json(folder / "detectors.json")["teacher"]
    of_teacher = {row["decoder"]: row["akd"] for row in found if row["detector"] == teacher}
    there = [name for name in ("akd", "aed", "l1", "lpips", "nme_mesh") if name in found[0]]
    rows = []
    for row in found:
        cells = [*(row[c] for c in there), row["akd"] / of_teacher[row["decoder"]]]
        rows.append([f"`{row['decoder']}`", f"`{row['detector']}`", *map(_number, cells)])
    heads = ["decoder", "detector", *(NAMES[c] for c in there), "AKD over that by the teacher's"]
    return ["## The same decoder moved by one detector or another, nothing coded\n", *_table(heads, rows)]


def _at_equal_rate(folder: Path) -> list[str]:
    """BD-rates of LPIPS against one reference animated by FOMM, and the nearest of three; all clips, and those in which heads
    turn most."""
    points = _one_intra(folder)
    points = points[points.codec.isin(MOBILE)]
    anchors = [name for name in ANCHORS if (points.codec == name).any()]
    if not anchors or "lpips" not in points or points.codec.nunique() < 2:
        return []
    turned = _most_turned(folder)
    sets = {"all clips": points, f"the {len(turned)} most turned": points[points.sequence.isin(turned)]}
    found: dict[str, list[str]] = {name: [f"`{name}`"] for name in sorted(set(points.codec))}
    heads = ["row"]
    for anchor in anchors:
        for title, chosen in sets.items():
            if chosen.empty:
                continue
            heads.append(f"against `{anchor}`, {title}")
            table = bd_table(chosen, anchor, metrics=["lpips"])
            means = table[table.sequence == MEAN].set_index("codec")
            for name, cells in found.items():
                if name not in means.index or pd.isna(means.bd_rate[name]):
                    cells.append("N/A")
                else:
                    cells.append(f"{means.bd_rate[name]:+.1f} % ({int(means.n[name])} clips)")
    title = "## LPIPS at equal rate: BD-rate\n"
    return [title, "N/A: curves that share too little of a range.\n", *_table(heads, found.values())]


def _ranges(folder: Path) -> dict[str, float]:
    """How far heads turn, degrees, by clip."""
    return {name: row["yaw_range_deg"] for name, row in _json(folder / "faces.json").get("clips", {}).items()}


def _most_turned(folder: Path) -> list[str]:
    ranges = _ranges(folder)
    return sorted(ranges, key=lambda name: -ranges[name])[:TURNED]


def _turned(folder: Path) -> list[str]:
    """LPIPS and NME where heads turn most."""
    ranges, chosen = _ranges(folder), _most_turned(folder)
    if not chosen:
        return []
    finest = _finest(folder)
    there = [name for name in ("kbps", "lpips", "nme", "nme_mesh", "csim", "flicker") if name in finest]
    finest = finest[finest.codec.isin(MOBILE)]
    means = finest[finest.sequence.isin(chosen)].groupby("codec")[there].mean()
    names = ", ".join(f"{name} ({ranges[name]:.0f} degrees)" for name in chosen)
    rows = ([f"`{codec}`", *(_number(row[c]) for c in there)] for codec, row in means.iterrows())
    title = f"## The {len(chosen)} clips in which heads turn most\n"
    return [title, f"{names}.\n", *_table(["row", *(NAMES[c] for c in there)], rows)]


def _beside(mine: dict[str, float], column: str, table: str, data: str) -> str:
    """Our cell beside theirs. Rates that the table's coder cannot give are ours, marked."""
    value = mine.get(_ours(column, table, data))
    if column == "expr_similarity" and "expr" in mine:
        return f"{_number(1 - mine['expr'])} *"
    ours = {"kbps": "motion_kbps", "bits_per_frame": "motion_bits"}.get(column, "")
    if value is None and ours in mine:
        return f"{_number(mine[ours])} *"
    return _number(value)


def _ours(column: str, table: str, data: str) -> str:
    """Of a column of theirs: what is counted as they count it; "" where nothing of ours is."""
    if column in ("params_m", "macs_m", "model_mb"):
        part = next((part for part in ("encoder", "decoder") if data.startswith(part)), "published")
        kind = {"params_m": "params", "macs_m": "macs", "model_mb": "mb"}[column]
        return "macs_generator_384_m" if (kind, part) == ("macs", "decoder") else f"{kind}_{part}_m"
    coder = "huffman" if "2021" in table else "prior"
    same = {
        "kbps": f"{coder}_kbps",
        "bits_per_frame": f"{coder}_bits",
        "kbps_raw": "raw_kbps" if "lu2023" in table else "raw_8_kbps",
        "fps": "fps_int8",
        "int8_mb": "int8_of_call_mb",
        "msvgg": "msvgg_distilled",
    }
    return same.get(column, column)


def _number(value: float | None) -> str:
    if value is None or value != value:
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
