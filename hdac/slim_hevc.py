"""HEVC without what a decoder can restore by itself: start codes, NAL unit headers, slice headers, parameter sets.

At 3 to 15 kbit/s a P picture of 256x256 takes 10 to 60 bytes, and 10 to 15 of them say what the picture before has said:
start code 3, NAL unit header 2, slice header 5 to 10. The parameter sets take 70 bytes more in front of a clip of some
thousand. Here one access unit becomes one payload; `SlimHevcDecoder` gives the Annex B stream back bit by bit.

    flag    payload                                                  (the flag travels outside of the payload)
    plain   slice data                                               a P picture with the header that was predicted
    other   0    changes+   zeros to the byte, slice data            a P picture
            10   changes    zeros to the byte, slice data            an IDR picture
            110  changes    changes, zeros to the byte, slice data   parameter sets and an IDR picture
            111  00000      Annex B without its first start code     anything else, as it is

    changes, changes+ = number of fields that differ from their prediction: ue(n), ue(n - 1)
                        per field: ue(places skipped in _SET_FIELDS or _SLICE_FIELDS), and where it is no flag,
                        ue(the distance): +1, -1, +2, -2, .. as 0, 1, 2, 3, ..

Slice data are without emulation prevention; an all-skip picture has 2 bytes. Bits are most significant first. A payload
has no length of its own: the container knows it. Parameter sets are predicted from those of `baselines.conventional.X265`
for 256x256, slice headers from the last one of their kind and from the place in the stream (`_predict_inter`).

What is packed: one slice a picture, [VPS SPS PPS] IDR_N_LP or TRAIL_R, low-delay P or I slices, within the syntax that
the functions below know. They know what x265 writes here; whatever is not restored to the bit goes as it is.
Syntax: ITU-T H.265 7.3.2.1 to 7.3.2.3 (parameter sets), 7.3.6 (slice header), 7.3.7 (reference pictures), E.2.1 (VUI).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from baselines import nal
from baselines.bits import BitReader, BitWriter, escape, unescape
from baselines.nal import START_CODE, Hevc
from data.errors import BitstreamError, InputError, TruncatedBitstream

_TRAIL_HEADER = bytes((Hevc.TRAIL_R << 1, 1))  # layer 0, temporal layer 0
_IDR_HEADER = bytes((Hevc.IDR_N_LP << 1, 1))
_SET_TYPES = (Hevc.VPS, Hevc.SPS, Hevc.PPS)
_VERBATIM = 0b111_00000

_SLICE_P, _SLICE_I = 1, 2  # slice_type, H.265 Table 7-7

_LOOP_FILTER_PATTERN = 0x5F4E4A53
"""x265 signs its streams where it costs nothing: slice_loop_filter_across_slices_enabled_flag, which means nothing in a
picture of one slice, is bit (frame number modulo 31) of this (SLFASE_CONSTANT in its source)."""

_MAX_REFERENCES = 15  # H.265 7.4.7.1: num_ref_idx_l0_active_minus1 is 0 to 14

Fields = Mapping[str, int]
"""Syntax elements by the names of H.265, array elements as "name[i]". All those that are one bit, and no others, have
"_flag" in their name."""


# -- the two objects --------------------------------------------------------------------------------------------------


class SlimHevcEncoder:
    """Packs the access units of one stream, in decoding order. One object per stream."""

    def __init__(self) -> None:
        self._state = _State()

    def pack(self, unit: Sequence[bytes]) -> tuple[bool, bytes]:
        """(plain, payload) of one access unit, given as its NAL units without start codes (`nal.access_units`).

        Every unit can be packed: what does not come back as `nal.join(unit)` from the decoder's own function is sent as
        it is, for one byte more than it has without its first start code. Raises InputError for a unit without NAL
        units, or with an empty one.
        """
        if not unit or not all(unit):
            raise InputError(f"an access unit has NAL units of a byte or more, got lengths {[len(one) for one in unit]}")
        stream = nal.join(unit)
        try:
            plain, payload = _encode(self._state, unit)
            restored, state = _decode(self._state, plain, payload)
        except BitstreamError:  # syntax that is not known here
            restored = b""
        if restored != stream:
            plain, payload = False, bytes((_VERBATIM,)) + stream[len(START_CODE) :]
            restored, state = _decode(self._state, plain, payload)
        self._state = state
        return plain, payload


class SlimHevcDecoder:
    """Gives the access units of one stream back, in decoding order. One object per stream."""

    def __init__(self) -> None:
        self._state = _State()

    def unpack(self, plain: bool, payload: bytes) -> bytes:
        """The Annex B access unit, with start codes of 3 bytes, of what `SlimHevcEncoder.pack` returned for it.

        Raises TruncatedBitstream where the payload ends too early to hold a slice, and BitstreamError where it holds no
        header that HEVC allows, or a picture before its parameter sets; the object is then as it was before. Slice data
        are handed on unseen: a decoder will notice damage there, or show it.
        """
        stream, self._state = _decode(self._state, plain, payload)
        return stream


@dataclass(frozen=True)
class _State:
    """What both sides know from the access units before: all that a prediction depends on."""

    sets: Fields | None = None
    """The parameter sets in force; None where there are none, or none that were understood."""
    intra: Fields = field(default_factory=lambda: _INTRA_TEMPLATE)
    """Slice header of the last IDR picture."""
    inter: Fields | None = None
    """Slice header of the last other picture since the parameter sets."""
    n_pictures: int = 0
    """Since the start of the stream."""
    poc_lsb: int = 0
    """slice_pic_order_cnt_lsb of the last picture."""
    n_buffered: int = 0
    """Pictures that the last picture's reference picture set held."""
    max_active: int = 0
    """References that the encoder is thought to use where it has them."""


