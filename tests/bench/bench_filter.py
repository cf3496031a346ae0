"""The quality filter of Lu and Zheng (2023, section 3.3): does the distance of points, which is there before anything is
decoded, say how bad a frame will look?

    python -m tests.bench.bench_filter CLIPS --networks NAME .. [--frames N] [--out FOLDER]

Of every clip the first frame is the reference; every fifth frame behind it is animated by what a decoder has of its points, and
scored by LPIPS and PSNR-Y.
`filter.json` has, per network: rank correlation (Spearman) of distance and LPIPS over all frames, and the mean of those within
a clip; the area under the ROC curve where the worst tenth and the worst quarter of all frames are to be told from the others;
and per threshold tau the share of frames that it holds back, of bad frames (worst quarter) among those, of bad frames that it
finds, and the mean LPIPS of what passes. `roc.svg` has the curves.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.errors import InputError
from data.files import write_atomic
from data.io import read_clip
from hdac import points
from hdac.codecs import reference
from hdac.codecs.mobile import statistics
from hdac.codecs.point_animator import animator_of
from hdac.nets.animation import PointNet
from hdac.network import Network, by_name
from hdac.points import PointSettings, motion_distance
from hdac.training.cache import find_clips
from rd import provenance
from rd.metrics import compute
from rd.metrics.perceptual import STRIDE

TAUS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
BAD = {"worst_tenth": 0.9, "worst_quarter": 0.75}
Array = NDArray[np.float64]


def distances(network: Network[PointNet], clip: Clip, qp: int) -> tuple[Array, Array, Array]:
    """Of every scored frame but the first: distance from the reference's points, LPIPS, PSNR-Y."""
    size = clip.height, clip.width
    animator = animator_of(network, clip, qp)
    pictures = [(clip.y[t], clip.u[t], clip.v[t]) for t in range(clip.n_frames)]
    coded = reference.encode(pictures[0], clip.colour, qp, "bpg")
    s = network.net.settings
    settings = PointSettings(s.n_learned, len(s.landmarks_sent), s.jacobians, s.n_expression)
    coder = points.encoder("adaptive", settings, *statistics(network.net))
    _, at_rest = coder.start(animator.refer_to(reference.decode(coded, *size, "bpg", clip.colour)))
    animator.rest_at(at_rest)
    shown, moved = [], []
    for picture in pictures[::STRIDE]:
        _, values = coder.encode(animator.values(picture))
        moved.append(motion_distance(values, at_rest))
        shown.append(animator.task(values, size)())
    # every frame of these clips is to be scored, and metrics look at every STRIDE-th
    decoded = [np.repeat(np.stack(planes), STRIDE, axis=0) for planes in zip(*shown, strict=True)]
    sources = [np.repeat(np.stack(planes), STRIDE, axis=0) for planes in zip(*pictures[::STRIDE], strict=True)]
    of = compute(
        Clip(sources[0], sources[1], sources[2], clip.fps, clip.colour),
        Clip(decoded[0], decoded[1], decoded[2], clip.fps, clip.colour),
        ("lpips", "psnr_y"),
    )
    if of.missing:
        raise InputError(f"no LPIPS: {of.missing}")
    return np.array(moved[1:]), of.frames["lpips"][::STRIDE][1:], of.frames["psnr_y"][::STRIDE][1:]


def ranks(values: Array) -> Array:
    """From 0 on; equal values are rare enough."""
    order = np.empty(len(values))
    order[np.argsort(values)] = np.arange(len(values))
    return order


def spearman(a: Array, b: Array) -> float:
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def roc(distance: Array, bad: NDArray[np.bool_]) -> tuple[Array, Array, float]:
    """Shares of good and of bad frames that are held back as the threshold falls, and the area under it."""
    held = bad[np.argsort(-distance)]
    false, true = (np.concatenate(([0.0], np.cumsum(one) / max(1, one.sum()))) for one in (~held, held))
    return false, true, float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))


def row(found: list[tuple[Array, Array, Array]]) -> tuple[dict[str, Any], dict[str, tuple[Array, Array]]]:
    """Of one network: what is reported, and its ROC curves."""
    distance, lpips, psnr = (np.concatenate(parts) for parts in zip(*found, strict=True))
    report: dict[str, Any] = {
        "frames": len(distance),
        "lpips": round(float(lpips.mean()), 4),
        "spearman_lpips": round(spearman(distance, lpips), 3),
        "spearman_psnr_y": round(spearman(distance, psnr), 3),
        "spearman_lpips_within_clips": round(float(np.mean([spearman(d, e) for d, e, _ in found if np.ptp(d) > 0])), 3),
    }
    curves = {}
    for name, quantile in BAD.items():
        false, true, area = roc(distance, lpips > np.quantile(lpips, quantile))
        report[f"auc_{name}"] = round(area, 3)
        curves[name] = false, true
    bad = lpips > np.quantile(lpips, BAD["worst_quarter"])
    report["tau"] = []
    for tau in TAUS:
        held = distance > tau
        report["tau"].append(
            {
                "tau": tau,
                "held_back": round(float(held.mean()), 3),
                "of_them_bad": round(float(bad[held].mean()), 3) if held.any() else None,
                "of_bad_held_back": round(float(held[bad].mean()), 3),
                "lpips_passed": round(float(lpips[~held].mean()), 4) if not held.all() else None,
            }
        )
    return report, curves


def draw(curves: dict[str, dict[str, tuple[Array, Array]]], reports: dict[str, dict[str, Any]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    styles = {"worst_tenth": "-", "worst_quarter": "--"}
    for number, (network, of_network) in enumerate(curves.items()):
        for name, (false, true) in of_network.items():
            label = f"{network}, {name.replace('_', ' ')}: {reports[network][f'auc_{name}']:.2f}"
            axes.plot(false, true, styles[name], color=f"C{number}", label=label, linewidth=1.5)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1, zorder=0)
    axes.set(xlabel="good frames held back", ylabel="bad frames held back", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title("Bad frames told from the distance of points (area)", fontsize=10)
    axes.legend(fontsize=7, loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--networks", nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--qp", type=int, default=32, help="of the reference picture")
    parser.add_argument("--out", type=Path, help="folder for filter.json and roc.svg")
    args = parser.parse_args()
    paths = find_clips(args.clips)
    reports: dict[str, dict[str, Any]] = {}
    curves: dict[str, dict[str, tuple[Array, Array]]] = {}
    for name in args.networks:
        network = by_name(name, PointNet)
        found = [
            distances(network, read_clip(path, frames=args.frames), args.qp) for path in tqdm(paths, desc=name, unit="clip")
        ]
        reports[name], curves[name] = row(found)
        print(name, json.dumps({key: value for key, value in reports[name].items() if key != "tau"}))
        for one in reports[name]["tau"]:
            print("   ", "  ".join(f"{key} {value}" for key, value in one.items()))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        networks = " ".join(args.networks)
        command = f"python -m tests.bench.bench_filter <folder> --networks {networks} --frames {args.frames} --qp {args.qp}"
        facts = {"command": command, "commit": provenance.commit(), "clips": len(paths)}
        write_atomic(args.out / "filter.json", json.dumps({**facts, "networks": reports}, indent=1) + "\n")
        draw(curves, reports, args.out / "roc.svg")


if __name__ == "__main__":
    sys.exit(run(main))
