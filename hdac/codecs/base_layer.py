"""The base layer: an HEVC or VVC stream at low delay, header-stripped, and its way back to pictures.

    clip -> every n-th frame, half size -> x265 or libvvenc -> access units -> `hdac.slim_hevc`, `hdac.slim_vvc` -> payloads
    payloads -> access units -> libavcodec -> planes -> full size, picture by picture: none waits for the next
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import av

from baselines import nal
from baselines.conventional import X265, Vvenc
from baselines.libav import PictureDecoder, planes_8bit
from baselines.nal import Hevc, Vvc
from baselines.stream import StreamHeader
from data.clip import Clip, Plane
from data.errors import BitstreamError, InputError
from hdac.container import LayeredHeader, Unit
from hdac.half_size import doubled, half_of, halved
from hdac.slim_hevc import SlimHevcDecoder, SlimHevcEncoder
from hdac.slim_vvc import SlimVvcDecoder, SlimVvcEncoder

Planes = tuple[Plane, Plane, Plane]
"""Y (H, W), U and V (ceil(H / 2), ceil(W / 2)), uint8: one frame."""

LEAST_SIDE = 16
"""Of the pictures that encoders take."""

_INTRA: dict[nal.Standard, tuple[int, ...]] = {
    "hevc": (Hevc.IDR_W_RADL, Hevc.IDR_N_LP),
    "vvc": (Vvc.IDR_W_RADL, Vvc.IDR_N_LP),
}


@dataclass(frozen=True)
class BasePicture:
    """One picture of a base layer as its encoder knows it."""

    plain: bool
    payload: bytes
    intra: bool
    planes: Planes
    """As a decoder has them, at full size."""


def base_clip(clip: Clip, every: int, half: bool) -> Clip:
    """What of a clip the base layer codes: each `every`-th frame, at half width and height if `half`."""
    thin = replace(clip[::every], fps=clip.fps / every)
    return halved(thin) if half else thin


def encode(encoder: X265 | Vvenc, clip: Clip, every: int = 1, half: bool = False) -> list[BasePicture]:
    """The pictures of a base layer, of frames 0, every, 2 every, .. . Raises InputError for a clip that is too small."""
    if half and min(half_of(clip.width), half_of(clip.height)) < LEAST_SIDE:
        raise InputError(f"half of {clip.width}x{clip.height} is too small for a base layer: under {LEAST_SIDE}x{LEAST_SIDE}")
    coded = base_clip(clip, every, half)
    stream = encoder.encode(coded)
    decoded = encoder.decode(stream)
    standard: nal.Standard = "vvc" if isinstance(encoder, Vvenc) else "hevc"
    slim = SlimVvcEncoder(coded.width, coded.height) if standard == "vvc" else SlimHevcEncoder()
    pictures = []
    for i, unit in enumerate(nal.access_units(stream[StreamHeader.unpack(stream)[1] :], standard)):
        plain, payload = slim.pack(unit)
        planes = decoded.y[i], decoded.u[i], decoded.v[i]
        if half:
            planes = doubled(planes, clip.height, clip.width)
        pictures.append(BasePicture(plain, payload, is_intra(unit, standard), planes))
    return pictures


def is_intra(unit: Iterable[bytes], standard: nal.Standard) -> bool:
    """Whether an access unit is an IDR picture."""
    return any(nal.nal_type(one, standard) in _INTRA[standard] for one in unit)


@dataclass(frozen=True)
class DecodedPicture:
    """One frame as the decoder of its base layer knows it."""

    unit: Unit
    planes: Planes
    """Of the base layer's last picture, at full size."""
    new: bool
    """Whether that is one of this very frame."""
    intra: bool


def decode(units: Iterable[Unit], header: LayeredHeader) -> Iterator[DecodedPicture]:
    """Frames as their units arrive, cropped to the size of the clip. Raises BitstreamError for damage."""
    return _Decoder(header).frames(units)


class _Decoder:
    def __init__(self, header: LayeredHeader) -> None:
        self._full = header.stream.height, header.stream.width
        self._half = header.base_half
        self._coded = (half_of(self._full[0]), half_of(self._full[1])) if self._half else self._full
        self._standard: nal.Standard = "vvc" if header.base_codec == "vvc" else "hevc"
        height, width = self._coded
        self._slim = SlimVvcDecoder(width, height) if self._standard == "vvc" else SlimHevcDecoder()
        self._decoder = PictureDecoder(self._standard, (width, height))
        self._waiting: deque[tuple[Unit, bool]] = deque()
        """Frames that are still to be shown, with whether they are intra pictures."""
        self._last: Planes | None = None

    def frames(self, units: Iterable[Unit]) -> Iterator[DecodedPicture]:
        for unit in units:
            intra, pictures = False, []
            if unit.base is not None:
                access_unit = nal.split(self._slim.unpack(unit.plain, unit.base))
                intra = is_intra(access_unit, self._standard)
                pictures = self._decoder.decode(access_unit)
            self._waiting.append((unit, intra))
            yield from self._shown(deque(map(self._planes, pictures)))
        yield from self._shown(deque(map(self._planes, self._decoder.flush())))

    def _shown(self, pictures: deque[Planes]) -> Iterator[DecodedPicture]:
        """The frames that need not wait any longer."""
        while self._waiting and (pictures or self._waiting[0][0].base is None):
            unit, intra = self._waiting.popleft()
            if unit.base is not None:
                self._last = pictures.popleft()
            assert self._last is not None  # frame 0 has a base picture
            yield DecodedPicture(unit, self._last, unit.base is not None, intra)
        if pictures:
            raise BitstreamError("the base layer holds more pictures than there are units")

    def _planes(self, frame: av.VideoFrame) -> Planes:
        height, width = self._coded
        if frame.width < width or frame.height < height:
            raise BitstreamError(f"a base layer of {frame.width}x{frame.height} for {width}x{height}")
        y, u, v = planes_8bit(frame)
        rows, columns = half_of(height), half_of(width)
        planes = y[:height, :width], u[:rows, :columns], v[:rows, :columns]
        return doubled(planes, *self._full) if self._half else planes
