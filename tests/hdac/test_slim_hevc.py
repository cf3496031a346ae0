"""The header-stripped base layer: every stream comes back bit by bit, and P pictures cost their slice data."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from baselines import nal
from baselines.bits import escape
from baselines.conventional import X265, ConventionalCodec, Kvazaar
from baselines.libav import encode_packets
from baselines.stream import StreamHeader
from data.clip import Clip
from data.errors import BitstreamError, InputError, TruncatedBitstream
from hdac import slim_hevc
from hdac.slim_hevc import SlimHevcDecoder, SlimHevcEncoder
from tests.clips import moving_clip

Units = list[list[bytes]]
Payloads = list[tuple[bool, bytes]]

VERBATIM = 0xE0
DATA = b"\x12\x80"  # stands for slice data


def units_of(codec: ConventionalCodec, clip: Clip) -> Units:
    stream = codec.encode(clip)
    return nal.access_units(stream[StreamHeader.unpack(stream)[1] :], "hevc")


def x265_units(clip: Clip, **params: Any) -> Units:
    """x265 with parameters that `X265` does not offer."""
    options = X265(qp=45).options()
    options["x265-params"] += "".join(f":{name}={value}" for name, value in params.items())
    return nal.access_units(nal.strip(b"".join(encode_packets("libx265", options, clip)), "hevc")[0], "hevc")


def pack(units: Units) -> Payloads:
    """Payloads of a stream, after a fresh decoder has given all its access units back."""
    encoder, decoder = SlimHevcEncoder(), SlimHevcDecoder()
    payloads = [encoder.pack(unit) for unit in units]
    for unit, (plain, payload) in zip(units, payloads, strict=True):
        assert decoder.unpack(plain, payload) == nal.join(unit)
    return payloads


def is_verbatim(plain: bool, payload: bytes) -> bool:
    return not plain and payload[0] == VERBATIM


def still_clip(n_frames: int, width: int = 256, height: int = 256) -> Clip:
    first = moving_clip(1, width, height)
    y, u, v = (np.repeat(plane, n_frames, axis=0) for plane in (first.y, first.u, first.v))
    return replace(first, y=y, u=u, v=v)


def fading_clip(n_frames: int, width: int, height: int) -> Clip:
    clip = moving_clip(n_frames, width, height)
    gain = np.linspace(1, 0.3, n_frames)[:, None, None]
    return replace(clip, y=(clip.y * gain).astype(np.uint8))


@pytest.fixture(scope="module")
def base_stream() -> Units:
    """A fade with all of x265's tools: weight tables that change, SAO, several references, two intra pictures."""
    return units_of(X265(qp=40, lean=False, i_offset=6, intra_period=8), fading_clip(12, 130, 98))


# -- whole streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intra_period", [0, 32])
@pytest.mark.parametrize(("qp", "i_offset"), [(51, 0), (51, 12), (40, 6), (30, 0), (30, 12)])
@pytest.mark.parametrize("lean", [True, False])
def test_streams_come_back_bit_by_bit_and_nothing_goes_verbatim(lean: bool, qp: int, i_offset: int, intra_period: int) -> None:
    codec = X265(qp=qp, lean=lean, i_offset=i_offset, intra_period=intra_period)
    units = units_of(codec, moving_clip(35, 96, 80))
    payloads = pack(units)
    assert not any(is_verbatim(*payload) for payload in payloads)
    if lean:  # all P pictures but the first, whose QP is not known before, have the header that is predicted
        intra = {0, 32} if intra_period else {0}
        assert {i for i, (plain, _) in enumerate(payloads) if not plain} - {1} == intra


@pytest.mark.parametrize("size", [(256, 256), (130, 98), (72, 201), (17, 300)])
@pytest.mark.parametrize("lean", [True, False])
def test_any_size_comes_back(lean: bool, size: tuple[int, int]) -> None:
    payloads = pack(units_of(X265(qp=45, lean=lean, i_offset=12), moving_clip(4, *size)))
    assert not any(is_verbatim(*payload) for payload in payloads)


