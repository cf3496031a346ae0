"""The conventional codecs by the names of the tables: h264, h264-paper, hevc, hevc-paper, hevc-kvazaar, vvc, av1, vp9.

Every family spans about 2 to 60 kbit/s on talking heads at 256x256. What a hull tries was chosen on training clips: a
setting stays when it is on the hull of some clip and worth its time.
"""

from __future__ import annotations

import itertools

import numpy as np

from baselines.codec import Family, Regime, VideoCodec, intra_period
from baselines.conventional import (
    X264,
    X265,
    Kvazaar,
    LibAom,
    SvtAv1,
    Vp9,
    Vvenc,
)
from baselines.libav import missing_pyav
from baselines.programs import missing_ffmpeg
from data.errors import InputError

I_OFFSETS = (0, 6, 12)
"""QP steps by which the hull's intra pictures are finer; 6 and 12 gain 0.7 to 1.2 dB at 5 to 10 kbit/s on calm clips."""

KVAZAAR_I_OFFSETS: dict[Regime, tuple[int, ...]] = {"one-intra": (6, 12), "short-gop": (0, 6)}
"""The third offset was behind on every training clip."""

VVENC_I_OFFSETS: dict[Regime, tuple[int, ...]] = {"one-intra": (6, 12), "short-gop": (0, 6)}
"""As for kvazaar; vvenc is ten times slower than the others, and a third offset would not pay for its time."""

SVT_KEY_OFFSETS = (None, 24, 48)
"""SVT-AV1's own choice, then 6 and 12 QP in quantiser index steps."""


def quantisers(coarsest: int, finest: int, points: int) -> list[int]:
    """`points` quantiser steps, evenly spread from the coarsest to the finest."""
    if points < 1:
        raise InputError(f"a curve needs at least one rate point, got {points}")
    if points > coarsest - finest + 1:
        raise InputError(f"{points} rate points do not fit between quantisers {coarsest} and {finest}")
    return [round(q) for q in np.linspace(coarsest, finest, points)] if points > 1 else [round((coarsest + finest) / 2)]


def _h264(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [X264(qp=qp, i_offset=o, intra_period=period) for o in I_OFFSETS for qp in quantisers(51, 29, points)]


def _h264_paper(regime: Regime, points: int) -> list[VideoCodec]:
    return [X264(qp=qp, i_offset=0, intra_period=intra_period(regime)) for qp in quantisers(51, 29, points)]


def _hevc(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [
        X265(qp=qp, lean=lean, i_offset=offset, intra_period=period)
        for lean in (True, False)
        for offset in I_OFFSETS
        for qp in quantisers(51, 28, points)
    ]


def _hevc_paper(regime: Regime, points: int) -> list[VideoCodec]:
    return [X265(qp=qp, lean=False, intra_period=intra_period(regime)) for qp in quantisers(51, 28, points)]


def _hevc_kvazaar(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [
        Kvazaar(qp=qp, preset="slow", i_offset=offset, intra_period=period)
        for offset in KVAZAAR_I_OFFSETS[regime]
        for qp in quantisers(51, 28, points)
    ]


def _vvc(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    return [
        Vvenc(qp=qp, preset="medium", i_offset=offset, intra_period=period)
        for offset in VVENC_I_OFFSETS[regime]
        for qp in quantisers(55, 30, points)
    ]


def _av1(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    steps = quantisers(63, 35, points)
    svt = [SvtAv1(q=q, preset=4, key_offset=key, intra_period=period) for key in SVT_KEY_OFFSETS for q in steps]
    svt += [SvtAv1(q=q, preset=2, intra_period=period) for q in _denser(steps)]
    # boosted key frames let libaom need 1.5 to 2.2 times SVT-AV1's rate in a short GOP: there its quantiser is only fixed
    boosts = (False, True) if regime == "one-intra" else (False,)
    return [*svt, *(LibAom(q=q, boost=boost, intra_period=period) for boost in boosts for q in steps)]


def _vp9(regime: Regime, points: int) -> list[VideoCodec]:
    period = intra_period(regime)
    steps = _denser(quantisers(63, 35, points))
    return [Vp9(q=q, boost=boost, intra_period=period) for boost in (True, False) for q in steps]


def _denser(steps: list[int]) -> list[int]:
    """With half steps at the coarse end, where AV1's and VP9's rate doubles from one step to the next."""
    halves = [(coarse + fine) // 2 for coarse, fine in itertools.pairwise(steps[:3])]
    return sorted({*steps, *halves}, reverse=True)


def _first(*reasons: str | None) -> str | None:
    return next((reason for reason in reasons if reason), None)


CONVENTIONAL: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "h264",
            "H.264 (x264)",
            "x264 veryslow, low-delay P, hull over intra QP offsets 0, 6, 12.",
            _h264,
            missing=missing_pyav("libx264"),
        ),
        Family(
            "h264-paper",
            "H.264 (one setting)",
            "The papers' style of anchor: x264 veryslow, low-delay P, intra at the P pictures' QP, no hull.",
            _h264_paper,
            hull=False,
            missing=missing_pyav("libx264"),
        ),
        Family(
            "hevc",
            "HEVC (x265 hull)",
            "x265 slow, low-delay P without wavefronts: hull over lean and base settings and intra QP offsets 0, 6, 12.",
            _hevc,
            missing=missing_pyav("libx265"),
        ),
        Family(
            "hevc-paper",
            "HEVC (one setting)",
            "The papers' style of anchor: x265 slow base settings, intra at the P pictures' QP, no hull.",
            _hevc_paper,
            hull=False,
            missing=missing_pyav("libx265"),
        ),
        Family(
            "hevc-kvazaar",
            "HEVC (kvazaar)",
            "kvazaar slow, its low-delay structure, hull over intra QP offsets 6 and 12 (short GOP: 0 and 6).",
            _hevc_kvazaar,
            missing=missing_ffmpeg("libkvazaar"),
        ),
        Family(
            "vvc",
            "VVC (vvenc)",
            "libvvenc medium, low delay, perceptual adaptation off, hull over intra QP offsets 6 and 12 (short GOP: 0 and 6).",
            _vvc,
            missing=missing_ffmpeg("libvvenc"),
        ),
        Family(
            "av1",
            "AV1 (SVT-AV1, libaom)",
            "Hull over SVT-AV1 preset 4 with three key frame offsets, preset 2, and libaom with fixed and boosted q.",
            _av1,
            missing=lambda: _first(missing_pyav("libsvtav1")(), missing_ffmpeg("libaom-av1")()),
        ),
        Family(
            "vp9",
            "VP9 (libvpx)",
            "libvpx good cpu-used 1, no look-ahead, hull over fixed quantiser and boosted key frames.",
            _vp9,
            missing=missing_pyav("libvpx-vp9"),
        ),
    )
}
