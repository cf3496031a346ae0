"""`hdac`: encode, decode and inspect single streams; list the codecs.

    hdac list
    hdac encode call.mp4 call.hdac --kbps 12
    hdac encode call.mp4 call.hdac --qp 40 --base-codec vvc --base-every 2
    hdac info call.hdac
    hdac decode call.hdac call.mp4
    hdac encode call.mp4 call.vvc --codec vvc --qp 42
    hdac animate me.png call.mp4 out.mp4
    hdac train --help
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from baselines.codec import REGIMES, Tunable, VideoCodec, intra_period
from baselines.stream import LAYERED_STANDARDS, StreamHeader
from data.cli import run
from data.clip import Clip
from data.errors import BitstreamError, InputError, WeightsMismatch
from data.files import write_atomic
from data.io import read_clip, write_clip
from data.planar import y4m_frame, y4m_header
from hdac import weights
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FADES, FaceVid2Vid, deformations_sent
from hdac.codecs.hdac import Hdac
from hdac.codecs.layered import LayeredCodec
from hdac.codecs.mobile import CHOSEN_FROM, WHEN_FAR, Mobile
from hdac.codecs.reference import MAX_QP as REFERENCE_CHOICES
from hdac.codecs.view import View
from hdac.container import BASE_CODECS, BASE_STEPS, LayeredHeader, Reader
from hdac.decoder import decode_mobile, decode_tolerant, decode_view, frames, verified_frames
from hdac.families import LAYERED, MOBILE
from hdac.parameters import CODERS
from hdac.points import CODERS as POINT_CODERS
from hdac.rate import hit
from hdac.systems import FAMILIES, catalogue, decode, ledger, weights_mb

ROTATE_HELP = "face-vid2vid: turned by so many degrees; positive: to the picture's left, up, clockwise"
REFRESH_HELP = """when a new reference picture is sent: where it pays, below 33 dB, at scene cuts, or never (else dac: rd,
face-vid2vid: cut, mobile family: never); mobile family: where points are far from those of every reference (distance)"""
MOTION_CODER_CHOICES = tuple(dict.fromkeys((*CODERS, *POINT_CODERS)))
MOTION_CODER_HELP = """ours, face-vid2vid's (paper), or of the mobile family Huffman's code (2021) or a shipped prior (2022)"""
CHOSEN_HELP = """mobile family: references are the frames with which they are sent, or the best ones of the whole clip, for
which an encoder must have all of it"""
FADE_HELP = f"face-vid2vid: frames that a switch to a new reference takes; else {FaceVid2Vid.fade}"
NETWORKS = {"dac": "lite", "hdac": "lite", "face-vid2vid": "face-vid2vid"}
"""Codecs that take --network, and the weights that they take without it."""
QP_HELP = """the standard's own quantiser (AV1 and VP9: 0 to 63); for stills that have a quality instead, the steps below
the best one (JPEG 95, WebP and AVIF 100, learned 8)"""

LIST_NOTE = """kbit/s: in results/, talking heads of 256x256, from the coarsest to the finest points, means over the clips
frames/s: decoded by one core; an order of magnitude
weights: files of the networks that it needs"""

THRESHOLD_HELP = """of the quality filter: frames in which points have moved farther from where they were when the caller looked
like the avatar are replaced; 0: none is"""
AVATAR_FAR_HELP = """of --threshold: what is shown in their place, the avatar at rest (default), or what passed before, back and
forth"""
TOLERANT_HELP = """layered codecs: the frames in front of any damage, as far as a checksum vouches for them; from standard
input, too, where they then come as late as their checksum"""


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["train"]:  # its own parser: training imports much that decoding does not need
        from hdac.training.__main__ import main as train

        return train(words[1:])
    args = _parser().parse_args(_joined(words))
    return run(lambda: args.command(args))


def _joined(words: list[str]) -> list[str]:
    """With what follows --rotate and --translate joined to it: it may begin with a minus, as options do."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--rotate", "--translate"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _list(args: argparse.Namespace) -> None:
    width, known = max(map(len, FAMILIES)), catalogue()
    print(f"{'':{width}}      kbit/s  frames/s   weights")
    for name, family in FAMILIES.items():
        measured, missing = known.get(name), family.missing()
        rates = f"{measured.kbps_low:.1f}-{measured.kbps_high:.1f}" if measured else ""
        speed = f"{measured.decode_fps:.0f}" if measured else ""
        size = f"{weights_mb(family):.1f} MB" if family.networks and not missing else ""
        paper = f" {family.paper}." if family.paper else ""
        unusable = f" NOT INSTALLED: {missing}" if missing else ""
        print(f"{name:{width}}  {rates:>10}  {speed:>8}  {size:>8}  {family.title}: {family.description}{paper}{unusable}")
    print(LIST_NOTE)


