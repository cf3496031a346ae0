"""The segmentation student: which part of a face, one of `hdac.label_maps.N_LABELS` classes, is seen where.

    picture at 64x64 -> U-Net of MobileNetV2's blocks -> scores of every class (B, 15, 64, 64)

Learnt from a teacher (`hdac.training.teachers`). SegFace sends what it says (`hdac.nets.synthesis`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hdac.label_maps import N_LABELS
from hdac.nets.animation import MobileHourglass
from hdac.nets.layers import AntiAlias, SameBlock, conv
from hdac.nets.picture import PACKED_CHANNELS
from hdac.nets.settings import NetworkSettings

SIDE = 64


@dataclass(frozen=True)
class SegmentationSettings(NetworkSettings):
    """Size of the network."""

    name: str = "segmentation"
    width: int = 24
    max_width: int = 96
    depth: int = 4
    expansion: int = 3


SIZES = {settings.name: settings for settings in (SegmentationSettings(),)}


class SegmentationNet(nn.Module):
    """Scores of every class."""

    parts = ()
    finders = ("scored",)
    """As of `hdac.nets.animation.PointNet`."""

    def __init__(self, settings: SegmentationSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.reduce = AntiAlias(PACKED_CHANNELS, factor=2)
        self.first = SameBlock(PACKED_CHANNELS, s.width)
        self.hourglass = MobileHourglass(s.width, s.width, s.max_width, s.depth, s.expansion)
        self.scores = conv(self.hourglass.n_out, N_LABELS)

    def forward(self, picture: Tensor, side: int = SIDE) -> Tensor:
        """Of packed pictures (B, 6, H/2, W/2): (B, N_LABELS, side, side)."""
        if picture.shape[-2:] == (SIDE * self.reduce.factor,) * 2:
            small: Tensor = self.reduce(picture)
        else:
            small = F.interpolate(picture.float(), size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        scores = self.scored(small)
        if side == SIDE:
            return scores
        return F.interpolate(scores, size=(side, side), mode="bilinear", antialias=True, align_corners=False)

    def scored(self, small: Tensor) -> Tensor:
        """Of (B, 6, SIDE, SIDE): (B, N_LABELS, SIDE, SIDE)."""
        scores: Tensor = self.scores(self.hourglass(self.first(small - 0.5))).float()
        return scores
