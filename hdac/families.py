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


def _mobile(network: str, sources: int = 1) -> Callable[[Regime, int], list[VideoCodec]]:
    refresh = "rd" if sources > 1 else "never"

    def candidates(regime: Regime, points: int) -> list[VideoCodec]:
        codec = Mobile(qp=48, network=network, sources=sources, refresh=refresh, intra_period=intra_period(regime))
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
_MOTION_NET_PAPER = "Oquab et al., CVPR workshops 2021"

_MOBILE = (
    *(
        _layered(
            name,
            title,
            f"{what} over BPG references, small networks.",
            _mobile(name),
            (name, "landmarks"),
            _MOTION_NET_PAPER,
        )
        for name, title, what in (
            ("motion-net-20l", "Motion Net 20L", "20 landmarks"),
            ("motion-net-10u+20l", "Motion Net 10U+20L", "10 keypoints and 20 landmarks"),
            ("motion-spade-10u+20l", "Motion-SPADE 10U+20L", "10 keypoints, 20 landmarks and drawn eyes, brows and lips"),
        )
    ),
    _layered(
        "fomm",
        "FOMM",
        "10 keypoints with Jacobians over BPG references.",
        _mobile("fomm"),
        ("fomm",),
        "Siarohin et al., NeurIPS 2019",
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
