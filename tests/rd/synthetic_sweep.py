"""A made-up sweep in the files that `rd-sweep` writes, for tests of what reads them; no codec runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rd.bd import bd_table

CODECS = {  # kbps and PSNR-Y like those of a calm 256x256 clip, lowest rate first
    "hevc": ((3.36, 26.8), (4.59, 29.2), (6.42, 31.3), (9.67, 33.4), (16.3, 35.8), (30.1, 38.2)),
    "vvc": ((3.76, 28.6), (4.82, 30.9), (6.37, 33.0), (9.09, 35.2), (13.7, 37.1), (22.7, 39.2)),
    "av1": ((7.62, 32.7), (10.2, 34.7), (13.9, 36.5), (21.4, 38.5), (36.4, 40.5)),
    "hevc-paper": ((4.91, 26.6), (6.05, 29.1), (7.81, 31.2), (10.9, 33.6), (17.6, 36.0), (31.4, 38.6)),
    "h264": ((7.40, 26.7), (9.45, 29.2), (11.5, 31.2), (15.2, 33.3), (21.9, 35.7), (35.0, 38.2)),
}
LAYERS = ("header", "parameter_sets", "intra", "inter")


def write_sweep(
    folder: Path,
    sequences: Sequence[str] = ("a", "b", "c"),
    codecs: Sequence[str] = tuple(CODECS),
    regimes: Sequence[str] = ("one-intra", "short-gop"),
    n_frames: int = 50,
    failed: str = "",
    dumps: bool = True,
) -> pd.DataFrame:
    """Writes points.csv, bd.csv, frames.parquet, run.json and dumps/ into `folder`; returns the points.

    failed: error message of one additional, failed point.
    """
    rng = np.random.default_rng(5)
    rows: list[dict[str, object]] = []
    frames = []
    for s, sequence in enumerate(sequences):
        for codec in codecs:
            for regime in regimes:
                costlier = (1 + 0.25 * s) * (1.0 if regime == "one-intra" else 1.25) * rng.uniform(0.9, 1.1)
                for point, (rate, psnr) in enumerate(CODECS[codec]):
                    key = {"sequence": sequence, "codec": codec, "regime": regime, "point": point}
                    scores = _scores(psnr, s)
                    size = round(rate * costlier * 1000 / 8 * n_frames / 25)
                    rows.append(key | _row(codec, point, size, n_frames) | scores)
                    wobble = rng.normal(0, 0.01, n_frames)
                    later = rng.poisson(size * 0.7 / n_frames, n_frames - 1)
                    frames.append(
                        pd.DataFrame({**key, "frame": range(n_frames), "bytes": [size // 4, *later]}).assign(
                            **{metric: value * (1 + wobble) for metric, value in scores.items()}
                        )
                    )
    points = pd.DataFrame(rows)
    if failed:
        broken = {k: points.iloc[0][k] for k in ("sequence", "codec", "regime", "setting", "fps")}
        broken |= {"point": 99, "status": "failed", "error": failed}
        points = pd.concat([points, pd.DataFrame([broken])], ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    points.to_csv(folder / "points.csv", index=False)
    pd.concat(frames).to_parquet(folder / "frames.parquet")

    if len(codecs) > 1:
        tables = [bd_table(points, anchor, ["psnr_y", "lpips"], methods=("pchip", "akima")) for anchor in codecs[:2]]
        pd.concat(tables).to_csv(folder / "bd.csv", index=False)
    (folder / "run.json").write_text(json.dumps(_provenance(sequences, codecs, n_frames)))
    if dumps:
        _write_dumps(folder / "dumps", sequences[0], regimes[0], codecs, rng)
    return points


def _scores(psnr: float, harder: int) -> dict[str, float]:
    return {
        "psnr_y": psnr - 0.5 * harder,
        "ms_ssim_y": 1 - 10 ** (-(psnr - harder) / 20),
        "vmaf": 3.2 * psnr - 50 - harder,
        "lpips": 0.9 * 10 ** (-psnr / 30) + 0.01 * harder,
    }


def _row(codec: str, point: int, size: int, n_frames: int) -> dict[str, object]:
    """Columns of a coded point of `size` bytes; its layers sum to them."""
    layers = {"header": 20, "parameter_sets": 73, "intra": size // 4}
    layers["inter"] = size - sum(layers.values())
    return {
        "setting": f"{codec} QP {51 - 4 * point}",
        "settings": f"Codec(qp={51 - 4 * point})",
        "n_frames": n_frames,
        "width": 256,
        "height": 256,
        "fps": "25",
        "bytes": size,
        **{f"bytes_{layer}": layers[layer] for layer in LAYERS},
        "kbps": size * 8 / 1000 / (n_frames / 25),
        "bpp": size * 8 / n_frames / 256**2,
        "encode_s": 2.0 + point,
        "decode_s": 0.05 + 0.01 * point,
        "key": "0" * 8,
        "status": "ok",
        "error": "",
    }


def _provenance(sequences: Sequence[str], codecs: Sequence[str], n_frames: int) -> dict[str, object]:
    size = {"n_frames": n_frames, "width": 256, "height": 256, "fps": "25"}
    commands = {f"QP {qp}": f"encode --qp {qp}" for qp in (51, 43)}
    return {
        "command": ["rd-sweep", "--sequences", *sequences, "--codecs", *codecs, "--out", "runs/demo"],
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "started": "2026-01-05T10:00:00Z",
        "finished": "2026-01-05T10:12:41Z",
        "versions": {"python": "3.11.2", "av": "18.1.0", "x265": "4.2+1", "libvvenc": "1.15.0"},
        "machine": {"cpu": "some CPU", "cores": 2, "memory_gb": 8},
        "sequences": [
            {"name": name, "source": f"clips/{name}.mp4", **size, "sha256": f"{i:064x}"}
            for i, name in enumerate(sequences)
        ],
        "codecs": {codec: {"description": f"{codec}, low delay", "commands": commands} for codec in codecs},
        "metrics": {
            "computed": ["psnr_y", "ms_ssim_y", "vmaf", "lpips"],
            "not_computed": {"fid": "the Inception weights are not here"},
        },
    }


def _write_dumps(folder: Path, sequence: str, regime: str, codecs: Sequence[str], rng: np.random.Generator) -> None:
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (60, 160, 3), dtype=np.uint8)).save(folder / "strip 1.png")
    (folder / "clip.mp4").write_bytes(b"\0" * 100)
    entry = {
        "sequence": sequence,
        "regime": regime,
        "target_kbps": 10,
        "frames": [0, 20],
        "strip": "strip 1.png",
        "video": "clip.mp4",
        "codecs": [{"codec": c, "kbps": 10.1, "setting": f"{c} QP 43", "psnr_y": 33.2} for c in codecs],
    }
    (folder / "index.json").write_text(json.dumps([entry]))