@pytest.mark.slow
@pytest.mark.parametrize("lean", [True, False])
def test_1080p_comes_back(lean: bool) -> None:
    payloads = pack(units_of(X265(qp=40, lean=lean), moving_clip(2, 1920, 1080)))
    assert not any(is_verbatim(*payload) for payload in payloads)


@pytest.mark.parametrize(
    "params",
    [
        {"deblock": "1,-1"}, {"deblock": "false"}, {"cbqpoffs": 3, "crqpoffs": -2}, {"max-merge": 5}, {"rect": 1, "amp": 1},
        {"tu-intra-depth": 3, "tskip": 1}, {"ctu": 32}, {"no-temporal-mvp": 1}, {"ref": 5, "weightp": 1}, {"aq-mode": 1},
        {"ref": 2}, {"constrained-intra": 1}, {"log2-max-poc-lsb": 4}, {"range": "full"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_x265_other_than_ours_are_packed_too(params: dict[str, Any]) -> None:
    payloads = pack(x265_units(moving_clip(20, 96, 80), **params))
    assert not any(is_verbatim(*payload) for payload in payloads)
    assert sum(plain for plain, _ in payloads) >= 14


@pytest.mark.parametrize("params", [{"colorprim": "bt709"}, {"scaling-list": "default"}], ids=str)
def test_parameter_sets_of_other_syntax_make_the_stream_verbatim_for_one_byte_a_picture(params: dict[str, Any]) -> None:
    units = x265_units(moving_clip(4, 96, 80), **params)
    payloads = pack(units)
    assert all(is_verbatim(*payload) for payload in payloads)
    assert [len(payload) for _, payload in payloads] == [len(nal.join(unit)) - 2 for unit in units]


def test_pictures_of_several_slices_or_with_other_nal_units_go_verbatim_and_the_next_does_not() -> None:
    units = units_of(X265(qp=45), moving_clip(8, 96, 80))
    units[3] *= 2
    units[5].insert(0, bytes((nal.Hevc.PREFIX_SEI << 1, 1, 0x84, 0x80)))
    units[7].append(bytes((nal.Hevc.TRAIL_R << 1, 2, 0x80)))
    payloads = pack(units)
    assert [i for i, payload in enumerate(payloads) if is_verbatim(*payload)] == [3, 5, 7]


def test_a_stream_of_kvazaar_comes_back() -> None:
    payloads = pack(units_of(Kvazaar(qp=40, preset="ultrafast"), moving_clip(6, 64, 64)))
    assert is_verbatim(*payloads[0])


# -- cost --------------------------------------------------------------------------------------------------------------


def test_an_all_skip_picture_is_plain_and_two_bytes() -> None:
    for lean in (True, False):
        units = units_of(X265(qp=45, lean=lean), still_clip(8))
        payloads = pack(units)
        assert [plain for plain, _ in payloads] == [False, *[True] * 7]
        sizes = [len(payload) for _, payload in payloads[1:]]
        assert sizes == [2] * 7 if lean else max(sizes) <= 6  # with SAO every block says that it has none


@pytest.mark.parametrize(
    ("lean", "size", "most"), [(True, (256, 256), 2), (False, (256, 256), 3), (False, (130, 98), 11), (True, (720, 576), 10)]
)
def test_parameter_sets_and_the_intra_header_cost_a_few_bytes(lean: bool, size: tuple[int, int], most: int) -> None:
    units = units_of(X265(qp=45, lean=lean, i_offset=12), moving_clip(1, *size))
    ((plain, payload),) = pack(units)
    n_data = len(slice_data(units[0]))
    assert not plain
    assert len(payload) - n_data <= most
    assert len(nal.join(units[0])) - n_data >= 75


def slice_data(unit: list[bytes]) -> bytes:
    """By the parser of sets and slice headers; of an access unit that begins with sets."""
    parser = slim_hevc._Parser(slim_hevc.unescape(unit[-1][2:]))
    slim_hevc._slice_header(parser, slim_hevc._parse_sets(unit[:3]), True)
    return parser.bits.data[parser.bits.position // 8 :]


def test_later_intra_pictures_cost_one_byte_of_header(base_stream: Units) -> None:
    payloads = pack(base_stream)
    assert nal.nal_type(base_stream[8][0], "hevc") == nal.Hevc.IDR_N_LP
    # start code, NAL unit header and 3 bytes of slice header became one byte; emulation prevention left, too
    assert len(payloads[8][1]) <= len(nal.join(base_stream[8])) - (3 + 2 + 3) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"slice_qp_delta": 1}, {"slice_qp_delta": -1}, {"slice_sao_luma_flag": 0}, {"slice_sao_chroma_flag": 0},
        {"delta_chroma_log2_weight_denom": 0}, {"luma_log2_weight_denom": 6},
    ],
    ids=str,
)  # fmt: skip
def test_a_common_change_of_the_header_costs_one_byte(change: dict[str, int]) -> None:
    sets = complete({"sample_adaptive_offset_enabled_flag": 1, "weighted_pred_flag": 1})
    encoder, _ = opened(sets)
    first = predicted(encoder)
    if "slice_qp_delta" in change:
        change = {"slice_qp_delta": first["slice_qp_delta"] + change["slice_qp_delta"]}
    assert encoder.pack([p_slice(sets, first, DATA)]) == (True, DATA)
    plain, payload = encoder.pack([p_slice(sets, {**predicted(encoder), **change}, DATA)])
    assert not plain and payload[1:] == DATA


def test_changed_weights_and_sao_flags_come_back(base_stream: Units) -> None:
    payloads = pack(base_stream)
    assert not any(is_verbatim(*payload) for payload in payloads)
    changed = [i for i, (plain, payload) in enumerate(payloads) if not plain and payload[0] < 0x80]
    assert len(changed) >= 4  # the weights of a fade are new in nearly every picture


# -- headers made up: whatever the syntax can hold is packed -------------------------------------------------------------


def complete(sets: dict[str, int]) -> dict[str, int]:
    """All fields of the parameter sets that these make. Raises BitstreamError where there are none such."""
    printer = slim_hevc._Printer({**slim_hevc._SET_TEMPLATE, **sets})
    slim_hevc._print_sets(printer)
    return printer.fields


def opened(sets: dict[str, int]) -> tuple[SlimHevcEncoder, tuple[bool, bytes]]:
    """An encoder that was given these parameter sets with an intra picture, and what it made of them."""
    header = slim_hevc._Printer(slim_hevc._INTRA_TEMPLATE)
    slim_hevc._slice_header(header, sets, True)
    units = slim_hevc._print_sets(slim_hevc._Printer(sets))
    encoder = SlimHevcEncoder()
    return encoder, encoder.pack([*units, slim_hevc._IDR_HEADER + escape(header.bits.to_bytes() + DATA)])


def predicted(encoder: SlimHevcEncoder) -> dict[str, int]:
    return slim_hevc._predict_inter(encoder._state)


def p_slice(sets: dict[str, int], fields: dict[str, int], data: bytes) -> bytes:
    printer = slim_hevc._Printer(fields)
    slim_hevc._slice_header(printer, sets, False)
    return slim_hevc._TRAIL_HEADER + escape(printer.bits.to_bytes() + data)


def values(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, int]]:
    def clipped(changes: dict[str, int]) -> dict[str, int]:
        return {name: value & 1 if "_flag" in name else value for name, value in changes.items()}

    return st.dictionaries(st.sampled_from(names), st.integers(-2, 14), max_size=12).map(clipped)


