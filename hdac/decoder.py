"""The decoder of the layered systems: bytes, or anything that can be read from, to pictures."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np

from data.clip import Clip
from data.errors import BitstreamError, InputError
from hdac.codecs import dac, face_vid2vid, hdac, mobile, stripped
from hdac.codecs.base_layer import Planes
from hdac.codecs.view import View
from hdac.container import Reader

SYSTEMS: dict[str, Callable[[Reader, bool], Iterator[Planes]]] = {
    "hevc-stripped": stripped.decode,
    "dac": dac.decode,
    "hdac": hdac.decode,
    "face-vid2vid": face_vid2vid.decode,
    "mobile": mobile.decode,
}


def decode(bitstream: bytes) -> Clip:
    """All frames of a stream, from the bytes alone. Raises BitstreamError for one that is damaged."""
    reader = Reader(io.BytesIO(bitstream))
    return _clip(reader, list(frames(reader, ahead=True)))


def decode_view(bitstream: bytes, view: View, wanted: Collection[int] | None = None) -> Clip:
    """Frames of a stream of face-vid2vid, all or those whose numbers are wanted, seen from elsewhere. Raises BitstreamError for
    another or a damaged one, InputError where none of the wanted ones is there."""
    reader = Reader(io.BytesIO(bitstream))
    system = reader.header.stream.standard
    if system != "face-vid2vid":
        raise BitstreamError(f"a stream of {system} can be seen from where it was taken only, face-vid2vid from elsewhere")
    n_frames = reader.header.stream.n_frames
    if wanted is not None and not any(0 <= number < n_frames for number in wanted):
        raise InputError(f"none of the frames {list(wanted)} is in a stream of {n_frames}")
    return _clip(reader, list(face_vid2vid.decode(reader, ahead=True, view=view, wanted=wanted)))


def decode_mobile(bitstream: bytes, fine_tune: int = 0, int8: bool = False) -> Clip:
    """All frames of a stream of the mobile family, by a network that was fitted to its references in so many steps, or by one
    in 8-bit integers. Raises BitstreamError for another or a damaged one, InputError for a network that cannot be fitted or a
    number of steps out of range, CodecUnavailable for a network that is not here in integers."""
    if not 0 <= fine_tune <= mobile.MAX_FINE_TUNING:
        raise InputError(f"{fine_tune} steps of fine-tuning are not between 0 and {mobile.MAX_FINE_TUNING}")
    reader = Reader(io.BytesIO(bitstream))
    system = reader.header.stream.standard
    if system != "mobile":
        raise BitstreamError(f"networks of {system} are neither fine-tuned nor in integers, those of the mobile family are")
    return _clip(reader, list(mobile.decode(reader, ahead=True, fine_tune=fine_tune, int8=int8)))


def decode_tolerant(file: BinaryIO) -> tuple[Clip, BitstreamError | None]:
    """The frames in front of the damage, and what it was; BitstreamError where there are none.

    In a stream with checksums these are the frames that a checksum vouches for: up to one interval of good ones may be lost
    with the bad. Without checksums some of the last frames may be damaged.
    """
    reader = Reader(file)
    shown: list[Planes] = []
    try:
        for picture in verified_frames(reader, ahead=True):
            shown.append(picture)
    except BitstreamError as error:
        if not shown:
            raise
        return _clip(reader, shown), error
    return _clip(reader, shown), None


def verified_frames(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as soon as the checksum behind them has arrived, then BitstreamError where there is damage.

    Without checksums they come as their access units do. ahead: see `frames`.
    """
    waiting: deque[Planes] = deque()
    given = 0
    damage: BitstreamError | None = None
    try:
        for picture in frames(reader, ahead):
            waiting.append(picture)
            while waiting and (given < reader.verified or not reader.header.checksum_interval):
                yield waiting.popleft()
                given += 1
    except BitstreamError as error:
        damage = error
    for picture in islice(waiting, max(0, reader.verified - given)):
        yield picture
    if damage:
        raise damage


def frames(reader: Reader, ahead: bool = False) -> Iterator[Planes]:
    """Pictures as their access units arrive; BitstreamError where one is damaged, or missing at the end.

    ahead: read a few units ahead and decode them at once, for streams that need not be waited for.
    """
    system = reader.header.stream.standard
    if system not in SYSTEMS:
        raise BitstreamError(f"there is no decoder for {system}")
    count = 0
    for picture in SYSTEMS[system](reader, ahead):
        count += 1
        yield picture
    if count != reader.header.stream.n_frames:
        raise BitstreamError(f"{count} pictures came out of a stream of {reader.header.stream.n_frames} frames")


def _clip(reader: Reader, pictures: list[Planes]) -> Clip:
    """Takes the pictures out of the list: a long clip of large ones does not fit twice."""
    stream, n_frames = reader.header.stream, len(pictures)
    y, u, v = (np.empty((n_frames, *plane.shape), np.uint8) for plane in pictures[0])
    while pictures:
        planes = pictures.pop()
        t = len(pictures)
        y[t], u[t], v[t] = planes
    return Clip(y, u, v, stream.fps, stream.colour)
