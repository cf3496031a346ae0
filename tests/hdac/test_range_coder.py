"""The range coder: frames come back from their own bytes, which are the fewest that do it, and close to the ideal length."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BitstreamError
from hdac.range_coder import Context, RangeDecoder, RangeEncoder

N_CONTEXTS = 4
BIT = st.tuples(st.integers(0, N_CONTEXTS - 1), st.integers(0, 1))  # (context, bit)
UNIFORM = st.integers(0, 16).flatmap(lambda n: st.tuples(st.just(-1 - n), st.integers(0, (1 << n) - 1)))  # (-1 - n, value)
FRAMES = st.lists(st.lists(st.one_of(BIT, UNIFORM), max_size=40), max_size=12)
Frame = list[tuple[int, int]]


def encoded(frames: list[Frame]) -> list[bytes]:
    encoder, contexts, out = RangeEncoder(), [Context() for _ in range(N_CONTEXTS)], []
    for frame in frames:
        for kind, value in frame:
            if kind < 0:
                encoder.encode_uniform(value, -1 - kind)
            else:
                encoder.encode(contexts[kind], value)
        out.append(encoder.frame_bytes())
    return out


def decoded_frame(decoder: RangeDecoder, contexts: list[Context], data: bytes, kinds: list[int]) -> Frame:
    decoder.feed(data)
    values = [decoder.decode_uniform(-1 - k) if k < 0 else decoder.decode(contexts[k]) for k in kinds]
    decoder.end_frame()
    return list(zip(kinds, values, strict=True))


def uniform_bits(bits: str) -> bytes:
    return encoded([[(-2, int(bit)) for bit in bits]])[0]


@settings(deadline=None, max_examples=150)
@given(FRAMES)
def test_each_frame_comes_back_from_the_bytes_that_have_arrived(frames: list[Frame]) -> None:
    decoder, contexts = RangeDecoder(), [Context() for _ in range(N_CONTEXTS)]
    for frame, data in zip(frames, encoded(frames), strict=True):
        assert decoded_frame(decoder, contexts, data, [kind for kind, _ in frame]) == frame


@pytest.mark.parametrize(
    ("bits", "expected"),
    [("10", "80"), ("11", "c0"), ("000000000", ""), ("000000000001", "0010"), ("11111111", "ff"), ("", "")],
)
def test_the_worked_examples_of_the_docstring(bits: str, expected: str) -> None:
    assert uniform_bits(bits).hex() == expected


def test_no_shorter_string_decodes_to_the_same_frame() -> None:
    rng = random.Random(1)
    sizes = set()
    for _ in range(60):
        frame = [(rng.randrange(N_CONTEXTS), rng.randrange(2)) for _ in range(rng.randrange(4, 11))]
        (data,) = encoded([frame])
        sizes.add(len(data))
        kinds = [kind for kind, _ in frame]
        for string in (bytes(s) for n in range(len(data)) for s in itertools.product(range(256), repeat=n)):
            decoder, contexts = RangeDecoder(), [Context() for _ in range(N_CONTEXTS)]
            decoder.feed(string)
            assert [decoder.decode(contexts[kind]) for kind in kinds] != [value for _, value in frame]
    assert sizes == {0, 1, 2}


def test_what_is_expected_costs_nothing() -> None:
    encoder, context = RangeEncoder(), Context()
    for _ in range(1000):
        for _ in range(20):
            encoder.encode(context, 0)
        assert encoder.frame_bytes() == b""
    encoder.encode(context, 1)
    assert 1 <= len(encoder.frame_bytes()) <= 2  # and the surprise is bounded: probabilities stop near 1 / 680


def test_frames_cost_their_ideal_length_and_a_third_of_a_byte() -> None:
    rng = random.Random(2)
    encoder, contexts = RangeEncoder(), [Context() for _ in range(N_CONTEXTS)]
    all_bits = all_ideal = 0.0
    n_frames = 1500
    for _ in range(n_frames):
        ideal = 0.0
        for _ in range(rng.randrange(60)):
            kind = rng.randrange(N_CONTEXTS)
            bit = int(rng.random() < (0.5, 0.1, 0.01, 0.9)[kind])
            zero = contexts[kind].zero_probability / 65536
            ideal -= math.log2(1 - zero if bit else zero)
            encoder.encode(contexts[kind], bit)
        frame_bits = 8 * len(encoder.frame_bytes())
        assert frame_bits < ideal + 8 + 0.01  # always
        all_bits, all_ideal = all_bits + frame_bits, all_ideal + ideal
    assert 0 < (all_bits - all_ideal) / n_frames < 3.5  # on average


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99])
def test_a_context_learns_its_probability(probability: float) -> None:
    rng = random.Random(3)
    context, cost = Context(), 0.0
    n, ones = 5000, 0
    for _ in range(n):
        bit = int(rng.random() >= probability)
        zero = context.zero_probability / 65536
        cost -= math.log2(1 - zero if bit else zero)
        context.update(bit)
        ones += bit
    p = ones / n
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)  # of the bits that there were
    assert entropy < cost / n < entropy * 1.04 + 0.005


@pytest.mark.parametrize("bit", [0, 1])
def test_probabilities_never_reach_certainty(bit: int) -> None:
    context = Context()
    for _ in range(3000):
        context.update(bit)
        assert 0 < context.zero_probability < 65536
    assert context.zero_probability < 200 if bit else context.zero_probability > 65336


@pytest.mark.parametrize(
    ("bits", "damaged", "message"),
    [
        ("10", "8000000000000000", "too many"),  # bytes that nothing reads
        ("10", "8000", "could have been shorter"),
        ("10", "81", "not the lowest"),
        ("1", "c0", "not the lowest"),
        ("0" * 8, "00", "could have been shorter"),
    ],
)
def test_a_string_that_no_encoder_writes_is_refused(bits: str, damaged: str, message: str) -> None:
    decoder = RangeDecoder()
    decoder.feed(bytes.fromhex(damaged))
    for _ in bits:
        decoder.decode_uniform(1)
    with pytest.raises(BitstreamError, match=message):
        decoder.end_frame()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=12), st.lists(st.sampled_from([0, 1, 2, -4, -17]), max_size=30))
def test_any_bytes_decode_to_what_encodes_to_them_or_are_refused(data: bytes, kinds: list[int]) -> None:
    try:
        frame = decoded_frame(RangeDecoder(), [Context() for _ in range(N_CONTEXTS)], data, kinds)
    except BitstreamError:
        return
    assert encoded([frame]) == [data]


@pytest.mark.parametrize(("value", "n_bits"), [(4, 2), (-1, 3), (0, 17)])
def test_numbers_that_do_not_fit_are_refused(value: int, n_bits: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        RangeEncoder().encode_uniform(value, n_bits)
