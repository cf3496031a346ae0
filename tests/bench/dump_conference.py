"""A picture of conference mode: a call above, below it a portrait that moves as the caller does, and the lower left corner
of the square that moves in it, enlarged.

    python -m tests.bench.dump_conference CALL OUT.png [--avatar FILE] [--network NAME] [--frames N] [--pictures N]

The portrait is a picture, the first frame of a clip, or else that of `data.sample.portrait` (NASA, public domain) at 1024x720;
pictures of the call are spread over its first frames.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from data.cli import run
from data.clip import Clip
from data.io import read_clip
from hdac.codecs.mobile import Mobile
from hdac.conference import Conference, fitted
from hdac.nets.animation import PointNet
from hdac.nets.landmarks import LandmarkNet
from hdac.network import by_name

WIDTH, HEIGHT, SHOWN = 1024, 720, 360
ZOOM = 3


def portrait() -> Clip:
    """Twice as large as it is, without its lower part."""
    picture = Image.fromarray(astronaut()).resize((WIDTH, WIDTH), Image.Resampling.LANCZOS).crop((0, 0, WIDTH, HEIGHT))
    return Clip.from_rgb(np.asarray(picture)[None], Fraction(25))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("call", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--avatar", type=Path, help="picture or clip")
    parser.add_argument("--network", default="motion-net-10u+20l")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--pictures", type=int, default=5)
    args = parser.parse_args()
    call = read_clip(args.call, frames=args.frames)
    still = fitted(read_clip(args.avatar, frames=1)) if args.avatar else portrait()
    made = Conference(still, by_name(args.network, PointNet), by_name(Mobile.landmark_network, LandmarkNet))
    planes = [np.stack(plane) for plane in zip(*made.call(call), strict=True)]
    avatar = Clip(planes[0], planes[1], planes[2], call.fps, still.colour)
    chosen = np.linspace(0, call.n_frames - 1, args.pictures).astype(int)
    square = min(avatar.width, avatar.height)
    left = (avatar.width - square) // 2
    crops = [(call, (0, 0, call.width, call.height)), (avatar, (left, 0, left + square, square))]
    box = made.animator.stage.box
    if box is not None:
        side = box.width // ZOOM
        x, y = max(box.x - side // 2, 0), min(box.y + box.height - side // 2, avatar.height - side)
        crops.append((avatar, (x, y, x + side, y + side)))
    rows = []
    for clip, crop in crops:
        pictures = [Image.fromarray(clip.rgb(slice(t, t + 1))[0]).crop(crop) for t in chosen]
        rows.append(np.hstack([np.asarray(picture.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS)) for picture in pictures]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(args.out)
    print(args.out)


if __name__ == "__main__":
    sys.exit(run(main))
