"""What a training run minimises. Pictures are packed 4:2:0 (`hdac.nets.picture`) unless it says RGB.

The main term is the quality that the tables report: PSNR in dB, so that a decibel counts the same in a calm clip and in a
moving one, where a mean squared error would look at the moving one only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hdac.nets.keypoints import Keypoints
from hdac.nets.layers import coordinate_grid

SIGMA_AFFINE, SIGMA_TPS, CONTROL_POINTS = 0.05, 0.005, 5  # FOMM, vox-256

FLOOR = 1e-5
"""Added to a mean squared error before its logarithm: 50 dB is good enough."""


def psnr_db(picture: Tensor, target: Tensor) -> Tensor:
    """PSNR of (6 Y + U + V) / 8, per picture: (B,), in dB, peak 1."""
    squared = (picture.float() - target.float()) ** 2
    luma, chroma = squared[:, :4].mean((1, 2, 3)), squared[:, 4:].mean((1, 2, 3))
    return -10 * torch.log10((3 * luma + chroma) / 4 + FLOOR)


def psnr_y_db(picture: Tensor, target: Tensor) -> Tensor:
    """PSNR of luma, per picture: (B,), in dB; what validation reports. Pictures are rounded and clamped first."""
    picture = (picture[:, :4].float().clamp(0, 1) * 255).round() / 255
    return -10 * torch.log10(((picture - target[:, :4]) ** 2).mean((1, 2, 3)) + 1e-10)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares GAN of FOMM: real to 1, fake to 0."""
    return ((1 - real) ** 2 + fake**2).mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's features, summed over its blocks."""
    return torch.stack([F.l1_loss(b, a.detach()) for a, b in zip(real, fake, strict=True)]).sum()


class ThinPlateSpline:
    """A random smooth deformation of the plane, for FOMM's equivariance loss."""

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.theta = torch.eye(2, 3).expand(batch, 2, 3) + SIGMA_AFFINE * torch.randn(batch, 2, 3, generator=generator)
        self.control = coordinate_grid(CONTROL_POINTS, CONTROL_POINTS, self.theta).reshape(1, -1, 2)
        self.weights = SIGMA_TPS * torch.randn(batch, 1, CONTROL_POINTS**2, generator=generator)

    def __call__(self, positions: Tensor) -> Tensor:
        """positions: (B, N, 2) in [-1, 1] -> where they go."""
        device = positions.device
        theta, control, weights = self.theta.to(device), self.control.to(device), self.weights.to(device)
        moved = (theta[:, None, :, :2] * positions[:, :, None]).sum(-1) + theta[:, None, :, 2]
        squared = (positions[:, :, None].sub(control[:, None]).abs().sum(-1)) ** 2  # FOMM takes the L1 distance
        radial = (squared * torch.log(squared + 1e-6) * weights).sum(-1, keepdim=True)
        return moved + radial

    def deform(self, picture: Tensor) -> Tensor:
        """picture: (B, C, h, w), sampled where its pixels go; what leaves it is mirrored."""
        b, _, h, w = picture.shape
        grid = coordinate_grid(h, w, picture).reshape(1, -1, 2).expand(b, -1, 2)
        return F.grid_sample(
            picture, self(grid).view(b, h, w, 2).to(picture.dtype), padding_mode="reflection", align_corners=True
        )


def equivariance(found: Keypoints, transformed: Keypoints, transform: ThinPlateSpline) -> Tensor:
    """FOMM Eq. 9: keypoints of a deformed picture, mapped back, are those of the picture. Mean absolute difference."""
    return (found.position - transform(transformed.position)).abs().mean()
