"""Bytes per frame of face-vid2vid's motion, by the paper's coder and by ours, on the same parameters.

    python -m tests.bench.bench_parameters CLIPS [--network NAME] [--frames N] [--qp QP] [--out FILE]

Parameters are those that an encoder finds in every frame, quantised, small movements left out
(`hdac.parameters.ParameterSettings.steady`): the same for both coders at one step. Every coder's bytes are decoded again by a
fresh decoder; the first frame is the reference and not counted. Rows:

raw            all parameters as fp16: 6 K + 12 bytes
paper          the paper's coder with the tables in the weights, all K deformations, at the step that codecs use
ours           `hdac.parameters.ParameterEncoder` at each quantiser step, all K deformations
.., adaptive   of the codec's streams of the same frames, which send as many deformations as pay; with their mean number, and
               the bytes that as many would take as fp16

Beside them the published numbers (Wang et al., CVPR 2021, Table 5; other clips, 512x512, another network).
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.cli import run
from data.files import write_atomic
from data.io import read_clip
from hdac.codecs.face_vid2vid import FaceVid2Vid, deformations_sent
from hdac.container import Reader
from hdac.keypoints import STEPS
from hdac.nets.vid2vid import Vid2VidNet
from hdac.network import by_name
from hdac.parameters import (
    CODERS,
    PaperDecoder,
    PaperEncoder,
    ParameterDecoder,
    ParameterEncoder,
    ParameterSettings,
    steadied,
)
from hdac.training.cache import find_clips
from hdac.training.tables import motions
from rd import provenance

PUBLISHED = {
    "20 keypoints": {"raw": 132, "mean": 84.44, "min": 78, "max": 104, "median": 84},
    "adaptive": {"mean k": 11.52, "raw": 81.16, "mean": 53.03, "min": 25, "max": 102, "median": 45},
}

Sequence = NDArray[np.float32]


def paper_bytes(sequence: Sequence, net: Vid2VidNet, step: int) -> list[int]:
    """Of every frame but the first."""
    tables = net.tables.numpy()
    settings = ParameterSettings(len(sequence[0]) - 2, step)
    encoder, decoder, sizes = PaperEncoder(tables), PaperDecoder(tables), []
    for symbols in steadied(sequence, settings)[1:]:
        table = settings.dequantise(symbols).table
        layer, had = encoder.encode_first(table, len(table) - 2)
        assert np.array_equal(decoder.decode(layer), had)
        sizes.append(len(layer))
    return sizes


def our_bytes(sequence: Sequence, step: int) -> list[int]:
    """Of every frame but the first, from which the second is predicted."""
    settings = ParameterSettings(len(sequence[0]) - 2, step)
    encoder, decoder, sizes = ParameterEncoder(settings), ParameterDecoder(settings), []
    symbols = steadied(sequence, settings)
    encoder.start(symbols[0])
    decoder.start(symbols[0])
    for frame in symbols[1:]:
        layer = encoder.encode_first(frame, settings.n_keypoints)
        assert np.array_equal(decoder.decode(layer), frame)
        sizes.append(len(layer))
    return sizes


def adaptive(path: Path, frames: int, codec: FaceVid2Vid) -> tuple[list[int], list[int]]:
    """Bytes of motion of every frame but the first, and how many deformations each of them brings."""
    stream = codec.encode(read_clip(path, frames=frames))
    spent = codec.ledger(stream).layers["keypoints"][1:].tolist()
    return spent, deformations_sent(Reader(io.BytesIO(stream)))


def summary(sizes: list[int]) -> dict[str, float]:
    """mean, min, max, median."""
    return {"mean": round(float(np.mean(sizes)), 2), "min": min(sizes), "max": max(sizes), "median": float(np.median(sizes))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--network", default="face-vid2vid")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--qp", type=int, default=32, help="of the references of the adaptive rows")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    network = by_name(args.network, Vid2VidNet)
    paths = find_clips(args.clips)
    sequences = [motions(network, path, args.frames) for path in tqdm(paths, desc="motion", unit="clip")]
    k = network.net.settings.n_keypoints
    coders: dict[str, Any] = {"raw": {"mean": 6 * k + 12}}
    step = FaceVid2Vid.step
    coders[f"paper, step {step}"] = summary([size for one in sequences for size in paper_bytes(one, network.net, step)])
    for step in STEPS:
        coders[f"ours, step {step}"] = summary([size for one in sequences for size in our_bytes(one, step)])
    for coder in CODERS:
        codec = FaceVid2Vid(qp=args.qp, network=args.network, motion_coder=coder)
        spent = [adaptive(path, args.frames, codec) for path in tqdm(paths, desc=f"{coder} coder", unit="clip")]
        row = summary([size for sizes, _ in spent for size in sizes])
        row["mean k"] = round(float(np.mean([n for _, counts in spent for n in counts])), 2)
        row["raw"] = round(6 * row["mean k"] + 12, 2)
        coders[f"{'paper' if coder == 'paper' else 'ours'}, step {codec.step}, adaptive"] = row
    for name, found in coders.items():
        print(f"{name:24}", "  ".join(f"{what} {value}" for what, value in found.items()))
    if args.out:
        result = {
            "command": f"python -m tests.bench.bench_parameters <folder> --network {args.network} --frames {args.frames} "
            f"--qp {args.qp}",
            "commit": provenance.commit(),
            "clips": len(sequences),
            "frames_counted": sum(len(sequence) - 1 for sequence in sequences),
            "weights": network.weights_id.hex(),
            "bytes_per_frame": coders,
            "published": PUBLISHED,
        }
        write_atomic(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(run(main))
