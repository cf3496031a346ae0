"""The motion stream of face-vid2vid: what was sent comes back, by both coders; damage stays inside the alphabet."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from data.errors import BitstreamError, InputError
from hdac.keypoints import parities, settle
from hdac.parameters import (
    HOLD,
    POSE_ROWS,
    RANGE,
    Motion,
    PaperDecoder,
    PaperEncoder,
    ParameterDecoder,
    ParameterEncoder,
    ParameterSettings,
    learn_tables,
    table_shape,
)

K = 8


def walk(n_frames: int, seed: int = 0, sigma: float = 0.01) -> NDArray[np.float32]:
    """(T, 2 + K, 3): a random walk of all parameters."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0, sigma, (n_frames, POSE_ROWS + K, 3)), axis=0).astype(np.float32)


def counts(n_frames: int) -> list[int]:
    """How many deformations are sent: all, some, none, and the same number several times."""
    return [(K, K, 3, 3, 0, 5, K)[t % 7] for t in range(n_frames)]


@pytest.mark.parametrize("step", [64, 512])
def test_the_adaptive_coder_gives_back_what_was_sent_and_holds_the_rest(step: int) -> None:
    of = ParameterSettings(K, step)
    encoder, decoder = ParameterEncoder(of), ParameterDecoder(of)
    last = np.zeros(of.shape, np.int32)
    for table, k in zip(walk(40), counts(40), strict=True):
        symbols = of.quantise(Motion.of(table))
        got = decoder.decode(encoder.encode_first(symbols, k))
        n = POSE_ROWS + k
        assert np.array_equal(got[:n], symbols[:n]) and np.array_equal(got[n:], last[n:]) and decoder.count == k
        assert np.abs(of.dequantise(got).table[:n] - table[:n]).max() <= 0.5 / step + 1e-6
        last = got


def test_a_still_head_takes_no_bytes() -> None:
    of = ParameterSettings(K, 128)
    encoder = ParameterEncoder(of)
    symbols = of.quantise(Motion.of(walk(1, sigma=0.3)[0]))
    assert len(encoder.encode_first(symbols, K)) > 10
    assert [encoder.encode_first(symbols, K) for _ in range(3)] == [b""] * 3


def test_noise_of_less_than_a_step_costs_nothing_and_motion_is_followed() -> None:
    of = ParameterSettings(K, 128)
    encoder = ParameterEncoder(of)
    still, rng = walk(1, sigma=0.3)[0], np.random.default_rng(1)
    encoder.encode_first(of.quantise(Motion.of(still)), K)
    on_the_edge = (np.floor(still * 128) + 0.5).astype(np.float32) / 128  # where rounding flips
    sizes = {False: 0, True: 0}
    for _ in range(10):
        noisy = Motion.of(on_the_edge + rng.normal(0, 0.05 / 128, still.shape).astype(np.float32))
        twin = encoder.copied()
        sizes[False] += len(twin.encode_first(of.quantise(noisy), K))
        sizes[True] += len(encoder.encode_first(encoder.steady(noisy), K))
    assert sizes[True] == 0 < sizes[False]
    for t, table in enumerate(walk(20, seed=2, sigma=0.02)):
        symbols = encoder.steady(Motion.of(table))
        encoder.encode_first(symbols, K)
        assert np.abs(of.dequantise(symbols).table - table).max() <= HOLD / 128 + 1e-6, t


def test_fewer_deformations_take_fewer_bytes() -> None:
    of, tables = ParameterSettings(K, 128), learn_tables([walk(80, seed) for seed in (1, 2)])
    sizes = []
    for k in (0, 4, K):
        encoder, paper = ParameterEncoder(of), PaperEncoder(tables)
        frames = walk(40)
        ours = sum(len(encoder.encode_first(of.quantise(Motion.of(table)), k)) for table in frames)
        sizes.append((ours, sum(len(paper.encode_first(table, k)[0]) for table in frames)))
    assert all(a < b for small, large in zip(sizes[:-1], sizes[1:], strict=True) for a, b in zip(small, large, strict=True))
    assert all(2 * ours < paper for ours, paper in sizes)


def test_the_papers_coder_gives_back_fp16_and_zeros() -> None:
    tables = learn_tables([walk(80, seed) for seed in (1, 2)])
    encoder, decoder = PaperEncoder(tables), PaperDecoder(tables)
    for table, k in zip(walk(40), counts(40), strict=True):
        layer, had = encoder.encode_first(table, k)
        got = decoder.decode(layer)
        n = POSE_ROWS + k
        assert np.array_equal(got, had) and not got[n:].any() and decoder.count == k
        assert np.abs(got[:n] - table[:n]).max() < 2e-3  # of differences in fp16


