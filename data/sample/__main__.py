"""Writes the sample's clips as y4m files: `python -m data.sample --out DIR [--scenario NAME ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.cli import run
from data.io import write_clip
from data.sample import SCENARIOS, make_sample


def main(argv: Sequence[str] | None = None) -> int:
    about = "\n".join(f"  {s.name:<17} {s.n_frames} frames: {s.about}" for s in SCENARIOS.values())
    parser = argparse.ArgumentParser(
        prog="python -m data.sample",
        description="Makes the sample clips (256x256, 25 fps, 8-bit 4:2:0) and writes them losslessly as y4m.",
        epilog=f"scenarios:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for NAME.y4m; made if missing")
    parser.add_argument("--scenario", nargs="+", choices=list(SCENARIOS), metavar="NAME", help="default: all of them")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite files that exist")
    args = parser.parse_args(argv)

    def work() -> None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in args.scenario or SCENARIOS:
            path = args.out / f"{name}.y4m"
            clip = make_sample(name).clip
            write_clip(clip, path, force=args.force)
            print(f"{path}  {clip.n_frames} frames  sha256 {clip.sha256()}", flush=True)

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
