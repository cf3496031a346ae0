"""The motion stream: keypoints, and optionally their Jacobians, quantised, predicted, and range coded frame by frame.

A frame is a table of symbols, int32 (K, C): x and y of each keypoint in units of 1 / step, and, if C = 6, its Jacobian
j00, j01, j10, j11 in units of 1 / jacobian_step. Its layer in a stream is the bytes of one `hdac.range_coder` frame:

    1 bit               moved: 0 where all symbols are those of the frame before; the frame ends here, without any byte
    then, keypoint by keypoint and component by component, the residual r = symbol - prediction:
      1 bit             r != 0
      1 bit             r < 0, or r > 0 if the prediction was rounded up: 0 is the side on which the unrounded one lies
      q = (|r| - 1) >> k:
        min(q, 10) ones and, if q < 10, a zero
        q - 10 as exp-Golomb code of order 0, if q >= 10, with uniform bits
      k bits            the rest of |r| - 1; the uppermost has a context, the others are uniform

Each bit but the uniform ones has an adaptive context, chosen by the magnitude that its residual is expected to have; k grows
with that magnitude. Contexts and predictor live as long as the stream. Nothing wraps: residuals reach from one end of the
alphabet to the other, and a decoder refuses what lies outside. The first prediction is the reference picture's keypoints,
which the decoder detects on the decoded reference: they cost nothing.

Prediction: last position plus a linear combination of four displacements, its weights learnt on the way by normalised least
mean squares (Widrow and Hoff; integers, thus the same everywhere). Two displacements are the keypoint's own last ones; two
are the mean of the keypoints before it, in this frame and in the last one: heads move as a whole.

The published coders (2022: exp-Golomb bins, a fresh adaptive model and a file per frame; 2024: residuals cast to int8, PPM
of order 0, an end-of-frame escape) are measured beside this one in tests/bench/bench_keypoints.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.errors import BitstreamError, InputError
from hdac.range_coder import Context, RangeDecoder, RangeEncoder

STEPS = (64, 128, 256, 512)
"""Quantiser steps per unit. At 256 pixels, where [-1, 1] spans the picture, 1/64 is 2 pixels and 1/512 a quarter."""
Bound = int | NDArray[np.int32]
JACOBIAN_LIMIT = 8
"""chosen: entries of a Jacobian are clipped to [-8, 8]; those of faces are near the identity."""
MAX_KEYPOINTS = 1024

Symbols = NDArray[np.int32]
Points = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Keypoints (K, 2), (x, y) in [-1, 1], and their Jacobians (K, 2, 2) where there are any."""


