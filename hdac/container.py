"""The `.hdac` container of the layered codecs: one access unit per frame, decodable as soon as it has arrived.

    file = header, access unit per frame, a checksum every so many units and at the end

    size    header
    10..13  stream header (`baselines.stream`): magic, system (32 header-stripped HEVC, 33 DAC, 34 H-DAC), colour, size, fps,
            frame count
    1       version of this format: 1
    1       bit 0 best look wanted, bit 1 Jacobians sent, bits 2-3 keypoint step (64 << n), bits 4-5 reference codec (0 intra
            pictures of the base layer, 1 BPG), bit 6 keypoints sent; the other bits are 0
    1       QP of the base layer's P pictures (0 where there is none)
    1       QP of the reference
    1       units between two checksums; 0: no checksum
    4       network weights: the first bytes of the SHA-256 of their file; not in system 32

    size    access unit
    1..     ue7: 4 * (bytes after this number and the mode byte) + 2 * (a mode byte follows) + plain
    0, 1    mode from this frame on: bits 0-1 strength of the networks' correction in halves (0: the base layer is shown), bit 2
            keypoints in every unit; and for this unit only: bit 3 a reference picture, bit 4 a residual
    ..      ue7 length and bytes of every layer that is there, in the order reference, residual, keypoints; then the base layer,
            which has the rest and no length. Where no layer can follow, the last one has no length.

`plain` belongs to the base layer (`hdac.slim_hevc`). A checksum is the CRC-16 (CCITT) of all bytes since the one before
it: damage within 16 bits does not escape it. A frame of a base layer whose picture is all skip is 3 bytes.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from baselines.bits import read_ue7, write_ue7
from baselines.stream import LAYERED_STANDARDS, Ledger, StreamHeader
from data.errors import BitstreamError, InputError, TruncatedBitstream, UnsupportedVersion

VERSION = 1
REFERENCE_CODECS = {"base": 0, "bpg": 1}  # numbers in the stream; never renumber
KEYPOINT_STEPS = (64, 128, 256, 512)
CHECKSUM_BYTES = 2
_CRC_START = 0xFFFF
MAX_UNIT = 1 << 24
"""Bytes; a larger access unit is damage."""

FULL = 2
"""Strength at which the fused picture is shown as the network made it."""

_STRENGTH, _KEYPOINTS, _REFERENCE, _RESIDUAL = 3, 4, 8, 16


@dataclass(frozen=True)
class LayeredHeader:
    """What a decoder must know before the first frame."""

    stream: StreamHeader
    base_qp: int = 0
    reference_qp: int = 0
    best_look: bool = False
    reference_codec: str = "base"
    keypoints_sent: bool = False
    jacobians: bool = False
    keypoint_step: int = 128
    checksum_interval: int = 50
    weights_id: bytes = b""
    """4 bytes; none in a stream without networks."""

    def __post_init__(self) -> None:
        if self.stream.standard not in LAYERED_STANDARDS:
            raise InputError(f"{self.stream.standard!r} is not one of {', '.join(LAYERED_STANDARDS)}")
        for name in ("base_qp", "reference_qp"):
            if not 0 <= getattr(self, name) <= 63:
                raise InputError(f"{name}={getattr(self, name)} is not between 0 and 63")
        if self.reference_codec not in REFERENCE_CODECS:
            raise InputError(f"reference codec {self.reference_codec!r} is not one of {', '.join(REFERENCE_CODECS)}")
        if self.keypoint_step not in KEYPOINT_STEPS:
            raise InputError(f"keypoint step {self.keypoint_step} is not one of {KEYPOINT_STEPS}")
        if not 0 <= self.checksum_interval <= 255:
            raise InputError(f"checksum_interval={self.checksum_interval} is not between 0 and 255")
        if len(self.weights_id) != self._weights_bytes(self.stream.standard):
            raise InputError(f"{self.stream.standard} has a weights id of {self._weights_bytes(self.stream.standard)} bytes")

    @staticmethod
    def _weights_bytes(system: str) -> int:
        return 0 if system == "hevc-stripped" else 4

    def pack(self) -> bytes:
        settings = (
            self.best_look
            | self.jacobians << 1
            | KEYPOINT_STEPS.index(self.keypoint_step) << 2
            | REFERENCE_CODECS[self.reference_codec] << 4
            | self.keypoints_sent << 6
        )
        fixed = bytes((VERSION, settings, self.base_qp, self.reference_qp, self.checksum_interval))
        return self.stream.pack() + fixed + self.weights_id


@dataclass(frozen=True)
class Unit:
    """The layers of one frame; None: not there."""

    base: bytes | None = None
    plain: bool = False
    keypoints: bytes | None = None
    reference: bytes | None = None
    residual: bytes | None = None
    strength: int = 0
    """Of the networks' correction of the base layer, 0 to 3 halves."""


