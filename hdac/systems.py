"""Every codec of the tables by its name, and the one decoder for whatever stream any of them wrote."""

from __future__ import annotations

import io

from baselines import conventional, still_video
from baselines.codec import Family
from baselines.families import CONVENTIONAL
from baselines.reference import REFERENCE
from baselines.still_video import STILLS
from baselines.stream import LAYERED_STANDARDS, STILL_STANDARDS, Ledger, StreamHeader
from data.clip import Clip
from hdac import container, decoder
from hdac.families import LAYERED

FAMILIES: dict[str, Family] = {**CONVENTIONAL, **REFERENCE, **LAYERED, **STILLS}


def decode(bitstream: bytes) -> Clip:
    """Frames of a stream of any system, from the bytes alone; raises BitstreamError for anything else."""
    standard = StreamHeader.unpack(bitstream)[0].standard
    if standard in LAYERED_STANDARDS:
        return decoder.decode(bitstream)
    return still_video.decode(bitstream) if standard in STILL_STANDARDS else conventional.decode(bitstream)


def ledger(bitstream: bytes) -> Ledger:
    """Where every byte of a stream of any system went; raises BitstreamError for anything else."""
    standard = StreamHeader.unpack(bitstream)[0].standard
    if standard in LAYERED_STANDARDS:
        return container.ledger(io.BytesIO(bitstream))
    return still_video.ledger(bitstream) if standard in STILL_STANDARDS else conventional.ledger(bitstream)
