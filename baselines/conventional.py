"""H.264, HEVC, VVC, AV1 and VP9 at low delay: real encoders, their smallest honest stream, decoders from bytes alone.

    clip -> pad to the coded size -> encoder -> Annex B or temporal units -> strip -> stream header + elementary stream
    stream -> header -> FFmpeg's own decoder (H.264, HEVC, VVC, VP9) or dav1d -> 8 bit -> crop to the true size

All are one intra picture (or one every `intra_period` frames), then P pictures in display order: no look-ahead, no
reordering. What moves along a curve is the standard's own quantiser (`qp`, AV1 and VP9 `q`), not a rate factor.
`i_offset` makes the intra pictures that many QP finer: with one intra per clip at these rates a finer first picture
pays for itself through skip and merge, so an anchor without that freedom is a weak anchor.

x264, x265, SVT-AV1 and libvpx run inside PyAV; kvazaar, libvvenc and libaom in the ffmpeg of `imageio-ffmpeg`.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import av
import ffmpeg
import numpy as np

from baselines import nal
from baselines.libav import decoded_frames, encode_packets, planes_8bit
from baselines.programs import ffmpeg_version, run_ffmpeg
from baselines.stream import VIDEO_STANDARDS, Ledger, StreamHeader, join_samples, split_samples
from data.clip import Clip, Plane
from data.errors import BitstreamError, ExternalCodecError, HdacError, InputError

if TYPE_CHECKING:
    from typing_extensions import Self

CODE_VERSION = 1
"""Version of this file's encoding path; raise it with every change that can change a stream or a decoded frame."""

MAX_QUANTISER = {"h264": 51, "hevc": 51, "vvc": 63, "av1": 63, "vp9": 63}


