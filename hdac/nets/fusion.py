"""Fusion of warped reference features with base-layer features: four answers to one question.

The paper (Konuko et al., "A hybrid deep animation codec for low-bitrate video conferencing", ICIP 2022) speaks of
concatenation and spatial attention; the authors' code of 2022 adds, that of 2024 concatenates. A fusion maps

    animated (B, C, h, w), base (B, C, h, w), condition (B, n) -> (B, C, h, w)

and a new one is a class with this `forward` and an entry of FUSIONS.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdac.nets.layers import ResBlock, SameBlock, conv


class _Chain(nn.Module):
    """Residual blocks that share a condition."""

    def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(channels, n_condition, normalise) for _ in range(n_blocks))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class Add(nn.Module):
    """Two chains of residual blocks side by side; after each block the base-layer features are added (2022 code)."""

    def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
        super().__init__()
        self.main = nn.ModuleList(ResBlock(channels, n_condition, normalise) for _ in range(n_blocks))
        self.side = nn.ModuleList(ResBlock(channels, n_condition, normalise) for _ in range(n_blocks))

    def forward(self, animated: Tensor, base: Tensor, condition: Tensor | None) -> Tensor:
        for main, side in zip(self.main, self.side, strict=True):
            base = side(base, condition)
            animated = main(animated, condition) + base
        return animated


class Concat(nn.Module):
    """Both, side by side, through residual blocks of twice the width (2024 code)."""

    def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
        super().__init__()
        self.chain = _Chain(2 * channels, n_blocks, n_condition, normalise)
        self.narrow = SameBlock(2 * channels, channels, normalise=normalise)

    def forward(self, animated: Tensor, base: Tensor, condition: Tensor | None) -> Tensor:
        out: Tensor = self.narrow(self.chain(torch.cat((animated, base), dim=1), condition))
        return out


class _Unit(nn.Module):
    """1x1 to half the channels, 3x3, 1x1 back, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = nn.Sequential(
            conv(channels, half, 1), nn.ReLU(), conv(half, half), nn.ReLU(), conv(half, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class SpatialAttention(nn.Module):
    """Simplified attention of Cheng et al., "Learned image compression with discretized Gaussian mixture likelihoods and
    attention modules", CVPR 2020, section 3.3: x + trunk(x) * sigmoid(mask(x)); CompressAI's AttentionBlock."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(_Unit(channels) for _ in range(3)))
        self.mask = nn.Sequential(*(_Unit(channels) for _ in range(3)), conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.trunk(x) * torch.sigmoid(self.mask(x))
        return out


class Attention(nn.Module):
    """Concatenated, narrowed, weighted by spatial attention, then residual blocks: the paper."""

    def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
        super().__init__()
        self.narrow = conv(2 * channels, channels, kernel=1)
        self.attention = SpatialAttention(channels)
        self.chain = _Chain(channels, n_blocks, n_condition, normalise)

    def forward(self, animated: Tensor, base: Tensor, condition: Tensor | None) -> Tensor:
        out: Tensor = self.chain(self.attention(self.narrow(torch.cat((animated, base), dim=1))), condition)
        return out


class Gated(nn.Module):
    """Concatenated, narrowed, residual blocks (ours).

    What makes it `gated` is the end of the decoder: the network's output is no picture but a correction to the decoded
    base layer and a confidence to weigh it with, both zero in effect before training.
    """

    def __init__(self, channels: int, n_blocks: int, n_condition: int, normalise: bool) -> None:
        super().__init__()
        self.narrow = conv(2 * channels, channels, kernel=1)
        self.chain = _Chain(channels, n_blocks, n_condition, normalise)

    def forward(self, animated: Tensor, base: Tensor, condition: Tensor | None) -> Tensor:
        out: Tensor = self.chain(self.narrow(torch.cat((animated, base), dim=1)), condition)
        return out


FUSIONS: dict[str, type[nn.Module]] = {"add": Add, "concat": Concat, "attention": Attention, "gated": Gated}
