"""The file of a conventional codec or of stills: a few bytes of header, then its elementary stream.

An elementary stream tells its picture size, but neither frame rate, colour description, true size (H.26x code odd sizes
padded) nor frame count; a decoder that has only bytes needs them. They cost 10 to 13 bytes once, and count as rate.

    size   field
    1      magic 0xE5
    1      standard: 1 H.264, 2 HEVC, 3 VVC, 4 AV1, 5 VP9; every frame a still picture: 16 BPG, 17 VVC still, 18 JPEG,
           19 WebP, 20 AVIF, 21 learned (`baselines.still_video`); layered: 32 header-stripped HEVC, 33 DAC, 34 H-DAC,
           35 face-vid2vid (`hdac.container`)
    1      colour: bits 0-1 matrix (0 BT.601, 1 BT.709, 2 BT.2020), bit 2 full range, bits 3-4 siting (0 left, 1 centre,
           2 top left); the other bits are 0
    1..5   width, height, fps numerator, fps denominator, frame count: ue7 each (7 bits a byte, high bit = more follows)
    rest   the elementary stream

H.264, HEVC and VVC are Annex B byte streams, start codes and all, as the standards define them and as encoders' rates are
usually quoted. AV1 and VP9 have no start codes: every temporal unit is preceded by its length (ue7), without temporal
delimiters and, in AV1, without the size field of its last OBU, as in Matroska and MP4; that is the same size as AV1's own
low-overhead format without temporal delimiters. Still pictures are preceded by their length, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from baselines.bits import read_ue7, write_ue7
from data.clip import Clip, Colour
from data.errors import BitstreamError, InputError, TruncatedBitstream

MAGIC = 0xE5
# numbers in the stream; never renumber
VIDEO_STANDARDS = {"h264": 1, "hevc": 2, "vvc": 3, "av1": 4, "vp9": 5}
STILL_STANDARDS = {"bpg": 16, "vvc-still": 17, "jpeg": 18, "webp": 19, "avif": 20, "learned": 21}
LAYERED_STANDARDS = {"hevc-stripped": 32, "dac": 33, "hdac": 34, "face-vid2vid": 35, "mobile": 36}
STANDARDS = {**VIDEO_STANDARDS, **STILL_STANDARDS, **LAYERED_STANDARDS}
_MATRIX_IDS = {"bt601": 0, "bt709": 1, "bt2020": 2}
_SITING_IDS = {"left": 0, "center": 1, "topleft": 2}

MAX_SAMPLES = 1 << 33
"""Largest width x height x frames that a decoder allocates for: about 4,000 frames of 1080p; a guard against damage."""


@dataclass(frozen=True)
class StreamHeader:
    """What a decoder must know besides the elementary stream."""

    standard: str
    """One of STANDARDS."""
    width: int
    height: int
    fps: Fraction
    n_frames: int
    colour: Colour

    @classmethod
    def of(cls, clip: Clip, standard: str) -> StreamHeader:
        return cls(standard, clip.width, clip.height, clip.fps, clip.n_frames, clip.colour)

    def pack(self) -> bytes:
        """The bytes of the header. Raises InputError for numbers that do not fit it: fps is a fraction of 32-bit numbers."""
        colour = (
            _MATRIX_IDS[self.colour.matrix]
            | (self.colour.range == "full") << 2
            | _SITING_IDS[self.colour.siting] << 3
        )
        numbers = (self.width, self.height, self.fps.numerator, self.fps.denominator, self.n_frames)
        if not all(0 < number < 1 << 32 for number in numbers):
            raise InputError(f"{self.width}x{self.height}, {self.fps} fps or {self.n_frames} frames do not fit a header")
        return bytes((MAGIC, STANDARDS[self.standard], colour)) + b"".join(map(write_ue7, numbers))

    @classmethod
    def unpack(cls, bitstream: bytes, accepted: Mapping[str, int] = STANDARDS) -> tuple[StreamHeader, int]:
        """Header and the position behind it.

        Raises BitstreamError for anything that `pack` cannot have written, and for a standard that the caller does not
        decode, that is, one that is not among `accepted`.
        """
        if len(bitstream) < 8:
            raise TruncatedBitstream(f"{len(bitstream)} bytes are too few for a stream header")
        if bitstream[0] != MAGIC:
            raise BitstreamError(f"first byte 0x{bitstream[0]:02x} is not 0x{MAGIC:02x}: not a stream of this project")
        standards = {number: name for name, number in STANDARDS.items()}
        if bitstream[1] not in standards:
            raise BitstreamError(f"unknown coding standard {bitstream[1]} in the stream header")
        if standards[bitstream[1]] not in accepted:
            raise BitstreamError(f"a stream of {standards[bitstream[1]]}, expected one of {', '.join(accepted)}")
        colour = bitstream[2]
        if colour & 3 > 2 or colour >> 3 > 2:
            raise BitstreamError(f"unknown colour description 0x{colour:02x} in the stream header")
        position, numbers = 3, []
        for _ in range(5):
            number, position = read_ue7(bitstream, position)
            numbers.append(number)
        width, height, fps_num, fps_den, n_frames = numbers
        if 0 in numbers:
            raise BitstreamError(f"width, height, fps and frame count must be positive, got {numbers}")
        if width > 1 << 14 or height > 1 << 14 or width * height * n_frames > MAX_SAMPLES:
            raise BitstreamError(f"{n_frames} frames of {width}x{height} are more than a decoder allocates for")
        fps = Fraction(fps_num, fps_den)
        if fps > 1000 or fps.denominator != fps_den:
            raise BitstreamError(f"a frame rate of {fps_num}/{fps_den} is not plausible, or not in lowest terms")
        described = Colour(
            matrix=list(_MATRIX_IDS)[colour & 3],
            range="full" if colour & 4 else "limited",
            siting=list(_SITING_IDS)[colour >> 3],
        )
        return cls(standards[bitstream[1]], width, height, fps, n_frames, described), position


@dataclass(frozen=True)
class Ledger:
    """Where every byte of a stream went.

    layers: layer name -> int64 (T,), bytes of that layer in each frame's access unit.
    header: bytes before the first access unit.
    """

    layers: dict[str, NDArray[np.int64]]
    header: int

    @property
    def frames(self) -> NDArray[np.int64]:
        """Bytes of every access unit: int64 (T,)."""
        return np.sum(list(self.layers.values()), axis=0, dtype=np.int64)

    @property
    def totals(self) -> dict[str, int]:
        """Bytes of every layer, the header among them; they sum to the file."""
        return {"header": self.header, **{name: int(per_frame.sum()) for name, per_frame in self.layers.items()}}


def join_samples(samples: Iterable[bytes]) -> bytes:
    """Length-prefixed temporal units."""
    return b"".join(write_ue7(len(sample)) + sample for sample in samples)


def split_samples(payload: bytes) -> Iterator[bytes]:
    """The reverse of `join_samples`. Raises TruncatedBitstream where the last unit is not whole."""
    position = 0
    while position < len(payload):
        size, position = read_ue7(payload, position)
        if position + size > len(payload):
            raise TruncatedBitstream(f"a temporal unit of {size} bytes at {position} ends behind the stream's {len(payload)}")
        yield payload[position : position + size]
        position += size
