"""What a metric gives back: one value for the clip, and one per frame where that makes sense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.clip import Clip
from data.errors import InputError


class MetricUnavailable(Exception):
    """A metric that cannot be computed here: its network's weights or its tool are missing, or it has no meaning
    for this clip (no face, smaller than the window). The message is the reason, shown once to the user."""


@dataclass(frozen=True)
class Score:
    """value:  the clip's score.
    frames: float64 (T,), one score per frame, NaN where a frame has none; None where the metric has no frames.
    """

    value: float
    frames: NDArray[np.float64] | None = None

    @classmethod
    def mean(cls, frames: NDArray[np.float64]) -> Score:
        """The mean over the frames that have a score."""
        if np.all(np.isnan(frames)):
            raise MetricUnavailable("no frame could be scored")
        return cls(float(np.nanmean(frames)), frames)


def check_same_shape(source: Clip, decoded: Clip) -> None:
    """Raises InputError where two clips cannot be compared: other size, frame count or frame rate."""
    if source.y.shape != decoded.y.shape or source.fps != decoded.fps:
        raise InputError(
            f"cannot compare {source.n_frames} frames of {source.width}x{source.height} at {source.fps} fps with "
            f"{decoded.n_frames} of {decoded.width}x{decoded.height} at {decoded.fps} fps"
        )
