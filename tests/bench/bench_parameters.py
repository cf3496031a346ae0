"""Bytes per frame of face-vid2vid's motion, by the paper's coder and by ours, on the same parameters.

    python -m tests.bench.bench_parameters CLIPS --learn-from CLIPS [--network NAME] [--frames N] [--qp QP] [--out FILE]

Parameters are those that an encoder finds in every frame. Every coder's bytes are decoded again by a fresh decoder; the first
frame is the reference and not counted. Rows:

raw            all parameters as fp16: 6 K + 12 bytes
paper, fp16    the paper's coder as it was published: values as they were found, tables learnt from such values of other
               people. With differences: its bytes may be those of the difference to the frame before, as ours does it
paper, step    the same coder given what ours is given: values quantised, small movements left out
               (`hdac.parameters.ParameterSettings.steady`), tables learnt from such values
ours, step     `hdac.parameters.ParameterEncoder` at each quantiser step, all K deformations
.., adaptive   of the codec's streams of the same frames, which send as many deformations as pay: their mean number in frames
               in which something moves, the share of frames in which nothing does, and the bytes that as many would take as
               fp16, over all frames

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
    Tables,
    learn_tables,
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


def as_coded(sequence: Sequence, step: int) -> Sequence:
    """What our coder is given at a step."""
    settings = ParameterSettings(len(sequence[0]) - 2, step)
    return np.stack([settings.dequantise(symbols).table for symbols in steadied(sequence, settings)])


def paper_bytes(sequence: Sequence, tables: Tables, differences: bool = True) -> list[int]:
    """Of every frame but the first."""
    encoder, decoder, sizes = PaperEncoder(tables), PaperDecoder(tables), []
    if not differences:
        encoder.cost = np.stack((encoder.cost[0], np.full_like(encoder.cost[1], np.inf)))
    for table in sequence[1:]:
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


def adaptive(path: Path, frames: int, codec: FaceVid2Vid) -> tuple[list[int], list[int | None]]:
    """Bytes of motion of every frame but the first, and how many deformations each of them brings, None: nothing moves."""
    stream = codec.encode(read_clip(path, frames=frames))
    spent = codec.ledger(stream).layers["keypoints"][1:].tolist()
    return spent, deformations_sent(Reader(io.BytesIO(stream)))


def summary(sizes: list[int]) -> dict[str, float]:
    """mean, min, max, median."""
    return {"mean": round(float(np.mean(sizes)), 2), "min": min(sizes), "max": max(sizes), "median": float(np.median(sizes))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--learn-from", type=Path, required=True, help="likewise, of other people: for the paper's tables")
    parser.add_argument("--network", default="face-vid2vid")
    parser.add_argument("--learn-every", type=int, default=8, metavar="N", help="only every N-th of those")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--qp", type=int, default=32, help="of the references of the adaptive rows")
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    network = by_name(args.network, Vid2VidNet)
    paths, others = find_clips(args.clips), find_clips(args.learn_from)[:: args.learn_every]
    sequences, known = (
        [motions(network, path, args.frames) for path in tqdm(some, desc="motion", unit="clip")] for some in (paths, others)
    )
    k = network.net.settings.n_keypoints
    coders: dict[str, Any] = {"raw": {"mean": 6 * k + 12}}
    tables = learn_tables(known)
    for name, differences in (("", False), (" or differences", True)):
        sizes = [size for one in sequences for size in paper_bytes(one, tables, differences)]
        coders[f"paper, fp16 values{name}"] = summary(sizes)
    for step in STEPS:
        tables = learn_tables([as_coded(one, step) for one in known])
        sizes = [size for one in sequences for size in paper_bytes(as_coded(one, step), tables)]
        coders[f"paper, step {step}"] = summary(sizes)
        coders[f"ours, step {step}"] = summary([size for one in sequences for size in our_bytes(one, step)])
    for coder in CODERS:
        codec = FaceVid2Vid(qp=args.qp, network=args.network, motion_coder=coder)
        spent = [adaptive(path, args.frames, codec) for path in tqdm(paths, desc=f"{coder} coder", unit="clip")]
        row = summary([size for sizes, _ in spent for size in sizes])
        counts = [n for _, of_clip in spent for n in of_clip]
        moving = [n for n in counts if n is not None]
        row["mean k"] = round(float(np.mean(moving)), 2)
        row["still"] = round(1 - len(moving) / len(counts), 3)
        row["raw"] = round(sum(6 * n + 12 for n in moving) / len(counts), 2)
        coders[f"{'paper' if coder == 'paper' else 'ours'}, step {codec.step}, adaptive"] = row
    for name, found in coders.items():
        print(f"{name:24}", "  ".join(f"{what} {value}" for what, value in found.items()))
    if args.out:
        result = {
            "command": "python -m tests.bench.bench_parameters <folder> --learn-from <folder> "
            f"--learn-every {args.learn_every} --network {args.network} --frames {args.frames} --qp {args.qp}",
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
