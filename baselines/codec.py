"""The one interface of every codec, and how a codec becomes a row of the tables.

A *codec* is one tool with one setting: bytes out, frames from bytes alone.
A *family* is one name of the tables (`hevc`, `vvc`, ..): its rate points, one codec each. An anchor deserves its best
settings, so most families are a *hull*: all settings are tried at all rate points, and the table keeps the upper convex
hull of PSNR-Y over rate, each point with the setting that it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from baselines.stream import Ledger
from data.clip import Clip

Regime = Literal["one-intra", "short-gop"]
REGIMES: tuple[Regime, ...] = ("one-intra", "short-gop")
SHORT_GOP = 32  # frames; the intra period of Konuko et al., "A hybrid deep animation codec", ICIP 2022


@runtime_checkable
class VideoCodec(Protocol):
    """A codec with its settings in the constructor and a truthful `repr`, picklable, without state between calls."""

    name: ClassVar[str]
    """The tool: "x265", "vvenc"."""

    @property
    def label(self) -> str:
        """Setting in a few words, for tables and legends: "x265 slow lean I-6 QP 43"."""

    @property
    def version(self) -> str:
        """Version of the tool and of our own code around it: points with another version are coded again."""

    def encode(self, clip: Clip) -> bytes:
        """The whole stream; its length is the rate. Raises InputError for a clip that it cannot code."""

    def decode(self, bitstream: bytes) -> Clip:
        """The frames, from the bytes alone. Raises BitstreamError for a stream that is damaged."""

    def ledger(self, bitstream: bytes) -> Ledger:
        """Where every byte of the stream went."""

    def command(self, clip: Clip) -> str:
        """The encoder's command line, or for a library the equivalent one."""


@runtime_checkable
class Tunable(Protocol):
    """A codec with one number that moves it along its curve; higher is coarser."""

    @property
    def quantiser(self) -> int:
        """QP, or AV1's and VP9's q."""

    def with_quantiser(self, quantiser: int) -> VideoCodec:
        """The same codec at another quantiser; raises InputError where the standard has no such step."""


@dataclass(frozen=True)
class Family:
    """One codec name of the tables.

    name:        as in the `codec` column: "hevc".
    title:       as in a legend: "HEVC (x265 hull)".
    description: what it stands for, in one or two sentences.
    candidates:  (regime, number of rate points) -> the codecs to try, in any order.
    hull:        keep only the upper convex hull of PSNR-Y over rate.
    missing:     why it cannot run on this machine, or None where it can; asked at the start of a sweep.
    """

    name: str
    title: str
    description: str
    candidates: Callable[[Regime, int], list[VideoCodec]]
    hull: bool = True
    missing: Callable[[], str | None] = lambda: None
    still: bool = False
    """A still-picture codec, which codes every frame by itself: in a sweep only where it is asked for by name."""
    paper: str = ""
    """Where the system was published, if it is one of a paper."""
    networks: tuple[str, ...] = ()
    """Weights that it needs."""


def intra_period(regime: Regime) -> int:
    """Frames from one intra picture to the next; 0 where only the first picture is intra."""
    return 0 if regime == "one-intra" else SHORT_GOP
