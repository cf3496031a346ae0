"""Still-picture codecs behind one interface: BPG (x265, bpgenc), VVC still, JPEG, WebP, AVIF, learned ones (CompressAI).

A setting codes, and any setting of a codec decodes what another one coded; `baselines.still_video` makes clips of them.

A stream is one byte of colour and frame rate, then the codec's own format:

    size    field
    1       bits 0-1 matrix (0 BT.601, 1 BT.709, 2 BT.2020), bit 2 full range, bits 3-4 siting (0 left, 1 centre, 2 top
            left), bits 5-7 frame rate: 1..7 one of FRAME_RATES, 0 written out
    (ue7 x2 numerator and denominator, where the frame rate is written out)
    rest    the codec's format; what a codec's decoder can restore is left out of it

BPG, VVC still, JPEG and WebP code the clip's 4:2:0 planes, without a conversion on the way in or out. AVIF (Pillow
takes only R'G'B') and the learned codecs (trained on R'G'B') go through `Clip.rgb` and `Clip.from_rgb`, which alone
costs some quality in chroma; bpgenc, which takes PNG, goes through `Clip.rgb` on the way in.
"""

from __future__ import annotations

import binascii
import fnmatch
import functools
import importlib.metadata
import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import av
import numpy as np
import PIL
from PIL import Image, features

from baselines import bpg, vvc_still
from baselines.bits import read_ue7, write_ue7
from baselines.bpg import Picture, check_size, decode_bpg, encode_bpg
from baselines.conventional import tool_versions
from baselines.libav import missing_pyav, planes_8bit
from baselines.programs import ENCODE_TIMEOUT_S, missing_ffmpeg, run_program
from baselines.vvc_still import decode_vvc_still, encode_vvc_still
from data.clip import Clip, Colour, Plane
from data.errors import (
    BitstreamError,
    CodecUnavailable,
    ExternalCodecError,
    InputError,
    TruncatedBitstream,
    WeightsMismatch,
)
from data.files import file_sha256

if TYPE_CHECKING:  # PyTorch takes a second to import, and only the learned codecs need it
    import torch
    from typing_extensions import Self

CODE_VERSION = 1
"""Version of the code around all still codecs; raise it with every change that can change a stream or a decoded picture."""

FRAME_RATES = {  # number in the stream -> frames per second; never renumber
    1: Fraction(24),
    2: Fraction(25),
    3: Fraction(30000, 1001),
    4: Fraction(30),
    5: Fraction(50),
    6: Fraction(60000, 1001),
    7: Fraction(60),
}
_MATRICES = ("bt601", "bt709", "bt2020")
_SITINGS = ("left", "center", "topleft")


class StillCodec(Protocol):
    """A still codec with its settings in the constructor and a truthful `repr`, without state between calls."""

    name: ClassVar[str]
    standard: ClassVar[str]
    """What it writes and reads, one of `baselines.stream.STILL_STANDARDS`."""

    @property
    def label(self) -> str:
        """Setting in a few words, for tables and legends: "WebP m6 quality 40"."""

    @property
    def version(self) -> str:
        """Version of the tool and of our own code around it."""

    @property
    def quantiser(self) -> int:
        """The number that moves the codec along its curve, higher is coarser: QP, or the best quality minus the quality."""

    def with_quantiser(self, quantiser: int) -> StillCodec:
        """The same setting at another quantiser; raises InputError where there is no such step."""

    def encode(self, picture: Clip) -> bytes:
        """The whole stream of a clip of one frame; its length is the rate.

        Raises InputError for a clip that cannot be coded, CodecUnavailable where a tool or weights are missing.
        """

    def decode(self, stream: bytes) -> Clip:
        """A clip of one frame, from the bytes alone, whatever the setting that coded it.

        Raises BitstreamError for a stream that is damaged.
        """

    def command(self, picture: Clip) -> str:
        """The encoder's command line, or for a library the equivalent one."""

    def missing(self) -> str | None:
        """Why it cannot run on this machine, or None where it can."""


# -- what all of them share ------------------------------------------------------------------------------------------


def pack_head(fps: Fraction, colour: Colour) -> bytes:
    """The first byte of a still stream, and the frame rate where it is not one of FRAME_RATES.

    Raises InputError for a frame rate whose numerator or denominator has more than 32 bits.
    """
    if max(fps.numerator, fps.denominator) >> 32:
        raise InputError(f"frame rate {fps} does not fit two numbers of 32 bits")
    rate = next((number for number, known in FRAME_RATES.items() if known == fps), 0)
    matrix, siting = _MATRICES.index(colour.matrix), _SITINGS.index(colour.siting)
    head = bytes((matrix | (colour.range == "full") << 2 | siting << 3 | rate << 5,))
    return head if rate else head + write_ue7(fps.numerator) + write_ue7(fps.denominator)


