"""L1 and AED: 0 for equal clips, what their formulas say for others."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from data.clip import Clip
from data.errors import InputError
from rd.metrics import compute, face
from rd.metrics.score import MetricUnavailable, Score
from tests.clips import moving_clip


def grey(level: int) -> Clip:
    return Clip.from_rgb(np.full((2, 64, 64, 3), level, np.uint8), Fraction(25))


def test_l1_is_the_mean_absolute_difference_of_colours() -> None:
    assert compute(grey(90), grey(90), ["l1"]).values["l1"] == 0
    assert compute(grey(90), grey(141), ["l1"]).values["l1"] == pytest.approx(51 / 255, abs=0.004)
    assert compute(grey(141), grey(90), ["l1"]).values["l1"] == compute(grey(90), grey(141), ["l1"]).values["l1"]
    with pytest.raises(InputError, match="compare"):
        compute(grey(90), moving_clip(2, 96, 96), ["l1"])


def test_aed_is_the_distance_of_two_unit_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    cosines = np.array([1.0, np.nan, 0.5, -1.0, 1.0 + 1e-12])
    monkeypatch.setattr(face, "measure", lambda *of: {"csim": Score.mean(cosines)})
    measured = compute(grey(90), grey(90), ["aed"])
    assert np.allclose(measured.frames["aed"], [0, np.nan, 1, 2, 0], equal_nan=True)
    assert measured.values["aed"] == pytest.approx(3 / 4)
    monkeypatch.setattr(face, "measure", lambda *of: {"csim": MetricUnavailable("no face")})
    assert compute(grey(90), grey(90), ["aed"]).missing == {"aed": "no face"}
