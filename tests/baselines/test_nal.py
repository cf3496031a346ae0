"""NAL units: splitting, stripping without a change of the pictures, frames, and the HEVC SPS."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines import nal
from baselines.bits import BitWriter, escape
from baselines.nal import H264, Hevc, Standard, Vvc
from data.errors import BitstreamError, TruncatedBitstream

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"x264-params": "aud=1:keyint=2:min-keyint=1:bframes=0:slices=2:sliced-threads=0"}),
    "hevc": (
        "libx265",
        {"x265-params": "aud=1:keyint=2:min-keyint=1:bframes=0:slices=2:hash=1:repeat-headers=1:open-gop=0:"
         "log-level=none:pools=none:frame-threads=1"},
    ),
}


def encode(standard: str, frames: int = 5, size: int = 64) -> bytes:
    """A small stream of noise with everything in it that `strip` takes out."""
    name, options = ENCODERS[standard]
    encoder = av.VideoCodecContext.create(name, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width = encoder.height = size
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    encoder.options = options
    rng = np.random.default_rng(1)
    packets = []
    for i in range(frames):
        noise = rng.integers(0, 256, (size * 3 // 2, size), np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="yuv420p")
        frame.pts = i
        packets += encoder.encode(frame)
    return b"".join(map(bytes, [*packets, *encoder.encode(None)]))


def decode(stream: bytes, standard: str) -> list[bytes]:
    decoder = av.VideoCodecContext.create(standard, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    packets = [*decoder.parse(stream), *decoder.parse(b"")]
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    return [frame.to_ndarray().tobytes() for frame in [*frames, *decoder.decode(None)]]


@given(st.lists(st.binary(min_size=2, max_size=8).filter(lambda b: b"\0\0" not in b and b[-1] > 0), max_size=6))
def test_split_is_the_reverse_of_join_for_both_start_codes(units: list[bytes]) -> None:
    assert nal.split(nal.join(units)) == units
    assert nal.split(b"".join(b"\0\0\0\1" + unit for unit in units) + b"\0\0") == units


@pytest.mark.parametrize("stream", [b"\x67\0\0\1\x68", b"abc", b"\0\0\1", b"\0\0\1\x67\0\0\1\0\0\1\x68"])
def test_what_is_no_annex_b_stream_is_refused(stream: bytes) -> None:
    with pytest.raises(BitstreamError):
        nal.split(stream)


@pytest.mark.parametrize("standard", ENCODERS)
def test_stripped_stream_is_smaller_and_decodes_to_the_same_pictures(standard: Standard) -> None:
    stream = encode(standard)
    stripped, dropped = nal.strip(stream, standard)
    assert decode(stripped, standard) == decode(stream, standard)
    removed = len(nal.split(stream)) - len(nal.split(stripped))
    assert sum(dropped.values()) == removed > 10
    assert dropped["AUD"] == 5
    assert dropped["REPEATED_SPS"] == 2 if standard == "hevc" else dropped["REPEATED_SPS"] >= 2
    assert len(stripped) <= len(stream) - 6 * 5
    assert nal.strip(stripped, standard) == (stripped, {})


@pytest.mark.parametrize("standard", ENCODERS)
@pytest.mark.parametrize("stripped", [False, True])
def test_access_units_are_the_pictures(standard: Standard, stripped: bool) -> None:
    stream = encode(standard)
    if stripped:
        stream = nal.strip(stream, standard)[0]
    units = nal.access_units(stream, standard)
    assert len(units) == 5
    assert [unit for picture in units for unit in picture] == nal.split(stream)
    slices = [sum(nal.is_slice(unit, standard) for unit in picture) for picture in units]
    assert slices == [2 if standard == "h264" else slices[0]] * 5
    pictures = decode(stream, standard)
    assert decode(nal.join(unit for picture in units[:2] for unit in picture), standard) == pictures[:2]


def test_vvc_pictures_are_found_by_their_picture_header() -> None:
    def unit(kind: Vvc, first: int) -> bytes:
        return bytes((0, kind << 3 | 1, first, 0x80))

    sps, aud, sei = unit(Vvc.SPS, 0x0D), unit(Vvc.AUD, 0x80), unit(Vvc.SUFFIX_SEI, 5)
    single = unit(Vvc.IDR_N_LP, 0x80)  # picture header inside the slice header
    header, slices = unit(Vvc.PH, 0x10), [unit(Vvc.TRAIL, 0x00), unit(Vvc.TRAIL, 0x20)]
    stream = nal.join([aud, sps, single, sei, aud, header, *slices, unit(Vvc.TRAIL, 0xC0)])
    assert nal.access_units(stream, "vvc") == [
        [aud, sps, single, sei], [aud, header, *slices], [unit(Vvc.TRAIL, 0xC0)],
    ]
    stripped, dropped = nal.strip(stream, "vvc")
    assert nal.split(stripped) == [sps, single, header, *slices, unit(Vvc.TRAIL, 0xC0)]
    assert dropped == {"AUD": 2, "SUFFIX_SEI": 1}


def test_a_parameter_set_that_comes_back_after_a_change_is_kept() -> None:
    def sps(level: int) -> bytes:
        return bytes((0x67, 66, 0, level, 0x80))

    pps, idr = bytes((0x68, 0xC0)), bytes((0x65, 0x88, 0x80))
    kept = [sps(10), pps, idr, sps(20), pps, idr, sps(10), pps, idr]
    stream = nal.join([*kept, sps(10), pps, idr])
    stripped, dropped = nal.strip(stream, "h264")
    assert nal.split(stripped) == [*kept, idr]
    assert dropped == {"REPEATED_SPS": 1, "REPEATED_PPS": 1}


def test_streams_without_a_first_slice_are_refused() -> None:
    with pytest.raises(BitstreamError, match="no picture"):
        nal.access_units(nal.join([bytes((H264.SPS, 1))]), "h264")
    with pytest.raises(BitstreamError, match="not the first"):
        nal.access_units(nal.join([bytes((Hevc.TRAIL_R << 1, 1, 0x20))]), "hevc")
    with pytest.raises(TruncatedBitstream):
        nal.nal_type(b"\x40", "hevc")
    with pytest.raises(TruncatedBitstream):
        nal.access_units(nal.join([bytes((H264.SLICE_IDR,))]), "h264")


def test_hevc_sps_of_x265_tells_its_size_and_every_cut_is_noticed() -> None:
    stream = encode("hevc", frames=1, size=72)
    (unit,) = (unit for unit in nal.split(stream) if nal.nal_type(unit, "hevc") == Hevc.SPS)
    sps = nal.parse_hevc_sps(unit)
    assert (sps.chroma_format_idc, sps.coded_width, sps.coded_height, sps.bit_depth_luma) == (1, 72, 72, 8)
    for end in range(2, len(unit) - 2):
        with pytest.raises(BitstreamError):
            nal.parse_hevc_sps(unit[:end])


def test_hevc_sps_fields_are_those_written() -> None:
    bits = BitWriter()
    bits.u(0, 4 + 3 + 1)
    bits.u(0, 96)
    for value in (0, 2):  # id, 4:2:2
        bits.ue(value)
    bits.ue(96)
    bits.ue(40)
    bits.flag(True)  # conformance window
    for value in (0, 1, 0, 2, 2, 2, 4):  # window, 10 bits, poc
        bits.ue(value)
    bits.flag(True)
    for value in (0, 0, 0, 0, 2, 0, 3, 1, 2):  # buffer, block sizes, depths
        bits.ue(value)
    for flag in (False, True, True, True):  # scaling list, amp, sao, pcm
        bits.flag(flag)
    bits.u(7, 4)
    bits.u(5, 4)
    bits.ue(0)
    bits.ue(1)
    bits.flag(True)
    bits.ue(0)
    for flag in (False, True, True):  # long-term, temporal mvp, smoothing
        bits.flag(flag)
    bits.flag(True)  # VUI: everything that can be skipped
    bits.flag(True)
    bits.u(255, 8)
    bits.u(0x00010001, 32)
    bits.u(0b11, 2)  # overscan
    bits.u(0b1_101_1_1, 6)  # video signal
    bits.u(0x010101, 24)
    bits.flag(True)
    bits.ue(1)
    bits.ue(1)
    bits.u(0, 3)
    bits.flag(True)
    for _ in range(4):
        bits.ue(3)
    bits.flag(True)  # timing
    bits.u(1, 32)
    bits.u(25, 32)
    bits.flag(True)
    bits.ue(9)
    bits.flag(False)  # no HRD
    bits.flag(True)
    bits.u(0, 3)
    for _ in range(5):
        bits.ue(2)
    bits.u(0b1_1_0000000, 9)  # range extension
    bits.u(0b000001010, 9)
    bits.trailing_bits()
    sps = nal.parse_hevc_sps(bytes((Hevc.SPS << 1, 1)) + escape(bits.to_bytes()))
    assert (sps.chroma_format_idc, sps.coded_width, sps.coded_height) == (2, 96, 40)
    assert (sps.bit_depth_luma, sps.bit_depth_chroma) == (10, 10)
    assert sps.tools == nal.HevcTools(0, 2, 0, 3, 2, True, nal.HevcPcm(7, 5, 0, 1, True), True, 0b1010)
