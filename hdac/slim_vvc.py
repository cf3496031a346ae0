"""VVC without what a decoder can restore by itself: start codes, NAL unit headers, parameter sets, most slice headers.

libvvenc's picture of nothing but skipped blocks is 14 bytes: start code 3, NAL unit header 2, slice header with the picture
header in it 7, and 2 of data. Its parameter sets are 130 bytes in front of a clip of some thousand. Here one access unit
becomes one payload; `SlimVvcDecoder` gives an Annex B stream back that decodes to the same pictures: bit by bit the same but
for level and frame rate in the parameter sets, which no decoder needs.

    flag    payload                                                  (the flag travels outside of the payload)
    plain   the slice behind its header                              an inter picture whose header is the predicted one
    other   0mmmmmmm  bytes, the slice behind its header             an inter picture; the bytes of the header that differ from
                                                                     their prediction (first byte: highest of the 7 bits m)
            1isssaaa  sets, APS, slice NAL unit without its header   i: 1 IDR_N_LP, 0 TRAIL; sss: parameter sets in front, 0
                                                                     none, 1..5 of PARAMETER_SETS, 7 written out; aaa: number
                                                                     of APS in front of the slice, 0..6
            10000111  NAL units as they are                          anything else

    sets: SPS and PPS (only where they are written out), APS: each a ue7 length and a NAL unit without its header. NAL units as
    they are: each a ue7 length and the unit.

A slice header is not parsed. Its first HEADER_BYTES, as one number, are those of the last picture of its kind (first, odd or
even behind the intra picture, or every 8th, which libvvenc codes finer) plus what two counters in it have moved on by: picture
order count, and the list of references, of which libvvenc's low-delay structure has 24. What is hidden behind them is slice
data without emulation prevention; a payload has no length of its own: the container knows it.
Syntax: ITU-T H.266 7.3.2.8 (picture header), 7.3.7 (slice header).
"""

from __future__ import annotations

from collections.abc import Sequence

from baselines import nal
from baselines.bits import escape, read_ue7, unescape, write_ue7
from baselines.nal import Vvc
from baselines.vvc_still import ParameterSets, coded_side, read_parameter_sets, write_parameter_sets
from data.errors import BitstreamError, ExternalCodecError, InputError, TruncatedBitstream

HEADER_BYTES = 7
"""Of the slice header of an inter picture with libvvenc's presets fast, medium, slow and slower."""

_FIRST_GUESS = 0x94_01_A3_41_C0_D3_C0  # libvvenc 1.15, medium; only what it costs to learn the first headers hangs on it
_ORDER_COUNT, _REFERENCES = 42, 25  # where ph_pic_order_cnt_lsb and rpl_idx begin, in bits from the end of the header
_ORDER_COUNT_RANGE = 256
_GOP = 8
_ALL = (1 << 8 * HEADER_BYTES) - 1

_HEADERS = {kind: bytes((0, kind << 3 | 1)) for kind in (Vvc.TRAIL, Vvc.IDR_N_LP, Vvc.SPS, Vvc.PPS, Vvc.PREFIX_APS)}
_OTHER, _IDR, _WRITTEN_OUT, _VERBATIM = 0x80, 0x40, 7, 0x87
_MAX_APS = 6

PARAMETER_SETS = {  # number in the stream -> what `baselines.conventional.Vvenc` of libvvenc 1.15 writes; never renumber
    number: ParameterSets(ctu, bytes.fromhex(sps_end), bytes.fromhex(pps_end))
    for number, ctu, sps_end, pps_end in (
        (
            1,  # faster
            1,
            "1a802fffd6109b2b1820413821a2e2222225f11112ea22225dc4444b9222225cb11112e68888973c44456fc9f97fcbfa97f72fe497f2cbf9a5"
            "fcf2fe225f5112fb8897c9112f96225f3444be788a1982338a000000020000003262",
            "10840c10",
        ),
        (
            2,  # fast
            1,
            "1a802fd109a293de709b2b1820413821a2e2222225f11112ea22225dc4444b9222225cb11112e68888973c44456fc9f97fcbfa97f72fe497f2"
            "cbf9a5fcf2fe225f5112fb8897c9112f96225f3444be788bef4bb159c9000000010000001931",
            "10840fd810",
        ),
        (
            3,  # medium
            2,
            "1a802fa6dd32348a4de709b2b1820413821a2e2222225f11112ea22225dc4444b9222225cb11112e68888973c44456fc9f97fcbfa97f72fe49"
            "7f2cbf9a5fcf2fe225f5112fb8897c9112f96225f3444be788bff4bb2ff392000000020000003262",
            "10840fd810",
        ),
        (
            4,  # slow
            2,
            "1a802fa23744234ca4c99c26cac608104e0868b88888897c4444ba888897711112e48888972c4444b9a22225cf11115bf27e5ff2fea5fdcbf9"
            "25fcb2fe697f3cbf8897d444bee225f2444be58897cd112f9e22fffbbe4fce4800000008000000c988",
            "10840fd810",
        ),
        (
            5,  # slower
            2,
            "1a802fa23744234ca4c9dc26cac608104e0868b88888897c4444ba888897711112e48888972c4444b9a22225cf11115bf27e5ff2fea5fdcbf9"
            "25fcb2fe697f3cbf8897d444bee225f2444be58897cd112f9e22fffbbe4fce4800000008000000c988",
            "10840fd810",
        ),
    )
}
_TIMING = f"{1:032b}{25:032b}"  # num_units_in_tick and time_scale in those above