def unpack_head(stream: bytes) -> tuple[Fraction, Colour, bytes]:
    """(frame rate, colour, rest of the stream). Raises BitstreamError for a head that `pack_head` cannot write."""
    if not stream:
        raise TruncatedBitstream("a still stream has more than 0 bytes")
    head = stream[0]
    if head & 3 >= len(_MATRICES) or head >> 3 & 3 >= len(_SITINGS):
        raise BitstreamError(f"unknown colour description 0x{head & 31:02x}")
    colour = Colour(_MATRICES[head & 3], "full" if head & 4 else "limited", _SITINGS[head >> 3 & 3])
    if head >> 5:
        return FRAME_RATES[head >> 5], colour, stream[1:]
    numerator, position = read_ue7(stream, 1)
    denominator, position = read_ue7(stream, position)
    if not numerator or not denominator:
        raise BitstreamError(f"frame rate {numerator}/{denominator}")
    return Fraction(numerator, denominator), colour, stream[position:]


def _one_frame(picture: Clip) -> None:
    if picture.n_frames != 1:
        raise InputError(f"a still codec codes one frame, got {picture.n_frames}")
    check_size(picture.width, picture.height)


def _clip(planes: Sequence[Plane], fps: Fraction, colour: Colour) -> Clip:
    y, u, v = (plane[None] for plane in planes)
    return Clip(y, u, v, fps, colour)


def _check_setting(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} {value} is not in {low}..{high}")


class _QpDriven:
    """A still codec whose number is a QP."""

    qp: int

    @property
    def quantiser(self) -> int:
        return self.qp

    def with_quantiser(self, quantiser: int) -> Self:
        return replace(self, qp=quantiser)  # type: ignore[type-var]  # the codecs are dataclasses


class _QualityDriven:
    """A still codec whose number grows with quality, turned around so that higher is coarser."""

    quality: int

    def _qualities(self) -> tuple[int, int]:
        """The lowest and the best quality."""
        return 0, 100

    @property
    def quantiser(self) -> int:
        return self._qualities()[1] - self.quality

    def with_quantiser(self, quantiser: int) -> Self:
        lowest, best = self._qualities()
        _check_setting("quantiser", quantiser, 0, best - lowest)
        return replace(self, quality=best - quantiser)  # type: ignore[type-var]  # the codecs are dataclasses


def _pyav() -> str:
    return f"PyAV {av.__version__} (FFmpeg {av.ffmpeg_version_info})"


# -- intra pictures of video standards -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bpg(_QpDriven):
    """BPG: one x265 intra picture in a header of about 24 bytes. `baselines.bpg` reads and writes the files."""

    qp: int
    """0 to 51."""
    preset: str = "veryslow"

    name: ClassVar[str] = "bpg"
    standard: ClassVar[str] = "bpg"

    def __post_init__(self) -> None:
        _check_setting("qp", self.qp, 0, 51)

    @property
    def label(self) -> str:
        return f"BPG x265 {self.preset} QP {self.qp}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {tool_versions()['x265']}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        colour = _bpg_colour(picture.colour)
        coded = encode_bpg(Picture((picture.y[0], picture.u[0], picture.v[0]), colour=colour), self.qp, self.preset)
        return pack_head(picture.fps, picture.colour) + coded[len(bpg.MAGIC) :]

    def decode(self, stream: bytes) -> Clip:
        return _decode_bpg_still(stream)

    def command(self, picture: Clip) -> str:
        return (
            f"ffmpeg -f rawvideo -pix_fmt yuv420p -s {picture.width}x{picture.height} -i picture.yuv -c:v libx265 "
            f"-threads 1 -preset {self.preset} -x265-params {bpg.x265_params(self.qp)} -f hevc still"
        )

    def missing(self) -> str | None:
        return missing_pyav("libx265")()


def _bpg_colour(colour: Colour) -> Colour:
    """The colour as BPG can say it: it has no name for the top left siting; the head byte keeps the true one."""
    return replace(colour, siting="left") if colour.siting == "topleft" else colour


