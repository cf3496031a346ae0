"""A head as a bulge around its landmarks, for free view: where a face that is turned has been before.

Networks whose keypoints are tracked (`hdac.nets.vid2vid`) move a picture as flow says and learn next to nothing of depth. A
bulge over an ellipse is depth enough to turn a head by some 20 degrees: the nose moves, the ears hardly do, what is around
the head stays, and nothing tears where something comes into sight that nobody has seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hdac.landmarks import BROWS
from hdac.nets.layers import coordinate_grid

CHIN, JAW_ENDS = 8, (0, 16)
ABOVE = 0.15
"""Chosen: the middle of a head below its brows, in heights from brow to chin; the half axis upwards is such a height."""
WIDTH = 1.1
"""Chosen: of the half axis to the sides, in half widths of the jaw .."""
LEAST_WIDTH = 0.62
""".. but no less than that, in half axes upwards: the jaw of a profile is narrow."""
REACH = 1.3
"""Chosen: where what is around a head does not move any more, in half axes of the bulge."""
SPREAD = 1.15, 1.35
"""Chosen: half axes of the bulge, sideways and upwards, in those of the head: larger, or brows and mouth are bent; .."""
DEPTH = 0.9
""".. and its height, in half axes. Of 20 degrees to either side FSA-Net sees 17 and 15 on training clips, of 12 down and up 14
and 16."""


def turned_head(landmarks: Tensor, rotation: Tensor, translation: Tensor, size: tuple[int, int]) -> Tensor:
    """Where in a picture each sample of the same picture with its head turned comes from: sampling grids (B, h, w, 2).

    landmarks:   (B, 68, 2) of the picture, in [-1, 1].
    rotation:    R_u of (B, 3, 3), see `hdac.nets.vid2vid.rotation`.
    translation: (B, 3) in [-1, 1] of the picture's height: to the right, down, towards the camera (nearer: larger).
    size:        (h, w) of the grids.
    """
    wide = torch.tensor([size[1] / size[0], 1.0], device=landmarks.device)  # units of half heights along both axes
    points = landmarks * wide
    brow, chin = points[:, list(BROWS), 1].mean(1), points[:, CHIN, 1]
    ends = points[:, list(JAW_ENDS), 0]
    up = (chin - brow).clamp_min(0.05)
    side = torch.maximum(WIDTH * (ends[:, 1] - ends[:, 0]).abs() / 2, LEAST_WIDTH * up)
    centre = torch.stack((ends.mean(1), brow + ABOVE * up), dim=-1)[:, None, None]
    axes = torch.stack((SPREAD[0] * side, SPREAD[1] * up), dim=-1)[:, None, None]

    here = (coordinate_grid(*size, landmarks) * wide).expand(len(points), -1, -1, -1)
    nearer = (1 + translation[:, 2]).clamp_min(0.1)[:, None, None, None]
    on_head = (here - centre - translation[:, None, None, :2]) / (axes * nearer)
    distance = torch.linalg.vector_norm(on_head, dim=-1, keepdim=True)
    # around the head what its rim does
    rim = on_head / distance.clamp_min(1)
    surface = torch.cat((rim, DEPTH * (1 - rim.square().sum(-1, keepdim=True)).square()), dim=-1)
    before = torch.einsum("bji,bhwj->bhwi", rotation, surface)[..., :2]  # the transposed: turned back
    source = centre + (on_head + before - rim) * axes
    share = ((REACH - distance) / (REACH - 1)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    return (here + share * (source - here)) / wide
