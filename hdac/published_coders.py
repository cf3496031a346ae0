"""The motion coders that the papers of the mobile family publish, each with statistics that are learnt beforehand and part of
the weights. Ours, for the same symbols, is `hdac.keypoints`.

    huffman   Oquab et al., CVPR workshops 2021, section 4.2: the displacement of every coordinate since the frame before, its
              size in one of 32 bins by a Huffman code, and a sign bit where it is not zero. A larger displacement takes more
              than one frame: the decoder is behind for so long
    prior     Oquab et al., CVPR workshops 2022, section 4.3: mean of the points and positions relative to it, learned
              keypoints in 12 bits, landmarks in 8, Jacobians in 16 in [-15, 15], expression codes in 10 in [-1, 1];
              differences to the frame before, arithmetic coded by one fixed distribution a kind of value. Here a difference
              is a class, one of N_CLASSES, and the rest of its bits as they are

Both code a frame by itself, in whole bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import BitstreamError, InputError
from hdac.keypoints import KeypointSettings, Symbols, nearest
from hdac.range_coder import PROBABILITY_BITS, RangeDecoder, RangeEncoder

# -- Huffman ---------------------------------------------------------------------------------------------------------

N_BINS = 32
MAX_LENGTH = N_BINS - 1
"""Of a code word: what a decoder reads before it gives up."""

Lengths = NDArray[np.uint8]
"""(N_BINS,): bits of every code word of a canonical code."""


def learn_lengths(displacements: Iterable[NDArray[np.int32]]) -> Lengths:
    """Of the Huffman code for these displacements, and for each of the bins, even one that was not seen."""
    counts = np.ones(N_BINS, np.int64)
    for one in displacements:
        counts += np.bincount(np.minimum(np.abs(one).ravel(), N_BINS - 1), minlength=N_BINS)
    heap: list[tuple[int, int, list[int]]] = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    lengths = np.zeros(N_BINS, np.uint8)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        lengths[a[2] + b[2]] += 1
        heapq.heappush(heap, (a[0] + b[0], a[1], a[2] + b[2]))
    return lengths


def _words(lengths: Lengths) -> list[int]:
    """Canonical code words. Raises InputError for lengths of no complete code."""
    allowed = len(lengths) == N_BINS and 0 < lengths.min() and lengths.max() <= MAX_LENGTH
    if not allowed or (2.0 ** -lengths.astype(float)).sum() != 1:
        raise InputError("these weights have no Huffman code of displacements")
    words, word, before = [0] * N_BINS, 0, 0
    for symbol in sorted(range(N_BINS), key=lambda i: (lengths[i], i)):
        word <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        words[symbol] = word
        word += 1
    return words


class _Huffman:
    def __init__(self, settings: KeypointSettings, lengths: Lengths) -> None:
        if settings.jacobians:
            raise InputError("the Huffman coder knows no Jacobians")
        self.settings = settings
        self.words = _words(lengths)
        self.lengths = [int(n) for n in lengths]
        self.last = np.zeros(settings.shape, np.int32)

    def start(self, reference_symbols: Symbols) -> None:
        """Displacements are from these, (K, 2), to begin with."""
        self.last = self.settings.checked(reference_symbols).astype(np.int32)


class HuffmanEncoder(_Huffman):
    """Symbols in, the bytes of each frame out."""

    def held(self, symbols: Symbols) -> Symbols:
        """What a decoder will have of the next frame."""
        moved = np.clip(self.settings.checked(symbols) - self.last, 1 - N_BINS, N_BINS - 1)
        return (self.last + moved).astype(np.int32)

    def encode(self, symbols: Symbols) -> bytes:
        """The next frame, (K, 2)."""
        held = self.held(symbols)
        bits, n_bits = 0, 0
        for moved in (held - self.last).ravel().tolist():
            size = abs(moved)
            bits, n_bits = bits << self.lengths[size] | self.words[size], n_bits + self.lengths[size]
            if size:
                bits, n_bits = bits << 1 | (moved < 0), n_bits + 1
        self.last = held
        n_bytes = -(-n_bits // 8)
        return (bits << 8 * n_bytes - n_bits).to_bytes(n_bytes, "big")


class HuffmanDecoder(_Huffman):
    """The mirror image of HuffmanEncoder."""

    def __init__(self, settings: KeypointSettings, lengths: Lengths) -> None:
        super().__init__(settings, lengths)
        self.symbol = {(n, word): i for i, (n, word) in enumerate(zip(self.lengths, self.words, strict=True))}

    def decode(self, frame_bytes: bytes) -> Symbols:
        """The next frame's symbols. Raises BitstreamError for bytes that no encoder writes."""
        if 8 * len(frame_bytes) > self.last.size * (MAX_LENGTH + 1) + 7:
            raise BitstreamError(f"landmarks: a frame of {len(frame_bytes)} bytes")
        bits, left = int.from_bytes(frame_bytes, "big"), 8 * len(frame_bytes)

        def read() -> int:
            nonlocal left
            if not left:
                raise BitstreamError(f"landmarks: the {len(frame_bytes)} bytes of a frame end too early")
            left -= 1
            return bits >> left & 1

        moved = np.zeros(self.last.size, np.int32)
        for i in range(len(moved)):
            word = n = 0
            while (n, word) not in self.symbol:
                if n == MAX_LENGTH:
                    raise BitstreamError("landmarks: a code word of no displacement")
                word, n = word << 1 | read(), n + 1
            size = self.symbol[n, word]
            moved[i] = -size if size and read() else size
        if left >= 8 or bits & (1 << left) - 1:
            raise BitstreamError(f"landmarks: {left} bits behind the last one of a frame")
        symbols = self.last + moved.reshape(self.last.shape)
        try:
            self.last = self.settings.checked(symbols).astype(np.int32)
        except InputError as error:
            raise BitstreamError(str(error)) from error
        return self.last