def _decode_bpg_still(stream: bytes) -> Clip:
    fps, colour, rest = unpack_head(stream)
    picture = decode_bpg(bpg.MAGIC + rest)
    if picture.chroma != "420" or picture.bit_depth != 8 or picture.colour_space != "ycbcr":
        raise BitstreamError(f"expected an 8-bit 4:2:0 picture, the stream holds {picture.format}")
    return _clip([plane.astype(np.uint8, copy=False) for plane in picture.planes], fps, colour)


@dataclass(frozen=True)
class BpgEnc(_QpDriven):
    """BPG by the reference program, bpgenc, from the PATH; our own decoder reads its files.

    It takes R'G'B' pictures only, and makes 4:2:0 of them by its own filter, for the matrix, range and siting asked for.
    """

    qp: int
    """0 to 51, bpgenc's -q; its x265 codes the picture 3 finer, its other encoder, jctvc, at that QP."""
    level: int = 9
    """Effort, 1 to 9."""

    name: ClassVar[str] = "bpgenc"
    standard: ClassVar[str] = "bpg"

    def __post_init__(self) -> None:
        _check_setting("qp", self.qp, 0, 51)
        _check_setting("level", self.level, 1, 9)

    @property
    def label(self) -> str:
        return f"bpgenc m{self.level} QP {self.qp}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {find_bpgenc()[1]}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        as_coded = replace(picture, colour=_bpg_colour(picture.colour))  # planes come back at the sites they came from
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "picture.png"), Path(folder, "still.bpg")
            Image.fromarray(as_coded.rgb()[0]).save(source, compress_level=1)
            command = self.arguments(as_coded.colour, str(source), str(target))
            done = run_program([find_bpgenc()[0], *command], timeout_s=ENCODE_TIMEOUT_S, folder=Path(folder))
            coded = target.read_bytes() if target.is_file() else b""
        if not coded.startswith(bpg.MAGIC):
            raise ExternalCodecError(["bpgenc", *command], 0, (done.stderr or done.stdout).decode(errors="replace"))
        return pack_head(picture.fps, picture.colour) + coded[len(bpg.MAGIC) :]

    def arguments(self, colour: Colour, source: str, target: str) -> list[str]:
        """The command line behind the program's name."""
        return [
            *("-q", str(self.qp), "-m", str(self.level), "-b", "8"),
            *("-f", "420" if colour.siting == "center" else "420_video"),
            *("-c", {"bt601": "ycbcr", "bt709": "ycbcr_bt709", "bt2020": "ycbcr_bt2020"}[colour.matrix]),
            *(("-limitedrange",) if colour.range == "limited" else ()),
            *("-o", target, source),
        ]

    def decode(self, stream: bytes) -> Clip:
        return _decode_bpg_still(stream)

    def command(self, picture: Clip) -> str:
        return " ".join(["bpgenc", *self.arguments(_bpg_colour(picture.colour), "picture.png", "still.bpg")])

    def missing(self) -> str | None:
        try:
            find_bpgenc()
        except CodecUnavailable as error:
            return str(error)
        return None


