"""Bits per frame of the mobile family's motion, by the published coders and by ours.

    python -m tests.bench.bench_points CLIPS --networks NAME .. [--frames N] [--out FILE]

Of what an encoder finds in every frame of a clip at its own frame rate, as if the reference, its first frame, were sent without
loss (`hdac.training.tables.values`); no stream is made. The first frame is not counted; kbit/s are at 25 frames/s. Every
coder's bytes are decoded again by a fresh decoder, and the Huffman coder and ours are given the same symbols. Rows:

huffman    Oquab et al. 2021: displacements, 32 bins and a sign, at our quantiser step; not of networks with Jacobians
ours       `hdac.keypoints`' adaptive contexts, of the same symbols as Huffman's; of label maps `hdac.label_maps`'
prior      Oquab et al. 2022: in the quantisers that are published, which are finer than ours
contexts   our adaptive contexts, of the same symbols as the prior's
raw        16 bits for every number, as Lu and Zheng count, and raw_8, as Oquab et al. 2021 do; of label maps 4 bits a label

`paper_tables` has what was published beside it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.cli import run
from data.files import write_atomic
from hdac import points
from hdac.keypoints import Symbols, TableDecoder, TableEncoder
from hdac.nets.animation import PointNet
from hdac.network import Network, by_name
from hdac.points import PointSettings, Values
from hdac.published_coders import KINDS
from hdac.training.cache import find_clips
from hdac.training.tables import values
from rd import provenance

FPS = 25.0
BITS_OF_LABEL = 4


@dataclass(frozen=True)
class PriorTable:
    """The prior's symbols as a table of two columns, for our contexts (`hdac.keypoints.TableSettings`)."""

    kinds_of_values: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.kinds_of_values) // 2, 2

    @property
    def limits(self) -> tuple[int, ...]:
        return (1 << 16,) * 2

    @property
    def kinds(self) -> list[list[int]]:
        numbers = [KINDS.index(kind) for kind in self.kinds_of_values]
        return [numbers[i : i + 2] for i in range(0, len(numbers), 2)]

    @property
    def first_row(self) -> list[int]:
        """Values of a kind move as a whole."""
        first: list[int] = []
        for number, row in enumerate(self.kinds):
            first.append(first[-1] if first and self.kinds[number - 1] == row else number)
        return first

    def checked(self, symbols: Symbols) -> Symbols:
        return np.asarray(symbols, np.int32).reshape(self.shape)


def spent_by_contexts(settings: PointSettings, clips: list[list[Values]]) -> list[int]:
    """Bytes of every frame but the first, of the prior's symbols by our contexts."""
    published = settings.published
    table = PriorTable(tuple(published.kinds))
    sizes = []
    for clip in clips:
        symbols = [table.checked(published.quantise(*one.as_published).astype(np.int32)) for one in clip]
        encoder, decoder = TableEncoder(table), TableDecoder(table)
        encoder.start(symbols[0])
        decoder.start(symbols[0])
        for one in symbols[1:]:
            layer = encoder.encode(one)
            assert np.array_equal(decoder.decode(layer), one)
            sizes.append(len(layer))
    return sizes


def spent(name: str, settings: PointSettings, network: Network[PointNet], clips: list[list[Values]]) -> list[int]:
    """Bytes of every frame but the first."""
    statistics = network.net.huffman.numpy(), network.net.prior.numpy()
    sizes = []
    for clip in clips:
        encoder, decoder = points.encoder(name, settings, *statistics), points.decoder(name, settings, *statistics)
        sent, at_rest = encoder.start(clip[0])
        assert _same(decoder.start(clip[0], sent), at_rest)
        for one in clip[1:]:
            layer, had = encoder.encode(one)
            assert _same(decoder.decode(layer), had)
            sizes.append(len(layer))
    return sizes


def _same(a: Values, b: Values) -> bool:
    return all(x is y if x is None or y is None else np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def summary(sizes: list[int]) -> dict[str, float]:
    """Bits a frame, and kbit/s at 25 frames/s."""
    bits = 8 * float(np.mean(sizes))
    return {
        "bits_per_frame": round(bits, 1),
        "median": 8 * float(np.median(sizes)),
        "max": 8 * max(sizes),
        "kbps": round(bits * FPS / 1000, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--networks", nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--step", type=int, default=PointSettings.step)
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    paths = find_clips(args.clips)
    rows: dict[str, Any] = {}
    for name in args.networks:
        network = by_name(name, PointNet)
        s = network.net.settings
        settings = PointSettings(s.n_learned, len(s.landmarks_sent), s.jacobians, s.n_expression, args.step, s.map_side)
        clips = [values(network, path, args.frames) for path in tqdm(paths, desc=name, unit="clip")]
        coders = ["adaptive"] if s.map_side else [c for c in points.CODERS if c != "huffman" or not s.jacobians]
        row = {("ours" if coder == "adaptive" else coder): summary(spent(coder, settings, network, clips)) for coder in coders}
        if "huffman" in row:
            saved = 1 - row["ours"]["bits_per_frame"] / row["huffman"]["bits_per_frame"]
            row["ours"]["saved_against_huffman"] = round(saved, 3)
        if "prior" in row:
            row["contexts"] = summary(spent_by_contexts(settings, clips))
            row["contexts"]["saved_against_prior"] = round(
                1 - row["contexts"]["bits_per_frame"] / row["prior"]["bits_per_frame"], 3
            )
        n_numbers = 2 * s.n_learned * (3 if s.jacobians else 1) + 2 * len(s.landmarks_sent) + s.n_expression
        raw = {"raw": 16 * n_numbers, "raw_8": 8 * n_numbers}
        if s.map_side:
            raw = dict.fromkeys(raw, BITS_OF_LABEL * s.map_side**2)
        row |= {coder: {"bits_per_frame": bits, "kbps": round(bits * FPS / 1000, 2)} for coder, bits in raw.items()}
        rows[name] = row
        for coder, found in row.items():
            print(f"{name:22} {coder:9}", "  ".join(f"{what} {value}" for what, value in found.items()))
    if args.out:
        networks = " ".join(args.networks)
        result = {
            "command": f"python -m tests.bench.bench_points <folder> --networks {networks} --frames {args.frames} "
            f"--step {args.step}",
            "commit": provenance.commit(),
            "clips": len(paths),
            "networks": rows,
        }
        write_atomic(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(run(main))