class Writer:
    """Writes a file, unit by unit: `header`, then what `add` gives, then `finish`."""

    def __init__(self, header: LayeredHeader) -> None:
        self.has_base = header.stream.standard != "dac"
        self.interval = header.checksum_interval
        self.header = header.pack()
        self._mode = 0
        self._since = 0
        self._crc = binascii.crc_hqx(self.header, _CRC_START)

    def add(self, unit: Unit) -> bytes:
        """The bytes of one access unit and, where one is due, a checksum."""
        if (unit.base is not None) != self.has_base:
            raise InputError(f"a unit {'without' if self.has_base else 'with'} a base layer in such a stream")
        lasting = unit.strength & _STRENGTH | _KEYPOINTS * (unit.keypoints is not None)
        mode = lasting | _REFERENCE * (unit.reference is not None) | _RESIDUAL * (unit.residual is not None)
        layers = [layer for layer in (unit.reference, unit.residual, unit.keypoints, unit.base) if layer is not None]
        body = b"".join(write_ue7(len(layer)) + layer for layer in layers[:-1]) + (layers[-1] if layers else b"")
        changed = mode != self._mode
        self._mode = lasting
        return self._checked(write_ue7(len(body) << 2 | changed << 1 | unit.plain) + bytes([mode] * changed) + body)

    def _checked(self, data: bytes) -> bytes:
        self._crc = binascii.crc_hqx(data, self._crc)
        self._since += 1
        return data + self._checksum() if self._since == self.interval else data

    def _checksum(self) -> bytes:
        value = self._crc.to_bytes(CHECKSUM_BYTES, "big")
        self._crc, self._since = _CRC_START, 0
        return value

    def finish(self) -> bytes:
        """The checksum of what is left."""
        return self._checksum() if self.interval and self._since else b""


@dataclass(frozen=True)
class Received:
    """One access unit as it was read, with the bytes that each part of it took."""

    unit: Unit
    spent: dict[str, int]


