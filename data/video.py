"""Video files and pictures through PyAV: samples as the decoder left them, exact frame rates, no hidden damage."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from data.clip import Clip, Colour
from data.errors import InputError
from data.frames import STANDARD_FPS, Frames, Samples, Window, default_colour, standard_rate, to_420_8bit

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

PICTURE_FPS = Fraction(25)
"""Frame rate of a folder of pictures unless another is given."""

ELEMENTARY_STREAMS = {"h264", "hevc", "vvc", "obu", "m4v", "mpegvideo", "mjpeg"}  # libavformat demuxers without times

MATRIX_TAGS = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}  # ITU-T H.273 MatrixCoefficients
MATRIX_UNSPECIFIED = 2
MATRIX_RGB = 0
FULL_RANGE_TAG = 2  # AVCOL_RANGE_JPEG
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273 TransferCharacteristics


def read_video(path: Path, fps: Fraction | None, window: Window) -> Clip:
    """A video file; `fps` names the rate of an elementary stream, and asks others for a resampling."""
    try:
        with av.open(f"file:{path}") as container:  # the prefix keeps libavformat from seeing "a:b.mp4" as a protocol
            stream = _video_stream(container, path)
            if container.format.name in ELEMENTARY_STREAMS:
                rate = fps or stream.codec_context.framerate
                if not rate:
                    raise InputError(f"{path}: this elementary stream does not say its frame rate; give fps")
                decoded = _decode(container, stream, window, path)
                return decoded.frames.clip(Fraction(rate), decoded.colour)
            # A resampled clip is cut after resampling: its frame numbers are the new ones.
            decoded = _decode(container, stream, Window(0, None) if fps else window, path)
            if fps or window.count is None:
                _check_complete(stream, decoded, path)
            if fps:
                return _resample(decoded, stream.time_base, fps, window, path)
            return decoded.frames.clip(_constant_rate(stream, decoded, path), decoded.colour)
    except av.FFmpegError as error:
        raise InputError(f"{path}: cannot be decoded: {error}") from error


@dataclass
class _Decoded:
    """What came out of a video file."""

    frames: Frames
    siting: str | None = None
    """Chroma siting where the file tells it to us."""
    colour: Colour = Colour()
    times: list[int | None] = field(default_factory=list)
    """Of every decoded frame, also those before the window, in ticks of the stream."""
    discarded: int = 0
    """Packets that an edit list hides."""


def _video_stream(container: Any, path: Path) -> Any:
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: has no video stream")
    return streams[0]


def _own_note(container: Any) -> dict[str, str]:
    """What `write_clip` noted in the file's comment: exact fps and chroma siting."""
    comment = {key.lower(): value for key, value in container.metadata.items()}.get("comment", "")
    match = re.fullmatch(r"hdac fps=(?P<fps>[1-9]\d*/[1-9]\d*) siting=(?P<siting>left|center|topleft)", comment)
    return match.groupdict() if match else {}


def _decode(container: Any, stream: Any, window: Window, path: Path) -> _Decoded:
    """The frames of the window in display order; stops as soon as it has them."""
    available = (stream.frames or _count_packets(path, stream.index)) - window.start
    capacity = available if window.count is None else min(window.count, available)
    context = stream.codec_context
    # A decoder that hides errors would make another source out of a damaged file, and nobody would know. Some raise
    # when told to, some only log: one thread, so that their messages can be caught.
    context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.unaligned  # crop exactly as the stream says, not to whole 32 bytes
    decoded = _Decoded(Frames(capacity, path), siting=_own_note(container).get("siting"))
    try:
        with _libav_errors() as messages:
            for frame in _frames(container, stream, decoded):
                number = len(decoded.times)
                if messages or frame.is_corrupt:
                    raise InputError(f"{path}: is damaged at frame {number}: {_said(messages)}")
                decoded.times.append(frame.dts if frame.pts is None else frame.pts)
                if number >= window.start:
                    _take(frame, number, context.name, decoded, path)
                if decoded.frames.count == window.count:
                    return decoded
            if messages:
                raise InputError(f"{path}: is damaged after frame {len(decoded.times)}: {_said(messages)}")
    except av.FFmpegError as error:
        raise InputError(f"{path}: is damaged after frame {len(decoded.times)}: {error}") from error
    if not decoded.frames.count:
        raise InputError(f"{path}: holds {len(decoded.times)} frames, frame {window.start} was asked for")
    return decoded


def _frames(container: Any, stream: Any, decoded: _Decoded) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        decoded.discarded += bool(packet.is_discard)
        yield from packet.decode()


