"""What the layered codecs share: the quantiser, and decoding from bytes or from a pipe."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from baselines.stream import Ledger
from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import container
from hdac.container import Reader, Unit

if TYPE_CHECKING:
    from typing_extensions import Self


MAX_SIDE = 1920
"""Of pictures that are coded: a guard of the memory. Networks see less of them (`hdac.codecs.face_box`)."""


def check_size(width: int, height: int) -> None:
    """Raises InputError for pictures that are too large."""
    if max(width, height) > MAX_SIDE:
        raise InputError(f"pictures of up to {MAX_SIDE} a side are coded, not {width}x{height}")


def lagrange_multiplier(qp: int) -> float:
    """Squared error per bit: HM's lambda of an intra picture."""
    return float(0.57 * 2 ** ((qp - 12) / 3))


def checked_units(reader: Reader) -> Iterator[Unit]:
    """The units of a stream. Raises BitstreamError for layers that its header does not speak of, and for pictures that are
    too large."""
    header = reader.header
    if header.stream.standard != "hevc-stripped":
        try:
            check_size(header.stream.width, header.stream.height)
        except InputError as error:
            raise BitstreamError(str(error)) from error
    if header.jacobians:
        raise BitstreamError("the stream sends Jacobians, which no network here takes")
    for t, received in enumerate(reader.units()):
        unit = received.unit
        unexpected = {
            "a reference": unit.reference is not None and header.reference_codec == "base",
            "keypoints": unit.keypoints is not None and not header.keypoints_sent,
            "a residual": unit.residual is not None,
            "a fused picture": unit.strength > 0 and header.stream.standard != "hdac",
        }
        for name, there in unexpected.items():
            if there:
                raise BitstreamError(f"frame {t} has {name}, of which the header says nothing")
        yield unit


@dataclass(frozen=True, kw_only=True)
class LayeredCodec(ABC):
    """A codec of the `.hdac` container whose curve is moved along by `qp`."""

    qp: int

    name: ClassVar[str]

    @property
    @abstractmethod
    def label(self) -> str:
        """Setting in a few words."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of our code, of the encoder in it and of the weights."""

    @abstractmethod
    def command(self, clip: Clip) -> str:
        """What was run."""

    @abstractmethod
    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""

    @property
    def quantiser(self) -> int:
        return self.qp

    def with_quantiser(self, quantiser: int) -> Self:
        """The same setting at another QP. Raises InputError where HEVC has no such step."""
        return replace(self, qp=quantiser)

    def decode(self, bitstream: bytes) -> Clip:
        from hdac.decoder import decode

        return decode(bitstream)

    def ledger(self, bitstream: bytes) -> Ledger:
        return container.ledger(io.BytesIO(bitstream))
