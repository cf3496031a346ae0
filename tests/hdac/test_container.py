"""The container: what is written comes back, every byte is accounted for, damage is an error."""

from __future__ import annotations

import io
import itertools
import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.stream import StreamHeader
from data.clip import Colour
from data.crop import Box
from data.errors import BitstreamError, InputError, TruncatedBitstream, UnsupportedVersion
from hdac.container import LayeredHeader, Reader, Unit, Writer, ledger
from tests.hdac.streams import written

STREAM = StreamHeader("hdac", 256, 256, Fraction(25), 3, Colour())
HEADER = LayeredHeader(STREAM, 45, 33, weights_id=b"abcd")


def read(data: bytes) -> tuple[LayeredHeader, list[Unit]]:
    reader = Reader(io.BytesIO(data))
    return reader.header, [received.unit for received in reader.units()]


layers = st.none() | st.binary(max_size=40)
upper = {"keypoints": layers, "reference": layers, "strength": st.integers(0, 3)}
units = st.builds(Unit, base=st.binary(max_size=80), plain=st.booleans(), residual=layers, **upper)
units_without_base = st.builds(Unit, **{**upper, "keypoints": st.binary(max_size=40)})


@settings(deadline=None)
@given(st.lists(units, min_size=1, max_size=12), st.integers(0, 5))
def test_units_come_back_and_the_ledger_sums_to_the_file(content: list[Unit], interval: int) -> None:
    stream = StreamHeader("hdac", 256, 256, Fraction(30000, 1001), len(content), Colour("bt709", "full"))
    header = LayeredHeader(stream, 51, 22, True, "base", True, False, 256, interval, b"wxyz")
    data = written(header, content)
    assert read(data) == (header, content)
    spent = ledger(io.BytesIO(data))
    assert sum(spent.totals.values()) == len(data)
    assert int(spent.frames.sum()) + spent.header == len(data)


repeats = st.builds(Unit, repeated=st.sampled_from(("shown", "base")))
animations = st.builds(Unit, keypoints=st.binary(max_size=40), residual=layers)


@settings(deadline=None)
@given(st.data(), st.lists(units, min_size=1, max_size=5), st.sampled_from((2, 3)), st.integers(0, 3))
def test_units_between_base_pictures_come_back(data: st.DataObject, content: list[Unit], every: int, interval: int) -> None:
    spread = []
    for unit in content:
        between = [data.draw(repeats | animations) for _ in range(every - 1)]
        spread += [unit, *between]
    stream = StreamHeader("hdac", 256, 256, Fraction(25), len(spread), Colour())
    header = LayeredHeader(
        stream, checksum_interval=interval, weights_id=b"wxyz", base_codec="vvc", base_every=every, base_half=True
    )
    packed = written(header, spread)
    assert read(packed) == (header, spread)
    assert sum(ledger(io.BytesIO(packed)).totals.values()) == len(packed)


def test_a_repeated_picture_is_one_byte_and_an_animated_one_changes_no_mode() -> None:
    writer = Writer(replace(HEADER, base_every=3))
    writer.add(Unit(base=b"intra", keypoints=b"k"))
    assert writer.add(Unit(repeated="shown")) == b"\x01"
    assert writer.add(Unit(repeated="base")) == b"\x03"
    assert len(writer.add(Unit(base=b"P", keypoints=b"k", strength=2))) == 5  # head, mode, keypoints with length, picture
    assert writer.add(Unit(keypoints=b"k")) == b"\x04k"
    assert writer.add(Unit(repeated="base")) == b"\x03"
    assert len(writer.add(Unit(base=b"P", keypoints=b"k", strength=2))) == 4


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([Unit(base=b"I"), Unit(base=b"P")], "frame 1 with a base picture"),
        ([Unit(repeated="shown")], "frame 0 without a base picture"),
        ([Unit(base=b"I"), Unit(repeated="base", keypoints=b"k")], "frame 1 cannot be repeated"),
        ([Unit(base=b"I"), Unit(keypoints=b"k", plain=True)], "frame 1 cannot be repeated or plain"),
        ([Unit(base=b"I", repeated="base")], "frame 0 cannot be repeated"),
    ],
)
def test_units_that_do_not_belong_where_they_are_are_refused(frames: list[Unit], message: str) -> None:
    with pytest.raises(InputError, match=message):
        written(replace(HEADER, base_every=2), frames)