def _encode(args: argparse.Namespace) -> None:
    _check_output(args.output, args.force)
    clip = read_clip(args.input, frames=args.frames)
    codec = _codec(args)
    if args.kbps is None:
        stream = codec.encode(clip)
    elif isinstance(codec, LayeredCodec):
        codec, stream = hit(codec, clip, args.kbps)
    else:
        raise InputError(f"--kbps is for {', '.join(LAYERED)}, not for {args.codec}; --qp sets its rate")
    write_atomic(args.output, stream)
    kbps = 8 * len(stream) / float(clip.seconds) / 1000
    print(f"{args.output}: {codec.label}, {clip.n_frames} frames, {len(stream)} bytes, {kbps:.2f} kbit/s")


def _codec(args: argparse.Namespace) -> VideoCodec:
    """The setting that was asked for: a layered codec's own default, or the family's first one."""
    name: str = args.codec
    if name not in FAMILIES:
        raise InputError(f"unknown codec {name!r}; there are {', '.join(FAMILIES)}")
    _check_layer_options(name, args)
    network = args.network or NETWORKS.get(name, "")
    missing = weights.missing(network) if network else FAMILIES[name].missing()
    if missing:
        raise InputError(f"codec {name} cannot run here: {missing}")
    period = intra_period(args.regime)
    common = {"qp": args.qp, "intra_period": period, "network": network}
    if name in ("dac", "hdac"):
        common |= {"best_look": args.best_look, "residual": args.residual}
    reference = {} if args.reference_codec is None else {"reference_codec": args.reference_codec}
    if name == "hdac":
        base = {"base_codec": args.base_codec, "base_every": args.base_every, "base_half": args.base_half}
        base |= {"i_offset": args.i_offset, "reference_qp": args.reference_qp, "send_keypoints": args.send_keypoints}
        return Hdac(**common, **base, **reference)
    if name == "dac":
        return Dac(**common, **reference, refresh=args.refresh or Dac.refresh)
    if name == "face-vid2vid":
        residual = "rd" if args.residual else "never"
        motion = {"keypoints": args.keypoints, "motion_coder": args.motion_coder}
        motion |= {} if args.fade is None else {"fade": args.fade}
        return FaceVid2Vid(**common, **motion, **reference, refresh=args.refresh or "cut", residual=residual)
    codec = FAMILIES[name].candidates(args.regime, 1)[0]
    if isinstance(codec, Mobile):
        options = ("network", "refresh", "sources", "tau", "when_far", "chosen_from")
        given = {option: getattr(args, option) for option in options if getattr(args, option) is not None}
        if args.sources is not None and args.refresh is None:
            given["refresh"] = "rd" if args.sources > 1 else "never"
        given |= {} if args.step is None else {"step": args.step}
        common = {"motion_coder": args.motion_coder, "int8": args.int8, "best_look": not args.least_error}
        return replace(codec, qp=args.qp, **common, **given, **reference)
    if not isinstance(codec, Tunable):
        raise InputError(f"codec {name} has no quantiser to set")
    return codec.with_quantiser(args.qp)


