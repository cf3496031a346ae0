"""VVC still: one intra picture by libvvenc in a frame as bare as BPG's.

VVC has no still format of a few header bytes, and a libvvenc stream of one picture spends about 50 of its bytes on
parameter sets. Those hardly say more than the picture's size and the encoder's preset, so only that is sent:

    size    field
    1       bits 0-3: parameter sets, 1..5 one of PARAMETER_SETS, 0 written out; bits 4-7: number n of APS
    ue7 x2  true width and height; the coded size is both rounded up to a multiple of 8, and 16 at least
    (only where the parameter sets are written out: coding tree size u8 (0 32, 1 64, 2 128), then two fields of a ue7
    length and bytes: the SPS behind its picture size, the PPS behind its)
    n x     adaptive loop filter coefficients and luma mapping: ue7 length, APS NAL unit without its header
    rest    the slice NAL unit without its header, picture header inside

All other bits are those of libvvenc: NAL unit headers, profile Main 10, one sub-layer. The level is not kept. Samples
are coded with 10 bits and rounded to 8 by the decoder.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import numpy as np

from baselines import nal
from baselines.bits import BitWriter, escape, read_ue7, unescape, write_ue7
from baselines.bpg import check_size
from baselines.libav import decoded_frames, planes_8bit
from baselines.nal import Vvc
from baselines.programs import run_ffmpeg
from data.clip import Clip, Plane
from data.errors import BitstreamError, ExternalCodecError, InputError, TruncatedBitstream

ALIGNMENT = 8
MIN_CODED = 16

# In bits, from behind the NAL unit header. H.266 7.3.2.4: SPS and VPS id 0, one sub-layer, 4:2:0, coding tree size,
# profile Main 10, main tier, level; one picture a frame, single layer, no constraints, no sub-profiles; GDR, no RPR.
_SPS_HEAD = "00000000" "000" "01" "{ctu:02b}" "1" "00000010" "{level:08b}" "10000000" "00000000" "10"
_PPS_HEAD = "000000" "0000" "0"  # H.266 7.3.2.5: PPS id 0, SPS id 0, all NAL unit types alike
_LEVEL = 255  # level 15.5: no limit
_LEVEL_BITS = slice(24, 32)

_HEADERS = {kind: bytes((0, kind << 3 | 1)) for kind in (Vvc.SPS, Vvc.PPS, Vvc.PREFIX_APS, Vvc.IDR_N_LP)}


@dataclass(frozen=True)
class ParameterSets:
    """SPS and PPS without the picture size.

    ctu:     log2 of the coding tree size, minus 5.
    sps_end: bytes of the SPS behind its picture size: bits from there to the stop bit, padded with zeros.
    pps_end: the same of the PPS.
    """

    ctu: int
    sps_end: bytes
    pps_end: bytes


PARAMETER_SETS = {  # number in the stream -> what libvvenc 1.15 writes for an intra picture; never renumber
    number: ParameterSets(ctu, bytes.fromhex(sps_end), bytes.fromhex(pps_end))
    for number, ctu, sps_end, pps_end in (
        (1, 1, "1a80fffd6109b2b182041382a86608ce2080", "130c10"),  # faster
        (2, 1, "1a80fd109a293de709b2b182041382afbd2ec5672040", "130fd810"),  # fast
        (3, 2, "1a80fa6dd32348a4de709b2b182041382affd2ecbfce4080", "130fd810"),  # medium
        (4, 2, "1a80fa23744234ca4c99c26cac608104e0abffeef93f3902", "130fd810"),  # slow
        (5, 2, "1a80fa23744234ca4c9dc26cac608104e0abffeef93f3902", "130fd810"),  # slower
    )
}


# -- encoder ---------------------------------------------------------------------------------------------------------


def encode_vvc_still(picture: Clip, qp: int, preset: str = "slow") -> bytes:
    """The stream of a clip of one frame, of any size from 1x1, at quantiser `qp` (0 to 63).

    preset: of libvvenc, "faster" to "slower". Raises InputError for other settings or clips, CodecUnavailable without
    ffmpeg, ExternalCodecError where libvvenc fails.
    """
    if picture.n_frames != 1:
        raise InputError(f"a still codec codes one frame, got {picture.n_frames}")
    if not 0 <= qp <= 63:
        raise InputError(f"qp {qp} is not in 0..63")
    check_size(picture.width, picture.height)
    width, height = coded_side(picture.width), coded_side(picture.height)
    planes = (
        np.pad(plane[0], ((0, rows - plane.shape[1]), (0, columns - plane.shape[2])), mode="edge")
        for plane, rows, columns in (
            (picture.y, height, width),
            (picture.u, height // 2, width // 2),
            (picture.v, height // 2, width // 2),
        )
    )
    coded = _run_vvenc(width, height, qp, preset, b"".join(plane.tobytes() for plane in planes))
    units = nal.split(nal.strip(coded, "vvc")[0])
    by_type: dict[int, list[bytes]] = {}
    for unit in units:
        by_type.setdefault(nal.nal_type(unit, "vvc"), []).append(unit)
    counts = {Vvc(kind).name: len(found) for kind, found in by_type.items()}
    aps = by_type.pop(Vvc.PREFIX_APS, [])
    usual = all(unit[:2] == _HEADERS.get(Vvc(nal.nal_type(unit, "vvc"))) for unit in units)
    single = sorted(by_type) == [Vvc.IDR_N_LP, Vvc.SPS, Vvc.PPS] and all(len(found) == 1 for found in by_type.values())
    if not usual or not single or len(aps) > 15:
        raise ExternalCodecError(["libvvenc"], 0, f"unexpected NAL units for one picture: {counts}")
    parameter_sets = read_parameter_sets(by_type[Vvc.SPS][0], by_type[Vvc.PPS][0], width, height)
    number = next((n for n, known_ones in PARAMETER_SETS.items() if known_ones == parameter_sets), 0)
    stream = bytes((number | len(aps) << 4,)) + write_ue7(picture.width) + write_ue7(picture.height)
    if not number:
        stream += bytes((parameter_sets.ctu,)) + _field(parameter_sets.sps_end) + _field(parameter_sets.pps_end)
    return stream + b"".join(_field(unit[2:]) for unit in aps) + by_type[Vvc.IDR_N_LP][0][2:]


def vvenc_command(width: int, height: int, qp: int, preset: str, target: str) -> ffmpeg.nodes.OutputStream:
    """The ffmpeg command: one raw 8-bit picture in on stdin, an Annex B file out, perceptual adaptation off."""
    source = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="yuv420p", s=f"{width}x{height}", r=1)
    options = {
        "c:v": "libvvenc",
        "preset": preset,
        "qp": qp,
        "qpa": 0,
        "threads": 1,
        "vvenc-params": "IntraPeriod=1:GOPSize=1:AccessUnitDelimiter=0:HrdParametersPresent=0",
    }
    sink = source.output(target, f="vvc", pix_fmt="yuv420p10le", **options)
    return sink.global_args("-hide_banner", "-loglevel", "error")


def _run_vvenc(width: int, height: int, qp: int, preset: str, samples: bytes) -> bytes:
    """The Annex B stream of a planar 4:2:0 picture."""
    with tempfile.TemporaryDirectory() as folder:
        # a file and not a pipe: libvvenc prints its warnings to stdout, where they would end up inside the stream
        stream = Path(folder, "still.vvc")
        run_ffmpeg(vvenc_command(width, height, qp, preset, str(stream)), samples)
        return stream.read_bytes()


def _field(contents: bytes) -> bytes:
    return write_ue7(len(contents)) + contents


def read_parameter_sets(sps: bytes, pps: bytes, width: int, height: int) -> ParameterSets:
    """What the SPS and PPS of a picture of that size say besides it; the reverse of `write_parameter_sets`."""
    sps_bits, pps_bits = _to_bits(unescape(sps[2:])), _to_bits(unescape(pps[2:]))
    size = _size_bits(width, height)
    for ctu in range(3):
        sps_start = _SPS_HEAD.format(ctu=ctu, level=int(sps_bits[_LEVEL_BITS], 2)) + size
        pps_start = _PPS_HEAD + size
        if sps_bits.startswith(sps_start) and pps_bits.startswith(pps_start):
            ends = sps_bits[len(sps_start) :], pps_bits[len(pps_start) :]
            return ParameterSets(ctu, *(_to_bytes(end.rstrip("0")) for end in ends))
    raise ExternalCodecError(["libvvenc"], 0, f"unexpected parameter sets {sps.hex()} and {pps.hex()}")


# -- decoder ---------------------------------------------------------------------------------------------------------


def read_size(stream: bytes) -> tuple[int, int, int]:
    """(width, height) that a stream says, and the position behind them. Raises BitstreamError for sizes that cannot be."""
    if not stream:
        raise TruncatedBitstream("a VVC still has more than 0 bytes")
    width, position = read_ue7(stream, 1)
    height, position = read_ue7(stream, position)
    try:
        check_size(width, height)
    except InputError as error:
        raise BitstreamError(str(error)) from error
    return width, height, position


def decode_vvc_still(stream: bytes) -> tuple[Plane, Plane, Plane]:
    """(y, u, v), each uint8 (rows, columns), at the true size. Raises BitstreamError for a damaged stream."""
    width, height, position = read_size(stream)
    number, n_aps = stream[0] & 15, stream[0] >> 4
    if number:
        if number not in PARAMETER_SETS:
            raise BitstreamError(f"parameter sets {number} are not defined")
        parameter_sets = PARAMETER_SETS[number]
    else:
        ctu = stream[position] if position < len(stream) else 0
        if ctu > 2:
            raise BitstreamError(f"coding tree size {ctu} is not defined")
        sps_end, position = _take_field(stream, position + 1)
        pps_end, position = _take_field(stream, position)
        parameter_sets = ParameterSets(ctu, sps_end, pps_end)
    units = list(write_parameter_sets(parameter_sets, coded_side(width), coded_side(height)))
    for _ in range(n_aps):
        contents, position = _take_field(stream, position)
        units.append(_HEADERS[Vvc.PREFIX_APS] + contents)
    if position >= len(stream):
        raise TruncatedBitstream(f"the stream ends at byte {len(stream)}, before its slice")
    units.append(_HEADERS[Vvc.IDR_N_LP] + stream[position:])
    if any(nal.START_CODE in unit for unit in units):
        raise BitstreamError("a start code inside a NAL unit")
    planes = _decode_vvc(units, width, height)
    # The slice is settled by its bytes if zeros and ones behind them give the same picture, see `decode_bpg`
    longer = _decode_vvc([*units[:-1], units[-1] + b"\xff" * 64], width, height)
    if any(not np.array_equal(a, b) for a, b in zip(planes, longer, strict=True)):
        raise TruncatedBitstream("the coded picture ends before its last block")
    return planes


def _decode_vvc(units: list[bytes], width: int, height: int) -> tuple[Plane, Plane, Plane]:
    """The planes of one picture, 8 bit, cropped to its true size."""
    frames = list(decoded_frames("vvc", [units]))
    if len(frames) != 1 or (frames[0].width, frames[0].height) != (coded_side(width), coded_side(height)):
        raise BitstreamError(f"expected one picture of {coded_side(width)}x{coded_side(height)}, decoded {frames}")
    y, u, v = planes_8bit(frames[0])
    rows, columns = (height + 1) // 2, (width + 1) // 2
    return y[:height, :width].copy(), u[:rows, :columns].copy(), v[:rows, :columns].copy()


def _take_field(stream: bytes, position: int) -> tuple[bytes, int]:
    length, position = read_ue7(stream, position)
    if position + length > len(stream):
        raise TruncatedBitstream(f"a field of {length} bytes at {position} ends behind the stream's {len(stream)}")
    return stream[position : position + length], position + length


def write_parameter_sets(parameter_sets: ParameterSets, width: int, height: int) -> tuple[bytes, bytes]:
    """SPS and PPS NAL units for a coded size."""
    size = _size_bits(width, height)
    sps = _SPS_HEAD.format(ctu=parameter_sets.ctu, level=_LEVEL) + size + _to_bits(parameter_sets.sps_end)
    pps = _PPS_HEAD + size + _to_bits(parameter_sets.pps_end)
    return (
        _HEADERS[Vvc.SPS] + escape(_to_bytes(sps.rstrip("0"))),
        _HEADERS[Vvc.PPS] + escape(_to_bytes(pps.rstrip("0"))),
    )


# -- both ------------------------------------------------------------------------------------------------------------


def coded_side(side: int) -> int:
    """Width or height as libvvenc gets it."""
    return max(-(-side // ALIGNMENT) * ALIGNMENT, MIN_CODED)


def _size_bits(width: int, height: int) -> str:
    bits = BitWriter()
    bits.ue(width)
    bits.ue(height)
    return bits.to_bits()


def _to_bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def _to_bytes(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