@contextlib.contextmanager
def _libav_errors() -> Iterator[list[tuple[int, str, str]]]:
    """What libav logs as an error in this thread: (level, who, message)."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(level)


def _said(messages: list[tuple[int, str, str]]) -> str:
    return f"{messages[0][1]} says {messages[0][2].strip()!r}" if messages else "marked as corrupt"


def _count_packets(path: Path, index: int) -> int:
    with av.open(f"file:{path}") as container:
        return sum(1 for packet in container.demux(container.streams[index]) if packet.size)


def _take(frame: av.VideoFrame, number: int, codec: str, decoded: _Decoded, path: Path) -> None:
    """Puts one decoded picture, upright, to the others; the first one sets the colour description."""
    if frame.interlaced_frame:
        raise InputError(f"{path}: is interlaced; deinterlace it first, for example ffmpeg -vf bwdif")
    if frame.color_trc in HDR_TRANSFERS:
        raise InputError(f"{path}: is {HDR_TRANSFERS[frame.color_trc]} HDR video; tone-map it to 8-bit SDR first")
    picture = _samples(frame, path)
    # PyAV's side data and its frame keep each other alive until the garbage collector comes by, hundreds of megabytes
    # later: it is looked at where the clip begins and where the frame is known to be turned.
    turns = _quarter_turns(frame, path) if decoded.frames.count == 0 or frame.rotation else 0
    height = frame.width if turns % 2 else frame.height
    colour = _colour_of(frame, codec, picture, height, decoded.siting, path)
    y, u, v = to_420_8bit(picture.planes, picture.bits, colour, picture.rgb)
    if turns:
        if frame.width % 2 or frame.height % 2:
            raise InputError(
                f"{path}: {frame.width}x{frame.height} with rotation metadata: 4:2:0 of odd size cannot be turned"
            )
        y, u, v = (np.rot90(plane, turns) for plane in (y, u, v))
        # Turned planes keep every sample; "center" is then the nearest description of where left-sited chroma lies.
        colour = Colour(colour.matrix, colour.range, "center")
    if decoded.frames.count == 0:
        decoded.colour = colour
    elif colour != decoded.colour:
        raise InputError(f"{path}: colour description changes from {decoded.colour} to {colour} at frame {number}")
    decoded.frames.append((y, u, v))


def _quarter_turns(frame: av.VideoFrame, path: Path) -> int:
    """Counter-clockwise quarter turns that the display matrix of a frame asks for."""
    side_data: Any = frame.side_data  # PyAV's stubs have it as a mapping; it is a sequence
    matrices = [entry for entry in side_data if entry.type == SideDataType.DISPLAYMATRIX]
    if not matrices:
        return 0
    a, b, _, c, d = np.frombuffer(bytes(matrices[0]), np.int32)[:5].tolist()
    turns = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 1, (-1, 0, 0, -1): 2, (0, 1, -1, 0): 3}
    unit = tuple(x / 65536 for x in (a, b, c, d))  # 16.16 fixed point
    if unit not in turns:
        raise InputError(f"{path}: display matrix {unit} is no turn by 0, 90, 180 or 270 degrees; re-encode it upright")
    return turns[unit]


@dataclass(frozen=True)
class _Picture:
    planes: tuple[Samples, ...]
    """(Y,), (Y, Cb, Cr) or (R, G, B)."""
    bits: int
    rgb: bool
    subsampled: bool = False


_PACKED_RGB = {  # where R, G, B and alpha lie in a pixel
    "rgb24": "rgb", "bgr24": "bgr", "rgb0": "rgb0", "bgr0": "bgr0", "0rgb": "0rgb", "0bgr": "0bgr",
    "rgba": "rgba", "bgra": "bgra", "argb": "argb", "abgr": "abgr",
    "rgb48le": "rgb", "rgb48be": "rgb", "rgba64le": "rgba", "rgba64be": "rgba",
}  # fmt: skip


def _samples(frame: av.VideoFrame, path: Path) -> _Picture:
    """Views of the samples of a decoded frame, valid as long as the frame is."""
    name = frame.format.name
    dtype = ">u2" if name.endswith("be") else "<u2"
    if name == "pal8":
        indices, palette = frame.to_ndarray()
        argb = palette[indices]
        _check_opaque(argb[..., 0], 255, path)
        return _Picture(tuple(np.moveaxis(argb[..., 1:], -1, 0)), 8, rgb=True)
    if order := _PACKED_RGB.get(name):
        bits = 16 if "48" in name or "64" in name else 8
        flat = _rows(frame, 0, "u1" if bits == 8 else dtype, frame.width * len(order), path)
        pixels = flat.reshape(frame.height, frame.width, len(order))
        if "a" in order:
            _check_opaque(pixels[..., order.index("a")], (1 << bits) - 1, path)
        return _Picture(tuple(pixels[..., order.index(c)] for c in "rgb"), bits, rgb=True)
    match = re.fullmatch(r"(?:yuv(j|a)?4(20|22|44)p|gray|(ya)8?|gbr(a)?p)(9|10|12|14|16)?(?:le|be)?", name)
    if not match or match[3]:
        raise InputError(
            f"{path}: sample format {name} is not supported; convert it first, for example with "
            "ffmpeg -i IN -pix_fmt yuv444p OUT.y4m"
        )
    bits = int(match[5] or 8)
    planes = [_rows(frame, i, "u1" if bits == 8 else dtype, plane.width, path) for i, plane in enumerate(frame.planes)]
    if len(planes) == 4:
        _check_opaque(planes.pop(), (1 << bits) - 1, path)
    if name.startswith("gbr"):
        return _Picture((planes[2], planes[0], planes[1]), bits, rgb=True)
    return _Picture(tuple(planes), bits, rgb=False, subsampled=match[2] == "20")


def _rows(frame: av.VideoFrame, index: int, dtype: str, width: int, path: Path) -> Samples:
    plane = frame.planes[index]
    item = np.dtype(dtype).itemsize
    if plane.line_size < width * item:
        raise InputError(f"{path}: stores its pictures bottom-up, which is not supported; convert it to .mkv first")
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : width * item].view(dtype)


def _check_opaque(alpha: Samples, opaque: int, path: Path) -> None:
    if np.any(alpha != opaque):
        raise InputError(f"{path}: has transparent pixels; put it on a background first")


def _colour_of(
    frame: av.VideoFrame, codec: str, picture: _Picture, height: int, siting: str | None, path: Path
) -> Colour:
    if picture.rgb:
        return default_colour(height)
    tag = int(frame.colorspace)
    full = int(frame.color_range) == FULL_RANGE_TAG or frame.format.name.startswith("yuvj")
    siting = siting or ("center" if codec == "mjpeg" and picture.subsampled else "left")  # JFIF 1.02: centred
    colour = default_colour(height, siting, "full" if full else "limited")
    if tag in MATRIX_TAGS:
        return Colour(MATRIX_TAGS[tag], colour.range, siting)
    if tag != MATRIX_UNSPECIFIED and not (tag == MATRIX_RGB and len(picture.planes) == 1):  # gray PNGs are tagged RGB
        raise InputError(f"{path}: matrix coefficients {tag} (ITU-T H.273) are not BT.601, BT.709 or BT.2020 (ncl)")
    return colour


def _check_complete(stream: Any, decoded: _Decoded, path: Path) -> None:
    """Raises InputError where the file's header counts more frames, or more time, than could be decoded."""
    count = len(decoded.times)
    missing = stream.frames - decoded.discarded - count
    if missing > 0:
        raise InputError(f"{path}: only {count} of {count + missing} frames can be decoded; the file is damaged")
    clock = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))  # Matroska
    last = decoded.times[-1]
    if clock and last is not None and stream.average_rate:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])
        missing = int((seconds - last * stream.time_base) * stream.average_rate) - 1
        if missing > 1:  # one more frame of slack: muxers differ in whether the last frame's duration counts
            raise InputError(f"{path}: ends about {missing} frames early; the file is damaged")


