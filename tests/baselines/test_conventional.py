"""Conventional codecs: bytes out, frames from bytes alone, honest rates."""

from __future__ import annotations

import os
import pickle
import random
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from baselines import nal
from baselines.codec import REGIMES, Tunable, VideoCodec
from baselines.conventional import (
    X264,
    X265,
    Kvazaar,
    LibAom,
    SvtAv1,
    Vp9,
    Vvenc,
    decode,
    ledger,
    tool_versions,
)
from baselines.families import CONVENTIONAL, quantisers
from baselines.stream import StreamHeader
from data.clip import Clip, Colour
from data.errors import BitstreamError, ExternalCodecError, HdacError, InputError
from tests.clips import moving_clip, psnr_y

CODECS: list[VideoCodec] = [
    X264(qp=30, preset="fast"),
    X265(qp=30, preset="fast"),
    SvtAv1(q=35, preset=10),
    Vp9(q=30, cpu_used=5),
    Kvazaar(qp=30, preset="ultrafast"),
    Vvenc(qp=32, preset="faster"),
    LibAom(q=35, cpu_used=8),
]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@every_codec
def test_decoded_clip_has_the_sources_size_count_rate_and_colour_and_looks_like_it(codec: VideoCodec) -> None:
    clip = replace(moving_clip(5, 70, 50, Fraction(30000, 1001)), colour=Colour("bt709", "full", "center"))
    stream = codec.encode(clip)
    decoded = codec.decode(stream)
    assert (decoded.n_frames, decoded.width, decoded.height) == (5, 70, 50)
    assert decoded.fps == Fraction(30000, 1001)
    assert decoded.colour == clip.colour
    assert psnr_y(clip, decoded) > 27
    assert len(stream) < 5 * 70 * 50 / 4  # it did compress


@every_codec
@pytest.mark.parametrize(("width", "height", "n_frames"), [(16, 16, 1), (17, 31, 2)])
def test_smallest_and_odd_sizes_and_single_frames(codec: VideoCodec, width: int, height: int, n_frames: int) -> None:
    clip = moving_clip(n_frames, width, height)
    decoded = codec.decode(codec.encode(clip))
    assert decoded.y.shape == clip.y.shape
    assert psnr_y(clip, decoded) > 22


@every_codec
def test_below_16x16_is_refused_by_name(codec: VideoCodec) -> None:
    with pytest.raises(InputError, match="got 8x16"):
        codec.encode(moving_clip(1, 8, 16))


@every_codec
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (96, 80)])
def test_same_input_gives_same_bytes(codec: VideoCodec, size: tuple[int, int]) -> None:
    """x265, for one, does not where the picture is a single row of its blocks, unless we pad it."""
    clip = moving_clip(14, *size)
    assert len({codec.encode(clip) for _ in range(3)}) == 1


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 14, 15, 16, 17, 31, 32, 33])
def test_vvenc_gives_every_picture_whatever_their_number(n_frames: int) -> None:
    """The library gives nothing for 15 and 16 pictures; ours must be the first ones of a longer clip's.

    (Up to 8 pictures, one of its GOPs, it decides differently than for a longer clip.)
    """
    clip, codec = moving_clip(33, 32, 32), Vvenc(qp=40, preset="faster")
    decoded = codec.decode(codec.encode(clip[:n_frames]))
    assert psnr_y(clip[:n_frames], decoded) > 24
    if n_frames > 8:
        assert decoded.equals(codec.decode(codec.encode(clip))[:n_frames])


@every_codec
def test_a_fresh_process_decodes_the_same_frames_from_the_bytes_alone(codec: VideoCodec, tmp_path: Path) -> None:
    clip = moving_clip(4)
    stream = codec.encode(clip)
    (tmp_path / "stream").write_bytes(stream)
    script = "import sys; from hdac.systems import decode; print(decode(open(sys.argv[1], 'rb').read()).sha256())"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "stream")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == codec.decode(stream).sha256()


