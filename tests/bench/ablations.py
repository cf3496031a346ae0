"""Rows that take the layered codecs apart, one choice at a time, for `rd-sweep --plugin tests/bench/ablations.py`.

    hdac-detected, hdac-sent       motion: detected on the base layer, or keypoints of the source at step 128
    hdac-sent-64 .. -512           other keypoint steps
    hdac-I-0 .. hdac-I-18          how much finer the shared intra picture is than the P pictures
    hdac-separate                  a coarse intra picture in the base layer and a BPG reference beside it
    hdac-fused                     the fused picture always shown at full strength
    hdac-look                      best look instead of least error
    dac-rd, dac-psnr, dac-never    when DAC sends a new reference
    dac-residual, dac-as-sent      residuals where they pay, one reference; what they have enhanced is animated as what was sent
    face-never, face-rd, face-32   face-vid2vid without residuals, with them where they pay, and with one every 32 frames
    face-all, face-pose            all 20 deformations in every frame, or none, instead of as many as pay
    face-paper, face-paper-all     the paper's coder of motion, with as many deformations as pay, and with all
    face-switch                    residuals where they pay, and a new reference is seen at once
    face-rd-look                   residuals where they pay; what they have enhanced is animated as what was sent
    paper-never, paper-rd          H-DAC's published streams, whose base layer stays at QP 50, without residuals and with them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baselines.codec import Family, Regime, VideoCodec, intra_period
from baselines.families import quantisers
from hdac.codecs.dac import Dac
from hdac.codecs.face_vid2vid import FaceVid2Vid
from hdac.codecs.hdac import Hdac

PLAIN = Hdac(qp=45, i_offset=12, lean=True)


def hybrid(codec: Hdac) -> Callable[[Regime, int], list[VideoCodec]]:
    def candidates(regime: Regime, points: int) -> list[VideoCodec]:
        return [replace(codec, qp=qp, intra_period=intra_period(regime)) for qp in quantisers(51, 33, points)]

    return candidates


def separate(regime: Regime, points: int) -> list[VideoCodec]:
    """The paper's streams, with our decisions and motion for no bits."""
    codec = replace(PLAIN, i_offset=0, intra_period=intra_period(regime))
    return [replace(codec, qp=min(51, qp + 14), reference_qp=qp) for qp in quantisers(40, 24, points)]


def animation(refresh: str) -> Callable[[Regime, int], list[VideoCodec]]:
    return lambda regime, points: [Dac(qp=qp, refresh=refresh) for qp in quantisers(48, 24, points)]


def residuals(as_sent: bool) -> Callable[[Regime, int], list[VideoCodec]]:
    return lambda regime, points: [
        Dac(qp=qp, refresh="never", residual=True, enhanced_as_sent=as_sent) for qp in quantisers(48, 34, points)
    ]


def face(codec: FaceVid2Vid) -> Callable[[Regime, int], list[VideoCodec]]:
    return lambda regime, points: [replace(codec, qp=qp) for qp in quantisers(44, 24, points)]


def published(residual: bool) -> Callable[[Regime, int], list[VideoCodec]]:
    return lambda regime, points: [
        replace(Hdac.paper(qp, intra_period(regime)), residual=residual) for qp in quantisers(46, 22, points)
    ]


FACE = FaceVid2Vid(qp=32)

_FAMILIES: dict[str, tuple[str, Callable[[Regime, int], list[VideoCodec]]]] = {
    "hdac-detected": ("motion detected on the base layer", hybrid(PLAIN)),
    "hdac-sent": ("keypoints sent, step 128", hybrid(replace(PLAIN, send_keypoints=True))),
    **{
        f"hdac-sent-{step}": (f"keypoints sent, step {step}", hybrid(replace(PLAIN, send_keypoints=True, keypoint_step=step)))
        for step in (64, 256, 512)
    },
    **{f"hdac-I-{n}": (f"intra picture {n} QP finer", hybrid(replace(PLAIN, i_offset=n))) for n in (0, 6, 12, 18)},
    "hdac-separate": ("coarse intra picture and a BPG reference", separate),
    "hdac-fused": ("always fused", hybrid(replace(PLAIN, always_fused=True))),
    "hdac-look": ("best look", hybrid(replace(PLAIN, best_look=True))),
    **{f"dac-{refresh}": (f"refresh {refresh}", animation(refresh)) for refresh in ("rd", "psnr", "never")},
    "dac-residual": ("residuals where they pay", residuals(as_sent=False)),
    "dac-as-sent": ("where they pay, animated as what was sent", residuals(as_sent=True)),
    "face-never": ("face-vid2vid without residuals", face(FACE)),
    "face-rd": ("residuals where they pay", face(replace(FACE, residual="rd"))),
    "face-32": ("a residual every 32 frames", face(replace(FACE, residual="period", intra_period=32))),
    "face-all": ("all deformations", face(replace(FACE, keypoints=20))),
    "face-pose": ("no deformations", face(replace(FACE, keypoints=0))),
    "face-paper": ("the paper's coder", face(replace(FACE, motion_coder="paper"))),
    "face-paper-all": ("the paper's coder, all deformations", face(replace(FACE, motion_coder="paper", keypoints=20))),
    "face-switch": ("residuals where they pay, shown at once", face(replace(FACE, residual="rd", fade=0))),
    "face-rd-look": ("where they pay, animated as what was sent", face(replace(FACE, residual="rd", enhanced_as_sent=True))),
    "paper-never": ("published H-DAC streams", published(residual=False)),
    "paper-rd": ("published H-DAC streams, residuals where they pay", published(residual=True)),
}
FAMILIES = {
    name: Family(name, name, description, candidates, hull=False) for name, (description, candidates) in _FAMILIES.items()
}