# -- the two objects --------------------------------------------------------------------------------------------------


class SlimVvcEncoder:
    """Packs the access units of one stream, in decoding order. One object per stream.

    width, height: of the clip; the coded size is the next multiple of 8.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = coded_side(width), coded_side(height)
        self._headers = _Headers()

    def pack(self, unit: Sequence[bytes]) -> tuple[bool, bytes]:
        """(plain, payload) of one access unit, given as its NAL units without start codes (`nal.access_units`).

        Every unit can be packed: what does not come back is sent as it is. Raises InputError for a unit without NAL units, or
        with something that is none.
        """
        if not unit or not all(map(_is_nal_unit, unit)):
            raise InputError(f"an access unit has NAL units, got {[one[:8].hex() for one in unit]}")
        before = self._headers.copy()
        plain, payload, expected = self._packed(unit)
        try:
            restored = _restored(self._headers, self._size, plain, payload)
        except BitstreamError:  # none of the units that are packed
            restored = []
        if restored != expected:
            self._headers = before
            plain, payload = False, bytes((_VERBATIM,)) + b"".join(map(_field, unit))
            _restored(self._headers, self._size, plain, payload)
        return plain, payload

    def _packed(self, unit: Sequence[bytes]) -> tuple[bool, bytes, list[bytes]]:
        """(plain, payload, NAL units that should come out) without a look at whether they do."""
        *before, slice_ = unit
        if not before and slice_.startswith(_HEADERS[Vvc.TRAIL]) and self._headers.t is not None:
            rbsp = unescape(slice_[2:])
            if len(rbsp) > HEADER_BYTES:
                header, predicted = rbsp[:HEADER_BYTES], self._headers.predict()
                changed = [a != b for a, b in zip(header, predicted, strict=True)]
                mask = int("".join(str(int(one)) for one in changed), 2)
                sent = bytes(byte for byte, one in zip(header, changed, strict=True) if one)
                return not mask, (bytes((mask,)) + sent if mask else b"") + rbsp[HEADER_BYTES:], [slice_]
        kinds = [nal.nal_type(one, "vvc") for one in before]
        sets = list(before[:2]) if kinds[:2] == [Vvc.SPS, Vvc.PPS] else []
        number = _known_number(sets[0], sets[1], self._size) if sets else 0
        aps = before[len(sets) :]
        idr = nal.nal_type(slice_, "vvc") == Vvc.IDR_N_LP
        kind = _OTHER | _IDR * idr | number << 3 | min(len(aps), _MAX_APS)
        written = sets if number == _WRITTEN_OUT else []
        payload = bytes((kind,)) + b"".join(_field(one[2:]) for one in (*written, *aps)) + slice_[2:]
        known = list(write_parameter_sets(PARAMETER_SETS[number], *self._size)) if number in PARAMETER_SETS else sets
        return False, payload, [*known, *aps, slice_]


class SlimVvcDecoder:
    """Gives the access units of one stream back, in decoding order. One object per stream.

    width, height: of the clip.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = coded_side(width), coded_side(height)
        self._headers = _Headers()

    def unpack(self, plain: bool, payload: bytes) -> bytes:
        """The Annex B access unit of what `SlimVvcEncoder.pack` returned for it. Raises BitstreamError for what it cannot have
        returned; slice data are handed on unseen: a decoder will notice damage there, or show it."""
        return nal.join(_restored(self._headers, self._size, plain, payload))


def _restored(headers: _Headers, size: tuple[int, int], plain: bool, payload: bytes) -> list[bytes]:
    """The NAL units of an access unit; `headers` learns from them."""
    if not payload:
        raise TruncatedBitstream("an empty payload in the base layer")
    if plain or payload[0] < _OTHER:
        units = [_inter_slice(headers, plain, payload)]
    elif payload[0] == _VERBATIM:
        units, position = [], 1
        while position < len(payload):
            one, position = _take_field(payload, position)
            units.append(one)
    else:
        units = _general(size, payload)
    if not units or not all(map(_is_nal_unit, units)):
        raise BitstreamError("a NAL unit of the base layer is empty, ends in a zero byte or holds a start code")
    headers.learn(units[-1])
    return units


def _is_nal_unit(unit: bytes) -> bool:
    return len(unit) > 2 and unit[-1] > 0 and nal.START_CODE not in unit


