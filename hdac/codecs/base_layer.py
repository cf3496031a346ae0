"""The base layer: an HEVC stream at low delay, header-stripped, and its way back to pictures.

    clip -> x265 -> access units -> `hdac.slim_hevc` -> one payload a frame
    payloads -> access units -> libavcodec -> planes, picture by picture: none waits for the next
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from baselines import nal
from baselines.conventional import X265
from baselines.libav import decoded_frames, planes_8bit
from baselines.nal import Hevc
from baselines.stream import StreamHeader
from data.clip import Clip, Plane
from data.errors import BitstreamError
from hdac.container import Unit
from hdac.slim_hevc import SlimHevcDecoder, SlimHevcEncoder

Planes = tuple[Plane, Plane, Plane]
"""Y (H, W), U and V (ceil(H / 2), ceil(W / 2)), uint8: one frame."""


@dataclass(frozen=True)
class BasePicture:
    """One picture of a base layer as its encoder knows it."""

    plain: bool
    payload: bytes
    intra: bool


def encode(x265: X265, clip: Clip) -> tuple[list[BasePicture], Clip]:
    """The pictures of a base layer, and the clip that a decoder makes of them."""
    stream = x265.encode(clip)
    slim = SlimHevcEncoder()
    pictures = []
    for unit in nal.access_units(stream[StreamHeader.unpack(stream)[1] :], "hevc"):
        plain, payload = slim.pack(unit)
        pictures.append(BasePicture(plain, payload, is_intra(unit)))
    return pictures, x265.decode(stream)


def is_intra(unit: Iterable[bytes]) -> bool:
    """Whether an access unit is an IDR picture."""
    return any(nal.nal_type(n, "hevc") in (Hevc.IDR_W_RADL, Hevc.IDR_N_LP) for n in unit)


@dataclass(frozen=True)
class DecodedPicture:
    """One picture of a base layer as its decoder knows it."""

    unit: Unit
    planes: Planes
    intra: bool


def decode(units: Iterable[Unit], header: StreamHeader) -> Iterator[DecodedPicture]:
    """Pictures as their units arrive, cropped to the size of the clip. Raises BitstreamError for damage."""
    slim = SlimHevcDecoder()
    waiting: list[tuple[Unit, bool]] = []

    def access_units() -> Iterator[list[bytes]]:
        for unit in units:
            if unit.base is None:
                raise BitstreamError(f"frame {len(waiting)} has no base layer")
            access_unit = nal.split(slim.unpack(unit.plain, unit.base))
            waiting.append((unit, is_intra(access_unit)))
            yield access_unit

    for i, frame in enumerate(decoded_frames("hevc", access_units(), (header.width, header.height))):
        if i >= len(waiting):
            raise BitstreamError(f"the base layer holds more pictures than the {len(waiting)} frames before it")
        if frame.width < header.width or frame.height < header.height:
            raise BitstreamError(f"a base layer of {frame.width}x{frame.height} for {header.width}x{header.height}")
        y, u, v = planes_8bit(frame)
        chroma = (header.height + 1) // 2, (header.width + 1) // 2
        planes = (y[: header.height, : header.width], u[: chroma[0], : chroma[1]], v[: chroma[0], : chroma[1]])
        unit, intra = waiting[i]
        yield DecodedPicture(unit, planes, intra)
