"""Full-resolution composition (Lu and Zheng 2023, section 3.4): is there a seam where the animated face box is set into the
rest?

    python -m tests.bench.bench_composition CLIPS [CLIPS ..] [--network NAME] [--frames N] [--out FILE]

Of every clip that is larger than what networks see as a whole, the first frame is the avatar, and the clip itself the call, the
easiest one there is; or the next clip's person calls (`seam_other`). `seam` is `hdac.conference.seam` (1: luma changes across
the box's edges as it does next to them), mean and largest of all frames: as shown, with shoulder keypoints that move, too, and
of the clip's own frames. Frames/s are of all of `hdac animate`
but files, the search for the face among it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.errors import InputError
from data.files import write_atomic
from data.io import read_clip
from hdac import conference
from hdac.codecs.mobile import Mobile
from hdac.conference import Conference, seam
from hdac.nets.animation import PointNet
from hdac.nets.landmarks import LandmarkNet
from hdac.network import Network, by_name
from hdac.training.cache import find_clips
from rd import provenance


def nothing_stays(learned: Any, face: Any) -> Any:
    """In the place of `hdac.conference.of_body`."""
    return np.zeros(len(learned), bool)


def measure(clip: Clip, other: Clip, network: Network[PointNet], landmarks: Network[LandmarkNet]) -> dict[str, Any] | None:
    """One clip; None: networks see it as a whole. other: of another person, who calls, too."""
    row: dict[str, Any] = {"size": f"{clip.width}x{clip.height}"}
    ways = (("seam", conference.of_body, clip), ("seam_body_moves", nothing_stays, clip))
    for name, stays, call in (*ways, ("seam_other", conference.of_body, other)):
        with mock.patch.object(conference, "of_body", stays):
            begin = time.perf_counter()
            made = Conference(clip[:1], network, landmarks)
            box = made.animator.stage.box
            if box is None:
                return None
            shown = list(made.call(call))
            seconds = time.perf_counter() - begin
        values = [seam(picture, made.animator) for picture in shown]
        if np.isnan(values).any():
            raise InputError(f"{clip.name}: no edge of the face box is far enough from the border of the picture")
        row |= {"box": f"{box.width}x{box.height}", name: round(float(np.mean(values)), 3)}
        row[f"{name}_max"] = round(max(values), 3)
        if name == "seam":
            row["body_keypoints"] = 0 if made.body is None else int(made.body.sum())
            row["fps"] = round(clip.n_frames / seconds, 1)
    own = [seam((clip.y[t], clip.u[t], clip.v[t]), made.animator) for t in range(clip.n_frames)]
    return row | {"seam_source": round(float(np.mean(own)), 3), "seam_source_max": round(max(own), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", help="clips, or folders of clips")
    parser.add_argument("--network", default="motion-net-10u+20l")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    network, landmarks = by_name(args.network, PointNet), by_name(Mobile.landmark_network, LandmarkNet)
    rows = {}
    paths = [path for given in args.clips for path in find_clips(given)]
    for path, following in zip(tqdm(paths, unit="clip"), paths[1:] + paths[:1], strict=True):
        clip, other = (read_clip(one, frames=args.frames) for one in (path, following))
        row = measure(clip, other, network, landmarks)
        if row is not None:
            rows[path.stem] = row
            tqdm.write(f"{path.stem:28} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if not rows:
        raise InputError("none of the clips is larger than what networks see as a whole")
    if args.out:
        command = f"python -m tests.bench.bench_composition <clips> --network {args.network} --frames {args.frames}"
        facts = {"command": command, "commit": provenance.commit(), "machine": provenance.machine()}
        write_atomic(args.out, json.dumps({**facts, "clips": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