def _inter_slice(headers: _Headers, plain: bool, payload: bytes) -> bytes:
    if headers.t is None:
        raise BitstreamError("an inter picture in front of the first intra picture of the base layer")
    header, at = bytearray(headers.predict()), 0
    if not plain:
        changed = [i for i in range(HEADER_BYTES) if payload[0] >> HEADER_BYTES - 1 - i & 1]
        at = 1 + len(changed)
        if not changed or at > len(payload):
            raise BitstreamError(f"header bytes {changed} of a slice in {len(payload)} bytes")
        for i, byte in zip(changed, payload[1:at], strict=True):
            header[i] = byte
    if at == len(payload):
        raise TruncatedBitstream("a payload of the base layer ends before its slice data")
    return _HEADERS[Vvc.TRAIL] + escape(bytes(header) + payload[at:])


def _general(size: tuple[int, int], payload: bytes) -> list[bytes]:
    number, n_aps, at = payload[0] >> 3 & 7, payload[0] & 7, 1
    if n_aps > _MAX_APS or number not in (0, _WRITTEN_OUT, *PARAMETER_SETS):
        raise BitstreamError(f"first byte 0x{payload[0]:02x} of a payload is not defined")
    units: list[bytes] = []
    if number in PARAMETER_SETS:
        units += write_parameter_sets(PARAMETER_SETS[number], *size)
    for kind in (*[Vvc.SPS, Vvc.PPS] * (number == _WRITTEN_OUT), *[Vvc.PREFIX_APS] * n_aps):
        contents, at = _take_field(payload, at)
        units.append(_HEADERS[kind] + contents)
    return [*units, _HEADERS[Vvc.IDR_N_LP if payload[0] & _IDR else Vvc.TRAIL] + payload[at:]]


def _known_number(sps: bytes, pps: bytes, size: tuple[int, int]) -> int:
    """Which of PARAMETER_SETS they are but for level and frame rate; _WRITTEN_OUT: none."""
    try:
        sets = read_parameter_sets(sps, pps, *size)
    except ExternalCodecError:  # not as libvvenc writes them here
        return _WRITTEN_OUT
    for number, known in PARAMETER_SETS.items():
        if (sets.ctu, sets.pps_end, _untimed(sets, known)) == (known.ctu, known.pps_end, _untimed(known, known)):
            return number
    return _WRITTEN_OUT


def _untimed(sets: ParameterSets, known: ParameterSets) -> str:
    """The end of an SPS in bits, without the frame rate at its place in a known one."""
    bits, of_known = (f"{int.from_bytes(one.sps_end, 'big'):0{8 * len(one.sps_end)}b}" for one in (sets, known))
    at = of_known.index(_TIMING)
    return (bits[:at] + bits[at + len(_TIMING) :]).rstrip("0")


def _field(contents: bytes) -> bytes:
    return write_ue7(len(contents)) + contents


def _take_field(payload: bytes, position: int) -> tuple[bytes, int]:
    length, position = read_ue7(payload, position)
    if position + length > len(payload):
        raise TruncatedBitstream(f"a NAL unit of {length} bytes at {position} ends behind its payload of {len(payload)}")
    return payload[position : position + length], position + length


# -- prediction -------------------------------------------------------------------------------------------------------


class _Headers:
    """The first HEADER_BYTES of inter pictures' slices: what both sides know of those before."""

    def __init__(self) -> None:
        self.t: int | None = None
        """Pictures since the last intra picture, for the picture that comes next; None: there was none."""
        self.last: dict[str, int] = {}
        """Kind of picture -> the last header of that kind, as a number without its counters."""
        self.recent = _FIRST_GUESS

    def copy(self) -> _Headers:
        other = _Headers()
        other.t, other.last, other.recent = self.t, dict(self.last), self.recent
        return other

    def predict(self) -> bytes:
        """The header of the next picture."""
        assert self.t is not None
        header = self.last.get(_kind(self.t), self.recent) + _counters(self.t)
        return (header & _ALL).to_bytes(HEADER_BYTES, "big")

    def learn(self, unit: bytes) -> None:
        """Takes the slice of a picture, a NAL unit."""
        if nal.nal_type(unit, "vvc") in (Vvc.IDR_N_LP, Vvc.IDR_W_RADL):
            self.t = 1
        elif self.t is not None:
            header = unescape(unit[2 : 2 + 2 * HEADER_BYTES])[:HEADER_BYTES]
            if len(header) == HEADER_BYTES:
                self.recent = self.last[_kind(self.t)] = int.from_bytes(header, "big") - _counters(self.t) & _ALL
            self.t += 1


def _kind(t: int) -> str:
    """Of the t-th picture behind an intra picture, from 1."""
    if t == 1:
        return "first"
    return "every 8th" if t % _GOP == 0 else "odd" if t % 2 else "even"


def _counters(t: int) -> int:
    """What of the header of the t-th picture behind an intra picture counts, as libvvenc's low-delay structure does."""
    references = 0 if t == 1 else t + 7 if t < 18 else (t - 1) % _GOP  # lists of the first pictures, then those of any
    return t % _ORDER_COUNT_RANGE << _ORDER_COUNT | references << _REFERENCES
