"""hdac.published_coders: what goes in comes out, statistics are learnt, damage is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from data.errors import BitstreamError, InputError
from hdac import points
from hdac.keypoints import KeypointSettings
from hdac.points import PointSettings, Values
from hdac.published_coders import (
    JACOBIAN_RANGE,
    N_BINS,
    N_CLASSES,
    N_EXACT,
    HuffmanDecoder,
    HuffmanEncoder,
    PriorDecoder,
    PriorEncoder,
    PriorSettings,
    class_of,
    learn_lengths,
    learn_prior,
)

OF = KeypointSettings(20, 128)


def walk(n: int, sigma: float = 1.0, seed: int = 0) -> NDArray[np.int32]:
    """Symbols (n, 20, 2) of points that move together and apart."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, sigma, (n, 1, 2)) + rng.normal(0, sigma / 2, (n, 20, 2))
    return np.clip(np.rint(rng.uniform(-60, 60, (20, 2)) + steps.cumsum(0)), -128, 128).astype(np.int32)


LENGTHS = learn_lengths([np.diff(walk(300, seed=9), axis=0)])


def test_code_words_are_shorter_for_what_is_frequent_and_none_begins_another() -> None:
    assert LENGTHS[1] < LENGTHS[4] < LENGTHS[20] and (2.0 ** -LENGTHS.astype(float)).sum() == 1
    words = HuffmanEncoder(OF, LENGTHS).words
    texts = [f"{word:0{n}b}" for word, n in zip(words, LENGTHS, strict=True)]
    assert not any(a != b and b.startswith(a) for a in texts for b in texts)
    counts = np.bincount(np.minimum(np.abs(np.diff(walk(300, seed=9), axis=0)).ravel(), N_BINS - 1), minlength=N_BINS)
    shares = counts[counts > 0] / counts.sum()
    mean_length = (counts * LENGTHS).sum() / counts.sum()
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy <= mean_length < entropy + 0.2


def test_huffman_coded_landmarks_come_back_and_large_displacements_are_caught_up_with() -> None:
    encoder, decoder = HuffmanEncoder(OF, LENGTHS), HuffmanDecoder(OF, LENGTHS)
    frames = walk(40)
    frames[20:] = -frames[20:]  # up to 120 steps at once
    frames[30:] = frames[30]
    encoder.start(frames[0])
    decoder.start(frames[0])
    sizes, behind = [], []
    for frame in frames:
        held = encoder.held(frame)
        layer = encoder.encode(frame)
        assert np.array_equal(decoder.decode(layer), held)
        sizes.append(len(layer))
        behind.append(int(np.abs(held - frame).max()))
    assert max(behind[:20]) == 0 < behind[20] and max(behind[30:]) == 0
    still = -(-int(LENGTHS[0]) * 40 // 8)
    assert sizes[0] == sizes[-1] == still <= min(sizes) < np.mean(sizes[1:20])


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"\xff" * 99, lambda b: b""])
def test_frames_that_no_huffman_encoder_writes_are_refused(damage) -> None:  # type: ignore[no-untyped-def]
    encoder, decoder = HuffmanEncoder(OF, LENGTHS), HuffmanDecoder(OF, LENGTHS)
    encoder.start(walk(2)[0])
    decoder.start(walk(2)[0])
    with pytest.raises(BitstreamError):
        decoder.decode(damage(encoder.encode(walk(2)[1])))


def test_a_decoder_stays_within_the_quantiser() -> None:
    settings = KeypointSettings(1, 64)
    encoder, decoder = HuffmanEncoder(KeypointSettings(1, 128), LENGTHS), HuffmanDecoder(settings, LENGTHS)
    encoder.start(np.array([[50, 0]], np.int32))
    decoder.start(np.array([[50, 0]], np.int32))
    with pytest.raises(BitstreamError, match="outside"):
        decoder.decode(encoder.encode(np.array([[70, 0]], np.int32)))


def test_lengths_of_no_code_and_jacobians_are_refused() -> None:
    for lengths in (np.zeros(N_BINS, np.uint8), np.full(N_BINS, 4, np.uint8), LENGTHS[:-1]):
        with pytest.raises(InputError, match="no Huffman code"):
            HuffmanEncoder(OF, lengths)
    with pytest.raises(InputError, match="Jacobians"):
        HuffmanEncoder(KeypointSettings(10, 128, jacobians=True), LENGTHS)


# -- prior -----------------------------------------------------------------------------------------------------------

MOST = PriorSettings(10, 33, jacobians=True, n_expression=16)


