"""Bytes of a whole binary residual, and what it gains, with and without its context model.

    python -m tests.bench.bench_residual CLIPS [CLIPS ..] [--network NAME] [--qp QP] [--every N] [--frames N] [--out FILE]

face-vid2vid animates the first frame of each clip, and every N-th frame gets a residual over all of the picture: every block
is sent, nothing is chosen by rate. Each is decoded again by a fresh decoder. Beside its bytes are those of the same signs with
one adaptive context a channel (arithmetic coding that looks at nothing around), and without coding, a bit a sign. There is a
row for each size of clips; 512x512 is what was published (Wang et al., CVPR 2021, section C.3: 13.40 KB; other clips, another
network). `python -m data.prepare <folder> --size 512 --out ..` cuts such clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.errors import InputError
from data.files import write_atomic
from data.io import read_clip
from hdac.codecs import face_box, reference
from hdac.codecs.face_animator import FaceAnimator
from hdac.codecs.refresh import psnr_y, squared_error_y
from hdac.codecs.residual import ALL, ResidualCoder, Signs
from hdac.nets.residual import SHRINK, ResidualNet
from hdac.nets.vid2vid import Vid2VidNet
from hdac.network import Network, by_name
from hdac.range_coder import Context, RangeEncoder
from hdac.training.cache import find_clips
from rd import provenance

PUBLISHED = {"512x512": {"bytes": 13_400}}


def order_0(signs: Signs) -> int:
    """Bytes with a context a channel."""
    coder, contexts = RangeEncoder(), [Context() for _ in signs]
    for channel, positive in zip(contexts, signs.reshape(len(signs), -1) > 0, strict=True):
        for one in positive.tolist():
            coder.encode(channel, int(one))
    return 1 + len(coder.frame_bytes())


def residuals(
    clip: Clip, network: Network[Vid2VidNet], coder_of: Network[ResidualNet], qp: int, every: int
) -> list[dict[str, float]]:
    """Of every `every`-th frame but the first: bytes, PSNR-Y in dB before and after."""
    size = clip.height, clip.width
    animator = FaceAnimator(network, qp, best_look=True, box=face_box.find(clip))
    still = reference.encode((clip.y[0], clip.u[0], clip.v[0]), clip.colour, qp, "bpg")
    animator.refer_to(reference.decode(still, *size, "bpg", clip.colour))
    found = []
    for t in range(every, clip.n_frames, every):
        source = clip.y[t], clip.u[t], clip.v[t]
        shown = animator.task(animator.motion(source), size)()
        layer, enhanced, _ = ResidualCoder(coder_of, size).find(source, shown, ALL)
        assert layer is not None
        decoded = ResidualCoder(coder_of, size).enhance(shown, layer)
        assert all(np.array_equal(a, b) for a, b in zip(decoded, enhanced, strict=True))
        before, after = (psnr_y(squared_error_y(source, picture), source) for picture in (shown, enhanced))
        padded = ResidualCoder(coder_of, size).padded
        bits = coder_of.net.settings.channels * (padded[0] // SHRINK) * (padded[1] // SHRINK)
        raw, signs = 1 + bits // 8, ResidualCoder(coder_of, size).unpack(layer).signs
        found.append({"bytes": len(layer), "order_0": order_0(signs), "raw": raw, "before_db": before, "after_db": after})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", help="clips, or folders of clips")
    parser.add_argument("--network", default="face-vid2vid")
    parser.add_argument("--residual-network", default="residual")
    parser.add_argument("--qp", type=int, default=32, help="of the reference picture")
    parser.add_argument("--every", type=int, default=25)
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    network, coder = by_name(args.network, Vid2VidNet), by_name(args.residual_network, ResidualNet)
    by_size: dict[str, list[dict[str, float]]] = {}
    n_clips: dict[str, int] = {}
    for path in tqdm([path for given in args.clips for path in find_clips(given)], unit="clip"):
        clip = read_clip(path, frames=args.frames)
        size = f"{clip.width}x{clip.height}"
        n_clips[size] = n_clips.get(size, 0) + 1
        by_size.setdefault(size, []).extend(residuals(clip, network, coder, args.qp, args.every))
    table: dict[str, Any] = {}
    for size, rows in by_size.items():
        if not rows:
            raise InputError(f"no clip of {size} has more than {args.every} frames")
        bytes_ = [row["bytes"] for row in rows]
        table[size] = {
            "clips": n_clips[size],
            "residuals": len(rows),
            "bytes": {"mean": round(float(np.mean(bytes_))), "min": min(bytes_), "max": max(bytes_)},
            "context_a_channel": round(float(np.mean([row["order_0"] for row in rows]))),
            "not_coded": int(rows[0]["raw"]),
            "psnr_y_before_db": round(float(np.mean([row["before_db"] for row in rows])), 2),
            "psnr_y_after_db": round(float(np.mean([row["after_db"] for row in rows])), 2),
        }
        print(size, table[size])
    if args.out:
        networks = f"--network {args.network} --residual-network {args.residual_network}"
        options = f"{networks} --qp {args.qp} --every {args.every} --frames {args.frames}"
        result = {
            "command": f"python -m tests.bench.bench_residual <folders> {options}",
            "commit": provenance.commit(),
            "weights": {args.network: network.weights_id.hex(), args.residual_network: coder.weights_id.hex()},
            "sizes": table,
            "published": PUBLISHED,
        }
        write_atomic(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(run(main))