def _constant_rate(stream: Any, decoded: _Decoded, path: Path) -> Fraction:
    """The frame rate at which all frame times are regular; raises InputError where there is none.

    Times are integers of a time base that may be coarse (1 ms in Matroska), so a rate is accepted where each time is
    within one tick of it, and rates from headers and usual rates are tried before the measured one: 33 33 34 ms is
    30 fps, and 1001 1001 1001 of 1/30000 s is exactly 30000/1001.
    """
    declared = [Fraction(r) for r in (stream.average_rate, stream.base_rate) if r]
    times = [t for t in decoded.times if t is not None]
    note = _own_note(stream.container)
    own = [Fraction(note["fps"])] if "fps" in note else []
    if len(times) < len(decoded.times) or len(times) == 1:
        if not own + declared:
            raise InputError(f"{path}: does not say its frame rate; give fps")
        return (own + [standard_rate(r) for r in declared])[0]
    ticks = np.array(times, np.int64) - times[0]
    steps = np.diff(ticks)
    measured = []
    if np.all(steps == steps[0]) and steps[0] > 0:
        measured = [1 / (int(steps[0]) * stream.time_base)]
    sure = [r for r in measured if r in STANDARD_FPS or r in declared]
    for rate in own + sure + [f(r) for r in declared for f in (standard_rate, Fraction)] + measured:
        step = 1 / (rate * stream.time_base)
        if np.all(np.abs(ticks - np.arange(len(ticks)) * float(step)) <= 1):
            return rate
    unit = 1000 * stream.time_base
    raise InputError(
        f"{path}: variable frame rate (or missing frames): {float(steps.min() * unit):.1f} to "
        f"{float(steps.max() * unit):.1f} ms between frames; give fps to resample it, or convert it with ffmpeg -r"
    )