def _check_layer_options(name: str, args: argparse.Namespace) -> None:
    """Raises InputError for options of layers that the codec does not have."""
    of_networks = {
        "--network": (args.network is not None, (*NETWORKS, *MOBILE)),
        "--residual": (args.residual, NETWORKS),
        "--best-look": (args.best_look, ("dac", "hdac")),
        "--reference-codec": (args.reference_codec is not None, (*NETWORKS, *MOBILE)),
        "--refresh": (args.refresh is not None, ("dac", "face-vid2vid", *MOBILE)),
        "--keypoints": (args.keypoints is not None, ("face-vid2vid",)),
        "--fade": (args.fade is not None, ("face-vid2vid",)),
        "--motion-coder": (args.motion_coder != CODERS[0], ("face-vid2vid", *MOBILE)),
        "--sources": (args.sources is not None, MOBILE),
        "--tau": (args.tau is not None, MOBILE),
        "--when-far": (args.when_far is not None, MOBILE),
        "--chosen-from": (args.chosen_from is not None, MOBILE),
        "--int8": (args.int8, MOBILE),
        "--step": (args.step is not None, MOBILE),
        "--least-error": (args.least_error, MOBILE),
    }
    for option, (given, having) in of_networks.items():
        if given and name not in having:
            raise InputError(f"codec {name} has no {option}; {', '.join(having)} {'have' if len(having) > 1 else 'has'}")
    of_hdac = {
        "--base-codec": args.base_codec != "hevc",
        "--base-every": args.base_every != 1,
        "--base-half": args.base_half,
        "--i-offset": args.i_offset is not None,
        "--reference-qp": args.reference_qp is not None,
        "--send-keypoints": args.send_keypoints,
    }
    if (args.tau is not None or args.when_far is not None) and args.refresh != "distance":
        raise InputError("--tau and --when-far are of --refresh distance")
    wrong = [option for option, given in of_hdac.items() if given and name != "hdac"]
    if wrong:
        raise InputError(f"codec {name} has no {', '.join(wrong)}; hdac has")
    if name == "hdac" and args.reference_codec is not None and args.reference_qp is None:
        raise InputError("--reference-codec of hdac needs --reference-qp, else the base layer's intra picture is the reference")


def _decode(args: argparse.Namespace) -> None:
    _check_output(args.output, args.force)
    view = View(args.rotate or View().angles, args.translate or View().translation)
    of_mobile = bool(args.fine_tune or args.int8)
    if str(args.input) == "-":
        if not view.is_own or of_mobile:
            raise InputError("--rotate, --translate, --fine-tune and --int8 take a file, not a pipe")
        _decode_pipe(args.output, args.tolerant)
        return
    if args.tolerant and (not view.is_own or of_mobile):
        raise InputError("--rotate, --translate, --fine-tune and --int8 show whole streams, not what is left of damaged ones")
    if not view.is_own and of_mobile:
        raise InputError("--rotate and --translate are of face-vid2vid, --fine-tune and --int8 of the mobile family")
    if not view.is_own:
        clip = decode_view(args.input.read_bytes(), view)
    elif of_mobile:
        clip = decode_mobile(args.input.read_bytes(), args.fine_tune, args.int8)
    elif args.tolerant:
        with args.input.open("rb") as file:
            clip, damage = decode_tolerant(file)
        if damage:
            _say_damage(clip.n_frames, damage)
    else:
        clip = decode(args.input.read_bytes())
    write_clip(clip, args.output, force=args.force)
    print(args.output)


