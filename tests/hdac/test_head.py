"""Free view by a bulge around the landmarks: what turns, which way, and what stays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hdac.landmarks import FRONTAL, NOSE_TIP
from hdac.nets.head import turned_head
from hdac.nets.layers import coordinate_grid
from hdac.nets.vid2vid import rotation

FACE = 0.7 * torch.tensor([FRONTAL])
STILL = torch.zeros(1, 3)


def turned(degrees: tuple[float, float, float], translation: Tensor = STILL, side: int = 65) -> Tensor:
    angles = torch.tensor([[math.radians(angle) for angle in degrees]])
    return turned_head(FACE, rotation(angles), translation, (side, side))[0]


def sample_of(grid: Tensor, place: Tensor) -> int:
    """Index of the sample of a grid that shows what is at a place."""
    return int((grid - place).square().sum(-1).argmin())


def test_a_head_that_is_not_turned_stays() -> None:
    assert torch.allclose(turned((0, 0, 0)), coordinate_grid(65, 65, FACE), atol=1e-6)


@pytest.mark.parametrize(
    ("degrees", "axis", "sign"), [((20, 0, 0), 0, -1), ((-20, 0, 0), 0, 1), ((0, 15, 0), 1, -1), ((0, -15, 0), 1, 1)]
)
def test_the_nose_goes_to_the_left_and_up_and_the_ears_hardly_move(
    degrees: tuple[float, float, float], axis: int, sign: int
) -> None:
    plain, grid = coordinate_grid(65, 65, FACE).flatten(0, 1), turned(degrees).flatten(0, 1)
    nose, ear = FACE[0, NOSE_TIP], FACE[0, 0]
    moved = (plain[sample_of(grid, nose)] - nose)[axis] * sign
    of_ear = (plain[sample_of(grid, ear)] - ear)[axis].abs()
    assert 0.05 < moved < 0.25 and of_ear < 0.6 * moved


def test_what_is_far_from_the_head_stays_and_nothing_folds() -> None:
    grid, plain = turned((20, 10, 5)), coordinate_grid(65, 65, FACE)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.equal(grid[row, column], plain[row, column])
    assert (grid[:, 1:, 0] > grid[:, :-1, 0]).all() and (grid[1:, :, 1] > grid[:-1, :, 1]).all()


def test_a_head_that_comes_nearer_is_larger_and_one_that_is_moved_is_elsewhere() -> None:
    nearer, plain = turned((0, 0, 0), torch.tensor([[0.0, 0.0, 0.25]])), coordinate_grid(65, 65, FACE)
    middle = slice(28, 37)
    assert (nearer[middle, middle, 0].std() < 0.85 * plain[middle, middle, 0].std()).all()
    right = turned((0, 0, 0), torch.tensor([[0.2, 0.0, 0.0]]))
    assert torch.allclose(right[32, 32] + torch.tensor([0.2, 0.0]), plain[32, 32], atol=1e-3)


def test_wide_pictures_are_turned_as_square_ones() -> None:
    angles = rotation(torch.tensor([[0.3, 0.0, 0.0]]))
    narrow = FACE * torch.tensor([0.5, 1.0])  # the same face in a picture twice as wide
    square, wide = turned_head(FACE, angles, STILL, (65, 65)), turned_head(narrow, angles, STILL, (65, 129))
    assert torch.allclose(wide[0, 32, 64], square[0, 32, 32] * torch.tensor([0.5, 1.0]), atol=2e-3)
