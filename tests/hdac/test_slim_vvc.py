"""VVC without headers: the anchor's pictures come back, all-skip pictures are two bytes, any bytes are a unit or an error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import nal
from baselines.conventional import Vvenc, decode
from baselines.nal import Vvc
from baselines.stream import StreamHeader
from data.errors import BitstreamError, InputError
from hdac.slim_vvc import SlimVvcDecoder, SlimVvcEncoder
from tests.clips import moving_clip


def access_units(stream: bytes) -> tuple[bytes, list[list[bytes]]]:
    """The header of a VVC stream, and its access units."""
    start = StreamHeader.unpack(stream)[1]
    return stream[:start], nal.access_units(stream[start:], "vvc")


def there_and_back(units: list[list[bytes]], width: int, height: int) -> tuple[list[tuple[bool, bytes]], bytes]:
    """Payloads, and the Annex B stream that a decoder makes of them."""
    encoder, decoder = SlimVvcEncoder(width, height), SlimVvcDecoder(width, height)
    packed = [encoder.pack(unit) for unit in units]
    return packed, b"".join(decoder.unpack(plain, payload) for plain, payload in packed)


@pytest.mark.parametrize(("preset", "period"), [("faster", 0), ("fast", 9), ("medium", 0)])
def test_the_pictures_of_the_anchor_come_back(preset: str, period: int) -> None:
    stream = Vvenc(qp=45, preset=preset, i_offset=6, intra_period=period).encode(moving_clip(20, 90, 73))
    head, units = access_units(stream)
    packed, restored = there_and_back(units, 90, 73)
    assert decode(head + restored).sha256() == decode(stream).sha256()
    assert [unit[2:] for unit in nal.access_units(restored, "vvc")[:1]] == [units[0][2:]]  # all but the parameter sets
    assert nal.access_units(restored, "vvc")[1:] == units[1:]
    saved = len(stream) - len(head) - sum(len(payload) for _, payload in packed)
    assert saved > 120 + 5 * 20  # parameter sets; start codes and NAL unit headers
    if preset != "faster":  # whose slice headers are shorter than what is predicted
        assert sum(plain for plain, _ in packed) >= 8


def test_an_all_skip_picture_is_two_bytes() -> None:
    still = moving_clip(1, 96, 96)
    clip = type(still)(*(getattr(still, plane).repeat(20, axis=0) for plane in "yuv"), still.fps)
    packed, _ = there_and_back(access_units(Vvenc(qp=50, i_offset=12).encode(clip))[1], 96, 96)
    assert packed[-1][0] and len(packed[-1][1]) == 2
    assert sum(len(payload) for _, payload in packed[1:]) < 20 * 4


def test_what_is_not_known_goes_as_it_is() -> None:
    _, units = access_units(Vvenc(qp=45, preset="faster").encode(moving_clip(4, 96, 96)))
    aud = bytes((0, Vvc.AUD << 3 | 1, 0x80))
    strange = [[aud, *units[0]], units[1], [aud, *units[2]], units[3]]
    packed, restored = there_and_back(strange, 96, 96)
    assert nal.split(restored) == [one for unit in strange for one in unit]
    assert packed[0][1][0] == packed[2][1][0] == 0x87


def test_parameter_sets_of_another_size_are_written_out() -> None:
    _, units = access_units(Vvenc(qp=45, preset="faster").encode(moving_clip(2, 96, 96)))
    _, restored = there_and_back(units, 64, 64)
    assert nal.split(restored) == [one for unit in units for one in unit]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=30)), max_size=6), st.booleans())
def test_any_bytes_are_a_unit_or_an_error(payloads: list[tuple[bool, bytes]], begun: bool) -> None:
    decoder = SlimVvcDecoder(64, 64)
    if begun:
        decoder.unpack(False, b"\xd8\x41\xc4\x01")
    for plain, payload in payloads:
        try:
            units = nal.split(decoder.unpack(plain, payload))
        except BitstreamError as error:
            assert str(error)  # says what is wrong
        else:
            assert units and all(units)


@pytest.mark.parametrize(
    ("plain", "payload", "message"),
    [
        (True, b"", "empty"),
        (True, b"\x12\x34", "in front of the first intra picture"),
        (False, b"\x01\x12\x34", "in front of the first intra picture"),
        (False, b"\xb1\x12", "not defined"),
        (False, b"\xd9\x30\x12", "ends behind"),
        (False, b"\xc0\x12\x00", "zero byte"),
    ],
)
def test_damage_is_named(plain: bool, payload: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        SlimVvcDecoder(64, 64).unpack(plain, payload)


def test_a_unit_without_nal_units_is_refused() -> None:
    for unit in ([], [b"\x00\x01"], [b"\x00\x41\x80\x00"]):
        with pytest.raises(InputError):
            SlimVvcEncoder(64, 64).pack(unit)