def _three(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers like 20,0,-5") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return x, y, z


def _decode_pipe(output: Path, tolerant: bool) -> None:
    """Standard input, frame by frame as it arrives, to a .y4m file or, as y4m, to standard output.

    tolerant: frames wait for the checksum behind them, and damage is said after the last one of them.
    """
    if str(output) != "-" and output.suffix.lower() != ".y4m":
        raise InputError(f"{output}: what comes through a pipe is written as .y4m, or as - to standard output")
    reader = Reader(sys.stdin.buffer)
    stream = reader.header.stream
    to_pipe = nullcontext(sys.stdout.buffer)  # not ours to close
    n_frames = 0
    with to_pipe if str(output) == "-" else output.open("wb") as file:
        try:
            for y, u, v in verified_frames(reader) if tolerant else frames(reader):
                picture = Clip(y[None], u[None], v[None], stream.fps, stream.colour)
                if n_frames == 0:
                    file.write(y4m_header(picture))
                file.write(y4m_frame(picture))
                file.flush()
                n_frames += 1
        except BitstreamError as damage:
            if not tolerant or n_frames == 0:
                raise
            _say_damage(n_frames, damage)


def _animate(args: argparse.Namespace) -> None:
    """Conference mode."""
    _check_output(args.output, args.force)
    from data.faces import HaarCascade
    from hdac.conference import Conference, fitted
    from hdac.nets.animation import PointNet
    from hdac.nets.landmarks import LandmarkNet
    from hdac.network import by_name

    avatar, call = fitted(read_clip(args.avatar, frames=1)), read_clip(args.call, frames=args.frames)
    detector = HaarCascade()
    for path, clip in ((args.avatar, avatar), (args.call, call)):
        if not len(detector.boxes(clip.rgb(slice(1))[0])):
            print(f"warning: no face found in {path}", file=sys.stderr)
    network, landmarks = by_name(args.network, PointNet), by_name(Mobile.landmark_network, LandmarkNet)
    if args.when_far is not None and not args.threshold:
        raise InputError("--when-far is of --threshold")
    conference = Conference(avatar, network, landmarks, args.threshold, args.when_far or "rest")
    pictures = list(tqdm(conference.call(call), total=call.n_frames, desc="animating", unit="frame"))
    y, u, v = (np.stack(planes) for planes in zip(*pictures, strict=True))
    write_clip(Clip(y, u, v, call.fps, avatar.colour, args.output.stem), args.output, force=args.force)
    held = f", {conference.held_back} of {call.n_frames} frames held back by the quality filter" if args.threshold else ""
    print(f"{args.output}: {avatar.width}x{avatar.height}, {call.n_frames} frames{held}")


def _say_damage(n_frames: int, damage: BitstreamError) -> None:
    print(f"{n_frames} frames in front of the damage: {damage}", file=sys.stderr)


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
    if header.standard in LAYERED_STANDARDS:
        said = _settings(Reader(io.BytesIO(stream)).header)
        if header.standard == "face-vid2vid":
            try:
                counts = deformations_sent(Reader(io.BytesIO(stream)))
                moving = [count for count in counts if count is not None]
                mean = f"{sum(moving) / max(1, len(moving)):.2f}"
                said["deformations"] = f"{mean} on average in {len(moving)} of {len(counts)} frames, in which something moves"
            except WeightsMismatch as error:
                said["deformations"] = f"not known: {error}"
        for name, value in said.items():
            print(f"  {name:15} {value}")


def _settings(header: LayeredHeader) -> dict[str, str]:
    """What the header of a layered stream says besides size and rate, for people."""
    system, box = header.stream.standard, header.face_box
    said = {}
    if header.has_base_layer:
        every = f", every {header.base_every} frames" if header.base_every > 1 else ""
        said["base layer"] = header.base_codec.upper() + every + ", half size" * header.base_half
        said["base QP"] = str(header.base_qp)
    shared = header.reference_codec == "base"
    reference = "the base layer's intra pictures" if shared else header.reference_codec.upper()
    said["reference"] = f"QP {header.reference_qp}, {reference}"
    if system != "hevc-stripped":
        how = "not sent" if not header.keypoints_sent else "sent with Jacobians" if header.jacobians else "sent"
        said["keypoints"] = "by the paper's coder" if header.paper_coder else f"step {header.keypoint_step}, {how}"
        if header.motion_coder != POINT_CODERS[0]:
            said["keypoints"] += f", {header.motion_coder} coder"
        said["best look"] = "yes" if header.best_look else "no"
        said["weights"] = header.weights_id.hex()
        if header.residual_id:
            said["residuals"] = f"by the weights {header.residual_id.hex()}"
            wish = "best look" if header.stream.standard == "dac" else "least error"
            said["residuals"] += f", what they have enhanced is animated for {wish}" * header.enhanced_apart
        said["face box"] = f"{box.width}x{box.height} at ({box.x}, {box.y})" if box else "none, the whole picture"
    interval = header.checksum_interval
    said["checksum"] = f"every {interval} units" if interval else "none"
    return said


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
    encoder.add_argument("--codec", default="hdac", help="codec name, see `hdac list`")
    encoder.add_argument("--qp", type=int, default=42, help=QP_HELP)
    encoder.add_argument("--kbps", type=float, help="find the settings that hit this rate within 5 %% (layered codecs)")
    encoder.add_argument("--best-look", action="store_true", help="dac, hdac: best look rather than least error")
    encoder.add_argument("--network", help="of codecs with networks: other weights, NAME.safetensors in $HDAC_WEIGHTS")
    encoder.add_argument("--residual", action="store_true", help="dac, hdac, face-vid2vid: residuals, where they pay")
    encoder.add_argument("--refresh", choices=Mobile.REFRESHES, help=REFRESH_HELP)
    encoder.add_argument("--keypoints", type=int, metavar="N", help="face-vid2vid: deformations sent; else what pays")
    encoder.add_argument("--motion-coder", choices=MOTION_CODER_CHOICES, default=CODERS[0], help=MOTION_CODER_HELP)
    encoder.add_argument("--fade", type=int, choices=FADES, help=FADE_HELP)
    encoder.add_argument("--sources", type=int, metavar="N", help="mobile family: up to N references at once")
    encoder.add_argument("--tau", type=float, help=f"of --refresh distance: largest distance of points; else {Mobile.tau:g}")
    far = "of --refresh distance: a new reference, a still face, or the motion before it, back and forth"
    encoder.add_argument("--when-far", choices=WHEN_FAR, help=far)
    encoder.add_argument("--chosen-from", choices=CHOSEN_FROM, help=CHOSEN_HELP)
    encoder.add_argument("--int8", action="store_true", help="mobile family: points found in 8-bit integers")
    encoder.add_argument("--step", type=int, help=f"mobile family: quantiser steps per unit of points; else {Mobile.step}")
    encoder.add_argument("--least-error", action="store_true", help="mobile family: least error rather than best look")
    encoder.add_argument("--base-codec", choices=BASE_CODECS, default="hevc", help="hdac: the base layer's codec")
    encoder.add_argument("--base-every", type=int, choices=BASE_STEPS, default=1, help="hdac: frames to a base picture")
    encoder.add_argument("--base-half", action="store_true", help="hdac: base pictures of half width and height")
    encoder.add_argument("--i-offset", type=int, metavar="N", help="hdac: intra pictures N QP finer, not the best by trial")
    encoder.add_argument("--send-keypoints", action="store_true", help="hdac: of the source; else found on the base layer")
    encoder.add_argument("--reference-qp", type=int, metavar="QP", help="hdac: references of their own, of this QP")
    encoder.add_argument("--reference-codec", choices=REFERENCE_CHOICES, help="codec of references; else BPG")
    encoder.add_argument("--regime", choices=REGIMES, default=REGIMES[0], help="one intra picture, or one every 32")
    encoder.add_argument("--frames", type=int, metavar="N", help="only the first N frames")
    encoder.add_argument("-f", "--force", action="store_true", help="overwrite the output")
    encoder.set_defaults(command=_encode)

    decoder = commands.add_parser("decode", help="stream to clip")
    decoder.add_argument("input", type=Path, help="the stream; - reads a layered one from standard input as it arrives")
    decoder.add_argument("--tolerant", action="store_true", help=TOLERANT_HELP)
    decoder.add_argument("--fine-tune", type=int, default=0, metavar="STEPS", help="mobile family: fit the network to the call")
    decoder.add_argument("--int8", action="store_true", help="mobile family: in 8-bit integers (hdac train quantise)")
    decoder.add_argument("--rotate", type=_three, metavar="YAW,PITCH,ROLL", help=ROTATE_HELP)
    decoder.add_argument("--translate", type=_three, metavar="X,Y,Z", help="face-vid2vid: moved; the picture is 2 wide")
    decoder.add_argument("output", type=Path, help=".y4m, .yuv, .mkv (FFV1), .mp4 (lossless H.264), or folder for PNGs")
    decoder.add_argument("-f", "--force", action="store_true", help="overwrite the output")
    decoder.set_defaults(command=_decode)

    animator = commands.add_parser("animate", help="a picture that moves as the face in a call does (conference mode)")
    animator.add_argument("avatar", type=Path, help="picture of a person; of a video the first frame")
    animator.add_argument("call", type=Path, help="video of whoever moves it")
    animator.add_argument("output", type=Path, help="as of decode")
    animator.add_argument("--network", default="motion-net-10u+20l", help="weights of the mobile family, else %(default)s")
    animator.add_argument("--threshold", type=float, default=0.0, help=THRESHOLD_HELP)
    animator.add_argument("--when-far", choices=("rest", "replay"), help=AVATAR_FAR_HELP)
    animator.add_argument("--frames", type=int, metavar="N", help="only the first N frames of the call")
    animator.add_argument("-f", "--force", action="store_true", help="overwrite the output")
    animator.set_defaults(command=_animate)

    commands.add_parser("train", help="train the networks on your own clips: hdac train --help", add_help=False)

    info = commands.add_parser("info", help="header, bit ledger and, of layered codecs, settings of a stream")
    info.add_argument("input", type=Path, help="the stream")
    info.set_defaults(command=_info)
    return parser


if __name__ == "__main__":
    sys.exit(main())
