"""BPG still pictures, complete: encoder, decoder, muxer, demuxer. Format 0.9.5 (F. Bellard, bellard.org/bpg).

A BPG file is one HEVC intra picture without VPS and SPS. Coding is x265 through PyAV, decoding is libavcodec's HEVC
decoder, which gets the two parameter sets rebuilt.

    bits    field
    32      magic 42 50 47 fb
    3       pixel_format: 0 gray, 3 4:4:4; 1 4:2:0 and 2 4:2:2 with centred chroma (JPEG); 4 4:2:0 and 5 4:2:2 with
            horizontally co-sited chroma (MPEG-2)
    1       alpha1_flag
    4       bit_depth_minus_8
    4       color_space: 0 BT.601, 1 RGB, 2 YCgCo, 3 BT.709, 4 BT.2020
    4       extension_present, alpha2, limited_range and animation flags
    ue7     picture_width, picture_height, picture_data_length (0: up to the end of the file)
    ue7     extension_data_length and the extensions, where present: (tag ue7, length ue7, bytes)*
    ue7     hevc_header_length, then the SPS fields that cannot be implied
    rest    PPS and slices with start codes between them, but none in front

Alpha planes and animations are refused with a BitstreamError. BPG has no checksum: a changed byte in the coded slices
that leaves valid HEVC syntax decodes to a wrong picture; all other damage, a cut slice included, is a BitstreamError.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from baselines import nal
from baselines.bits import BitReader, BitWriter, escape, read_ue7, write_ue7
from baselines.nal import Hevc, HevcPcm, HevcTools
from data import cli
from data.clip import MATRICES, Colour, levels
from data.errors import BitstreamError, InputError, TruncatedBitstream
from data.files import write_atomic

MAGIC = b"BPG\xfb"
MAX_SIDE = 1 << 14
MAX_PIXELS = 1 << 26
"""Chosen: larger pictures are refused before memory is allocated for them."""

EXTENSION_EXIF, EXTENSION_ICC, EXTENSION_XMP, EXTENSION_THUMBNAIL = 1, 2, 3, 4

BIT_DEPTHS = (8, 10, 12)
"""What x265 and libavcodec both code; the format knows 8 to 14."""

_CHROMA_IDC = {"gray": 0, "420": 1, "422": 2, "444": 3}
_SUBSAMPLING = {"gray": (1, 1), "420": (2, 2), "422": (2, 1), "444": (1, 1)}  # horizontal, vertical
_MATRIX_IDS = {"bt601": 0, "bt709": 3, "bt2020": 4}
_SPACE_IDS = {"rgb": 1, "ycgco": 2}
_MIN_CODED = 16  # x265 codes no side below its smallest coding tree block

Samples = NDArray[np.uint8] | NDArray[np.uint16]


def check_size(width: int, height: int) -> None:
    """Raises InputError for a picture that is empty, or larger than MAX_SIDE or MAX_PIXELS."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        limit = f"{MAX_SIDE} a side or {MAX_PIXELS} pixels"
        raise InputError(f"a picture of {width}x{height} is empty, or larger than {limit}")


