"""The `.hdac` container of the layered codecs: one access unit per frame, decodable as soon as it has arrived.

    file = header, access unit per frame, a checksum every so many units and at the end

    size    header
    10..13  stream header (`baselines.stream`): magic, system (32 header-stripped HEVC, 33 DAC, 34 H-DAC, 35 face-vid2vid,
            36 mobile family), colour, size, fps, frame count
    1       version of this format: 1
    1       bit 0 best look wanted, bit 1 Jacobians sent (in system 35: motion by the paper's coder), bits 2-3 keypoint step
            (64 << n), bits 4-5 reference codec (0 intra pictures of the base layer, 1 BPG, 2 VVC still, 3 learned), bit 6
            keypoints sent, bit 7 a face box follows
    1       base layer: bits 0-1 codec (0 HEVC, 1 VVC), bits 2-3 n - 1, where every n-th frame has a base picture (n is 1 to 3),
            bit 4 half width and height. All 0 in systems 33 and 35, no VVC in system 32; in system 36 bits 0-1 are the motion
            coder (0 adaptive, 1 Huffman, 2 by a prior) and bits 2-4 are 0. Bit 5: there may be residuals. Bit 6, in system 36:
            landmarks are found by networks of their own; in systems 33 and 35, where there may be residuals: pictures
            that they have enhanced are animated in a way of their own: in 33 for best look, and as if their QP were at most 28;
            in 35 for least error, and as if it were at most 34. Bit 7 is 0
    1       QP of the base layer's P pictures (0 where there is none)
    1       QP of the reference
    1       units between two checksums; 0: no checksum
    4       network weights: the first bytes of the SHA-256 of their file; not in system 32
    4       weights of the residual's networks, likewise, where there may be residuals
    4       weights of the landmarks' networks, likewise, where bit 6 says so in system 36
    4..8    face box, where bit 7 of the settings says so: left, top, width, height as ue7, in units of two samples. Inside of
            the picture and 64 samples a side or more; pictures of more than 2 * 256 * 256 samples have one, but not in system
            32. What it is for: `hdac.codecs.face_box`

    size    access unit
    1..     ue7: 4 * (bytes after this number and the mode byte) + 2 * (a mode byte follows) + plain
    0, 1    mode from this frame on: bits 0-1 strength of the networks' correction in halves (0: the base layer is shown; in
            system 35: the length n of a switch to a new reference, which takes 2^n frames, or none for 0), bit 2 keypoints in
            every unit; and for this unit only: bit 3 a reference picture, bit 4 a residual
    ..      ue7 length and bytes of every layer that is there, in the order reference, residual, keypoints; then the base layer,
            which has the rest and no length. Where no layer can follow, the last one has no length.

`plain` belongs to the base layer (`hdac.slim_hevc`, `hdac.slim_vvc`). A checksum is the CRC-16 (CCITT) of all bytes since the
one before it: damage within 16 bits does not escape it. A frame of a base layer whose picture is all skip is 3 bytes.

In a frame without a base picture, of a system that has a base layer, the unit may be a single byte that repeats a picture: 1
the one shown last, 3 the base layer's last one; that changes no mode. Where keypoints are sent instead, the network animates
the reference by them alone; the strength has no meaning then and stays as it is.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

from baselines.bits import read_ue7, write_ue7
from baselines.stream import LAYERED_STANDARDS, Ledger, StreamHeader
from data.crop import Box
from data.errors import BitstreamError, InputError, TruncatedBitstream, UnsupportedVersion

VERSION = 1
# numbers in the stream; never renumber
REFERENCE_CODECS = {"base": 0, "bpg": 1, "vvc": 2, "learned": 3}
BASE_CODECS = {"hevc": 0, "vvc": 1}
BASE_STEPS = (1, 2, 3)
MOTION_CODERS = {"adaptive": 0, "huffman": 1, "prior": 2}
KEYPOINT_STEPS = (64, 128, 256, 512)
CHECKSUM_BYTES = 2
_CRC_START = 0xFFFF
MAX_UNIT = 1 << 24
"""Bytes; a larger access unit is damage."""
MAX_WHOLE_SAMPLES = 2 * 256 * 256
"""Luma samples of a picture that networks see as a whole: twice what they are trained on. Larger ones have a face box."""
MIN_BOX_SIDE = 64
"""Luma samples: the grid on which networks find motion."""

_REPEATED: dict[Literal["shown", "base"], int] = {"shown": 1, "base": 3}

FULL = 2
"""Strength at which the fused picture is shown as the network made it."""

_STRENGTH, _KEYPOINTS, _REFERENCE, _RESIDUAL = 3, 4, 8, 16


def needs_face_box(width: int, height: int) -> bool:
    """Whether pictures are too large for networks to see them as a whole."""
    return width * height > MAX_WHOLE_SAMPLES


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
    face_box: Box | None = None
    """What networks see of every picture, in luma samples, even; None: all."""
    base_codec: str = "hevc"
    base_every: int = 1
    """Every base_every-th frame has a base picture."""
    base_half: bool = False
    """Base pictures have half the width and height."""
    paper_coder: bool = False
    """face-vid2vid: motion by the paper's coder (`hdac.parameters`)."""
    residual_id: bytes = b""
    """4 bytes: weights of the networks of residuals (`hdac.codecs.residual`); none where there are no residuals."""
    motion_coder: str = "adaptive"
    """Mobile family: see `hdac.points`."""
    landmarks_id: bytes = b""
    """Mobile family, 4 bytes: weights of the networks that find landmarks; none where they are not needed."""
    enhanced_apart: bool = False
    """DAC and face-vid2vid with residuals: pictures that they have enhanced are animated in a way of their own, whatever
    `best_look` says, and as if `reference_qp` were at most ENHANCED_QP of `hdac.codecs.animator` or `.face_animator`."""

    def __post_init__(self) -> None:
        if self.stream.standard not in LAYERED_STANDARDS:
            raise InputError(f"{self.stream.standard!r} is not one of {', '.join(LAYERED_STANDARDS)}")
        for name in ("base_qp", "reference_qp"):
            if not 0 <= getattr(self, name) <= 63:
                raise InputError(f"{name}={getattr(self, name)} is not between 0 and 63")
        if self.reference_codec not in REFERENCE_CODECS:
            raise InputError(f"reference codec {self.reference_codec!r} is not one of {', '.join(REFERENCE_CODECS)}")
        if self.base_codec not in BASE_CODECS:
            raise InputError(f"base codec {self.base_codec!r} is not one of {', '.join(BASE_CODECS)}")
        if self.base_every not in BASE_STEPS:
            raise InputError(f"base_every={self.base_every} is not one of {BASE_STEPS}")
        if not self.has_base_layer and self._base_settings():
            settings = f"base_codec={self.base_codec!r}, base_every={self.base_every}, base_half={self.base_half}"
            raise InputError(f"{self.stream.standard} has no base layer, but {settings}")
        if self.paper_coder and (self.stream.standard != "face-vid2vid" or self.jacobians):
            raise InputError(f"{self.stream.standard} with the coder of face-vid2vid's paper, Jacobians: {self.jacobians}")
        if self.jacobians and self.stream.standard == "face-vid2vid":
            raise InputError("face-vid2vid with Jacobians")
        if len(self.residual_id) not in (0, 4) or self.residual_id and self.stream.standard == "hevc-stripped":
            raise InputError(f"{self.stream.standard} with a weights id of {len(self.residual_id)} bytes for residuals")
        if self.stream.standard == "hevc-stripped" and self.base_codec != "hevc":
            raise InputError(f"hevc-stripped with a base layer of {self.base_codec}")
        if self.motion_coder not in MOTION_CODERS:
            raise InputError(f"motion coder {self.motion_coder!r} is not one of {', '.join(MOTION_CODERS)}")
        if len(self.landmarks_id) not in (0, 4):
            raise InputError(f"a weights id of {len(self.landmarks_id)} bytes for landmarks")
        if self.stream.standard != "mobile" and (self.landmarks_id or self.motion_coder != "adaptive"):
            raise InputError(f"{self.stream.standard} with landmarks, or with the motion coder {self.motion_coder}")
        if self.enhanced_apart and (self.stream.standard not in ("dac", "face-vid2vid") or not self.residual_id):
            raise InputError(f"{self.stream.standard} with enhanced pictures apart, which DAC and face-vid2vid alone have")
        if self.keypoint_step not in KEYPOINT_STEPS:
            raise InputError(f"keypoint step {self.keypoint_step} is not one of {KEYPOINT_STEPS}")
        if self.jacobians and not self.keypoints_sent:
            raise InputError("Jacobians without keypoints")
        if self.keypoints_sent and self.stream.standard == "hevc-stripped":
            raise InputError("hevc-stripped with keypoints")
        if not 0 <= self.checksum_interval <= 255:
            raise InputError(f"checksum_interval={self.checksum_interval} is not between 0 and 255")
        if len(self.weights_id) != self._weights_bytes(self.stream.standard):
            raise InputError(f"{self.stream.standard} has a weights id of {self._weights_bytes(self.stream.standard)} bytes")
        self._check_face_box()

    def _check_face_box(self) -> None:
        box, width, height = self.face_box, self.stream.width, self.stream.height
        networks = self.stream.standard != "hevc-stripped"
        if box is None:
            if networks and needs_face_box(width, height):
                raise InputError(f"networks do not see {width}x{height} as a whole: a face box is missing")
            return
        if not networks:
            raise InputError(f"{box} in a stream of {self.stream.standard}, which has no networks")
        if any(number % 2 for number in (box.x, box.y, box.width, box.height)) or min(box.x, box.y) < 0:
            raise InputError(f"the numbers of a face box are even and not negative, not {box}")
        if min(box.width, box.height) < MIN_BOX_SIDE:
            raise InputError(f"a face box has {MIN_BOX_SIDE} samples a side or more, not {box.width}x{box.height}")
        if box.x + box.width > width or box.y + box.height > height:
            raise InputError(f"{box} is not inside of a picture of {width}x{height}")

    @staticmethod
    def _weights_bytes(system: str) -> int:
        return 0 if system == "hevc-stripped" else 4

    def _base_settings(self) -> int:
        return BASE_CODECS[self.base_codec] | BASE_STEPS.index(self.base_every) << 2 | self.base_half << 4

    @property
    def has_base_layer(self) -> bool:
        return self.stream.standard in ("hevc-stripped", "hdac")

    def has_base_picture(self, t: int) -> bool:
        """Whether frame `t` has a picture of the base layer."""
        return self.has_base_layer and t % self.base_every == 0

    def pack(self) -> bytes:
        settings = (
            self.best_look
            | (self.jacobians or self.paper_coder) << 1
            | KEYPOINT_STEPS.index(self.keypoint_step) << 2
            | REFERENCE_CODECS[self.reference_codec] << 4
            | self.keypoints_sent << 6
            | (self.face_box is not None) << 7
        )
        base = self._base_settings() | bool(self.residual_id) << 5 | (bool(self.landmarks_id) or self.enhanced_apart) << 6
        base |= MOTION_CODERS[self.motion_coder]
        fixed = bytes((VERSION, settings, base, self.base_qp, self.reference_qp, self.checksum_interval))
        box = self.face_box
        numbers = () if box is None else (box.x, box.y, box.width, box.height)
        ids = self.weights_id + self.residual_id + self.landmarks_id
        return self.stream.pack() + fixed + ids + b"".join(write_ue7(number // 2) for number in numbers)


@dataclass(frozen=True)
class Unit:
    """The layers of one frame; None: not there."""

    base: bytes | None = None
    plain: bool = False
    keypoints: bytes | None = None
    reference: bytes | None = None
    residual: bytes | None = None
    strength: int = 0
    """Of the networks' correction of the base layer, 0 to 3 halves; in face-vid2vid, the length of a switch to a new reference
    (`hdac.codecs.face_vid2vid.FADES`)."""
    repeated: Literal["shown", "base"] | None = None
    """In a frame without a base picture: no layers, but the picture shown last once more, or the base layer's last one."""

    @property
    def layers(self) -> list[bytes]:
        """Those that are there, in their order."""
        return [layer for layer in (self.reference, self.residual, self.keypoints, self.base) if layer is not None]


class Writer:
    """Writes a file, unit by unit: `header`, then what `add` gives, then `finish`."""

    def __init__(self, header: LayeredHeader) -> None:
        self._layered = header
        self.interval = header.checksum_interval
        self.header = header.pack()
        self._n_units = 0
        self._mode = 0
        self._since = 0
        self._crc = binascii.crc_hqx(self.header, _CRC_START)

    def add(self, unit: Unit) -> bytes:
        """The bytes of one access unit and, where one is due, a checksum."""
        has_base = self._layered.has_base_picture(self._n_units)
        between = not has_base and self._layered.has_base_layer
        if (unit.base is not None) != has_base:
            raise InputError(f"frame {self._n_units} {'without' if has_base else 'with'} a base picture in such a stream")
        if unit.repeated and (not between or unit.layers) or between and unit.plain:
            raise InputError(f"frame {self._n_units} cannot be repeated or plain, or has layers besides: {unit}")
        self._n_units += 1
        if unit.repeated:
            return self._checked(bytes((_REPEATED[unit.repeated],)))
        strength = self._mode & _STRENGTH if between else unit.strength & _STRENGTH
        lasting = strength | _KEYPOINTS * (unit.keypoints is not None)
        mode = lasting | _REFERENCE * (unit.reference is not None) | _RESIDUAL * (unit.residual is not None)
        *lengthy, last = unit.layers or [b""]
        body = b"".join(write_ue7(len(layer)) + layer for layer in lengthy) + last
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
        version, settings, base, base_qp, reference_qp, interval = self._read(6)
        if version != VERSION:
            raise UnsupportedVersion(f"version {version} of the container, this code knows {VERSION}")
        references = {number: name for name, number in REFERENCE_CODECS.items()}
        base_codecs = {number: name for name, number in BASE_CODECS.items()}
        motion_coders = {number: name for name, number in MOTION_CODERS.items()}
        mobile, face = stream.standard == "mobile", stream.standard == "face-vid2vid"
        codecs: dict[int, str] = motion_coders if mobile else base_codecs
        n_bits = 6 if stream.standard in ("hevc-stripped", "hdac") else 7
        if base >> n_bits or base & 3 not in codecs or base >> 2 & 3 >= len(BASE_STEPS):
            raise BitstreamError(f"unknown settings 0x{base:02x} of the base layer in the header")
        try:
            return LayeredHeader(
                stream,
                base_qp,
                reference_qp,
                best_look=bool(settings & 1),
                jacobians=bool(settings & 2) and not face,
                paper_coder=bool(settings & 2) and face,
                keypoint_step=KEYPOINT_STEPS[settings >> 2 & 3],
                reference_codec=references[settings >> 4 & 3],
                keypoints_sent=bool(settings & 64),
                checksum_interval=interval,
                weights_id=self._read(LayeredHeader._weights_bytes(stream.standard)),
                residual_id=self._read(4) if base & 32 else b"",
                landmarks_id=self._read(4) if base & 64 and mobile else b"",
                enhanced_apart=bool(base & 64) and not mobile,
                motion_coder=motion_coders[base & 3] if mobile else "adaptive",
                base_codec="hevc" if mobile else base_codecs[base & 3],
                base_every=BASE_STEPS[base >> 2 & 3],
                base_half=bool(base & 16),
                face_box=Box(*(2 * self._read_ue7() for _ in range(4))) if settings & 128 else None,
            )
        except InputError as error:
            raise BitstreamError(f"the header is damaged: {error}") from error

    def units(self) -> Iterator[Received]:
        """The access units, as they arrive; a checksum that does not match raises before the unit in front of it is given.

        Raises BitstreamError also where anything follows the last unit.
        """
        n_frames, interval, mode = self.header.stream.n_frames, self.header.checksum_interval, 0
        for i in range(n_frames):
            received, mode = self._unit(mode, i)
            if interval and ((i + 1) % interval == 0 or i + 1 == n_frames):
                expected = self._crc.to_bytes(CHECKSUM_BYTES, "big")
                if self._read(CHECKSUM_BYTES) != expected:
                    raise BitstreamError(f"checksum mismatch after frame {i}: the stream is damaged")
                self._crc, self.verified = _CRC_START, i + 1
                received.spent["container"] += CHECKSUM_BYTES
            yield received
        if self._file.read(1):
            raise BitstreamError(f"there are bytes behind the last of {n_frames} frames")

    def _unit(self, mode: int, t: int) -> tuple[Received, int]:
        has_base = self.header.has_base_picture(t)
        between = not has_base and self.header.has_base_layer
        begin = self._position
        head = self._read_ue7()
        size = head >> 2
        if size > MAX_UNIT:
            raise BitstreamError(f"an access unit of {size} bytes at {begin}")
        if between and head & 1:
            repeated = {number: what for what, number in _REPEATED.items()}
            if head not in repeated:
                raise BitstreamError(f"a repeated picture with {size} bytes at {begin}")
            return Received(Unit(repeated=repeated[head]), {"container": self._position - begin}), mode
        lasting = mode
        if head & 2:
            mode = self._read(1)[0]
            if mode >> 5 or mode == lasting:
                raise BitstreamError(f"unknown mode 0x{mode:02x}, or no other one, at {self._position - 1}")
        if between and (mode ^ lasting) & _STRENGTH:
            raise BitstreamError(f"mode 0x{mode:02x} at {begin} changes the strength where there is no base picture")
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
            strength=0 if between else mode & _STRENGTH,
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
