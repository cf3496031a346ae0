"""Metrics of a decoded clip against its source: `compute` takes the column names of `rd.columns` and dispatches them.

Each family is a module with one function `measure(source, decoded, columns)` that returns, per column, a Score or the
MetricUnavailable that says why there is none, so that one missing network does not cost its siblings.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from baselines.programs import ffmpeg_version
from data.clip import Clip
from data.errors import InputError
from rd.columns import METRICS
from rd.metrics import fidelity
from rd.metrics.score import MetricUnavailable, Score, check_same_shape

Measure = Callable[[Clip, Clip, Collection[str]], dict[str, Score | MetricUnavailable]]


VERSIONS: dict[str, int] = dict.fromkeys((metric.family for metric in METRICS.values()), 1)
"""Version of each family's code: raise it when scores change."""

FFMPEG_FAMILIES = ("vmaf", "xpsnr")


def version(column: str) -> str:
    """What a cached score depends on besides the two clips: its family's code, its networks' weights or its ffmpeg.

    Weights that other columns use are no part of it: fetching or installing them leaves scores and anchors good.
    """
    from data.pretrained import checksums  # imports PyTorch

    family = METRICS[column].family
    own = str(VERSIONS[family])
    if column in ("msvgg", "msvgg_distilled"):  # since they have a stride of their own
        own += ".2"
    if column == "aed":  # made of the embeddings of CSIM
        own += f".{VERSIONS['face']}"
    if family in FFMPEG_FAMILIES:
        return f"{own} {ffmpeg_version()}"
    weights = checksums(column)
    return f"{own} {hashlib.sha256(repr(sorted(weights.items())).encode()).hexdigest()[:16]}" if weights else own


@dataclass
class Measured:
    """What came of the columns that were asked for: each is in `values` or in `missing`."""

    values: dict[str, float] = field(default_factory=dict)
    """The clip's scores, always finite."""
    frames: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Scores per frame, (T,), NaN where a frame has none; only for the metrics that have frames."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a column could not be computed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time per family, its share of loading networks included."""


def compute(source: Clip, decoded: Clip, columns: Sequence[str]) -> Measured:
    """Measures `decoded` against `source`, the columns asked for and no others.

    Raises InputError for clips of different size, frame count or frame rate, and for an unknown column.
    """
    check_same_shape(source, decoded)
    families: dict[str, list[str]] = {}
    for column in dict.fromkeys(columns):
        if column not in METRICS:
            raise InputError(f"unknown metric column {column!r}; known: {', '.join(METRICS)}")
        families.setdefault(METRICS[column].family, []).append(column)

    measured = Measured()
    for family, asked in families.items():
        start = time.perf_counter()
        scores = _measure_of(family)(source, decoded, asked)
        measured.seconds[family] = time.perf_counter() - start
        for column in asked:
            score = scores[column]
            if isinstance(score, MetricUnavailable):
                measured.missing[column] = str(score)
            elif not math.isfinite(score.value):
                measured.missing[column] = f"it came out as {score.value}"
            else:
                measured.values[column] = score.value
                if score.frames is not None:
                    measured.frames[column] = score.frames
    return measured


def psnr_y_only(source: Clip, decoded: Clip) -> float:
    """The one number that searches over rate points ask for again and again."""
    return compute(source, decoded, ["psnr_y"]).values["psnr_y"]


def _measure_of(family: str) -> Measure:
    """The family's `measure`. Networks and their frameworks take seconds to import, so only who needs them does."""
    if family in ("psnr", "ssim", "temporal"):
        return fidelity.measure
    if family in ("xpsnr", "vmaf"):
        from rd.metrics import ffmpeg_filters

        return ffmpeg_filters.measure
    if family == "perceptual":
        from rd.metrics import perceptual

        return perceptual.measure
    if family == "face":
        from rd.metrics import face

        return face.measure
    if family == "animation":
        from rd.metrics import animation

        return animation.measure
    if family == "fid":
        from rd.metrics import fid

        return fid.measure
    raise InputError(f"no module measures the metric family {family!r}")