# -- arithmetic coding by a prior ------------------------------------------------------------------------------------

KINDS = ("mean", "learned", "landmark", "jacobian", "expression")
LIMIT_BITS = {"mean": 12, "learned": 12, "landmark": 8, "jacobian": 16, "expression": 10}
JACOBIAN_RANGE = 15.0
N_EXACT = 16
"""Differences up to here have a class of their own; larger ones share one with those of as many bits."""
N_CLASSES = N_EXACT + 1 + 13

Prior = NDArray[np.int32]
"""(len(KINDS), N_CLASSES): frequencies of the classes of differences, each row summing to 65536."""


@dataclass(frozen=True)
class PriorSettings:
    """What a frame is made of."""

    n_learned: int
    n_landmarks: int
    jacobians: bool = False
    n_expression: int = 0

    @property
    def kinds(self) -> list[str]:
        """Of every value of a frame, in the order in which they are coded."""
        kinds = []
        for name, count in (("learned", self.n_learned), ("landmark", self.n_landmarks)):
            kinds += (["mean"] * 2 + [name] * 2 * count) if count else []
        return kinds + ["jacobian"] * 4 * self.n_learned * self.jacobians + ["expression"] * self.n_expression

    def quantise(
        self,
        learned: ArrayLike | None = None,
        landmarks: ArrayLike | None = None,
        jacobians: ArrayLike | None = None,
        expression: ArrayLike | None = None,
        sent: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.int64]:
        """(n,) symbols of a frame. learned, landmarks: (K, 2) in [-1, 1]; jacobians (U, 2, 2); expression (M,) in [-1, 1].

        sent: the lowest bits of all symbols, (n,), as an encoder found them; None: they are rounded. Raises BitstreamError
        where no symbols near have them.
        """
        parts: list[NDArray[np.int64]] = []

        def add(values: ArrayLike | None, kind: str) -> NDArray[np.int64]:
            exact = _in_steps(np.asarray(values, np.float64), kind)
            low, high = _bounds(kind)
            if sent is None:
                parts.append(np.clip(np.rint(exact), low, high).astype(np.int64).ravel())
            else:
                begin = sum(map(len, parts))
                parts.append(nearest(exact, sent[begin : begin + exact.size], low, high).astype(np.int64).ravel())
            return parts[-1]

        for points, name, count in ((learned, "learned", self.n_learned), (landmarks, "landmark", self.n_landmarks)):
            if count:
                table = np.asarray(points, np.float64).reshape(count, 2)
                mean = add(table.mean(0), "mean")
                add(table - _from_symbols(mean, "mean"), name)
        if self.jacobians:
            add(jacobians, "jacobian")
        if self.n_expression:
            add(expression, "expression")
        return np.concatenate(parts)

    def dequantise(self, symbols: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """By name of `quantise`'s arguments, as a decoder has them."""
        found: dict[str, NDArray[np.float32]] = {}
        at = 0

        def take(kind: str, *shape: int) -> NDArray[np.float64]:
            nonlocal at
            count = int(np.prod(shape))
            values = _from_symbols(symbols[at : at + count], kind).reshape(shape)
            at += count
            return values

        for name, kind, count in (("learned", "learned", self.n_learned), ("landmarks", "landmark", self.n_landmarks)):
            if count:
                mean = take("mean", 2)
                found[name] = (mean + take(kind, count, 2)).astype(np.float32)
        if self.jacobians:
            found["jacobians"] = take("jacobian", self.n_learned, 2, 2).astype(np.float32)
        if self.n_expression:
            found["expression"] = take("expression", self.n_expression).astype(np.float32)
        return found


def _unit(kind: str) -> float:
    """Steps per unit: points are at most 2 apart, codes and positions lie in [-1, 1]."""
    return ((1 << LIMIT_BITS[kind]) - 1) / (2 * (JACOBIAN_RANGE if kind == "jacobian" else 1))


def _bounds(kind: str) -> tuple[int, int]:
    """Least and largest symbol. Relative positions may be as large as the picture: theirs are twice as far apart."""
    limit = 1 << LIMIT_BITS[kind] - (kind not in ("learned", "landmark"))
    return -limit, limit - 1


def _in_steps(values: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise InputError(f"{kind}: {values[~np.isfinite(values)][0]} cannot be coded")
    return values * _unit(kind)


def _from_symbols(symbols: NDArray[np.int64], kind: str) -> NDArray[np.float64]:
    return symbols / _unit(kind)


def class_of(difference: int) -> tuple[int, int, int]:
    """(class of its size, bits that follow, their value)."""
    size = abs(difference)
    if size <= N_EXACT:
        return size, 0, 0
    n_bits = size.bit_length() - 1
    return N_EXACT + n_bits - 3, n_bits, size - (1 << n_bits)


def learn_prior(sequences: Iterable[NDArray[np.int64]], kinds: Sequence[str]) -> Prior:
    """From symbols (T, n) of clips."""
    counts = np.ones((len(KINDS), N_CLASSES))
    rows = [KINDS.index(kind) for kind in kinds]
    for sequence in sequences:
        for difference in np.diff(sequence, axis=0):
            for row, value in zip(rows, difference.tolist(), strict=True):
                counts[row, class_of(value)[0]] += 1
    total = 1 << PROBABILITY_BITS
    scaled = np.maximum(1, np.floor(counts / counts.sum(-1, keepdims=True) * (total - N_CLASSES))).astype(np.int32)
    scaled[np.arange(len(KINDS)), counts.argmax(-1)] += total - scaled.sum(-1)
    return scaled


class _ByPrior:
    def __init__(self, settings: PriorSettings, prior: Prior) -> None:
        if prior.shape != (len(KINDS), N_CLASSES) or (prior.sum(-1) != 1 << PROBABILITY_BITS).any() or prior.min() < 1:
            raise InputError("these weights have no prior distribution of differences")
        self.settings = settings
        self.kinds = settings.kinds
        self.bounds = [[0, *np.cumsum(row).tolist()] for row in prior]
        self.rows = [KINDS.index(kind) for kind in self.kinds]
        self.last = np.zeros(len(self.kinds), np.int64)

    def start(self, symbols: NDArray[np.int64]) -> None:
        """Differences are to these, to begin with."""
        self.last = symbols.copy()


class PriorEncoder(_ByPrior):
    """Symbols of `PriorSettings.quantise` in, the bytes of each frame out."""

    def encode(self, symbols: NDArray[np.int64]) -> bytes:
        """The next frame, (n,)."""
        coder = RangeEncoder()
        for row, difference in zip(self.rows, (symbols - self.last).tolist(), strict=True):
            number, n_bits, rest = class_of(difference)
            bounds = self.bounds[row]
            coder.encode_share(bounds[number], bounds[number + 1] - bounds[number])
            if n_bits:
                coder.encode_uniform(rest, n_bits)
            if difference:
                coder.encode_uniform(int(difference < 0), 1)
        self.last = symbols.copy()
        return coder.frame_bytes()


class PriorDecoder(_ByPrior):
    """The mirror image of PriorEncoder."""

    def decode(self, frame_bytes: bytes) -> NDArray[np.int64]:
        """The next frame's symbols. Raises BitstreamError for bytes that no encoder writes."""
        coder = RangeDecoder()
        coder.feed(frame_bytes)
        symbols = self.last.copy()
        for i, (row, kind) in enumerate(zip(self.rows, self.kinds, strict=True)):
            number = coder.decode_share(self.bounds[row])
            size = number
            if number > N_EXACT:
                n_bits = number - N_EXACT + 3
                size = (1 << n_bits) + coder.decode_uniform(n_bits)
                if size <= N_EXACT:
                    raise BitstreamError(f"{kind}: a difference of {size} in the class of larger ones")
            symbols[i] += -size if size and coder.decode_uniform(1) else size
            low, high = _bounds(kind)
            if not low <= symbols[i] <= high:
                raise BitstreamError(f"{kind}: symbol {symbols[i]} is outside of [{low}, {high}]")
        coder.end_frame()
        self.last = symbols
        return symbols.copy()
