"""The motion stream: exact, causal, close to the entropy, nothing wraps, and damage stays inside the alphabet."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.errors import BitstreamError, InputError
from hdac.keypoints import (
    JACOBIAN_LIMIT,
    STEPS,
    KeypointDecoder,
    KeypointEncoder,
    KeypointSettings,
    Symbols,
    parities,
    settle,
)

VARIANTS = [KeypointSettings(step=step) for step in STEPS] + [
    KeypointSettings(step=512, jacobians=True),
    KeypointSettings(n_keypoints=1, step=64),
    KeypointSettings(n_keypoints=3, step=128, jacobians=True, jacobian_step=512),
]


def limits(of: KeypointSettings) -> NDArray[np.int32]:
    return np.array(of.limits, np.int32)


def walk(of: KeypointSettings, n_frames: int, sigma: float, seed: int = 0) -> list[Symbols]:
    """A Gaussian random walk of every symbol, `sigma` steps a frame, from a random start."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-0.5, 0.5, of.shape) * limits(of)
    track = start + np.cumsum(rng.normal(0, sigma, (n_frames, *of.shape)), axis=0)
    return list(np.clip(np.rint(track), -limits(of), limits(of)).astype(np.int32))


def encoded(of: KeypointSettings, frames: list[Symbols]) -> list[bytes]:
    """The first frame is the reference."""
    encoder = KeypointEncoder(of)
    encoder.start(frames[0])
    return [encoder.encode(frame) for frame in frames[1:]]


def assert_round_trip(of: KeypointSettings, frames: list[Symbols]) -> list[bytes]:
    data = encoded(of, frames)
    decoder = KeypointDecoder(of)
    decoder.start(frames[0])
    for frame, frame_bytes in zip(frames[1:], data, strict=True):  # the decoder never has a later frame's bytes
        decoded = decoder.decode(frame_bytes)
        assert decoded.dtype == np.int32 and np.array_equal(decoded, frame)
    return data


# -- quantiser ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", VARIANTS, ids=str)
def test_the_quantiser_errs_by_half_a_step_and_keeps_its_own_output(of: KeypointSettings) -> None:
    rng = np.random.default_rng(1)
    keypoints = rng.uniform(-1, 1, (of.n_keypoints, 2))
    jacobians = rng.normal(0, 2, (of.n_keypoints, 2, 2)).clip(-8, 8) if of.jacobians else None
    symbols = of.quantise(keypoints, jacobians)
    assert symbols.dtype == np.int32 and symbols.shape == of.shape
    decoded, decoded_jacobians = of.dequantise(symbols)
    assert decoded.dtype == np.float32 and np.abs(decoded - keypoints).max() <= 0.5 / of.step + 1e-9
    if jacobians is None:
        assert decoded_jacobians is None
    else:
        assert decoded_jacobians is not None and decoded_jacobians.shape == (of.n_keypoints, 2, 2)
        assert np.abs(decoded_jacobians - jacobians).max() <= 0.5 / of.jacobian_step + 1e-6
    assert np.array_equal(of.quantise(decoded, decoded_jacobians), symbols)


def test_what_is_outside_of_the_picture_moves_to_its_border() -> None:
    of = KeypointSettings(n_keypoints=2, jacobians=True)
    jacobians = np.array([[[1e9, 1], [0, -1e9]], [[8, -8], [0, 0]]])
    keypoints, decoded = of.dequantise(of.quantise(np.array([[1.00001, -3], [1, -1]]), jacobians))
    assert decoded is not None
    assert keypoints.tolist() == [[1, -1], [1, -1]]
    assert decoded.tolist() == [[[JACOBIAN_LIMIT, 1], [0, -JACOBIAN_LIMIT]], [[8, -8], [0, 0]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": 100}, "100"),
        ({"n_keypoints": 0}, "0 keypoints"),
        ({"n_keypoints": 100_000}, "100000"),
        ({"jacobian_step": -1}, "-1"),
    ],
)
def test_settings_that_cannot_be_coded_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        KeypointSettings(**arguments)  # type: ignore[arg-type]


def test_keypoints_that_the_settings_do_not_describe_are_refused() -> None:
    plain, full = KeypointSettings(n_keypoints=2), KeypointSettings(n_keypoints=2, jacobians=True)
    with pytest.raises(InputError, match="nan"):
        plain.quantise(np.array([[0, 0], [math.nan, 0]]))
    with pytest.raises(InputError, match="jacobians hold -?inf"):
        full.quantise(np.zeros((2, 2)), np.full((2, 2, 2), math.inf))
    with pytest.raises(InputError, match=r"\(3, 2\)"):
        plain.quantise(np.zeros((3, 2)))
    with pytest.raises(InputError, match="jacobians"):
        full.quantise(np.zeros((2, 2)))
    with pytest.raises(InputError, match="jacobians"):
        plain.quantise(np.zeros((2, 2)), np.zeros((2, 2, 2)))


