"""Building blocks of the first-order motion model (Siarohin et al., "First Order Motion Model for Image Animation",
NeurIPS 2019, appendix A), and the conditioning that we add.

All convolutions keep the size; "down" halves and "up" doubles it. Tensors are float32 (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """The module with its weights in the memory order in which convolutions on a CPU are fastest."""
    for parameter in module.parameters():
        if parameter.dim() in (4, 5):
            order = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=order)
    return module


def conv(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (or divides it by its stride)."""
    return nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2)


def _norm(channels: int, normalise: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if normalise else nn.Identity()


class SameBlock(nn.Sequential):
    """Convolution, norm, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, normalise: bool = True) -> None:
        super().__init__(conv(n_in, n_out, kernel), _norm(n_out, normalise), nn.ReLU(inplace=True))


class DownBlock(nn.Sequential):
    """Half the size: FOMM's convolution, norm, ReLU and 2x2 mean; `strided`: one strided convolution, a quarter of the
    work."""

    def __init__(self, n_in: int, n_out: int, normalise: bool = True, strided: bool = False) -> None:
        last: list[nn.Module] = [] if strided else [nn.AvgPool2d(2)]
        super().__init__(conv(n_in, n_out, stride=2 if strided else 1), _norm(n_out, normalise), nn.ReLU(inplace=True), *last)


class UpBlock(nn.Module):
    """Twice the size: nearest neighbour, convolution, norm, ReLU."""

    def __init__(self, n_in: int, n_out: int, normalise: bool = True) -> None:
        super().__init__()
        self.block = SameBlock(n_in, n_out, normalise=normalise)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(F.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class ResBlock(nn.Module):
    """norm, ReLU, convolution, twice, plus the input (FOMM's pre-activation block).

    condition: (B, 2C) or None: scale - 1 and shift of the channels before the second convolution (FiLM, Perez et al.,
               AAAI 2018); how the networks learn of the quantisers without a map of constants at every pixel.
    """

    def __init__(self, channels: int, n_condition: int = 0, normalise: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels, normalise), _norm(channels, normalise)
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)
        self.film = nn.Linear(n_condition, 2 * channels) if n_condition else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.relu(self.norm1(x))))
        if self.film is not None and condition is not None:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = x + self.conv2(F.relu(h, inplace=True))
        return out


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, depthwise 3x3, 1x1, norms between them; plus the input where nothing has changed
    its shape (Sandler et al., "MobileNetV2", CVPR 2018; FBNet's blocks are the same)."""

    def __init__(self, n_in: int, n_out: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        wide = n_in * expansion
        self.main = nn.Sequential(
            conv(n_in, wide, 1),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            conv(wide, n_out, 1),
            nn.BatchNorm2d(n_out),
        )
        self.passes = n_in == n_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.main(x)
        return x + out if self.passes else out


class Beside(nn.Conv2d):
    """Adds what a 1x1 convolution makes of two other features of that size, side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:  # type: ignore[override]
        return x + super().forward(torch.cat((left, right), dim=1))


class UNet(nn.Module):
    """Down blocks, as many up blocks, and the skip of its size beside what each of these gives."""

    down: nn.ModuleList
    up: nn.ModuleList

    def forward(self, x: Tensor) -> Tensor:
        skips = [x]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = torch.cat((block(x), skips.pop()), dim=1)
        return x


class Hourglass(UNet):
    """FOMM's U-Net: `depth` down blocks, as many up blocks, skips by concatenation.

        (B, n_in, h, w) -> down x depth -> up x depth, each with the skip of its size -> (B, n_out, h, w)

    Widths are width * 2**level, at most `max_width`; n_out = width + n_in.
    """

    def __init__(self, n_in: int, width: int, max_width: int, depth: int, normalise: bool = True) -> None:
        super().__init__()
        widths = [n_in, *(min(max_width, width << level + 1) for level in range(depth))]
        self.down = nn.ModuleList(DownBlock(a, b, normalise) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList()
        for level in reversed(range(depth)):
            n_skipped = 1 if level == depth - 1 else 2  # all but the innermost get a skip beside their input
            self.up.append(UpBlock(n_skipped * widths[level + 1], min(max_width, width << level), normalise))
        self.n_out = width + n_in


class AntiAlias(nn.Module):
    """A Gaussian, then every `factor`-th sample; FOMM's way to 64x64: sigma (factor - 1) / 2, cut at 4 sigma."""

    kernel: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        sigma = (factor - 1) / 2
        radius = round(4 * sigma)
        x = torch.arange(-radius, radius + 1, dtype=torch.float32)
        line = torch.exp(-(x**2) / (2 * sigma**2)) if sigma else torch.ones(1)
        line = line / line.sum()
        self.register_buffer("kernel", torch.outer(line, line).expand(channels, 1, -1, -1).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.factor == 1:
            return x
        out = F.conv2d(x, self.kernel, padding=self.kernel.shape[-1] // 2, groups=x.shape[1])
        return out[:, :, :: self.factor, :: self.factor]


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """(height, width, 2) of (x, y); -1 and 1 are the centres of the corner pixels."""
    x = torch.linspace(-1, 1, width, device=like.device, dtype=torch.float32)
    y = torch.linspace(-1, 1, height, device=like.device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def resize_field(field: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w, n) to (B, *size, n), bilinearly, corner pixels on corner pixels."""
    if field.shape[1:3] == tuple(size):
        return field
    resized = F.interpolate(field.permute(0, 3, 1, 2), size=tuple(size), mode="bilinear", align_corners=True)
    return resized.permute(0, 2, 3, 1)


def warp_packed(packed: Tensor, deformation: Tensor) -> Tensor:
    """`warp` of a packed 4:2:0 picture, luma at its full size: its four channels one by one would be interpolated between
    samples that are not neighbours."""
    luma = warp(F.pixel_shuffle(packed[:, :4], 2), deformation)
    return torch.cat((F.pixel_unshuffle(luma, 2), warp(packed[:, 4:], deformation)), dim=1)


def warp(feature: Tensor, deformation: Tensor) -> Tensor:
    """Backward warping by a dense motion field.

    feature:     (B, C, h, w).
    deformation: (B, h', w', 2) sampling grid, (x, y); -1 and 1 are the centres of the corner pixels. Scaled to (h, w)
                 bilinearly where it has another size. Outside the picture its edge is held.
    """
    deformation = resize_field(deformation, feature.shape[-2:])
    # in float32 whatever autocast says: a bfloat16 grid is a pixel wide
    warped = F.grid_sample(
        feature.float(), deformation.float(), mode="bilinear", padding_mode="border", align_corners=True
    )
    # sampling leaves channels apart; the convolutions that come next want them side by side
    return warped.to(feature.dtype).contiguous(memory_format=torch.channels_last)
