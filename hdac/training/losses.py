"""What a training run minimises. Pictures are packed 4:2:0 (`hdac.nets.picture`) unless it says RGB.

The main term of the lite networks is the quality that the tables report: PSNR in dB, so that a decibel counts the same in a
calm clip and in a moving one, where a mean squared error would look at the moving one only. The others are those of the
papers; each has a weight in `TrainSettings`, and `hdac.nets.backbones` has the networks of the perceptual one.

All of it is in float32, whatever autocast says: keypoints, their Jacobians and deformations are geometry, and a structural
similarity is a difference of squares.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from data.errors import InputError
from hdac.nets.keypoints import Keypoints
from hdac.nets.layers import coordinate_grid, resize_field, warp

SIGMA_AFFINE, SIGMA_TPS, CONTROL_POINTS = 0.05, 0.005, 5  # FOMM, vox-256

FLOW_DOUBT = 10.0
"""Chosen: a flow that is off by a tenth of the range of samples is trusted 1/e as much."""

FLOOR = 1e-5
"""Added to a mean squared error before its logarithm: 50 dB is good enough."""

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al., Asilomar 2003, section 3.2, finest scale first
SSIM_WINDOW, SSIM_SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al., IEEE TIP 2004, section III.C
STRUCTURE_FLOOR = 1e-4
"""Least mean structure of a scale: at and below zero its real power has no gradient."""


def psnr_db(picture: Tensor, target: Tensor) -> Tensor:
    """PSNR of (6 Y + U + V) / 8, per picture: (B,), in dB, peak 1."""
    squared = (picture.float() - target.float()) ** 2
    luma, chroma = squared[:, :4].mean((1, 2, 3)), squared[:, 4:].mean((1, 2, 3))
    return -10 * torch.log10((3 * luma + chroma) / 4 + FLOOR)


def psnr_y_db(picture: Tensor, target: Tensor) -> Tensor:
    """PSNR of luma, per picture: (B,), in dB; what validation reports. Pictures are rounded and clamped first."""
    picture = (picture[:, :4].float().clamp(0, 1) * 255).round() / 255
    return -10 * torch.log10(((picture - target[:, :4]) ** 2).mean((1, 2, 3)) + 1e-10)


def ms_ssim(picture: Tensor, target: Tensor) -> Tensor:
    """MS-SSIM of luma (Wang, Simoncelli, Bovik, "Multi-scale structural similarity", Asilomar 2003), per picture: (B,).

    The value of the metric `ms_ssim_y`, from 176 luma samples a side on. Smaller pictures have as many of its five scales as
    hold an 11x11 window, finest first, their weights stretched to the sum of all five: four in a window of 128 samples.
    """
    with torch.autocast(picture.device.type, enabled=False):
        # less 0.5, and in sum and difference: float32 variances of a bright, flat area keep their digits
        x, y = (F.pixel_shuffle(packed[:, :4].float(), 2) - 0.5 for packed in (picture, target))
        n_scales = min(len(MS_SSIM_WEIGHTS), (min(x.shape[-2:]) // SSIM_WINDOW).bit_length())
        if n_scales == 0:
            raise InputError(f"MS-SSIM needs {SSIM_WINDOW} luma samples a side, got {x.shape[-1]}x{x.shape[-2]}")
        weights = MS_SSIM_WEIGHTS[:n_scales]
        stretch = sum(MS_SSIM_WEIGHTS) / sum(weights)
        product = torch.ones(len(x), device=x.device)
        for scale, weight in enumerate(weights):
            if scale:
                x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            similarity, structure = _ssim(x, y)
            last = scale == n_scales - 1  # luminance counts at the coarsest scale only
            product = product * (similarity if last else structure).clamp(min=STRUCTURE_FLOOR) ** (stretch * weight)
        return product


def _ssim(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(SSIM, its contrast-structure term), (B,) each, of planes (B, 1, h, w) in [-0.5, 0.5]; as `rd.metrics.fidelity`."""
    window = torch.exp(-((torch.arange(SSIM_WINDOW, device=x.device) - SSIM_WINDOW // 2) ** 2) / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).view(1, 1, 1, -1)

    def windowed(plane: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(plane, window), window.transpose(2, 3))

    total, difference = x + y, x - y
    mu_s, mu_d = windowed(total), windowed(difference)
    var_s, var_d = windowed(total**2) - mu_s**2, windowed(difference**2) - mu_d**2
    structure = (var_s - var_d + 2 * K2**2) / (var_s + var_d + 2 * K2**2)
    mu_s = mu_s + 1  # the means count from black again
    luminance = (mu_s**2 - mu_d**2 + 2 * K1**2) / (mu_s**2 + mu_d**2 + 2 * K1**2)
    return (luminance * structure).mean((1, 2, 3)), structure.mean((1, 2, 3))


# -- adversarial -----------------------------------------------------------------------------------------------------
# Least squares GAN of FOMM; per picture, (B,), for only some ask for best look


def adversarial_loss(fake: Tensor) -> Tensor:
    """Of the generator: its verdicts (B, 1, h, w) to 1."""
    return ((1 - fake.float()) ** 2).mean((1, 2, 3))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Of the discriminator: real verdicts to 1, fake ones to 0."""
    return ((1 - real.float()) ** 2 + fake.float() ** 2).mean((1, 2, 3))


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's features, summed over its blocks."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([(b.float() - a.detach().float()).abs().mean((1, 2, 3)) for a, b in pairs]).sum(0)


# -- equivariance ----------------------------------------------------------------------------------------------------


class ThinPlateSpline:
    """A random smooth deformation T of the plane, for FOMM's equivariance loss.

        T(z) = A z + b + (1, 1) sum_k w_k r_k^2 log r_k^2,    r_k the L1 distance to control point k, as FOMM has it

    A near the identity, b near zero. FOMM's logarithm is of r_k: its spline is bent half as much at the same sigma.
    """

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.theta = torch.eye(2, 3).expand(batch, 2, 3) + SIGMA_AFFINE * torch.randn(batch, 2, 3, generator=generator)
        self.control = coordinate_grid(CONTROL_POINTS, CONTROL_POINTS, self.theta).reshape(1, -1, 2)
        self.weights = SIGMA_TPS * torch.randn(batch, 1, CONTROL_POINTS**2, generator=generator)

    def __call__(self, positions: Tensor) -> Tensor:
        """positions: (B, N, 2) in [-1, 1], or (1, N, 2), the same of every picture -> where they go, (B, N, 2)."""
        device = positions.device
        theta, control, weights = self.theta.to(device), self.control.to(device), self.weights.to(device)
        moved = (theta[:, None, :, :2] * positions[:, :, None]).sum(-1) + theta[:, None, :, 2]
        squared = (positions[:, :, None].sub(control[:, None]).abs().sum(-1)) ** 2
        with torch.autocast(device.type, enabled=False):
            radial = (squared * torch.log(squared + 1e-6)) @ weights.mT
        return moved + radial

    def jacobian(self, positions: Tensor) -> Tensor:
        """dT / dz at positions (B, N, 2): (B, N, 2, 2), row i that of component i."""
        device = positions.device
        theta, control, weights = self.theta.to(device), self.control.to(device), self.weights.to(device)
        offset = positions[:, :, None] - control[:, None]
        distance = offset.abs().sum(-1)
        squared = distance**2
        slope = weights * (torch.log(squared + 1e-6) + squared / (squared + 1e-6)) * 2 * distance
        radial = (slope[..., None] * offset.sign()).sum(2)
        return theta[:, None, :, :2] + radial[:, :, None]  # the same for both components

    def deform(self, picture: Tensor) -> Tensor:
        """picture: (B, C, h, w), sampled where its pixels go; what leaves it is mirrored."""
        b, _, h, w = picture.shape
        grid = coordinate_grid(h, w, picture).reshape(1, -1, 2)
        return F.grid_sample(
            picture, self(grid).view(b, h, w, 2).to(picture.dtype), padding_mode="reflection", align_corners=True
        )


def equivariance(found: Keypoints, transformed: Keypoints, transform: ThinPlateSpline) -> Tensor:
    """FOMM Eq. 9: keypoints of a deformed picture, mapped back, are those of the picture. Mean absolute difference."""
    return (found.position - transform(transformed.position)).abs().mean()


def jacobian_equivariance(found: Keypoints, transformed: Keypoints, transform: ThinPlateSpline) -> Tensor:
    """FOMM Eq. 10 in the form of Eq. 11, which a Jacobian of zero does not satisfy: 1 = J_found^-1 T' J_transformed.

    Mean absolute difference. Both keypoints have Jacobians.
    """
    assert found.jacobian is not None and transformed.jacobian is not None
    with torch.autocast(found.position.device.type, enabled=False):
        mapped = transform.jacobian(transformed.position) @ transformed.jacobian
        return (torch.eye(2, device=mapped.device) - torch.linalg.inv(found.jacobian) @ mapped).abs().mean()


# -- face-vid2vid ----------------------------------------------------------------------------------------------------

LEAST_DISTANCE, MEAN_DEPTH = 0.1, 0.33  # D_t and z_t, section A.2


def keypoint_prior(position: Tensor) -> Tensor:
    """Wang et al., CVPR 2021, Eq. 7, of keypoints (B, K, 3): pairs nearer than D_t (squared distance), mean depth off z_t.

    Summed over all ordered pairs of a picture, as published, but for a keypoint's pairs with itself, which are a constant.
    """
    k = position.shape[1]
    with torch.autocast(position.device.type, enabled=False):
        squared = (position[:, :, None] - position[:, None]).square().sum(-1)
        near = (LEAST_DISTANCE - squared).clamp_min(0) * (1 - torch.eye(k, device=position.device))
        return near.sum((1, 2)).mean() + (position[..., 2].mean(1) - MEAN_DEPTH).abs().mean()


def pose_error(angles: Tensor, teacher: Tensor) -> Tensor:
    """L_H: absolute differences of yaw, pitch and roll, (B, 3) in radians, summed; 0 of pictures whose pose nobody knows
    (NaN)."""
    difference = (angles.float() - torch.nan_to_num(teacher)).abs().sum(-1)
    return (difference * ~teacher.isnan().any(-1)).mean()


def flow_error(deformation: Tensor, flow: Tensor, source: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference of a motion from optical flow, summed over x and y, in units of sampling grids.

    deformation: (B, h, w, 2). flow: (B, H/2, W/2, 2), offsets. source, reference: packed; where the reference moved by the flow
    is not like the source, the flow is worth less.
    """
    with torch.no_grad():
        target = coordinate_grid(flow.shape[1], flow.shape[2], flow) + flow
        size = deformation.shape[1:3]
        trust = F.interpolate(_trust(target, source, reference), size=size, mode="area")[:, 0]
        target = resize_field(target, size)
    difference = (deformation.float() - target).abs().sum(-1)
    return (trust * difference).mean()


def _trust(target: Tensor, source: Tensor, reference: Tensor) -> Tensor:
    """What a flow to `target`, (B, H/2, W/2, 2), is worth: (B, 1, H/2, W/2), 1 where it makes the reference the source."""
    off = (warp(reference[:, :4], target) - source[:, :4]).abs().mean(1, keepdim=True)
    return torch.exp(-FLOW_DOUBT * off)