def _resample(decoded: _Decoded, time_base: Fraction, fps: Fraction, window: Window, path: Path) -> Clip:
    """At each output interval, the frame on show in its middle; the last frame stays for the mean frame duration."""
    if None in decoded.times:
        raise InputError(f"{path}: has frames without times and cannot be resampled")
    seconds = np.array(decoded.times, np.float64) * float(time_base)
    seconds -= seconds[0]
    if np.any(np.diff(seconds) <= 0):
        raise InputError(f"{path}: frame times do not increase")
    end = seconds[-1] * (1 + 1 / max(1, len(seconds) - 1)) if len(seconds) > 1 else 1 / float(fps)
    middles = (np.arange(max(1, round(end * float(fps)))) + 0.5) / float(fps)
    shown = np.searchsorted(seconds, middles, side="right") - 1
    count = window.size(len(shown), path)
    shown = shown[window.start : window.start + count]
    y, u, v = (plane[shown] for plane in decoded.frames.planes)
    return Clip(y, u, v, fps, decoded.colour)


# -- pictures ------------------------------------------------------------------------------------------------------


def read_pictures(path: Path, fps: Fraction | None, window: Window) -> Clip:
    """A folder of pictures in natural order (2 before 10), or one picture."""
    files = [path]
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if is_picture(p)), key=_natural)
        if not files:
            raise InputError(f"{path}: folder without pictures ({' '.join(PICTURE_SUFFIXES)})")
    if fps is None:
        log.warning("%s: pictures carry no frame rate; taking %s fps", path, PICTURE_FPS)
    count = window.size(len(files), path)
    gathered = _Decoded(Frames(count, path))
    for file in files[window.start : window.start + count]:
        try:
            with file.open("rb") as opened, av.open(opened) as container:  # by content: names may hold "%d"
                stream = _video_stream(container, file)
                frame = next(container.decode(stream))
                _take(frame, gathered.frames.count, stream.codec_context.name, gathered, file)
        except (av.FFmpegError, StopIteration) as error:
            raise InputError(f"{file}: not a readable picture: {error}") from error
    return gathered.frames.clip(fps or PICTURE_FPS, gathered.colour)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def write_pngs(clip: Clip, path: Path) -> None:
    path.mkdir()
    for i in range(clip.n_frames):
        with av.open(str(path / f"{i:05d}.png"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=clip.fps)
            stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "rgb24"
            frame = av.VideoFrame.from_ndarray(clip.rgb(slice(i, i + 1))[0], "rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())


# -- lossless video files ------------------------------------------------------------------------------------------


def write_ffv1(clip: Clip, path: Path) -> None:
    _write_lossless(clip, path, "ffv1", {"level": "3", "slicecrc": "1", "g": "1"})


def write_x264(clip: Clip, path: Path) -> None:
    if clip.width % 2 or clip.height % 2:
        raise InputError(f"{path}: x264 does not code 4:2:0 of odd size {clip.width}x{clip.height}; write .mkv or .y4m")
    _write_lossless(clip, path, "libx264", {"preset": "medium", "qp": "0", "bf": "0"})


def _write_lossless(clip: Clip, path: Path, codec: str, options: dict[str, str]) -> None:
    colour = clip.colour
    tag = next(t for t, matrix in sorted(MATRIX_TAGS.items(), reverse=True) if matrix == colour.matrix)
    # bitexact: no random Matroska identifiers, so that the same clip gives the same file
    with av.open(f"file:{path}", "w", options={"fflags": "+bitexact"}) as container:
        # Matroska rounds times to 1 ms and PyAV cannot read the siting tag: `read_clip` takes both from here.
        container.metadata["comment"] = f"hdac fps={clip.fps.numerator}/{clip.fps.denominator} siting={colour.siting}"
        options = {**options, "chroma_sample_location": colour.siting}
        stream: Any = container.add_stream(codec, rate=clip.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = 1 / clip.fps
        stream.codec_context.colorspace = tag
        stream.codec_context.color_range = FULL_RANGE_TAG if colour.range == "full" else 1
        for i in range(clip.n_frames):
            frame = av.VideoFrame(clip.width, clip.height, "yuv420p")
            for plane, samples in zip(frame.planes, (clip.y[i], clip.u[i], clip.v[i]), strict=True):
                padded = np.zeros((plane.height, plane.line_size), np.uint8)
                padded[:, : plane.width] = samples
                plane.update(padded.tobytes())
            frame.pts, frame.time_base = i, 1 / clip.fps
            frame.colorspace, frame.color_range = tag, stream.codec_context.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