@every_codec
def test_ledger_sums_to_the_file_and_finds_the_intra_pictures(codec: VideoCodec) -> None:
    clip = moving_clip(9)
    short = replace(codec, intra_period=4)  # type: ignore[type-var]
    stream = short.encode(clip)
    found = short.ledger(stream)
    assert sum(found.totals.values()) == len(stream)
    assert found.header + found.frames.sum() == len(stream)
    assert np.flatnonzero(found.layers["intra"]).tolist() == [0, 4, 8]
    assert np.flatnonzero(codec.ledger(codec.encode(clip)).layers["intra"]).tolist() == [0]


@every_codec
def test_a_decoder_with_other_settings_reads_the_stream(codec: VideoCodec) -> None:
    clip = moving_clip(3)
    assert isinstance(codec, Tunable)
    assert codec.with_quantiser(1).decode(codec.encode(clip)).equals(codec.decode(codec.encode(clip)))


@every_codec
def test_coarser_quantiser_costs_less_and_is_worse(codec: VideoCodec) -> None:
    clip = moving_clip(4)
    assert isinstance(codec, Tunable)
    fine, coarse = codec, codec.with_quantiser(codec.quantiser + 14)
    assert len(coarse.encode(clip)) < len(fine.encode(clip))
    assert psnr_y(clip, coarse.decode(coarse.encode(clip))) < psnr_y(clip, fine.decode(fine.encode(clip)))


@every_codec
def test_pictures_refer_back_only_so_a_prefix_decodes_to_the_same_frames(codec: VideoCodec) -> None:
    """Low delay: frame n needs nothing that comes after it."""
    clip = moving_clip(10)
    stream = codec.encode(clip)
    header, start = StreamHeader.unpack(stream)
    whole = codec.decode(stream)
    sizes = codec.ledger(stream).frames
    prefix = replace(header, n_frames=6).pack() + stream[start : start + int(sizes[:6].sum())]
    assert codec.decode(prefix).equals(whole[:6])


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("family", CONVENTIONAL.values(), ids=lambda family: family.name)
def test_no_encoder_of_a_family_looks_ahead(family, regime) -> None:  # type: ignore[no-untyped-def]
    """Low delay: what is sent for a frame does not depend on frames after it, at the very settings of the tables.

    Two clips share their first frames; the coded pictures of these must be the same bytes. libvvenc's temporal
    pre-filter, for one, looks ahead unless it is told not to, and only at its better presets.
    """
    shared, total = 21, 26
    clip, other = moving_clip(total, 96, 80, seed=1), moving_clip(total, 96, 80, seed=2)
    tail = replace(
        clip,
        y=np.concatenate((clip.y[:shared], other.y[shared:])),
        u=np.concatenate((clip.u[:shared], other.u[shared:])),
        v=np.concatenate((clip.v[:shared], other.v[shared:])),
    )
    for codec in {repr(c.with_quantiser(40)): c.with_quantiser(40) for c in family.candidates(regime, 2)}.values():
        a, b = codec.encode(clip), codec.encode(tail)
        sent = len(a) - int(codec.ledger(a).frames[shared:].sum())
        assert a[:sent] == b[:sent], codec.label
        assert a[sent:] != b[sent:]


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("family", CONVENTIONAL.values(), ids=lambda family: family.name)
def test_intra_pictures_come_when_the_regime_says_even_at_a_cut(family, regime) -> None:  # type: ignore[no-untyped-def]
    first, second = moving_clip(40, 64, 64, seed=1), moving_clip(40, 64, 64, seed=2)
    planes = {p: np.concatenate((getattr(first, p), getattr(second, p))) for p in "yuv"}
    clip = replace(first, **planes)
    for codec in {repr(c.with_quantiser(45)): c.with_quantiser(45) for c in family.candidates(regime, 2)}.values():
        intra = np.flatnonzero(codec.ledger(codec.encode(clip)).layers["intra"]).tolist()
        assert intra == ([0] if regime == "one-intra" else [0, 32, 64]), codec.label