def test_symbols_outside_of_the_alphabet_are_refused() -> None:
    of = KeypointSettings(n_keypoints=2, step=64)
    encoder = KeypointEncoder(of)
    for wrong in (np.array([[0, 0], [65, 0]]), np.zeros((3, 2), np.int32), np.zeros((2, 2))):
        for function in (encoder.start, encoder.encode, of.dequantise):
            with pytest.raises(InputError):
                function(wrong)  # type: ignore[arg-type]


# -- round trip --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", VARIANTS, ids=str)
@pytest.mark.parametrize("sigma", [0.2, 1.0, 30.0])
def test_random_walks_come_back(of: KeypointSettings, sigma: float) -> None:
    assert_round_trip(of, walk(of, 40, sigma))


@pytest.mark.parametrize("of", VARIANTS, ids=str)
def test_jumps_over_the_whole_range_come_back(of: KeypointSettings) -> None:
    low, high = np.broadcast_to(-limits(of), of.shape), np.broadcast_to(limits(of), of.shape)
    rng = np.random.default_rng(2)
    anywhere = [rng.integers(low, high + 1, dtype=np.int32) for _ in range(10)]
    frames = [low, high, low, low, high] + anywhere + [high, high] * 3 + [low] * 30 + [high]
    data = assert_round_trip(of, [frame.astype(np.int32) for frame in frames])
    bits = [math.log2(2 * limit + 1) for limit in of.limits]
    # an escape costs about twice the bits of its value, whatever the statistics were
    assert max(map(len, data)) <= of.n_keypoints * sum(3 * b + 20 for b in bits) / 8 + 4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(-64, 64), min_size=4, max_size=4), min_size=1, max_size=12))
def test_any_motion_comes_back(values: list[list[int]]) -> None:
    assert_round_trip(KeypointSettings(n_keypoints=2, step=64), [np.array(v, np.int32).reshape(2, 2) for v in values])


def test_what_stands_still_has_no_bytes() -> None:
    of = KeypointSettings()
    moving = walk(of, 30, 1.0)
    data = assert_round_trip(of, moving + moving[-1:] * 200)
    assert all(data[:29]) and not any(data[29:])


def test_a_new_reference_is_free_and_predicts_what_follows() -> None:
    of = KeypointSettings(step=256)
    first, second = walk(of, 20, 1.0, seed=3), walk(of, 20, 1.0, seed=4)
    assert np.abs(first[-1] - second[0]).max() > 50
    encoder, decoder = KeypointEncoder(of), KeypointDecoder(of)
    sizes = []
    for part in (first, second, first):
        encoder.start(part[0])
        decoder.start(part[0])
        for frame in part[1:]:
            data = encoder.encode(frame)
            assert np.array_equal(decoder.decode(data), frame)
            sizes.append(len(data))
    assert max(sizes[19:]) <= max(sizes[:19]) + 2  # no jump was coded
    assert sum(sizes[38:]) < sum(sizes[:19])  # and nothing was forgotten


def test_the_caller_may_change_the_arrays_that_it_gave_and_got() -> None:
    of = KeypointSettings(n_keypoints=2)
    frames = walk(of, 10, 2.0)
    expected = encoded(of, frames)
    encoder, decoder, scratch = KeypointEncoder(of), KeypointDecoder(of), frames[0].copy()
    encoder.start(scratch)
    decoder.start(scratch)
    for frame, data in zip(frames[1:], expected, strict=True):
        scratch[:] = frame
        assert encoder.encode(scratch) == data
        decoded = decoder.decode(data)
        assert np.array_equal(decoded, frame)
        decoded[:] = scratch[:] = 0


# -- size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "within"), [(0.5, 0.15), (2.0, 0.08), (20.0, 0.06)])
def test_a_random_walk_costs_little_more_than_its_entropy(sigma: float, within: float) -> None:
    of = KeypointSettings(step=512)
    rng = np.random.default_rng(5)
    moves = np.rint(rng.normal(0, sigma, (400, *of.shape))).astype(np.int32)
    frames = [np.zeros(of.shape, np.int32)]
    for move in moves:  # a step that would leave the picture goes the other way: as probable, and possible
        turned = np.where(np.abs(frames[-1] + move) > of.step, -move, move)
        frames.append((frames[-1] + turned).astype(np.int32))
    counts = np.unique(moves, return_counts=True)[1] / moves.size
    entropy_bits = -float(np.sum(counts * np.log2(counts))) * moves.size
    bits = 8 * sum(map(len, encoded(of, frames)))
    assert entropy_bits * 0.98 < bits < entropy_bits * (1 + within)


