"""Patch discriminator of the first-order motion model (vox-adv-256): what tells real pictures from fused ones in training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Discriminator(nn.Module):
    """Four 4x4 convolutions without padding, instance norm from the second on, leaky ReLU 0.2, 2x2 mean; then 1x1.

    Returns the features of each block and the prediction map. Spectral norm on every convolution, as in vox-256.
    """

    def __init__(self, n_in: int = 3, width: int = 32, max_width: int = 512, depth: int = 4) -> None:
        super().__init__()
        widths = [n_in, *(min(max_width, width << level + 1) for level in range(depth))]
        self.blocks = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4)) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for width in widths[2:])
        self.last = nn.utils.parametrizations.spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """picture: R'G'B' (B, n_in, H, W) in [0, 1], H and W at least 96."""
        features = []
        x = picture
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i > 0:
                x = self.norms[i - 1](x)
            x = F.leaky_relu(x, 0.2)
            if i < len(self.blocks) - 1:
                x = F.avg_pool2d(x, 2)
            features.append(x)
        return features, self.last(x)