@pytest.mark.parametrize("unit", [b"\x05k", b"\x07\x04k", b"\x06\x05k"])
def test_a_repeated_picture_has_no_layers_and_no_frame_without_base_a_strength(unit: bytes) -> None:
    """A layer; a layer and a mode; keypoints, and a mode with a strength."""
    writer = Writer(replace(HEADER, base_every=2))
    start = writer.header + writer.add(Unit(base=b"intra"))
    with pytest.raises(BitstreamError, match="a repeated picture with|no base picture"):
        read(start + unit + bytes(20))


@pytest.mark.parametrize("settings", [2, 3, 12, 64, 128, 96])
def test_a_base_layer_that_is_not_defined_is_refused(settings: int) -> None:
    data = bytearray(HEADER.pack())
    data[len(STREAM.pack()) + 2] = settings
    with pytest.raises(BitstreamError, match="unknown settings"):
        Reader(io.BytesIO(bytes(data)))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("system", ["dac", "face-vid2vid"])
def test_how_enhanced_pictures_are_animated_comes_back(system: str, apart: bool) -> None:
    stream = replace(STREAM, standard=system)
    header = LayeredHeader(stream, 0, 40, True, "bpg", True, weights_id=b"abcd", residual_id=b"efgh")
    header = replace(header, enhanced_apart=apart)
    assert Reader(io.BytesIO(header.pack())).header == header
    data = bytearray(replace(header, residual_id=b"", enhanced_apart=False).pack())
    data[len(stream.pack()) + 2] = 64
    with pytest.raises(BitstreamError, match="enhanced pictures"):
        Reader(io.BytesIO(bytes(data)))


def test_systems_have_the_base_layer_that_they_have() -> None:
    for system, change in (("dac", {"base_half": True}), ("dac", {"base_every": 2}), ("hevc-stripped", {"base_codec": "vvc"})):
        with pytest.raises(InputError, match="base layer"):
            LayeredHeader(replace(STREAM, standard=system), weights_id=b"1234"[: 4 * (system == "dac")], **change)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(units_without_base, min_size=1, max_size=8))
def test_units_without_a_base_layer_come_back(content: list[Unit]) -> None:
    stream = StreamHeader("dac", 64, 48, Fraction(25), len(content), Colour())
    header = LayeredHeader(stream, reference_qp=40, reference_codec="bpg", keypoints_sent=True, weights_id=b"1234")
    assert read(written(header, content)) == (header, content)


@pytest.mark.parametrize("box", [Box(0, 0, 64, 64), Box(420, 2, 1078, 1076), Box(254, 256, 1664, 822)])
def test_a_face_box_comes_back_in_no_more_than_eight_bytes(box: Box) -> None:
    stream = StreamHeader("hdac", 1919, 1079, Fraction(25), 1, Colour())
    header = LayeredHeader(stream, 45, 33, weights_id=b"abcd", face_box=box)
    assert read(written(header, [Unit(base=b"x")])) == (header, [Unit(base=b"x")])
    assert len(header.pack()) <= len(stream.pack()) + 9 + 8


@pytest.mark.parametrize("system", ["dac", "hdac"])
def test_large_pictures_without_a_face_box_are_refused(system: str) -> None:
    stream = StreamHeader(system, 640, 480, Fraction(25), 1, Colour())
    with pytest.raises(InputError, match="640x480"):
        LayeredHeader(stream, weights_id=b"abcd")
    data = bytearray(LayeredHeader(stream, weights_id=b"abcd", face_box=Box(0, 0, 64, 64)).pack())
    data[len(stream.pack()) + 1] &= 127
    with pytest.raises(BitstreamError, match="640x480"):
        Reader(io.BytesIO(bytes(data)))


def test_a_stream_without_networks_has_no_face_box() -> None:
    stream = StreamHeader("hevc-stripped", 640, 480, Fraction(25), 1, Colour())
    assert LayeredHeader(stream).face_box is None
    with pytest.raises(InputError, match="no networks"):
        LayeredHeader(stream, face_box=Box(0, 0, 64, 64))


