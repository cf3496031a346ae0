"""Rate-distortion curves: the points of one codec on one sequence, and their mean over sequences.

The deltas, the plots and the report all read curves through this module, so that they show the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from data.errors import InputError

Array = NDArray[np.float64]

MEAN_CURVE = "mean-curve"
"""In the `sequence` column: a curve that is already a mean over sequences."""
MEAN_CURVE_SAMPLES = 33
SHARED = 1.5
"""Chosen: as `shown_mean` has it."""


@dataclass(frozen=True)
class Curve:
    """An upper envelope: rate > 0 and quality both strictly increasing, float64 (N,); a lower-is-better metric is
    negated. `note` says what was left out on the way."""

    rate: Array
    quality: Array
    note: str = ""

    def __len__(self) -> int:
        return len(self.rate)


def envelope(rate: ArrayLike, quality: ArrayLike, higher_is_better: bool = True) -> Curve:
    """The points of a curve that no other point beats, by rising rate.

    rate:    (N,) in any unit; a point with a rate that is not positive and finite is left out.
    quality: (N,) the metric; a point where it is not finite is left out (lossless PSNR, "not computed").
    """
    rates, qualities = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape:
        raise InputError(f"expected as many rates as qualities, got shapes {rates.shape} and {qualities.shape}")
    if not higher_is_better:
        qualities = -qualities
    usable = np.isfinite(rates) & (rates > 0) & np.isfinite(qualities)
    kept: list[int] = []
    for i in np.lexsort((-qualities, rates)):  # by rate; at one rate the best comes first
        if usable[i] and (not kept or qualities[i] > qualities[kept[-1]]):
            kept.append(int(i))
    notes = []
    if not usable.all():
        notes.append(f"{np.sum(~usable)} of {len(rates)} points not finite")
    dominated = int(np.sum(usable)) - len(kept)
    if dominated:
        notes.append(f"{dominated} of {len(rates)} points beaten by another")
    return Curve(rates[kept], qualities[kept], ", ".join(notes))


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """The mean over sequences of the quality at equal rate; None where the sequences share no range of rates.

    Each curve is interpolated (PCHIP over log10 of the rate, which keeps it monotone) at 33 rates, evenly spaced in
    log-rate over the range that all curves cover. Points are not averaged by index: the curves of a convex hull have
    different numbers of points, and the same index means another setting on each. A single curve is its own mean.
    """
    if len(curves) == 1:
        return Curve(curves[0].rate, curves[0].quality)
    if not curves or min(len(curve) for curve in curves) < 2:
        return None
    low = max(np.log10(curve.rate[0]) for curve in curves)
    high = min(np.log10(curve.rate[-1]) for curve in curves)
    if low >= high:
        return None
    grid = np.linspace(low, high, MEAN_CURVE_SAMPLES)
    qualities = [
        PchipInterpolator(x := np.log10(curve.rate), curve.quality)(np.clip(grid, x[0], x[-1])) for curve in curves
    ]
    return Curve(10.0**grid, np.mean(qualities, axis=0))


def mean_points(points: pd.DataFrame, rate: str, metric: str, higher_is_better: bool) -> Curve | None:
    """Geometric mean of the rate and mean quality over sequences of every setting that all of them have; None of fewer than two
    settings.

    For codecs whose rates differ so much from one sequence to the next that they share none. Where sequences differ by a factor
    of the rate only, this is the curve of a middle one, and so is nearly `mean_curve`.

    points: rows of one codec and one regime, with a column `setting`.
    """
    usable = points[np.isfinite(points[metric]) & (points[rate] > 0)]
    of_setting = usable.groupby("setting", sort=False)
    by_setting = of_setting.agg(rate=(rate, _geometric), quality=(metric, "mean"), n=("sequence", "nunique"))
    everywhere = by_setting[by_setting.n == points["sequence"].nunique()]
    return envelope(everywhere.rate, everywhere.quality, higher_is_better) if len(everywhere) > 1 else None


def shown_mean(points: pd.DataFrame, rate: str, metric: str, higher_is_better: bool) -> tuple[Curve | None, bool]:
    """What plots show of one codec and one regime over all of its sequences: `mean_curve`, or, where the rates of that one do
    not go up by a factor of SHARED, `mean_points`; and whether it is the latter."""
    curves = list(curves_of(points, rate, metric, higher_is_better).values())
    mean = mean_curve(curves)
    if len(curves) < 2 or (mean is not None and mean.rate[-1] >= SHARED * mean.rate[0]):
        return mean, False
    by_setting = mean_points(points, rate, metric, higher_is_better)
    return (mean, False) if by_setting is None else (by_setting, True)


def _geometric(rates: pd.Series[float]) -> float:
    return float(np.exp(np.log(rates).mean()))


def curves_of(points: pd.DataFrame, rate: str, metric: str, higher_is_better: bool) -> dict[str, Curve]:
    """The envelope of each sequence, in order of appearance; one that has no value of the metric has no curve.

    points: rows of one codec and one regime.
    """
    return {
        str(sequence): envelope(rows[rate], rows[metric], higher_is_better)
        for sequence, rows in points.groupby("sequence", sort=False)
        if rows[metric].notna().any()
    }