@settings(max_examples=100, deadline=None)
@given(
    values(slim_hevc._SET_FIELDS),
    st.lists(st.tuples(values(slim_hevc._SLICE_FIELDS), st.binary(min_size=1)), min_size=1, max_size=4),
)
def test_every_header_that_the_syntax_can_hold_is_packed(changes: dict[str, int], slices: list[Any]) -> None:
    try:
        sets = complete(changes)
    except BitstreamError:  # a value that H.265 does not allow, or none that is known here
        assume(False)
    encoder, first = opened(sets)
    assert not is_verbatim(*first)
    decoder = SlimHevcDecoder()
    decoder.unpack(*first)
    for fields, data in slices:
        try:
            unit = [p_slice(sets, {**predicted(encoder), **fields}, data)]
        except BitstreamError:
            continue
        payload = encoder.pack(unit)
        assert decoder.unpack(*payload) == nal.join(unit)
        assert is_verbatim(*payload) == (data[-1] == 0)  # no slice ends in a zero byte


class Recorder:
    """A coder that answers every question with `answers` or 1, and notes the fields it was asked for."""

    def __init__(self, answers: dict[str, int]) -> None:
        self.answers = answers
        self.asked: dict[str, slim_hevc.Descriptor] = {}

    def __call__(self, name: str, descriptor: slim_hevc.Descriptor, most: int | None = None) -> int:
        self.asked[name] = descriptor
        return self.answers.get(name, 1)

    def fixed(self, name: str, descriptor: slim_hevc.Descriptor, value: int = 0) -> None:
        pass

    def trailing_bits(self, stray: str = "") -> None:
        if stray:
            self.asked[stray] = "ue"


