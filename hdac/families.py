"""The layered codecs by the names of the tables: hevc-stripped, dac, hdac-paper, hdac, hdac-look, face-vid2vid, those with
residuals, and the mobile family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baselines.codec import Family, Regime, VideoCodec, intra_period
from baselines.families import quantisers
from baselines.libav import missing_pyav
from hdac import weights
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.hdac import Hdac
from hdac.codecs.mobile import Mobile
from hdac.codecs.stripped import HevcStripped


def _stripped(regime: Regime, points: int) -> list[VideoCodec]:
    return [HevcStripped(qp=qp, intra_period=intra_period(regime)) for qp in quantisers(51, 33, points)]


def _hdac(regime: Regime, points: int) -> list[VideoCodec]:
    return [Hdac(qp=qp, intra_period=intra_period(regime)) for qp in quantisers(51, 33, points)]


def _hdac_look(regime: Regime, points: int) -> list[VideoCodec]:
    return [replace(codec, best_look=True) for codec in _hdac(regime, points) if isinstance(codec, Hdac)]


def _hdac_paper(regime: Regime, points: int) -> list[VideoCodec]:
    return [Hdac.paper(qp, intra_period(regime)) for qp in quantisers(46, 22, points)]


def _dac(regime: Regime, points: int) -> list[VideoCodec]:
    # adaptive refresh sends as many intra pictures as it needs: it belongs to the regime that has more than one
    if regime == "one-intra":
        return [Dac(qp=qp, refresh="never") for qp in quantisers(48, 24, points)]
    return [Dac(qp=qp, refresh="rd", intra_period=intra_period(regime)) for qp in quantisers(50, 36, points)]


def _face_vid2vid(regime: Regime, points: int) -> list[VideoCodec]:
    return [FaceVid2Vid(qp=qp, intra_period=intra_period(regime)) for qp in quantisers(48, 24, points)]


def _with_residual(regime: Regime, points: int) -> list[VideoCodec]:
    # where there may be more than one reference picture, it is weighed against residuals, too; QPs for 5 to 60 kbit/s
    refresh = "never" if regime == "one-intra" else "rd"
    period = intra_period(regime)
    return [FaceVid2Vid(qp=qp, intra_period=period, refresh=refresh, residual="rd") for qp in quantisers(46, 28, points)]


def _dac_residual(regime: Regime, points: int) -> list[VideoCodec]:
    finest = {"one-intra": 34, "short-gop": 36}[regime]  # finer ones take more than 60 kbit/s
    return [
        replace(codec, residual=True, qp=qp)
        for codec, qp in zip(_dac(regime, points), quantisers(48, finest, points), strict=True)
        if isinstance(codec, Dac)
    ]


def _hdac_residual(regime: Regime, points: int) -> list[VideoCodec]:
    return [replace(codec, residual=True) for codec in _hdac(regime, points) if isinstance(codec, Hdac)]


def _mobile(network: str, sources: int = 1, chosen_from: str = "now") -> Callable[[Regime, int], list[VideoCodec]]:
    # several references are what these systems are about: one-intra, too, lets them have those that pay, side by side
    refresh = "rd" if sources > 1 else "never"

    def candidates(regime: Regime, points: int) -> list[VideoCodec]:
        period = intra_period(regime)
        codec = Mobile(qp=48, network=network, sources=sources, refresh=refresh, chosen_from=chosen_from, intra_period=period)
        return [replace(codec, qp=qp) for qp in quantisers(48, 24, points)]

    return candidates


def _layered(
    name: str,
    title: str,
    description: str,
    candidates: Callable[[Regime, int], list[VideoCodec]],
    networks: tuple[str, ...] = (),
    paper: str = "",
) -> Family:
    def missing() -> str | None:
        reasons = [missing_pyav("libx265")(), *map(weights.missing, networks)]
        return next((reason for reason in reasons if reason), None)

    return Family(name, title, description, candidates, hull=False, missing=missing, paper=paper, networks=networks)


_DAC_PAPER = "Konuko et al., ICASSP 2021"
_HDAC_PAPER = "Konuko et al., ICIP 2022"
_FACE_PAPER = "Wang et al., CVPR 2021"
_FOMM_PAPER = "Siarohin et al., NeurIPS 2019"
_MOTION_NET_PAPER = "Oquab et al., CVPR workshops 2021"
_FRONTALIZER_PAPER = "Oquab et al., CVPR workshops 2022"
_LIGHT_PAPER = "Lu and Zheng, ZTE Communications 2023"

_LANDMARKS, _LABELS = (Mobile.landmark_network,), (Mobile.segmentation_network,)
_POINTS = {
    "10u": ("10 keypoints move", ()),
    "20l": ("20 landmarks move", _LANDMARKS),
    "68l": ("68 landmarks move", _LANDMARKS),
    "10u+20l": ("10 keypoints and 20 landmarks move", _LANDMARKS),
}
_DRAWN = ", and eyes, brows and lips drawn of landmarks, move"
_SPADE = {key: what.replace(" move", _DRAWN) for key, (what, _) in _POINTS.items()}
_FRONTAL = {
    "sup": ("33 landmarks", _LANDMARKS),
    "unsup": ("10 keypoints", ()),
    "sup+unsup": ("33 landmarks and 10 keypoints", _LANDMARKS),
    "expr": ("33 landmarks, 10 keypoints and 16 expression codes", _LANDMARKS),
}
_JACOBIANS = "10 keypoints with Jacobians move"


def _small(name: str, title: str, what: str, paper: str, students: tuple[str, ...] = ()) -> Family:
    return _layered(name, title, f"{what} a BPG reference.", _mobile(name), (name, *students), paper)


_MOBILE = (
    _small("fomm", "FOMM", _JACOBIANS, _FOMM_PAPER),
    _layered(
        "fomm-mult",
        "FOMM, nearest of 3",
        f"{_JACOBIANS} the nearest of up to three BPG references.",
        _mobile("fomm", sources=3),
        ("fomm",),
        _FRONTALIZER_PAPER,
    ),
    *(
        _small(f"motion-net-{key}", f"Motion Net {key.upper()}", what, _MOTION_NET_PAPER, students)
        for key, (what, students) in _POINTS.items()
    ),
    *(
        _small(f"motion-spade-{key}", f"Motion-SPADE {key.upper()}", what, _MOTION_NET_PAPER, _LANDMARKS)
        for key, what in _SPADE.items()
        if key != "68l"
    ),
    *(
        _small(f"segface-{n}", f"SegFace {n}", f"Label maps of {n}x{n} draw the face of", _MOTION_NET_PAPER, _LABELS)
        for n in (48, 64)
    ),
    _small("nth", "NTH", "68 landmarks draw the face of", "Zakharov et al., ICCV 2019", _LANDMARKS),
    _small("bilayer", "Bilayer", "68 landmarks draw and texture the face of", "Zakharov et al., ECCV 2020", _LANDMARKS),
    *(
        _layered(
            f"frontalizer-{key}",
            f"Frontalizer {key}",
            f"{what} move up to three BPG references, merged.",
            _mobile(f"frontalizer-{key}", sources=3),
            (f"frontalizer-{key}", *students),
            _FRONTALIZER_PAPER,
        )
        for key, (what, students) in _FRONTAL.items()
    ),
    _layered(
        "frontalizer-chosen",
        "Frontalizer, chosen references",
        f"Of sup+unsup: {_FRONTAL['sup+unsup'][0]} move up to three BPG references chosen from the whole clip (no low delay).",
        _mobile("frontalizer-sup+unsup", sources=3, chosen_from="clip"),
        ("frontalizer-sup+unsup", *_LANDMARKS),
        _FRONTALIZER_PAPER,
    ),
    *(
        _small(f"ultralight{left}", f"Ultra-lightweight{left}", f"By a detector of {n} blocks, {_JACOBIANS}", _LIGHT_PAPER)
        for left, n in (("", 7), ("-6", 6), ("-5", 5))
    ),
)
MOBILE: tuple[str, ...] = tuple(family.name for family in _MOBILE)
"""Names of the mobile family."""

_FAMILIES = (
    _layered(
        "hevc-stripped",
        "HEVC, headers stripped",
        "H-DAC's base layer alone in its container, without any network: x265, lean or not, intra QP offset 6 or 12.",
        _stripped,
    ),
    _layered(
        "dac",
        "DAC",
        "Animation by keypoints from BPG references; in short GOP with adaptive refresh, too.",
        _dac,
        ("lite",),
        _DAC_PAPER,
    ),
    _layered(
        "hdac-paper",
        "H-DAC (paper)",
        "Streams as published (base layer at QP 50, BPG references, keypoints, always fused), our network.",
        _hdac_paper,
        ("lite",),
        _HDAC_PAPER,
    ),
    _layered(
        "hdac",
        "H-DAC",
        "HEVC base layer with a shared intra picture, corrected by network for least error.",
        _hdac,
        ("lite",),
        _HDAC_PAPER,
    ),
    _layered("hdac-look", "H-DAC (look)", "The same streams, corrected for best look.", _hdac_look, ("lite",), _HDAC_PAPER),
    _layered(
        "face-vid2vid",
        "face-vid2vid",
        "3D keypoints: head pose and deformations over BPG references.",
        _face_vid2vid,
        ("face-vid2vid",),
        _FACE_PAPER,
    ),
    _layered(
        "face-vid2vid+residual",
        "face-vid2vid, residual",
        "With binary residuals where they pay; the enhanced frame is the reference from then on.",
        _with_residual,
        ("face-vid2vid", "residual"),
        _FACE_PAPER,
    ),
    _layered(
        "dac+residual",
        "DAC, residual",
        "DAC with binary residuals where they pay.",
        _dac_residual,
        ("lite", "residual"),
        _DAC_PAPER,
    ),
    _layered(
        "hdac+residual",
        "H-DAC, residual",
        "H-DAC with binary residuals where they pay.",
        _hdac_residual,
        ("lite", "residual"),
        _HDAC_PAPER,
    ),
    *_MOBILE,
)
LAYERED: dict[str, Family] = {family.name: family for family in _FAMILIES}
