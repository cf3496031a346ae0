"""Blocks of networks that see a face in three dimensions: volumes are float32 (B, C, D, h, w), D slices in depth.

Depth keeps its size everywhere; "down" halves and "up" doubles height and width only (Wang et al., "One-shot free-view neural
talking-head synthesis for video conferencing", CVPR 2021, appendix A, Fig. 13).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdac.nets.layers import UNet


class Conv3d(nn.Conv3d):
    """A convolution that keeps the size.

    One volume without gradients, on a CPU: as a convolution of pictures, each slice beside its neighbours in depth. The same
    sums, and two to nine times as fast as torch's own there. Batches go to torch's, faster where samples' channels lie
    together.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int = 3) -> None:
        super().__init__(n_in, n_out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1 or x.is_cuda or torch.is_grad_enabled():
            return super().forward(x.contiguous(memory_format=torch.channels_last_3d))
        d, (n_out, n_in, k, _, _) = x.shape[2], self.weight.shape
        slices = x[0].permute(1, 2, 3, 0)
        if k > 1:
            padded = F.pad(slices, (0, 0, 0, 0, 0, 0, k // 2, k // 2))
            slices = torch.cat([padded[i : i + d] for i in range(k)], dim=-1)
        weight = self.weight.transpose(1, 2).reshape(n_out, k * n_in, k, k)
        out = F.conv2d(slices.permute(0, 3, 1, 2), weight, self.bias, padding=k // 2)
        return out.transpose(0, 1)[None]


class SameBlock3d(nn.Sequential):
    """Convolution, norm, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3) -> None:
        super().__init__(Conv3d(n_in, n_out, kernel), nn.BatchNorm3d(n_out), nn.ReLU(inplace=True))


class DownBlock3d(nn.Sequential):
    """Half the height and width: convolution, norm, ReLU, 1x2x2 mean."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(*SameBlock3d(n_in, n_out), nn.AvgPool3d((1, 2, 2)))


class UpBlock3d(nn.Module):
    """Twice the height and width: nearest neighbour, convolution, norm, ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.block = SameBlock3d(n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        return out


class ResBlock3d(nn.Module):
    """norm, ReLU, convolution, twice, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels)
        self.conv1, self.conv2 = Conv3d(channels, channels), Conv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.relu(self.norm2(h)))
        return out


class Hourglass3d(UNet):
    """U-Net over volumes: `depth` down blocks, as many up blocks, skips by concatenation; n_out = width + n_in channels."""

    def __init__(self, n_in: int, width: int, max_width: int, depth: int) -> None:
        super().__init__()
        widths = [n_in, *(min(max_width, width << level + 1) for level in range(depth))]
        self.down = nn.ModuleList(DownBlock3d(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            n_skipped = 1 if level == depth - 1 else 2  # all but the innermost get a skip beside their input
            self.up.append(UpBlock3d(n_skipped * widths[level + 1], min(max_width, width << level)))
        self.n_out = width + n_in


def coordinate_grid3d(depth: int, height: int, width: int, like: Tensor) -> Tensor:
    """(depth, height, width, 3) of (x, y, z); -1 and 1 are the centres of the corner samples."""
    z, y, x = (torch.linspace(-1, 1, n, device=like.device, dtype=torch.float32) for n in (depth, height, width))
    grid = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack(grid[::-1], dim=-1)


def warp3d(volume: Tensor, deformation: Tensor) -> Tensor:
    """Backward warping of volumes (B, C, D, h, w) by (B, D, h, w, 3), (x, y, z) in [-1, 1]. Outside, the edge is held."""
    warped = F.grid_sample(
        volume.float(), deformation.float(), mode="bilinear", padding_mode="border", align_corners=True
    )
    return warped.to(volume.dtype)