@dataclass(frozen=True)
class KeypointSettings:
    """What is coded, and how finely. Encoder and decoder need the same."""

    n_keypoints: int = 10
    step: int = 128
    """Quantiser steps per unit of position, one of STEPS."""
    jacobians: bool = False
    jacobian_step: int = 64
    """Quantiser steps per unit of a Jacobian's entry, one of STEPS."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_keypoints <= MAX_KEYPOINTS:
            raise InputError(f"{self.n_keypoints} keypoints cannot be coded, only 1 to {MAX_KEYPOINTS}")
        for name, step in (("step", self.step), ("jacobian_step", self.jacobian_step)):
            if step not in STEPS:
                raise InputError(f"keypoint {name} {step} is not one of {', '.join(map(str, STEPS))}")

    @property
    def shape(self) -> tuple[int, int]:
        """(K, C) of a frame's symbols."""
        return self.n_keypoints, 6 if self.jacobians else 2

    @property
    def limits(self) -> tuple[int, ...]:
        """Largest absolute symbol of each of the C components."""
        positions = (self.step,) * 2
        return positions + (JACOBIAN_LIMIT * self.jacobian_step,) * 4 if self.jacobians else positions

    def quantise(self, keypoints: ArrayLike, jacobians: ArrayLike | None = None) -> Symbols:
        """The symbols, int32 (K, C), that stand for a frame's keypoints.

        keypoints: (K, 2), (x, y) in [-1, 1]; what is outside moves to the border.
        jacobians: (K, 2, 2), clipped to JACOBIAN_LIMIT; given if and only if the settings have them.
        Raises InputError for another shape and for values that are not numbers.
        """
        return np.clip(np.rint(self.unrounded(keypoints, jacobians)), *self.bounds).astype(np.int32)

    def unrounded(self, keypoints: ArrayLike, jacobians: ArrayLike | None = None) -> NDArray[np.float64]:
        """What `quantise` rounds and clips, (K, C)."""
        k = self.n_keypoints
        if (jacobians is not None) != self.jacobians:
            raise InputError(f"jacobians given: {jacobians is not None}, but the settings say jacobians={self.jacobians}")
        columns = [_scaled("keypoints", keypoints, (k, 2), self.step)]
        if jacobians is not None:
            columns.append(_scaled("jacobians", jacobians, (k, 2, 2), self.jacobian_step))
        return np.concatenate(columns, axis=1)

    def dequantise(self, symbols: Symbols) -> Points:
        """Keypoints float32 (K, 2) and Jacobians float32 (K, 2, 2), or None, as the decoder has them.

        Exact, because steps are powers of two. Raises InputError for symbols that the settings do not allow.
        """
        symbols = self.checked(symbols)
        keypoints = (symbols[:, :2] / self.step).astype(np.float32)
        if not self.jacobians:
            return keypoints, None
        return keypoints, (symbols[:, 2:] / self.jacobian_step).astype(np.float32).reshape(-1, 2, 2)

    def checked(self, symbols: Symbols) -> Symbols:
        """The same symbols; InputError where shape, type or a value is not what these settings code."""
        symbols = np.asarray(symbols)
        if symbols.shape != self.shape or not np.issubdtype(symbols.dtype, np.integer):
            raise InputError(f"expected integer symbols of shape {self.shape}, got {symbols.dtype} {symbols.shape}")
        low, high = self.bounds
        outside = (symbols < low) | (symbols > high)
        if outside.any():
            raise InputError(f"keypoint symbol {symbols[outside][0]} is outside of the quantiser's +-{self.limits}")
        return symbols

    @property
    def bounds(self) -> tuple[Symbols, Symbols]:
        """Lowest and highest symbol of each of the C components."""
        high = np.array(self.limits, np.int32)
        return -high, high

    @property
    def kinds(self) -> list[list[int]]:
        """(K, C): positions have statistics of their own, and so have Jacobians."""
        return [[0, 0, 1, 1, 1, 1][: self.shape[1]]] * self.n_keypoints

    @property
    def first_row(self) -> list[int]:
        """(K,): all keypoints move together."""
        return [0] * self.n_keypoints


