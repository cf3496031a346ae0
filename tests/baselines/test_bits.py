"""Bits, Exp-Golomb codes, emulation prevention and BPG's variable-length numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.bits import BitReader, BitWriter, escape, read_ue7, unescape, write_ue7
from data.errors import BitstreamError, TruncatedBitstream

FIELDS = st.lists(
    st.one_of(
        st.tuples(st.just("ue"), st.integers(0, 2**33 - 2)),
        st.tuples(st.just("se"), st.integers(-(2**31), 2**31)),
        st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, (1 << n) - 1))),
    ),
    max_size=20,
)


@given(FIELDS)
def test_fields_come_back_as_written(fields: list[tuple[str | int, int]]) -> None:
    writer = BitWriter()
    for kind, value in fields:
        writer.u(value, kind) if isinstance(kind, int) else getattr(writer, kind)(value)
    reader = BitReader(writer.to_bytes())
    for kind, value in fields:
        assert (reader.u(kind) if isinstance(kind, int) else getattr(reader, kind)()) == value
    assert reader.bits_left < 8


def test_exp_golomb_codes_are_those_of_the_standard() -> None:
    writer = BitWriter()
    for value in (0, 1, 2, 3):
        writer.ue(value)
    assert writer.to_bits() == "1" "010" "011" "00100"
    writer = BitWriter()
    for value in (0, 1, -1, 2, -2):
        writer.se(value)
    assert writer.to_bits() == "1" "010" "011" "00100" "00101"


def test_trailing_bits_end_at_a_byte() -> None:
    writer = BitWriter()
    writer.u(0b101, 3)
    writer.trailing_bits()
    assert writer.to_bits() == "10110000"


@pytest.mark.parametrize("value, n", [(8, 3), (-1, 4), (1, 0)])
def test_values_that_do_not_fit_are_refused(value: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{value} does not fit"):
        BitWriter().u(value, n)


@given(st.binary(max_size=5), st.integers(1, 60))
def test_reading_past_the_end_is_a_truncated_bitstream(data: bytes, extra: int) -> None:
    with pytest.raises(TruncatedBitstream):
        BitReader(data).u(8 * len(data) + extra)


def test_endless_exp_golomb_prefix_is_refused() -> None:
    with pytest.raises(BitstreamError):
        BitReader(bytes(10)).ue()


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255]), max_size=30))
def test_emulation_prevention_is_reversible_and_leaves_no_start_code(values: list[int]) -> None:
    rbsp = bytes((*values, 0x80))  # an RBSP ends in its stop bit
    escaped = escape(rbsp)
    assert unescape(escaped) == rbsp
    assert not any(bad in escaped for bad in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))


@pytest.mark.parametrize("value, coded", [(8, "08"), (128, "8100"), (256, "8200"), (542, "841e"), (728855, "acbe17")])
def test_ue7_is_that_of_the_format_document(value: int, coded: str) -> None:
    assert write_ue7(value) == bytes.fromhex(coded)
    assert read_ue7(b"??" + bytes.fromhex(coded) + b"rest", 2) == (value, 2 + len(coded) // 2)


@given(st.integers(0, 2**32 - 1))
def test_ue7_round_trip_and_every_cut_is_noticed(value: int) -> None:
    coded = write_ue7(value)
    assert read_ue7(coded, 0) == (value, len(coded))
    for end in range(len(coded)):
        with pytest.raises(TruncatedBitstream):
            read_ue7(coded[:end], 0)


@pytest.mark.parametrize("coded, bits", [("8005", 32), ("9080808000", 32), ("ffffffffffff7f", 32), ("848000", 16)])
def test_long_forms_and_large_numbers_are_refused(coded: str, bits: int) -> None:
    with pytest.raises(BitstreamError):
        read_ue7(bytes.fromhex(coded), 0, bits)
