"""How far heads turn in every clip, and how good and how steady the landmark student is there.

    python -m tests.bench.bench_faces CLIPS [--frames N] [--out FILE]

    yaw_range_deg   between the two frames in which the head is turned farthest, by two FSA-Nets
    nme             the student's points against the teacher's (PFLD), over the distance of its outer eye corners
    jitter_px       of either: root mean square of the second difference in time of all points, in luma samples; what moves
                    smoothly has none, what trembles has
    .._steadied     of the student's points drawn to where optical flow has those before (`hdac.codecs.point_animator`)
    .._sent         of these as a decoder has them: rounded, and held while they hardly move (`hdac.points`)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data.cli import run
from data.clip import Clip
from data.files import write_atomic
from data.io import read_clip
from hdac import points
from hdac.codecs import face_box
from hdac.codecs.animator import Stage, luma_of
from hdac.codecs.mobile import Mobile
from hdac.codecs.point_animator import settled
from hdac.codecs.source_choice import landmarks_of
from hdac.landmarks import COUNT, OUTER_EYE_CORNERS
from hdac.nets.flow import optical_flow
from hdac.nets.landmarks import LandmarkNet
from hdac.nets.motion import followed
from hdac.network import Network, by_name
from hdac.points import PointSettings, Values
from hdac.training.cache import find_clips
from hdac.training.teachers import Landmarks, Poses
from rd import provenance

MULTIPLE = 8
POSE_EVERY = 5
"""Frames to one whose pose is looked at."""


def jitter(points: NDArray[np.float64]) -> float:
    """Of (T, 68, 2); frames without a face are NaN."""
    second = np.diff(points, n=2, axis=0)
    return float(np.sqrt(np.nanmean(np.square(second).sum(-1))))


def sent(found: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a decoder has of points (T, 68, 2) in [-1, 1]."""
    settings = PointSettings(0, COUNT)
    coder = points.encoder("adaptive", settings, np.zeros(0, np.uint8), np.zeros((0, 0), np.int32))
    had = [coder.start(Values(landmarks=found[0]))[1], *(coder.encode(Values(landmarks=one))[1] for one in found[1:])]
    return np.stack([one.landmarks for one in had if one.landmarks is not None]).astype(np.float64)


def steady(clip: Clip, student: Network[LandmarkNet]) -> NDArray[np.float32]:
    """(T, 68, 2), as `landmarks_of`, but of an encoder that follows the face."""
    stage = Stage(MULTIPLE, None)
    found: list[Tensor] = []
    before = None
    for planes in zip(clip.y, clip.u, clip.v, strict=True):
        packed = stage.packed(stage.seen(planes))
        here = luma_of(packed)
        if before is None:
            found.append(student.net(packed))
        else:
            carried = followed(found[-1], torch.from_numpy(optical_flow(here, before))[None])
            found.append(settled(student.net.follow(packed, found[-1]), carried, packed)[0])
        before = here
    points: NDArray[np.float32] = torch.cat(found).numpy()
    return points


def measure(clip: Clip, student: Network[LandmarkNet], teacher: Landmarks, poses: Poses) -> dict[str, Any]:
    """One clip, seen as a whole."""
    pictures = [clip.rgb(slice(t, t + 1))[0] for t in range(clip.n_frames)]
    yaw = [float(poses(picture)[0]) for picture in pictures[::POSE_EVERY]]
    size = (np.array([clip.width, clip.height]) - 1) / 2
    wanted = np.stack([teacher(picture) for picture in pictures]).astype(float) * size
    seen = landmarks_of(clip, student, MULTIPLE, None)
    held = steady(clip, student)
    found, smooth, had = seen.astype(float) * size, held.astype(float) * size, sent(held) * size
    left, right = OUTER_EYE_CORNERS
    eyes = np.linalg.norm(wanted[:, right] - wanted[:, left], axis=-1)
    off, off_steadied, off_sent = (np.linalg.norm(one - wanted, axis=-1).mean(-1) / eyes for one in (found, smooth, had))
    return {
        "yaw_range_deg": round(float(np.nanmax(yaw) - np.nanmin(yaw)), 1),
        "nme": round(float(np.nanmean(off)), 4),
        "nme_steadied": round(float(np.nanmean(off_steadied)), 4),
        "nme_sent": round(float(np.nanmean(off_sent)), 4),
        "jitter_px": round(jitter(found), 3),
        "jitter_px_steadied": round(jitter(smooth), 3),
        "jitter_px_sent": round(jitter(had), 3),
        "jitter_px_teacher": round(jitter(wanted), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="a clip, or a folder of clips of up to 2 * 256 * 256 samples")
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    student, teacher, poses = by_name(Mobile.landmark_network, LandmarkNet), Landmarks(), Poses()
    rows: dict[str, dict[str, Any]] = {}
    for path in tqdm(find_clips(args.clips), unit="clip"):
        clip = read_clip(path, frames=args.frames)
        if face_box.find(clip) is None:
            rows[path.stem] = measure(clip, student, teacher, poses)
            tqdm.write(f"{path.stem:32}" + "  ".join(f"{key} {value}" for key, value in rows[path.stem].items()))
    means = {key: round(float(np.mean([row[key] for row in rows.values()])), 4) for key in next(iter(rows.values()), {})}
    medians = {key: round(float(np.median([row[key] for row in rows.values()])), 4) for key in means}
    print("mean", means, "median", medians)
    if args.out:
        command = f"python -m tests.bench.bench_faces <folder> --frames {args.frames}"
        facts = {"command": command, "commit": provenance.commit(), "landmarks": student.weights_id.hex()}
        write_atomic(args.out, json.dumps({**facts, "mean": means, "median": medians, "clips": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
