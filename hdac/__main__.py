"""`hdac`: encode, decode and inspect single streams; list the codecs.

    hdac list
    hdac encode call.mp4 call.bin --codec vvc --qp 42
    hdac info call.bin
    hdac decode call.bin call.y4m
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from baselines.codec import REGIMES, Regime, Tunable, VideoCodec
from baselines.stream import StreamHeader
from data.cli import run
from data.errors import BitstreamError, InputError
from data.files import write_atomic
from data.io import read_clip, write_clip
from hdac.systems import FAMILIES, decode, ledger

QP_HELP = """the standard's own quantiser (AV1 and VP9: 0 to 63); for stills that have a quality instead, the steps below
the best one (JPEG 95, WebP and AVIF 100, learned 8)"""


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: args.command(args))


def _list(args: argparse.Namespace) -> None:
    width = max(map(len, FAMILIES))
    for name, family in FAMILIES.items():
        missing = family.missing()
        print(f"{name:{width}}  {family.title}: {family.description}{f' NOT INSTALLED: {missing}' if missing else ''}")


def _encode(args: argparse.Namespace) -> None:
    _check_output(args.output, args.force)
    clip = read_clip(args.input, frames=args.frames)
    codec = _codec(args.codec, args.regime, args.qp)
    stream = codec.encode(clip)
    write_atomic(args.output, stream)
    kbps = 8 * len(stream) / float(clip.seconds) / 1000
    print(f"{args.output}: {codec.label}, {clip.n_frames} frames, {len(stream)} bytes, {kbps:.2f} kbit/s")


def _codec(name: str, regime: Regime, qp: int) -> VideoCodec:
    """The family's first setting at another quantiser."""
    if name not in FAMILIES:
        raise InputError(f"unknown codec {name!r}; there are {', '.join(FAMILIES)}")
    missing = FAMILIES[name].missing()
    if missing:
        raise InputError(f"codec {name} cannot run here: {missing}")
    codec = FAMILIES[name].candidates(regime, 1)[0]
    if not isinstance(codec, Tunable):
        raise InputError(f"codec {name} has no quantiser to set")
    return codec.with_quantiser(qp)


def _decode(args: argparse.Namespace) -> None:
    _check_output(args.output, args.force)
    write_clip(decode(args.input.read_bytes()), args.output, force=args.force)
    print(args.output)


def _info(args: argparse.Namespace) -> None:
    stream = args.input.read_bytes()
    header, _ = StreamHeader.unpack(stream)
    spent = ledger(stream)
    if len(spent.frames) != header.n_frames:
        raise BitstreamError(f"{args.input}: the header says {header.n_frames} frames, the stream holds {len(spent.frames)}")
    kbps = 8 * len(stream) * float(header.fps) / header.n_frames / 1000
    print(f"{header.standard}  {header.width}x{header.height}  {header.n_frames} frames  {header.fps} fps  {header.colour}")
    print(f"{len(stream)} bytes, {kbps:.3f} kbit/s")
    for layer, size in spent.totals.items():
        print(f"  {layer:15} {size:9} bytes  {100 * size / len(stream):5.1f} %  {kbps * size / len(stream):8.3f} kbit/s")


def _check_output(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise InputError(f"{path} exists; -f overwrites it")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hdac", description="Encode, decode and inspect streams of every codec.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the codecs, and which of them run here")
    listing.set_defaults(command=_list)

    encoder = commands.add_parser(
        "encode", help="clip to stream", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    encoder.add_argument("input", type=Path, help="video file, .y4m, or folder of pictures")
    encoder.add_argument("output", type=Path, help="the stream")
    encoder.add_argument("--codec", default="hevc", help="codec name, see `hdac list`")
    encoder.add_argument("--qp", type=int, default=42, help=QP_HELP)
    encoder.add_argument("--regime", choices=REGIMES, default=REGIMES[0], help="one intra picture, or one every 32")
    encoder.add_argument("--frames", type=int, metavar="N", help="only the first N frames")
    encoder.add_argument("-f", "--force", action="store_true", help="overwrite the output")
    encoder.set_defaults(command=_encode)

    decoder = commands.add_parser("decode", help="stream to clip")
    decoder.add_argument("input", type=Path, help="the stream")
    decoder.add_argument("output", type=Path, help=".y4m, .yuv, .mkv (FFV1), .mp4 (lossless H.264), or folder for PNGs")
    decoder.add_argument("-f", "--force", action="store_true", help="overwrite the output")
    decoder.set_defaults(command=_decode)

    info = commands.add_parser("info", help="header and bit ledger of a stream")
    info.add_argument("input", type=Path, help="the stream")
    info.set_defaults(command=_info)
    return parser


if __name__ == "__main__":
    sys.exit(main())
