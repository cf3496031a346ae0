"""The mobile family taken apart, as a plugin of the sweep: one choice at a time.

    rd-sweep --plugin tests/bench/mobile_ablations.py --codecs NAME .. --sequences .. --regime one-intra --out ..

    fomm-never                        FOMM, one reference
    fomm-distance, -rest, -replay     where points are too far from it (Lu and Zheng's filter): a new one, a still face, or the
                                      motion before it
    fomm-3                            up to three references, the nearest is animated ("FOM mult")
    mn-3                              Motion Net 10U+20L, likewise
    nth-1, nth-3                      NTH: one reference, up to three, whose styles are averaged
    frontal-1, -2, -3, -chosen        Frontalizer sup+unsup: so many references; three, which may be of other frames of the clip
    mn-adaptive, mn-huffman, mn-prior Motion Net 10U+20L by our coder of motion and the published ones
    mn-128, mn-256                    other quantiser steps than 64
    mn-hold-none, mn-hold-all         points held still within half a step, all of them; within a step, all of them
    mn-error                          least error instead of best look
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baselines.codec import Family, Regime, VideoCodec
from baselines.families import quantisers
from hdac import weights
from hdac.codecs.mobile import Mobile


def rows(codec: Mobile) -> Callable[[Regime, int], list[VideoCodec]]:
    return lambda regime, points: [replace(codec, qp=qp) for qp in quantisers(44, 24, points)]


FOMM = Mobile(qp=32, network="fomm")
FRONTAL = Mobile(qp=32, network="frontalizer-sup+unsup")
MOTION_NET = Mobile(qp=32, network="motion-net-10u+20l")
NTH = Mobile(qp=32, network="nth")

_CODECS: dict[str, tuple[str, Mobile]] = {
    "fomm-never": ("one reference", FOMM),
    "fomm-distance": ("a new reference where points are far", replace(FOMM, refresh="distance")),
    "fomm-rest": ("a still face where points are far", replace(FOMM, refresh="distance", when_far="rest")),
    "fomm-replay": ("the motion before where points are far", replace(FOMM, refresh="distance", when_far="replay")),
    "fomm-3": ("the nearest of three references", replace(FOMM, refresh="rd", sources=3)),
    "mn-3": ("the nearest of three references", replace(MOTION_NET, refresh="rd", sources=3)),
    "nth-1": ("one reference", NTH),
    "nth-3": ("three references", replace(NTH, refresh="rd", sources=3)),
    "frontal-1": ("one reference", FRONTAL),
    "frontal-2": ("two references", replace(FRONTAL, refresh="rd", sources=2)),
    "frontal-3": ("three references", replace(FRONTAL, refresh="rd", sources=3)),
    "frontal-chosen": ("three references of any frame", replace(FRONTAL, refresh="rd", sources=3, chosen_from="clip")),
    "mn-adaptive": ("our coder", MOTION_NET),
    "mn-huffman": ("Huffman's code", replace(MOTION_NET, motion_coder="huffman")),
    "mn-prior": ("the prior of 2022", replace(MOTION_NET, motion_coder="prior")),
    **{f"mn-{step}": (f"step {step}", replace(MOTION_NET, step=step)) for step in (128, 256)},
    "mn-hold-none": ("held within half a step", replace(MOTION_NET, hold=(0.5, 0.5))),
    "mn-hold-all": ("held within a step", replace(MOTION_NET, hold=(1.0, 1.0))),
    "mn-error": ("least error", replace(MOTION_NET, best_look=False)),
}
FAMILIES = {name: Family(name, name, description, rows(codec), hull=False) for name, (description, codec) in _CODECS.items()}


def there() -> list[str]:
    """Names of those whose networks have weights here."""
    return [name for name, (_, codec) in _CODECS.items() if weights.missing(codec.network) is None]
