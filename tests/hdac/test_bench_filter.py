"""The bench of the quality filter: its statistics."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.bench_filter import TAUS, roc, row, spearman


def test_ranks_and_roc_of_a_perfect_a_useless_and_a_wrong_filter() -> None:
    rng = np.random.default_rng(1)
    error = rng.random(400)
    bad = error > 0.75
    for distance, correlation, area in ((error**3, 1.0, 1.0), (rng.random(400), 0.0, 0.5), (-error, -1.0, 0.0)):
        assert spearman(distance, error) == pytest.approx(correlation, abs=0.12)
        false, true, found = roc(distance, bad)
        assert found == pytest.approx(area, abs=0.08)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1) and (np.diff(true) >= 0).all()


def test_a_threshold_holds_back_what_is_beyond_it() -> None:
    lpips = np.linspace(0.0, 0.4, 80)
    report, curves = row([(20 * lpips, lpips, 40 - lpips), (20 * lpips, lpips, 40 - lpips)])
    assert report["frames"] == 160 and report["spearman_lpips"] == pytest.approx(1.0, abs=1e-3)
    assert report["auc_worst_quarter"] == 1.0 and set(curves) == {"worst_tenth", "worst_quarter"}
    by_tau = {one["tau"]: one for one in report["tau"]}
    assert list(by_tau) == list(TAUS)
    assert by_tau[6.0]["held_back"] == pytest.approx(0.25, abs=0.02)
    assert by_tau[6.0]["of_them_bad"] == 1.0 and by_tau[6.0]["of_bad_held_back"] == pytest.approx(1.0, abs=0.05)
    assert by_tau[6.0]["lpips_passed"] == pytest.approx(0.15, abs=0.01) and by_tau[8.0]["of_them_bad"] is None
