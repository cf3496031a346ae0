"""A plug-in for the sweep's tests: codecs that are quick, crash, hang, lie, or write down every encode."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from baselines.codec import Family, Regime, VideoCodec
from baselines.conventional import X265
from data.clip import Clip
from data.errors import HdacError


@dataclass(frozen=True, kw_only=True)
class Quick(X265):
    """x265 at its fastest; notes every encode as a line of the file that $HDAC_TEST_LOG names."""

    preset: str = "ultrafast"
    pause_s: float = 0.0

    name: ClassVar[str] = "x265"

    def encode(self, clip: Clip) -> bytes:
        time.sleep(self.pause_s)
        stream = super().encode(clip)
        if "HDAC_TEST_LOG" in os.environ:
            with Path(os.environ["HDAC_TEST_LOG"]).open("a") as log:
                log.write(f"{clip.n_frames} {self.label}\n")
        return stream


@dataclass(frozen=True, kw_only=True)
class Crashes(Quick):
    def encode(self, clip: Clip) -> bytes:
        os.kill(os.getpid(), signal.SIGSEGV)
        return b""


@dataclass(frozen=True, kw_only=True)
class Hangs(Quick):
    def encode(self, clip: Clip) -> bytes:
        time.sleep(3600)
        return b""


@dataclass(frozen=True, kw_only=True)
class Raises(Quick):
    def encode(self, clip: Clip) -> bytes:
        raise HdacError(f"cannot code {clip.width}x{clip.height}")


@dataclass(frozen=True, kw_only=True)
class LosesAFrame(Quick):
    def decode(self, bitstream: bytes) -> Clip:
        return super().decode(bitstream)[:-1]


def family(name: str, make: Callable[[int], VideoCodec], steps: tuple[int, ...] = (30, 42), hull: bool = False) -> Family:
    def candidates(regime: Regime, points: int) -> list[VideoCodec]:
        period = 0 if regime == "one-intra" else 32
        return [replace(make(qp), intra_period=period) for qp in steps]  # type: ignore[type-var]

    return Family(name, name, f"{name}, for tests", candidates, hull=hull)


FAMILIES = {
    f.name: f
    for f in (
        family("quick", lambda qp: Quick(qp=qp)),
        family("other", lambda qp: Quick(qp=qp, lean=False)),
        family("ladder", lambda qp: Quick(qp=qp), steps=(50, 44, 38, 32, 26, 20), hull=True),
        family("slow", lambda qp: Quick(qp=qp, pause_s=0.4), steps=tuple(range(24, 48, 3))),
        family("crashes", lambda qp: Crashes(qp=qp)),
        family("hangs", lambda qp: Hangs(qp=qp), steps=(30,)),
        family("raises", lambda qp: Raises(qp=qp)),
        family("loses-a-frame", lambda qp: LosesAFrame(qp=qp)),
    )
}