# -- encoders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConventionalCodec:
    """What all conventional codecs share: everything but the encoder's own options."""

    i_offset: int = 0
    """QP steps by which intra pictures are finer than P pictures."""
    intra_period: int = 0
    """Frames from one intra picture to the next; 0 = only the first is intra."""

    name: ClassVar[str]
    standard: ClassVar[str]
    revision: ClassVar[int] = 0
    """Like CODE_VERSION, for one encoder: raised when its options change."""
    alignment: ClassVar[int] = 2
    """Coded width and height are multiples of this; the clip is padded by repeating its last column and row."""
    least_side: ClassVar[int] = 16
    """Smallest coded width and height, padded in the same way."""

    def __post_init__(self) -> None:
        if self.intra_period < 0:
            raise InputError(f"intra_period must be 0 or more, got {self.intra_period}")
        if not 0 <= self.quantiser <= MAX_QUANTISER[self.standard]:
            raise InputError(f"{self.name} has quantisers 0 to {MAX_QUANTISER[self.standard]}, got {self.quantiser}")

    @property
    def quantiser(self) -> int:
        """The number that moves the codec along its curve: `qp` or `q`."""
        number: int = getattr(self, self._quantiser_field())
        return number

    def with_quantiser(self, quantiser: int) -> Self:
        """The same setting at another quantiser. Raises InputError where the standard has no such step."""
        return replace(self, **{self._quantiser_field(): quantiser})

    @classmethod
    def _quantiser_field(cls) -> str:
        return "qp" if "qp" in cls.__dataclass_fields__ else "q"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION + self.revision} {tool_versions()[self.name]}"

    def encode(self, clip: Clip) -> bytes:
        """Stream header and elementary stream; InputError where the clip is under 16x16, ExternalCodecError if the
        encoder fails or gives another number of pictures than it was given."""
        if clip.width < 16 or clip.height < 16:
            raise InputError(f"{self.name} codes 16x16 and larger, got {clip.width}x{clip.height}")
        payload = self._elementary(_pad(clip, *self.coded_size(clip)))
        stream = StreamHeader.of(clip, self.standard).pack() + payload
        n_coded = len(_pictures(payload, self.standard))
        if n_coded != clip.n_frames:
            raise ExternalCodecError([self.name], 0, f"{clip.n_frames} frames went in, {n_coded} pictures came out")
        return stream

    def coded_size(self, clip: Clip) -> tuple[int, int]:
        """(width, height) that the encoder gets: at least `least_side`, and multiples of `alignment`."""
        width, height = (max(self.least_side, -(-n // self.alignment) * self.alignment) for n in (clip.width, clip.height))
        return width, height

    def decode(self, bitstream: bytes) -> Clip:
        return decode(bitstream)

    def ledger(self, bitstream: bytes) -> Ledger:
        return ledger(bitstream)

    def _elementary(self, clip: Clip) -> bytes:
        raise AssertionError(f"{type(self).__name__} has no encoder")  # every subclass has one

    def _gop_label(self) -> str:
        return f" I-{self.i_offset}" if self.i_offset else ""


@dataclass(frozen=True, kw_only=True)
class _PyavCodec(ConventionalCodec):
    """An encoder inside PyAV, one thread."""

    encoder: ClassVar[str]

    def options(self) -> dict[str, str]:
        """libavcodec's private options of the encoder."""
        raise AssertionError(f"{type(self).__name__} has no options")  # every subclass has some

    def command(self, clip: Clip) -> str:
        options = " ".join(f"-{key} {value}" for key, value in self.options().items())
        width, height = self.coded_size(clip)
        return (
            f"ffmpeg -f rawvideo -pix_fmt yuv420p -s {width}x{height} -r {clip.fps} -i clip.yuv "
            f"-c:v {self.encoder} -threads 1 {options} -f {self.standard} stream"
        )

    def _elementary(self, clip: Clip) -> bytes:
        packets = encode_packets(self.encoder, self.options(), clip)
        if self.standard in ("av1", "vp9"):
            return join_samples(_av1_unit(packet) if self.standard == "av1" else packet for packet in packets)
        return nal.strip(b"".join(packets), self.standard)[0]  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class X264(_PyavCodec):
    """H.264 High by x264, P pictures only, psycho-visual tools and adaptive quantisation off."""

    qp: int
    preset: str = "veryslow"

    name: ClassVar[str] = "x264"
    standard: ClassVar[str] = "h264"
    encoder: ClassVar[str] = "libx264"

    @property
    def label(self) -> str:
        return f"x264 {self.preset}{self._gop_label()} QP {self.qp}"

    def options(self) -> dict[str, str]:
        keyint = "infinite" if not self.intra_period else f"{self.intra_period}:min-keyint={self.intra_period}"
        # psy=0 switches psy-rd and psy-trellis off; ipratio is a QP offset of 6 log2(ipratio)
        return {
            "preset": self.preset,
            "tune": "zerolatency",
            "x264-params": f"keyint={keyint}:scenecut=0:psy=0:aq-mode=0:"
            f"ipratio={_ip_ratio(self.i_offset)}:qp={self.qp}",
        }


@dataclass(frozen=True, kw_only=True)
class X265(_PyavCodec):
    """HEVC Main by x265, P pictures only, without wavefronts and psycho-visual tools.

    `lean` also leaves out several references, SAO, weighted prediction and sign hiding: below about 34 dB their bits
    cost more than they save (every P picture's slice header is a visible part of the rate).
    """

    qp: int
    preset: str = "slow"
    lean: bool = True

    name: ClassVar[str] = "x265"
    standard: ClassVar[str] = "hevc"
    encoder: ClassVar[str] = "libx265"
    least_side: ClassVar[int] = 72  # with a single row of 64x64 blocks x265 4.2 does not give the same bytes twice

    @property
    def label(self) -> str:
        return f"x265 {self.preset} {'lean' if self.lean else 'base'}{self._gop_label()} QP {self.qp}"

    def options(self) -> dict[str, str]:
        keyint = "-1" if not self.intra_period else f"{self.intra_period}:min-keyint={self.intra_period}:open-gop=0"
        lean = ":ref=1:sao=0:weightp=0:signhide=0" if self.lean else ""
        return {
            "preset": self.preset,
            "tune": "zerolatency",
            "x265-params": f"keyint={keyint}:scenecut=0:info=0:repeat-headers=1:aud=0:hrd=0:vui-timing-info=0:wpp=0:"
            "pools=none:frame-threads=1:psy-rd=0:psy-rdoq=0:aq-mode=0:"
            f"ipratio={_ip_ratio(self.i_offset)}:qp={self.qp}{lean}:log-level=none",
        }


@dataclass(frozen=True, kw_only=True)
class SvtAv1(_PyavCodec):
    """AV1 by SVT-AV1: low-delay P, constant quantiser.

    `key_offset` None lets SVT-AV1 choose how much finer key frames are, by its own analysis; a number fixes the
    distance in quantiser index steps (0..255; about four to a step of `q`).
    """

    q: int
    preset: int = 4
    key_offset: int | None = None

    name: ClassVar[str] = "svt-av1"
    standard: ClassVar[str] = "av1"
    encoder: ClassVar[str] = "libsvtav1"

    @property
    def label(self) -> str:
        key = "" if self.key_offset is None else f" K-{self.key_offset}"
        return f"SVT-AV1 p{self.preset}{key} q {self.q}"

    def options(self) -> dict[str, str]:
        keyint = self.intra_period or -1
        key = ""
        if self.key_offset is not None:
            key = f":use-fixed-qindex-offsets=1:key-frame-qindex-offset={-self.key_offset}"
        return {
            "preset": str(self.preset),
            "svtav1-params": f"pred-struct=1:rc=0:aq-mode=0:scd=0:lp=1:keyint={keyint}:qp={self.q}{key}",
        }


@dataclass(frozen=True, kw_only=True)
class Vp9(_PyavCodec):
    """VP9 by libvpx, constant quantiser, no alternate reference. `boost` lets libvpx code key frames finer than `q`."""

    q: int
    cpu_used: int = 1
    boost: bool = True

    name: ClassVar[str] = "vp9"
    standard: ClassVar[str] = "vp9"
    encoder: ClassVar[str] = "libvpx-vp9"

    @property
    def label(self) -> str:
        return f"libvpx cpu{self.cpu_used}{' boosted' if self.boost else ''} q {self.q}"

    def options(self) -> dict[str, str]:
        # with b=0, `crf` is libvpx's cq-level in constant-quality mode: a quantiser, no rate factor
        fixed = {} if self.boost else {"qmin": str(self.q), "qmax": str(self.q)}
        period = self.intra_period or 9999
        return {
            "deadline": "good",
            "cpu-used": str(self.cpu_used),
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "b": "0",
            "crf": str(self.q),
            "g": str(period),
            "keyint_min": str(period if self.intra_period else 0),
            **fixed,
        }


@dataclass(frozen=True, kw_only=True)
class _FfmpegCodec(ConventionalCodec):
    """An encoder inside the ffmpeg program of `imageio-ffmpeg`, one thread.

    Frames go in through a pipe; the stream comes out in a file: libvvenc prints its warnings to standard output.
    """

    encoder: ClassVar[str]
    muxer: ClassVar[str]
    pix_fmt: ClassVar[str] = "yuv420p"

    def options(self) -> dict[str, str | int]:
        """ffmpeg output options."""
        raise AssertionError(f"{type(self).__name__} has no options")  # every subclass has some

    def command(self, clip: Clip) -> str:
        return " ".join(["ffmpeg", *self._ffmpeg(clip, "stream").get_args()])

    def _elementary(self, clip: Clip) -> bytes:
        stream = self._run(clip)
        if self.standard == "av1":
            return join_samples(map(_av1_unit, _av1_temporal_units(stream)))
        return nal.strip(stream, self.standard)[0]  # type: ignore[arg-type]

    def _run(self, clip: Clip) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            stream = Path(folder, "stream")
            run_ffmpeg(self._ffmpeg(clip, str(stream)), clip.yuv_bytes())
            return stream.read_bytes()

    def _ffmpeg(self, clip: Clip, target: str) -> ffmpeg.nodes.OutputStream:
        width, height = self.coded_size(clip)
        source = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="yuv420p", s=f"{width}x{height}", r=str(clip.fps))
        return source.output(
            target, f=self.muxer, pix_fmt=self.pix_fmt, threads=1, **{"c:v": self.encoder}, **self.options()
        ).global_args("-hide_banner", "-loglevel", "error")


@dataclass(frozen=True, kw_only=True)
class Kvazaar(_FfmpegCodec):
    """HEVC Main by kvazaar: its low-delay structure of 4 pictures, whose inter pictures refer to the past only."""

    qp: int
    preset: str = "veryslow"

    name: ClassVar[str] = "kvazaar"
    standard: ClassVar[str] = "hevc"
    encoder: ClassVar[str] = "libkvazaar"
    muxer: ClassVar[str] = "hevc"
    alignment: ClassVar[int] = 8

    @property
    def label(self) -> str:
        return f"kvazaar {self.preset}{self._gop_label()} QP {self.qp}"

    def options(self) -> dict[str, str | int]:
        # hash=none: the build's default adds a 21-byte picture hash to every frame
        return {
            "kvazaar-params": f"preset={self.preset},gop=lp-g4d3t1,period={self.intra_period},qp={self.qp},"
            f"intra-qp-offset={-self.i_offset},info=0,hash=none,aud=0,wpp=0,owf=0,threads=0"
        }


@dataclass(frozen=True, kw_only=True)
class Vvenc(_FfmpegCodec):
    """VVC Main 10 by libvvenc: its low-delay structure of 8 pictures, perceptual adaptation off.

    Its inter pictures are B pictures that refer to the past only. MCTF, its temporal pre-filter, would look ahead by some
    pictures and is held to past ones. libvvenc codes an intra period at low delay only as one intra at the start, so a
    short GOP is coded as clips of that length, each starting with an IDR picture; repeated parameter sets are dropped.
    """

    qp: int
    preset: str = "medium"

    name: ClassVar[str] = "vvenc"
    revision: ClassVar[int] = 1
    standard: ClassVar[str] = "vvc"
    encoder: ClassVar[str] = "libvvenc"
    muxer: ClassVar[str] = "vvc"
    pix_fmt: ClassVar[str] = "yuv420p10le"  # libvvenc's only input; 8-bit samples are shifted, not dithered
    alignment: ClassVar[int] = 8

    @property
    def label(self) -> str:
        return f"vvenc {self.preset}{self._gop_label()} QP {self.qp}"

    def options(self) -> dict[str, str | int]:
        return {
            "preset": self.preset,
            "qp": self.qp,
            "qpa": 0,
            "vvenc-params": "PicReordering=0:IntraPeriod=-1:GOPSize=8:DecodingRefreshType=none:POC0IDR=1:"
            f"MCTFFutureReference=0:IntraQPOffset={-self.i_offset}",
        }

    def _run(self, clip: Clip) -> bytes:
        period = self.intra_period or clip.n_frames
        return b"".join(self._run_segment(clip[i : i + period]) for i in range(0, clip.n_frames, period))

    def _run_segment(self, clip: Clip) -> bytes:
        """One IDR picture and what follows it.

        For 15 or 16 pictures libvvenc 1.15 ends without a word and without a stream, and now and then, on a busy
        machine, for other numbers up to 16. It is asked again then, the last times with some more pictures whose bytes
        are cut off: since it does not look ahead, those before are what they would have been.
        """
        for more in (0, 0, 3, 6):
            longer = {p: np.concatenate((getattr(clip, p), *[getattr(clip[-1:], p)] * more)) for p in "yuv"}
            stream = super()._run(replace(clip, **longer))
            if stream:
                break
        else:
            raise ExternalCodecError([self.name], 0, f"no stream for {clip.n_frames} pictures, asked four times")
        if not more:
            return stream
        units = nal.access_units(stream, "vvc")
        return nal.join(unit for picture in units[: clip.n_frames] for unit in picture)


@dataclass(frozen=True, kw_only=True)
class LibAom(_FfmpegCodec):
    """AV1 by libaom at low delay, without look-ahead.

    `boost` is its constant-quality mode, where `q` is the level and libaom chooses how much finer key frames are; without
    it every frame has the quantiser `q`.
    """

    q: int
    cpu_used: int = 4
    boost: bool = True

    name: ClassVar[str] = "libaom"
    standard: ClassVar[str] = "av1"
    encoder: ClassVar[str] = "libaom-av1"
    muxer: ClassVar[str] = "obu"

    @property
    def label(self) -> str:
        return f"libaom cpu{self.cpu_used}{' boosted' if self.boost else ''} q {self.q}"

    def options(self) -> dict[str, str | int]:
        # with b:v 0, ffmpeg's `crf` is libaom's cq-level in constant-quality mode: a quantiser, no rate factor
        period = self.intra_period or 9999
        fixed = {} if self.boost else {"qmin": self.q, "qmax": self.q}
        return {
            "usage": "good",
            "cpu-used": self.cpu_used,
            "lag-in-frames": 0,
            "crf": self.q,
            "b:v": 0,
            "g": period,
            "keyint_min": period if self.intra_period else 0,
            **fixed,
        }


def _ip_ratio(i_offset: int) -> str:
    """x264's and x265's ipratio for intra pictures `i_offset` QP finer: QP_I = QP - 6 log2(ipratio)."""
    return f"{2 ** (i_offset / 6):.4f}"


def _pad(clip: Clip, width: int, height: int) -> Clip:
    """The clip at an even size that is not smaller, by repeating its last column and row."""
    if (width, height) == (clip.width, clip.height):
        return clip

    def extend(plane: Plane, h: int, w: int) -> Plane:
        return np.pad(plane, ((0, 0), (0, h - plane.shape[1]), (0, w - plane.shape[2])), mode="edge")

    return replace(
        clip,
        y=extend(clip.y, height, width),
        u=extend(clip.u, height // 2, width // 2),
        v=extend(clip.v, height // 2, width // 2),
    )


# -- AV1 and VP9 temporal units -------------------------------------------------------------------------------------

_OBU_SEQUENCE_HEADER, _OBU_TEMPORAL_DELIMITER, _OBU_FRAME_HEADER, _OBU_FRAME, _OBU_PADDING = 1, 2, 3, 6, 15


def _obus(unit: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(type, header byte(s), payload) of the OBUs of a temporal unit (AV1 specification 5.3)."""
    position = 0
    while position < len(unit):
        first = unit[position]
        header_bytes = 2 if first & 4 else 1  # obu_extension_flag
        head = unit[position : position + header_bytes]
        position += header_bytes
        if not first & 2:  # obu_has_size_field; only the last one can be without
            yield first >> 3 & 15, head, unit[position:]
            return
        size = shift = 0
        while True:
            if position >= len(unit) or shift > 49:
                raise BitstreamError("an OBU's size field is damaged")
            byte = unit[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if position + size > len(unit):
            raise BitstreamError(f"an OBU of {size} bytes is longer than its temporal unit")
        yield first >> 3 & 15, head, unit[position : position + size]
        position += size


def _av1_unit(unit: bytes) -> bytes:
    """A temporal unit without its delimiter, padding and metadata, and without the size field of its last OBU."""
    kept = [(head, data) for kind, head, data in _obus(unit) if kind in (_OBU_SEQUENCE_HEADER, 3, 4, 6, 7)]
    out = b""
    for i, (head, data) in enumerate(kept):
        if i == len(kept) - 1:
            out += bytes((head[0] & ~2,)) + head[1:] + data
        else:
            out += bytes((head[0] | 2,)) + head[1:] + _leb128(len(data)) + data
    return out


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _av1_temporal_units(stream: bytes) -> list[bytes]:
    """Temporal units of a low-overhead AV1 stream, which begin with a temporal delimiter each."""
    units: list[bytes] = []
    for kind, head, data in _obus(stream):
        if kind == _OBU_TEMPORAL_DELIMITER or not units:
            units.append(b"")
        if kind != _OBU_TEMPORAL_DELIMITER:
            units[-1] += bytes((head[0] | 2,)) + head[1:] + _leb128(len(data)) + data
    return units


def _is_key_unit(unit: bytes, standard: str) -> bool:
    """Whether an AV1 temporal unit or a VP9 frame is intra, by the first bits of its frame header."""
    if standard == "vp9":  # frame_marker u2, profile u2, show_existing_frame u1, frame_type u1: 0 = key
        return bool(unit) and not unit[0] >> 3 & 1 and not unit[0] >> 2 & 1
    for kind, _, data in _obus(unit):
        if kind in (_OBU_FRAME_HEADER, _OBU_FRAME):  # show_existing_frame u1, frame_type u2: 0 = key
            return bool(data) and data[0] >> 5 == 0
    return False


# -- decoding --------------------------------------------------------------------------------------------------------


def _pictures(payload: bytes, standard: str) -> list[list[bytes]]:
    """The coded pictures of an elementary stream, each as its NAL units or as one temporal unit."""
    if standard in ("av1", "vp9"):
        return [[unit] for unit in split_samples(payload)]
    return nal.access_units(payload, standard)  # type: ignore[arg-type]


def decode(bitstream: bytes) -> Clip:
    """Frames of a stream of one of VIDEO_STANDARDS. Raises BitstreamError for a damaged one, or one of stills.

    Samples coded with more than 8 bits (VVC Main 10) are rounded to 8.
    """
    header, start = StreamHeader.unpack(bitstream, VIDEO_STANDARDS)
    payload = bitstream[start:]
    pictures = _pictures(payload, header.standard)
    if len(pictures) != header.n_frames:
        raise BitstreamError(f"the header says {header.n_frames} frames, the stream holds {len(pictures)}")
    h, w = header.height, header.width
    y = np.empty((header.n_frames, h, w), np.uint8)
    u = np.empty((header.n_frames, (h + 1) // 2, (w + 1) // 2), np.uint8)
    v = np.empty_like(u)
    count = 0
    for frame in decoded_frames(header.standard, pictures):
        if count == header.n_frames:
            raise BitstreamError(f"more than the {header.n_frames} frames of the header were decoded")
        for target, plane in zip((y, u, v), planes_8bit(frame), strict=True):
            rows, columns = target.shape[1:]
            if plane.shape[0] < rows or plane.shape[1] < columns:
                raise BitstreamError(f"frame {count} is {frame.width}x{frame.height}, the header says {w}x{h}")
            target[count] = plane[:rows, :columns]
        count += 1
    if count != header.n_frames:
        raise BitstreamError(f"only {count} of {header.n_frames} frames could be decoded")
    return Clip(y, u, v, header.fps, header.colour)


def ledger(bitstream: bytes) -> Ledger:
    """Bytes by layer: parameter sets, intra and inter pictures; start codes and lengths count with what they frame."""
    header, start = StreamHeader.unpack(bitstream, VIDEO_STANDARDS)
    payload = bitstream[start:]
    pictures = _pictures(payload, header.standard)
    layers = {name: np.zeros(len(pictures), np.int64) for name in ("parameter_sets", "intra", "inter")}
    for i, units in enumerate(pictures):
        if header.standard in ("av1", "vp9"):
            (unit,) = units
            layers["intra" if _is_key_unit(unit, header.standard) else "inter"][i] = len(join_samples([unit]))
            continue
        kind = "intra" if any(_is_idr(unit, header.standard) for unit in units) else "inter"
        for unit in units:
            is_picture = nal.is_slice(unit, header.standard) or nal.nal_type(unit, header.standard) == nal.Vvc.PH  # type: ignore[arg-type]
            layers[kind if is_picture else "parameter_sets"][i] += len(nal.START_CODE) + len(unit)
    return Ledger(layers, header=start)


def _is_idr(unit: bytes, standard: str) -> bool:
    kind = nal.nal_type(unit, standard)  # type: ignore[arg-type]
    return kind in {
        "h264": (nal.H264.SLICE_IDR,),
        "hevc": (nal.Hevc.IDR_W_RADL, nal.Hevc.IDR_N_LP, nal.Hevc.CRA),
        "vvc": (nal.Vvc.IDR_W_RADL, nal.Vvc.IDR_N_LP, nal.Vvc.CRA),
    }[standard]


# -- versions --------------------------------------------------------------------------------------------------------


@functools.cache
def tool_versions() -> dict[str, str]:
    """Version of every encoder by codec name: what makes two runs comparable, and part of every cache key."""
    pyav = f"PyAV {av.__version__} (FFmpeg {av.ffmpeg_version_info})"
    try:
        program = ffmpeg_version()
    except HdacError as error:
        program = f"no ffmpeg program ({error})"
    return {
        "x264": f"{_info_sei('libx264')} in {pyav}",
        "x265": f"{_info_sei('libx265')} in {pyav}",
        "svt-av1": f"SVT-AV1 in {pyav}",
        "vp9": f"libvpx in {pyav}",
        "kvazaar": f"kvazaar in {program}",
        "vvenc": f"libvvenc in {program}",
        "libaom": f"libaom in {program}",
    }


def _info_sei(encoder: str) -> str:
    """x264 and x265 sign their streams with an SEI of plain text: "x265 (build 216) - 4.2+..."; its first words."""
    grey = np.full((1, 16, 16), 128, np.uint8)
    clip = Clip(grey, grey[:, :8, :8], grey[:, :8, :8], Fraction(25))
    options = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
    try:
        packets = b"".join(encode_packets(encoder, options, clip))
    except HdacError:
        return f"{encoder} (not in this PyAV)"
    match = re.search(rb"x26[45] [ -~]{4,40}", packets)
    return match.group().decode().split(" - H.26")[0].split(":[")[0].strip() if match else encoder