def test_common_motion_and_steady_motion_are_predicted() -> None:
    of = KeypointSettings(step=256)
    rng = np.random.default_rng(6)
    shift = np.rint(np.cumsum(rng.normal(0, 4, (150, 1, 2)), axis=0)).astype(np.int32)
    alone = np.rint(np.cumsum(rng.normal(0, 4, (150, 10, 2)), axis=0)).astype(np.int32)
    t = np.arange(150)[:, None, None]
    circle = np.rint(120 * np.cos(t / 12 + np.arange(20).reshape(1, 10, 2))).astype(np.int32)
    together, apart, steady = (
        sum(map(len, encoded(of, list(np.clip(track, -256, 256) + np.zeros(of.shape, np.int32)))))
        for track in (shift, alone, circle)
    )
    assert together < 0.4 * apart
    assert steady < 0.6 * apart  # though it moves 10 steps a frame where it is fastest


# -- damage ------------------------------------------------------------------------------------------------------------


def decode_damaged(of: KeypointSettings, reference: Symbols, data: list[bytes]) -> int:
    """Frames before a BitstreamError; all of them must be inside of the alphabet."""
    decoder = KeypointDecoder(of)
    decoder.start(reference)
    for t, frame_bytes in enumerate(data):
        try:
            symbols = decoder.decode(frame_bytes)
        except BitstreamError:
            return t
        assert_in_alphabet(of, symbols)
    return len(data)


def assert_in_alphabet(of: KeypointSettings, symbols: Symbols) -> None:
    assert symbols.shape == of.shape and symbols.dtype == np.int32 and (np.abs(symbols) <= of.limits).all()


@pytest.mark.parametrize("of", [KeypointSettings(step=64), KeypointSettings(n_keypoints=4, jacobians=True)], ids=str)
def test_damage_gives_an_error_or_symbols_of_the_alphabet(of: KeypointSettings) -> None:
    frames = walk(of, 12, 1.5)
    data = encoded(of, frames)
    rng = random.Random(7)
    found = 0
    for _ in range(500):
        damaged = list(data)
        t = rng.randrange(len(data))
        frame_bytes = bytearray(data[t])
        match rng.randrange(4):
            case 0:
                frame_bytes[rng.randrange(len(frame_bytes))] ^= 1 << rng.randrange(8)
            case 1:
                frame_bytes = bytearray(rng.randbytes(rng.randrange(40)))
            case 2:
                frame_bytes += rng.randbytes(rng.randrange(1, 5))
            case 3:
                frame_bytes = bytearray(b"\xff" * rng.randrange(1, 300))
        damaged[t] = bytes(frame_bytes)
        found += decode_damaged(of, frames[0], damaged) < len(data)
    assert found > 250


def test_every_truncation_gives_an_error_or_symbols_of_the_alphabet() -> None:
    of = KeypointSettings(n_keypoints=5, jacobians=True)
    frames = walk(of, 8, 3.0)
    data = encoded(of, frames)
    for t, whole in enumerate(data):
        for size in range(len(whole)):  # it is noticed in the frame that was cut, or in one after it, or never
            assert decode_damaged(of, frames[0], [*data[:t], whole[:size], *data[t + 1 :]]) >= t


def test_a_decoder_that_met_an_error_can_go_on() -> None:
    of = KeypointSettings(n_keypoints=2)
    frames = walk(of, 6, 2.0)
    data = encoded(of, frames)
    decoder = KeypointDecoder(of)
    decoder.start(frames[0])
    with pytest.raises(BitstreamError):
        decoder.decode(data[0] + bytes(100))
    decoder.start(frames[1])
    for frame_bytes in data[1:]:
        try:
            symbols = decoder.decode(frame_bytes)
        except BitstreamError:
            continue
        assert_in_alphabet(of, symbols)
    decoder.start(frames[0])  # whatever it has learnt meanwhile
    assert np.array_equal(decoder.decode(b""), frames[0])


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_parities_settle_keypoints_that_another_machine_finds_a_little_off(seed: int, jacobians: bool) -> None:
    rng = np.random.default_rng(seed)
    settings = KeypointSettings(n_keypoints=5, step=64, jacobians=jacobians)
    found = rng.uniform(-1.05, 1.05, (5, 2))
    found[0] = 1.0, -1.0
    found[1] = 0.5 / 64, -0.5 / 64  # half-way between two symbols
    slopes = rng.normal(0, 4, (5, 2, 2)) if jacobians else None
    symbols = settings.quantise(found, slopes)

    def off(values: NDArray[np.float64], limit: int) -> NDArray[np.float32]:
        return (values + rng.uniform(-0.4, 0.4, values.shape) / 64 * (np.abs(values) < limit)).astype(np.float32)

    elsewhere = off(found, 1), None if slopes is None else off(slopes, JACOBIAN_LIMIT)
    assert np.array_equal(settle(settings, settings.unrounded(*elsewhere), parities(symbols)), symbols)


def test_parities_of_another_length_are_refused() -> None:
    settings = KeypointSettings(n_keypoints=5)
    with pytest.raises(BitstreamError, match="3 bytes of parities for 10"):
        settle(settings, np.zeros((5, 2)), b"abc")
