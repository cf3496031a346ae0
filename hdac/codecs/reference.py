"""Reference pictures that travel on their own: BPG, VVC still, or a learned codec of CompressAI.

All are moved by a QP, so that the network, which is told it, and rules that trade bits against errors know what it means. A
learned codec has qualities instead: that one codes whose PSNR is about BPG's at the QP.

The container knows which codec it is (`hdac.container.REFERENCE_CODECS`) and the stream header what its colours mean. A learned
codec decodes with floating point numbers: on another machine a sample of the reference may be rounded to the next level.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from baselines.bpg import Picture, decode_bpg, demux, encode_bpg
from baselines.conventional import MAX_QUANTISER, tool_versions
from baselines.stills import LearnedStill, pack_head
from baselines.vvc_still import decode_vvc_still, encode_vvc_still, read_size
from data.clip import Clip, Colour
from data.errors import BitstreamError, InputError
from hdac.codecs.base_layer import Planes

MAX_QP = {"bpg": MAX_QUANTISER["hevc"], "vvc": MAX_QUANTISER["vvc"], "learned": MAX_QUANTISER["hevc"]}
"""Of every codec of separate reference pictures."""

LEARNED_MODEL = "mbt2018-mean"
"""Chosen: the best of the models whose probabilities hang on no sample next to the one that is coded; a decoder takes any."""

LEARNED_QPS = (43, 40, 38, 36, 33, 31, 28, 26)
"""Of qualities 1 to 8: QPs at which BPG has about their PSNR. A guess, not measured: it says which quality a QP asks for."""

_ANY_COLOUR = Colour()
_FPS = Fraction(25)  # a still stream says a frame rate; any that takes one byte of its head, which is not sent


def check(codec: str, qp: int) -> None:
    """Raises InputError for another codec, or a QP that it does not have."""
    if codec not in MAX_QP:
        raise InputError(f"reference_codec {codec!r} is not one of {', '.join(MAX_QP)}")
    if not 0 <= qp <= MAX_QP[codec]:
        raise InputError(f"reference pictures of {codec} have QPs 0 to {MAX_QP[codec]}, got {qp}")


def version(codec: str, qp: int) -> str:
    """Of the tool that codes the pictures. Raises CodecUnavailable where its weights are not here."""
    return _learned(qp).version if codec == "learned" else tool_versions()["x265" if codec == "bpg" else "vvenc"]


def encode(planes: Planes, colour: Colour, qp: int, codec: str = "bpg") -> bytes:
    """The layer of one frame. Raises CodecUnavailable where tool or weights are not here."""
    if codec == "bpg":
        # BPG has no top-left siting: the stream header says how the samples lie
        siting = "left" if colour.siting == "topleft" else colour.siting
        return encode_bpg(Picture(planes, colour=Colour(colour.matrix, colour.range, siting)), qp)
    y, u, v = (plane[None] for plane in planes)
    clip = Clip(y, u, v, _FPS, colour)
    if codec == "vvc":
        return encode_vvc_still(clip, qp)
    return _learned(qp).encode(clip)[len(pack_head(_FPS, colour)) :]


def _learned(qp: int) -> LearnedStill:
    nearest = min(range(len(LEARNED_QPS)), key=lambda i: abs(LEARNED_QPS[i] - qp))
    return LearnedStill(LEARNED_MODEL, quality=1 + nearest)


def decode(layer: bytes, height: int, width: int, codec: str = "bpg", colour: Colour = _ANY_COLOUR) -> Planes:
    """Its planes; `colour` is for a learned codec, which goes through R'G'B'.

    Raises BitstreamError for damage and for anything but 8-bit 4:2:0 of that size; WeightsMismatch where it was made with other
    weights than those at hand, and CodecUnavailable where there are none.
    """
    # sizes of BPG and VVC are looked at before anything is decoded: one that is damaged could ask for much memory
    if codec == "bpg":
        form, _ = demux(layer)
        if (form.width, form.height, form.chroma, form.bit_depth) != (width, height, "420", 8):
            found = f"{form.width}x{form.height}, {form.bit_depth}-bit {form.chroma}"
            raise BitstreamError(f"a reference picture of {found} for {width}x{height}, 8-bit 420")
        y, u, v = (plane.astype(np.uint8) for plane in decode_bpg(layer).planes)
    elif codec == "vvc":
        said = read_size(layer)[:2]
        if said != (width, height):
            raise BitstreamError(f"a reference picture of {said[0]}x{said[1]} for {width}x{height}")
        y, u, v = decode_vvc_still(layer)
    else:
        clip = LearnedStill().decode(pack_head(_FPS, colour) + layer)
        y, u, v = clip.y[0], clip.u[0], clip.v[0]
    if y.shape != (height, width):
        raise BitstreamError(f"a reference picture of {y.shape[1]}x{y.shape[0]} for {width}x{height}")
    return y, u, v