def motion(n: int, seed: int = 0) -> list[dict[str, NDArray[np.float64]]]:
    rng = np.random.default_rng(seed)
    shapes = {"learned": (10, 2), "landmarks": (33, 2), "jacobians": (10, 2, 2), "expression": (16,)}
    walks = {name: rng.normal(0, 0.01, (n, *shape)).cumsum(0) + rng.uniform(-0.3, 0.3, shape) for name, shape in shapes.items()}
    return [{name: values[t] for name, values in walks.items()} for t in range(n)]


def test_every_difference_has_a_class_and_comes_back() -> None:
    assert [class_of(n)[0] for n in (0, 1, -1, N_EXACT, N_EXACT + 1, 31, 32, 63, 64)] == [0, 1, 1, 16, 17, 17, 18, 18, 19]
    assert class_of((1 << 17) - 1)[0] == N_CLASSES - 1
    assert all(class_of(n)[1:] == (n.bit_length() - 1, n - (1 << n.bit_length() - 1)) for n in (17, 40, 1000))


def test_motion_by_a_prior_comes_back_as_fine_as_it_was_published() -> None:
    symbols = [np.stack([MOST.quantise(**one) for one in motion(60, seed)]) for seed in (0, 1)]
    prior = learn_prior(symbols, MOST.kinds)
    assert (prior.sum(-1) == 1 << 16).all() and prior.min() >= 1
    encoder, decoder = PriorEncoder(MOST, prior), PriorDecoder(MOST, prior)
    sizes = []
    for wanted, frame in zip(motion(60), symbols[0], strict=True):
        layer = encoder.encode(frame)
        sizes.append(len(layer))
        got = MOST.dequantise(decoder.decode(layer))
        for name, within in (
            ("learned", 1.01 / 4095),
            ("landmarks", 1.01 / 255),
            ("jacobians", 1.01 * JACOBIAN_RANGE / 65535),
            ("expression", 1.01 / 1023),
        ):
            assert np.abs(got[name] - wanted[name]).max() <= within, name
    raw = (10 * 2 * 12 + 33 * 2 * 8 + 40 * 16 + 16 * 10) / 8
    flat = PriorEncoder(MOST, learn_prior([], []))
    assert np.mean(sizes[1:]) < 0.8 * raw and sum(sizes) < sum(len(flat.encode(frame)) for frame in symbols[0])


def test_behind_a_reference_a_prior_pays_for_what_has_moved_alone() -> None:
    """And another machine, which finds the reference's values a little off, has the same symbols."""
    rng = np.random.default_rng(5)
    settings = PointSettings(MOST.n_learned, MOST.n_landmarks, MOST.jacobians, MOST.n_expression)
    kinds = settings.published.kinds
    still = [rng.integers(-2, 3, (50, len(kinds))).cumsum(0)]
    prior, lengths = learn_prior(still, kinds), np.zeros(N_BINS, np.uint8)

    def somewhere(off: float = 0.0) -> Values:
        of = np.random.default_rng(6)
        shapes = (MOST.n_learned, 2), (MOST.n_learned, 2, 2), (MOST.n_landmarks, 2), (MOST.n_expression,)
        learned, jacobians, landmarks, expression = (np.float32(of.uniform(-0.9, 0.9, shape) + off) for shape in shapes)
        return Values(learned, jacobians, landmarks, expression)

    encoder, decoder = (make("prior", settings, lengths, prior) for make in (points.encoder, points.decoder))
    sent, had = encoder.start(somewhere())
    assert sent is not None and len(sent) == decoder.n_at_rest == (len(kinds) + 7) // 8
    found = decoder.start(somewhere(1e-6), sent)
    assert all(np.array_equal(a, b) for a, b in zip(had[:4], found[:4], strict=True))
    layer, had = encoder.encode(somewhere())
    assert 8 * len(layer) < 4 * len(kinds)
    assert all(np.array_equal(a, b) for a, b in zip(had[:4], decoder.decode(layer)[:4], strict=True))
    for wrong in (None, sent[:-1], sent + b"0"):
        with pytest.raises(BitstreamError, match="parities"):
            decoder.start(somewhere(), wrong)


def test_frames_that_no_encoder_by_a_prior_writes_are_refused() -> None:
    of = PriorSettings(0, 20)
    frames = np.stack([of.quantise(landmarks=one["landmarks"][:20]) for one in motion(3)])
    prior = learn_prior([frames], of.kinds)
    layer = PriorEncoder(of, prior).encode(frames[0])
    for damaged in (layer + b"\0", layer + b"\1", b"\xff" * 60):
        with pytest.raises(BitstreamError):
            PriorDecoder(of, prior).decode(damaged)
    with pytest.raises(InputError, match="no prior"):
        PriorEncoder(of, np.zeros_like(prior))
    with pytest.raises(InputError, match="cannot be coded"):
        of.quantise(landmarks=np.full((20, 2), np.nan))
