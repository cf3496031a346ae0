"""The motion stream of the mobile family: what is sent of a frame, by our coder or by one of the published ones; or a label
map (`hdac.label_maps`).

    adaptive   ours: learned keypoints (and Jacobians), landmarks and expression codes are tables of `hdac.keypoints`, each with
               statistics of its own, in one frame of the range coder. No bytes where nothing moves. With a reference its
               parities travel, and everything is predicted from it
    huffman    Oquab et al. 2021 (`hdac.published_coders`): one table of everything, no Jacobians; begins as ours does
    prior      Oquab et al. 2022 (likewise): in quantisers of its own; with a reference nothing travels, and the first frame
               behind it says where everything is

But for the last one, values that have moved by no more than HOLD steps stay as they were: noise of less than a step costs
nothing.
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
from hdac.parameters import HOLD
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

Array = NDArray[np.float32]


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


@dataclass(frozen=True)
class PointSettings:
    """What is coded, and how finely. Encoder and decoder need the same."""

    n_learned: int
    n_landmarks: int
    jacobians: bool = False
    n_expression: int = 0
    """Even."""
    step: int = 128
    """Quantiser steps per unit, one of `hdac.keypoints.STEPS`; the coder by a prior has steps of its own."""
    map_side: int = 0
    """Label maps instead of points, where it is not 0."""

    def __post_init__(self) -> None:
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
        """`quantise`, but for what is no more than HOLD steps from what it was."""
        return [
            np.where(np.abs(exact - before) <= HOLD, before, rounded)
            for exact, before, rounded in zip(self.unrounded(values), last, self.quantise(values), strict=True)
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
    return _TableEncoder(settings, _Adaptive(settings) if name == "adaptive" else _Huffman(settings, lengths))


def decoder(name: str, settings: PointSettings, lengths: Lengths, prior: Prior) -> PointDecoder:
    """Likewise."""
    if settings.map_side:
        return _LabelPointDecoder(settings, name)
    if name == "prior":
        return _PriorPointDecoder(settings, prior)
    return _TableDecoder(settings, _Adaptive(settings) if name == "adaptive" else _Huffman(settings, lengths))


# -- by tables of symbols --------------------------------------------------------------------------------------------


class _Tables(Protocol):
    """A coder of `PointSettings.tables`."""

    def start(self, symbols: list[Symbols]) -> None: ...

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        """The bytes, and the symbols that a decoder will have."""

    def decode(self, frame_bytes: bytes) -> list[Symbols]: ...


class _TableEncoder:
    """Rounds, and holds still what hardly moves."""

    def __init__(self, settings: PointSettings, coder: _Tables) -> None:
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

    def __init__(self, settings: PointSettings, coder: _Tables) -> None:
        self.settings, self.coder = settings, coder

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


class _Adaptive:
    """Ours: tables one after the other in one frame of the range coder."""

    def __init__(self, settings: PointSettings) -> None:
        self.encoder, self.decoder = RangeEncoder(), RangeDecoder()
        self.encoders = [KeypointEncoder(table, self.encoder) for table in settings.tables]
        self.decoders = [KeypointDecoder(table, self.decoder) for table in settings.tables]

    def start(self, symbols: list[Symbols]) -> None:
        for coder, decoder, one in zip(self.encoders, self.decoders, symbols, strict=True):
            coder.start(one)
            decoder.start(one)

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        for coder, one in zip(self.encoders, symbols, strict=True):
            coder.put(one)
        return self.encoder.frame_bytes(), symbols

    def decode(self, frame_bytes: bytes) -> list[Symbols]:
        self.decoder.feed(frame_bytes)
        symbols = [decoder.take() for decoder in self.decoders]
        self.decoder.end_frame()
        return symbols


class _Huffman:
    """As published in 2021."""

    def __init__(self, settings: PointSettings, lengths: Lengths) -> None:
        self.bounds = np.cumsum([table.shape[0] for table in settings.tables])
        whole = KeypointSettings(int(self.bounds[-1]), settings.step, settings.jacobians)
        self.encoder, self.decoder = HuffmanEncoder(whole, lengths), HuffmanDecoder(whole, lengths)

    def start(self, symbols: list[Symbols]) -> None:
        table = np.concatenate(symbols)
        self.encoder.start(table)
        self.decoder.start(table)

    def encode(self, symbols: list[Symbols]) -> tuple[bytes, list[Symbols]]:
        layer = self.encoder.encode(np.concatenate(symbols))
        return layer, np.split(self.encoder.last, self.bounds[:-1])

    def decode(self, frame_bytes: bytes) -> list[Symbols]:
        return np.split(self.decoder.decode(frame_bytes), self.bounds[:-1])


# -- by a prior ------------------------------------------------------------------------------------------------------


class _ByPrior:
    """As published in 2022."""

    def __init__(self, settings: PointSettings, prior: Prior) -> None:
        self.settings = settings.published
        self.encoder, self.decoder = PriorEncoder(self.settings, prior), PriorDecoder(self.settings, prior)

    def rounded(self, values: Values) -> tuple[NDArray[np.int64], Values]:
        """Symbols, and what they stand for."""
        symbols = self.settings.quantise(*values.as_published)
        return symbols, Values.of(self.settings.dequantise(symbols))


class _PriorPointEncoder(_ByPrior):
    def start(self, at_rest: Values) -> tuple[bytes | None, Values]:
        self.encoder.start(np.zeros(len(self.encoder.kinds), np.int64))
        return None, self.rounded(at_rest)[1]

    def encode(self, values: Values) -> tuple[bytes, Values]:
        symbols, had = self.rounded(values)
        return self.encoder.encode(symbols), had


class _PriorPointDecoder(_ByPrior):
    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        if sent is not None:
            raise BitstreamError("a reference with points that the coder by a prior does not send")
        self.decoder.start(np.zeros(len(self.decoder.kinds), np.int64))
        return self.rounded(at_rest)[1]

    def decode(self, frame_bytes: bytes) -> Values:
        return Values.of(self.settings.dequantise(self.decoder.decode(frame_bytes)))


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

    def __init__(self, settings: PointSettings, coder: str) -> None:
        side = _check_labels(settings, coder)
        self.coder = LabelDecoder(side, side)

    def start(self, at_rest: Values, sent: bytes | None) -> Values:
        if sent is not None:
            raise BitstreamError("a reference with something beside it, where label maps are sent")
        return at_rest

    def decode(self, frame_bytes: bytes) -> Values:
        return Values(labels=self.coder.decode(frame_bytes))
