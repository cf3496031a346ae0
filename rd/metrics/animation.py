"""What papers of face animation report (Siarohin et al., FOMM, NeurIPS 2019, section 4; AKD is in `rd.metrics.face`).

    l1   mean absolute difference of R, G and B in [0, 1]
    aed  average Euclidean distance of identity embeddings of unit length, here MobileFaceNet's; theirs are OpenFace's
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from data.clip import Clip
from rd.metrics.score import MetricUnavailable, Score, check_same_shape


def measure(source: Clip, decoded: Clip, columns: Collection[str]) -> dict[str, Score | MetricUnavailable]:
    """`l1` and `aed` among the columns; raises InputError where the clips do not match."""
    check_same_shape(source, decoded)
    scores: dict[str, Score | MetricUnavailable] = {}
    if "l1" in columns:
        scores["l1"] = Score.mean(np.array([_l1(source, decoded, t) for t in range(source.n_frames)]))
    if "aed" in columns:
        from rd.metrics import face  # networks are imported by who needs them

        identity = face.measure(source, decoded, ["csim"])["csim"]
        if isinstance(identity, MetricUnavailable):
            scores["aed"] = identity
        else:
            assert identity.frames is not None
            scores["aed"] = Score.mean(np.sqrt(2 - 2 * np.minimum(identity.frames, 1)))
    return scores


def _l1(source: Clip, decoded: Clip, t: int) -> float:
    one, other = (clip.rgb(slice(t, t + 1)).astype(np.int16) for clip in (source, decoded))
    return float(np.abs(one - other).mean()) / 255