@functools.cache
def find_bpgenc() -> tuple[str, str]:
    """(path, version and default encoder) of the bpgenc on PATH; raises CodecUnavailable where there is none."""
    found = shutil.which("bpgenc")
    if found is None:
        raise CodecUnavailable("no bpgenc on PATH")
    path = os.path.abspath(found)  # it runs in a folder of its own
    try:
        done = subprocess.run([path, "-h"], capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CodecUnavailable(f"{path} does not run: {error}") from error
    help_text = done.stdout.decode(errors="replace")
    banner = re.search(r"^BPG Image Encoder version \S+", help_text, re.MULTILINE)
    if banner is None:
        raise CodecUnavailable(f"{path} is not the encoder of BPG: its help has no version")
    encoder = re.search(r"HEVC encoder \(.*default = (\w+)\)", help_text)  # x265 or jctvc, as it was built
    return path, banner.group() + (f" {encoder.group(1)}" if encoder else "")


@dataclass(frozen=True)
class VvcStill(_QpDriven):
    """VVC still: one libvvenc intra picture in a header of about 6 bytes, see `baselines.vvc_still`."""

    qp: int
    """0 to 63."""
    preset: str = "slow"

    name: ClassVar[str] = "vvc-still"
    standard: ClassVar[str] = "vvc-still"

    def __post_init__(self) -> None:
        _check_setting("qp", self.qp, 0, 63)

    @property
    def label(self) -> str:
        return f"VVC still vvenc {self.preset} QP {self.qp}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {tool_versions()['vvenc']}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        return pack_head(picture.fps, picture.colour) + encode_vvc_still(picture, self.qp, self.preset)

    def decode(self, stream: bytes) -> Clip:
        fps, colour, rest = unpack_head(stream)
        return _clip(decode_vvc_still(rest), fps, colour)

    def command(self, picture: Clip) -> str:
        width, height = (
            max(-(-side // vvc_still.ALIGNMENT) * vvc_still.ALIGNMENT, vvc_still.MIN_CODED)
            for side in (picture.width, picture.height)
        )
        sink = vvc_still.vvenc_command(width, height, self.qp, self.preset, "still.vvc")
        return " ".join(["ffmpeg", *sink.get_args()])

    def missing(self) -> str | None:
        return missing_ffmpeg("libvvenc")()


# -- JPEG, WebP, AVIF ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Jpeg(_QualityDriven):
    """Baseline JPEG by libjpeg-turbo with optimised Huffman tables; SOI and the JFIF segment are not sent.

    Pillow hands libjpeg full-size chroma, which libjpeg averages over 2x2 pixels: with every sample repeated in both
    directions the averages are the samples themselves. FFmpeg decodes, because it gives the planes as coded.
    """

    quality: int
    """1 to 95, the scale of libjpeg."""

    name: ClassVar[str] = "jpeg"
    standard: ClassVar[str] = "jpeg"

    def __post_init__(self) -> None:
        _check_setting("quality", self.quality, *self._qualities())

    def _qualities(self) -> tuple[int, int]:
        return 1, 95

    @property
    def label(self) -> str:
        return f"JPEG quality {self.quality}"

    @property
    def version(self) -> str:
        libjpeg = f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
        return f"{CODE_VERSION} {libjpeg} in Pillow {PIL.__version__}, {_pyav()}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        h, w = picture.height, picture.width
        u, v = (plane[0].repeat(2, axis=0).repeat(2, axis=1)[:h, :w] for plane in (picture.u, picture.v))
        image = Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(p)) for p in (picture.y[0], u, v)])
        file = io.BytesIO()
        image.save(file, "JPEG", quality=self.quality, subsampling="4:2:0", optimize=True)
        jpeg = file.getvalue()
        if not jpeg.startswith(_JFIF_START):
            raise ExternalCodecError(["libjpeg"], 0, f"unexpected start of a JPEG file: {jpeg[:20].hex()}")
        return pack_head(picture.fps, picture.colour) + jpeg[len(_JFIF_START) :]

    def decode(self, stream: bytes) -> Clip:
        fps, colour, rest = unpack_head(stream)
        _check_jpeg(rest)
        return _clip(_decode_with_pyav("mjpeg", _JFIF_START + rest), fps, colour)

    def command(self, picture: Clip) -> str:
        return f"cjpeg -quality {self.quality} -baseline -optimize -sample 2x2 -outfile still.jpg picture.ppm"

    def missing(self) -> str | None:
        return None if features.check("jpg") else "this Pillow was built without JPEG"


_JFIF_START = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")  # SOI, APP0: JFIF 1.1, square pixels


_JPEG_SEGMENTS = tuple(bytes((0xFF, kind)) for kind in (0xDB, 0xC0, 0xC4, 0xDA))  # DQT, SOF0, DHT, SOS


def _check_jpeg(data: bytes) -> None:
    """Walks over the segments of a JPEG: the picture is small enough, and the file ends as it should."""
    position = 0
    while position + 4 <= len(data):
        marker, length = data[position : position + 2], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker not in _JPEG_SEGMENTS or length < 2:
            raise BitstreamError(f"expected a segment of a baseline JPEG at byte {position}, found {marker.hex()}")
        if marker == b"\xff\xc0":
            height, width = struct.unpack(">HH", data[position + 5 : position + 9].ljust(4, b"\0"))
            _check_decoded_size(width, height)
        position += 2 + length
        if marker == b"\xff\xda":
            if not data.endswith(b"\xff\xd9"):
                raise TruncatedBitstream("the JPEG data end without an end marker")
            if re.search(rb"\xff[^\x00]", data[position:-2]):  # coded data write ff as ff 00
                raise BitstreamError("a marker inside the coded data of the JPEG")
            return
    raise TruncatedBitstream("the JPEG data end before their scan")