@every_codec
def test_damage_is_a_bitstream_error_or_a_clip_of_the_right_shape(codec: VideoCodec) -> None:
    clip = moving_clip(5)
    stream = codec.encode(clip)
    rng = random.Random(7)
    for _ in range(25):
        damaged = bytearray(stream[: rng.randrange(len(stream))] if rng.random() < 0.4 else stream)
        for _ in range(rng.randrange(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            decoded = codec.decode(bytes(damaged))
        except BitstreamError:
            continue
        header, _ = StreamHeader.unpack(bytes(damaged))
        assert decoded.y.shape == (header.n_frames, header.height, header.width)


@every_codec
def test_a_missing_frame_is_an_error(codec: VideoCodec) -> None:
    clip = moving_clip(5)
    stream = codec.encode(clip)
    last = int(codec.ledger(stream).frames[-1])
    with pytest.raises(BitstreamError, match="5 frames, the stream holds 4"):
        codec.decode(stream[:-last])


@pytest.mark.parametrize("codec", CODECS[:2] + CODECS[4:6], ids=lambda codec: codec.name)
def test_no_bit_is_spent_on_what_a_decoder_does_not_need(codec: VideoCodec) -> None:
    """No delimiters, SEI, filler or repeated parameter sets: the smallest honest elementary stream."""
    clip = moving_clip(9)
    short = replace(codec, intra_period=4)  # type: ignore[type-var]
    stream = short.encode(clip)
    header, start = StreamHeader.unpack(stream)
    payload = stream[start:]
    assert nal.strip(payload, header.standard) == (payload, {})  # type: ignore[arg-type]
    sets = [unit for unit in nal.split(payload) if not nal.is_slice(unit, header.standard)]  # type: ignore[arg-type]
    assert len(sets) == len(set(sets)) <= 5


def test_what_an_encoder_prints_is_not_part_of_the_stream() -> None:
    """libvvenc writes warnings to standard output; a stream that is read from there holds them, and still decodes."""
    stream = Vvenc(qp=40, preset="faster").encode(moving_clip(2))
    assert b"arning" not in stream


def test_the_quantiser_is_a_qp_and_no_crf() -> None:
    assert ":qp=42:" in X265(qp=42).options()["x265-params"]
    for codec in CODECS:
        if isinstance(codec, X264 | X265 | Vvenc | Kvazaar | SvtAv1):
            assert "crf" not in codec.command(moving_clip(1))


@pytest.mark.parametrize("encoder", [X264, X265])
@pytest.mark.parametrize("offset", [0, 6, 12])
def test_intra_offset_moves_only_the_intra_pictures_quantiser(encoder: type, offset: int) -> None:
    """x264 and x265 apply -6 log2(ipratio) to intra pictures: with an offset the first picture grows, at the size that
    it has at that finer QP."""
    clip = moving_clip(3)
    shifted = encoder(qp=40, i_offset=offset, preset="fast")
    plain = encoder(qp=40 - offset, preset="fast")
    first = shifted.ledger(shifted.encode(clip)).layers["intra"][0]
    same = plain.ledger(plain.encode(clip)).layers["intra"][0]
    assert abs(int(first) - int(same)) <= 2


def test_short_gop_of_vvc_pays_for_its_parameter_sets_once() -> None:
    codec = Vvenc(qp=40, preset="faster", intra_period=3)
    stream = codec.encode(moving_clip(9))
    sizes = codec.ledger(stream).layers["parameter_sets"]
    assert sizes[0] > 50
    assert np.all(sizes[3::3] < sizes[0] / 2)


def test_encoder_that_fails_says_what_it_was_and_why() -> None:
    with pytest.raises(ExternalCodecError, match="x265"):
        X265(qp=30, preset="no-such-preset").encode(moving_clip(2))
    with pytest.raises(ExternalCodecError, match="preset"):
        Vvenc(qp=30, preset="no-such-preset").encode(moving_clip(2))


def test_external_codec_error_crosses_a_process_border() -> None:
    error = ExternalCodecError(["x", "-y"], 3, "went wrong")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.code == 3 and again.command == ["x", "-y"]


def test_quantiser_outside_the_standard_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 51, got 52"):
        X265(qp=52)
    with pytest.raises(InputError, match="0 to 63, got 64"):
        Vvenc(qp=63).with_quantiser(64)


def test_every_encoder_has_a_version_and_a_full_command() -> None:
    clip = moving_clip(2, 50, 38)
    for codec in CODECS:
        assert re.search(r"\d", tool_versions()[codec.name])
        command = codec.command(clip)
        assert command.startswith("ffmpeg ") and "-threads 1" in command
        assert re.search(r"-s (50x38|56x40|72x72)", command)


def test_streams_of_another_format_are_refused() -> None:
    for data in (b"", b"BPG\xfb0123456789", b"\0\0\0\1\x40\1" * 4):
        with pytest.raises(BitstreamError):
            decode(data)
        with pytest.raises(BitstreamError):
            ledger(data)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("family", CONVENTIONAL.values(), ids=lambda family: family.name)
def test_families_give_the_points_that_were_asked_for(family, regime) -> None:  # type: ignore[no-untyped-def]
    codecs = family.candidates(regime, 6)
    by_setting: dict[object, set[int]] = {}
    for codec in codecs:
        assert isinstance(codec, Tunable)
        by_setting.setdefault(codec.with_quantiser(0), set()).add(codec.quantiser)
        assert codec.intra_period == (0 if regime == "one-intra" else 32)  # type: ignore[attr-defined]
        assert pickle.loads(pickle.dumps(codec)) == codec
    assert all(len(found) in (6, 8) for found in by_setting.values())  # AV1 and VP9 have half steps at their coarse end
    assert len({repr(codec) for codec in codecs}) == len(codecs) == sum(map(len, by_setting.values()))
    assert family.hull == (len(by_setting) > 1)
    assert len(by_setting) >= {"hevc": 6, "av1": 5, "h264": 3, "vvc": 2}.get(family.name, 1)


def test_hevc_hull_tries_lean_and_base_with_three_intra_offsets() -> None:
    settings = {(c.lean, c.i_offset) for c in CONVENTIONAL["hevc"].candidates("one-intra", 2) if isinstance(c, X265)}
    assert settings == {(lean, offset) for lean in (True, False) for offset in (0, 6, 12)}
    assert "wpp=0" in X265(qp=40).options()["x265-params"]


@pytest.mark.parametrize("points", [0, 40])
def test_impossible_numbers_of_points_are_refused(points: int) -> None:
    with pytest.raises(InputError, match=str(points)):
        quantisers(51, 28, points)


@pytest.mark.slow
def test_1080p_codes_and_decodes() -> None:
    clip = moving_clip(2, 1920, 1080)
    codec = X265(qp=40, preset="ultrafast")
    assert psnr_y(clip, codec.decode(codec.encode(clip))) > 25


def test_a_clip_is_not_changed_by_coding_it() -> None:
    clip = moving_clip(3, 33, 35)
    before = clip.sha256()
    for codec in CODECS[:4]:
        codec.encode(clip)
    assert clip.sha256() == before
    assert isinstance(clip, Clip) and issubclass(InputError, HdacError)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="scheduling policies are Linux's")
def test_svt_av1_leaves_no_real_time_thread_behind() -> None:
    SvtAv1(q=50).encode(moving_clip(3, 64, 64))
    policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    assert not policies & {os.SCHED_FIFO, os.SCHED_RR}
