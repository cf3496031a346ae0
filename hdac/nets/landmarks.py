"""The landmark student: where the 68 landmarks (`hdac.landmarks`) of a face are.

    whole picture at 64x64 -> coarse network -> 68 points -> a square around them, the eyes level
    that square at 112x112 -> fine network   -> 68 points, and again from the square around those

Learnt from a teacher (PFLD, which has three times the parameters and needs a face detector in front of it). Both networks are
stacks of MobileNetV2's blocks (Sandler et al., CVPR 2018) that end in one linear layer. Points are (x, y) in [-1, 1] of the
picture, the centres of its corner samples, as sampling grids have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdac.landmarks import COUNT, OUTER_EYE_CORNERS
from hdac.nets.layers import InvertedResidual, conv, coordinate_grid
from hdac.nets.picture import PACKED_CHANNELS
from hdac.nets.settings import NetworkSettings

SURE, LOST = 0.02, 0.2
"""Chosen, in distances of outer eye corners from pass to pass: a face that agrees so well with itself is not looked for
anew, and one that agrees no better is lost."""

MARGIN = 1.3
"""Chosen: side of the square around a face, in those of the longer side of its points' extent."""


TRAINED_SIDE, LARGE_SIDE = 128, 160
"""Of packed pictures: those of training, and the largest that are not reduced."""


class Square(NamedTuple):
    """Squares of pictures. centre: (B, 2), x and y in luma samples; side: (B,), likewise; angle: (B,) in radians, from the x
    axis towards y, of the direction that becomes level."""

    centre: Tensor
    side: Tensor
    angle: Tensor

    def grid(self, n: int) -> Tensor:
        """Where n x n samples of the square lie, from corner to corner: (B, n, n, 2) in luma samples of the picture."""
        unit = coordinate_grid(n, n, self.side) * (0.5 * self.side[:, None, None, None])
        return _turned(unit, self.angle[:, None, None]) + self.centre[:, None, None]

    def to_picture(self, points: Tensor) -> Tensor:
        """Points (B, K, 2) in [-1, 1] of the square, in luma samples of the picture."""
        return _turned(points * (0.5 * self.side[:, None, None]), self.angle[:, None]) + self.centre[:, None]

    def from_picture(self, points: Tensor) -> Tensor:
        """The reverse of `to_picture`."""
        return _turned(points - self.centre[:, None], -self.angle[:, None]) / (0.5 * self.side[:, None, None])