@dataclass(frozen=True)
class WebP(_QualityDriven):
    """Lossy WebP: one VP8 key frame by libwebp, without the 20 bytes of RIFF and chunk headers.

    PyAV encodes, because Pillow's WebP takes only R'G'B'. VP8 is BT.601 limited range by definition; here its samples
    mean whatever the colour description says.
    """

    quality: int
    """0 to 100."""
    method: int = 6
    """Effort of libwebp, 0 to 6."""

    name: ClassVar[str] = "webp"
    standard: ClassVar[str] = "webp"

    def __post_init__(self) -> None:
        _check_setting("quality", self.quality, *self._qualities())
        _check_setting("method", self.method, 0, 6)

    @property
    def label(self) -> str:
        return f"WebP m{self.method} quality {self.quality}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} libwebp in {_pyav()}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        if reason := self.missing():
            raise CodecUnavailable(reason)
        options = self._options()
        try:
            encoder = av.CodecContext.create("libwebp", "w")
            encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuv420p"
            encoder.time_base, encoder.options = Fraction(1, 25), options
            frame = av.VideoFrame(picture.width, picture.height, "yuv420p")
            for target, plane in zip(frame.planes, (picture.y[0], picture.u[0], picture.v[0]), strict=True):
                memory = np.zeros((plane.shape[0], target.line_size), np.uint8)
                memory[:, : plane.shape[1]] = plane
                target.update(memory.tobytes())
            frame.pts = 0
            webp = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
        except av.FFmpegError as error:
            raise ExternalCodecError(["libwebp", *(f"{k}={v}" for k, v in options.items())], 1, str(error)) from error
        size = int.from_bytes(webp[16:20], "little")
        if webp[8:16] != b"WEBPVP8 " or not 0 <= len(webp) - 20 - size <= 1:
            raise ExternalCodecError(["libwebp"], 0, f"unexpected start of a WebP file: {webp[:20].hex()}")
        return pack_head(picture.fps, picture.colour) + webp[20 : 20 + size]

    def decode(self, stream: bytes) -> Clip:
        fps, colour, frame = unpack_head(stream)
        if len(frame) < 10:
            raise TruncatedBitstream(f"a VP8 key frame has more than {len(frame)} bytes")
        if frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":  # RFC 6386, 9.1
            raise BitstreamError(f"{frame[:6].hex()} is not the start of a VP8 key frame")
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", frame[6:10]))
        _check_decoded_size(width, height)
        planes = _decode_with_pyav("webp", _riff(frame))
        longer = _decode_with_pyav("webp", _riff(frame + b"\xff" * 64))  # as `decode_bpg` does, but finds not every cut
        if any(not np.array_equal(a, b) for a, b in zip(planes, longer, strict=True)):
            raise TruncatedBitstream("the VP8 frame ends before its last macroblock")
        return _clip(planes, fps, colour)

    def command(self, picture: Clip) -> str:
        options = " ".join(f"-{key} {value}" for key, value in self._options().items())
        size = f"{picture.width}x{picture.height}"
        return f"ffmpeg -f rawvideo -pix_fmt yuv420p -s {size} -i picture.yuv -c:v libwebp {options} still.webp"

    def _options(self) -> dict[str, str]:
        return {"quality": str(self.quality), "compression_level": str(self.method), "lossless": "0"}

    def missing(self) -> str | None:
        return missing_pyav("libwebp")()


