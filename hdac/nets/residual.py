"""Binary residuals: what a decoded picture lacks, as signs (Wang et al., CVPR 2021, section C.3, after Tsai et al., "Learning
binary residual representations for domain-specific video streaming", AAAI 2018).

    source - picture --> 3 convolutions, stride 2 --> sign: 32 x H/8 x W/8 bits --> 3 convolutions of 128 filters, pixel shuffle
                                                           |                         --> correction, added to the picture
                                                           +--> context model (ours): P(bit) from bits before it

Differences are divided by a gain, their root mean square, so that large and small ones look alike. Blocks of BLOCK x BLOCK
latent samples may be left out: their signs are 0, and training has seen such holes.

The context model is a logistic regression of every sign on those before it: the 32 at each of the places to the left, above
left, above and above right, and the ones at its own place in lower channels. Its weights are rounded to integers
(`ContextModel.integers`), signs are integers, so both sides of a stream compute the very same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data.errors import InputError
from hdac.nets.layers import conv
from hdac.nets.picture import PACKED_CHANNELS
from hdac.nets.settings import NetworkSettings

SHRINK = 8
"""Luma samples a side to a latent one."""
BLOCK = 4
"""Latent samples a side of a block that may be left out: 32 luma samples."""
UNIT = 256
"""Integers of the context model to a unit of log-odds."""


@dataclass(frozen=True)
class ResidualSettings(NetworkSettings):
    """The published ones by default; a checkpoint carries them."""

    name: str = "residual"
    channels: int = 32
    filters: int = 128

    multiple = SHRINK * BLOCK
    """Pictures are padded to multiples of this, in luma samples."""

    def __post_init__(self) -> None:
        if self.channels < 1 or self.filters < 4 or self.filters % 4:
            raise InputError(f"channels {self.channels} and filters {self.filters} are no residual network")


SIZES = {"residual": ResidualSettings()}


class ContextModel(nn.Module):
    """P(sign = +1) of every sign of (B, C, h, w), from those before it in raster order of places, channel by channel."""

    mask: Tensor
    PLACES = ((0, -1), (-1, -1), (-1, 0), (-1, 1))
    """(row, column) of the neighbours, from the place itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neighbours = nn.Parameter(torch.zeros(len(self.PLACES), channels, channels))
        self.below = nn.Parameter(torch.zeros(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mask", torch.tril(torch.ones(channels, channels), -1), persistent=False)

    def forward(self, signs: Tensor) -> Tensor:
        """signs: (B, C, h, w) of -1, 1 and, where something is left out, 0, which tells nothing. Returns the log-odds of +1,
        (B, C, h, w)."""
        h, w = signs.shape[-2:]
        padded = F.pad(signs, (1, 1, 1, 0))
        total = F.conv2d(signs, (self.below * self.mask)[:, :, None, None], self.bias)
        for (row, column), weight in zip(self.PLACES, self.neighbours, strict=True):
            moved = padded[:, :, 1 + row : 1 + row + h, 1 + column : 1 + column + w]
            total = total + F.conv2d(moved, weight[:, :, None, None])
        return total

    def integers(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Weights of the neighbours (4, C, C) and of lower channels (C, C), and bias (C,), in 1 / UNIT."""
        parts = (self.neighbours, self.below * self.mask, self.bias)
        neighbours, below, bias = ((part.detach().double() * UNIT).round().long().cpu().numpy() for part in parts)
        return neighbours, below, bias


class ResidualNet(nn.Module):
    """Encoder, decoder and context model. Pictures are packed (`hdac.nets.picture`)."""

    def __init__(self, settings: ResidualSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.encoder = nn.Sequential(
            conv(3, s.channels, 3, 2),
            nn.ReLU(inplace=True),
            conv(s.channels, s.channels, 3, 2),
            nn.ReLU(inplace=True),
            conv(s.channels, s.channels, 3, 2),
        )
        quarter = s.filters // 4
        self.decoder = nn.Sequential(
            conv(s.channels, s.filters),
            nn.PixelShuffle(2),
            nn.ReLU(inplace=True),
            conv(quarter, s.filters),
            nn.PixelShuffle(2),
            nn.ReLU(inplace=True),
            conv(quarter, s.filters),
            nn.ReLU(inplace=True),
            # packed pictures have four luma samples to a pixel: the last pixel shuffle is theirs
            conv(s.filters, PACKED_CHANNELS, 1),
        )
        self.context = ContextModel(s.channels)

    def encode(self, difference: Tensor) -> Tensor:
        """Source less picture, divided by the gain, packed (B, 6, H/2, W/2), to what the signs are those of: (B, C, H/8,
        W/8)."""
        luma = F.pixel_shuffle(difference[:, :4], 2)
        chroma = F.interpolate(difference[:, 4:], scale_factor=2, mode="nearest")
        latent: Tensor = self.encoder(torch.cat((luma, chroma), dim=1))
        return latent

    def decode(self, signs: Tensor, blocks: Tensor) -> Tensor:
        """Signs (B, C, H/8, W/8) and which blocks of them are there, (B, 1, H/32, W/32), to the correction in units of the
        gain, packed. Signs of blocks that are not there are 0; nothing is corrected further away than the blocks around."""
        correction: Tensor = self.decoder(signs)
        near = F.max_pool2d(blocks, 3, 1, padding=1)
        return correction * F.interpolate(near, size=correction.shape[-2:], mode="nearest").to(correction.dtype)


N_GAINS = 32


def gain_of(number: Tensor) -> Tensor:
    """Gains of numbers in 0..N_GAINS - 1, in parts of the full range: quarter octaves from 0.25 levels on."""
    return torch.exp2(number / 4) / 4 / 255


def gain_number(difference: Tensor) -> Tensor:
    """Of the gain nearest to the root mean square of packed differences (B, 6, h, w): (B,)."""
    rms = difference.float().square().mean((1, 2, 3)).sqrt() * 255 * 4
    return (4 * torch.log2(rms.clamp_min(1))).round().clamp(0, N_GAINS - 1)


def signs_of(latent: Tensor) -> Tensor:
    """+1 and -1; the gradient is that of a straight line between -1 and 1, and none outside (straight-through)."""
    hard = torch.where(latent >= 0, 1.0, -1.0).to(latent.dtype)
    soft = latent.clamp(-1, 1)
    return soft + (hard - soft).detach()


def blocks_to_samples(blocks: Tensor) -> Tensor:
    """Which blocks are there, (B, 1, h / BLOCK, w / BLOCK), for every latent sample of (h, w)."""
    return F.interpolate(blocks, scale_factor=BLOCK, mode="nearest")
