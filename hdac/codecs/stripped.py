"""`hevc-stripped`: H-DAC's base layer alone in the container. What packaging gains, without any network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from baselines.conventional import X265
from baselines.stream import StreamHeader
from data.clip import Clip
from hdac.codecs import base_layer
from hdac.codecs.base_layer import Planes
from hdac.codecs.layered import LayeredCodec, checked_units
from hdac.container import LayeredHeader, Reader, Unit, Writer

CODE_VERSION = 2
"""Raised with every change that can change a stream or a decoded frame."""


@dataclass(frozen=True, kw_only=True)
class HevcStripped(LayeredCodec):
    """x265's pictures, bit by bit those of `X265` of the same settings, in the `.hdac` container."""

    qp: int
    preset: str = "slow"
    lean: bool = True
    i_offset: int = 12
    intra_period: int = 0
    checksum_interval: int = 50

    name: ClassVar[str] = "hevc-stripped"

    def __post_init__(self) -> None:
        _ = self.x265  # which checks its settings

    @property
    def x265(self) -> X265:
        return X265(
            qp=self.qp, preset=self.preset, lean=self.lean, i_offset=self.i_offset, intra_period=self.intra_period
        )

    @property
    def label(self) -> str:
        return f"{self.x265.label} stripped"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {self.x265.version}"

    def command(self, clip: Clip) -> str:
        return f"{self.x265.command(clip)}; headers stripped"

    def encode(self, clip: Clip) -> bytes:
        pictures, _ = base_layer.encode(self.x265, clip)
        header = LayeredHeader(
            StreamHeader.of(clip, self.name), self.qp, max(0, self.qp - self.i_offset), checksum_interval=self.checksum_interval
        )
        writer = Writer(header)
        units = [writer.add(Unit(base=picture.payload, plain=picture.plain)) for picture in pictures]
        return writer.header + b"".join(units) + writer.finish()


def decode(reader: Reader) -> Iterator[Planes]:
    """Pictures as their units arrive. Raises BitstreamError for damage."""
    for picture in base_layer.decode(checked_units(reader), reader.header.stream):
        yield picture.planes