def _riff(frame: bytes) -> bytes:
    """A VP8 frame as a WebP file."""
    chunk = b"WEBPVP8 " + struct.pack("<I", len(frame)) + frame + bytes(len(frame) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


@dataclass(frozen=True)
class Avif(_QualityDriven):
    """AVIF by Pillow (libavif, libaom), 4:2:0. The file's boxes, about 300 bytes, count as they are.

    Pillow takes and gives only R'G'B', so the planes are converted twice on the way; see the module's docstring.
    """

    quality: int
    """0 to 100."""
    speed: int = 0
    """0 (best) to 10."""

    name: ClassVar[str] = "avif"
    standard: ClassVar[str] = "avif"

    def __post_init__(self) -> None:
        _check_setting("quality", self.quality, *self._qualities())
        _check_setting("speed", self.speed, 0, 10)

    @property
    def label(self) -> str:
        return f"AVIF s{self.speed} quality {self.quality}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} libavif {features.version_module('avif')} in Pillow {PIL.__version__}"

    def encode(self, picture: Clip) -> bytes:
        _one_frame(picture)
        if reason := self.missing():
            raise CodecUnavailable(reason)
        file = io.BytesIO()
        settings = {"quality": self.quality, "speed": self.speed, "subsampling": "4:2:0", "max_threads": 1}
        Image.fromarray(picture.rgb()[0]).save(file, "AVIF", **settings)
        return pack_head(picture.fps, picture.colour) + file.getvalue()

    def decode(self, stream: bytes) -> Clip:
        fps, colour, avif = unpack_head(stream)
        if reason := self.missing():
            raise CodecUnavailable(reason)
        try:
            with Image.open(io.BytesIO(avif), formats=["AVIF"]) as image:
                _check_decoded_size(*image.size)
                rgb = np.asarray(image.convert("RGB"))
        except BitstreamError:
            raise
        except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
            raise BitstreamError(f"the AVIF file is damaged: {error}") from error
        return Clip.from_rgb(rgb[None], fps, colour)

    def command(self, picture: Clip) -> str:
        return f"avifenc -q {self.quality} -s {self.speed} -y 420 -j 1 picture.png still.avif"

    def missing(self) -> str | None:
        return None if features.check("avif") else "this Pillow was built without AVIF"


def _check_decoded_size(width: int, height: int) -> None:
    try:
        check_size(width, height)
    except InputError as error:
        raise BitstreamError(str(error)) from error


def _decode_with_pyav(codec: str, data: bytes) -> list[Plane]:
    """The planes of the one 8-bit 4:2:0 picture that `data` is."""
    decoder = av.VideoCodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}
    try:
        frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise BitstreamError(f"the {codec} data are damaged: {error}") from error
    if len(frames) != 1 or not isinstance(frames[0], av.VideoFrame):
        raise BitstreamError(f"the {codec} data decode to {len(frames)} pictures")
    frame = frames[0]
    if frame.is_corrupt or frame.format.name not in ("yuv420p", "yuvj420p"):
        raise BitstreamError(f"the {codec} data decode to a damaged picture or to {frame.format.name}")
    return [plane.copy() for plane in planes_8bit(frame)]


# -- learned codecs --------------------------------------------------------------------------------------------------

LEARNED_MODELS = {  # name in CompressAI's zoo -> number in the stream; never renumber
    "bmshj2018-factorized": 0,
    "bmshj2018-hyperprior": 1,
    "mbt2018-mean": 2,
    "mbt2018": 3,
    "cheng2020-anchor": 4,
    "cheng2020-attn": 5,
}
_METRICS = ("mse", "ms-ssim")
WEIGHTS_VARIABLE = "HDAC_COMPRESSAI_WEIGHTS"
MAX_LEARNED_PIXELS = 1 << 22
"""Chosen: 2048x2048; the first layer of the largest model takes 1.5 KB a pixel."""

_SHAPE_FACTORS = {"bmshj2018-factorized": 16}  # picture over latent of the last string; 64 for all hyperprior models


