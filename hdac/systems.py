"""Every codec of the tables by its name, and the one decoder for whatever stream any of them wrote."""

from __future__ import annotations

from baselines import conventional, still_video
from baselines.codec import Family
from baselines.families import CONVENTIONAL
from baselines.reference import REFERENCE
from baselines.still_video import STILLS
from baselines.stream import STILL_STANDARDS, Ledger, StreamHeader
from data.clip import Clip

FAMILIES: dict[str, Family] = {**CONVENTIONAL, **REFERENCE, **STILLS}


def decode(bitstream: bytes) -> Clip:
    """Frames of a stream of any system, from the bytes alone; raises BitstreamError for anything else."""
    return still_video.decode(bitstream) if _holds_stills(bitstream) else conventional.decode(bitstream)


def ledger(bitstream: bytes) -> Ledger:
    """Where every byte of a stream of any system went; raises BitstreamError for anything else."""
    return still_video.ledger(bitstream) if _holds_stills(bitstream) else conventional.ledger(bitstream)


def _holds_stills(bitstream: bytes) -> bool:
    return StreamHeader.unpack(bitstream)[0].standard in STILL_STANDARDS
