"""Reference pictures that travel on their own: BPG."""

from __future__ import annotations

import numpy as np

from baselines.bpg import Picture, decode_bpg, demux, encode_bpg
from data.clip import Colour
from data.errors import BitstreamError
from hdac.codecs.base_layer import Planes


def encode(planes: Planes, colour: Colour, qp: int) -> bytes:
    """A BPG file of one frame. BPG has no top-left siting: the stream header says how the samples lie."""
    siting = "left" if colour.siting == "topleft" else colour.siting
    return encode_bpg(Picture(planes, colour=Colour(colour.matrix, colour.range, siting)), qp)


def decode(layer: bytes, height: int, width: int) -> Planes:
    """Its planes. Raises BitstreamError for damage, and for anything but 8-bit 4:2:0 of that size."""
    form, _ = demux(layer)  # before it is decoded: a header that is damaged could ask for much memory
    if (form.width, form.height, form.chroma, form.bit_depth) != (width, height, "420", 8):
        found = f"{form.width}x{form.height}, {form.bit_depth}-bit {form.chroma}"
        raise BitstreamError(f"a reference picture of {found} for {width}x{height}, 8-bit 420")
    y, u, v = (plane.astype(np.uint8) for plane in decode_bpg(layer).planes)
    return y, u, v