def test_tables_are_frequencies_and_know_what_they_have_seen() -> None:
    tables = learn_tables([walk(80)])
    assert tables.shape == table_shape(K) and tables.min() >= 1 and (tables.sum(-1) == 1 << 16).all()
    seen, other = (PaperEncoder(tables) for _ in range(2))
    known = sum(len(seen.encode_first(table, K)[0]) for table in walk(80))
    raw = 2 * 3 * (POSE_ROWS + K) * 80
    foreign = sum(len(other.encode_first(table, K)[0]) for table in 1.7 + walk(80, sigma=0.3))
    assert known < 0.9 * raw < foreign
    with pytest.raises(InputError, match="no tables"):
        PaperEncoder(np.zeros_like(tables))


def test_what_the_papers_coder_is_given_beyond_its_range_moves_to_its_border() -> None:
    tables = learn_tables([walk(80)])
    encoder, decoder = PaperEncoder(tables), PaperDecoder(tables)
    for scale in (0.0, 100.0, -100.0):
        layer, had = encoder.encode_first(walk(1)[0] + scale, K)
        assert np.array_equal(decoder.decode(layer), had) and np.abs(had).max() <= RANGE


def test_the_reference_settles_what_the_first_frame_is_predicted_from() -> None:
    of = ParameterSettings(K, 128)
    found = walk(1, sigma=0.3)[0]
    symbols = of.quantise(Motion.of(found))
    nearby = Motion.of(found + np.float32(1e-6))  # another machine's
    assert np.array_equal(settle(of, of.unrounded(nearby), parities(symbols)), symbols)
    encoder, decoder = ParameterEncoder(of), ParameterDecoder(of)
    encoder.start(symbols)
    decoder.start(symbols)
    assert encoder.encode_first(symbols, K) == b"" and np.array_equal(decoder.decode(b""), symbols)


def test_what_a_frame_would_take_is_seen_without_taking_it() -> None:
    of, tables = ParameterSettings(K, 128), learn_tables([walk(80)])
    ours, papers = ParameterEncoder(of), PaperEncoder(tables)
    for table in walk(10):
        symbols = of.quantise(Motion.of(table))
        tried, theirs = ours.copied().encode_first(symbols, K), papers.copied().encode_first(table, K)[0]
        assert tried == ours.encode_first(symbols, K) and theirs == papers.encode_first(table, K)[0]


def test_what_cannot_be_sent_is_refused_by_name() -> None:
    of = ParameterSettings(K, 128)
    with pytest.raises(InputError, match="32 keypoints"):
        ParameterSettings(32)
    with pytest.raises(InputError, match="step 100"):
        ParameterSettings(K, 100)
    table = walk(1)[0]
    with pytest.raises(InputError, match="finite"):
        of.quantise(Motion.of(np.where(table == table[3, 1], np.nan, table)))
    with pytest.raises(InputError, match="9 of 8"):
        ParameterEncoder(of).encode_first(of.quantise(Motion.of(table)), 9)
    with pytest.raises(InputError, match="9 of 8"):
        PaperEncoder(learn_tables([walk(9)])).encode_first(table, 9)
    far = of.quantise(Motion.of(table + 100))
    assert far.max() == RANGE * 128  # nothing wraps
    with pytest.raises(InputError, match="outside"):
        of.checked(far + 1)


@pytest.mark.parametrize("coder", ["adaptive", "paper"])
def test_damage_is_an_error_or_a_motion(coder: str) -> None:
    of, tables = ParameterSettings(K, 128), learn_tables([walk(80)])
    rng, noticed = random.Random(3), 0
    for trial in range(150):
        encoder, paper = ParameterEncoder(of), PaperEncoder(tables)
        decoder: ParameterDecoder | PaperDecoder = ParameterDecoder(of) if coder == "adaptive" else PaperDecoder(tables)
        try:
            for table in walk(6, seed=trial, sigma=0.05):
                whole = encoder.encode_first(of.quantise(Motion.of(table)), K)
                data = bytearray(whole if coder == "adaptive" else paper.encode_first(table, K)[0])
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                got = decoder.decode(bytes(data))
                assert np.isfinite(got).all() and np.abs(got).max() <= (RANGE * 128 if coder == "adaptive" else 2 * RANGE)
        except BitstreamError:
            noticed += 1
    assert noticed > 30