def test_an_all_skip_frame_is_three_bytes() -> None:
    writer = Writer(HEADER)
    writer.add(Unit(base=b"intra", strength=2))
    assert len(writer.add(Unit(base=b"\x12\x34", plain=True, strength=2))) == 3


def test_a_frame_of_up_to_31_bytes_has_one_byte_around_it() -> None:
    writer = Writer(HEADER)
    writer.add(Unit(base=b"intra"))
    assert len(writer.add(Unit(base=bytes(31), plain=True))) == 32


class Dribble(io.RawIOBase):
    """A pipe that hands out three bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int = -1) -> bytes:
        part, self.data = self.data[: min(size, 3)], self.data[min(size, 3) :]
        return part


def test_a_unit_is_given_before_the_next_one_has_arrived() -> None:
    writer = Writer(LayeredHeader(STREAM, 45, 33, checksum_interval=0, weights_id=b"abcd"))
    first = writer.add(Unit(base=b"one"))
    reader = Reader(Dribble(writer.header + first))  # type: ignore[arg-type]
    arriving = reader.units()
    assert next(arriving).unit.base == b"one"
    with pytest.raises(TruncatedBitstream):
        next(arriving)


def test_every_truncation_is_an_error() -> None:
    content = [Unit(base=b"intra", reference=b"r"), Unit(base=b"abc", keypoints=b"kp"), Unit(base=b"", strength=2)]
    data = written(HEADER, content)
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            read(data[:size])


def test_any_changed_byte_is_an_error_with_a_checksum() -> None:
    rng = random.Random(5)
    content = [Unit(base=rng.randbytes(60)), Unit(base=rng.randbytes(9), strength=2), Unit(base=b"x", keypoints=b"ab")]
    data = written(HEADER, content)
    for at, value in itertools.product(range(len(data)), range(256)):
        if value != data[at]:
            with pytest.raises(BitstreamError):
                read(data[:at] + bytes((value,)) + data[at + 1 :])


def test_a_checksum_finds_all_damage_within_two_bytes() -> None:
    """As its polynomial of degree 16 promises; the low 16 bits of a longer CRC do not."""
    header = replace(HEADER, checksum_interval=3)
    content = [Unit(base=random.Random(6).randbytes(60)), Unit(base=b"abc"), Unit(base=b"d")]
    data = written(header, content)
    at = data.index(content[0].base or b"") + 17
    for change in range(1, 1 << 16, 2):
        damaged = (int.from_bytes(data[at : at + 2], "big") ^ change).to_bytes(2, "big")
        with pytest.raises(BitstreamError, match="checksum mismatch"):
            read(data[:at] + damaged + data[at + 2 :])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_what_a_writer_writes_for_their_units_or_an_error(data: bytes) -> None:
    for prefix in (b"", HEADER.pack(), replace(HEADER, checksum_interval=0).pack()):
        try:
            header, content = read(prefix + data)
        except BitstreamError:
            continue
        assert len(content) == header.stream.n_frames and written(header, content) == prefix + data


def test_what_follows_the_last_frame_is_refused() -> None:
    with pytest.raises(BitstreamError, match="behind the last of 3"):
        read(written(HEADER, [Unit(base=b"x")] * 3) + b"\0")


def test_other_versions_are_refused() -> None:
    data = bytearray(HEADER.pack())
    data[len(STREAM.pack())] = 2
    with pytest.raises(UnsupportedVersion, match="version 2"):
        Reader(io.BytesIO(bytes(data)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_qp": 70}, "base_qp=70"),
        ({"keypoint_step": 100}, "100"),
        ({"checksum_interval": 256}, "256"),
        ({"weights_id": b""}, "weights id"),
        ({"reference_codec": "jpeg"}, "jpeg"),
        ({"face_box": Box(1, 0, 64, 64)}, "even"),
        ({"face_box": Box(-2, 0, 64, 64)}, "negative"),
        ({"face_box": Box(0, 0, 64, 62)}, "64x62"),
        ({"face_box": Box(194, 0, 64, 64)}, "not inside"),
        ({"base_codec": "av1"}, "av1"),
        ({"base_every": 4}, "base_every=4"),
    ],
)
def test_values_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LayeredHeader(**{"stream": STREAM, "weights_id": b"abcd", **change})  # type: ignore[arg-type]
