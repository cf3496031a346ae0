"""Clips as rows of still pictures: the still codecs behind the one codec interface, and their names in the tables.

A stream is the header of `baselines.stream`, whose standard names the still codec, then one still after the other, each
behind its length (ue7). The stills are those of `baselines.stills` without their first byte: colour and frame rate are in the
header. What a still's own format repeats (the picture's size, 2 to 4 bytes, and for AVIF boxes of 300) stays, as the
price of a format of single pictures.

Every picture is intra, so both regimes have the same rate points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from baselines.codec import Family, Regime, VideoCodec
from baselines.families import quantisers
from baselines.stills import (
    Avif,
    Bpg,
    BpgEnc,
    Jpeg,
    LearnedStill,
    StillCodec,
    VvcStill,
    WebP,
    missing_learned,
    pack_head,
)
from baselines.stream import STILL_STANDARDS, Ledger, StreamHeader, join_samples, split_samples
from data.clip import Clip
from data.errors import BitstreamError

LEARNED_MODEL = "mbt2018-mean"
"""The best model of CompressAI that decodes in parallel: the autoregressive ones take minutes a picture on a CPU."""


@dataclass(frozen=True)
class StillVideo:
    """A codec that codes every frame of a clip as a still picture."""

    still: StillCodec

    name: ClassVar[str] = "stills"

    @property
    def label(self) -> str:
        return self.still.label

    @property
    def version(self) -> str:
        return self.still.version

    @property
    def quantiser(self) -> int:
        """The still's: QP, or the best quality minus the quality."""
        return self.still.quantiser

    def with_quantiser(self, quantiser: int) -> StillVideo:
        return replace(self, still=self.still.with_quantiser(quantiser))

    def encode(self, clip: Clip) -> bytes:
        head = pack_head(clip.fps, clip.colour)
        stills = (self.still.encode(clip[t : t + 1]) for t in range(clip.n_frames))
        return StreamHeader.of(clip, self.still.standard).pack() + join_samples(still[len(head) :] for still in stills)

    def decode(self, bitstream: bytes) -> Clip:
        return decode(bitstream)

    def ledger(self, bitstream: bytes) -> Ledger:
        return ledger(bitstream)

    def command(self, clip: Clip) -> str:
        """The command line of one picture."""
        return self.still.command(clip[:1])


_DECODERS: dict[str, StillCodec] = {  # of any setting: what they need is in the stills
    still.standard: still for still in (Bpg(0), VvcStill(0), Jpeg(1), WebP(0), Avif(0), LearnedStill())
}


def decode(bitstream: bytes) -> Clip:
    """Frames of a stream of one of STILL_STANDARDS. Raises BitstreamError for a damaged one, or one of a video standard,
    and CodecUnavailable where the weights of a learned codec are not here."""
    header, stills = _parse(bitstream)
    head = pack_head(header.fps, header.colour)
    h, w = header.height, header.width
    y = np.empty((header.n_frames, h, w), np.uint8)
    u = np.empty((header.n_frames, (h + 1) // 2, (w + 1) // 2), np.uint8)
    v = np.empty_like(u)
    for t, still in enumerate(stills):
        picture = _DECODERS[header.standard].decode(head + still)
        if (picture.width, picture.height) != (w, h):
            raise BitstreamError(f"frame {t} is {picture.width}x{picture.height}, the header says {w}x{h}")
        y[t], u[t], v[t] = picture.y[0], picture.u[0], picture.v[0]
    return Clip(y, u, v, header.fps, header.colour)


def ledger(bitstream: bytes) -> Ledger:
    """Bytes of every still, its length included, as one layer "intra"."""
    header, stills = _parse(bitstream)
    sizes = np.array([len(join_samples([still])) for still in stills], np.int64)
    return Ledger({"intra": sizes}, header=len(header.pack()))


def _parse(bitstream: bytes) -> tuple[StreamHeader, list[bytes]]:
    """Header and stills; as many as it says."""
    header, start = StreamHeader.unpack(bitstream, STILL_STANDARDS)
    stills = list(split_samples(bitstream[start:]))
    if len(stills) != header.n_frames:
        raise BitstreamError(f"the header says {header.n_frames} frames, the stream holds {len(stills)}")
    return header, stills


# -- families ---------------------------------------------------------------------------------------------------------


def _candidates(coarsest: StillCodec, finest: int) -> Callable[[Regime, int], list[VideoCodec]]:
    """Rate points from a setting down to the quantiser `finest`, as many as there are steps at most."""

    def candidates(regime: Regime, points: int) -> list[VideoCodec]:
        steps = quantisers(coarsest.quantiser, finest, min(points, coarsest.quantiser - finest + 1))
        return [StillVideo(coarsest.with_quantiser(step)) for step in steps]

    return candidates


def _family(
    name: str,
    title: str,
    description: str,
    coarsest: StillCodec,
    finest: int,
    missing: Callable[[], str | None] | None = None,
) -> Family:
    return Family(
        name, title, description, _candidates(coarsest, finest), hull=False, missing=missing or coarsest.missing, still=True
    )


_FAMILIES: Sequence[Family] = (
    _family("bpg", "BPG stills (x265)", "Every frame a BPG picture by x265 veryslow, QP 51 to 28.", Bpg(51), 28),
    _family(
        "bpgenc",
        "BPG stills (bpgenc)",
        "Every frame a BPG picture by the PATH's bpgenc, from PNG, QP 51 to 28; decoded by our own decoder.",
        BpgEnc(51),
        28,
    ),
    _family(
        "vvc-still",
        "VVC stills (vvenc)",
        "Every frame an intra picture by libvvenc slow without parameter sets, QP 63 to 35.",
        VvcStill(63),
        35,
    ),
    _family("jpeg", "JPEG stills", "Every frame a JPEG by libjpeg-turbo without JFIF header, quality 1 to 60.", Jpeg(1), 35),
    _family("webp", "WebP stills", "Every frame a lossy WebP without RIFF header, quality 0 to 80.", WebP(0), 20),
    _family("avif", "AVIF stills", "Every frame an AVIF file by libaom at its slowest, quality 0 to 40.", Avif(0), 60),
    _family(
        "learned",
        f"Learned stills ({LEARNED_MODEL})",
        f"Every frame by CompressAI's {LEARNED_MODEL} (MSE) with its published weights, quality 1 to 8.",
        LearnedStill(LEARNED_MODEL, quality=1),
        0,
        missing=lambda: missing_learned(LEARNED_MODEL),
    ),
)

STILLS: dict[str, Family] = {family.name: family for family in _FAMILIES}
