"""NAL units of H.264, HEVC and VVC elementary streams: splitting, stripping, frames, and the HEVC SPS.

    stream      = (start code, NAL unit)*         Annex B; a start code is 00 00 01, or 00 00 00 01
    NAL unit    = header (1 byte in H.264, 2 in HEVC and VVC), payload with emulation prevention
    access unit = parameter sets and prefix SEI, the slices of one picture, suffix SEI

The rate of an anchor is its smallest honest stream: `strip` takes out what no decoder needs to show the same pictures.
Syntax: ITU-T H.264 7.3.1 and 7.4.1.2.4, H.265 7.3.1, 7.3.2.2 and 7.4.2.4.4, H.266 7.3.1 and 7.4.2.4.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from baselines.bits import BitReader, unescape
from data.errors import BitstreamError, TruncatedBitstream

Standard = Literal["h264", "hevc", "vvc"]

START_CODE = b"\x00\x00\x01"


class H264(IntEnum):
    """nal_unit_type of H.264, Table 7-1; types 1 to 5 are slices."""

    SLICE = 1
    SLICE_IDR = 5
    SEI = 6
    SPS = 7
    PPS = 8
    AUD = 9
    END_OF_SEQ = 10
    END_OF_STREAM = 11
    FILLER = 12


class Hevc(IntEnum):
    """nal_unit_type of HEVC, Table 7-1; types 0 to 31 are slices."""

    TRAIL_N = 0
    TRAIL_R = 1
    IDR_W_RADL = 19
    IDR_N_LP = 20
    CRA = 21
    VPS = 32
    SPS = 33
    PPS = 34
    AUD = 35
    END_OF_SEQ = 36
    END_OF_STREAM = 37
    FILLER = 38
    PREFIX_SEI = 39
    SUFFIX_SEI = 40


class Vvc(IntEnum):
    """nal_unit_type of VVC, Table 5; types 0 to 11 are slices."""

    TRAIL = 0
    STSA = 1
    IDR_W_RADL = 7
    IDR_N_LP = 8
    CRA = 9
    GDR = 10
    OPI = 12
    DCI = 13
    VPS = 14
    SPS = 15
    PPS = 16
    PREFIX_APS = 17
    SUFFIX_APS = 18
    PH = 19
    AUD = 20
    END_OF_SEQ = 21
    END_OF_STREAM = 22
    PREFIX_SEI = 23
    SUFFIX_SEI = 24
    FILLER = 25


@dataclass(frozen=True)
class _Rules:
    types: type[IntEnum]
    header_bytes: int
    slices: frozenset[int]
    opening: frozenset[int]
    """Non-slice types that belong to the next picture where they follow a slice."""
    parameter_sets: tuple[int, ...]
    """In the order in which one refers to another: a new SPS voids the PPSs that came before it."""
    droppable: frozenset[int]
    """Types without influence on the decoded samples of a stream that is decoded from its start."""


_RULES: dict[str, _Rules] = {
    "h264": _Rules(
        H264, 1, frozenset(range(1, 6)), frozenset((6, 7, 8, 9, *range(14, 19))), (H264.SPS, H264.PPS),
        frozenset((H264.SEI, H264.AUD, H264.END_OF_SEQ, H264.END_OF_STREAM, H264.FILLER)),
    ),
    "hevc": _Rules(
        Hevc, 2, frozenset(range(32)), frozenset((32, 33, 34, 35, 39, *range(41, 45), *range(48, 56))),
        (Hevc.VPS, Hevc.SPS, Hevc.PPS),
        frozenset((Hevc.AUD, Hevc.END_OF_SEQ, Hevc.END_OF_STREAM, Hevc.FILLER, Hevc.PREFIX_SEI, Hevc.SUFFIX_SEI)),
    ),
    "vvc": _Rules(
        Vvc, 2, frozenset(range(12)), frozenset((12, 13, 14, 15, 16, 17, 19, 20, 23, 26, 28, 29)),
        (Vvc.VPS, Vvc.SPS, Vvc.PPS),
        frozenset((Vvc.OPI, Vvc.DCI, Vvc.AUD, Vvc.END_OF_SEQ, Vvc.END_OF_STREAM, Vvc.PREFIX_SEI, Vvc.SUFFIX_SEI,
                   Vvc.FILLER)),
    ),
}


# -- splitting and joining ------------------------------------------------------------------------------------------


def split(stream: bytes) -> list[bytes]:
    """NAL units of an Annex B stream, without start codes and without the zero bytes around them.

    Raises BitstreamError where the stream does not begin with a start code or holds an empty NAL unit.
    """
    lead, *nals = (piece.rstrip(b"\x00") for piece in stream.split(START_CODE))  # no NAL unit ends in a zero byte
    if lead:
        raise BitstreamError(f"stream begins with {stream[:4].hex()}, which is no start code")
    if not all(nals):
        raise BitstreamError(f"NAL unit {nals.index(b'')} is empty")
    return nals


def join(nals: Iterable[bytes]) -> bytes:
    """Annex B stream with the short start code everywhere.

    Annex B asks for one more zero byte before parameter sets and the first NAL unit of a picture; decoders find the
    NAL units without, and a transport that frames packets carries neither.
    """
    return b"".join(START_CODE + nal for nal in nals)


def nal_type(nal: bytes, standard: Standard) -> int:
    """nal_unit_type; raises TruncatedBitstream where the NAL unit is shorter than its header."""
    if len(nal) < _RULES[standard].header_bytes:
        raise TruncatedBitstream(f"NAL unit of {len(nal)} bytes is shorter than its header")
    if standard == "h264":
        return nal[0] & 0x1F
    return nal[0] >> 1 & 0x3F if standard == "hevc" else nal[1] >> 3


def is_slice(nal: bytes, standard: Standard) -> bool:
    return nal_type(nal, standard) in _RULES[standard].slices


# -- stripping -------------------------------------------------------------------------------------------------------


def strip(stream: bytes, standard: Standard) -> tuple[bytes, dict[str, int]]:
    """The smallest stream that decodes to the same pictures from its start, and how many NAL units were dropped.

    Dropped: access unit delimiters, SEI of every kind, filler, ends of sequence and stream, VVC's DCI and OPI, and
    parameter sets that repeat the one in force bit for bit ("REPEATED_SPS", ..: they serve those who tune in later).
    Start codes become 3 bytes. Keys of the count are the names of the NAL unit types.
    """
    rules = _RULES[standard]
    kept: list[bytes] = []
    dropped: Counter[str] = Counter()
    in_force: dict[tuple[int, int], bytes] = {}  # (type, id) of a parameter set -> its NAL unit
    for nal in split(stream):
        kind = nal_type(nal, standard)
        if kind in rules.droppable:
            dropped[rules.types(kind).name] += 1
            continue
        if kind in rules.parameter_sets:
            key = (kind, _parameter_set_id(nal, kind, standard))
            if in_force.get(key) == nal:
                dropped[f"REPEATED_{rules.types(kind).name}"] += 1
                continue
            in_force = {other: held for other, held in in_force.items() if other[0] <= kind}
            in_force[key] = nal
        kept.append(nal)
    return join(kept), dict(dropped)


def _parameter_set_id(nal: bytes, kind: int, standard: Standard) -> int:
    """The id that later NAL units refer to."""
    reader = BitReader(unescape(nal[_RULES[standard].header_bytes : 128]))
    if standard == "h264":
        if kind == H264.SPS:
            reader.u(24)  # profile_idc, constraint flags, level_idc
        return reader.ue()
    if standard == "hevc":
        if kind == Hevc.SPS:
            _skip_to_sps_id(reader)
        return reader.u(4) if kind == Hevc.VPS else reader.ue()
    return reader.u(6) if kind == Vvc.PPS else reader.u(4)


# -- frames ----------------------------------------------------------------------------------------------------------


def access_units(stream: bytes, standard: Standard) -> list[list[bytes]]:
    """The NAL units of each picture of a progressive single-layer stream, in decoding order, without start codes.

    Raises BitstreamError where the stream holds no picture, or begins in the middle of one.
    """
    opening = _RULES[standard].opening
    units: list[list[bytes]] = []
    head: list[bytes] = []  # NAL units in front of a picture's first slice
    for nal in split(stream):
        if is_slice(nal, standard):
            if starts_picture(nal, standard) or any(nal_type(n, standard) == Vvc.PH for n in head if standard == "vvc"):
                units.append([*head, nal])
            elif not units:
                raise BitstreamError("the first slice of the stream is not the first of its picture")
            else:
                units[-1] += [*head, nal]
            head = []
        elif head or not units or nal_type(nal, standard) in opening:
            head.append(nal)
        else:
            units[-1].append(nal)
    if not units:
        raise BitstreamError("the stream holds no picture")
    units[-1] += head
    return units


def starts_picture(nal: bytes, standard: Standard) -> bool:
    """Whether a slice is the first of its picture, as its first bit tells.

    HEVC: first_slice_segment_in_pic_flag. H.264: first_mb_in_slice is 0, which ue(v) writes as a one.
    VVC: sh_picture_header_in_slice_header_flag; where it is 0 a picture header NAL unit comes before.
    """
    header_bytes = _RULES[standard].header_bytes
    if len(nal) <= header_bytes:
        raise TruncatedBitstream(f"slice of {len(nal)} bytes holds nothing but its NAL unit header")
    return nal[header_bytes] >= 0x80


# -- HEVC sequence parameter set -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HevcPcm:
    """PCM coding blocks, with the names of H.265 7.3.2.2."""

    luma_bit_depth_minus1: int
    chroma_bit_depth_minus1: int
    log2_min_size_minus3: int
    log2_diff_max_min_size: int
    loop_filter_disabled: bool


@dataclass(frozen=True)
class HevcTools:
    """The part of an SPS that a still picture depends on, and that no rule of a container fixes."""

    log2_min_cb_minus3: int
    log2_diff_max_min_cb: int
    log2_min_tb_minus2: int
    log2_diff_max_min_tb: int
    max_transform_depth_intra: int
    sao: bool
    pcm: HevcPcm | None
    strong_intra_smoothing: bool
    range_extension: int | None
    """The 9 flags of sps_range_extension(), first flag in the highest bit; None where there is no extension."""


@dataclass(frozen=True)
class HevcSps:
    """A sequence parameter set as far as a still picture goes; sizes in luma samples as coded, before cropping."""

    chroma_format_idc: int
    coded_width: int
    coded_height: int
    bit_depth_luma: int
    bit_depth_chroma: int
    tools: HevcTools


def parse_hevc_sps(nal: bytes) -> HevcSps:
    """Reads an SPS NAL unit (header included) of a stream of intra pictures.

    Raises BitstreamError for what such a stream has no use for and what would have to be parsed to get past it:
    several sub-layers, scaling lists, reference picture sets, HRD parameters, other extensions than the range one.
    """
    if nal_type(nal, "hevc") != Hevc.SPS:
        raise BitstreamError(f"NAL unit of type {nal_type(nal, 'hevc')} is no sequence parameter set")
    reader = BitReader(unescape(nal[2:]))
    if _skip_to_sps_id(reader) > 0:
        raise BitstreamError("SPS has several sub-layers")
    if sps_id := reader.ue():
        raise BitstreamError(f"SPS has id {sps_id}, 0 is expected")
    chroma_format_idc = reader.ue()
    if chroma_format_idc > 3:
        raise BitstreamError(f"SPS has chroma_format_idc {chroma_format_idc}")
    if chroma_format_idc == 3 and reader.flag():
        raise BitstreamError("SPS has separate colour planes")
    width, height = reader.ue(), reader.ue()
    if reader.flag():  # conformance window: containers keep the true size themselves
        for _ in range(4):
            reader.ue()
    bit_depth_luma, bit_depth_chroma = 8 + reader.ue(), 8 + reader.ue()
    reader.ue()  # log2_max_pic_order_cnt_lsb_minus4
    reader.flag()  # sub-layer ordering info: for one sub-layer the same three numbers either way
    for _ in range(3):
        reader.ue()
    cb_and_tb_sizes = reader.ue(), reader.ue(), reader.ue(), reader.ue()
    reader.ue()  # max_transform_hierarchy_depth_inter
    depth_intra = reader.ue()
    if reader.flag():
        raise BitstreamError("SPS has scaling lists")
    reader.flag()  # amp_enabled_flag
    sao = reader.flag()
    pcm = HevcPcm(reader.u(4), reader.u(4), reader.ue(), reader.ue(), reader.flag()) if reader.flag() else None
    if reader.ue() or reader.flag():
        raise BitstreamError("SPS has reference picture sets")
    reader.flag()  # sps_temporal_mvp_enabled_flag
    strong_intra_smoothing = reader.flag()
    if reader.flag():
        _skip_vui(reader)
    range_extension = None
    if reader.flag():
        has_range_extension = reader.flag()
        if reader.u(7):
            raise BitstreamError("SPS has an extension other than the range extension")
        range_extension = reader.u(9) if has_range_extension else None
    tools = HevcTools(*cb_and_tb_sizes, depth_intra, sao, pcm, strong_intra_smoothing, range_extension)
    return HevcSps(chroma_format_idc, width, height, bit_depth_luma, bit_depth_chroma, tools)


def _skip_to_sps_id(reader: BitReader) -> int:
    """From behind the NAL unit header to sps_seq_parameter_set_id; returns sps_max_sub_layers_minus1."""
    reader.u(4)  # sps_video_parameter_set_id
    max_sub_layers_minus1 = reader.u(3)
    reader.u(1)  # sps_temporal_id_nesting_flag
    reader.u(88 + 8)  # general profile and level
    if max_sub_layers_minus1:
        present = [(reader.flag(), reader.flag()) for _ in range(8)][:max_sub_layers_minus1]
        for profile, level in present:
            reader.u(88 * profile + 8 * level)
    return max_sub_layers_minus1


def _skip_vui(reader: BitReader) -> None:
    """Reads over vui_parameters() of H.265 E.2.1."""
    if reader.flag() and reader.u(8) == 255:  # sample aspect ratio, extended
        reader.u(32)
    if reader.flag():  # overscan
        reader.u(1)
    if reader.flag():  # video signal type
        reader.u(3 + 1)
        if reader.flag():
            reader.u(24)
    if reader.flag():  # chroma location
        reader.ue(), reader.ue()
    reader.u(3)
    if reader.flag():  # default display window
        for _ in range(4):
            reader.ue()
    if reader.flag():  # timing
        reader.u(64)
        if reader.flag():
            reader.ue()
        if reader.flag():
            raise BitstreamError("SPS has HRD parameters")
    if reader.flag():  # bitstream restriction
        reader.u(3)
        for _ in range(5):
            reader.ue()
