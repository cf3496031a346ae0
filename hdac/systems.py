"""Every codec of the tables by its name, and the one decoder for whatever stream any of them wrote."""

from __future__ import annotations

from baselines import conventional
from baselines.codec import Family
from baselines.families import CONVENTIONAL
from baselines.reference import REFERENCE
from data.clip import Clip

FAMILIES: dict[str, Family] = {**CONVENTIONAL, **REFERENCE}


def decode(bitstream: bytes) -> Clip:
    """Frames of a stream of any system, from the bytes alone; raises BitstreamError for anything else."""
    return conventional.decode(bitstream)
