"""Every codec of the tables by its name, and the one decoder for whatever stream any of them wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from baselines import conventional, still_video
from baselines.codec import Family
from baselines.families import CONVENTIONAL
from baselines.reference import REFERENCE
from baselines.still_video import STILLS
from baselines.stream import LAYERED_STANDARDS, STILL_STANDARDS, Ledger, StreamHeader
from data.clip import Clip
from hdac import container, decoder, weights
from hdac.families import LAYERED

FAMILIES: dict[str, Family] = {**CONVENTIONAL, **REFERENCE, **LAYERED, **STILLS}

_CATALOGUE = Path(__file__).with_name("catalogue.csv")


class Measured(NamedTuple):
    """What the reference results say of a codec: one-intra, 256x256, means over clips."""

    kbps_low: float
    """Of the coarsest points of its curves."""
    kbps_high: float
    """Of the finest."""
    encode_fps: float
    """By one core: an order of magnitude."""
    decode_fps: float
    """Likewise."""


def catalogue() -> dict[str, Measured]:
    """By name, those of FAMILIES that have been measured; `tests/bench/catalogue.py` writes it."""
    with _CATALOGUE.open(newline="") as file:
        return {row["codec"]: Measured(*(float(row[name]) for name in Measured._fields)) for row in csv.DictReader(file)}


def weights_mb(family: Family) -> float:
    """Size of its networks' files in 10^6 bytes. Raises CodecUnavailable where one is missing."""
    return sum(weights.find(name).stat().st_size for name in family.networks) / 1e6


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