@dataclass(frozen=True)
class Format:
    """Everything that a BPG header says about its picture."""

    width: int
    height: int
    chroma: str = "420"
    """"gray", "420", "422" or "444"."""
    bit_depth: int = 8
    colour: Colour = field(default_factory=Colour)
    """Matrix, range and siting; BPG has no "topleft" siting, keeps no siting of 4:4:4 and no matrix of gray."""
    colour_space: str = "ycbcr"
    """"ycbcr"; or, with 4:4:4 planes, "rgb" (planes in the order G, B, R) or "ycgco"."""
    extensions: Mapping[int, bytes] = field(default_factory=dict)
    """Tag -> contents: EXTENSION_EXIF, EXTENSION_ICC, EXTENSION_XMP, .. ; unknown tags are kept."""

    def __post_init__(self) -> None:
        if self.chroma not in _CHROMA_IDC:
            raise InputError(f"chroma format {self.chroma!r} is not one of {', '.join(_CHROMA_IDC)}")
        if self.bit_depth not in BIT_DEPTHS:
            raise InputError(f"bit depth {self.bit_depth} is not one of {BIT_DEPTHS}")
        if self.colour_space not in ("ycbcr", *_SPACE_IDS):
            raise InputError(f"colour space {self.colour_space!r} is not one of ycbcr, {', '.join(_SPACE_IDS)}")
        if self.colour_space != "ycbcr" and self.chroma != "444":
            raise InputError(f"colour space {self.colour_space} needs 4:4:4, got {self.chroma}")
        if self.chroma in ("420", "422") and self.colour.siting == "topleft":
            raise InputError("BPG knows the chroma sitings left and center, not topleft")
        check_size(self.width, self.height)

    def plane_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(rows, columns) of every plane of a picture of that size."""
        sx, sy = _SUBSAMPLING[self.chroma]
        chroma = (-(-height // sy), -(-width // sx))
        return [(height, width)] + [chroma] * (0 if self.chroma == "gray" else 2)

    @property
    def pix_fmt(self) -> str:
        """The name in libav's terms; RGB too is coded as three plain planes."""
        name = "gray" if self.chroma == "gray" else f"yuv{self.chroma}p"
        return name if self.bit_depth == 8 else f"{name}{self.bit_depth}le"

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.bit_depth == 8 else np.uint16


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture and what BPG says about it.

    planes: 1 (gray) or 3 arrays of shape (rows, columns); uint8 for 8 bit, uint16 below 2**bit_depth otherwise.
            Subsampled planes have ceil(n / 2) rows or columns. Order Y, Cb, Cr; G, B, R; or Y, Cg, Co.
    The other fields are those of Format.
    """

    planes: tuple[Samples, ...]
    chroma: str = "420"
    bit_depth: int = 8
    colour: Colour = field(default_factory=Colour)
    colour_space: str = "ycbcr"
    extensions: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.planes or self.planes[0].ndim != 2:
            raise InputError(f"expected planes of shape (rows, columns), got {[p.shape for p in self.planes]}")
        form = self.format
        expected = form.plane_sizes(form.width, form.height)
        if [p.shape for p in self.planes] != expected or any(p.dtype != form.dtype for p in self.planes):
            got = [f"{p.dtype} {p.shape}" for p in self.planes]
            raise InputError(f"expected {form.pix_fmt} planes as {np.dtype(form.dtype)} {expected}, got {got}")
        if self.bit_depth > 8 and any(int(p.max()) >> self.bit_depth for p in self.planes):
            raise InputError(f"samples of {max(int(p.max()) for p in self.planes)} do not fit {self.bit_depth} bits")

    @property
    def format(self) -> Format:
        height, width = self.planes[0].shape
        return Format(width, height, self.chroma, self.bit_depth, self.colour, self.colour_space, self.extensions)

    def __repr__(self) -> str:
        return f"Picture({self.format})"


# -- encoder ---------------------------------------------------------------------------------------------------------


def encode_bpg(picture: Picture, qp: int, preset: str = "veryslow") -> bytes:
    """A BPG file: the picture as one HEVC intra picture at quantiser `qp` (0 to 51), extensions included.

    preset: of x265, "ultrafast" to "placebo". Raises InputError for a qp out of range.
    """
    if not 0 <= qp <= 51:
        raise InputError(f"qp {qp} is not in 0..51")
    return mux(_encode_hevc(picture, qp, preset), picture.format)


def x265_params(qp: int, min_cu_size: int = 8) -> str:
    """Options for the smallest stream that BPG can carry, coded on one thread and so the same on every machine."""
    return ":".join((
        "keyint=1:repeat-headers=1",
        "info=0:aud=0:hrd=0:vui-timing-info=0",  # nothing that the muxer would throw away
        f"rect=1:amp=1:scaling-list=off:temporal-mvp=1:tu-intra-depth=2:tu-inter-depth=2:min-cu-size={min_cu_size}",
        "log2-max-poc-lsb=8",
        "wpp=0:psy-rd=0:psy-rdoq=0",
        f"ipratio=1:qp={qp}",  # the default ipratio of 1.4 would code intra pictures at qp - 3
        "pools=none:frame-threads=1:log-level=none",
    ))


def _encode_hevc(picture: Picture, qp: int, preset: str) -> bytes:
    """Annex B stream of one picture; its coded size is the true size rounded up to the smallest coding block."""
    form = picture.format
    # A decoder rounds the true size up to a multiple of the smallest coding block, so a side of 1 to 8 samples, which
    # x265 cannot code as 8, becomes one block of 16; larger sides only need to be whole chroma samples.
    tiny = min(form.width, form.height) <= 8
    multiples = (_MIN_CODED, _MIN_CODED) if tiny else _SUBSAMPLING[form.chroma]
    width, height = (
        max(_round_up(side, multiple), _MIN_CODED)
        for side, multiple in zip((form.width, form.height), multiples, strict=True)
    )
    frame = av.VideoFrame(width, height, form.pix_fmt)
    sizes = form.plane_sizes(width, height)
    for plane, samples, (rows, columns) in zip(frame.planes, picture.planes, sizes, strict=True):
        memory = np.zeros((rows, plane.line_size // samples.itemsize), samples.dtype)
        memory[:, :columns] = np.pad(samples, ((0, rows - len(samples)), (0, columns - samples.shape[1])), mode="edge")
        plane.update(memory.tobytes())
    frame.pts = 0
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, form.pix_fmt
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)  # reaches no byte of the file
    encoder.options = {"preset": preset, "x265-params": x265_params(qp, _MIN_CODED if tiny else 8)}
    try:
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    except av.FFmpegError as error:
        settings = f"preset {preset!r}, {width}x{height} {form.pix_fmt}"
        raise InputError(f"x265 does not code {settings}: {error}") from error


def mux(hevc: bytes, form: Format) -> bytes:
    """A BPG file from the Annex B stream of one HEVC intra picture, coded as `form` says.

    Parameter sets other than the PPS, delimiters and SEI are left out. Raises BitstreamError where the stream is not
    one picture, or not of a kind that BPG can describe.
    """
    units = nal.access_units(hevc, "hevc")
    if len(units) != 1:
        raise BitstreamError(f"{len(units)} pictures, a BPG file holds one")
    by_type = [(nal.nal_type(unit, "hevc"), unit) for unit in units[0]]
    parameter_sets = [unit for kind, unit in by_type if kind == Hevc.SPS]
    if len(parameter_sets) != 1:
        raise BitstreamError(f"{len(parameter_sets)} sequence parameter sets, 1 is expected")
    sps = nal.parse_hevc_sps(parameter_sets[0])
    coded = (_CHROMA_IDC[form.chroma], form.bit_depth, form.bit_depth, *_coded_size(form, sps.tools))
    found = (sps.chroma_format_idc, sps.bit_depth_luma, sps.bit_depth_chroma, sps.coded_width, sps.coded_height)
    if coded != found:
        raise BitstreamError(f"(chroma_format_idc, bit depths, coded size) of the stream is {found}, not {coded}")
    pictures = [unit for kind, unit in by_type if kind == Hevc.PPS or kind < Hevc.VPS]
    tools = _pack_tools(sps.tools)
    return _pack_header(form) + write_ue7(len(tools)) + tools + nal.START_CODE.join(pictures)


def _pack_header(form: Format) -> bytes:
    pixel_format = _CHROMA_IDC[form.chroma]
    if form.chroma in ("420", "422") and form.colour.siting == "left":
        pixel_format += 3
    colour_space = _SPACE_IDS.get(form.colour_space, 0 if form.chroma == "gray" else _MATRIX_IDS[form.colour.matrix])
    bits = BitWriter()
    bits.u(pixel_format, 3)
    bits.flag(False)  # alpha1_flag
    bits.u(form.bit_depth - 8, 4)
    bits.u(colour_space, 4)
    bits.flag(bool(form.extensions))
    bits.flag(False)  # alpha2_flag
    bits.flag(form.colour.range == "limited")
    bits.flag(False)  # animation_flag
    header = MAGIC + bits.to_bytes() + write_ue7(form.width) + write_ue7(form.height) + write_ue7(0)
    if form.extensions:
        packed = b"".join(
            write_ue7(tag) + write_ue7(len(contents)) + contents for tag, contents in form.extensions.items()
        )
        header += write_ue7(len(packed)) + packed
    return header


def _pack_tools(tools: HevcTools) -> bytes:
    """The bits of hevc_header. 1 00100 1 00100 011 1 0 1 0: CB 8 to 64, TB 4 to 32, depth 2, SAO, strong smoothing."""
    bits = BitWriter()
    bits.ue(tools.log2_min_cb_minus3)
    bits.ue(tools.log2_diff_max_min_cb)
    bits.ue(tools.log2_min_tb_minus2)
    bits.ue(tools.log2_diff_max_min_tb)
    bits.ue(tools.max_transform_depth_intra)
    bits.flag(tools.sao)
    _write_pcm(bits, tools.pcm)
    bits.flag(tools.strong_intra_smoothing)
    _write_range_extension(bits, tools.range_extension)
    return bits.to_bytes()


# -- decoder ---------------------------------------------------------------------------------------------------------


def decode_bpg(data: bytes) -> Picture:
    """The picture of a BPG file, cropped to its true size.

    Raises BitstreamError for anything that is not a BPG file of a gray, 4:2:0, 4:2:2 or 4:4:4 picture.
    """
    form, hevc = demux(data)
    planes = _decode_hevc(hevc, form)
    # An arithmetic decoder that runs out of data goes on with zeros. These are the lowest continuation and ones are the
    # highest, so a picture that is the same with both is settled by the bytes of the file.
    if any(not np.array_equal(a, b) for a, b in zip(planes, _decode_hevc(hevc + b"\xff" * 64, form), strict=True)):
        raise TruncatedBitstream("the coded picture ends before its last block")
    return Picture(planes, form.chroma, form.bit_depth, form.colour, form.colour_space, form.extensions)


def _decode_hevc(hevc: bytes, form: Format) -> tuple[Samples, ...]:
    """The planes of the one picture of an Annex B stream, cropped to the true size."""
    sps = nal.parse_hevc_sps(nal.split(hevc)[1])
    decoder = av.CodecContext.create("hevc", "r")
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode"}
    try:
        frames = [*decoder.decode(av.Packet(hevc)), *decoder.decode(None)]
    except av.FFmpegError as error:
        raise BitstreamError(f"the HEVC picture of the file cannot be decoded: {error}") from error
    if len(frames) != 1 or not isinstance(frames[0], av.VideoFrame) or frames[0].is_corrupt:
        raise BitstreamError(f"the HEVC data of the file decode to {len(frames)} pictures, or to a damaged one")
    frame = frames[0]
    if (frame.width, frame.height, frame.format.name) != (sps.coded_width, sps.coded_height, form.pix_fmt):
        raise BitstreamError(
            f"the HEVC picture is {frame.width}x{frame.height} {frame.format.name}, "
            f"expected {sps.coded_width}x{sps.coded_height} {form.pix_fmt}"
        )
    planes = []
    for plane, (rows, columns) in zip(frame.planes, form.plane_sizes(form.width, form.height), strict=True):
        samples = np.frombuffer(bytes(plane), form.dtype).reshape(plane.height, -1)
        planes.append(samples[:rows, :columns].copy())
    return tuple(planes)


def demux(data: bytes) -> tuple[Format, bytes]:
    """What the header says, and an Annex B stream (VPS, SPS, PPS, slices) that any HEVC decoder takes.

    Raises BitstreamError where the file is damaged, or holds alpha or an animation.
    """
    form, tools, pictures = _parse(data)
    slices = 0
    kept = []
    for unit in nal.split(nal.START_CODE + pictures):
        kind = nal.nal_type(unit, "hevc")
        if unit[0] & 0x81 or unit[1] != 1:
            raise BitstreamError(f"NAL unit header {unit[:2].hex()} is not of layer 0 and temporal layer 0")
        if kind in (Hevc.VPS, Hevc.SPS):  # they could tell another size than the one that was checked
            raise BitstreamError(f"NAL unit of type {Hevc(kind).name} in the picture data")
        if kind < Hevc.VPS:
            if kind not in (Hevc.IDR_W_RADL, Hevc.IDR_N_LP, Hevc.CRA):
                raise BitstreamError(f"slice of type {kind} is not of an intra picture")
            slices += nal.starts_picture(unit, "hevc")
        if kind == Hevc.PPS or kind < Hevc.VPS:
            kept.append(unit)
    if slices != 1:
        raise BitstreamError(f"{slices} pictures in the file, 1 is expected")
    return form, nal.join([_vps(form), _sps(form, tools), *kept])


def _parse(data: bytes) -> tuple[Format, HevcTools, bytes]:
    """(format, SPS fields, picture data) of a BPG file."""
    if data[:4] != MAGIC:
        if MAGIC.startswith(data[:4]):
            raise TruncatedBitstream(f"a BPG file has more than {len(data)} bytes")
        raise BitstreamError(f"file begins with {data[:4].hex()}, not with the {MAGIC.hex()} of BPG")
    bits = BitReader(data[4:6])
    pixel_format, alpha1, bit_depth, colour_space = bits.u(3), bits.flag(), 8 + bits.u(4), bits.u(4)
    has_extensions, alpha2, limited, animation = bits.flag(), bits.flag(), bits.flag(), bits.flag()
    if alpha1 or alpha2:
        raise BitstreamError("BPG files with an alpha or CMYK plane are not supported")
    if animation:
        raise BitstreamError("BPG animations are not supported")
    width, position = read_ue7(data, 6)
    height, position = read_ue7(data, position)
    picture_length, position = read_ue7(data, position)
    extensions: dict[int, bytes] = {}
    if has_extensions:
        length, position = read_ue7(data, position)
        extensions = _parse_extensions(_take(data, position, length, "extension data"))
        position += length
    pictures = _take(data, position, picture_length, "picture data") if picture_length else data[position:]

    if pixel_format > 5 or (pixel_format == 0 and colour_space):
        raise BitstreamError(f"pixel format {pixel_format} with colour space {colour_space} is not defined")
    matrices = {number: name for name, number in _MATRIX_IDS.items()}
    spaces = {number: name for name, number in _SPACE_IDS.items()}
    if colour_space not in matrices and colour_space not in spaces:
        raise BitstreamError(f"colour space {colour_space} is not defined")
    chroma = ("gray", "420", "422", "444", "420", "422")[pixel_format]
    colour = Colour(
        matrix=matrices.get(colour_space, "bt601"),
        range="limited" if limited else "full",
        siting="center" if pixel_format in (1, 2) else "left",
    )
    try:
        form = Format(width, height, chroma, bit_depth, colour, spaces.get(colour_space, "ycbcr"), extensions)
    except InputError as error:
        raise BitstreamError(f"BPG header: {error}") from error
    length, position = read_ue7(pictures, 0)
    tools = _parse_tools(_take(pictures, position, length, "HEVC header"))
    return form, tools, pictures[position + length :]


def _take(data: bytes, position: int, length: int, what: str) -> bytes:
    if position + length > len(data):
        raise TruncatedBitstream(f"{what}: {length} bytes wanted, {len(data) - position} are left")
    return data[position : position + length]


def _parse_extensions(data: bytes) -> dict[int, bytes]:
    extensions: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        tag, position = read_ue7(data, position)
        length, position = read_ue7(data, position)
        if tag in extensions:
            raise BitstreamError(f"extension {tag} appears twice")
        extensions[tag] = _take(data, position, length, f"extension {tag}")
        position += length
    return extensions


def _parse_tools(header: bytes) -> HevcTools:
    bits = BitReader(header)
    sizes = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    depth = bits.ue()
    log2_max_cb = 3 + sizes[0] + sizes[1]
    log2_max_tb = 2 + sizes[2] + sizes[3]
    if not 4 <= log2_max_cb <= 6 or log2_max_tb > min(log2_max_cb, 5) or sizes[2] + 2 >= sizes[0] + 3 or depth > 4:
        raise BitstreamError(f"coding and transform block sizes {sizes} or transform depth {depth} are not HEVC's")
    sao = bits.flag()
    pcm = HevcPcm(bits.u(4), bits.u(4), bits.ue(), bits.ue(), bits.flag()) if bits.flag() else None
    if pcm and 3 + pcm.log2_min_size_minus3 + pcm.log2_diff_max_min_size > min(log2_max_cb, 5):
        raise BitstreamError(f"PCM block sizes of {pcm} are not HEVC's")
    strong_intra_smoothing = bits.flag()
    range_extension = None
    if bits.flag():
        has_range_extension = bits.flag()
        if bits.u(7):
            raise BitstreamError("HEVC header has an extension other than the range extension")
        range_extension = bits.u(9) if has_range_extension else None
    return HevcTools(*sizes, depth, sao, pcm, strong_intra_smoothing, range_extension)


# -- the parameter sets that a BPG file implies ----------------------------------------------------------------------


def _coded_size(form: Format, tools: HevcTools) -> tuple[int, int]:
    """(width, height) in luma samples: multiples of the smallest coding block."""
    block = 1 << tools.log2_min_cb_minus3 + 3
    return _round_up(form.width, block), _round_up(form.height, block)


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _profile_tier_level(bits: BitWriter, form: Format) -> None:
    still = form.chroma == "420" and form.bit_depth == 8  # Main Still Picture (3), else a range extensions profile (4)
    bits.u(3 if still else 4, 8)  # profile space 0, main tier
    for profile in range(32):
        bits.flag(profile in ((1, 2, 3) if still else (4,)))
    bits.u(0b1011, 4)  # progressive, not interlaced, non-packed, frames only
    bits.u(0, 44)
    bits.u(255, 8)  # level 8.5: no limit


def _vps(form: Format) -> bytes:
    bits = BitWriter()
    bits.u(0, 4)  # id
    bits.u(0b11, 2)  # base layer internal, available
    bits.u(0, 6 + 3)  # one layer, one sub-layer
    bits.flag(True)  # temporal id nesting
    bits.u(0xFFFF, 16)
    _profile_tier_level(bits, form)
    _picture_buffer(bits)
    bits.u(0, 6)  # max layer id
    bits.ue(0)  # one layer set
    bits.u(0, 2)  # neither timing nor extension
    bits.trailing_bits()
    return bytes((Hevc.VPS << 1, 1)) + escape(bits.to_bytes())


def _sps(form: Format, tools: HevcTools) -> bytes:
    bits = BitWriter()
    bits.u(0, 4 + 3)  # VPS 0, one sub-layer
    bits.flag(True)  # temporal id nesting
    _profile_tier_level(bits, form)
    bits.ue(0)  # id
    bits.ue(_CHROMA_IDC[form.chroma])
    if form.chroma == "444":
        bits.flag(False)  # separate_colour_plane_flag
    for side in _coded_size(form, tools):
        bits.ue(side)
    bits.flag(False)  # conformance window: the decoder crops, for odd sizes cannot be told in 4:2:0
    bits.ue(form.bit_depth - 8)
    bits.ue(form.bit_depth - 8)
    bits.ue(8 - 4)  # log2_max_pic_order_cnt_lsb
    _picture_buffer(bits)
    bits.ue(tools.log2_min_cb_minus3)
    bits.ue(tools.log2_diff_max_min_cb)
    bits.ue(tools.log2_min_tb_minus2)
    bits.ue(tools.log2_diff_max_min_tb)
    bits.ue(tools.max_transform_depth_intra)  # inter: the same
    bits.ue(tools.max_transform_depth_intra)
    bits.flag(False)  # scaling lists
    bits.flag(True)  # asymmetric motion partitions
    bits.flag(tools.sao)
    _write_pcm(bits, tools.pcm)
    bits.ue(0)  # short-term reference picture sets
    bits.flag(False)  # long-term reference pictures
    bits.flag(True)  # temporal motion vector prediction
    bits.flag(tools.strong_intra_smoothing)
    bits.flag(False)  # VUI
    _write_range_extension(bits, tools.range_extension)
    bits.trailing_bits()
    return bytes((Hevc.SPS << 1, 1)) + escape(bits.to_bytes())


def _picture_buffer(bits: BitWriter) -> None:
    """Sub-layer ordering info: one picture, no reordering, no latency limit."""
    bits.flag(True)
    for _ in range(3):
        bits.ue(0)


def _write_pcm(bits: BitWriter, pcm: HevcPcm | None) -> None:
    bits.flag(pcm is not None)
    if pcm:
        bits.u(pcm.luma_bit_depth_minus1, 4)
        bits.u(pcm.chroma_bit_depth_minus1, 4)
        bits.ue(pcm.log2_min_size_minus3)
        bits.ue(pcm.log2_diff_max_min_size)
        bits.flag(pcm.loop_filter_disabled)


def _write_range_extension(bits: BitWriter, flags: int | None) -> None:
    bits.flag(flags is not None)
    if flags is not None:
        bits.flag(True)
        bits.u(0, 7)
        bits.u(flags, 9)


# -- RGB, for the command line ---------------------------------------------------------------------------------------


def from_rgb(
    rgb: NDArray[np.uint8],
    chroma: str = "420",
    bit_depth: int = 8,
    colour: Colour | None = None,
    extensions: Mapping[int, bytes] | None = None,
) -> Picture:
    """A Y'CbCr (or luma-only) picture of R'G'B' samples: uint8 (H, W, 3).

    colour: full-range BT.601 with centred chroma, as bpgenc writes it, where None; chroma is the mean of its pixels.
    """
    colour = colour or Colour("bt601", "full", "center")
    kr, kb = MATRICES[colour.matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    sx, sy = _SUBSAMPLING[chroma]
    differences = [] if chroma == "gray" else [(b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))]
    offset, y_scale, c_scale = levels(colour.range, bit_depth)
    planes = [y * y_scale + offset]
    planes += [_mean(d, sx, sy, colour.siting) * c_scale + (1 << bit_depth - 1) for d in differences]
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    samples = tuple(np.clip(np.rint(p), 0, (1 << bit_depth) - 1).astype(dtype) for p in planes)
    return Picture(samples, chroma, bit_depth, colour, extensions=extensions or {})


def to_rgb(picture: Picture) -> NDArray[np.uint8]:
    """R'G'B' samples of a picture: uint8 (H, W, 3), chroma interpolated linearly according to its siting."""
    offset, y_scale, c_scale = levels(picture.colour.range, picture.bit_depth)
    first = (picture.planes[0].astype(np.float64) - offset) / y_scale
    if picture.chroma == "gray":
        channels = [first] * 3
    elif picture.colour_space == "rgb":
        b, r = ((p.astype(np.float64) - offset) / y_scale for p in picture.planes[1:])
        channels = [r, first, b]
    else:
        sx, sy = _SUBSAMPLING[picture.chroma]
        height, width = first.shape
        middle = 1 << picture.bit_depth - 1
        c1, c2 = ((p.astype(np.float64) - middle) / c_scale for p in picture.planes[1:])
        if sy == 2:
            c1, c2 = (_interpolate(c, height, cosited=False) for c in (c1, c2))
        if sx == 2:
            c1, c2 = (_interpolate(c.T, width, cosited=picture.colour.siting == "left").T for c in (c1, c2))
        if picture.colour_space == "ycgco":
            channels = [first - c1 + c2, first + c1, first - c1 - c2]
        else:
            kr, kb = MATRICES[picture.colour.matrix]
            r, b = first + 2 * (1 - kr) * c2, first + 2 * (1 - kb) * c1
            channels = [r, (first - kr * r - kb * b) / (1 - kr - kb), b]
    return np.clip(np.rint(np.stack(channels, -1) * 255), 0, 255).astype(np.uint8)


