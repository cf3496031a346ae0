"""The motion stream of the mobile family: what is sent of a frame, by our coder or by one of the published ones; or a label
map (`hdac.label_maps`).

    adaptive   ours: learned keypoints (and Jacobians), landmarks and expression codes are tables of `hdac.keypoints`, each with
               statistics of its own, in one frame of the range coder. No bytes where nothing moves. With a reference its
               parities travel, and everything is predicted from it
    huffman    Oquab et al. 2021 (`hdac.published_coders`): one table of everything, no Jacobians; begins as ours does
    prior      Oquab et al. 2022 (likewise): in quantisers of its own; with a reference parities, and then differences, too

But for the last one, values that have moved by no more than so many steps (HOLD) stay as they were: noise of less than a step
costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import BitstreamError, InputError
from hdac.container import MOTION_CODERS
from hdac.keypoints import KeypointDecoder, KeypointEncoder, KeypointSettings, Symbols, parities, settle
from hdac.label_maps import LabelDecoder, LabelEncoder
from hdac.published_coders import (
    HuffmanDecoder,
    HuffmanEncoder,
    Lengths,
    Prior,
    PriorDecoder,
    PriorEncoder,
    PriorSettings,
)
from hdac.range_coder import RangeDecoder, RangeEncoder

CODERS = tuple(MOTION_CODERS)
STEP = 64
"""Chosen on training clips: 128 takes two thirds more bits of motion for half a percent of LPIPS."""
HOLD = (0.5, 1.0)
"""Steps, chosen on 8 training clips: of keypoints that optical flow follows, those without Jacobians, which are steady by
themselves, and of everything else. 1.0 for both saves 7 % of the bits of motion and costs 0.3 dB and 5 % of NME; 0.5 for both
takes a fifth more bits for nothing (Motion Net 10U+20L; `mn-hold-..` of tests/bench/mobile_ablations.py)."""
MAX_HOLD = 4.0
MAX_SOURCES = 3
"""Reference pictures that a decoder may have at once."""

Array = NDArray[np.float32]

REPLAYED = 25
"""Frames, chosen: so much motion is played back and forth by `Replay`."""
ALPHA, BETA = 2.0, 1.0
"""Of positions and of Jacobians in the distance of Lu and Zheng (Eq. 2), as published."""


class Values(NamedTuple):
    """What is said of a picture; None: what the network does not have.

    learned: (U, 2), (x, y) in [-1, 1]. jacobians: (U, 2, 2). landmarks: (L, 2), those that are sent. expression: (M,) in
    [-1, 1]. labels: (side, side), a label map.
    """

    learned: Array | None = None
    jacobians: Array | None = None
    landmarks: Array | None = None
    expression: Array | None = None
    labels: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, parts: dict[str, Array]) -> Values:
        """Of its parts by name."""
        return cls(parts.get("learned"), parts.get("jacobians"), parts.get("landmarks"), parts.get("expression"))

    @property
    def as_published(self) -> tuple[Array | None, Array | None, Array | None, Array | None]:
        """Arguments of `PriorSettings.quantise`."""
        return self.learned, self.landmarks, self.jacobians, self.expression


def motion_distance(a: Values, b: Values) -> float:
    """L2 of Lu and Zheng, Eq. 2: how far points, and what is around them, have moved.

    2 sum |v1 - v2| + sum |J1 J2^-1 - 1|, in units of [-1, 1] and as Frobenius norms; published without the 1, which makes it 0
    where nothing has moved. Sums are over ten points, as published: of more or fewer they are scaled.
    """
    total, n_points = 0.0, 0
    for mine, other in ((a.learned, b.learned), (a.landmarks, b.landmarks)):
        if mine is not None and other is not None:
            total += ALPHA * float(np.linalg.norm(mine - other, axis=-1).sum())
            n_points += len(mine)
    if a.jacobians is not None and b.jacobians is not None:
        change = a.jacobians @ np.linalg.pinv(b.jacobians)
        total += BETA * float(np.linalg.norm(change - np.eye(2), axis=(-2, -1)).sum())
    return total * 10 / max(n_points, 1)


class Replay:
    """The default motion of the quality filter: what was shown of the last frames that passed it, played back and forth, so
    that a face goes on to move. (Lu and Zheng, section 3.3, have a short recorded one, which blinks and smiles.)"""

    def __init__(self) -> None:
        self._passed: list[Values] = []
        self._n_since = 0

    def remember(self, values: Values) -> None:
        """Of a frame that passed."""
        self._passed, self._n_since = [*self._passed[1 - REPLAYED :], values], 0

    def next(self) -> Values | None:
        """For a frame that did not; None before two have passed."""
        last = len(self._passed) - 1
        if last < 1:
            return None
        self._n_since += 1
        back = self._n_since % (2 * last)  # frames ago, there and back
        return self._passed[last - min(back, 2 * last - back)]


@dataclass(frozen=True)
class PointSettings:
    """What is coded, and how finely. Encoder and decoder need the same."""

    n_learned: int
    n_landmarks: int
    jacobians: bool = False
    n_expression: int = 0
    """Even."""
    step: int = STEP
    """Quantiser steps per unit, one of `hdac.keypoints.STEPS`; the coder by a prior has steps of its own."""
    map_side: int = 0
    """Label maps instead of points, where it is not 0."""
    hold: tuple[float, float] = HOLD
    """Of an encoder: as HOLD."""

    def __post_init__(self) -> None:
        if min(self.hold) < 0 or max(self.hold) > MAX_HOLD:
            raise InputError(f"hold {self.hold} is not from 0 to {MAX_HOLD:g}")
        if self.n_expression % 2 or bool(self.map_side) == bool(self.tables):
            raise InputError(f"nothing to code, or an odd number of expression codes: {self}")

    @property
    def tables(self) -> list[KeypointSettings]:
        """Of learned keypoints, landmarks, expression codes (two to a row), as far as they are there."""
        learned = [KeypointSettings(self.n_learned, self.step, self.jacobians)] if self.n_learned else []
        return learned + [KeypointSettings(n, self.step) for n in (self.n_landmarks, self.n_expression // 2) if n]

    @property
    def published(self) -> PriorSettings:
        return PriorSettings(self.n_learned, self.n_landmarks, self.jacobians, self.n_expression)

    def parts(self, values: Values) -> list[tuple[Array, Array | None]]:
        """Points and Jacobians of every table. Raises InputError for a part that is missing."""
        parts = [(values.learned, values.jacobians)] if self.n_learned else []
        parts += [(values.landmarks, None)] if self.n_landmarks else []
        if self.n_expression:
            parts.append((None if values.expression is None else values.expression.reshape(-1, 2), None))
        found: list[tuple[Array, Array | None]] = []
        for points, jacobians in parts:
            if points is None:
                raise InputError(f"a part of {self} is missing")
            found.append((points, jacobians))
        return found

    def unrounded(self, values: Values) -> list[NDArray[np.float64]]:
        """Of every table what is rounded."""
        return [table.unrounded(*part) for table, part in zip(self.tables, self.parts(values), strict=True)]

    def quantise(self, values: Values) -> list[Symbols]:
        return [table.quantise(*part) for table, part in zip(self.tables, self.parts(values), strict=True)]

    def steady(self, values: Values, last: list[Symbols]) -> list[Symbols]:
        """`quantise`, but for what is no more than `hold` steps from what it was."""
        followed, other = self.hold
        holds = [followed if self.n_learned and not self.jacobians else other, *[other] * (len(self.tables) - 1)]
        return [
            np.where(np.abs(exact - before) <= hold, before, rounded)
            for exact, before, rounded, hold in zip(self.unrounded(values), last, self.quantise(values), holds, strict=True)
        ]

    def dequantise(self, symbols: list[Symbols]) -> Values:
        """As a decoder has them."""
        found = [table.dequantise(one) for table, one in zip(self.tables, symbols, strict=True)]
        learned, jacobians = found.pop(0) if self.n_learned else (None, None)
        landmarks = found.pop(0)[0] if self.n_landmarks else None
        expression = found.pop(0)[0].ravel() if self.n_expression else None
        return Values(learned, jacobians, landmarks, expression)


class PointEncoder(Protocol):
    """Values in, bytes out, and what a decoder will have."""

    def start(self, at_rest: Values) -> tuple[bytes | None, Values]:
        """Begins anew from a reference picture, of which a decoder finds the values itself, as far as rounding lets it: what is
        sent with it, and its values."""

    def encode(self, values: Values) -> tuple[bytes, Values]:
        """The next frame."""


class PointDecoder(Protocol):
    """The mirror image."""

    n_at_rest: int
    """Bytes that travel with a reference."""

    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        """Raises BitstreamError for what no encoder sends with a reference."""

    def decode(self, frame_bytes: bytes) -> Values:
        """Raises BitstreamError for bytes that no encoder writes."""


def encoder(name: str, settings: PointSettings, lengths: Lengths, prior: Prior) -> PointEncoder:
    """One of CODERS. Raises InputError where the weights have no statistics for it, and for label maps by another one than
    "adaptive"."""
    if settings.map_side:
        return _LabelPointEncoder(settings, name)
    if name == "prior":
        return _PriorPointEncoder(settings, prior)
    if name == "huffman":
        return _TableEncoder(settings, _HuffmanSymbolEncoder(settings, lengths))
    return _TableEncoder(settings, _AdaptiveEncoder(settings))


def decoder(name: str, settings: PointSettings, lengths: Lengths, prior: Prior) -> PointDecoder:
    """Likewise."""
    if settings.map_side:
        return _LabelPointDecoder(settings, name)
    if name == "prior":
        return _PriorPointDecoder(settings, prior)
    if name == "huffman":
        return _TableDecoder(settings, _HuffmanSymbolDecoder(settings, lengths))
    return _TableDecoder(settings, _AdaptiveDecoder(settings))


# -- by tables of symbols --------------------------------------------------------------------------------------------


class _SymbolEncoder(Protocol):
    """Of `PointSettings.tables`."""

    def start(self, symbols: list[Symbols]) -> None: ...

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        """The bytes, and the symbols that a decoder will have."""


class _SymbolDecoder(Protocol):
    """Likewise."""

    def start(self, symbols: list[Symbols]) -> None: ...

    def decode(self, frame_bytes: bytes) -> list[Symbols]: ...


class _TableEncoder:
    """Rounds, and holds still what hardly moves."""

    def __init__(self, settings: PointSettings, coder: _SymbolEncoder) -> None:
        self.settings, self.coder = settings, coder
        self.last = [np.zeros(table.shape, np.int32) for table in settings.tables]

    def start(self, at_rest: Values) -> tuple[bytes | None, Values]:
        self.last = self.settings.quantise(at_rest)
        self.coder.start(self.last)
        return b"".join(parities(symbols) for symbols in self.last), self.settings.dequantise(self.last)

    def encode(self, values: Values) -> tuple[bytes, Values]:
        layer, self.last = self.coder.encode(self.settings.steady(values, self.last))
        return layer, self.settings.dequantise(self.last)


class _TableDecoder:
    """The mirror image of _TableEncoder."""

    def __init__(self, settings: PointSettings, coder: _SymbolDecoder) -> None:
        self.settings, self.coder = settings, coder
        self.n_at_rest = sum((int(np.prod(table.shape)) + 7) // 8 for table in settings.tables)

    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        if sent is None:
            raise BitstreamError("a reference without parities of its points")
        symbols = []
        for table, exact in zip(self.settings.tables, self.settings.unrounded(at_rest), strict=True):
            n_bytes = (exact.size + 7) // 8
            symbols.append(settle(table, exact, sent[:n_bytes]))
            sent = sent[n_bytes:]
        if sent:
            raise BitstreamError(f"{len(sent)} bytes behind the parities of a reference")
        self.coder.start(symbols)
        return self.settings.dequantise(symbols)

    def decode(self, frame_bytes: bytes) -> Values:
        return self.settings.dequantise(self.coder.decode(frame_bytes))


class _AdaptiveEncoder:
    """Ours: tables one after the other in one frame of the range coder."""

    def __init__(self, settings: PointSettings) -> None:
        self.coder = RangeEncoder()
        self.tables = [KeypointEncoder(table, self.coder) for table in settings.tables]

    def start(self, symbols: list[Symbols]) -> None:
        for table, one in zip(self.tables, symbols, strict=True):
            table.start(one)

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        for table, one in zip(self.tables, symbols, strict=True):
            table.put(one)
        return self.coder.frame_bytes(), symbols


class _AdaptiveDecoder:
    """The mirror image of _AdaptiveEncoder."""

    def __init__(self, settings: PointSettings) -> None:
        self.coder = RangeDecoder()
        self.tables = [KeypointDecoder(table, self.coder) for table in settings.tables]

    def start(self, symbols: list[Symbols]) -> None:
        for table, one in zip(self.tables, symbols, strict=True):
            table.start(one)

    def decode(self, frame_bytes: bytes) -> list[Symbols]:
        self.coder.feed(frame_bytes)
        symbols = [table.take() for table in self.tables]
        self.coder.end_frame()
        return symbols


def _as_one(settings: PointSettings) -> tuple[KeypointSettings, NDArray[np.int64]]:
    """One table of everything, and at which of its rows those of `settings` end."""
    ends = np.cumsum([table.shape[0] for table in settings.tables])
    return KeypointSettings(int(ends[-1]), settings.step, settings.jacobians), ends[:-1]


class _HuffmanSymbolEncoder:
    """As published in 2021; encoder."""

    def __init__(self, settings: PointSettings, lengths: Lengths) -> None:
        whole, self.ends = _as_one(settings)
        self.coder = HuffmanEncoder(whole, lengths)

    def start(self, symbols: list[Symbols]) -> None:
        self.coder.start(np.concatenate(symbols))

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        layer = self.coder.encode(np.concatenate(symbols))
        return layer, np.split(self.coder.last, self.ends)


class _HuffmanSymbolDecoder:
    """The mirror image of _HuffmanSymbolEncoder."""

    def __init__(self, settings: PointSettings, lengths: Lengths) -> None:
        whole, self.ends = _as_one(settings)
        self.coder = HuffmanDecoder(whole, lengths)

    def start(self, symbols: list[Symbols]) -> None:
        self.coder.start(np.concatenate(symbols))

    def decode(self, frame_bytes: bytes) -> list[Symbols]:
        return np.split(self.coder.decode(frame_bytes), self.ends)


# -- by a prior ------------------------------------------------------------------------------------------------------


class _PriorPointEncoder:
    """As published in 2022."""

    def __init__(self, settings: PointSettings, prior: Prior) -> None:
        self.settings = settings.published
        self.coder = PriorEncoder(self.settings, prior)

    def start(self, at_rest: Values) -> tuple[bytes | None, Values]:
        symbols = self.settings.quantise(*at_rest.as_published)
        self.coder.start(symbols)
        return parities(symbols), Values.of(self.settings.dequantise(symbols))

    def encode(self, values: Values) -> tuple[bytes, Values]:
        symbols = self.settings.quantise(*values.as_published)
        return self.coder.encode(symbols), Values.of(self.settings.dequantise(symbols))


class _PriorPointDecoder:
    """The mirror image of _PriorPointEncoder."""

    def __init__(self, settings: PointSettings, prior: Prior) -> None:
        self.settings = settings.published
        self.coder = PriorDecoder(self.settings, prior)
        self.n_at_rest = (len(self.coder.kinds) + 7) // 8

    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        if sent is None or len(sent) != self.n_at_rest:
            raise BitstreamError(f"a reference with {len(sent or b'')} bytes of parities of its points, not {self.n_at_rest}")
        bits = np.unpackbits(np.frombuffer(sent, np.uint8), count=len(self.coder.kinds))
        symbols = self.settings.quantise(*at_rest.as_published, sent=bits)
        self.coder.start(symbols)
        return Values.of(self.settings.dequantise(symbols))

    def decode(self, frame_bytes: bytes) -> Values:
        return Values.of(self.settings.dequantise(self.coder.decode(frame_bytes)))


# -- label maps ------------------------------------------------------------------------------------------------------


def _check_labels(settings: PointSettings, coder: str) -> int:
    if coder != "adaptive":
        raise InputError(f"label maps are not coded by the {coder} coder")
    return settings.map_side


class _LabelPointEncoder:
    """Nothing travels with a reference; the first map behind one is predicted from the last."""

    def __init__(self, settings: PointSettings, coder: str) -> None:
        side = _check_labels(settings, coder)
        self.coder = LabelEncoder(side, side)

    def start(self, at_rest: Values) -> tuple[bytes | None, Values]:
        return None, at_rest

    def encode(self, values: Values) -> tuple[bytes, Values]:
        if values.labels is None:
            raise InputError("a label map is missing")
        return self.coder.encode(values.labels), values


class _LabelPointDecoder:
    """The mirror image of _LabelPointEncoder."""

    n_at_rest = 0

    def __init__(self, settings: PointSettings, coder: str) -> None:
        side = _check_labels(settings, coder)
        self.coder = LabelDecoder(side, side)

    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        if sent is not None:
            raise BitstreamError("a reference with something beside it, where label maps are sent")
        return at_rest

    def decode(self, frame_bytes: bytes) -> Values:
        return Values(labels=self.coder.decode(frame_bytes))