@dataclass(frozen=True)
class LearnedStill(_QualityDriven):
    """A learned codec of CompressAI with its published weights.

    bmshj2018-*: Ballé et al., "Variational image compression with a scale hyperprior", ICLR 2018. mbt2018-*: Minnen et
    al., "Joint autoregressive and hierarchical priors for learned image compression", NeurIPS 2018. cheng2020-*: Cheng
    et al., "Learned image compression with discretized Gaussian mixture likelihoods and attention modules", CVPR 2020.

    Stream behind the head: CRC-16 of all that follows; a byte of the network (bits 0-2 model, bits 3-5 quality - 1, bit 6
    trained for MS-SSIM), first 2 bytes of the checkpoint's SHA-256, width ue7, height ue7, then the entropy coder's
    strings, all but the last behind a ue7 length. The picture is padded to a multiple of 64 (16 for
    bmshj2018-factorized). CompressAI's range decoder reads on behind damaged data, hence the CRC.

    Encoder and decoder compute the same probabilities only where floating point does: the scale tables of CompressAI
    hide small differences between machines, the autoregressive models (mbt2018, cheng2020) have less margin.

    Weights are never downloaded here: the checkpoints with CompressAI's own file names are looked for in
    $HDAC_COMPRESSAI_WEIGHTS and in the cache of torch.hub.
    """

    model: str = "bmshj2018-hyperprior"
    """One of LEARNED_MODELS."""
    quality: int = 1
    """1 to 8 (6 for cheng2020-*)."""
    metric: str = "mse"
    """What it was trained for: "mse" or "ms-ssim"."""

    name: ClassVar[str] = "compressai"
    standard: ClassVar[str] = "learned"

    def __post_init__(self) -> None:
        if self.model not in LEARNED_MODELS:
            raise InputError(f"model {self.model!r} is not one of {', '.join(LEARNED_MODELS)}")
        if self.metric not in _METRICS:
            raise InputError(f"metric {self.metric!r} is not one of {', '.join(_METRICS)}")
        _check_setting("quality", self.quality, *self._qualities())

    def _qualities(self) -> tuple[int, int]:
        return 1, 6 if self.model.startswith("cheng2020") else 8

    @property
    def label(self) -> str:
        return f"{self.model} {self.metric} quality {self.quality}"

    @property
    def version(self) -> str:
        compressai, pytorch = (importlib.metadata.version(package) for package in ("compressai", "torch"))
        return f"{CODE_VERSION} CompressAI {compressai}, PyTorch {pytorch}, weights {_weights_sha256(self._checkpoint())}"

    def encode(self, picture: Clip) -> bytes:
        import torch
        from torch.nn import functional as F

        _one_frame(picture)
        if picture.width * picture.height > MAX_LEARNED_PIXELS:
            raise InputError(f"{picture.width}x{picture.height} is more than {MAX_LEARNED_PIXELS} pixels")
        checkpoint = self._checkpoint()
        network = _load_network(self.model, checkpoint)
        x = torch.from_numpy(picture.rgb()).permute(0, 3, 1, 2).float() / 255
        width, height = self._padded(picture.width), self._padded(picture.height)
        x = F.pad(x, (0, width - picture.width, 0, height - picture.height), mode="replicate")
        with torch.inference_mode():
            strings = [string for (string,) in network.compress(x)["strings"]]
        body = bytes((self._network_byte(),)) + _weights_id(checkpoint)
        body += write_ue7(picture.width) + write_ue7(picture.height)
        body += b"".join(write_ue7(len(string)) + string for string in strings[:-1]) + strings[-1]
        return pack_head(picture.fps, picture.colour) + struct.pack(">H", binascii.crc_hqx(body, 0)) + body

    def decode(self, stream: bytes) -> Clip:
        import torch

        fps, colour, rest = unpack_head(stream)
        if len(rest) < 5:
            raise TruncatedBitstream(f"a learned still has more than {len(stream)} bytes")
        body = rest[2:]
        if binascii.crc_hqx(body, 0) != int.from_bytes(rest[:2], "big"):
            raise BitstreamError("the checksum of the learned still does not match its contents")
        coder = _coder_of(body[0])
        checkpoint = coder._checkpoint()
        if body[1:3] != (here := _weights_id(checkpoint)):
            raise WeightsMismatch(f"coded with weights {body[1:3].hex()}.., not with the {here.hex()}.. at hand")
        width, position = read_ue7(body, 3)
        height, position = read_ue7(body, position)
        if not 0 < width * height <= MAX_LEARNED_PIXELS:
            raise BitstreamError(f"a picture of {width}x{height} is empty or too large")
        strings = []
        for _ in range(0 if coder.model == "bmshj2018-factorized" else 1):
            length, position = read_ue7(body, position)
            if position + length > len(body):
                raise TruncatedBitstream(f"a string of {length} bytes at {position} ends behind the {len(body)}")
            strings.append([body[position : position + length]])
            position += length
        strings.append([body[position:]])
        factor = _SHAPE_FACTORS.get(coder.model, 64)
        shape = (coder._padded(height) // factor, coder._padded(width) // factor)
        try:
            with torch.inference_mode():
                decoded = _load_network(coder.model, checkpoint).decompress(strings, shape)["x_hat"]
        except (RuntimeError, ValueError) as error:
            raise BitstreamError(f"{coder.model} cannot decode the stream: {error}") from error
        rgb = (decoded[0, :, :height, :width].clamp(0, 1) * 255).round().to(torch.uint8)
        return Clip.from_rgb(rgb.permute(1, 2, 0)[None].contiguous().numpy(), fps, colour)

    def command(self, picture: Clip) -> str:
        return f"compressai.zoo.image_models[{self.model!r}](quality={self.quality}, metric={self.metric!r}).compress(x)"

    def missing(self) -> str | None:
        try:
            self._checkpoint()
        except CodecUnavailable as error:
            return str(error)
        return None

    def _network_byte(self) -> int:
        return LEARNED_MODELS[self.model] | self.quality - 1 << 3 | _METRICS.index(self.metric) << 6

    def _padded(self, side: int) -> int:
        multiple = _SHAPE_FACTORS.get(self.model, 64)
        return -(-side // multiple) * multiple

    def _checkpoint(self) -> Path:
        return _find_checkpoint(self.model, self.quality, self.metric)


def _coder_of(network: int) -> LearnedStill:
    """The codec whose network a stream's byte names."""
    models = {number: name for name, number in LEARNED_MODELS.items()}
    if network & 7 not in models or network >> 7:
        raise BitstreamError(f"unknown network 0x{network:02x} of a learned still")
    try:
        return LearnedStill(models[network & 7], 1 + (network >> 3 & 7), _METRICS[network >> 6])
    except InputError as error:
        raise BitstreamError(f"unknown network 0x{network:02x} of a learned still: {error}") from error


def missing_learned(model: str) -> str | None:
    """Why a model cannot run at all of its qualities, or None where it can; quick where there are no weights at all."""
    folders = _weight_folders()
    if not any(path for folder in folders for path in folder.glob(f"{model}-*.pth.tar")):
        return f"no weights {model}-*.pth.tar in {' or '.join(map(str, folders))} (${WEIGHTS_VARIABLE} names a folder)"
    coarsest = LearnedStill(model, quality=1)
    steps = range(coarsest.quantiser + 1)
    return next((reason for step in steps if (reason := coarsest.with_quantiser(step).missing())), None)


def _weight_folders() -> list[Path]:
    """Where checkpoints are looked for: the user's own folder, where there is one, then the cache of torch.hub."""
    import torch

    own = os.environ.get(WEIGHTS_VARIABLE)
    return [*([Path(own)] if own else []), Path(torch.hub.get_dir()) / "checkpoints"]


def _find_checkpoint(model: str, quality: int, metric: str) -> Path:
    """The file of a pretrained model, by the name that CompressAI gives it: "mbt2018-mean-1-e522738d.pth.tar".

    In the user's own folder the hash in the name may differ, for weights that were trained again.
    """
    url = _zoo().model_urls[model][metric][quality]
    published = url.rsplit("/", 1)[1]
    any_hash = published.removesuffix(".pth.tar").rpartition("-")[0] + "-*.pth.tar"
    *own, hub = _weight_folders()
    for folder, pattern in [*((folder, any_hash) for folder in own), (hub, published)]:
        found = [path for path in sorted(folder.glob("*.pth.tar")) if fnmatch.fnmatch(path.name, pattern)]
        if found:
            return found[0]
    named = own[0] if own else "not set"
    raise CodecUnavailable(
        f"the weights {published} are neither in ${WEIGHTS_VARIABLE} ({named}) nor in {hub}; CompressAI's zoo downloads them"
    )


def _weights_id(checkpoint: Path) -> bytes:
    """First 2 bytes of the file's SHA-256."""
    return bytes.fromhex(_weights_sha256(checkpoint))[:2]


_weights_sha256 = functools.lru_cache(maxsize=64)(file_sha256)


@functools.lru_cache(maxsize=2)
def _load_network(model: str, checkpoint: Path) -> Any:
    """The network in evaluation mode, with the probability tables of its checkpoint."""
    import torch

    zoo = _zoo()
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = zoo.model_architectures[model].from_state_dict(zoo.load_pretrained(state))
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CodecUnavailable(f"{checkpoint} holds no weights of {model}: {error}") from error
    network.update()  # for a checkpoint without tables; those that are there stay
    return network.eval()


@functools.cache
def _zoo() -> Any:
    return import_compressai().zoo.image


def import_compressai() -> Any:
    """The package `compressai` with its zoo.

    CompressAI imports torchvision for its transforms, and `import torchvision` fails where its C++ extension does not
    fit the installed torch (a CPU build of torch beside a CUDA build of torchvision): it then registers shape functions
    for two operators that nobody has declared. Declaring them is all that is missing for the Python part to load; the
    operators themselves, non-maximum suppression of boxes, stay without an implementation.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch_geometric and others that CompressAI imports
        try:
            import torchvision
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise CodecUnavailable(f"torchvision, which CompressAI needs, does not load: {error}") from error
            _declare_torchvision_operators()
            import torchvision  # noqa: F401
        import compressai.zoo
    return compressai


@functools.cache
def _declare_torchvision_operators() -> torch.library.Library:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # the declarations live as long as this object, which the cache keeps