def _mean(c: NDArray[np.float64], sx: int, sy: int, siting: str) -> NDArray[np.float64]:
    """Subsampled by sx and sy: means of pairs, or [1 2 1]/4 where chroma is horizontally co-sited."""
    c = np.pad(c, ((0, c.shape[0] % sy), (0, c.shape[1] % sx)), mode="edge")
    if sy == 2:
        c = (c[0::2] + c[1::2]) / 2
    if sx == 2 and siting == "left":
        before = np.concatenate((c[:, :1], c[:, 1:-1:2]), axis=1)
        return (before + 2 * c[:, 0::2] + c[:, 1::2]) / 4
    return (c[:, 0::2] + c[:, 1::2]) / 2 if sx == 2 else c


def _interpolate(c: NDArray[np.float64], length: int, cosited: bool) -> NDArray[np.float64]:
    """`length` samples along axis 0 between samples at 0, 2, 4, .. (co-sited) or 0.5, 2.5, .., edges held."""
    place = np.clip((np.arange(length) - (0 if cosited else 0.5)) / 2, 0, len(c) - 1)
    below = np.floor(place).astype(np.intp)
    part = (place - below)[:, None]
    return c[below] * (1 - part) + c[np.minimum(below + 1, len(c) - 1)] * part


# -- command ---------------------------------------------------------------------------------------------------------


