"""The motion stream of face-vid2vid: head pose and deformations of every frame, by two coders.

A frame is a table (2 + K, 3): the angles (yaw, pitch, roll in radians), the translation, and the deformation of each of K
keypoints, of which the first k are sent: k may differ from frame to frame. Each frame is one `hdac.range_coder` frame.

    adaptive   ours: values in units of 1 / step, predicted and coded like keypoints (`hdac.keypoints`), angles, translations
               and deformations with statistics of their own. A frame in which anything moves begins with
                   1 bit     k is that of the frame before (adaptive)
                   5 bits    k, if not
               Deformations that are not sent stay as they were.
    paper      Wang et al., CVPR 2021, section C.1: every value (the same multiples of 1 / step, which fp16 holds exactly) as
               fp16, big endian, byte by byte with one fixed table of
               frequencies for each of the 6 K + 12 byte positions, learnt from a training set and part of the weights.
                   1 bit     values are differences to those of the frame before (with tables of their own), or are themselves
                   5 bits    k
               Deformations that are not sent are zero: the keypoint dropout of section C.2. The published coder knows neither
               differences nor the 6 bits in front; where all frames are of one kind they are what a stream may be charged less.

The first prediction of our coder is the motion of the reference picture, which the decoder finds by itself; what is sent with a
reference are its parities (`hdac.keypoints.parities`), so that rounding comes out alike everywhere, and a still head stays
still.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import BitstreamError, InputError
from hdac.keypoints import STEPS, Symbols, TableDecoder, TableEncoder
from hdac.range_coder import PROBABILITY_BITS, Context, RangeDecoder, RangeEncoder

CODERS = ("adaptive", "paper")
RANGE = 4
"""chosen: angles (a turn is 6.28), translations and deformations (the picture is 2 wide) lie in [-4, 4]."""
COUNT_BITS = 5
MAX_KEYPOINTS = (1 << COUNT_BITS) - 1
POSE_ROWS = 2
HOLD = 1.0
"""Steps of the quantiser that a parameter must have moved by before it is sent anew, in either coder. Chosen on training clips,
by LPIPS over rate."""


class Motion(NamedTuple):
    """Motion of a frame: angles (3,) in radians, translation (3,), deformation (K, 3), float32."""

    angles: NDArray[np.float32]
    translation: NDArray[np.float32]
    deformation: NDArray[np.float32]

    @property
    def table(self) -> NDArray[np.float32]:
        """(2 + K, 3)."""
        return np.concatenate((self.angles[None], self.translation[None], self.deformation))

    @classmethod
    def of(cls, table: ArrayLike) -> Motion:
        values = np.asarray(table, np.float32)
        return cls(values[0], values[1], values[2:])


@dataclass(frozen=True)
class ParameterSettings:
    """What is coded, and how finely. Encoder and decoder need the same."""

    n_keypoints: int = 20
    step: int = 128
    """Quantiser steps per unit (and per radian), one of `hdac.keypoints.STEPS`."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_keypoints <= MAX_KEYPOINTS:
            raise InputError(f"{self.n_keypoints} keypoints cannot be coded, only 1 to {MAX_KEYPOINTS}")
        if self.step not in STEPS:
            raise InputError(f"step {self.step} of the parameters is not one of {', '.join(map(str, STEPS))}")

    @property
    def shape(self) -> tuple[int, int]:
        """Of a frame's symbols."""
        return POSE_ROWS + self.n_keypoints, 3

    @property
    def limits(self) -> tuple[int, ...]:
        return (RANGE * self.step,) * 3

    @property
    def kinds(self) -> list[list[int]]:
        return [[0] * 3, [1] * 3, *([[2] * 3] * self.n_keypoints)]

    @property
    def first_row(self) -> list[int]:
        return [0, 1, *([POSE_ROWS] * self.n_keypoints)]

    @property
    def bounds(self) -> tuple[Symbols, Symbols]:
        high = np.array(self.limits, np.int32)
        return -high, high

    def quantise(self, motion: Motion) -> Symbols:
        """int32 (2 + K, 3); what is outside of RANGE moves to its border. Raises InputError for what is no number."""
        return np.clip(np.rint(self.unrounded(motion)), *self.bounds).astype(np.int32)

    def unrounded(self, motion: Motion) -> NDArray[np.float64]:
        """What `quantise` rounds and clips."""
        return _checked(motion.table, self.shape).astype(np.float64) * self.step

    def steady(self, motion: Motion, last: ArrayLike) -> Symbols:
        """The motion quantised, but for values no more than HOLD steps from what they were, which stay: noise of less than a
        step costs nothing then. last: symbols (2 + K, 3), or as many in a row."""
        exact = self.unrounded(motion)
        before = np.array(last, np.int32).reshape(exact.shape)
        return np.where(np.abs(exact - before) <= HOLD, before, self.quantise(motion))

    def dequantise(self, symbols: Symbols) -> Motion:
        """As the decoder has them; exact, because steps are powers of two, in fp16, too."""
        return Motion.of(self.checked(symbols) / self.step)

    def checked(self, symbols: Symbols) -> Symbols:
        """The same symbols; InputError where they are not what these settings code."""
        symbols = np.asarray(symbols)
        if symbols.shape != self.shape or not np.issubdtype(symbols.dtype, np.integer):
            raise InputError(f"expected integer symbols of shape {self.shape}, got {symbols.dtype} {symbols.shape}")
        if np.abs(symbols).max() > self.limits[0]:
            raise InputError(f"parameter symbol {symbols.ravel()[np.abs(symbols).argmax()]} is outside of +-{self.limits[0]}")
        return symbols


