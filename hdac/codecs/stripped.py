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
from hdac.codecs.layered import BaseLayerCodec, checked_units
from hdac.container import LayeredHeader, Reader, Unit, Writer

CODE_VERSION = 3
"""Raised with every change that can change a stream or a decoded frame."""


@dataclass(frozen=True, kw_only=True)
class HevcStripped(BaseLayerCodec):
    """x265's pictures, bit by bit those of `X265` of the same settings, in the `.hdac` container.

    A frame without a base picture shows the one before it.
    """

    name: ClassVar[str] = "hevc-stripped"

    @property
    def label(self) -> str:
        parts = ["x265", self.preset or X265.preset, *self.chosen_label, f"QP {self.qp}"]
        return f"{' '.join(parts)} stripped{self.base_label}"

    @property
    def version(self) -> str:
        return f"{CODE_VERSION} {self.base_encoder.version}"

    def command(self, clip: Clip) -> str:
        return f"{self.base_command(clip)}; headers stripped"

    def encode(self, clip: Clip) -> bytes:
        """The whole stream."""
        settled, pictures = self.settled(clip)
        assert settled.i_offset is not None
        header = LayeredHeader(
            StreamHeader.of(clip, self.name),
            self.qp,
            self.qp - settled.i_offset,
            checksum_interval=self.checksum_interval,
            base_every=self.base_every,
            base_half=self.base_half,
        )
        writer = Writer(header)
        parts = [writer.header]
        for t in range(clip.n_frames):
            if header.has_base_picture(t):
                picture = pictures[t // self.base_every]
                parts.append(writer.add(Unit(base=picture.payload, plain=picture.plain)))
            else:
                parts.append(writer.add(Unit(repeated="shown")))
        return b"".join(parts) + writer.finish()


def decode(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as their units arrive; ahead: as of the other systems, without effect. Raises BitstreamError for damage."""
    for picture in base_layer.decode(checked_units(reader), reader.header):
        yield picture.planes
