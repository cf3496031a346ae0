"""Talking-head clips from any video: shots with a face, cut to one fixed square each and scaled down.

    python -m data.prepare IN... --out DIR [--size 256]

The framing is that of the VoxCeleb clips of the First Order Motion Model: one square per shot, around the union of the
face boxes, such that a face is about 0.57 of the square's height, clamped to the picture. Shots are split where both
the picture and its histogram change at once. Pieces are written losslessly, with a manifest.csv that says where each
came from; `rd-sweep --sequences DIR/manifest.csv` takes them.

Faces are found by YuNet where `$HDAC_METRIC_WEIGHTS/face_detect/yunet_n_dynamic.onnx` is, else by the Haar cascade that
OpenCV ships, which sees frontal faces only. A video is read as a whole: cut very long ones first, or use --frames.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data import cli
from data.clip import Clip
from data.crop import Box, crop
from data.errors import InputError
from data.faces import FaceFinder, HaarCascade, YuNet
from data.files import atomic_path, file_sha256
from data.framing import face_boxes, face_square
from data.io import write_clip
from data.sequences import COLUMNS, Sequence, resolve

MAX_ENLARGEMENT = 1.3
"""Faces so small that their square had to be enlarged by more are left out: they hold no detail to code."""
MIN_FRAMES = 48

# Two frames belong to two shots where the mean difference of their 32x32 reductions (8-bit levels) and of their
# 16-bin histograms (0 to 1) both jump, or where the first is beyond any motion of a head. chosen: in 29 clips of one
# shot no two frames differed by more than 12.2 and 0.031, while frames of two clips differ by at least 7.6 and 0.09.
CUT_DIFFERENCE = 6.0
CUT_HISTOGRAM = 0.05
SURE_CUT_DIFFERENCE = 25.0


@dataclass(frozen=True)
class Piece:
    """A shot, or why it is left out."""

    first: int
    n_frames: int
    box: Box | None
    problem: str = ""


def face_finder() -> FaceFinder:
    """YuNet if its weights are there, else OpenCV's own cascade."""
    weights = os.environ.get("HDAC_METRIC_WEIGHTS")
    yunet = Path(weights, "face_detect", "yunet_n_dynamic.onnx") if weights else None
    return YuNet(yunet) if yunet and yunet.is_file() else HaarCascade()


def split(clip: Clip, finder: FaceFinder, size: int = 256, min_frames: int = MIN_FRAMES) -> list[Piece]:
    """The shots of a clip, each with the square to cut out, or with what is wrong with it."""
    pieces = []
    starts = [0, *scene_cuts(clip)]
    for first, end in zip(starts, [*starts[1:], clip.n_frames], strict=True):
        count = end - first
        if count < min_frames:
            pieces.append(Piece(first, count, None, f"shorter than {min_frames} frames"))
            continue
        shot = clip[first:end]
        if (clip.width, clip.height) == (size, size):
            seen = len(face_boxes(shot, finder))
            whole = Box(0, 0, size, size)  # cut already
            pieces.append(Piece(first, count, whole) if seen else Piece(first, count, None, "no face"))
            continue
        box = face_square(shot, finder)
        if box is None:
            pieces.append(Piece(first, count, None, "no face"))
        elif size > MAX_ENLARGEMENT * box.width:
            pieces.append(Piece(first, count, None, f"the face is too small: its square has {box.width} pixels a side"))
        else:
            pieces.append(Piece(first, count, box))
    return pieces


def scene_cuts(clip: Clip) -> list[int]:
    """The first frame of each shot but the first."""
    small = np.empty((clip.n_frames, 32, 32), np.float32)
    histograms = np.empty((clip.n_frames, 3, 16), np.float32)
    for i in range(clip.n_frames):
        small[i] = cv2.resize(clip.y[i].astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
        for c, plane in enumerate((clip.y[i], clip.u[i], clip.v[i])):
            histograms[i, c] = np.bincount(plane.ravel() >> 4, minlength=16) / plane.size
    difference = np.abs(np.diff(small, axis=0)).mean((1, 2))
    histogram = np.abs(np.diff(histograms, axis=0)).sum(2).mean(1) / 2
    cut = (difference > CUT_DIFFERENCE) & (histogram > CUT_HISTOGRAM) | (difference > SURE_CUT_DIFFERENCE)
    return (np.flatnonzero(cut) + 1).tolist()


# -- command -------------------------------------------------------------------------------------------------------

MANIFEST_COLUMNS = (
    *COLUMNS, "source", "source_first_frame", "source_x", "source_y", "source_side", "detector",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """`python -m data.prepare`; exit status 1 where no clip could be made."""
    return cli.run(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description="Cuts face crops out of videos: one square per shot, scaled to one size, written losslessly.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="files, folders or sequence sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips and manifest.csv")
    parser.add_argument("--size", type=int, default=256, help="side of the clips in pixels")
    parser.add_argument("--min-frames", type=int, default=MIN_FRAMES, help="shorter shots are dropped")
    parser.add_argument("--frames", type=int, default=None, help="read at most so many frames of each input")
    parser.add_argument("--format", choices=("mkv", "mp4", "y4m"), default="mkv", help="FFV1, lossless x264 or raw")
    parser.add_argument("--force", action="store_true", help="write into a folder that has a manifest.csv already")
    args = parser.parse_args(argv)
    if args.size < 16 or args.size % 2:
        raise InputError(f"--size {args.size} is not an even number of at least 16")
    if args.min_frames < 1:
        raise InputError(f"--min-frames {args.min_frames} is less than 1")
    manifest = args.out / "manifest.csv"
    if manifest.exists() and not args.force:
        raise InputError(f"{manifest}: exists already; take another folder or --force")

    finder = face_finder()
    rows: list[dict[str, object]] = []
    for sequence in resolve(args.inputs, frames=args.frames):
        try:
            rows += _prepare(sequence, finder, args)
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        with atomic_path(manifest) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, MANIFEST_COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"{len(rows)} clips in {args.out} (faces by {finder.name})")
    return 0 if rows else 1


def _prepare(sequence: Sequence, finder: FaceFinder, args: argparse.Namespace) -> list[dict[str, object]]:
    """Writes the pieces of one input; their lines for the manifest."""
    clip = sequence.load()
    rows: list[dict[str, object]] = []
    for piece in split(clip, finder, args.size, args.min_frames):
        where = f"{sequence.source}: frames {piece.first} to {piece.first + piece.n_frames - 1}"
        if piece.box is None:
            print(f"skipped: {where}: {piece.problem}", file=sys.stderr)
            continue
        name = f"{sequence.name}_{len(rows):02d}"
        path = args.out / f"{name}.{args.format}"
        shot = clip[piece.first : piece.first + piece.n_frames]
        write_clip(crop(shot, piece.box, (args.size, args.size)), path, force=args.force)
        scale = args.size / piece.box.width
        print(f"{path}: {where}, square of {piece.box.width} at ({piece.box.x}, {piece.box.y}), scaled by {scale:.2f}")
        rows.append(
            {
                "name": name,
                "file": path.name,
                "width": args.size,
                "height": args.size,
                "fps": clip.fps,
                "frames": piece.n_frames,
                "sha256": file_sha256(path),
                "licence": "as the source",
                "note": f"enlarged by {scale:.2f}" if scale > 1 else "",
                "source": sequence.source,
                "source_first_frame": piece.first,
                "source_x": piece.box.x,
                "source_y": piece.box.y,
                "source_side": piece.box.width,
                "detector": finder.name,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