def _turned(offset: Tensor, angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    x, y = offset.unbind(-1)
    return torch.stack((c * x - s * y, s * x + c * y), dim=-1)


def to_samples(points: Tensor, height: int, width: int) -> Tensor:
    """Points in [-1, 1] of a picture of that luma size, in luma samples."""
    return (points + 1) * 0.5 * torch.tensor([width - 1.0, height - 1.0], device=points.device)


def from_samples(points: Tensor, height: int, width: int) -> Tensor:
    """The reverse of `to_samples`."""
    return points / (0.5 * torch.tensor([width - 1.0, height - 1.0], device=points.device)) - 1


def square_around(points: Tensor, margin: float = MARGIN) -> Square:
    """Around landmarks (B, 68, 2) in luma samples."""
    low, high = points.amin(1), points.amax(1)
    left, right = (points[:, i] for i in OUTER_EYE_CORNERS)
    dx, dy = (right - left).unbind(-1)
    side = (margin * (high - low).amax(-1)).clamp_min(8.0)
    return Square((low + high) / 2, side, torch.atan2(dy, dx))


def cut(picture: Tensor, square: Square, n: int) -> Tensor:
    """Squares of packed pictures (B, 6, H/2, W/2) as packed pictures of n x n luma samples (B, 6, n/2, n/2), interpolated; the
    edge is held."""
    luma = F.pixel_shuffle(picture[:, :4].float(), 2)
    height, width = luma.shape[-2:]
    grid = from_samples(square.grid(n), height, width)
    seen = F.grid_sample(luma, grid, mode="bilinear", padding_mode="border", align_corners=True)
    coarse = from_samples(square.grid(n // 2), height, width)
    chroma = F.grid_sample(picture[:, 4:].float(), coarse, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.cat((F.pixel_unshuffle(seen, 2), chroma), dim=1).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LandmarkSettings(NetworkSettings):
    """Sizes of the two networks."""

    name: str = "landmarks"
    sides: tuple[int, int] = (64, 112)
    """Of what the coarse and the fine network see, in luma samples."""
    widths: tuple[int, ...] = (24, 32, 48, 80)
    """Channels at half that size, a quarter, .."""
    n_blocks: int = 2
    """At each size."""
    last: int = 32
    """Channels at the smallest size before the linear layer."""
    expansion: int = 3
    passes: int = 1
    """Of the fine network, each from where the one before it has found the face."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise ValueError(f"{self.passes} passes")


SIZES = {settings.name: settings for settings in (LandmarkSettings(passes=3),)}


class PointRegressor(nn.Module):
    """A packed picture of `side` luma samples, (B, 6, side/2, side/2), to 68 points in [-1, 1], (B, 68, 2)."""

    def __init__(self, s: LandmarkSettings, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(PACKED_CHANNELS, s.widths[0]), nn.BatchNorm2d(s.widths[0]), nn.ReLU(inplace=True)]
        n_in, left = s.widths[0], side // 2
        for level, width in enumerate(s.widths):
            for i in range(s.n_blocks):
                layers.append(InvertedResidual(n_in, width, s.expansion, stride=2 if level and not i else 1))
                n_in = width
            left = -(-left // 2) if level else left
        layers += [conv(n_in, s.last, 1), nn.BatchNorm2d(s.last), nn.ReLU(inplace=True), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.points = nn.Linear(s.last * left * left, 2 * COUNT)

    def forward(self, picture: Tensor) -> Tensor:
        seen = self.body(picture - 0.5)
        with torch.autocast(seen.device.type, enabled=False):  # positions are geometry
            points: Tensor = self.points(seen.float())
        return points.view(-1, COUNT, 2)


class LandmarkNet(nn.Module):
    """Both networks, one after the other."""

    parts = ()
    finders = ("coarse", "fine")
    """As of `hdac.nets.animation.PointNet`."""

    def __init__(self, settings: LandmarkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.coarse, self.fine = (PointRegressor(settings, side) for side in settings.sides)

    def whole(self, picture: Tensor) -> Square:
        """The square that has all of the pictures in it, (B, 6, H/2, W/2)."""
        b, _, height, width = picture.shape
        middle = torch.tensor([width - 0.5, height - 0.5], device=picture.device)
        side = torch.full((b,), 2.0 * max(height, width) - 1, device=picture.device)
        return Square(middle.expand(b, 2), side, torch.zeros(b, device=picture.device))

    def forward(self, picture: Tensor) -> Tensor:
        """Landmarks of packed pictures, (B, 68, 2) in [-1, 1]."""
        picture = _small_enough(picture)
        return _of_picture(self._passes(picture, self._coarse(picture))[-1], picture)

    def follow(self, picture: Tensor, before: Tensor) -> Tensor:
        """Likewise, of one picture behind another whose landmarks are known: from there, which is steadier and stays with one
        face, unless what is found anew agrees better with itself, from pass to pass.

        before: (1, 68, 2).
        """
        picture = _small_enough(picture)
        known = to_samples(before, *(2 * n for n in picture.shape[-2:]))
        size = (2 * picture.shape[-2], 2 * picture.shape[-1])
        followed = self._passes(picture, known)
        off = _disagreement(followed, *size)
        if off > SURE:
            anew = self._passes(picture, self._coarse(picture))
            followed = followed if off <= min(_disagreement(anew, *size), LOST) else anew
        return _of_picture(followed[-1], picture)

    def _coarse(self, picture: Tensor) -> Tensor:
        """In luma samples, as all that follows."""
        whole = self.whole(picture)
        return whole.to_picture(self.coarse(cut(reduced(picture), whole, self.settings.sides[0])))

    def _passes(self, picture: Tensor, found: Tensor) -> list[Tensor]:
        """Points behind every pass of the fine network."""
        behind = []
        for _ in range(self.settings.passes):
            square = square_around(found)
            found = square.to_picture(self.fine(cut(picture, square, self.settings.sides[1])))
            behind.append(found)
        return behind


def _small_enough(picture: Tensor) -> Tensor:
    longest = max(picture.shape[-2:])
    if longest <= LARGE_SIDE:
        return picture
    # what it was trained on was finer sampled than a large picture would be
    smaller = [max(1, round(n * TRAINED_SIDE / longest)) for n in picture.shape[-2:]]
    return F.interpolate(picture.float(), size=smaller, mode="area")


def _of_picture(points: Tensor, picture: Tensor) -> Tensor:
    """Points in luma samples, in [-1, 1]."""
    height, width = (2 * n for n in picture.shape[-2:])
    return from_samples(points, height, width)


def _disagreement(passes: list[Tensor], height: int, width: int) -> float:
    """Of the last two passes of one picture of that luma size, in distances of outer eye corners; 0 of a single one."""
    if len(passes) < 2:
        return 0.0
    left, right = (passes[-1][0, i] for i in OUTER_EYE_CORNERS)
    size = torch.tensor([width, height], device=passes[-1].device)
    if (passes[-1].mean(1) < 0).any() or (passes[-1].mean(1) > size).any() or square_around(passes[-1]).side > 1.5 * size.max():
        return math.inf  # what drifts out of the picture, or grows beyond it, agrees with itself at last
    return float((passes[-1] - passes[-2]).norm(dim=-1).mean() / (right - left).norm().clamp_min(1.0))


def reduced(picture: Tensor) -> Tensor:
    """Without what a picture four times as small cannot show: the coarse network sees it without aliasing."""
    return F.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
