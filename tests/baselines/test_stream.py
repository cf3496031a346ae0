"""The stream header and the framing of temporal units."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.stream import STANDARDS, StreamHeader, join_samples, split_samples
from data.clip import MATRICES, RANGES, SITINGS, Colour
from data.errors import BitstreamError, InputError, TruncatedBitstream

headers = st.builds(
    StreamHeader,
    standard=st.sampled_from(sorted(STANDARDS)),
    width=st.integers(1, 4096),
    height=st.integers(1, 2160),
    fps=st.builds(Fraction, st.integers(1, 120000), st.sampled_from((1, 1001, 1000))).filter(lambda f: f <= 1000),
    n_frames=st.integers(1, 900),
    colour=st.builds(
        Colour, matrix=st.sampled_from(sorted(MATRICES)), range=st.sampled_from(RANGES), siting=st.sampled_from(SITINGS)
    ),
)


@given(headers, st.binary(max_size=20))
def test_any_header_round_trips_and_takes_exactly_its_own_bytes(header: StreamHeader, junk: bytes) -> None:
    packed = header.pack()
    assert StreamHeader.unpack(packed + b"payload." + junk) == (header, len(packed))
    assert len(packed) <= 13 + 2  # as the module says, and two more for sizes and frame counts beyond a call's


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_a_bitstream_error(data: bytes) -> None:
    try:
        header, position = StreamHeader.unpack(data)
    except BitstreamError:
        return
    assert header.pack() == data[:position]


@pytest.mark.parametrize("damage", [b"\xe4", b"\xe5\x09", b"\xe5\x02\xff"])
def test_wrong_magic_standard_and_colour_are_named(damage: bytes) -> None:
    good = StreamHeader("hevc", 256, 256, Fraction(25), 10, Colour()).pack() + b"12345678"
    with pytest.raises(BitstreamError, match="0x|standard 9"):
        StreamHeader.unpack(damage + good[len(damage) :])


def test_absurd_sizes_are_refused_before_anything_is_allocated() -> None:
    huge = StreamHeader("hevc", 16000, 16000, Fraction(25), 1 << 20, Colour()).pack() + b"12345678"
    with pytest.raises(BitstreamError, match="more than a decoder allocates for"):
        StreamHeader.unpack(huge)


def test_a_frame_rate_has_one_form_and_fits() -> None:
    packed = bytearray(StreamHeader("hevc", 256, 256, Fraction(25), 10, Colour()).pack())
    assert packed[7:9] == b"\x19\x01"
    packed[7:9] = b"\x32\x02"  # 50/2
    with pytest.raises(BitstreamError, match="50/2 is not plausible, or not in lowest terms"):
        StreamHeader.unpack(bytes(packed) + b"12345678")
    inexact = StreamHeader("hevc", 256, 256, Fraction(29.97), 10, Colour())
    with pytest.raises(InputError, match="35184372088832 fps"):
        inexact.pack()


@given(st.lists(st.binary(min_size=0, max_size=300)))
def test_temporal_units_round_trip(units: list[bytes]) -> None:
    assert list(split_samples(join_samples(units))) == units


def test_a_temporal_unit_that_is_cut_short_is_an_error() -> None:
    with pytest.raises(TruncatedBitstream, match="5 bytes"):
        list(split_samples(join_samples([b"abc", b"12345"])[:-1]))