def _encode(state: _State, unit: Sequence[bytes]) -> tuple[bool, bytes]:
    """Raises BitstreamError for a unit that has other syntax than what is known here."""
    kinds = [nal.nal_type(one, "hevc") for one in unit]
    bits = BitWriter()
    if kinds == [*_SET_TYPES, Hevc.IDR_N_LP]:
        sets = _parse_sets(unit[:3])
        state = _with_sets(state, sets)
        bits.u(0b110, 3)
        _write_changes(bits, _SET_FIELDS, _SET_TEMPLATE, sets, at_least=0)
    elif kinds == [Hevc.IDR_N_LP]:
        bits.u(0b10, 2)
    elif kinds == [Hevc.TRAIL_R]:
        bits.u(0b0, 1)
    else:
        raise BitstreamError(f"NAL units of types {kinds} are not sets and one slice")
    idr = kinds[-1] == Hevc.IDR_N_LP
    prediction = _predict_intra(state) if idr else _predict_inter(state)
    rbsp = unescape(unit[-1][2:])
    parser = _Parser(rbsp)
    _slice_header(parser, _known(state.sets), idr)
    data = rbsp[parser.bits.position // 8 :]
    if not idr and all(prediction.get(name, 0) == value for name, value in parser.fields.items()):
        return True, data
    _write_changes(bits, _SLICE_FIELDS, prediction, parser.fields, at_least=0 if idr else 1)
    return False, bits.to_bytes() + data


def _decode(state: _State, plain: bool, payload: bytes) -> tuple[bytes, _State]:
    """The access unit in Annex B, and the state behind it."""
    if plain:
        return _restore_slice(state, False, _predict_inter(state), payload)
    bits = BitReader(payload)
    if not bits.flag():
        fields = _read_changes(bits, _SLICE_FIELDS, _predict_inter(state), at_least=1)
        return _restore_slice(state, False, fields, _rest(bits))
    sets = b""
    if bits.flag():
        if bits.flag():
            return _restore_verbatim(state, payload)
        printer = _Printer(_read_changes(bits, _SET_FIELDS, _SET_TEMPLATE, at_least=0))
        sets = nal.join(_print_sets(printer))
        state = _with_sets(state, printer.fields)
    fields = _read_changes(bits, _SLICE_FIELDS, _predict_intra(state), at_least=0)
    slice_, state = _restore_slice(state, True, fields, _rest(bits))
    return sets + slice_, state


def _restore_slice(state: _State, idr: bool, fields: Fields, data: bytes) -> tuple[bytes, _State]:
    if not data:
        raise TruncatedBitstream("the payload ends before the slice data")
    if not data[-1]:
        raise BitstreamError("slice data end in a zero byte")
    sets = _known(state.sets)
    printer = _Printer(fields)
    _slice_header(printer, sets, idr)
    unit = (_IDR_HEADER if idr else _TRAIL_HEADER) + escape(printer.bits.to_bytes() + data)
    header = printer.fields
    state = replace(state, n_pictures=state.n_pictures + 1)
    if idr:
        state = replace(state, intra=header, poc_lsb=0, n_buffered=0)
    else:
        n_buffered = header["num_negative_pics"]
        state = replace(state, inter=header, poc_lsb=header["slice_pic_order_cnt_lsb"], n_buffered=n_buffered)
        if header["slice_type"] == _SLICE_P:
            active = _n_active(header, sets)
            if active > state.max_active or active < min(n_buffered, state.max_active):
                state = replace(state, max_active=active)
    return START_CODE + unit, state


def _restore_verbatim(state: _State, payload: bytes) -> tuple[bytes, _State]:
    if payload[0] != _VERBATIM:
        raise BitstreamError(f"first byte 0x{payload[0]:02x} is not defined")
    stream = START_CODE + payload[1:]
    if len(payload) == 1:
        raise TruncatedBitstream("an access unit without a NAL unit")
    # a set among the NAL units voids those in force: nothing is packed until the next that are known
    has_sets = any(unit and unit[0] >> 1 & 0x3F in _SET_TYPES for unit in stream.split(START_CODE))
    return stream, replace(state, n_pictures=state.n_pictures + 1, sets=None if has_sets else state.sets)


def _rest(bits: BitReader) -> bytes:
    """What follows the current byte, whose unread bits are zero."""
    if bits.u(-bits.position % 8):
        raise BitstreamError("bits behind the changes are not zero")
    return bits.data[bits.position // 8 :]


def _known(sets: Fields | None) -> Fields:
    if sets is None:
        raise BitstreamError("a picture without known parameter sets")
    return sets


# -- prediction -------------------------------------------------------------------------------------------------------


def _with_sets(state: _State, sets: Fields) -> _State:
    # x265 keeps a buffer of two pictures for a single reference, too
    held = sets["sps_max_dec_pic_buffering_minus1"]
    return replace(state, sets=sets, inter=None, max_active=held if held > 2 else 1)


def _predict_intra(state: _State) -> dict[str, int]:
    return {**state.intra, "slice_loop_filter_across_slices_enabled_flag": _loop_filter_flag(state)}


def _predict_inter(state: _State) -> dict[str, int]:
    """The last header of its kind, one picture later, with all pictures since the IDR picture that the buffer holds."""
    sets = _known(state.sets)
    fields = dict(state.inter or {**_INTER_TEMPLATE, "slice_qp_delta": state.intra["slice_qp_delta"]})
    n_buffered = min(state.n_buffered + 1, sets["sps_max_dec_pic_buffering_minus1"])
    n_active = max(1, min(n_buffered, state.max_active))
    fields["slice_pic_order_cnt_lsb"] = state.poc_lsb + 1 & (1 << _poc_bits(sets)) - 1
    fields["num_negative_pics"] = n_buffered
    fields |= {f"used_by_curr_pic_s0_flag[{i}]": 1 for i in range(n_buffered)}
    fields["num_ref_idx_active_override_flag"] = int(n_active != sets["num_ref_idx_l0_default_active_minus1"] + 1)
    fields["num_ref_idx_l0_active_minus1"] = n_active - 1
    fields["slice_loop_filter_across_slices_enabled_flag"] = _loop_filter_flag(state)
    return fields


def _loop_filter_flag(state: _State) -> int:
    return _LOOP_FILTER_PATTERN >> state.n_pictures % 31 & 1


# -- differences ------------------------------------------------------------------------------------------------------


def _write_changes(bits: BitWriter, names: Sequence[str], prediction: Fields, fields: Fields, at_least: int) -> None:
    """`fields` given `prediction`, where what that does not name is 0. Every key of `fields` is among `names`."""
    places = [i for i, name in enumerate(names) if name in fields and fields[name] != prediction.get(name, 0)]
    bits.ue(len(places) - at_least)
    for before, place in zip([-1, *places], places, strict=False):
        bits.ue(place - before - 1)
        name = names[place]
        if not _is_flag(name):
            distance = fields[name] - prediction.get(name, 0)
            bits.ue(2 * distance - 2 if distance > 0 else -2 * distance - 1)


def _read_changes(bits: BitReader, names: Sequence[str], prediction: Fields, at_least: int) -> dict[str, int]:
    fields = dict(prediction)
    place = -1
    for _ in range(bits.ue() + at_least):
        place += bits.ue() + 1
        if place >= len(names):
            raise BitstreamError(f"field {place} is changed, there are {len(names)}")
        name = names[place]
        value = fields.get(name, 0)
        if _is_flag(name):
            fields[name] = 1 - value
        else:
            code = bits.ue()
            fields[name] = value - (code + 1) // 2 if code % 2 else value + code // 2 + 1
    return fields


def _is_flag(name: str) -> bool:
    return "_flag" in name


# -- syntax: each table of the standard once, for both directions -----------------------------------------------------

Descriptor = int | Literal["ue", "se"]
"""u(n) as its n, ue(v), se(v): H.265 7.2."""

_MAX_STRAY = 7
_MAX_NUMBER = 1 << 32  # chosen: keeps the distance of two numbers within ue(v)


class _Coder(Protocol):
    """Reads or writes one syntax element after the other; what a syntax function is called with."""

    def __call__(self, name: str, descriptor: Descriptor, most: int | None = None) -> int:
        """Codes the field `name` and returns its value; BitstreamError where it is above `most`."""

    def fixed(self, name: str, descriptor: Descriptor, value: int = 0) -> None:
        """Codes an element that has this value in every stream that is packed; BitstreamError for another one."""

    def trailing_bits(self, stray: str = "") -> None:
        """A one and zeros up to the next byte: rbsp_trailing_bits() and byte_alignment().

        stray: name of the field that counts zero bits in front of the one, where there may be some.
        """


class _Parser:
    """Bits to `fields`."""

    def __init__(self, rbsp: bytes) -> None:
        self.bits = BitReader(rbsp)
        self.fields: dict[str, int] = {}

    def __call__(self, name: str, descriptor: Descriptor, most: int | None = None) -> int:
        value = self._read(descriptor)
        _check(name, value, most)
        if self.fields.setdefault(name, value) != value:
            raise BitstreamError(f"{name} is {value} here and was {self.fields[name]} before")
        return value

    def fixed(self, name: str, descriptor: Descriptor, value: int = 0) -> None:
        if (found := self._read(descriptor)) != value:
            raise BitstreamError(f"{name} is {found}, expected {value}")

    def trailing_bits(self, stray: str = "") -> None:
        zeros = 0
        while not self.bits.flag():
            zeros += 1
        _check(stray or "bits before the stop bit", zeros, _MAX_STRAY if stray else 0)
        if stray:
            self.fields[stray] = zeros
        self.fixed("alignment bits", -self.bits.position % 8)

    def _read(self, descriptor: Descriptor) -> int:
        if descriptor == "ue":
            return self.bits.ue()
        return self.bits.se() if descriptor == "se" else self.bits.u(descriptor)


class _Printer:
    """`source` to bits, where what it does not name is 0; `fields` are those of `source` that the syntax has asked for."""

    def __init__(self, source: Fields) -> None:
        self.source = source
        self.bits = BitWriter()
        self.fields: dict[str, int] = {}

    def __call__(self, name: str, descriptor: Descriptor, most: int | None = None) -> int:
        value = self.fields[name] = self.source.get(name, 0)
        _check(name, value, most)
        self.fixed(name, descriptor, value)
        return value

    def fixed(self, name: str, descriptor: Descriptor, value: int = 0) -> None:
        try:
            if descriptor == "ue":
                self.bits.ue(value)
            elif descriptor == "se":
                self.bits.se(value)
            else:
                self.bits.u(value, descriptor)
        except ValueError as error:
            raise BitstreamError(f"{name} cannot be {value}") from error

    def trailing_bits(self, stray: str = "") -> None:
        if stray:
            zeros = self.fields[stray] = self.source.get(stray, 0)
            _check(stray, zeros, _MAX_STRAY)
            self.fixed(stray, zeros)
        self.bits.trailing_bits()


def _check(name: str, value: int, most: int | None) -> None:
    limit = _MAX_NUMBER if most is None else most
    if abs(value) > limit:
        raise BitstreamError(f"{name} is {value}, more than {limit}")


def _parse_sets(units: Sequence[bytes]) -> dict[str, int]:
    """Fields of VPS, SPS and PPS, each a NAL unit."""
    fields: dict[str, int] = {}
    for unit, syntax in zip(units, (_vps, _sps, _pps), strict=True):
        parser = _Parser(unescape(unit[2:]))
        parser.fields = fields  # what VPS and SPS both say must be the same
        syntax(parser)
    return fields


def _print_sets(printer: _Printer) -> list[bytes]:
    units = []
    for kind, syntax in zip(_SET_TYPES, (_vps, _sps, _pps), strict=True):
        printer.bits = BitWriter()
        syntax(printer)
        units.append(bytes((kind << 1, 1)) + escape(printer.bits.to_bytes()))
    return units


def _vps(c: _Coder) -> None:
    c.fixed("vps_video_parameter_set_id", 4)
    c.fixed("vps_base_layer_internal_flag and available_flag", 2, 0b11)
    c.fixed("vps_max_layers_minus1", 6)
    c.fixed("vps_max_sub_layers_minus1", 3)
    c.fixed("vps_temporal_id_nesting_flag", 1, 1)
    c.fixed("vps_reserved_0xffff_16bits", 16, 0xFFFF)
    _profile_tier_level(c)
    _picture_buffer(c)
    c.fixed("vps_max_layer_id", 6)
    c.fixed("vps_num_layer_sets_minus1", "ue")
    c.fixed("vps_timing_info_present_flag", 1)
    c.fixed("vps_extension_flag", 1)
    c.trailing_bits()


def _profile_tier_level(c: _Coder) -> None:
    c.fixed("general_profile_space", 2)
    c("general_tier_flag", 1)
    c("general_profile_idc", 5)
    c("general_profile_compatibility", 32)
    c("general_source", 4)  # progressive, interlaced, non-packed, frame-only
    c.fixed("general_reserved_zero_44bits", 44)
    c("general_level_idc", 8)


def _picture_buffer(c: _Coder) -> None:
    c("sub_layer_ordering_info_present_flag", 1)
    c("sps_max_dec_pic_buffering_minus1", "ue", most=_MAX_REFERENCES)
    c("sps_max_num_reorder_pics", "ue")
    c("sps_max_latency_increase_plus1", "ue")


def _sps(c: _Coder) -> None:
    c.fixed("sps_video_parameter_set_id", 4)
    c.fixed("sps_max_sub_layers_minus1", 3)
    c.fixed("sps_temporal_id_nesting_flag", 1, 1)
    _profile_tier_level(c)
    c.fixed("sps_seq_parameter_set_id", "ue")
    c.fixed("chroma_format_idc", "ue", 1)
    c("pic_width_in_luma_samples", "ue")
    c("pic_height_in_luma_samples", "ue")
    if c("conformance_window_flag", 1):
        for side in ("left", "right", "top", "bottom"):
            c(f"conf_win_{side}_offset", "ue")
    c.fixed("bit_depth_luma_minus8", "ue")
    c.fixed("bit_depth_chroma_minus8", "ue")
    c("log2_max_pic_order_cnt_lsb_minus4", "ue", most=12)
    _picture_buffer(c)
    c("log2_min_luma_coding_block_size_minus3", "ue")
    c("log2_diff_max_min_luma_coding_block_size", "ue")
    c("log2_min_luma_transform_block_size_minus2", "ue")
    c("log2_diff_max_min_luma_transform_block_size", "ue")
    c("max_transform_hierarchy_depth_inter", "ue")
    c("max_transform_hierarchy_depth_intra", "ue")
    c.fixed("scaling_list_enabled_flag", 1)
    c("amp_enabled_flag", 1)
    c("sample_adaptive_offset_enabled_flag", 1)
    c.fixed("pcm_enabled_flag", 1)
    c.fixed("num_short_term_ref_pic_sets", "ue")
    c.fixed("long_term_ref_pics_present_flag", 1)
    c("sps_temporal_mvp_enabled_flag", 1)
    c("strong_intra_smoothing_enabled_flag", 1)
    if c("vui_parameters_present_flag", 1):
        c.fixed("aspect_ratio_info_present_flag and overscan_info_present_flag", 2)
        if c("video_signal_type_present_flag", 1):
            c("video_format", 3)
            c("video_full_range_flag", 1)
            c.fixed("colour_description_present_flag", 1)
        c.fixed("chroma_loc_info_present_flag and all up to bitstream_restriction_flag", 7)
    c.fixed("sps_extension_present_flag", 1)
    # without timing information x265 writes its vui_hrd_parameters_present_flag all the same, which makes one bit too many
    c.trailing_bits("sps_stray_zeros")


def _pps(c: _Coder) -> None:
    c.fixed("pps_pic_parameter_set_id", "ue")
    c.fixed("pps_seq_parameter_set_id", "ue")
    c.fixed("dependent_slice_segments_enabled_flag", 1)
    c.fixed("output_flag_present_flag", 1)
    c.fixed("num_extra_slice_header_bits", 3)
    c("sign_data_hiding_enabled_flag", 1)
    c("cabac_init_present_flag", 1)
    c("num_ref_idx_l0_default_active_minus1", "ue", most=_MAX_REFERENCES - 1)
    c("num_ref_idx_l1_default_active_minus1", "ue", most=_MAX_REFERENCES - 1)
    c("init_qp_minus26", "se")
    c("constrained_intra_pred_flag", 1)
    c("transform_skip_enabled_flag", 1)
    if c("cu_qp_delta_enabled_flag", 1):
        c("diff_cu_qp_delta_depth", "ue")
    c("pps_cb_qp_offset", "se")
    c("pps_cr_qp_offset", "se")
    c("pps_slice_chroma_qp_offsets_present_flag", 1)
    c("weighted_pred_flag", 1)
    c("weighted_bipred_flag", 1)
    c("transquant_bypass_enabled_flag", 1)
    c.fixed("tiles_enabled_flag and entropy_coding_sync_enabled_flag", 2)  # no entry points in slice headers
    c("pps_loop_filter_across_slices_enabled_flag", 1)
    if c("deblocking_filter_control_present_flag", 1):
        c("deblocking_filter_override_enabled_flag", 1)
        if not c("pps_deblocking_filter_disabled_flag", 1):
            c("pps_beta_offset_div2", "se")
            c("pps_tc_offset_div2", "se")
    c.fixed("pps_scaling_list_data_present_flag", 1)
    c.fixed("lists_modification_present_flag", 1)
    c("log2_parallel_merge_level_minus2", "ue")
    c.fixed("slice_segment_header_extension_present_flag and pps_extension_present_flag", 2)
    c.trailing_bits()


def _slice_header(c: _Coder, sets: Fields, idr: bool) -> None:
    """slice_segment_header() of a picture of one slice, and the alignment in front of the slice data."""

    def has(flag: str) -> bool:
        return sets.get(flag, 0) == 1

    c.fixed("first_slice_segment_in_pic_flag", 1, 1)
    if idr:
        c.fixed("no_output_of_prior_pics_flag", 1)
    c.fixed("slice_pic_parameter_set_id", "ue")
    slice_type = c("slice_type", "ue")
    if slice_type != _SLICE_I and (idr or slice_type != _SLICE_P):
        raise BitstreamError(f"slice_type {slice_type} in an {'IDR' if idr else 'inter'} picture")
    temporal_mvp = 0
    if not idr:
        c("slice_pic_order_cnt_lsb", _poc_bits(sets))
        c.fixed("short_term_ref_pic_set_sps_flag", 1)
        n_negative = c("num_negative_pics", "ue", most=_MAX_REFERENCES)
        c.fixed("num_positive_pics", "ue")
        for i in range(n_negative):
            c(f"delta_poc_s0_minus1[{i}]", "ue")
            c(f"used_by_curr_pic_s0_flag[{i}]", 1)
        if has("sps_temporal_mvp_enabled_flag"):
            temporal_mvp = c("slice_temporal_mvp_enabled_flag", 1)
    sao = 0
    if has("sample_adaptive_offset_enabled_flag"):
        sao = c("slice_sao_luma_flag", 1) | c("slice_sao_chroma_flag", 1)
    if slice_type == _SLICE_P:
        n_active = sets["num_ref_idx_l0_default_active_minus1"] + 1
        if c("num_ref_idx_active_override_flag", 1):
            n_active = c("num_ref_idx_l0_active_minus1", "ue", most=_MAX_REFERENCES - 1) + 1
        if has("cabac_init_present_flag"):
            c("cabac_init_flag", 1)
        if temporal_mvp and n_active > 1:
            c("collocated_ref_idx", "ue")
        if has("weighted_pred_flag"):
            _weight_table(c, n_active)
        c("five_minus_max_num_merge_cand", "ue")
    c("slice_qp_delta", "se")
    if has("pps_slice_chroma_qp_offsets_present_flag"):
        c("slice_cb_qp_offset", "se")
        c("slice_cr_qp_offset", "se")
    undeblocked = sets.get("pps_deblocking_filter_disabled_flag", 0)
    if has("deblocking_filter_override_enabled_flag") and c("deblocking_filter_override_flag", 1):
        undeblocked = c("slice_deblocking_filter_disabled_flag", 1)
        if not undeblocked:
            c("slice_beta_offset_div2", "se")
            c("slice_tc_offset_div2", "se")
    if has("pps_loop_filter_across_slices_enabled_flag") and (sao or not undeblocked):
        c("slice_loop_filter_across_slices_enabled_flag", 1)
    c.trailing_bits()


def _weight_table(c: _Coder, n_active: int) -> None:
    """pred_weight_table() of a P slice."""
    c("luma_log2_weight_denom", "ue")
    c("delta_chroma_log2_weight_denom", "se")
    luma = [c(f"luma_weight_l0_flag[{i}]", 1) for i in range(n_active)]
    chroma = [c(f"chroma_weight_l0_flag[{i}]", 1) for i in range(n_active)]
    for i in range(n_active):
        if luma[i]:
            c(f"delta_luma_weight_l0[{i}]", "se")
            c(f"luma_offset_l0[{i}]", "se")
        if chroma[i]:
            for plane in ("cb", "cr"):
                c(f"delta_chroma_weight_l0[{i}][{plane}]", "se")
                c(f"delta_chroma_offset_l0[{i}][{plane}]", "se")


def _poc_bits(sets: Fields) -> int:
    return sets["log2_max_pic_order_cnt_lsb_minus4"] + 4


def _n_active(header: Fields, sets: Fields) -> int:
    """References of a P slice."""
    return header.get("num_ref_idx_l0_active_minus1", sets["num_ref_idx_l0_default_active_minus1"]) + 1


# -- what x265 writes here, and the order in which fields are numbered: part of the format, never to be changed --------

_SET_TEMPLATE: Fields = {  # X265(qp, preset="slow", lean=True) at 256x256; fields that are not here are 0
    "general_profile_idc": 1,
    "general_profile_compatibility": 0b11 << 29,
    "general_source": 0b1001,
    "general_level_idc": 60,
    "pic_width_in_luma_samples": 256,
    "pic_height_in_luma_samples": 256,
    "log2_max_pic_order_cnt_lsb_minus4": 4,
    "sub_layer_ordering_info_present_flag": 1,
    "sps_max_dec_pic_buffering_minus1": 2,
    "sps_max_latency_increase_plus1": 1,
    "log2_diff_max_min_luma_coding_block_size": 3,
    "log2_diff_max_min_luma_transform_block_size": 3,
    "sps_temporal_mvp_enabled_flag": 1,
    "strong_intra_smoothing_enabled_flag": 1,
    "vui_parameters_present_flag": 1,
    "video_signal_type_present_flag": 1,
    "video_format": 5,
    "sps_stray_zeros": 1,
    "pps_loop_filter_across_slices_enabled_flag": 1,
}
_INTRA_TEMPLATE: Fields = {"slice_type": _SLICE_I, "slice_sao_luma_flag": 1, "slice_sao_chroma_flag": 1, "slice_qp_delta": 10}
_INTER_TEMPLATE: Fields = {
    "slice_type": _SLICE_P,
    "slice_temporal_mvp_enabled_flag": 1,
    "slice_sao_luma_flag": 1,
    "slice_sao_chroma_flag": 1,
    "luma_log2_weight_denom": 7,
    "delta_chroma_log2_weight_denom": -1,
    "five_minus_max_num_merge_cand": 2,
}

_SET_FIELDS = (
    # between the settings of `X265`
    "sps_max_dec_pic_buffering_minus1", "sample_adaptive_offset_enabled_flag", "sign_data_hiding_enabled_flag",
    "weighted_pred_flag", "pic_width_in_luma_samples", "pic_height_in_luma_samples", "conformance_window_flag",
    "conf_win_right_offset", "conf_win_bottom_offset", "general_level_idc",
    "amp_enabled_flag", "max_transform_hierarchy_depth_inter", "max_transform_hierarchy_depth_intra",
    # what no setting moves
    "conf_win_left_offset", "conf_win_top_offset", "general_tier_flag", "general_profile_idc",
    "general_profile_compatibility", "general_source", "log2_max_pic_order_cnt_lsb_minus4",
    "sub_layer_ordering_info_present_flag", "sps_max_num_reorder_pics", "sps_max_latency_increase_plus1",
    "log2_min_luma_coding_block_size_minus3", "log2_diff_max_min_luma_coding_block_size",
    "log2_min_luma_transform_block_size_minus2", "log2_diff_max_min_luma_transform_block_size",
    "sps_temporal_mvp_enabled_flag", "strong_intra_smoothing_enabled_flag", "vui_parameters_present_flag",
    "video_signal_type_present_flag", "video_format", "video_full_range_flag", "sps_stray_zeros",
    "cabac_init_present_flag", "num_ref_idx_l0_default_active_minus1", "num_ref_idx_l1_default_active_minus1",
    "init_qp_minus26", "constrained_intra_pred_flag", "transform_skip_enabled_flag", "cu_qp_delta_enabled_flag",
    "diff_cu_qp_delta_depth", "pps_cb_qp_offset", "pps_cr_qp_offset", "pps_slice_chroma_qp_offsets_present_flag",
    "weighted_bipred_flag", "transquant_bypass_enabled_flag", "pps_loop_filter_across_slices_enabled_flag",
    "deblocking_filter_control_present_flag", "deblocking_filter_override_enabled_flag",
    "pps_deblocking_filter_disabled_flag", "pps_beta_offset_div2", "pps_tc_offset_div2",
    "log2_parallel_merge_level_minus2",
)  # fmt: skip

_SLICE_FIELDS = (
    # one of the first seven alone makes a payload one byte longer than a plain one, not two
    "slice_qp_delta", "delta_chroma_log2_weight_denom", "luma_log2_weight_denom", "slice_sao_luma_flag",
    "slice_sao_chroma_flag", "luma_weight_l0_flag[0]", "chroma_weight_l0_flag[0]",
    "delta_luma_weight_l0[0]", "luma_offset_l0[0]",
    *(f"delta_chroma_{what}_l0[0][{plane}]" for plane in ("cb", "cr") for what in ("weight", "offset")),
    "num_ref_idx_active_override_flag", "num_ref_idx_l0_active_minus1", "slice_temporal_mvp_enabled_flag",
    "slice_loop_filter_across_slices_enabled_flag", "collocated_ref_idx", "num_negative_pics",
    "slice_pic_order_cnt_lsb", "five_minus_max_num_merge_cand", "slice_type", "cabac_init_flag",
    "slice_cb_qp_offset", "slice_cr_qp_offset", "deblocking_filter_override_flag",
    "slice_deblocking_filter_disabled_flag", "slice_beta_offset_div2", "slice_tc_offset_div2",
    *(
        name
        for i in range(1, _MAX_REFERENCES)
        for name in (
            f"luma_weight_l0_flag[{i}]", f"chroma_weight_l0_flag[{i}]", f"delta_luma_weight_l0[{i}]", f"luma_offset_l0[{i}]",
            *(f"delta_chroma_{what}_l0[{i}][{plane}]" for plane in ("cb", "cr") for what in ("weight", "offset")),
        )
    ),
    *(name for i in range(_MAX_REFERENCES) for name in (f"delta_poc_s0_minus1[{i}]", f"used_by_curr_pic_s0_flag[{i}]")),
)  # fmt: skip