class TableSettings(Protocol):
    """What the model of a table of symbols, (K, C), must know."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def limits(self) -> tuple[int, ...]:
        """Largest absolute symbol of each of the C components."""

    @property
    def kinds(self) -> list[list[int]]:
        """(K, C): numbers, from 0 on, of the statistics that a symbol shares."""

    @property
    def first_row(self) -> list[int]:
        """(K,): for every row the first of those in a row with it that move as a whole."""

    def checked(self, symbols: Symbols) -> Symbols:
        """The same symbols; InputError where they are not what is coded."""


class RoundedSettings(Protocol):
    """What rounding to symbols must know."""

    @property
    def bounds(self) -> tuple[Symbols, Symbols]:
        """Lowest and highest symbol of each of the C components."""


SettingsT = TypeVar("SettingsT", bound=TableSettings)


def parities(symbols: NDArray[Any]) -> bytes:
    """The lowest bit of every symbol: (K C + 7) // 8 bytes. What an encoder sends with a new reference.

    The reference's keypoints are the decoder's own, found by a network in floating point: on another machine a value may come
    out some 1e-7 off, and then, once in a thousand references, round to the other side. With its parity it cannot.
    """
    return np.packbits((symbols & 1).astype(np.uint8).ravel()).tobytes()


def settle(settings: RoundedSettings, exact: NDArray[np.float64], sent: bytes) -> Symbols:
    """The symbols, of what a network has found in a reference, that have the parities that were sent.

    exact: symbols before they are rounded, (K, C). Raises BitstreamError for another number of bytes, and for a parity that no
    symbol near has.
    """
    low, high = settings.bounds
    if len(sent) != (exact.size + 7) // 8:
        raise BitstreamError(f"{len(sent)} bytes of parities for {exact.size} symbols")
    return nearest(exact, np.unpackbits(np.frombuffer(sent, np.uint8), count=exact.size), low, high)


def nearest(exact: NDArray[np.float64], wanted: NDArray[np.uint8], low: Bound, high: Bound) -> Symbols:
    """The symbols nearest to these numbers that have these lowest bits, within bounds. Raises BitstreamError where there are
    none within a step."""
    exact, wanted = np.clip(exact, low, high), wanted.reshape(exact.shape)
    rounded = np.rint(exact).astype(np.int32)
    other = np.where(exact > rounded, rounded + 1, rounded - 1).astype(np.int32)
    settled = np.where((rounded & 1) == wanted, rounded, other).astype(np.int32)
    if (np.abs(settled - exact) > 1).any() or (settled < low).any() or (settled > high).any():
        raise BitstreamError("parities that no motion of the reference has")
    return settled


def _scaled(name: str, given: ArrayLike, shape: tuple[int, ...], step: int) -> NDArray[np.float64]:
    """(K, ..) of `shape` in steps, (K, number of entries)."""
    values = np.asarray(given, np.float64)
    if values.shape != shape:
        raise InputError(f"expected {name} of shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"{name} hold {values[~np.isfinite(values)][0]}")
    return values.reshape(shape[0], -1) * step


class TableEncoder(Generic[SettingsT]):
    """Symbols in, the bytes of each frame out."""

    def __init__(self, settings: SettingsT, coder: RangeEncoder | None = None) -> None:
        """coder: of a frame that other things are in, too; None: one of its own."""
        self.settings = settings
        self._model = _Model(settings)
        self._coder = coder or RangeEncoder()

    def start(self, reference_symbols: Symbols) -> None:
        """Predict from these symbols (K, C): quantised keypoints of the decoded reference picture."""
        self._model.start(self.settings.checked(reference_symbols).ravel().tolist())

    def encode(self, symbols: Symbols) -> bytes:
        """The next frame, (K, C); no bytes if nothing moved. Raises InputError for symbols that the settings do not allow."""
        self.put(symbols)
        return self._coder.frame_bytes()

    def put(self, symbols: Symbols) -> None:
        """`encode` into a frame that goes on."""
        values = self.settings.checked(symbols).ravel().tolist()
        model, coder = self._model, self._coder
        moved = values != model.last
        coder.encode(model.moved_context, moved)
        if moved:
            for i, value in enumerate(values[: self._announce(len(values))]):
                self._residual(value - model.predict(i))
                model.learn(i, value)
        model.end_frame(values)

    def _announce(self, n_symbols: int) -> int:
        """Codes how many symbols of a frame that moves follow, where that may differ; returns it."""
        return n_symbols

    def _residual(self, residual: int) -> None:
        model, coder, contexts = self._model, self._coder, self._model.contexts
        coder.encode(model.nonzero_context, residual != 0)
        if residual == 0:
            return
        coder.encode(model.side_context, (residual < 0) != model.rounded_up)
        k = contexts.k
        rest = abs(residual) - 1
        quotient = rest >> k
        for context in contexts.unary[:quotient]:
            coder.encode(context, 1)
        if quotient < ESCAPE:
            coder.encode(contexts.unary[quotient], 0)
        else:
            excess = quotient - ESCAPE + 1
            n_bits = excess.bit_length() - 1
            for _ in range(n_bits):
                coder.encode_uniform(1, 1)
            coder.encode_uniform(0, 1)
            coder.encode_uniform(excess - (1 << n_bits), n_bits)
        if k:
            coder.encode(contexts.fine, rest >> k - 1 & 1)
            coder.encode_uniform(rest & (1 << k - 1) - 1, k - 1)


class KeypointEncoder(TableEncoder[KeypointSettings]):
    """Of keypoints; `start` first, and again after each new reference picture."""


class TableDecoder(Generic[SettingsT]):
    """The mirror image of TableEncoder.

    After a BitstreamError its statistics are not the encoder's any more: it can go on, but what it gives will be wrong.
    """

    def __init__(self, settings: SettingsT, coder: RangeDecoder | None = None) -> None:
        """As the encoder's."""
        self.settings = settings
        self._model = _Model(settings)
        self._coder = coder or RangeDecoder()

    def start(self, reference_symbols: Symbols) -> None:
        """As the encoder's."""
        self._model.start(self.settings.checked(reference_symbols).ravel().tolist())

    def decode(self, frame_bytes: bytes) -> Symbols:
        """The next frame's symbols, int32 (K, C), all within the settings' limits.

        Raises BitstreamError for bytes that no encoder writes.
        """
        self._coder.feed(frame_bytes)
        symbols = self.take()
        self._coder.end_frame()
        return symbols

    def take(self) -> Symbols:
        """`decode` from a frame that goes on."""
        model, coder = self._model, self._coder
        values = list(model.last)
        if coder.decode(model.moved_context):
            for i, limit in enumerate(model.limits[: self._announced(len(values))]):
                values[i] = model.predict(i) + self._residual(limit)
                if abs(values[i]) > limit:
                    raise BitstreamError(f"keypoints: symbol {values[i]} is outside of the quantiser's +-{limit}")
                model.learn(i, values[i])
            if values == model.last:
                raise BitstreamError("keypoints: a frame that moves has all keypoints where they were")
        model.end_frame(values)
        return np.array(values, np.int32).reshape(self.settings.shape)

    def _announced(self, n_symbols: int) -> int:
        """Mirror image of `TableEncoder._announce`."""
        return n_symbols

    def _residual(self, limit: int) -> int:
        model, coder, contexts = self._model, self._coder, self._model.contexts
        if not coder.decode(model.nonzero_context):
            return 0
        negative = coder.decode(model.side_context) != model.rounded_up
        k = contexts.k
        quotient = 0
        while quotient < ESCAPE and coder.decode(contexts.unary[quotient]):
            quotient += 1
        if quotient == ESCAPE:
            n_bits = 0
            while coder.decode_uniform(1):
                n_bits += 1
                if n_bits > limit.bit_length():  # the largest residual is twice the limit
                    raise BitstreamError(f"keypoints: a residual of more than {n_bits} bits, the limit is +-{limit}")
            quotient += (1 << n_bits) + coder.decode_uniform(n_bits) - 1
        rest = quotient
        if k:
            rest = (quotient << 1 | coder.decode(contexts.fine)) << k - 1 | coder.decode_uniform(k - 1)
        return -rest - 1 if negative else rest + 1