def test_every_field_has_a_place_in_the_tables_and_flags_are_named_so() -> None:
    sets = Recorder({"pps_deblocking_filter_disabled_flag": 0})
    for syntax in (slim_hevc._vps, slim_hevc._sps, slim_hevc._pps):
        syntax(sets)
    answers = {"num_ref_idx_l0_active_minus1": 14, "num_negative_pics": 15, "slice_deblocking_filter_disabled_flag": 0}
    header = Recorder(answers)
    slim_hevc._slice_header(header, {**dict.fromkeys(sets.asked, 1)}, False)
    for asked, table in ((sets.asked, slim_hevc._SET_FIELDS), (header.asked, slim_hevc._SLICE_FIELDS)):
        assert sorted(asked) == sorted(table)
        assert {name for name, descriptor in asked.items() if descriptor == 1} == {name for name in table if "_flag" in name}


def test_a_stream_derived_by_hand() -> None:
    """X265(qp=45, i_offset=12) at 256x256: the headers as x265 4.2 writes them, the payloads as the docstring says."""
    sets = (
        "40010c01ffff01600000030090000003000003003cba0240",
        "42010101600000030090000003000003003ca00808040596ea4930b9a002",
        "4401c0718112",
    )
    units = [
        [*map(bytes.fromhex, sets), bytes.fromhex("2801ac769fe2")],
        [bytes.fromhex("0201d00979826c8122710f")],
        [bytes.fromhex("0201d011fe60990242")],
        [bytes.fromhex("0201d019fe60990242")],
    ]
    assert pack(units) == [
        # 110, no set changed: 1, one field of the header: 010, in place 0: 1, from 10 to 7, -3 as 5: 00110, 000
        (False, bytes.fromhex("d5309fe2")),
        # 0, one field: 1, in place 0: 1, from 7 to 19, +12 as 22: 000010111, 0000
        (False, bytes.fromhex("61708122710f")),
        (True, bytes.fromhex("0242")),
        (True, bytes.fromhex("0242")),
    ]


def test_stored_payloads_still_decode() -> None:
    """X265(qp=40, lean=False, i_offset=6) of a fade of 130x98, slice data replaced by two bytes: the tables hold still."""
    sets = (
        "40010c01ffff01600000030090000003000003001e968090",
        "42010101600000030090000003000003001ea0112069c926596a4932b9a002",
        "4401c171a112",
    )
    stored = [
        ("c2efc0784026196583c5201280", [*sets, "2801af08601280"]),
        ("1e2cb86a7991801280", ["0201d0097e10f0d883cf61cc1280"]),
        ("1168a2f01280", ["0201d011ffd4fa1e28f3d8711280"]),
        ("112ca10a1280", ["0201d0189ffdc43903e20f3d87101280"]),
    ]
    decoder = SlimHevcDecoder()
    for payload, unit in stored:
        assert decoder.unpack(False, bytes.fromhex(payload)) == nal.join(map(bytes.fromhex, unit))
    assert [payload.hex() for _, payload in pack([[*map(bytes.fromhex, unit)] for _, unit in stored])] == [p for p, _ in stored]


