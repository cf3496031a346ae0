"""Dense motion of the first-order motion model: from K keypoint motions to one backward motion field.

    per keypoint: heat map difference, reference warped by its motion   \\
    background:   zero motion, the reference itself                      > hourglass -> softmax masks of K + 1 motions
    decoded base layer, where there is one (ours)                       /            -> occlusion map
    reference warped by optical flow to the base layer (ours)          /             -> refinement of the field (ours)

The published network sees the target only through its keypoints. A hybrid decoder has a picture of the target, too, poor
as it is: with `base` the network sees it, and may bend the field where the K motions leave it wrong; with `flow` a field
found on it (`hdac.nets.flow`) is one more candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from hdac.nets.keypoints import Keypoints
from hdac.nets.layers import Hourglass, coordinate_grid, resize_field, warp

VARIANCE = 0.01  # FOMM, vox-256: of the Gaussian that stands for a keypoint
REFINEMENT = 0.25  # chosen: largest refinement of the field, an eighth of the picture
LEAST_DETERMINANT = 1e-3  # chosen: of a Jacobian that is inverted; those of faces are near 1
FLOW_FIRST = 3.0  # chosen: before training the flow has e^3 times the weight of another candidate


TRACKING_STEPS = 6  # chosen; each costs next to nothing


class Motion(NamedTuple):
    """deformation: (B, h, w, 2) sampling grid on the reference. occlusion: (B, 1, h, w), 1 = visible in the reference."""

    deformation: Tensor
    occlusion: Tensor

    def seen_from(self, field: Tensor) -> Motion:
        """Of the target picture resampled at a field, (B, h', w', 2): at its size."""
        places = self.deformation.permute(0, 3, 1, 2)
        return Motion(warp(places, field).permute(0, 2, 3, 1), warp(self.occlusion, field))


@dataclass(frozen=True)
class MotionSettings:
    """Size of a dense motion network; the defaults are FOMM's."""

    width: int = 64
    max_width: int = 1024
    depth: int = 5
    base: bool = False
    """Whether it sees the decoded base layer and refines the field."""
    flow: bool = False
    """Whether optical flow from the base layer is a candidate, beside the keypoints' motions and the background."""

    def __post_init__(self) -> None:
        if self.flow and not self.base:
            raise InputError("optical flow is found on the base layer: flow needs base")


