"""The upper convex hull of quality over rate: the points of a codec that no mix of its other points beats."""

from __future__ import annotations

from collections.abc import Sequence


def upper_hull(rates: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Indices of the hull's points, by rising rate, from the lowest rate to the highest quality.

    rates, qualities: one each per point; higher quality is better. Along the hull both rise and the slope falls, so every
    point on it is the best for some Lagrangian weight of rate against quality.

    >>> upper_hull([1, 2, 3, 4], [30, 31, 35, 34])
    [0, 2]
    """
    if len(rates) != len(qualities):
        raise ValueError(f"{len(rates)} rates do not fit {len(qualities)} qualities")
    hull: list[int] = []
    for i in sorted(range(len(rates)), key=lambda i: (rates[i], -qualities[i])):
        if hull and qualities[i] <= qualities[hull[-1]]:
            continue  # costs more (or the same) and is no better
        while len(hull) >= 2 and _below(hull[-2], hull[-1], i, rates, qualities):
            hull.pop()
        hull.append(i)
    return hull


def _below(a: int, b: int, c: int, rates: Sequence[float], qualities: Sequence[float]) -> bool:
    """Whether point b lies on or under the line from a to c."""
    return (qualities[b] - qualities[a]) * (rates[c] - rates[a]) <= (qualities[c] - qualities[a]) * (rates[b] - rates[a])
