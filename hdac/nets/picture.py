"""Between 8-bit 4:2:0 planes and what networks see: the one place for each way.

    planes uint8: Y (H, W), U and V (H/2, W/2)  <->  packed float32 (6, H/2, W/2) in [0, 1]  <->  RGB (3, H, W) in [0, 1]

Packed is exact: the four luma samples above a chroma sample become four channels. A network that corrects packed
pictures keeps the base layer bit by bit where its correction is zero; by way of RGB the 4:2:0 grid would be resampled.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.clip import MATRICES, Clip, Plane, levels

PACKED_CHANNELS = 6


def pack(planes: Tensor, height: int, width: int) -> Tensor:
    """uint8 (B, H*W*3/2) of whole 4:2:0 frames, as `Clip.yuv_bytes` orders them, to packed (B, 6, H/2, W/2).

    height, width: even.
    """
    b, area = len(planes), height * width
    y = planes[:, :area].view(b, 1, height, width)
    uv = planes[:, area:].view(b, 2, height // 2, width // 2)
    return torch.cat((F.pixel_unshuffle(y, 2), uv), dim=1).float() / 255.0


def pack_clip(clip: Clip, frames: slice, multiple: int) -> Tensor:
    """Some frames of a clip as (T, 6, H/2, W/2), H and W padded to a multiple by repeating the last row and column."""
    part = clip[frames]
    height, width = (-(-n // multiple) * multiple for n in (part.height, part.width))
    y = _padded(part.y, height, width)
    u, v = (_padded(plane, height // 2, width // 2) for plane in (part.u, part.v))
    t = part.n_frames
    planes = np.concatenate((y.reshape(t, -1), u.reshape(t, -1), v.reshape(t, -1)), axis=1)
    return pack(torch.from_numpy(planes), height, width)


def _padded(plane: Plane, height: int, width: int) -> Plane:
    return np.pad(plane, ((0, 0), (0, height - plane.shape[1]), (0, width - plane.shape[2])), mode="edge")


def unpack(packed: Tensor, height: int, width: int) -> tuple[Plane, Plane, Plane]:
    """The reverse: Y, U, V as uint8 (T, ..), rounded and clamped, cropped to the size."""
    values = (packed.detach().float() * 255.0).round().clamp(0, 255).to(torch.uint8)
    y = F.pixel_shuffle(values[:, :4], 2)[:, 0, :height, :width]
    chroma = values[:, 4:, : (height + 1) // 2, : (width + 1) // 2]
    return y.contiguous().numpy(), chroma[:, 0].contiguous().numpy(), chroma[:, 1].contiguous().numpy()


_KR, _KB = MATRICES["bt601"]
_Y_OFFSET, _Y_SCALE, _C_SCALE = levels("limited")


def to_rgb(packed: Tensor) -> Tensor:
    """Packed to R'G'B' (B, 3, H, W), not clamped. Differentiable.

    Read as limited range BT.601, whatever the clip says: networks only need the same picture on both sides. Chroma is
    interpolated bilinearly, as if it lay in the middle of its four luma samples.
    """
    y = (F.pixel_shuffle(packed[:, :4], 2) * 255.0 - _Y_OFFSET) / _Y_SCALE
    chroma = F.interpolate(packed[:, 4:], scale_factor=2, mode="bilinear", align_corners=False)
    cb, cr = ((chroma * 255.0 - 128.0) / _C_SCALE).chunk(2, dim=1)
    r, b = y + 2 * (1 - _KR) * cr, y + 2 * (1 - _KB) * cb
    g = (y - _KR * r - _KB * b) / (1 - _KR - _KB)
    return torch.cat((r, g, b), dim=1)


def from_rgb(rgb: Tensor, difference: bool = False) -> Tensor:
    """R'G'B' (B, 3, H, W) to packed. difference: of two pictures, so that zero stays zero."""
    r, g, b = rgb.chunk(3, dim=1)
    luma = _KR * r + (1 - _KR - _KB) * g + _KB * b
    chroma = F.avg_pool2d(torch.cat(((b - luma) / (2 * (1 - _KB)), (r - luma) / (2 * (1 - _KR))), dim=1), 2)
    y, c = luma * _Y_SCALE, chroma * _C_SCALE
    if not difference:
        y, c = y + _Y_OFFSET, c + 128.0
    return torch.cat((F.pixel_unshuffle(y, 2), c), dim=1) / 255.0
