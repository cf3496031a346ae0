"""The convex hull that an anchor is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rd.hull import upper_hull

points = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), min_size=1, max_size=30)


def test_points_below_the_line_between_their_neighbours_are_left_out() -> None:
    assert upper_hull([10, 20, 30, 40], [30, 32, 36, 37]) == [0, 2, 3]


def test_points_that_cost_more_and_are_no_better_are_left_out() -> None:
    assert upper_hull([10, 12, 20], [30, 29, 33]) == [0, 2]
    assert upper_hull([10, 10, 20], [30, 31, 31]) == [1]


@given(points)
def test_hull_starts_at_the_lowest_rate_ends_at_the_best_quality_and_bends_down(data: list[tuple[int, int]]) -> None:
    rates, qualities = zip(*data, strict=True)
    hull = upper_hull(rates, qualities)
    assert rates[hull[0]] == min(rates)
    assert qualities[hull[-1]] == max(qualities)
    slopes = [
        (qualities[b] - qualities[a]) / (rates[b] - rates[a]) for a, b in zip(hull, hull[1:], strict=False)
    ]
    assert all(s > 0 for s in slopes)
    assert all(later < earlier for earlier, later in zip(slopes, slopes[1:], strict=False))


@given(points)
def test_no_point_lies_above_the_hull(data: list[tuple[int, int]]) -> None:
    rates, qualities = zip(*data, strict=True)
    hull = upper_hull(rates, qualities)
    for rate, quality in data:
        assert quality <= qualities[hull[-1]]
        for a, b in zip(hull, hull[1:], strict=False):
            if rates[a] <= rate <= rates[b]:
                share = (rate - rates[a]) / (rates[b] - rates[a])
                assert quality <= qualities[a] + share * (qualities[b] - qualities[a]) + 1e-9


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rates do not fit 1"):
        upper_hull([1, 2], [3])
