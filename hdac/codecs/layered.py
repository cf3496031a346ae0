"""What the layered codecs share: the quantiser, the base layer's settings, and decoding from bytes or from a pipe."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from baselines.conventional import MAX_QUANTISER, X265, Vvenc
from baselines.stream import Ledger
from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac import container
from hdac.codecs import base_layer
from hdac.codecs.base_layer import BasePicture
from hdac.container import BASE_STEPS, Reader, Unit

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
    """The units of a stream. Raises BitstreamError for layers that its header does not speak of, for frames that have none, and
    for pictures that are too large."""
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
        if not unit.repeated and unit.base is None and unit.keypoints is None:
            raise BitstreamError(f"frame {t} has neither a base picture nor keypoints")
        if header.has_base_picture(0) and unit.base is None and unit.reference is not None:
            raise BitstreamError(f"frame {t} has a reference without a base picture")
        for name, there in unexpected.items():
            if there:
                raise BitstreamError(f"frame {t} has {name}, of which the header says nothing")
        yield unit


@dataclass(frozen=True, kw_only=True)
class LayeredCodec(ABC):
    """A codec of the `.hdac` container whose curve is moved along by `qp`."""

    qp: int
    checksum_interval: int = 50
    """Units between two checksums; 0: no checksum."""

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

    @property
    def coarsest(self) -> int:
        """The last quantiser that there is."""
        return MAX_QUANTISER["hevc"]


@dataclass(frozen=True, kw_only=True)
class BaseLayerCodec(LayeredCodec):
    """A layered codec with a base layer, whose P pictures have `qp`."""

    i_offset: int = 12
    """QP steps by which its intra pictures are finer."""
    preset: str | None = None
    """Of the base layer's encoder; None: that of the anchors, "slow" for x265 and "medium" for libvvenc."""
    lean: bool = True
    """x265's."""
    intra_period: int = 0
    """Frames of the clip from one intra picture to the next, rounded up to a multiple of base_every; 0: only the first."""
    base_every: int = 1
    """Only every 1st, 2nd or 3rd frame has a base picture."""
    base_half: bool = False
    """Base pictures are coded at half width and height (`hdac.half_size`)."""

    def __post_init__(self) -> None:
        if self.base_every not in BASE_STEPS:
            raise InputError(f"base_every={self.base_every} is not one of {BASE_STEPS}")
        _ = self.base_encoder  # which checks its settings

    @property
    def base_encoder(self) -> X265 | Vvenc:
        """The encoder of the base layer."""
        return X265(
            qp=self.qp,
            preset=self.preset or X265.preset,
            lean=self.lean,
            i_offset=self.i_offset,
            intra_period=self.base_intra_period,
        )

    @property
    def base_intra_period(self) -> int:
        """`intra_period` in base pictures."""
        return -(-self.intra_period // self.base_every)

    @property
    def base_label(self) -> str:
        """What is special about the base layer's pictures, in a few words: " 1/2 rate half size"."""
        return f" 1/{self.base_every} rate" * (self.base_every > 1) + " half size" * self.base_half

    def base_command(self, clip: Clip) -> str:
        """The base layer encoder's command line."""
        return self.base_encoder.command(base_layer.base_clip(clip, self.base_every, self.base_half))

    def base_pictures(self, clip: Clip) -> list[BasePicture]:
        """The base layer of a clip."""
        return base_layer.encode(self.base_encoder, clip, self.base_every, self.base_half)
