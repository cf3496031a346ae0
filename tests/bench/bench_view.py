"""What free view does: how far a face has turned by a head pose network, and whether it is still the same person.

    python -m tests.bench.bench_view CLIPS [--qp QP] [--frame T] [--out FILE]

face-vid2vid codes the first frames of each clip; frame T is decoded as it was sent and from elsewhere. Two FSA-Nets, averaged,
say how much the head has turned against the picture as it was sent (degrees, mean and standard deviation over the clips);
MobileFaceNet's cosine says how much of the identity of that picture is left. Clips in which no face is found are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data import pretrained
from data.cli import run
from data.errors import InputError
from data.faces import YuNet
from data.files import write_atomic
from data.io import read_clip
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.view import View
from hdac.decoder import decode_view
from hdac.training.cache import find_clips
from hdac.training.teachers import Poses
from rd import provenance
from rd.metrics.face import Identity

ANGLES = ("yaw", "pitch", "roll")
VIEWS = [(float(yaw), 0.0, 0.0) for yaw in (-30, -20, -10, 10, 20, 30)]
VIEWS += [(0.0, float(pitch), 0.0) for pitch in (-12, 12)] + [(0.0, 0.0, float(roll)) for roll in (-15, 15)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips")
    parser.add_argument("--qp", type=int, default=32, help="of the reference picture")
    parser.add_argument("--frame", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the result to this JSON file, too")
    args = parser.parse_args()
    poses, detector = Poses(), YuNet(pretrained.find("yunet"))
    identity = Identity(pretrained.find("mobilefacenet"), detector)
    codec = FaceVid2Vid(qp=args.qp)
    turned: dict[tuple[float, ...], list[float]] = {view: [] for view in VIEWS}
    same: dict[tuple[float, ...], list[float]] = {view: [] for view in VIEWS}
    n_clips = 0
    for path in tqdm(find_clips(args.clips), unit="clip"):
        clip = read_clip(path, frames=args.frame + 1)
        if clip.n_frames <= args.frame:
            raise InputError(f"{path} has no frame {args.frame}")
        stream = codec.encode(clip)
        own = decode_view(stream, View(), [args.frame]).rgb()[0]
        faces, before = detector.faces(own), poses(own)
        if not faces or np.isnan(before).any():
            continue
        n_clips += 1
        who = identity(own, identity.where(own, faces[0]))
        for view in VIEWS:
            seen = decode_view(stream, View(view), [args.frame]).rgb()[0]
            axis, after = int(np.argmax(np.abs(view))), poses(seen)
            turned[view].append(float(after[axis] - before[axis]))
            same[view].append(float(who @ identity(seen, identity.follow(seen, faces[0].points))))
    if not n_clips:
        raise InputError(f"no face in any clip of {args.clips}")
    rows = []
    for view in VIEWS:
        axis = int(np.argmax(np.abs(view)))
        seen = [value for value in turned[view] if not np.isnan(value)]
        rows.append(
            {
                "angle": ANGLES[axis],
                "asked_deg": view[axis],
                "seen_deg": round(float(np.mean(seen)), 1),
                "deviation_deg": round(float(np.std(seen)), 1),
                "csim": round(float(np.mean(same[view])), 3),
                "faces": len(seen),
            }
        )
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if args.out:
        command = f"python -m tests.bench.bench_view <folder> --qp {args.qp} --frame {args.frame}"
        facts = {"command": command, "commit": provenance.commit(), "clips": n_clips, "codec": codec.label}
        write_atomic(args.out, json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
