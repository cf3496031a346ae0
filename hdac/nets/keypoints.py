"""Keypoint detector of the first-order motion model: where K learned points of a face are, and optionally how their
surroundings are turned and stretched.

    64x64 picture -> hourglass -> 7x7 -> spatial softmax, temperature 0.1 -> soft-argmax -> (K, 2)
                               \\-> 7x7 -> mean under each heat map                      -> (K, 2, 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hdac.nets.layers import Hourglass, coordinate_grid

TEMPERATURE = 0.1  # FOMM, vox-256
HEAT_SIDE = 64 - 6  # of heat maps: without padding
ANCHOR_REACH = (0.7, 0.8)  # chosen: of anchors, from the centre, in x and y, so that they see shoulders and hair, too
ANCHOR_FOCUS = (0.0, 0.2)  # chosen: what is nearest to it is most important: eyes and mouth of a face in the middle


class Keypoints(NamedTuple):
    """Where the points are.

    position: (B, K, 2), (x, y) in [-1, 1].
    jacobian: (B, K, 2, 2), or None.
    """

    position: Tensor
    jacobian: Tensor | None = None


@dataclass(frozen=True)
class DetectorSettings:
    """Size of a keypoint detector; the defaults are FOMM's, 14.2 M parameters with Jacobians."""

    n_keypoints: int = 10
    jacobians: bool = True
    width: int = 32
    max_width: int = 1024
    depth: int = 5
    anchored: float = 0.0
    """Width of a bell around a place of its own, on a regular grid, that a keypoint is looked for in (ours); 0: anywhere."""


class KeypointDetector(nn.Module):
    """Small pictures (64x64, of `n_in` channels) to keypoints."""

    near: Tensor | None
    """(K, heat map's samples): logarithm of a bell around each anchor."""

    def __init__(self, settings: DetectorSettings, n_in: int) -> None:
        super().__init__()
        self.settings = settings
        self.hourglass = Hourglass(n_in, settings.width, settings.max_width, settings.depth)
        # without padding, as in FOMM: heat maps are 6 smaller than the hourglass
        self.heat = nn.Conv2d(self.hourglass.n_out, settings.n_keypoints, 7)
        near = None
        if settings.anchored:
            near = around_anchors(settings.n_keypoints, HEAT_SIDE, settings.anchored)
            nn.init.zeros_(self.heat.weight)  # at the anchors, to begin with
            assert self.heat.bias is not None
            nn.init.zeros_(self.heat.bias)
        self.register_buffer("near", near, persistent=False)
        self.jacobian = nn.Conv2d(self.hourglass.n_out, 4 * settings.n_keypoints, 7) if settings.jacobians else None
        if self.jacobian is not None:  # the identity, to begin with
            nn.init.zeros_(self.jacobian.weight)
            assert self.jacobian.bias is not None
            self.jacobian.bias.data = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(settings.n_keypoints)

    def forward(self, picture: Tensor) -> Keypoints:
        """picture: (B, n_in, 64, 64) in [0, 1]."""
        features = self.hourglass(picture)
        return from_maps(self.heat(features), None if self.jacobian is None else self.jacobian(features), self.near)


def from_maps(heat: Tensor, jacobian: Tensor | None, near: Tensor | None) -> Keypoints:
    """Soft-argmax of heat maps (B, K, h, w), and the means of (B, 4 K, h, w) under them. near: see `KeypointDetector`."""
    heat = heat.float()
    b, k, h, w = heat.shape
    scores = heat.reshape(b, k, -1) / TEMPERATURE
    weights = torch.softmax(scores if near is None else scores + near, dim=-1)
    grid = coordinate_grid(h, w, heat).view(-1, 2)
    # products, not matrix products: autocast would round positions to bfloat16, half a pixel
    position = (weights[..., None] * grid).sum(2)
    if jacobian is None:
        return Keypoints(position)
    means = (weights[:, :, None] * jacobian.float().reshape(b, k, 4, -1)).sum(-1)
    return Keypoints(position, means.view(b, k, 2, 2))


def around_anchors(count: int, side: int, width: float) -> Tensor:
    """Logarithm of a bell of this width around each of `anchors`: (count, side * side)."""
    grid = coordinate_grid(side, side, torch.zeros(1)).view(-1, 2)
    squared = (grid - anchors(count)[:, None]).square().sum(-1)
    return -squared / (2 * width**2)


def anchors(count: int) -> Tensor:
    """Places of keypoints on a regular grid over most of the picture, the most important ones first: (count, 2), (x, y) in
    [-1, 1]."""
    columns = max(1, round((0.8 * count) ** 0.5))
    rows = -(-count // columns)
    y, x = (torch.linspace(-reach, reach, n) for reach, n in ((ANCHOR_REACH[1], rows), (ANCHOR_REACH[0], columns)))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)
    return places[(places - torch.tensor(ANCHOR_FOCUS)).square().sum(-1).argsort(stable=True)][:count]