# -- what is not as it should be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 3])
def test_damaged_headers_go_verbatim_and_come_back(base_stream: Units, k: int) -> None:
    rng = random.Random(1)
    verbatim = 0
    for _ in range(60):
        units = copy.deepcopy(base_stream)
        which = rng.randrange(len(units[k]))
        damaged = bytearray(units[k][which])
        damaged[rng.randrange(min(len(damaged), 20))] ^= 1 << rng.randrange(8)
        units[k][which] = bytes(damaged)
        payloads = packed_for_a_byte_more(units)
        verbatim += is_verbatim(*payloads[k])
    assert 0 < verbatim < 60  # some damage is a header of its own


@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_bytes_come_back(units: Units) -> None:
    assert len(packed_for_a_byte_more(units)) == len(units)


def packed_for_a_byte_more(units: Units) -> Payloads:
    """Payloads that came back; of those that are sent as they are none is longer than its first start code allows."""
    payloads = pack(units)
    for unit, payload in zip(units, payloads, strict=True):
        assert not is_verbatim(*payload) or len(payload[1]) == len(nal.join(unit)) - len(nal.START_CODE) + 1
    return payloads


def test_an_access_unit_without_bytes_is_refused() -> None:
    for unit in ([], [b""], [b"\x02\x01\xd0", b""]):
        with pytest.raises(InputError, match="access unit"):
            SlimHevcEncoder().pack(unit)


def test_a_picture_before_its_parameter_sets_is_refused(base_stream: Units) -> None:
    payloads = pack(base_stream)
    for plain, payload in payloads[1:]:
        with pytest.raises(BitstreamError, match="parameter sets"):
            SlimHevcDecoder().unpack(plain, payload)


def decoders_before(payloads: Payloads) -> list[SlimHevcDecoder]:
    """A decoder in front of every payload."""
    decoder, decoders = SlimHevcDecoder(), []
    for plain, payload in payloads:
        decoders.append(copy.copy(decoder))
        decoder.unpack(plain, payload)
    return decoders


def test_every_truncation_is_noticed_or_cuts_slice_data(base_stream: Units) -> None:
    payloads = pack(base_stream)
    for decoder, (plain, payload), unit in zip(decoders_before(payloads), payloads, base_stream, strict=True):
        for n in range(len(payload)):
            try:
                cut = copy.copy(decoder).unpack(plain, payload[:n])
            except BitstreamError:
                continue
            assert n and nal.join(unit).startswith(cut) and len(cut) < len(nal.join(unit))
        with pytest.raises(TruncatedBitstream):
            copy.copy(decoder).unpack(plain, b"")


def test_random_damage_gives_bytes_or_a_bitstream_error_and_an_error_leaves_the_decoder_as_it_was(base_stream: Units) -> None:
    payloads = pack(base_stream)
    decoders = decoders_before(payloads)
    rng = random.Random(2)
    errors = 0
    for _ in range(500):
        k = rng.randrange(len(payloads))
        plain, payload = payloads[k]
        damaged = bytearray(payload)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(len(damaged), rng.choice((3, 12, 10_000))))] = rng.randrange(256)
        decoder = copy.copy(decoders[k])
        try:
            got = decoder.unpack(plain ^ (rng.random() < 0.2), bytes(damaged))
        except BitstreamError:
            errors += 1
            assert decoder.unpack(plain, payload) == nal.join(base_stream[k])
        else:
            assert got.startswith(nal.START_CODE)
    assert errors > 20


@given(st.booleans(), st.binary(max_size=30))
def test_any_payload_gives_bytes_or_a_bitstream_error(plain: bool, payload: bytes) -> None:
    encoder, _ = opened(complete({}))
    decoder = SlimHevcDecoder()
    decoder._state = encoder._state
    for fresh in (SlimHevcDecoder(), decoder):
        try:
            stream = fresh.unpack(plain, payload)
        except BitstreamError:
            continue
        if is_verbatim(plain, payload):
            assert stream == nal.START_CODE + payload[1:]
        else:  # a slice, behind its parameter sets or not, whose data are those of the payload
            *_, slice_ = nal.split(stream)
            assert nal.nal_type(slice_, "hevc") in (nal.Hevc.TRAIL_R, nal.Hevc.IDR_N_LP)
            assert slice_[-1] == payload[-1]