def _checked(table: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if table.shape != shape or not np.isfinite(table).all():
        raise InputError(f"expected {shape} finite parameters, got {table.shape}")
    return table


class ParameterEncoder(TableEncoder[ParameterSettings]):
    """Symbols in, the bytes of each frame out; no bytes where nothing moves."""

    def __init__(self, settings: ParameterSettings) -> None:
        super().__init__(settings)
        self._count = self._last_count = settings.n_keypoints
        self._same_count = Context()

    def copied(self) -> ParameterEncoder:
        """To see what a frame takes without taking it."""
        twin: ParameterEncoder = pickle.loads(pickle.dumps(self, pickle.HIGHEST_PROTOCOL))
        return twin

    def steady(self, motion: Motion) -> Symbols:
        """As `ParameterSettings.steady`, after the frame before."""
        return self.settings.steady(motion, self._model.last)

    def encode_first(self, symbols: Symbols, k: int) -> bytes:
        """The next frame with its first k deformations; the others stay as they were."""
        self._count = k
        return self.encode(self.held(symbols, k))

    def held(self, symbols: Symbols, k: int) -> Symbols:
        """The table that a decoder will have."""
        n_keypoints = self.settings.shape[0] - POSE_ROWS
        if not 0 <= k <= n_keypoints:
            raise InputError(f"{k} of {n_keypoints} deformations cannot be sent")
        table = self.settings.checked(symbols).copy()
        last = np.array(self._model.last, np.int32).reshape(table.shape)
        table[POSE_ROWS + k :] = last[POSE_ROWS + k :]
        return table

    def _announce(self, n_symbols: int) -> int:
        changed = self._count != self._last_count
        self._coder.encode(self._same_count, changed)
        if changed:
            self._coder.encode_uniform(self._count, COUNT_BITS)
        self._last_count = self._count
        return 3 * (POSE_ROWS + self._count)


class ParameterDecoder(TableDecoder[ParameterSettings]):
    """The mirror image of ParameterEncoder."""

    def __init__(self, settings: ParameterSettings) -> None:
        super().__init__(settings)
        self.count = 0
        """Deformations that the last frame brought."""
        self._last_count = settings.n_keypoints
        self._same_count = Context()

    def decode(self, frame_bytes: bytes) -> Symbols:
        self.count = 0  # unless it moves
        return super().decode(frame_bytes)

    def _announced(self, n_symbols: int) -> int:
        if self._coder.decode(self._same_count):
            count = self._coder.decode_uniform(COUNT_BITS)
            if 3 * (POSE_ROWS + count) > n_symbols or count == self._last_count:
                raise BitstreamError(f"{count} deformations after {self._last_count}, of {n_symbols // 3 - POSE_ROWS}")
            self._last_count = count
        self.count = self._last_count
        return 3 * (POSE_ROWS + self._last_count)


# -- the paper's coder -------------------------------------------------------------------------------------------------

Tables = NDArray[np.int32]
"""(2, 6 K + 12, 256): frequencies of every byte, of values and of differences, each row summing to 65536."""


def table_shape(n_keypoints: int) -> tuple[int, int, int]:
    """Of `Tables`."""
    return 2, 2 * 3 * (POSE_ROWS + n_keypoints), 256


def steadied(sequence: NDArray[np.float32], settings: ParameterSettings) -> NDArray[np.int32]:
    """Symbols of a clip's motion, (T, 2 + K, 3), as either coder is given them."""
    last = settings.quantise(Motion.of(sequence[0]))
    symbols = [last]
    for table in sequence[1:]:
        last = settings.steady(Motion.of(table), last)
        symbols.append(last)
    return np.stack(symbols)


def learn_tables(sequences: list[NDArray[np.float32]]) -> Tables:
    """Tables from the motion of clips, each (T, 2 + K, 3)."""
    n_bytes = 2 * sequences[0][0].size
    counts = np.ones((2, n_bytes, 256), np.float64)  # nothing is impossible
    for sequence in sequences:
        halves = np.clip(sequence, -RANGE, RANGE).astype(np.float16)
        for t, table in enumerate(halves):
            for kind, values in ((0, table), (1, _difference(table, halves[t - 1]) if t else None)):
                if values is not None:
                    counts[kind, np.arange(n_bytes), _bytes(values)] += 1
    total = 1 << PROBABILITY_BITS
    scaled = np.maximum(1, np.floor(counts / counts.sum(-1, keepdims=True) * (total - 256))).astype(np.int32)
    scaled[np.arange(2)[:, None], np.arange(n_bytes), counts.argmax(-1)] += total - scaled.sum(-1)
    return scaled


def _bytes(values: NDArray[np.float16]) -> NDArray[np.uint8]:
    return np.frombuffer(values.astype(">f2").tobytes(), np.uint8)


def _difference(now: NDArray[np.float16], before: NDArray[np.float16]) -> NDArray[np.float16]:
    return (now.astype(np.float32) - before.astype(np.float32)).astype(np.float16)


def _sum(before: NDArray[np.float16], difference: NDArray[np.float16]) -> NDArray[np.float16]:
    return (before.astype(np.float32) + difference.astype(np.float32)).astype(np.float16)


class _Paper:
    """What both sides of the paper's coder keep."""

    def __init__(self, tables: Tables) -> None:
        self.n_rows = tables.shape[1] // 6
        if np.ptp(tables.sum(-1)) or int(tables[0, 0].sum()) != 1 << PROBABILITY_BITS or tables.min() < 1:
            raise InputError("these weights have no tables for the paper's coder")
        sums = np.concatenate((np.zeros((*tables.shape[:2], 1), np.int64), tables.cumsum(-1)), axis=-1)
        self.bounds: list[list[list[int]]] = sums.tolist()
        self.cost = np.log2((1 << PROBABILITY_BITS) / tables)
        self.last = np.zeros((self.n_rows, 3), np.float16)


class PaperEncoder(_Paper):
    """Motion in, the bytes of each frame out, and what a decoder will have."""

    def copied(self) -> PaperEncoder:
        """To see what a frame takes without taking it."""
        return copy.copy(self)  # `last` is replaced, never changed

    def steady(self, motion: Motion, settings: ParameterSettings) -> NDArray[np.float32]:
        """The table that our coder would be given, (2 + K, 3): the same parameters, for bytes that can be compared."""
        last = np.rint(self.last.astype(np.float64) * settings.step)
        return settings.dequantise(settings.steady(motion, last)).table

    def encode_first(self, table: NDArray[np.float32], k: int) -> tuple[bytes, NDArray[np.float32]]:
        """The next frame, (2 + K, 3), with its first k deformations; the others are zero."""
        if not 0 <= k <= self.n_rows - POSE_ROWS:
            raise InputError(f"{k} of {self.n_rows - POSE_ROWS} deformations cannot be sent")
        wanted = np.clip(_checked(table, self.last.shape), -RANGE, RANGE).astype(np.float16)
        n = POSE_ROWS + k
        wanted[n:] = 0
        options = []
        for kind, values in ((0, wanted[:n]), (1, _difference(wanted[:n], self.last[:n]))):
            data = _bytes(values)
            options.append((float(self.cost[kind, np.arange(len(data)), data].sum()), kind, values, data))
        _, kind, values, data = min(options, key=lambda option: option[:2])
        coder = RangeEncoder()
        coder.encode_uniform(kind, 1)
        coder.encode_uniform(k, COUNT_BITS)
        for bounds, byte in zip(self.bounds[kind], data.tolist(), strict=False):
            coder.encode_share(bounds[byte], bounds[byte + 1] - bounds[byte])
        got = np.zeros_like(wanted)
        got[:n] = _sum(self.last[:n], values) if kind else values
        self.last = got
        return coder.frame_bytes(), got.astype(np.float32)


class PaperDecoder(_Paper):
    """The mirror image of PaperEncoder."""

    count = 0
    """Deformations that the last frame brought."""

    def decode(self, frame_bytes: bytes) -> NDArray[np.float32]:
        """The next frame, (2 + K, 3). Raises BitstreamError for bytes that no encoder writes."""
        coder = RangeDecoder()
        coder.feed(frame_bytes)
        kind, k = coder.decode_uniform(1), coder.decode_uniform(COUNT_BITS)
        n = POSE_ROWS + k
        if n > self.n_rows:
            raise BitstreamError(f"{k} deformations of {self.n_rows - POSE_ROWS}")
        self.count = k
        data = bytes(coder.decode_share(bounds) for bounds in self.bounds[kind][: 6 * n])
        coder.end_frame()
        values = np.frombuffer(data, ">f2").astype(np.float16).reshape(n, 3)
        if not np.isfinite(values).all() or np.abs(values).max() > 2 * RANGE:
            raise BitstreamError("parameters that are no motion of a face")
        got = np.zeros_like(self.last)
        got[:n] = _sum(self.last[:n], values) if kind else values
        if np.abs(got).max() > 2 * RANGE:
            raise BitstreamError("parameters that are no motion of a face")
        self.last = got
        return got.astype(np.float32)