class KeypointDecoder(TableDecoder[KeypointSettings]):
    """Of keypoints."""


# -- the model that both sides run -------------------------------------------------------------------------------------

ESCAPE = 10  # longest unary code
ONE = 16  # predictions, displacements and expected magnitudes are in sixteenths of a symbol
WEIGHT_BITS = 16
N_CLASSES = 26  # of expected magnitudes, two an octave

# chosen by the rate of facial points tracked in training clips; all of these optima are flat
FIRST_WEIGHTS = ((0.6, 0.0, 0.0, 0.0), (0.4, 0.0, 0.5, -0.2))  # for a frame's first keypoint, and for the others
LEARNING_RATE = 0.03


class _Contexts:
    """The contexts of the residuals whose magnitude is expected to be of one class: around 2**(number / 2) sixteenths."""

    def __init__(self, number: int) -> None:
        self.nonzero_by_error = [Context() for _ in range(3)]
        self.side_by_error = [Context() for _ in range(3)]
        own = [Context() for _ in range(3)]
        self.unary = own + [Context()] * (ESCAPE - len(own))
        self.fine = Context()
        self.k = max(0, number // 2 - 4)  # the quotient is expected to be 1 or 2


class _Kind:
    """What is learnt apart for positions and for Jacobians."""

    def __init__(self) -> None:
        self.classes = [_Contexts(number) for number in range(N_CLASSES)]
        self.weights = [[round(w * (1 << WEIGHT_BITS)) for w in weights] for weights in FIRST_WEIGHTS]
        self.activity = self.n_coded = 0  # of the frame so far: sum and number of |residual|


class _Model:
    """Prediction and choice of contexts, in integers. Symbols are flat here: K * C of them, keypoint by keypoint.

    A frame that moves: for each i, `predict(i)`, code the symbol, `learn(i, symbol)`. Every frame: `end_frame(symbols)`.
    """

    def __init__(self, settings: TableSettings) -> None:
        k, self._n_components = settings.shape
        self.limits = list(settings.limits) * k
        self._magnitude = [ONE] * len(self.limits)  # of each symbol's residual, expected
        self._kinds = [_Kind() for _ in range(1 + max(max(row) for row in settings.kinds))]
        self._kind_of = [self._kinds[number] for row in settings.kinds for number in row]
        self._first_row = settings.first_row
        self._moved = (Context(), Context())  # after a frame without, and with motion
        self.moved_context = self._moved[1]
        self.start([0] * len(self.limits))

        # of the symbol that is being coded; set by `predict`
        self.contexts = self._kinds[0].classes[0]
        self.nonzero_context = self.side_context = self.contexts.fine
        self.rounded_up = False

    def start(self, reference: list[int]) -> None:
        self.last = reference
        self._step1 = [0] * len(reference)  # last displacement
        self._step2 = [0] * len(reference)  # the one before
        self._begin_frame()

    def _begin_frame(self) -> None:
        self._begin_group()
        for kind in self._kinds:
            kind.activity = kind.n_coded = 0

    def _begin_group(self) -> None:
        self._sum_now = [0] * self._n_components  # displacements of this frame's keypoints so far
        self._sum_before = [0] * self._n_components  # their last ones

    def predict(self, i: int) -> int:
        """Prediction of symbol i; also sets the contexts of its residual."""
        row, component = divmod(i, self._n_components)
        n = row - self._first_row[row]
        if n == component == 0:
            self._begin_group()
        kind = self._kind_of[i]
        a, b, c, d = self._step1[i], self._step2[i], 0, 0
        if n:
            c, d = self._sum_now[component] // n, self._sum_before[component] // n
        weights = kind.weights[n > 0]
        exact = self.last[i] * ONE + (weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d >> WEIGHT_BITS)
        limit = self.limits[i] * ONE
        exact = max(-limit, min(limit, exact))
        prediction = (exact + ONE // 2) // ONE
        error = prediction * ONE - exact  # -7 .. 8
        self._inputs, self._weights, self._exact, self._kind = (a, b, c, d), weights, exact, kind

        expected = self._magnitude[i]
        if kind.n_coded:
            expected = (5 * expected + 3 * kind.activity // kind.n_coded) // 8
        contexts = self.contexts = kind.classes[_class_of(expected)]
        third = min(abs(error) // 3, 2)
        self.nonzero_context, self.side_context = contexts.nonzero_by_error[third], contexts.side_by_error[third]
        self.rounded_up = error > 0
        return prediction

    def learn(self, i: int, symbol: int) -> None:
        """Takes what was coded for symbol i after `predict(i)`."""
        component = i % self._n_components
        self._sum_now[component] += (symbol - self.last[i]) * ONE
        self._sum_before[component] += self._step1[i]

        kind = self._kind
        error = symbol * ONE - self._exact
        kind.activity += abs(error)
        kind.n_coded += 1
        magnitude = self._magnitude[i] = (3 * self._magnitude[i] + abs(error) + 2) // 4

        # normalised by the inputs' power, and by that of the residuals, so that a jump does not throw the weights over
        a, b, c, d = self._inputs
        power = 2 * magnitude * magnitude + (a * a + b * b + c * c + d * d) // 3 + ONE * ONE // 4
        step = round(LEARNING_RATE * (1 << WEIGHT_BITS)) * error
        weights = self._weights
        weights[0] += step * a // power
        weights[1] += step * b // power
        weights[2] += step * c // power
        weights[3] += step * d // power

    def end_frame(self, symbols: list[int]) -> None:
        """Takes all symbols of a frame, moved or not."""
        self.moved_context = self._moved[symbols != self.last]
        self._step1, self._step2 = [(now - last) * ONE for now, last in zip(symbols, self.last, strict=True)], self._step1
        self.last = symbols
        self._begin_frame()


def _class_of(magnitude: int) -> int:
    """0, 2, 3, 4, 5, 6, 7, .. from 1, 2, 3, 4, 6, 8, 12, .. on: two classes an octave."""
    octave = max(magnitude, 1).bit_length() - 1
    return min(2 * octave + (magnitude >> octave - 1 & 1), N_CLASSES - 1) if octave else 0