class Reader:
    """Reads a file from anything with `read`: a file, a pipe that is still being written.

    Raises BitstreamError (TruncatedBitstream, UnsupportedVersion among them) for what `Writer` cannot have written; damage
    that leaves the structure whole is found at the next checksum.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.verified = 0
        """Frames in front of the last checksum that was right."""
        self._file = file
        self._crc = _CRC_START
        self._position = 0
        self.header = self._read_header()
        self.header_bytes = self._position

    def _read(self, size: int) -> bytes:
        """Exactly `size` bytes: a pipe gives what it has."""
        parts, wanted = [], size
        while wanted:
            part = self._file.read(wanted)
            if not part:
                raise TruncatedBitstream(f"{size} bytes wanted at {self._position}, but only {size - wanted} are left")
            parts.append(part)
            wanted -= len(part)
        data = b"".join(parts)
        self._position += size
        self._crc = binascii.crc_hqx(data, self._crc)
        return data

    def _read_ue7(self) -> int:
        value = 0
        for i in range(5):
            byte = self._read(1)[0]
            if i == 0 and byte == 0x80:
                raise BitstreamError(f"the number at byte {self._position - 1} is not in its shortest form")
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise BitstreamError(f"the number before byte {self._position} does not end")

    def _read_header(self) -> LayeredHeader:
        data = self._read(3)
        for _ in range(5):  # width, height, fps numerator and denominator, frame count: as long as their high bits say
            for _ in range(5):
                byte = self._read(1)
                data += byte
                if byte[0] < 0x80:
                    break
        stream, used = StreamHeader.unpack(data, LAYERED_STANDARDS)
        if used != len(data):
            raise BitstreamError(f"the stream header takes {used} of {len(data)} bytes")
        version, settings, base_qp, reference_qp, interval = self._read(5)
        if version != VERSION:
            raise UnsupportedVersion(f"version {version} of the container, this code knows {VERSION}")
        references = {number: name for name, number in REFERENCE_CODECS.items()}
        if settings >> 7 or settings >> 4 & 3 not in references:
            raise BitstreamError(f"unknown settings 0x{settings:02x} in the header")
        try:
            return LayeredHeader(
                stream,
                base_qp,
                reference_qp,
                best_look=bool(settings & 1),
                jacobians=bool(settings & 2),
                keypoint_step=KEYPOINT_STEPS[settings >> 2 & 3],
                reference_codec=references[settings >> 4 & 3],
                keypoints_sent=bool(settings & 64),
                checksum_interval=interval,
                weights_id=self._read(LayeredHeader._weights_bytes(stream.standard)),
            )
        except InputError as error:
            raise BitstreamError(f"the header is damaged: {error}") from error

    def units(self) -> Iterator[Received]:
        """The access units, as they arrive; a checksum that does not match raises before the unit in front of it is given.

        Raises BitstreamError also where anything follows the last unit.
        """
        has_base = self.header.stream.standard != "dac"
        n_frames, interval, mode = self.header.stream.n_frames, self.header.checksum_interval, 0
        for i in range(n_frames):
            received, mode = self._unit(mode, has_base)
            if interval and ((i + 1) % interval == 0 or i + 1 == n_frames):
                expected = self._crc.to_bytes(CHECKSUM_BYTES, "big")
                if self._read(CHECKSUM_BYTES) != expected:
                    raise BitstreamError(f"checksum mismatch after frame {i}: the stream is damaged")
                self._crc, self.verified = _CRC_START, i + 1
                received.spent["container"] += CHECKSUM_BYTES
            yield received
        if self._file.read(1):
            raise BitstreamError(f"there are bytes behind the last of {n_frames} frames")

    def _unit(self, mode: int, has_base: bool) -> tuple[Received, int]:
        begin = self._position
        head = self._read_ue7()
        size = head >> 2
        if size > MAX_UNIT:
            raise BitstreamError(f"an access unit of {size} bytes at {begin}")
        if head & 2:
            lasting, mode = mode, self._read(1)[0]
            if mode >> 5 or mode == lasting:
                raise BitstreamError(f"unknown mode 0x{mode:02x}, or no other one, at {self._position - 1}")
        body = self._read(size)
        order = (("reference", _REFERENCE), ("residual", _RESIDUAL), ("keypoints", _KEYPOINTS))
        names = [name for name, bit in order if mode & bit] + ["base"] * has_base
        if not names and body:
            raise BitstreamError(f"{size} bytes of no layer at {begin}")
        layers: dict[str, bytes] = {}
        at = 0
        for name in names[:-1]:
            length, at = read_ue7(body, at)
            if at + length > size:
                raise TruncatedBitstream(f"the {name} of {length} bytes at {begin} ends behind its unit of {size}")
            layers[name] = body[at : at + length]
            at += length
        if names:
            layers[names[-1]] = body[at:]
        spent = {name: len(layer) for name, layer in layers.items()}
        spent["container"] = self._position - begin - sum(spent.values())
        unit = Unit(
            base=layers.get("base"),
            plain=bool(head & 1),
            keypoints=layers.get("keypoints"),
            reference=layers.get("reference"),
            residual=layers.get("residual"),
            strength=mode & _STRENGTH,
        )
        return Received(unit, spent), mode & (_STRENGTH | _KEYPOINTS)


def ledger(file: BinaryIO) -> Ledger:
    """Where every byte of a file went: header; container, reference, base, keypoints, residual per frame."""
    reader = Reader(file)
    spent = [received.spent for received in reader.units()]
    names = ("reference", "base", "keypoints", "residual", "container")
    present = [name for name in names if any(name in frame for frame in spent)]
    layers = {name: np.array([frame.get(name, 0) for frame in spent], np.int64) for name in present}
    return Ledger(layers, reader.header_bytes)