class DenseMotion(nn.Module):
    """Keypoints of reference and target, and small pictures (64x64, of `n_in` channels), to one motion field."""

    def __init__(self, settings: MotionSettings, n_keypoints: int, n_in: int) -> None:
        super().__init__()
        self.settings = settings
        n_seen = (n_keypoints + 1) * (n_in + 1) + (n_in + 1 if settings.base else 0) + (n_in if settings.flow else 0)
        self.hourglass = Hourglass(n_seen, settings.width, settings.max_width, settings.depth)
        self.masks = nn.Conv2d(self.hourglass.n_out, n_keypoints + 1 + settings.flow, 7, padding=3)
        if settings.flow:
            assert self.masks.bias is not None
            self.masks.bias.data[-1] += FLOW_FIRST
        self.occlusion = nn.Conv2d(self.hourglass.n_out, 1, 7, padding=3)
        self.refinement = nn.Conv2d(self.hourglass.n_out, 2, 7, padding=3) if settings.base else None
        if self.refinement is not None:
            for parameter in self.refinement.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        reference: Tensor,
        kp_reference: Keypoints,
        kp_target: Keypoints,
        base: Tensor | None = None,
        there: Tensor | None = None,
        flow: Tensor | None = None,
    ) -> Motion:
        """reference: (B, n_in, h, w). base: likewise, zero where there is none, or None: nowhere. there: (B,), 1 where there
        is a base layer; None: everywhere. flow: (B, h', w', 2), offsets from the base layer to the reference, in the units of
        sampling grids; the field is then of that size. None: there is none."""
        b, c, h, w = reference.shape
        grid = coordinate_grid(h, w, reference)
        motions = sparse_motions(grid, kp_reference, kp_target)
        k = motions.shape[1]
        warped = warp(reference.repeat_interleave(k, dim=0), motions.reshape(b * k, h, w, 2)).view(b, k, c, h, w)
        heat = _gaussians(grid, kp_target.position) - _gaussians(grid, kp_reference.position)
        heat = F.pad(heat, (0, 0, 0, 0, 1, 0)).to(reference.dtype)  # the background has none
        seen = torch.cat((heat[:, :, None], warped), dim=2).view(b, k * (c + 1), h, w)
        if self.settings.base:  # one channel says whether there is a base layer
            known = torch.zeros_like(reference[:, :1]) if base is None else torch.ones_like(reference[:, :1])
            if there is not None:
                known = known * there[:, None, None, None]
            seen = torch.cat((seen, torch.zeros_like(reference) if base is None else base, known), dim=1)
        if self.settings.flow:
            followed = torch.zeros_like(reference)
            if flow is not None:
                small = F.interpolate(flow.permute(0, 3, 1, 2), size=(h, w), mode="area").permute(0, 2, 3, 1)
                followed = warp(reference, grid + small)
            seen = torch.cat((seen, followed if there is None else followed * there[:, None, None, None]), dim=1)
        scores, occlusion, refinement = self._heads(self.hourglass(seen))
        if self.settings.flow and flow is None:
            scores = scores[:, :-1]
        elif self.settings.flow and there is not None:
            absent = (there < 0.5)[:, None, None, None]
            scores = torch.cat((scores[:, :-1], scores[:, -1:].masked_fill(absent, -torch.inf)), dim=1)
        masks = torch.softmax(scores, dim=1)
        deformation = (masks[:, :k, ..., None] * motions).sum(1)  # no einsum: autocast would round it to bfloat16
        if not self.settings.flow or flow is None:
            deformation = deformation + refinement
        else:  # which is as fine as the flow: the coarse refinement serves where the flow is not trusted
            (rows, columns), trust = flow.shape[1:3], masks[:, k, ..., None]
            coarse = resize_field(deformation + (1 - trust) * refinement, (rows, columns))
            trust = resize_field(trust, (rows, columns))
            deformation = coarse + trust * (coordinate_grid(rows, columns, flow) + flow)
        return Motion(deformation, torch.sigmoid(occlusion))

    def _heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the masks (B, n, h, w) and refinement (B, h, w, 2) in float32, occlusion before its sigmoid: one
        convolution, which reads the features once."""
        heads = [head for head in (self.masks, self.occlusion, self.refinement) if head is not None]
        weight = torch.cat([head.weight for head in heads])
        out = F.conv2d(features, weight, torch.cat([_bias(head) for head in heads]), padding=3)
        scores, occlusion, bent = out.split([self.masks.out_channels, 1, out.shape[1] - self.masks.out_channels - 1], dim=1)
        refinement = torch.zeros(len(out), *out.shape[2:], 2, device=out.device)
        if self.refinement is not None:
            refinement = REFINEMENT * torch.tanh(bent.float()).permute(0, 2, 3, 1)
        return scores.float(), occlusion, refinement


def _bias(head: nn.Conv2d) -> Tensor:
    assert head.bias is not None
    return head.bias


def sparse_motions(grid: Tensor, kp_reference: Keypoints, kp_target: Keypoints) -> Tensor:
    """Motions near each keypoint, and the identity for the background first: (B, K + 1, h, w, 2).

    FOMM Eq. 4: T(z) = p_ref + J_ref J_target^-1 (z - p_target). grid: (h, w, 2).
    """
    b, k = kp_target.position.shape[:2]
    offset = grid - kp_target.position[:, :, None, None]
    if kp_target.jacobian is not None and kp_reference.jacobian is not None:
        with torch.autocast(grid.device.type, enabled=False):
            jacobian = kp_reference.jacobian @ _inverse(kp_target.jacobian)
            offset = torch.einsum("bkij,bkhwj->bkhwi", jacobian, offset)
    moved = offset + kp_reference.position[:, :, None, None]
    return torch.cat((grid.expand(b, 1, *grid.shape), moved), dim=1)


def followed(start: Tensor, flow: Tensor) -> Tensor:
    """Where optical flow says that points of a reference, (B, K, 2), have gone to in the target picture.

    flow: (B, h, w, 2) from the target to the reference, offsets in units of sampling grids.
    """
    seen = flow.permute(0, 3, 1, 2)
    at = start
    for _ in range(TRACKING_STEPS):  # where the flow leads back to the start
        off = F.grid_sample(seen, at.detach()[:, None], padding_mode="border", align_corners=True)[:, :, 0]
        at = start - off.transpose(1, 2)
    return at


def _inverse(matrices: Tensor) -> Tensor:
    """Of matrices (.., 2, 2); those without an inverse, which quantised and damaged ones may be, get that of one nearby."""
    a, b, c, d = matrices.flatten(-2).unbind(-1)
    determinant = a * d - b * c
    determinant = torch.where(determinant < 0, -1.0, 1.0) * determinant.abs().clamp_min(LEAST_DETERMINANT)
    return torch.stack((d, -b, -c, a), dim=-1).unflatten(-1, (2, 2)) / determinant[..., None, None]


def _gaussians(grid: Tensor, position: Tensor) -> Tensor:
    """(B, K, h, w): a bell of height 1 around each keypoint."""
    squared = ((grid - position[:, :, None, None]) ** 2).sum(-1)
    return torch.exp(-0.5 * squared / VARIANCE)