def _encode_file(source: Path, args: argparse.Namespace) -> bytes:
    with Image.open(source) as image:
        info = image.info
        extensions = {
            tag: contents.encode() if isinstance(contents, str) else contents
            for tag, contents in (
                (EXTENSION_EXIF, info.get("exif")),
                (EXTENSION_ICC, info.get("icc_profile")),
                (EXTENSION_XMP, info.get("xmp")),
            )
            if contents
        }
        if "A" in image.getbands() or "transparency" in info:
            raise InputError(f"{source} has an alpha channel, which is not supported")
        rgb = np.asarray(image.convert("RGB"))
    if args.chroma == "rgb":
        if args.bit_depth != 8:
            raise InputError(f"--chroma rgb codes 8 bit samples, not {args.bit_depth}")
        planes = tuple(np.ascontiguousarray(rgb[..., i]) for i in (1, 2, 0))
        colour = Colour("bt601", "full")
        return encode_bpg(Picture(planes, "444", 8, colour, "rgb", extensions), args.qp, args.preset)
    picture = from_rgb(rgb, args.chroma, args.bit_depth, extensions=extensions)
    return encode_bpg(picture, args.qp, args.preset)


def _decode_file(source: Path) -> bytes:
    picture = decode_bpg(source.read_bytes())
    rgb = to_rgb(picture)
    image = Image.fromarray(rgb[..., 0] if picture.chroma == "gray" else rgb)
    png = io.BytesIO()
    texts = PngImagePlugin.PngInfo()
    if xmp := picture.extensions.get(EXTENSION_XMP):
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    icc, exif = picture.extensions.get(EXTENSION_ICC), picture.extensions.get(EXTENSION_EXIF, b"")
    image.save(png, "PNG", icc_profile=icc, exif=exif, pnginfo=texts)
    return png.getvalue()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.bpg",
        description="Code pictures as BPG.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("encode", "PNG or any picture that Pillow reads, to BPG"), ("decode", "BPG to an 8-bit PNG")):
        command = commands.add_parser(name, help=text, formatter_class=parser.formatter_class)
        command.add_argument("input", type=Path)
        command.add_argument("output", type=Path)
        command.add_argument("-f", "--force", action="store_true", help="overwrite the output")
        if name == "encode":
            command.add_argument("--qp", type=int, default=28, help="quantiser, 0 (best) to 51")
            command.add_argument("--chroma", choices=("420", "422", "444", "gray", "rgb"), default="420")
            command.add_argument("--bit-depth", type=int, choices=BIT_DEPTHS, default=8)
            command.add_argument("--preset", default="veryslow", help="of x265")
    args = parser.parse_args(argv)

    def work() -> None:
        if args.output.exists() and not args.force:
            raise InputError(f"{args.output} exists; -f overwrites it")
        coded = _encode_file(args.input, args) if args.command == "encode" else _decode_file(args.input)
        write_atomic(args.output, coded)

    return cli.run(work)


if __name__ == "__main__":
    raise SystemExit(main())
